"""A retriever of ours around one of theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from anabranch.errors import AnabranchError, RetrievalError
from anabranch.rag.adapters.records import scores
from anabranch.rag.asking import check_k, check_question
from anabranch.rag.filters import Filter, as_filter, matches
from anabranch.rag.types import Hit, Where

Found: TypeAlias = Sequence[tuple[Hit, float | None]]
"""Hits of theirs, best first, with the scores that they gave."""


@dataclass(slots=True)
class AdaptedRetriever:
    """A :class:`~anabranch.rag.Retriever` that asks one of another library.

    Theirs decides the order; a score is theirs if it falls from hit to hit, and else one
    divided by the rank. What a filter does not mean is left out, whatever they answer.

    Attributes:
        name: Unique among the retrievers that are fused; shown with each hit.
    """

    name: str
    _ask: Callable[[str, int, Filter | None], Awaitable[Found]]

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        """At most ``k`` passages, best first.

        Raises:
            RetrievalError: Theirs failed.
            UsageError: The question is blank, or an argument cannot be meant or said in
                theirs.
        """
        check_question(query)
        check_k("k", k)
        chosen = None if where is None else as_filter(where)
        try:
            found = await self._ask(query, k, chosen)
        except AnabranchError:
            raise
        except Exception as error:
            raise RetrievalError({self.name: error}) from error
        meant = [
            (hit, score)
            for hit, score in found
            if chosen is None or matches(chosen, hit.metadata)
        ][:k]
        given = scores([score for _, score in meant])
        return [
            replace(hit, score=score, ranks={self.name: rank})
            for rank, ((hit, _), score) in enumerate(
                zip(meant, given, strict=True), start=1
            )
        ]
