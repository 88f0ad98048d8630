"""Parts as LlamaIndex's users write them, that count what they are asked to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryResult

DIMENSIONS = 8


def vector_of(text: str) -> list[float]:
    """Of no particular length; equal texts, equal vectors."""
    letters = [float(ord(letter) % 13 + 1) for letter in text[:DIMENSIONS]]
    return letters + [1.0] * (DIMENSIONS - len(letters))


class Blocking(BaseEmbedding):
    """Synchronous; its asynchronous methods are names for the others, as many are."""

    threads: list[int] = Field(default_factory=list, exclude=True)
    batches: list[list[str]] = Field(default_factory=list, exclude=True)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        self.threads.append(threading.get_ident())
        self.batches.append(list(texts))
        return [vector_of(text) for text in texts]

    def _get_query_embedding(self, query: str) -> list[float]:
        self.threads.append(threading.get_ident())
        return vector_of(query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embedding(text)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class Native(Blocking):
    """Really asynchronous: a request is a turn of the loop."""

    busy: int = 0
    most: int = 0
    ended: list[str] = Field(default_factory=list, exclude=True)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            for _ in range(len(texts[0]) % 3 + 1):  # so that they end out of order
                await asyncio.sleep(0)
            return self._get_text_embeddings(texts)
        finally:
            self.busy -= 1
            self.ended += texts

    async def _aget_query_embedding(self, query: str) -> list[float]:
        await asyncio.sleep(0)
        return self._get_query_embedding(query)


class Fixed(BaseEmbedding):
    """Answers whatever it is told to, or fails."""

    answer: Any = None

    def _said(self) -> list[float]:
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: list[float] = self.answer
        return answer

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._said()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [self._said() for _ in texts]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._said()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._said()


class ShelfStore(SimpleVectorStore):
    """In memory as theirs is, but keeps the text, as served stores do."""

    stores_text: bool = True
    nodes: dict[str, BaseNode] = Field(default_factory=dict)
    threads: list[int] = Field(default_factory=list, exclude=True)
    asked: list[VectorStoreQuery] = Field(default_factory=list, exclude=True)

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        self.threads.append(threading.get_ident())
        self.nodes |= {node.node_id: node for node in nodes}
        return super().add(nodes, **add_kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        self.threads.append(threading.get_ident())
        super().delete(ref_doc_id, **delete_kwargs)
        self.nodes = {k: n for k, n in self.nodes.items() if n.ref_doc_id != ref_doc_id}

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        self.threads.append(threading.get_ident())
        self.asked.append(query)
        found = super().query(query, **kwargs)
        found.nodes = [self.nodes[node_id] for node_id in found.ids or []]
        return found

    def texts(self, ref_doc_id: str) -> list[str]:
        """What is held of a document, in its order."""
        found = [n for n in self.nodes.values() if n.ref_doc_id == ref_doc_id]
        nodes = [node for node in found if isinstance(node, TextNode)]
        return [n.text for n in sorted(nodes, key=lambda node: node.start_char_idx or 0)]


class Listed(BaseRetriever):
    """Finds the same nodes for every question."""

    def __init__(self, nodes: Sequence[NodeWithScore], error: Exception | None = None):
        super().__init__()
        self.found = list(nodes)
        self.error = error
        self.threads: list[int] = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.threads.append(threading.get_ident())
        if self.error is not None:
            raise self.error
        return self.found


def scored(text: str, score: float | None, **metadata: Any) -> NodeWithScore:
    return NodeWithScore(node=TextNode(id_=text, text=text, metadata=metadata), score=score)
