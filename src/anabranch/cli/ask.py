"""``anabranch ask``: answer a question from an index."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.cli._help import Command, positive_int, positive_seconds
from anabranch.cli._terminal import Weight, plain, say
from anabranch.errors import ChatError, UsageError

if TYPE_CHECKING:
    from anabranch.rag.filters import Filter, Scalar
    from anabranch.rag.retrievers import Fused

# In an expression, "=" stands alone in quotes only.
_KEY_AND_VALUE = re.compile(r"""(?P<key>[^=!<>'"]+)=(?P<value>(?!=).*)""", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>['"])(?P<text>.*)(?P=quote)""", re.DOTALL)

_EXAMPLE = """\
examples:
  anabranch ask "How do I install it?" --from my-index
  anabranch ask "How do I install it?" --from my-index --json | jq -r '.hits[].source'
  anabranch ask "How do I install it?" --from my-index \\
      --llm http://localhost:11434/v1 --model llama3.2

A FILTER is KEY=VALUE, with spaces around "=" and in quotes if you like, or an
expression over the metadata: "line < 100", "title == 'main' and line < 9",
"kind in ('function', 'class') and not title == 'main'", "'rivers' in tags".
Of several, all must hold.

With --llm the answer is written by a language model behind any OpenAI-compatible
address, from the passages and with its sources. The question and the passages are
sent there. A key is taken from the variable ANABRANCH_LLM_KEY or OPENAI_API_KEY.

With --json, standard output is one object:
  question     as asked
  hits         best first; each has rank (from 1), score, title, source, document,
               start, end (characters in the document), text, metadata, and found_by:
               the rank that each retriever gave it, by the retriever's name
  retrievers   by name: {"seconds": ..., "error": null or a sentence}
  answer       with --llm: {"model": ..., "text": ..., "cited": [ranks of the hits]}

Finding no passage at all is exit status 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", metavar="QUESTION", help="in your own words")
    parser.add_argument(
        "--from",
        dest="folder",
        required=True,
        metavar="DIR",
        type=Path,
        help="the folder of the index, as given to 'anabranch index --into'",
    )
    parser.add_argument(
        "-k",
        type=positive_int,
        default=5,
        metavar="N",
        help="how many passages (default: 5)",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FILTER",
        help="only passages whose metadata has this value, such as kind=function, of one "
        "key given several times any; or an expression, see below",
    )
    parser.add_argument(
        "--embedder",
        metavar="NAME",
        help="the model the index was made with, if that is behind a service: what "
        "'anabranch index --model' was given",
    )
    parser.add_argument(
        "--full", action="store_true", help="show passages whole, not their first lines"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument(
        "--llm", metavar="URL", help="let a language model at this address write an answer"
    )
    parser.add_argument("--model", metavar="NAME", help="the language model's name there")
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=60.0,
        metavar="S",
        help="seconds to wait for a sign of life from the language model (default: 60)",
    )


def run(args: argparse.Namespace) -> int:
    if not args.question.strip():
        raise UsageError("the question is empty")
    if bool(args.llm) != bool(args.model):
        raise UsageError("--llm URL and --model NAME go together: give both or neither")

    from anabranch.jobs import asyncio_run

    return asyncio_run(_ask(args))


async def _ask(args: argparse.Namespace) -> int:
    from anabranch.cli import _passages
    from anabranch.rag import open_index

    where = _filter(args.where)
    async with open_index(args.folder, model=args.embedder) as retriever:
        fused = await retriever.fuse(args.question, k=args.k, where=where)
    if args.json:
        found = _as_json(args.question, fused)
        if args.llm and fused.hits:
            found["answer"] = await _answer(args, fused)
        print(json.dumps(found))
    elif fused.hits and args.llm:
        await _answer(args, fused)
    elif fused.hits:
        print(_passages.render(fused, full=args.full))
    if not fused.hits:
        hint = "no passage has what --where asks for" if args.where else "it is empty"
        pairs = filter(None, map(_KEY_AND_VALUE.fullmatch, args.where))
        if any(" " in pair["value"] for pair in pairs):
            hint += "; in an expression, 'equals' is written =="
        say(f"anabranch: nothing found in {args.folder}: {hint}")
        return 1
    return 0


async def _answer(args: argparse.Namespace, fused: Fused) -> Mapping[str, object]:
    """A language model's answer; printed as it comes, but for ``--json``."""
    from anabranch.cli import _passages
    from anabranch.rag import answer
    from anabranch.rag.chat import ChatModel

    messages = answer.messages(args.question, fused.hits)
    pieces: list[str] = []
    try:
        async with (
            ChatModel(args.llm, args.model, key=_key(), timeout=args.timeout) as model,
            aclosing(model.stream(messages)) as stream,
        ):
            async for piece in stream:
                pieces.append(piece)
                if not args.json:
                    print(plain(piece), end="", flush=True)
    except ChatError as error:
        if pieces and not args.json:
            print()
        if error.status in (401, 403):
            advice = "the key comes from ANABRANCH_LLM_KEY or OPENAI_API_KEY"
            raise ChatError(f"{error}; {advice}", status=error.status) from error
        raise
    text = "".join(pieces)
    cited = answer.cited(text, len(fused.hits))
    if not args.json:
        weight = Weight(sys.stdout)
        print("\n")
        if not text.strip():
            print("The model wrote nothing. What it was given:")
        elif not cited:
            print("The answer cites nothing. What the model was given:")
        for number, hit in enumerate(fused.hits, start=1):
            if number in cited or not cited:
                place = weight.dim(_passages.where(hit))
                print(f"[{number}] {weight.bold(_passages.title(hit))}  {place}")
    return {"model": args.model, "text": text, "cited": cited}


def _as_json(question: str, fused: Fused) -> dict[str, object]:
    from anabranch.cli import _passages

    hits = [
        {
            "rank": rank,
            "score": hit.score,
            "title": _passages.title(hit),
            "source": hit.source,
            "document": hit.document_id,
            "start": hit.start,
            "end": hit.end,
            "text": hit.text,
            "metadata": dict(hit.metadata),
            "found_by": dict(hit.ranks),
        }
        for rank, hit in enumerate(fused.hits, start=1)
    ]
    errors = {name: str(error) or repr(error) for name, error in fused.failures.items()}
    retrievers = {
        name: {"seconds": round(elapsed_s, 6), "error": errors.get(name)}
        for name, elapsed_s in fused.elapsed_s.items()
    }
    return {"question": question, "hits": hits, "retrievers": retrievers}


def _filter(conditions: Sequence[str]) -> Filter | None:
    from anabranch.rag import All, as_filter

    wanted: dict[str, list[Scalar]] = {}
    expressions: list[Filter] = []
    for condition in conditions:
        if pair := _KEY_AND_VALUE.fullmatch(condition):
            key = pair["key"].strip() or pair["key"]
            wanted.setdefault(key, []).extend(_meanings(pair["value"]))
        else:
            expressions.append(as_filter(condition))
    if not conditions:
        return None
    return as_filter(All((as_filter(wanted), *expressions)))


def _meanings(value: str) -> list[Scalar]:
    """The value as text, and as the number or truth that it may be in the metadata.

    In quotes it is text alone, whether or not the quotes are part of it.
    """
    meanings: list[Scalar] = [value]
    value = value.strip()
    if quoted := _QUOTED.fullmatch(value):
        return [*meanings, quoted["text"]]
    if value not in meanings:
        meanings.append(value)
    if value in ("true", "false"):
        meanings.append(value == "true")
    for kind in (int, float):
        try:
            meanings.append(kind(value))
            break
        except ValueError:
            continue
    return meanings


def _key() -> str | None:
    key = os.environ.get("ANABRANCH_LLM_KEY") or os.environ.get("OPENAI_API_KEY") or ""
    return key.strip() or None


COMMAND = Command(
    name="ask",
    summary="find the passages that answer a question, by meaning and by words at once",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
