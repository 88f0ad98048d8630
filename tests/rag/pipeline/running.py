"""A pipeline of small parts over a store in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anabranch.observe import Observer
from anabranch.rag import Pipeline, Report, SqliteStore
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf

TEXTS = {
    f"book {number}": "\n".join(f"book {number} line {line}" for line in range(number))
    for number in range(1, 7)
}


async def run(
    folder: Path,
    shelf: Shelf | None = None,
    *,
    embedder: HashEmbedder | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> Report:
    """One run, with whatever options a pipeline has."""
    embedder = embedder or HashEmbedder()
    shelf = shelf or Shelf(TEXTS)
    async with await SqliteStore.create(folder / "index", embedder) as store:
        pipeline = Pipeline(
            reader=shelf, splitter=LineSplitter(), embedder=embedder, store=store, **options
        )
        report = await pipeline.run(shelf.names(), observer=observer)
        await store.sweep()
        return report


async def held(folder: Path) -> dict[str, Sequence[str]]:
    """The passages of each source, in their order."""
    found: dict[str, list[tuple[int, str]]] = {}
    async with await SqliteStore.open(folder / "index") as store:
        async for passage in store.passages():
            line = (passage.chunk.start, passage.chunk.text)
            found.setdefault(passage.source, []).append(line)
    return {name: [text for _, text in sorted(lines)] for name, lines in found.items()}


async def metadata(folder: Path, name: str) -> set[object]:
    """The values of a field of all passages."""
    async with await SqliteStore.open(folder / "index") as store:
        return {p.chunk.metadata.get(name) async for p in store.passages()}


def lines(texts: dict[str, str]) -> dict[str, Sequence[str]]:
    return {name: text.splitlines() for name, text in texts.items() if text}
