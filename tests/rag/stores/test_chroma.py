"""Passages in a real Chroma, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.rag.stores.chroma_server import collection, server
from tests.rag.stores.conformance import Conformance
from tests.rag.stores.places import At


class TestChroma(Conformance):
    has_words = False

    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        yield At("chroma", f"{server()}#{collection()}")
