"""Where each kind of store can be opened for tests: by a word and an address.

Both are texts, so that another process can open the same store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anabranch.rag import Embedder, SqliteStore, VectorStore
from tests.rag.parts import HashEmbedder

Opener = Callable[..., AbstractAsyncContextManager[VectorStore]]


def in_memory() -> str | None:
    """A folder for what waits for the disk at each write; ``None`` for the usual one."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


class OtherEmbedder(HashEmbedder):
    """Another model with vectors of the same length."""

    name, digest = "other-8", "other-8/1"


@dataclass(frozen=True)
class At:
    """A store of some kind at some address; it can be opened as often as one likes."""

    kind: str
    where: str

    def writer(
        self, embedder: Embedder | None = None
    ) -> AbstractAsyncContextManager[VectorStore]:
        return opened(self.kind, self.where, embedder or HashEmbedder())

    def reader(
        self, embedder: Embedder | None = None
    ) -> AbstractAsyncContextManager[VectorStore]:
        """One more, while another writes."""
        kind = "sqlite to read" if self.kind == "sqlite" else self.kind
        return opened(kind, self.where, embedder or HashEmbedder())


@asynccontextmanager
async def opened(kind: str, where: str, embedder: Embedder) -> AsyncIterator[VectorStore]:
    match kind:
        case "sqlite":
            async with await SqliteStore.create(Path(where), embedder) as embedded:
                yield embedded
        case "sqlite to read":
            async with await SqliteStore.open(Path(where), embedder) as embedded:
                yield embedded
        case "postgres":
            from anabranch.rag.stores.postgres import PgVectorStore

            async with PgVectorStore(where, embedder) as postgres:
                yield postgres
        case "solr":
            from anabranch.rag.solr import SolrClient, SolrStore

            async with SolrClient(where) as client:
                solr = SolrStore(client, embedder)
                await solr.prepare()
                yield solr
        case "qdrant":
            from qdrant_client import AsyncQdrantClient

            from anabranch.rag.stores.qdrant import QdrantStore

            qdrant = AsyncQdrantClient(path=where)
            try:
                local = QdrantStore(qdrant, embedder)
                await local.prepare()
                yield local
            finally:
                await qdrant.close()
        case "chroma":
            from anabranch.rag.stores.chroma import ChromaStore

            url, _, name = where.partition("#")
            async with ChromaStore(url, embedder, collection=name) as chroma:
                yield chroma
        case _:
            raise AssertionError(kind)
