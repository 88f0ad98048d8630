"""Passages in a real Chroma, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anabranch.errors import StoreError
from anabranch.rag.stores.chroma import ChromaStore
from tests.rag.parts import HashEmbedder
from tests.rag.stores.chroma_server import collection, server
from tests.rag.stores.conformance import Conformance
from tests.rag.stores.places import At


class TestChroma(Conformance):
    has_words = False

    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        yield At("chroma", f"{server()}#{collection()}")


def test_a_name_that_chroma_does_not_take_is_told_of() -> None:
    async def main() -> None:
        for name in ("a", "../other", "a b"):
            store = ChromaStore(server(), HashEmbedder(), collection=name)
            with pytest.raises(StoreError, match=r"refuses \(400\)"):
                async with store:
                    pass

    asyncio.run(main())


def test_a_collection_of_others_is_left_alone() -> None:
    async def main() -> None:
        name = collection()
        async with ChromaStore(server(), HashEmbedder(), collection=name) as store:
            mine = store._passages
            await store._client.upsert(mine, ["x"], [[1.0]], metadatas=[{"a": 1}])
            await store._client.delete(store._records, ids=["model"])
        with pytest.raises(StoreError, match="holds something else"):
            async with ChromaStore(server(), HashEmbedder(), collection=name):
                pass

    asyncio.run(main())
