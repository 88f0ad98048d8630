"""Retrievers, stores and embedders with the real contracts, whose answers a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from anabranch.rag import Chunk, Hit
from anabranch.rag.types import Vectors, Where


def hit(
    key: int,
    text: str | None = None,
    *,
    score: float = 1.0,
    document: str = "d",
    start: int = 0,
    source: str = "s",
    title: str | None = None,
) -> Hit:
    words = f"text {key}" if text is None else text
    metadata = {} if title is None else {"title": title}
    end = start + len(words)
    return Hit(key, source, document, words, start, end, metadata, score, {})


class Fixed:
    """Answers with the same hits, after some seconds, or fails."""

    def __init__(
        self,
        name: str,
        found: Sequence[int | Hit] = (),
        *,
        after: float = 0,
        error: Exception | None = None,
    ) -> None:
        self.name = name
        self.after = after
        self.error = error
        self.asked: list[str] = []
        self.cancelled = 0
        self._hits = [
            hit(each, score=1.0 / rank) if isinstance(each, int) else each
            for rank, each in enumerate(found, start=1)
        ]

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        self.asked.append(query)
        try:
            await asyncio.sleep(self.after)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self._hits[:k]


class ByQuery:
    """Answers each question with its own keys."""

    def __init__(self, name: str, answers: dict[str, list[int]]) -> None:
        self.name = name
        self._answers = answers

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        return await Fixed(self.name, self._answers[query]).retrieve(query, k=k)


def pointing(number: int) -> Vectors:
    """A vector of unit length that says a number of up to 150."""
    angle = number / 100
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def pointed_at(vector: Vectors) -> int:
    """The number that a vector says."""
    return round(100 * float(np.arctan2(vector[1], vector[0])))


class OneNumber:
    """An embedder whose vectors say how long a text is, and that notes what it was asked.

    A question with "!" in it is refused, alone or among others.
    """

    name = "one-number"
    digest = "one-number/1"
    dimensions = 2
    max_tokens = 100
    batch_tokens = 100

    def __init__(self, *, takes_s: float = 1.0) -> None:
        self.calls: list[list[str]] = []
        self.cancelled = 0
        self.takes_s = takes_s

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        raise NotImplementedError

    async def embed_query(self, text: str) -> Vectors:
        vector: Vectors = (await self._embedded([text]))[0]
        return vector

    async def _embedded(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if any("!" in text for text in texts):
            raise ValueError("a service takes no !")
        return np.stack([pointing(len(text)) for text in texts])


class ManyNumbers(OneNumber):
    """One that takes many questions at once."""

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return await self._embedded(texts)


class Echo:
    """A store that finds, for a vector, one passage that says which it was."""

    def __init__(self) -> None:
        self.searches: list[tuple[int, int, Where | None]] = []

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        self.searches.append((pointed_at(vector), k, where))
        return [hit(pointed_at(vector))]


class EchoMany(Echo):
    """One that searches for several vectors in one pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []

    async def search_many(
        self,
        vectors: Sequence[Vectors],
        *,
        k: int,
        where: Where | None = None,
        name: str = "vector",
    ) -> Sequence[Sequence[Hit]]:
        self.passes.append(len(vectors))
        return [await self.search(v, k=k, where=where, name=name) for v in vectors]
