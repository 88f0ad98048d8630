"""The two Solrs that tests run against."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from anabranch.rag.solr import SolrClient
from anabranch.retry import Retry
from tests.rag.solr.double import Double

REAL = os.environ.get("ANABRANCH_SOLR_URL")
AT_ONCE = Retry(3, wait=lambda state: 0.0)

PLACES = [
    "double",
    pytest.param(
        "real",
        marks=pytest.mark.skipif(
            REAL is None,
            reason="ANABRANCH_SOLR_URL names no collection that tests may empty, such as "
            "http://localhost:8983/solr/anabranch-tests",
        ),
    ),
]


@asynccontextmanager
async def opened(place: str) -> AsyncIterator[SolrClient]:
    """A client of an empty collection."""
    if place == "real":
        assert REAL is not None
        async with SolrClient(REAL) as client:
            await client.delete_by_query("*:*", commit="hard")
            yield client
        return
    async with Double().serving() as url, SolrClient(url, retry=AT_ONCE) as client:
        yield client
