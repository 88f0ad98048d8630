"""Says what is waiting, and where, when nothing finishes any more.

It costs the jobs nothing: a timer looks now and then whether any job has finished, and
only if none has reads the workers' suspended frames. So a job's age is known to within
the time between two looks.
"""

from __future__ import annotations

import asyncio
import logging
import reprlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from anabranch.jobs.crew import JOBS_HERE, Crew
from anabranch.jobs.limits.gate import Gate
from anabranch.observe import Observer

logger = logging.getLogger("anabranch")

LOOKS_A_STALL = 4
MOST_NAMED = 10
UNINTERESTING = (Path(asyncio.__file__).parent, Path(__file__).parent)


class Watchdog:
    """Reports a crew of whose jobs none has finished for ``after`` seconds.

    To the observer's ``stalled`` and to the log, once a stall.

    Args:
        crew: Whom to watch.
        after: Seconds.
        observer: Told beside the log.
        gate: What the jobs wait at.
    """

    def __init__(
        self, crew: Crew, after: float, observer: Observer | None, gate: Gate | None
    ) -> None:
        self._gate = gate
        self._crew = crew
        self._after = after
        self._observer = observer
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
        in_flight = {job[0]: job for job in map(in_hand, self._crew.workers) if job}
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

    def _message(self, now: float, jobs: list[tuple[int, Any, str]]) -> str:
        jobs.sort(key=lambda job: self._since[job[0]])
        lines = [
            f"  job {index}, given {reprlib.repr(item)}, for at least "
            f"{now - self._since[index]:.1f} s: {place}"
            for index, item, place in jobs[:MOST_NAMED]
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


def in_hand(worker: asyncio.Task[None]) -> tuple[int, Any, str] | None:
    """The index and item of the job that a worker has, and where it is suspended."""
    found: tuple[int, Any] | None = None
    place = "it waits for its turn"
    for frame in _frames(worker):
        if frame.f_code is JOBS_HERE:
            held = frame.f_locals
            if "item" in held:
                found = held["index"], held["item"]
        where = Path(frame.f_code.co_filename)
        # Where asyncio or this library waits is no news; who made it wait is.
        if not any(where.is_relative_to(home) for home in UNINTERESTING):
            place = f"{frame.f_code.co_qualname} ({where}:{frame.f_lineno})"
    return None if found is None else (*found, place)


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of a suspended task, from the outside in.

    If it waits for another task, that one's follow.
    """
    seen: set[int] = set()
    waiting_for: Any = task
    while hasattr(waiting_for, "get_coro") and id(waiting_for) not in seen:
        seen.add(id(waiting_for))
        awaited = waiting_for.get_coro()
        while (frame := _frame(awaited)) is not None:
            yield frame
            awaited = _inner(awaited)
        waiting_for = getattr(waiting_for, "_fut_waiter", None)


def _frame(awaited: Any) -> FrameType | None:
    for name in ("cr_frame", "ag_frame", "gi_frame"):
        frame = getattr(awaited, name, None)
        if isinstance(frame, FrameType):
            return frame
    return None


def _inner(awaited: Any) -> Any:
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if hasattr(awaited, name):
            return getattr(awaited, name)
    return None
