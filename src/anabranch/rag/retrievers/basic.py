"""The two ways into a store: by meaning and by words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from anabranch.jobs import amap
from anabranch.rag.asking import check_k, check_question
from anabranch.rag.embedders.checked import unit_vectors
from anabranch.rag.filters import Filter, as_filter
from anabranch.rag.retrievers.gathering import Gathering
from anabranch.rag.stores import VectorStore
from anabranch.rag.types import Embedder, EmbedsQueries, Hit, Vectors, Where

T = TypeVar("T")
R = TypeVar("R")

# Questions that are embedded, and looked for, together.
MOST_TOGETHER = 64
_AT_ONCE = 8


@runtime_checkable
class _SearchesMany(Protocol):
    """A store that looks for several vectors in one pass."""

    async def search_many(
        self,
        vectors: Vectors,
        *,
        k: int,
        where: Where | None = None,
        name: str = "vector",
    ) -> Sequence[Sequence[Hit]]: ...


@dataclass(frozen=True, slots=True)
class _Search:
    """Of which equal ones can be one call of a store."""

    k: int
    where: Filter | None


class VectorRetriever:
    """Passages whose vectors are nearest to the question's.

    Questions that are asked at the same time are embedded together, and looked for
    together if the store can do that. One question alone waits for nothing.

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
        self._gathering: Gathering[tuple[str, _Search], Sequence[Hit]] = Gathering(
            self._answers, most=MOST_TOGETHER
        )

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        """The ``k`` passages nearest to the question.

        Raises:
            UsageError: The question is blank, or an argument cannot be meant.
            EmbeddingError: What the embedder gives is no vector.
        """
        check_question(query)
        check_k("k", k)
        chosen = None if where is None else as_filter(where)
        return await self._gathering.do((query, _Search(k, chosen)))

    async def _answers(
        self, asked: Sequence[tuple[str, _Search]]
    ) -> Sequence[Sequence[Hit] | Exception]:
        """The hits of each question, or why there are none."""
        texts = list(dict.fromkeys(query for query, _ in asked))
        vectors = dict(zip(texts, await self._vectors(texts), strict=True))
        answers: list[Sequence[Hit] | Exception] = [()] * len(asked)
        groups: dict[_Search, list[tuple[int, Vectors]]] = {}
        for place, (query, search) in enumerate(asked):
            match vectors[query]:
                case Exception() as error:
                    answers[place] = error
                case vector:
                    groups.setdefault(search, []).append((place, vector))
        for search, group in groups.items():
            found = await self._hits([vector for _, vector in group], search)
            for (place, _), hits in zip(group, found, strict=True):
                answers[place] = hits
        return answers

    async def _vectors(self, texts: Sequence[str]) -> Sequence[Vectors | Exception]:
        embedder = self._embedder

        async def many(some: Sequence[str]) -> Sequence[Vectors]:
            assert isinstance(embedder, EmbedsQueries)
            return self._checked(await embedder.embed_queries(some), some)

        async def one(text: str) -> Vectors:
            return self._checked([await embedder.embed_query(text)], [text])[0]

        if isinstance(embedder, EmbedsQueries):
            return await _together(many, one, texts)
        return await _each(one, texts)

    def _checked(self, rows: object, texts: Sequence[str]) -> Sequence[Vectors]:
        embedder = self._embedder
        return list(
            unit_vectors(rows, texts, dimensions=embedder.dimensions, of=embedder.name)
        )

    async def _hits(
        self, vectors: Sequence[Vectors], search: _Search
    ) -> Sequence[Sequence[Hit] | Exception]:
        store, name = self._store, self.name

        async def one(vector: Vectors) -> Sequence[Hit]:
            return await store.search(vector, k=search.k, where=search.where, name=name)

        async def many(some: Sequence[Vectors]) -> Sequence[Sequence[Hit]]:
            assert isinstance(store, _SearchesMany)
            stacked = np.stack(some)
            return await store.search_many(
                stacked, k=search.k, where=search.where, name=name
            )

        if isinstance(store, _SearchesMany):
            return await _together(many, one, vectors)
        return await _each(one, vectors)


class FullTextRetriever:
    """Passages with the question's words, by BM25; words are stemmed (Porter)."""

    def __init__(self, store: VectorStore, *, name: str = "full text") -> None:
        self.name = name
        self._store = store

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        """The ``k`` passages with the best BM25.

        Raises:
            UsageError: The question is blank, or an argument cannot be meant.
        """
        check_question(query)
        check_k("k", k)
        return await self._store.search_text(query, k=k, where=where, name=self.name)


async def _together(
    many: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
    one: Callable[[T], Awaitable[R]],
    items: Sequence[T],
) -> Sequence[R | Exception]:
    """All in one call; if that fails each for itself, since one may be the reason."""
    if len(items) > 1:
        with suppress(Exception):  # the one to blame will say it again
            return list(await many(items))
    return await _each(one, items)


async def _each(
    one: Callable[[T], Awaitable[R]], items: Sequence[T]
) -> Sequence[R | Exception]:
    if len(items) == 1:  # as most often
        try:
            return [await one(items[0])]
        except Exception as error:
            return [error]
    outcomes = await amap(one, items, concurrency=_AT_ONCE, errors="return")
    return [
        outcome.error if isinstance(outcome.error, Exception) else outcome.result()
        for outcome in outcomes
    ]
