"""Runs in memory by when they are due: finding one costs the logarithm of their number.

Entries are never removed when a run changes; a new one is added, and the old one is seen
to be stale when its turn comes.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Protocol


class Due(Protocol):
    """What can be due.

    Attributes:
        serial: Its own number, in the order of creation.
        due_at: When it wants to be driven; ``None`` if not.
        leased_until: Until when somebody is at it.
    """

    serial: int
    due_at: float | None
    leased_until: float


class DueQueue:
    """The runs of one workflow."""

    def __init__(self) -> None:
        self._later: list[tuple[float, int, Due]] = []  # by when they can be claimed
        self._ready: list[tuple[float, int, Due]] = []  # by when they were due

    def push(self, run: Due) -> None:
        """Note when a run is due, whenever that has changed."""
        ready_at = _ready_at(run)
        if ready_at is not None:
            heappush(self._later, (ready_at, run.serial, run))

    def first(self, now: float) -> Due | None:
        """The run that is due the longest; its next :meth:`push` takes it off the front."""
        while self._later and self._later[0][0] <= now:
            ready_at, serial, run = heappop(self._later)
            if run.due_at is not None and _ready_at(run) == ready_at:
                heappush(self._ready, (run.due_at, serial, run))
        while self._ready:
            due_at, _, run = self._ready[0]
            if run.due_at == due_at and max(due_at, run.leased_until) <= now:
                return run
            heappop(self._ready)
            # It is leased; or the clock was set back.
            self.push(run)
        return None

    def next_at(self, now: float) -> float | None:
        """When :meth:`first` may find something, at the earliest."""
        if self.first(now) is not None:
            return now
        while self._later:
            ready_at, _, run = self._later[0]
            if _ready_at(run) == ready_at:
                return ready_at
            heappop(self._later)
        return None


def _ready_at(run: Due) -> float | None:
    return None if run.due_at is None else max(run.due_at, run.leased_until)
