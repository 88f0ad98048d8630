"""Passages in Qdrant's local mode: no server can be had here, see the docs for what that
leaves untested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qdrant_client import AsyncQdrantClient

from anabranch.rag.stores.qdrant import QdrantStore
from tests.rag.parts import HashEmbedder, vector_of
from tests.rag.stores.conformance import Conformance, add
from tests.rag.stores.places import At, in_memory


class TestQdrantLocal(Conformance):
    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        with TemporaryDirectory(dir=in_memory()) as folder:
            yield At("qdrant", folder)


def test_a_version_that_is_completed_between_question_and_answer_is_found_whole() -> None:
    """Half of it was there when the question was asked, and all when it was looked up."""

    async def main() -> None:
        client = AsyncQdrantClient(":memory:")
        store = QdrantStore(client, HashEmbedder())
        await store.prepare()
        await store.write([add("a", ["new 1"], is_last=False)])
        ask = store._nearest
        rest = [add("a", ["new 2"])]

        async def slow(*args: Any) -> Sequence[Any]:
            found = await ask(*args)
            if rest:
                await store.write([rest.pop()])
            return found

        store._nearest = slow  # type: ignore[method-assign, assignment]
        hits = await store.search(vector_of("x"), k=5)
        assert sorted(hit.text for hit in hits) == ["new 1", "new 2"]
        await client.close()

    asyncio.run(main())


def test_words_are_stemmed_and_rare_ones_weigh_more() -> None:
    async def main() -> None:
        client = AsyncQdrantClient(":memory:")
        store = QdrantStore(client, HashEmbedder())
        await store.prepare()
        lines = ["Rivers bend", "a river bends, and bends", "the Café", "bending over"]
        await store.write([add("a", lines, metadata={})])
        hits = await store.search_text("bend rivers", k=9)
        assert {hit.text for hit in hits[:2]} == set(lines[:2])
        assert [hit.text for hit in hits[2:]] == ["bending over"]
        assert [hit.text for hit in await store.search_text("cafe", k=9)] == ["the Café"]
        await client.close()

    asyncio.run(main())
