"""Passages in a real PostgreSQL with pgvector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.postgres import database
from tests.rag.stores.conformance import Conformance
from tests.rag.stores.places import At


class TestPostgres(Conformance):
    stride = 9

    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        with database() as url:
            yield At("postgres", url)
