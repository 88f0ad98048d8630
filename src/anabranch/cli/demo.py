"""``anabranch demo``: the main job, on documents that every machine has."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.cli._help import Command
from anabranch.cli._terminal import Weight, plain, say, shown_path

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLE = """\
examples:
  anabranch demo
  anabranch demo --all --model static
  anabranch demo "How do I parse JSON that is not valid?"

It needs no network and no key. Run it a second time: nothing is embedded again."""

# Each has a good answer in the well-known modules, and either model finds it.
QUESTIONS = (
    "How do I cancel a task after a timeout?",
    "How do I find all files matching a pattern in a directory tree?",
    "How do I rotate log files when they reach a certain size?",
)
SHOWN_HITS = 3
# Half of what `index` takes: docstrings are short, and a class's long one is about many
# things. The whole library is some 10,800 passages of this length, and 9,300 of 256.
CHUNK_TOKENS = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "questions",
        nargs="*",
        metavar="QUESTION",
        help="ask these instead of the three that come with it",
    )
    parser.add_argument(
        "--all", action="store_true", help="the whole library, not only well-known modules"
    )
    parser.add_argument(
        "--model",
        default="minilm",
        metavar="NAME",
        help="minilm (the default, for quality) or static (a hundred times as fast)",
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="DIR",
        help="the folder of the index (default: a cache)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="begin anew, forgetting the index of before"
    )


def run(args: argparse.Namespace) -> int:
    from anabranch.cli import _indexing
    from anabranch.jobs import asyncio_run
    from anabranch.rag import index

    folder = args.into or _cache(args.model, everything=args.all)
    if args.fresh:
        _forget(folder)
    version = ".".join(map(str, sys.version_info[:3]))
    what = "all of its library" if args.all else "well-known modules of its library"
    say(f"The documentation of Python {version}: {what}")
    say(f"in passages of at most {CHUNK_TOKENS} tokens, with the model {args.model}")
    with _indexing.told_when_interrupted(folder):
        report = asyncio_run(
            index(
                _sources(everything=args.all),
                into=folder,
                model=args.model,
                chunk_tokens=CHUNK_TOKENS,
                observer=_indexing.progress(),
            )
        )
        print(_indexing.summary(report, folder), flush=True)
        _indexing.say_broken(report.broken, everything=args.debug)
        asyncio_run(_ask_all(args.questions or QUESTIONS, folder))
    print(f'\nNext: anabranch ask "QUESTION" --from {shlex.quote(str(folder))}')
    return 1 if report.broken else 0


def _sources(*, everything: bool) -> list[str]:
    from anabranch.rag import StandardLibrary

    return (
        ["python:"] if everything else [f"python:{name}" for name in StandardLibrary.DEMO]
    )


async def _ask_all(questions: Sequence[str], folder: Path) -> None:
    from anabranch.cli import _passages
    from anabranch.rag import open_index

    weight = Weight(sys.stdout)
    async with open_index(folder) as retriever:
        for question in questions:
            fused = await retriever.fuse(question, k=SHOWN_HITS)
            print(f"\n{weight.bold(f'? {plain(question)}')}\n")
            print(_passages.render(fused), flush=True)


def _cache(model: str, *, everything: bool) -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    extent = "all" if everything else "some"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return caches / "anabranch" / f"demo-{model}-{extent}-py{version}"


def _forget(folder: Path) -> None:
    """Remove an index, and nothing else, from a folder."""
    if not folder.is_dir():
        return
    from anabranch.rag.stores.lock import hold_lock

    unlock = hold_lock(folder)
    try:
        for file in folder.glob("index.sqlite*"):
            file.unlink()
    finally:
        unlock()
    say(f"forgot the index in {shown_path(str(folder))}")


COMMAND = Command(
    name="demo",
    summary="index the documentation of this Python's library and ask it three questions",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
