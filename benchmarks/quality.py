"""How well questions are answered: nDCG@10 and recall@100 on judged collections.

    benchmarks/run quality                        the collections beside this checkout
    benchmarks/run quality --collection PATH      a folder of Cranfield or CISI; repeatable
    benchmarks/run quality --only minilm          rows with this in their names
    benchmarks/run quality --out                  JSON and a plot to docs/benchmarks

Every document is a Markdown file with its title as the heading, indexed as any other with
256 tokens a passage; a document's rank is that of its best passage. Nothing is chosen for a
collection: what is measured is what a program gets that says nothing of fusion.

LlamaIndex's QueryFusionRetriever is given the same two rankings, a hundred passages of
each: what differs is the fusion alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from anabranch.rag import (
    FullTextRetriever,
    FusionRetriever,
    Hit,
    SqliteStore,
    VectorRetriever,
    index,
    local_embedder,
    retrieve_many,
)
from anabranch.rag.types import Retriever
from benchmarks import judged, show
from benchmarks.judged import Collection

DATA = show.RESULTS.parents[2] / "shared" / "data"
MODELS = ("static", "minilm")
# Of so many passages come ten documents, and of so many a hundred.
FEW, MANY = 40, 250
DEPTH = 100
GOALS = {"cranfield": 0.56, "cisi": 0.44}
OURS = "minilm + full text, min-max"

# Of a list of questions, the passages of each: with at most so many.
Ask: TypeAlias = Callable[[Sequence[str], int], Awaitable[Sequence[Sequence[Hit]]]]
Figures: TypeAlias = Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table a collection; 0 if every goal is met."""
    options = _options(arguments)
    folders = options.collection or sorted(path for path in DATA.glob("*") if path.is_dir())
    if not folders:
        print("quality: no collection: give --collection PATH", file=sys.stderr)
        return 2
    found = {
        folder.name: asyncio.run(_measure(folder, options.cache, options.only))
        for folder in folders
    }
    for name, rows in found.items():
        print(f"\n{name}\n\n{_table(rows)}")
    print()
    missed = 0
    for name, rows in found.items():
        if name in GOALS and OURS in rows:
            value = rows[OURS]["ndcg"]
            missed += value < GOALS[name]
            word = "met" if value >= GOALS[name] else "MISSED"
            print(f"{word}: {name}: {OURS}, nDCG@10 at least {GOALS[name]}: {value:.3f}")
    if options.out and not options.only:
        for path in _write(options.out, found):
            print(f"wrote {path.name}")
    return 1 if missed else 0


# ----------------------------------------------------------------------------- measurement


async def _measure(folder: Path, cache: Path, only: Sequence[str]) -> Mapping[str, Figures]:
    collection = judged.read(folder)
    documents = _files(collection, cache / folder.name / "documents")
    rows: dict[str, Figures] = {}
    for model in MODELS:
        into = cache / folder.name / model
        report = await index([documents], into=into, model=model)
        if report.broken:
            raise RuntimeError(f"{folder.name}: {report.broken[0]}")
        async with await SqliteStore.open(into) as store:
            embedder = await asyncio.to_thread(local_embedder, model)
            vector = VectorRetriever(store, embedder)
            text = FullTextRetriever(store)
            for label, ask in _ways(model, vector, text).items():
                if label not in rows and (not only or any(p in label for p in only)):
                    rows[label] = await _judge(collection, ask)
    return rows


def _files(collection: Collection, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (title, text) in collection.documents.items():
        page = f"# {' '.join(title.split())}\n\n{text}\n"
        (folder / f"{number}.md").write_text(page)
    return folder


def _ways(model: str, vector: Retriever, text: Retriever) -> Mapping[str, Ask]:
    both = [vector, text]
    return {
        "full text": _ours(text),
        model: _ours(vector),
        f"{model} + full text, LlamaIndex reciprocal_rerank": _theirs(
            both, "reciprocal_rerank"
        ),
        f"{model} + full text, LlamaIndex relative_score": _theirs(both, "relative_score"),
        f"{model} + full text, LlamaIndex dist_based_score": _theirs(
            both, "dist_based_score"
        ),
        f"{model} + full text, reciprocal rank": _ours(
            FusionRetriever(both, by="reciprocal-rank")
        ),
        f"{model} + full text, min-max": _ours(FusionRetriever(both)),
    }


def _ours(retriever: Retriever) -> Ask:
    async def ask(questions: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        return await retrieve_many(retriever, questions, k=k)

    return ask


def _theirs(both: Sequence[Retriever], mode: str) -> Ask:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.llms import MockLLM
    from llama_index.core.retrievers import QueryFusionRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    async def ask(questions: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        hits: dict[str, Hit] = {}

        class Ours(BaseRetriever):
            """Gives what one of our retrievers finds."""

            def __init__(self, retriever: Retriever) -> None:
                self._retriever = retriever
                super().__init__()

            def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
                raise NotImplementedError  # it is asked asynchronously only

            async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
                found = await self._retriever.retrieve(
                    query_bundle.query_str, k=max(DEPTH, k)
                )
                hits.update((str(hit.key), hit) for hit in found)
                return [
                    NodeWithScore(
                        node=TextNode(id_=str(hit.key), text=hit.text), score=hit.score
                    )
                    for hit in found
                ]

        fusion: Any = QueryFusionRetriever(
            [Ours(each) for each in both],
            llm=MockLLM(),
            mode=mode,
            num_queries=1,
            similarity_top_k=k,
        )
        found = [await fusion.aretrieve(question) for question in questions]
        return [[hits[node.node_id] for node in nodes] for nodes in found]

    return ask


async def _judge(collection: Collection, ask: Ask) -> Figures:
    questions = list(collection.questions.values())
    few, many = await ask(questions, FEW), await ask(questions, MANY)
    gains = [collection.gains[number] for number in collection.questions]
    return {
        "ndcg": statistics.fmean(
            judged.ndcg(_documents(hits), gain)
            for hits, gain in zip(few, gains, strict=True)
        ),
        "recall": statistics.fmean(
            judged.recall(_documents(hits), gain)
            for hits, gain in zip(many, gains, strict=True)
        ),
    }


def _documents(hits: Sequence[Hit]) -> Sequence[str]:
    """Their numbers, each at the place of its first passage."""
    return list(dict.fromkeys(Path(hit.source).stem for hit in hits))


# ---------------------------------------------------------------------------- presentation


def _table(rows: Mapping[str, Figures]) -> str:
    head = ["", "nDCG@10", "recall@100"]
    return show.aligned(
        [
            head,
            *([name, f"{f['ndcg']:.3f}", f"{f['recall']:.3f}"] for name, f in rows.items()),
        ]
    )


def _write(folder: Path, found: Mapping[str, Mapping[str, Figures]]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    data, picture = folder / "rag-quality.json", folder / "rag-quality.svg"
    title = "How well questions are answered"
    record = {
        "title": title,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": show.versions(),
        "collections": {
            name: {
                label: {figure: round(value, 4) for figure, value in figures.items()}
                for label, figures in rows.items()
            }
            for name, rows in found.items()
        },
    }
    data.write_text(json.dumps(record, indent=2) + "\n")
    labels = list(next(iter(found.values())))
    panels = {
        f"nDCG@10, {name}": [rows[label]["ndcg"] for label in labels]
        for name, rows in found.items()
    }
    picture.write_text(show.bars(title, labels, panels, ours=1))
    return [data, picture]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--collection",
        type=Path,
        action="append",
        metavar="PATH",
        help="a folder of Cranfield or CISI, named after it",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="PART", help="some rows"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "anabranch-quality",
        metavar="DIR",
        help="where documents and indexes are kept (default: %(default)s)",
    )
    show.add_out(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
