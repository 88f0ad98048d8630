"""Mirrors an index into a store in a file, and is killed at every moment of it.

    python mirroring.py FOLDER

A moment is before or after one of the writes: to theirs (``add``, ``delete``), to ours. For
each, a forked child changes an index and kills itself there; another one does the rest.
Forked, since LlamaIndex takes seconds to import.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from anabranch.rag import Pipeline, SqliteStore
from anabranch.rag.adapters.llamaindex import MirroredStore
from anabranch.rag.stores import Remove

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf

BEFORE = {"a": "a one\na two\na three", "b": "b one", "kept": "kept one\nkept two"}
AFTER = {"a": "a new\na two", "c": "c one\nc two", "kept": "kept one\nkept two"}


class FileStore(BasePydanticVectorStore):
    """A store that survives its process: one JSON file, replaced whole."""

    stores_text: bool = True
    path: Path
    moment: Any = None

    @property
    def client(self) -> None:
        return None

    def held(self) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {}
        if self.path.exists():
            held = json.loads(self.path.read_text())
        return held

    def _keep(self, held: dict[str, list[str]]) -> None:
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(held))
        written.replace(self.path)

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        self.moment()
        rows = {n.node_id: [n.ref_doc_id or "", n.get_content()] for n in nodes}
        self._keep({**self.held(), **rows})
        self.moment()
        return [*rows]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        self.moment()
        self._keep({k: row for k, row in self.held().items() if row[0] != ref_doc_id})
        self.moment()

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        raise NotImplementedError


def moments(fatal: int | None) -> Callable[[], None]:
    passed = 0

    def moment() -> None:
        nonlocal passed
        if passed == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    return moment


async def bring(folder: Path, texts: dict[str, str], fatal: int | None = None) -> None:
    """Index the texts, and remove whatever else is there."""
    moment = moments(fatal)
    embedder = HashEmbedder()
    async with await SqliteStore.create(folder / "ours", embedder) as ours:
        write = ours.write

        async def writing(writes: Any) -> None:
            moment()
            await write(writes)
            moment()

        ours.write = writing  # type: ignore[method-assign]
        theirs = FileStore(stores_text=True, path=folder / "theirs.json", moment=moment)
        store = MirroredStore(ours, theirs)
        shelf = Shelf(texts)
        report = await Pipeline(
            reader=shelf, splitter=LineSplitter(), embedder=embedder, store=store
        ).run(shelf.names())
        assert not report.broken, report.broken
        gone = [v.uri async for v in store.sources() if v.uri not in texts]
        await store.write([Remove(uri) for uri in gone])
        await store.sweep()


async def both(folder: Path) -> tuple[list[list[str]], list[list[str]]]:
    """What ours holds, and what theirs holds."""
    async with await SqliteStore.open(folder / "ours", HashEmbedder()) as ours:
        held = [[p.source, p.chunk.text] async for p in ours.passages()]
    theirs = FileStore(stores_text=True, path=folder / "theirs.json")
    return sorted(held), sorted(theirs.held().values())


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    expected = sorted([uri, t] for uri, text in AFTER.items() for t in text.splitlines())
    start = folder / "start"
    assert in_child(lambda: asyncio.run(bring(start, BEFORE))) == 0
    kills = 0
    while True:
        here = folder / str(kills)
        shutil.copytree(start, here)

        def check(here: Path = here) -> None:
            held, copied = asyncio.run(both(here))
            assert held == copied == expected, (held, copied)

        code = in_child(lambda: asyncio.run(bring(here, AFTER, kills)))  # noqa: B023
        if code == 0:
            assert in_child(check) == 0
            break
        assert code == -signal.SIGKILL, code
        kills += 1
        assert in_child(lambda: asyncio.run(bring(here, AFTER))) == 0  # noqa: B023
        assert in_child(check) == 0
    print(kills)


main(Path(sys.argv[1]))
