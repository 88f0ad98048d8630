"""The stores of passages: writing, concurrent search with and without a filter, recall.

    benchmarks/run stores                     every store, as a table
    benchmarks/run stores --out               the JSON to docs/benchmarks
    benchmarks/run stores --only sqlite       one alone
    benchmarks/run stores --chunks 2000       a quick look

Each store is given the same passages of real pages with vectors of the static model, a
page a source, and asked the same questions, sixteen at a time. Each is measured in a
process of its own. PostgreSQL and Chroma are servers of this machine, from PyPI; Qdrant is
its client's local mode, since no server of it can be had this way: that says nothing of a
Qdrant server. Solr is measured where ANABRANCH_SOLR_URL names a collection that may be
emptied; the double that tests use is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import corpus, show
from benchmarks.sandbox_cost import taken

SOLR: Final = "ANABRANCH_SOLR_URL"
STORES: Final = ("sqlite", "postgres", "qdrant local", "chroma", "solr")
AT_ONCE: Final = 16
K: Final = 10
# Of every page's passages, one in ten.
FILTER: Final = "part == 3"
PARTS: Final = 10
WRITTEN_AT_ONCE: Final = 512
CASE_TIMEOUT_S: Final = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What every store is given and asked.

    Attributes:
        sources: Passages with their vectors, source by source.
        questions: Words.
        queries: Their vectors: shape ``(q, d)``.
    """

    sources: Sequence[tuple[str, Sequence[Any], Any]]
    questions: Sequence[str]
    queries: Any


# ------------------------------------------------------------------- what is stored


def make_data(chunks: int, questions: int, folder: Path) -> Data:
    """Passages of real pages, and beginnings of other passages as questions."""
    from anabranch.rag import Content, StaticEmbedder, TokenSplitter, documents

    embedder = StaticEmbedder()
    splitter = TokenSplitter(embedder.tokenizer, max_tokens=256)
    sources: list[tuple[str, Sequence[Any], Any]] = []
    spare: list[Any] = []
    count = 0
    # A page has six passages and a half.
    for page in corpus.sample(min(chunks // 4 + 200, 12_000), folder):
        data = page.read_bytes()
        uri = str(page.relative_to(folder))
        content = Content(uri=uri, media_type="text/html", digest=uri, data=data)
        found = [one for doc in documents(content) for one in splitter.split(doc)]
        if count >= chunks:
            spare += found
            if len(spare) >= 4 * questions:
                break
            continue
        found = found[: chunks - count]
        count += len(found)
        vectors = asyncio.run(embedder.embed(found)) if found else np.empty((0, 256))
        sources.append(
            (uri, [(c, place % PARTS) for place, c in enumerate(found)], vectors)
        )
    chance = random.Random(11)
    asked = [" ".join(c.text.split()[:12]) for c in chance.sample(spare, questions)]
    queries = np.array([asyncio.run(embedder.embed_query(text)) for text in asked])
    return Data(sources=sources, questions=asked, queries=queries)


# ------------------------------------------------------------- in a process of its own


def measure(name: str, data: Data, folder: str) -> dict[str, Any]:
    """Writes and asks; what it took."""
    from anabranch.rag import Chunk
    from anabranch.rag.plan import Version, text_digest
    from anabranch.rag.stores import Add

    batches: list[list[Add]] = [[]]
    kept = 0
    for uri, rows, vectors in data.sources:
        chunks = [
            Chunk(c.document_id, c.text, c.start, c.end, {**c.metadata, "part": part})
            for c, part in rows
        ]
        if kept + len(chunks) > WRITTEN_AT_ONCE and batches[-1]:
            batches.append([])
            kept = 0
        digests = [text_digest(chunk.text) for chunk in chunks]
        version = Version(uri, "1", "benchmark")
        batches[-1].append(Add(version, chunks, digests, vectors, is_last=True))
        kept += len(chunks)
    return asyncio.run(_measure(name, data, batches, folder))


async def _measure(
    name: str, data: Data, batches: Sequence[Sequence[Any]], folder: str
) -> dict[str, Any]:
    chunks = sum(len(add.chunks) for batch in batches for add in batch)
    found: dict[str, Any] = {"chunks": chunks}
    async with _opened(name, folder) as store:
        with taken() as cost:
            for batch in batches:
                await store.write(batch)
        assert (await store.count()).passages == chunks
        found |= {"wrote_per_s": chunks / cost.wall_s, "wrote_cpu_s": cost.cpu_s}
        # What was asked for is known before, and compared afterwards.
        matrix = np.concatenate([add.vectors for batch in batches for add in batch])
        parts = [
            c.metadata["part"] for batch in batches for add in batch for c in add.chunks
        ]
        is_meant = np.array(parts) == 3
        for label, where in (("vector", None), ("vector, filtered", FILTER)):

            async def ask(number: int, where: str | None = where) -> Sequence[Any]:
                hits: Sequence[Any] = await store.search(
                    data.queries[number], k=K, where=where
                )
                return hits

            asked, hits = await _asked(ask, len(data.questions))
            among = matrix if where is None else matrix[is_meant]
            found[label] = {**asked, "recall": _recall(among, data.queries, hits)}
        for label, where in (("text", None), ("text, filtered", FILTER)):
            if name == "chroma":  # which has none
                continue

            async def words(number: int, where: str | None = where) -> Sequence[Any]:
                hits: Sequence[Any] = await store.search_text(
                    data.questions[number], k=K, where=where
                )
                return hits

            asked, _ = await _asked(words, len(data.questions))
            found[label] = asked
    return found


def _recall(among: Any, queries: Any, hits: Mapping[int, Sequence[Any]]) -> float:
    """Of the exact ten, the part that was found; of equal vectors any will do."""
    parts: list[float] = []
    for number, some in hits.items():
        scores = among @ queries[number]
        least = np.partition(scores, -K)[-K] - 1e-5
        parts.append(sum(hit.score >= least for hit in some) / K)
    return statistics.fmean(parts)


async def _asked(
    ask: Callable[[int], Awaitable[Sequence[Any]]], count: int
) -> tuple[dict[str, float], Mapping[int, Sequence[Any]]]:
    """Every question once, sixteen at a time, after a few that are not counted."""
    hits: dict[int, Sequence[Any]] = {}
    times: list[float] = []
    for number in range(min(4, count)):
        await ask(number)
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            before = time.perf_counter()
            hits[number] = await ask(number)
            times.append(time.perf_counter() - before)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    wall_s = time.perf_counter() - began
    times.sort()
    figures = {
        "per_s": count / wall_s,
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": times[int(len(times) * 0.99)] * 1e3,
    }
    return figures, hits


@asynccontextmanager
async def _opened(name: str, folder: str) -> AsyncIterator[Any]:
    # Any: stores of whose clients some are not installed.
    from anabranch.rag import SqliteStore, StaticEmbedder

    embedder = StaticEmbedder()
    async with AsyncExitStack() as stack:
        match name:
            case "sqlite":
                opening = await SqliteStore.create(Path(folder), embedder)
                yield await stack.enter_async_context(opening)
            case "postgres":
                from anabranch.rag.stores.postgres import PgVectorStore
                from tests.postgres import database

                url = stack.enter_context(database())
                yield await stack.enter_async_context(PgVectorStore(url, embedder))
            case "qdrant local":
                from qdrant_client import AsyncQdrantClient

                from anabranch.rag.stores.qdrant import QdrantStore

                client = AsyncQdrantClient(path=folder)
                stack.push_async_callback(client.close)
                qdrant = QdrantStore(client, embedder)
                await qdrant.prepare()
                yield qdrant
            case "chroma":
                from anabranch.rag.stores.chroma import ChromaStore
                from tests.rag.stores.chroma_server import server

                chroma = ChromaStore(server(folder), embedder)
                yield await stack.enter_async_context(chroma)
            case "solr":
                from anabranch.rag.solr import SolrClient, SolrStore

                solr = await stack.enter_async_context(SolrClient(os.environ[SOLR]))
                await solr.delete_by_query("*:*", commit="hard")
                store = SolrStore(solr, embedder)
                await store.prepare()
                yield store


# ------------------------------------------------------------------------ all of them


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the stores; 0 when all ran, else 1."""
    options = _options(arguments)
    if options.case:
        name, given = options.case
        with Path(given, "data").open("rb") as file:
            data = pickle.load(file)  # noqa: S301  # our own parent wrote it
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(name, data, folder)))
        return 0
    found: dict[str, dict[str, Any]] = {}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        pages = options.corpus.expanduser().resolve()
        try:
            data = make_data(options.chunks, options.questions, pages)
        except corpus.CorpusError as error:
            print(f"stores: {error}", file=sys.stderr)
            return 1
        with Path(folder, "data").open("wb") as file:
            pickle.dump(data, file)
        for name in options.only or STORES:
            if name == "solr" and SOLR not in os.environ:
                print(f"solr: not measured; {SOLR} is not set", file=sys.stderr)
                continue
            print(f"{name} ...", file=sys.stderr)
            command = [sys.executable, "-m", "benchmarks.stores", "--case", name, folder]
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                text=True,
                timeout=CASE_TIMEOUT_S,
                check=False,
            )
            if done.returncode:
                print(f"{name} failed", file=sys.stderr)
                failed += 1
            else:
                found[name] = json.loads(done.stdout.splitlines()[-1])
    if not found:
        return 1
    print(f"\n{table(found)}\n")
    if options.out:
        print(f"wrote {_write(options.out, found, options).name}")
    return 1 if failed else 0


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a store and kind of search."""
    rows: list[tuple[str, ...]] = [
        ("", "passages/s", "CPU s", "asked", "a second", "p50 ms", "p99 ms", "recall")
    ]
    for name, one in found.items():
        wrote = (show.number(one["wrote_per_s"]), show.number(one["wrote_cpu_s"]))
        first = (name, *wrote)
        for label in ("vector", "vector, filtered", "text", "text, filtered"):
            if label not in one:
                continue
            asked = one[label]
            recall = f"{asked['recall']:.3f}" if "recall" in asked else "-"
            figures = (asked["per_s"], asked["p50_ms"], asked["p99_ms"])
            rows.append((*first, label, *map(show.number, figures), recall))
            first = ("", "", "")
    return show.aligned(rows)


def _write(folder: Path, found: Mapping[str, Any], options: argparse.Namespace) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stores.json"
    record = {
        "title": f"Stores of {options.chunks:,} passages, {AT_ONCE} questions at a time",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": show.machine(),
        "versions": show.versions(),
        "chunks": options.chunks,
        "questions": options.questions,
        "k": K,
        "stores": found,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run stores",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", choices=STORES, help="this store alone; may be repeated"
    )
    parser.add_argument(
        "--chunks", type=int, default=50_000, metavar="N", help="passages (%(default)s)"
    )
    parser.add_argument(
        "--questions", type=int, default=400, metavar="N", help="of each kind (%(default)s)"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        default=corpus.DEFAULT_FOLDER,
        metavar="DIR",
        help="where the pages are kept (default: %(default)s)",
    )
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    show.add_out(parser)
    options = parser.parse_args(arguments)
    if options.chunks < 100 or options.questions < 4:
        parser.error("--chunks is at least 100, and --questions at least 4")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
