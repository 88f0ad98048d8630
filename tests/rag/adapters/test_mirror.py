"""A store of LlamaIndex's beside one of ours."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from anabranch.errors import StoreError, UsageError
from anabranch.rag import Pipeline, Report, SqliteStore, VectorStore
from anabranch.rag.adapters import llamaindex
from anabranch.rag.adapters.llamaindex import MirroredStore
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.stores import Abandon, Add, Remove
from anabranch.rag.types import Chunk
from tests.rag.adapters.llama_parts import ShelfStore
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf, vector_of


async def run(store: VectorStore, texts: Mapping[str, str | None]) -> Report:
    shelf = Shelf(texts)
    return await Pipeline(
        reader=shelf, splitter=LineSplitter(), embedder=HashEmbedder(), store=store
    ).run(shelf.names())


def in_both(folder: Path, theirs: BasePydanticVectorStore, *works: Any) -> None:
    async def main() -> None:
        async with await SqliteStore.create(folder / "index", HashEmbedder()) as ours:
            store: VectorStore = MirroredStore(ours, theirs)
            for work in works:
                await work(store)

    asyncio.run(main())


def test_a_pipeline_fills_both_and_skips_what_is_unchanged(tmp_path: Path):
    theirs = ShelfStore()

    async def work(store: VectorStore) -> None:
        report = await run(store, {"a": "one\ntwo", "b": "three", "broken": None})
        assert (report.new, len(report.broken)) == (2, 1)
        assert theirs.texts("a") == ["one", "two"]
        ids = set(theirs.nodes)
        report = await run(store, {"a": "one\ntwo", "b": "three"})
        assert (report.unchanged, report.embedded) == (2, 0)
        report = await run(store, {"a": "two\nfour", "b": "three"})
        assert (report.changed, report.embedded) == (1, 1)
        assert theirs.texts("a") == ["two", "four"]
        assert set(theirs.nodes) == ids, "a passage that is written again is the same node"
        assert await store.count() == (2, 3)
        await store.write([Remove("b")])
        assert theirs.texts("b") == []
        await store.delete("title == None")
        assert (await store.count(), theirs.nodes) == ((0, 0), {})

    in_both(tmp_path, theirs, work)
    assert threading.get_ident() not in theirs.threads


def test_what_it_holds_is_found_through_theirs(tmp_path: Path):
    theirs = ShelfStore()

    async def work(store: VectorStore) -> None:
        await run(store, {"a": "one\ntwo", "b": "three"})
        ours = llamaindex.store_retriever(theirs, HashEmbedder())
        [hit] = await ours.retrieve("two", k=1)
        assert (hit.source, hit.text, hit.start, hit.end) == ("a", "two", 4, 7)
        assert hit.score == pytest.approx(1)
        [found] = await store.search(vector_of("two"), k=1)
        assert (found.source, found.text) == (hit.source, hit.text)
        [word] = await store.search_text("three", k=5)
        assert word.source == "b"

    in_both(tmp_path, theirs, work)


def add(uri: str, *texts: str, is_last: bool) -> Add:
    chunks = [Chunk(uri, text, 0, len(text)) for text in texts]
    digests = [text_digest(text) for text in texts]
    import numpy as np

    vectors = np.array([vector_of(text) for text in texts], np.float32).reshape(-1, 8)
    return Add(Version(uri, "1", "f"), chunks, digests, vectors, is_last)


def test_a_version_is_held_back_until_it_is_complete_and_dropped_if_it_never_is(
    tmp_path: Path,
):
    theirs = ShelfStore()

    async def work(store: VectorStore) -> None:
        await store.write([add("a", "one", is_last=False), add("b", "x", is_last=False)])
        assert not theirs.nodes
        await store.write([add("a", "two", is_last=True), Abandon("b")])
        assert theirs.texts("a") == ["one", "two"]
        await store.write([add("b", "y", is_last=True), add("c", is_last=True)])
        assert (theirs.texts("b"), theirs.texts("c")) == (["y"], [])
        with pytest.raises(UsageError, match="cannot be stored"):
            await store.write([add("nul\0", "z", is_last=True)])

    in_both(tmp_path, theirs, work)


def test_lists_in_metadata_are_json_where_theirs_holds_none(tmp_path: Path):
    class Flat(ShelfStore):
        flat_metadata: bool = True

    def of(theirs: ShelfStore) -> dict[str, Any]:
        async def work(store: VectorStore) -> None:
            one = add("a", "one", is_last=True)
            chunk = replace(one.chunks[0], metadata={"tags": ["x", "ü"], "year": 2020})
            await store.write([replace(one, chunks=[chunk])])

        in_both(tmp_path / type(theirs).__name__, theirs, work)
        [node] = theirs.nodes.values()
        return node.metadata

    assert of(ShelfStore()) == {"source": "a", "tags": ["x", "ü"], "year": 2020}
    assert of(Flat()) == {"source": "a", "tags": '["x", "ü"]', "year": 2020}


def test_when_theirs_fails_ours_has_nothing_and_the_next_run_does_the_rest(tmp_path: Path):
    class Failing(ShelfStore):
        down: bool = True

        def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
            if self.down:
                raise ConnectionError("refused")
            return super().add(nodes, **add_kwargs)

    theirs = Failing()

    async def fail(store: VectorStore) -> None:
        await run(store, {"a": "one"})

    with pytest.raises(StoreError, match=r"Failing could not add 1 passages of a \(Conn"):
        in_both(tmp_path, theirs, fail)
    theirs.down = False

    async def work(store: VectorStore) -> None:
        assert await store.count() == (0, 0)
        await run(store, {"a": "one"})
        assert theirs.texts("a") == ["one"]

    in_both(tmp_path, theirs, work)


def test_whoever_is_cancelled_learns_of_it_when_theirs_has_been_written(tmp_path: Path):
    begun, go_on = threading.Event(), threading.Event()

    class Slow(ShelfStore):
        def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
            begun.set()
            assert go_on.wait(60)
            return super().add(nodes, **add_kwargs)

    theirs = Slow()

    async def work(store: VectorStore) -> None:
        writing = asyncio.ensure_future(store.write([add("a", "one", is_last=True)]))
        await asyncio.to_thread(begun.wait, 60)
        writing.cancel()
        await asyncio.sleep(0)
        assert not writing.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert theirs.texts("a") == ["one"]

    in_both(tmp_path, theirs, work)


def test_killed_before_and_after_every_write_both_hold_the_same_after_the_next_run(
    tmp_path: Path,
):
    program = Path(__file__).with_name("mirroring.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    # Two sources change (each is deleted and added), one is removed, and ours is told of
    # both: as many writes, with a moment before and one after each.
    assert int(done.stdout) >= 2 * (2 * 2 + 1 + 2)
