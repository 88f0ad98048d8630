"""How well passages match words: Okapi BM25 as SQLite's FTS5 has it.

Source: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009; the constants and the least weight of a word are those of FTS5's ``bm25()``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

K1: Final = 1.2
B: Final = 0.75
# Of a word that is in half of the passages or more.
LEAST_WEIGHT: Final = 1e-6


def weights(
    counts: NDArray[np.int32], lengths: NDArray[np.int32], *, passages: int, tokens: int
) -> NDArray[np.float64]:
    """What a word adds to the score of each passage it is in.

    Args:
        counts: How often the word is in each.
        lengths: Of each passage, in tokens.
        passages: How many there are altogether.
        tokens: How many tokens these have.
    """
    rarity = math.log((passages - len(counts) + 0.5) / (len(counts) + 0.5))
    relative = lengths * (passages / max(1, tokens))
    found: NDArray[np.float64] = (
        max(rarity, LEAST_WEIGHT)
        * (counts * (K1 + 1))
        / (counts + K1 * (1 - B + B * relative))
    )
    return found


def occurrences(
    instances: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The different numbers of an ascending series, and how often each occurs."""
    starts = np.flatnonzero(np.diff(instances, prepend=-1))
    counts = np.diff(starts, append=len(instances))
    return instances[starts], counts.astype(np.int32)


def sums_of_varints(encoded: bytes, *, each: int) -> NDArray[np.int32]:
    """The sum of every ``each`` numbers in SQLite's variable-length form.

    Each number is groups of seven bits, the highest first, all but the last marked by
    the eighth bit.
    """
    if not encoded:
        return np.zeros(0, np.int32)
    groups = np.frombuffer(encoded, np.uint8).astype(np.int64)
    ends = np.flatnonzero(groups < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    position = np.repeat(ends, ends - starts + 1) - np.arange(len(groups))
    values = (groups & 0x7F) << (7 * position)
    numbers = np.add.reduceat(values, starts)
    sums: NDArray[np.int32] = numbers.reshape(-1, each).sum(axis=1).astype(np.int32)
    return sums
