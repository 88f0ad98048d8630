"""The embedded store does what every store does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.rag.stores.conformance import Conformance
from tests.rag.stores.places import At


class TestSqlite(Conformance):
    stride = 7

    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        yield At("sqlite", str(tmp_path / "index"))
