"""One ranking out of several: the rules.

Two ways to add up what retrievers say of a passage. :func:`min_max` adds scores, each
ranking stretched to the same range first; :func:`reciprocal_rank` adds places, and needs
no scores. Both are pure, and both give the same ranking for the same input: nothing hangs
on the order in which retrievers answered.

Why min-max is the default: docs/decisions/0021-fusion-of-scores.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import fsum, inf, isfinite, isnan
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)
L = TypeVar("L", bound=Hashable)

FusionRule: TypeAlias = Literal["min-max", "reciprocal-rank"]
"""How rankings are fused: by their scores, or by places alone."""

# Source: G. V. Cormack, C. L. A. Clarke, S. Buettcher, "Reciprocal Rank Fusion
# outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009.
RRF_K = 60


class Placed(NamedTuple, Generic[K, L]):
    """A passage in a fused ranking.

    Attributes:
        key: The passage's.
        score: Higher is better.
        ranks: Its place, from 1, in each ranking that has it.
    """

    key: K
    score: float
    ranks: dict[L, int]


def reciprocal_rank(
    rankings: Mapping[L, Sequence[K]],
    *,
    weights: Mapping[L, float] | None = None,
    k: int = RRF_K,
) -> list[Placed[K, L]]:
    """Every key of any ranking, by the sum of ``weight / (k + rank)``.

    Ranks count from 1. Scores of different retrievers are never compared, only places.

    Args:
        rankings: By retriever, keys from best to worst; a repeated key counts once, at
            its best place.
        weights: How much a retriever counts; 1 where it is not named.
        k: How little the first places stand out.

    Returns:
        Best first; ties by best rank, then in the order of the rankings.
    """
    shares = {
        name: {key: 1 / (k + rank) for key, rank in _ranks(ranking).items()}
        for name, ranking in rankings.items()
    }
    return _summed(rankings, shares, weights or {}, total=1.0)


def min_max(
    rankings: Mapping[L, Sequence[tuple[K, float]]],
    *,
    weights: Mapping[L, float] | None = None,
) -> list[Placed[K, L]]:
    """Every key of any ranking, by the weighted mean of its scores, each from 0 to 1.

    The best of a ranking has 1. What a ranking does not hold has 0 there, and is taken to
    lie as far below its last key as two neighbours lie apart on average: so what was found
    always counts for more than what was not, even the last of two. Only differences of
    scores within one ranking matter, not their scale; where all are equal, all have 1.

    Source of adding scores: S. Bruch, S. Gai, A. Ingber, "An Analysis of Fusion Functions
    for Hybrid Retrieval", TOIS 42(1), 2023.

    Args:
        rankings: By retriever, keys with their scores, best first; a repeated key counts
            once, at its best place. An infinite score has 1 or 0; NaN has 0.
        weights: How much a retriever counts; 1 where it is not named.

    Returns:
        Best first; ties by best rank, then in the order of the rankings. A score of 1
        means best in all rankings.
    """
    known = weights or {}
    shares: dict[L, dict[K, float]] = {}
    for name, ranking in rankings.items():
        scores: dict[K, float] = {}
        for key, score in ranking:
            scores.setdefault(key, score)
        shares[name] = dict(zip(scores, unit_scores(list(scores.values())), strict=True))
    keys = {name: [key for key, _ in ranking] for name, ranking in rankings.items()}
    total = fsum(known.get(name, 1.0) for name in rankings)
    return _summed(keys, shares, known, total=total or 1.0)


def unit_scores(scores: Sequence[float]) -> list[float]:
    """Each score between what was not found, 0, and the best, 1: see :func:`min_max`."""
    finite = [score for score in scores if isfinite(score)]
    # Of quarters, since the distance of the ends of a float's range overflows a float.
    best, last = max(finite, default=0.0) / 4, min(finite, default=0.0) / 4
    gap = (best - last) / max(len(finite) - 1, 1)
    width = best - last + gap

    def unit(score: float) -> float:
        if isnan(score) or score == -inf:
            return 0.0
        if score == inf or width == 0:
            return 1.0
        return min(1.0, (score / 4 - last + gap) / width)

    return [unit(score) for score in scores]


def _ranks(ranking: Sequence[K]) -> dict[K, int]:
    ranks: dict[K, int] = {}
    for rank, key in enumerate(ranking, start=1):
        ranks.setdefault(key, rank)
    return ranks


def _summed(
    rankings: Mapping[L, Sequence[K]],
    shares: Mapping[L, Mapping[K, float]],
    weights: Mapping[L, float],
    *,
    total: float,
) -> list[Placed[K, L]]:
    """Keys by the sum of their weighted shares, divided by ``total``."""
    ranks: dict[K, dict[L, int]] = {}
    for name, ranking in rankings.items():
        for key, rank in _ranks(ranking).items():
            ranks.setdefault(key, {})[name] = rank
    placed = [
        # fsum: the sum of the same shares is the same in whichever order they come.
        Placed(key, fsum(weights.get(n, 1.0) * shares[n][key] for n in by) / total, by)
        for key, by in ranks.items()
    ]
    return sorted(placed, key=lambda entry: (-entry.score, min(entry.ranks.values())))
