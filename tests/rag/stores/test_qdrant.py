"""Passages in Qdrant's local mode: no server can be had here, see the docs for what that
leaves untested."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.rag.stores.conformance import Conformance
from tests.rag.stores.places import At, in_memory


class TestQdrantLocal(Conformance):
    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        with TemporaryDirectory(dir=in_memory()) as folder:
            yield At("qdrant", folder)
