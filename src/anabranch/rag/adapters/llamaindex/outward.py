"""Our parts as theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from anabranch.errors import UsageError
from anabranch.rag.adapters.calls import Home
from anabranch.rag.adapters.llamaindex.filters import from_filters
from anabranch.rag.adapters.llamaindex.records import node_of, scored_node
from anabranch.rag.asking import check_k
from anabranch.rag.filters import Where, as_filter
from anabranch.rag.stores import VectorStore
from anabranch.rag.types import Chunk, Embedder, Hit, Retriever

_WORDS = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)


def to_embedding(ours: Embedder, *, embed_batch_size: int = 64) -> BaseEmbedding:
    """An embedder as a LlamaIndex embedding.

    A batch of theirs is one call of ours. See :class:`~.calls.Home` for where synchronous
    calls run.

    Args:
        ours: The embedder, open if it has to be.
        embed_batch_size: Texts in a batch; theirs starts all batches at once.
    """
    return _Embedding(ours, embed_batch_size)


class _Embedding(BaseEmbedding):
    _ours: Embedder = PrivateAttr()
    _home: Home = PrivateAttr()

    def __init__(self, ours: Embedder, batch: int) -> None:
        super().__init__(model_name=ours.name, embed_batch_size=batch)
        self._ours = ours
        self._home = Home()

    @classmethod
    def class_name(cls) -> str:
        return "AnabranchEmbedding"

    async def _aget_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = (await self._ours.embed_query(query)).tolist()
        return vector

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        chunks = [Chunk("", text, 0, len(text)) for text in texts]
        vectors: list[list[float]] = (await self._ours.embed(chunks)).tolist()
        return vectors

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._home.run(
            lambda: self._aget_query_embedding(query), "aget_query_embedding(...)"
        )

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._home.run(
            lambda: self._aget_text_embeddings(texts), "aget_text_embedding_batch(...)"
        )


def to_retriever(
    ours: Retriever, *, k: int = 5, where: Where | None = None
) -> BaseRetriever:
    """A retriever as a LlamaIndex retriever.

    Nodes have the hit's key for an id, its document for a source node, and the source's
    name in the metadata.

    Args:
        ours: The retriever.
        k: Passages for a question.
        where: A filter for all of them.
    """
    check_k("k", k)
    return _Retriever(ours, k, None if where is None else as_filter(where))


class _Retriever(BaseRetriever):
    def __init__(self, ours: Retriever, k: int, where: Where | None) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]  # a bare Dict
        self._ours = ours
        self._k = k
        self._where = where
        self._home = Home()

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = await self._ours.retrieve(
            query_bundle.query_str, k=self._k, where=self._where
        )
        return [scored_node(hit) for hit in hits]

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._home.run(lambda: self._aretrieve(query_bundle), "aretrieve(...)")


def to_vector_store(ours: VectorStore) -> BasePydanticVectorStore:
    """A store as a LlamaIndex vector store that can be asked, and not written to.

    It answers the modes ``default`` (by vector), ``text_search`` and ``sparse`` (by
    words); ``VectorStoreIndex.from_vector_store`` makes an index of it. Passages come by a
    :class:`~anabranch.rag.Pipeline`: nodes have no versions to keep sources whole by.

    Args:
        ours: The store, open.
    """
    return _Store(ours)


class _Store(BasePydanticVectorStore):
    stores_text: bool = True
    is_embedding_query: bool = True
    _ours: VectorStore = PrivateAttr()
    _home: Home = PrivateAttr()

    def __init__(self, ours: VectorStore) -> None:
        super().__init__(stores_text=True)
        self._ours = ours
        self._home = Home()

    @classmethod
    def class_name(cls) -> str:
        return "AnabranchVectorStore"

    @property
    def client(self) -> VectorStore:
        return self._ours

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        return self._home.run(lambda: self.aquery(query), "aquery(...)")

    async def aquery(
        self, query: VectorStoreQuery, **kwargs: Any
    ) -> VectorStoreQueryResult:
        hits = await self._search(query)
        return VectorStoreQueryResult(
            nodes=[node_of(hit) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[str(hit.key) for hit in hits],
        )

    async def _search(self, query: VectorStoreQuery) -> Sequence[Hit]:
        # An index over a store that keeps text gives an empty list, for "any".
        if query.doc_ids or query.node_ids:
            raise UsageError(
                "a store of anabranch's cannot be asked for some doc_ids or node_ids only: "
                "filter by metadata"
            )
        k = query.similarity_top_k
        where = None if query.filters is None else from_filters(query.filters)
        if query.mode in _WORDS:
            return await self._ours.search_text(query.query_str or "", k=k, where=where)
        if query.mode != VectorStoreQueryMode.DEFAULT:
            raise UsageError(
                f"a store of anabranch's does not know the mode {query.mode.value}: use "
                "default, text_search or sparse, and a FusionRetriever for both"
            )
        if query.query_embedding is None:
            raise UsageError("the query has no vector: give query_embedding")
        vector = np.asarray(query.query_embedding, np.float32)
        return await self._ours.search(vector, k=k, where=where)

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        raise _written_elsewhere()

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        raise _written_elsewhere()


def _written_elsewhere() -> UsageError:
    return UsageError(
        "a store of anabranch's takes no nodes: write to it with a Pipeline, which keeps "
        "each source whole"
    )
