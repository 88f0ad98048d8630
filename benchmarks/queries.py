"""Fused questions, vectors and full text, one and sixteen at a time, beside LlamaIndex.

    benchmarks/run queries                 both sides, as a table
    benchmarks/run queries --out           its JSON to docs/benchmarks
    benchmarks/run queries --pages 200     a quick look

Both sides hold the same passages of real pages (at most 256 tokens) with the same vectors
of the static model, and are asked the same questions: 4, 8 or 16 words from a passage.
Each row is measured in a process of its own; loading is not timed.

LlamaIndex is asked through ``QueryFusionRetriever`` over its ``VectorIndexRetriever``
(``SimpleVectorStore``) and, since its own BM25 is another package, our full text: what it
takes beyond that is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from anabranch.rag import FullTextRetriever, SqliteStore, index, local_embedder, open_index
from benchmarks import corpus, show

SIDES: Final = ("llamaindex", "anabranch")
AT_ONCE: Final = (1, 16)
K: Final = 10
HEARTBEAT_S: Final = 0.001

Ask: TypeAlias = Callable[[str], Awaitable[object]]
Figures: TypeAlias = Mapping[str, float]


async def ours(folder: Path, stack: AsyncExitStack) -> Ask:
    """What :func:`open_index` gives."""
    retriever = await stack.enter_async_context(open_index(folder))
    return lambda question: retriever.retrieve(question, k=K)


async def theirs(folder: Path, stack: AsyncExitStack) -> Ask:
    """The same passages and vectors in LlamaIndex's own store, fused by its retriever."""
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.core.llms import MockLLM
    from llama_index.core.retrievers import QueryFusionRetriever
    from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    model = await asyncio.to_thread(local_embedder, "static")
    store = await stack.enter_async_context(await SqliteStore.open(folder))
    text = FullTextRetriever(store)

    class Static(BaseEmbedding):
        """Our static model."""

        def _get_text_embedding(self, text: str) -> list[float]:
            raise NotImplementedError  # it is asked asynchronously only

        def _get_query_embedding(self, query: str) -> list[float]:
            raise NotImplementedError  # it is asked asynchronously only

        async def _aget_query_embedding(self, query: str) -> list[float]:
            numbers: list[float] = (await model.embed_query(query)).tolist()
            return numbers

    class FullText(BaseRetriever):
        """Our full text."""

        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            raise NotImplementedError  # it is asked asynchronously only

        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            hits = await text.retrieve(query_bundle.query_str, k=50)
            return [
                NodeWithScore(node=TextNode(id_=str(h.key), text=h.text), score=h.score)
                for h in hits
            ]

    nodes = [
        TextNode(id_=str(p.key), text=p.chunk.text, embedding=p.vector.tolist())
        async for p in store.passages()
    ]
    vectors = VectorStoreIndex(nodes, embed_model=Static()).as_retriever(
        similarity_top_k=50
    )
    # Any: it is typed for the synchronous form.
    fusion: Any = QueryFusionRetriever(
        [vectors, FullText()],
        llm=MockLLM(),
        mode=FUSION_MODES.RELATIVE_SCORE,
        num_queries=1,
        similarity_top_k=K,
    )
    ask: Ask = fusion.aretrieve
    return ask


async def measured(side: str, at_once: int, folder: Path, questions: int) -> Figures:
    """One row."""
    asked = iter(await sampled(folder, questions))
    latencies: list[float] = []
    stall = 0.0

    async def beat() -> None:
        nonlocal stall
        while True:
            before = time.monotonic()
            try:
                await asyncio.sleep(HEARTBEAT_S)
            finally:
                stall = max(stall, time.monotonic() - before - HEARTBEAT_S)

    async with AsyncExitStack() as stack:
        ask = await {"anabranch": ours, "llamaindex": theirs}[side](folder, stack)
        await ask("load what is loaded once")

        async def work() -> None:
            for question in asked:
                before = time.monotonic()
                await ask(question)
                latencies.append(time.monotonic() - before)

        heart = asyncio.create_task(beat())
        await asyncio.sleep(0)
        cpu, wall = time.process_time(), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        heart.cancel()
        await asyncio.wait([heart])
    latencies.sort()
    return {
        "questions a s": questions / wall,
        "p50 ms": 1e3 * latencies[len(latencies) // 2],
        "p99 ms": 1e3 * latencies[int(0.99 * len(latencies))],
        "worst ms": 1e3 * latencies[-1],
        "CPU ms": 1e3 * cpu / questions,
        "stall ms": 1e3 * stall,
    }


async def sampled(folder: Path, count: int) -> Sequence[str]:
    """Words that stand together in some passage, the same for every row."""
    async with await SqliteStore.open(folder) as store:
        texts = [passage.chunk.text.split() async for passage in store.passages()]
    chance = random.Random(5)
    questions: list[str] = []
    for _ in range(count):
        words, length = chance.choice(texts), chance.choice([4, 8, 16])
        start = chance.randrange(max(1, len(words) - length))
        questions.append(" ".join(words[start : start + length]))
    return questions


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; 0 when every row was measured."""
    options = _options(arguments)
    if options.row:
        side, at_once, folder, questions = options.row
        row = measured(side, int(at_once), Path(folder), int(questions))
        print(json.dumps(asyncio.run(row)))
        return 0
    try:
        pages = corpus.sample(options.pages, options.corpus.expanduser().resolve())
    except corpus.CorpusError as error:
        print(f"queries: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        made = asyncio.run(index(pages, into=scratch, model="static", chunk_tokens=256))
        found = {
            f"{side}, {at_once} at once": _row(side, at_once, scratch, options.questions)
            for side in options.only or SIDES
            for at_once in AT_ONCE
        }
    heads = list(next(iter(found.values())))
    rows = [("", *heads)]
    rows += [(label, *(show.number(row[h]) for h in heads)) for label, row in found.items()]
    print(f"\n{made.chunks:,} passages\n{show.aligned(rows)}\n")
    if options.out:
        path = options.out / "rag-queries.json"
        path.write_text(
            json.dumps(
                {
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "passages": made.chunks,
                    "questions": options.questions,
                    "rows": found,
                },
                indent=2,
            )
            + "\n"
        )
        print(f"wrote {path.name}")
    return 0


def _row(side: str, at_once: int, folder: str, questions: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.queries", "--row"]
    done = subprocess.run(
        [*command, side, str(at_once), folder, str(questions)],
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run queries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", choices=SIDES, help="measure one side alone"
    )
    parser.add_argument("--pages", type=int, default=2_000, metavar="N")
    parser.add_argument("--questions", type=int, default=500, metavar="N")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=corpus.DEFAULT_FOLDER,
        metavar="DIR",
        help="where the pages are kept (default: %(default)s)",
    )
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    show.add_out(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
