"""``anabranch index``: bring an index up to date with documents."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.cli._help import Command, natural_int, positive_int
from anabranch.cli._terminal import counted, say
from anabranch.errors import UsageError

if TYPE_CHECKING:
    from anabranch.rag.pipeline import Report

_EXAMPLE = """\
examples:
  anabranch index docs/ README.md --into my-index
  anabranch index https://www.python.org/ python:json --into my-index
  find . -name '*.md' -print0 | anabranch index - --null --into my-index
  anabranch index notes/ --into my-index --watch

Killed at any moment and started again, it goes on where it was: nothing that was
stored is embedded again and nothing is lost. A broken source does not stop the
others; it is reported at the end, and the exit status is 1.

A model behind a service is openai:MODEL, openai:MODEL@URL for any other service
that speaks OpenAI's embeddings API, bedrock:MODEL or bedrock:MODEL@REGION. A key is
taken from the variable ANABRANCH_EMBEDDING_KEY; OPENAI_API_KEY is for OpenAI only."""

STDIN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a file, a folder (everything readable in it), a URL, python:MODULE for a "
        "module of Python's library, or - for a list on standard input, one a line",
    )
    parser.add_argument(
        "--into", required=True, metavar="DIR", type=Path, help="the folder of the index"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="minilm (for quality), static (a hundred times as fast), or one behind a "
        "service, see below; by default that of the index, or minilm",
    )
    parser.add_argument(
        "--chunk-tokens",
        type=positive_int,
        default=256,
        metavar="N",
        help="the longest passage, in tokens of the model (default: 256)",
    )
    parser.add_argument(
        "--overlap-tokens",
        type=natural_int,
        default=0,
        metavar="N",
        help="what a passage repeats of the one before it (default: 0)",
    )
    parser.add_argument(
        "--prune", action="store_true", help="remove from the index what is gone on disk"
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="then go on: index what changes in the files and folders and remove what is "
        "gone, until interrupted; needs the extra watch",
    )
    parser.add_argument(
        "--null",
        action="store_true",
        help="the list on standard input is separated by NUL characters, not lines",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help='write the broken sources to FILE: {"source": ..., "reason": ...} a line',
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but what went wrong"
    )


def run(args: argparse.Namespace) -> int:
    if args.watch and args.report:
        raise UsageError("--report is for a run that ends: leave it or --watch out")
    names = _names(args.sources, null=args.null)
    if not names:
        say("anabranch: the list on standard input is empty: nothing to index")
        return 1

    into = os.path.abspath(args.into)
    if not args.quiet and any(os.path.abspath(name) == into for name in names):
        say(
            f"anabranch: the index is among the documents in {args.into}: one in a folder "
            "of its own can be removed whole"
        )
    if args.watch:
        return _watch(names, args)
    return _index(names, args)


def _index(names: Sequence[str], args: argparse.Namespace) -> int:
    from anabranch.cli import _indexing
    from anabranch.jobs import asyncio_run
    from anabranch.rag import index
    from anabranch.rag.sources import hosts_of

    with ExitStack() as files:
        # Opened before the work, which would be a pity to do in vain.
        file = files.enter_context(args.report.open("w")) if args.report else None
        with _indexing.told_when_interrupted(args.into):
            report = asyncio_run(
                index(
                    names,
                    into=args.into,
                    model=args.model,
                    chunk_tokens=args.chunk_tokens,
                    overlap_tokens=args.overlap_tokens,
                    prune=args.prune,
                    # Who types an address at a terminal means it, wherever it is.
                    allow_private=hosts_of(args.sources),
                    observer=None if args.quiet else _indexing.progress(),
                )
            )
        if file is not None:
            _indexing.write_broken(report.broken, file)
    if not report.sources and not report.removed:
        say(f"anabranch: {_nothing_found(names, report)}")
        return 1
    if not args.quiet:
        print(_indexing.summary(report, args.into))
        if report.sources > len(report.broken):
            print(f'Next: anabranch ask "QUESTION" --from {shlex.quote(str(args.into))}')
        sys.stdout.flush()
    _indexing.say_broken(report.broken, everything=args.debug)
    return 1 if report.broken else 0


def _watch(names: Sequence[str], args: argparse.Namespace) -> int:
    from anabranch.cli import _indexing
    from anabranch.jobs import asyncio_run
    from anabranch.rag import keep_index

    async def keep() -> None:
        reports = keep_index(
            names,
            into=args.into,
            model=args.model,
            chunk_tokens=args.chunk_tokens,
            overlap_tokens=args.overlap_tokens,
        )
        is_first = True
        async with aclosing(reports):
            async for report in reports:
                if not args.quiet:
                    print(_indexing.line(report), flush=True)
                    if is_first:
                        say("watching: Ctrl-C ends it")
                _indexing.say_broken(report.broken, everything=args.debug)
                is_first = False

    with _indexing.told_when_interrupted(args.into):
        asyncio_run(keep())
    return 0


def _names(sources: Sequence[str], *, null: bool) -> list[str]:
    if null and STDIN not in sources:
        raise UsageError("--null is for a list on standard input: give - as a source too")
    if sources.count(STDIN) > 1:
        raise UsageError("- stands for standard input and can be given once only")
    names: list[str] = []
    for source in sources:
        names.extend(_listed(null=null) if source == STDIN else [source])
    return names


def _listed(*, null: bool) -> Iterator[str]:
    if sys.stdin.isatty():
        say("reading the list of sources from here, one a line; Ctrl-D ends it")
    data = sys.stdin.buffer.read()
    for line in data.split(b"\0" if null else b"\n"):
        name = os.fsdecode(line if null else line.strip())
        if name and (null or not name.startswith("#")):
            yield name


def _nothing_found(names: Sequence[str], report: Report) -> str:
    from anabranch.rag.readers.media import SUFFIXES

    where = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    kinds = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)
    sentence = f"no documents in {where}: it reads {kinds}"
    if report.skipped:
        sentence += f" ({counted(report.skipped, 'file')} of other kinds skipped)"
    return sentence


COMMAND = Command(
    name="index",
    summary="read documents, many at once, and bring an index of them up to date",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
