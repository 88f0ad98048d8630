"""Says what is waiting, and where, when nothing finishes any more.

It costs the jobs nothing: a timer looks now and then whether any job has finished, and
only if none has reads the workers' suspended frames. So a job's age is known to within
the time between two looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from anabranch.jobs.frames import place_of
from anabranch.jobs.limits.gate import Gate
from anabranch.jobs.notes import shown
from anabranch.observe import Observer

InHand: TypeAlias = tuple[int, Any, asyncio.Task[Any]]
"""A job in flight: its index, its item, and the task that runs it."""

logger = logging.getLogger("anabranch")

LOOKS_A_STALL = 4
MOST_NAMED = 10


class Watchdog:
    """Reports when of the jobs in flight none has finished for ``after`` seconds.

    To the observer's ``stalled`` and to the log, once a stall.

    Args:
        in_hand: Gives the jobs in flight.
        after: Seconds.
        observer: Told beside the log.
        gate: What the jobs wait at.
    """

    def __init__(
        self,
        in_hand: Callable[[], Iterable[InHand]],
        after: float,
        observer: Observer | None,
        gate: Gate | None,
    ) -> None:
        self._in_hand = in_hand
        self._after = after
        self._observer = observer
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._since: dict[int, float] = {}
        self._moved_at = self._loop.time()
        self._has_told = False
        self._timer = self._set()

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _set(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._after / LOOKS_A_STALL, self._look)

    def _look(self) -> None:
        self._timer = self._set()
        now = self._loop.time()
        in_flight = {job[0]: job for job in self._in_hand()}
        if any(index not in in_flight for index in self._since) or not in_flight:
            self._moved_at = now
            self._has_told = False
        self._since = {index: self._since.get(index, now) for index in in_flight}
        if self._has_told or now - self._moved_at < self._after:
            return
        self._has_told = True
        message = self._message(now, list(in_flight.values()))
        logger.warning("%s", message)
        if self._observer is not None:
            self._observer.stalled(message)

    def _message(self, now: float, jobs: list[InHand]) -> str:
        jobs.sort(key=lambda job: (self._since[job[0]], job[0]))
        lines = [
            f"  job {index}, given {shown(item)}, for at least "
            f"{now - self._since[index]:.1f} s: {place_of(task)}"
            for index, item, task in jobs[:MOST_NAMED]
        ]
        if len(jobs) > MOST_NAMED:
            lines.append(f"  and {len(jobs) - MOST_NAMED} more")
        head = f"nothing has finished for {now - self._moved_at:.1f} s; waiting are"
        if (gate := self._gate) is not None and gate.waiting and gate.in_use >= gate.limit:
            lines.append(
                f"  all {gate.limit} places of the pool are kept while {gate.waiting} "
                "wait for one: if the jobs that keep them wait for others of the same "
                "pool, none can go on. Use a second pool for the inner work"
            )
        return "\n".join([head, *lines])
