"""Our parts as theirs."""

from __future__ import annotations

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document as TheirDocument
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr

from anabranch.rag.adapters.calls import Home
from anabranch.rag.asking import check_k
from anabranch.rag.filters import Where, as_filter
from anabranch.rag.types import Chunk, Embedder, Hit, Retriever


def to_embeddings(ours: Embedder) -> Embeddings:
    """An embedder as LangChain embeddings.

    Made in a coroutine, its synchronous methods run on that coroutine's loop, from other
    threads; made elsewhere, on the process's background loop.

    Args:
        ours: The embedder, open if it has to be.
    """
    return _Embeddings(ours)


class _Embeddings(Embeddings):
    def __init__(self, ours: Embedder) -> None:
        self._ours = ours
        self._home = Home()

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        chunks = [Chunk("", text, 0, len(text)) for text in texts]
        vectors: list[list[float]] = (await self._ours.embed(chunks)).tolist()
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        vector: list[float] = (await self._ours.embed_query(text)).tolist()
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._home.run(lambda: self.aembed_documents(texts), "aembed_documents(...)")

    def embed_query(self, text: str) -> list[float]:
        return self._home.run(lambda: self.aembed_query(text), "aembed_query(...)")


def to_retriever(
    ours: Retriever, *, k: int = 5, where: Where | None = None
) -> BaseRetriever:
    """A retriever as a LangChain retriever.

    Documents have the hit's key for an id; ``source``, ``document_id``, ``start_index`` and
    ``score`` are in the metadata, unless the passage's own has such a name. For
    synchronous calls see :func:`to_embeddings`.

    Args:
        ours: The retriever.
        k: Passages for a question.
        where: A filter for all of them.
    """
    check_k("k", k)
    return _Retriever(ours, k, None if where is None else as_filter(where))


class _Retriever(BaseRetriever):
    _ours: Retriever = PrivateAttr()
    _k: int = PrivateAttr()
    _where: Where | None = PrivateAttr()
    _home: Home = PrivateAttr()

    def __init__(self, ours: Retriever, k: int, where: Where | None) -> None:
        super().__init__()
        self._ours = ours
        self._k = k
        self._where = where
        self._home = Home()

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[TheirDocument]:
        return await self._found(query)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[TheirDocument]:
        return self._home.run(lambda: self._found(query), "ainvoke(...)")

    async def _found(self, query: str) -> list[TheirDocument]:
        hits = await self._ours.retrieve(query, k=self._k, where=self._where)
        return [_document(hit) for hit in hits]


def _document(found: Hit) -> TheirDocument:
    known = {
        "source": found.source,
        "document_id": found.document_id,
        "start_index": found.start,
        "score": found.score,
    }
    return TheirDocument(
        id=str(found.key), page_content=found.text, metadata={**known, **found.metadata}
    )
