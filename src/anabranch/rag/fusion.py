"""One ranking out of several."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

# Source: G. V. Cormack, C. L. A. Clarke, S. Buettcher, "Reciprocal Rank Fusion
# outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009.
RRF_K = 60


def reciprocal_rank(
    rankings: Mapping[str, Sequence[K]], *, k: int = RRF_K
) -> list[tuple[K, float, dict[str, int]]]:
    """Every key of any ranking, by the sum of ``1 / (k + rank)``.

    Ranks count from 1. Scores of different retrievers are never compared, only places.

    Args:
        rankings: By retriever, keys from best to worst; a repeated key counts once, at
            its best place.
        k: How little the first places stand out.

    Returns:
        ``(key, score, rank by retriever)``, best first; ties by best rank, then in the
        order of the rankings.
    """
    ranks: dict[K, dict[str, int]] = {}
    for name, ranking in rankings.items():
        for rank, key in enumerate(ranking, start=1):
            ranks.setdefault(key, {}).setdefault(name, rank)
    scored = [
        (key, sum(1 / (k + rank) for rank in by.values()), by) for key, by in ranks.items()
    ]
    return sorted(scored, key=lambda entry: (-entry[1], min(entry[2].values())))
