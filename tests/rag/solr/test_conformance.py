"""The Solr store does what every store does, against the protocol double; see double.py
for what that cannot show. A real Solr is asked in test_store.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.rag.solr.double import Double
from tests.rag.stores.conformance import Conformance
from tests.rag.stores.places import At


class TestSolr(Conformance):
    stride = 7
    most_values = 40  # of 300: the double reads a query slowly

    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        async with Double().serving() as url:
            yield At("solr", url)
