"""Passages that have the very words: names, numbers of articles, phrases."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from anabranch.errors import UsageError
from anabranch.rag.asking import check_k, check_question
from anabranch.rag.retrievers.words import Keywords, Match
from anabranch.rag.stores import VectorStore
from anabranch.rag.types import Hit, Where


class KeywordRetriever:
    """Passages by how many of the question's keywords they have, exactly as written.

    Words are not stemmed, and upper and lower case are the same. ``"A phrase"`` must occur
    word by word, ``+this`` must and ``-that`` must not; of other words one must occur, or
    each with ``match="all"``. Of passages with equally many keywords, the one with the
    better BM25 comes first. A passage's title counts as part of it.

    The store's full text gives the candidates, and each is looked at: nothing is found that
    lacks a keyword, but a phrase of words so common that ``candidates`` passages have a
    better BM25 may be missed.

    Args:
        store: Whose full text is searched.
        match: ``"any"`` or ``"all"``.
        candidates: How many passages are looked at.

    Raises:
        UsageError: An argument cannot be meant.
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        match: Match = "any",
        candidates: int = 500,
        name: str = "keyword",
    ) -> None:
        if match not in ("any", "all"):
            raise UsageError(f"match must be 'any' or 'all', not {match!r}")
        check_k("candidates", candidates)
        self.name = name
        self._store = store
        self._match: Match = match
        self._candidates = candidates

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        """The ``k`` passages with the most keywords.

        Raises:
            UsageError: The question is blank, or an argument cannot be meant.
        """
        check_question(query)
        check_k("k", k)
        keywords = Keywords.of(query, match=self._match)
        if not keywords.wanted:
            return []
        words = " ".join(" ".join(phrase) for phrase in keywords.wanted)
        found = await self._store.search_text(
            words, k=max(k, self._candidates), where=where, name=self.name
        )
        # Hundreds of texts are taken apart, which takes longer than a loop may wait.
        return await asyncio.to_thread(self._best, keywords, found, k)

    def _best(self, keywords: Keywords, found: Sequence[Hit], k: int) -> Sequence[Hit]:
        counted = [(keywords.count(_whole(hit)), hit) for hit in found]
        best = sorted(
            ((count, hit) for count, hit in counted if count),
            key=lambda pair: -pair[0],  # the sort is stable: BM25 decides among equals
        )
        return [
            replace(hit, score=count + _below_one(hit.score), ranks={self.name: rank})
            for rank, (count, hit) in enumerate(best[:k], start=1)
        ]


def _whole(hit: Hit) -> str:
    title = hit.metadata.get("title")
    return f"{title}\n{hit.text}" if title else hit.text


def _below_one(score: float) -> float:
    """The same order, from 0 to 1: it never outweighs a keyword."""
    return 0.5 + math.atan(score) / math.pi
