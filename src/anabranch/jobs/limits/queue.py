"""Who is next: the higher priority, but nobody is overtaken for ever.

Whoever comes draws a number, and a priority moves it forward by a fixed stretch for each
unit. Numbers only rise, so waiting is as good as priority in the end: someone of priority
0 is overtaken by at most ``HEAD_START * p`` who came later with priority ``p``. Nothing
has to be sorted anew as time passes.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

HEAD_START = 100.0


class AgeingQueue(Generic[T]):
    """A queue by priority and age; first come, first served among equals."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._arrived = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, entry: T, priority: float = 0.0) -> None:
        """Let someone in."""
        number = self._arrived
        self._arrived += 1
        heappush(self._heap, (number - HEAD_START * priority, number, entry))

    def pop(self) -> T:
        """Take out the next."""
        return heappop(self._heap)[2]
