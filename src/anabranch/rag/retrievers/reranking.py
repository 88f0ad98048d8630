"""A second look at what was found, by something slower that reads question and passage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Protocol

from anabranch.errors import RerankError
from anabranch.rag.types import Hit


class Reranker(Protocol):
    """Says how well texts answer a question.

    Attributes:
        name: Shown with its failure; none of a retriever's.
    """

    name: str

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """How well each text answers, in their order; higher is better."""
        ...


def reranked(hits: Sequence[Hit], scores: Sequence[float], *, name: str) -> Sequence[Hit]:
    """The hits by these scores, ties in their old order.

    Raises:
        RerankError: There are more or fewer scores than hits, or one is no finite number.
    """
    if len(scores) != len(hits):
        raise RerankError(
            f"{name}: asked about {len(hits)} texts, it gave {len(scores)} scores"
        )
    pairs = sorted(
        ((_finite(score, name), hit) for score, hit in zip(scores, hits, strict=True)),
        key=lambda pair: -pair[0],
    )
    return [replace(hit, score=score) for score, hit in pairs]


def _finite(score: object, name: str) -> float:
    try:
        if isinstance(score, Real) and math.isfinite(number := float(score)):
            return number
    except OverflowError:
        pass
    raise RerankError(f"{name}: a score must be a finite number, not {score!r}")
