"""Work in turns of a thread, and the time that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Generic, Self, TypeVar

from anabranch.rag.pipeline.parts import Chunks, Documents, weight

T = TypeVar("T")
P = TypeVar("P", bound="Documents | Chunks")

# Chunks cut in one turn of the splitting thread: of a large source no more are in memory.
CUT_AT_ONCE = 256


class Clocked(Generic[T]):
    """An iterator that counts the seconds it takes."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._work_s = 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        began = perf_counter()
        try:
            return next(self._items)
        finally:
            self._work_s += perf_counter() - began

    def lap(self) -> float:
        """Those since the last lap."""
        work_s, self._work_s = self._work_s, 0.0
        return work_s


def next_parts(parts: Iterator[P]) -> Sequence[P]:
    """As many parts as one turn of a thread is worth; none at the end."""
    some: list[P] = []
    heavy = 0
    for part in parts:
        some.append(part)
        heavy += weight(part)
        if heavy >= CUT_AT_ONCE:
            break
    return some
