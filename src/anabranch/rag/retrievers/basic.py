"""The two ways into a store: by meaning and by words."""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.rag.stores import VectorStore
from anabranch.rag.types import Embedder, Hit, Where


class VectorRetriever:
    """Passages whose vectors are nearest to the question's.

    Args:
        store: Made for the embedder.
        embedder: Embeds the question.
    """

    def __init__(
        self, store: VectorStore, embedder: Embedder, *, name: str = "vector"
    ) -> None:
        self.name = name
        self._store = store
        self._embedder = embedder

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        vector = await self._embedder.embed_query(query)
        return await self._store.search(vector, k=k, where=where, name=self.name)


class FullTextRetriever:
    """Passages with the question's words, by BM25; words are stemmed (Porter)."""

    def __init__(self, store: VectorStore, *, name: str = "full text") -> None:
        self.name = name
        self._store = store

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        return await self._store.search_text(query, k=k, where=where, name=self.name)
