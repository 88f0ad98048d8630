"""Time, as a collaborator: pass another clock and an hour takes a millisecond."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "RealClock", "stopwatch", "wall_time"]


class Clock(Protocol):
    """What a driver may know of time. Hearts know none: they are told."""

    def now(self) -> float:
        """Seconds since the Unix epoch: it survives restarts, and may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment: it never goes back, and means nothing elsewhere."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return ``seconds`` later; after one turn of the loop for 0 or less."""
        ...


def stopwatch() -> Callable[[], float]:
    """The time of the running loop, in seconds, as fine as it can be had.

    uvloop's counts whole milliseconds, and stands still during a turn of the loop. Both are
    the machine's monotonic clock.
    """
    loop = asyncio.get_running_loop()
    return time.monotonic if type(loop).__module__ == "uvloop" else loop.time


def wall_time() -> float:
    """Seconds since the epoch, as the running loop has them.

    They are the machine's, unless the loop's own time is another, as in tests.
    """
    own = getattr(asyncio.get_running_loop(), "wall_time", time.time)
    return float(own())


class RealClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
