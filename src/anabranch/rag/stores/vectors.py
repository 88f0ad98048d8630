"""Vectors in memory, and which of them are nearest: arithmetic alone.

BLAS shares a large product among threads of its own, which wait for each other by
spinning. Beside other work that costs many times what it saves: on two busy cores one
query over 65,536 vectors of 384 took 38 ms of processor time as one product and 10 ms in
slices so small that each is calculated in the thread that asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.types import Vectors

BLOCK_ROWS: Final = 4096
# Multiplications of one product. OpenBLAS uses one thread up to 2 ** 18 for matrices.
_SLICE: Final = 1 << 18
# Queries of one product: with more, the scores of a slice leave the cache.
_QUERIES: Final = 16


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors that can be added to, but never change; a row's number is its *place*.

    What is added shares the memory of what there was: of several extensions of the same
    rows only the last may be used.

    Attributes:
        blocks: Each of shape ``(BLOCK_ROWS, dimensions)``, the last filled in part.
    """

    dimensions: int
    size: int = 0
    blocks: tuple[Vectors, ...] = ()

    def __len__(self) -> int:
        return self.size

    def extended(self, vectors: Vectors) -> Rows:
        """These rows with more behind them."""
        blocks = list(self.blocks)
        size = self.size
        while len(vectors):
            start = size % BLOCK_ROWS
            if start == 0:
                blocks.append(np.empty((BLOCK_ROWS, self.dimensions), np.float32))
            some, vectors = np.split(vectors, [BLOCK_ROWS - start])
            blocks[size // BLOCK_ROWS][start : start + len(some)] = some
            size += len(some)
        return Rows(self.dimensions, size, tuple(blocks))

    def take(self, places: NDArray[np.intp]) -> Vectors:
        """A copy of the rows at these places, in their order."""
        taken = np.empty((len(places), self.dimensions), np.float32)
        numbers = places // BLOCK_ROWS
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            taken[here] = self.blocks[number][places[here] % BLOCK_ROWS]
        return taken

    def products(
        self, queries: Vectors, *, start: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        """The inner products of each query with every row from a place on, in turn."""
        for number in range(0, len(queries), _QUERIES):
            some = np.ascontiguousarray(queries[number : number + _QUERIES].T)
            found = np.empty((self.size - start, some.shape[1]), np.float32)
            done = 0
            for part in self._slices(start, max(1, _SLICE // max(1, some.size))):
                np.dot(part, some, out=found[done : done + len(part)])
                done += len(part)
            yield from np.ascontiguousarray(found.T)

    def _slices(self, start: int, rows: int) -> Iterator[Vectors]:
        while start < self.size:
            number, first = divmod(start, BLOCK_ROWS)
            end = min(start + rows, (number + 1) * BLOCK_ROWS, self.size)
            yield self.blocks[number][first : first + end - start]
            start = end


def products(rows: Vectors, query: Vectors) -> NDArray[np.float32]:
    """The inner product of each row with the query, whichever other rows are there.

    BLAS adds in an order that depends on the shape of the whole, so the same two vectors
    may have products that differ in the last digits. Here they do not.
    """
    found: NDArray[np.float32] = np.einsum("ij,j->i", rows, query)
    return found


def perhaps_largest(
    scores: NDArray[np.floating], k: int, *, margin: float
) -> NDArray[np.intp]:
    """Where the ``k`` largest are, if each score is off by up to half of ``margin``."""
    if k >= len(scores):
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -k)[-k] - margin)


def largest(
    scores: NDArray[np.floating], k: int, keys: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Where the ``k`` largest are, best first, ties by key."""
    few = np.arange(len(scores))
    if k < len(scores):
        few = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return few[np.lexsort((keys[few], -scores[few]))[:k]]
