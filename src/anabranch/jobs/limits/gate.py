"""A limit on what is in flight that can be changed and paused while it is in use."""

from __future__ import annotations

import asyncio

from anabranch.jobs.limits.queue import AgeingQueue

_Waiter = asyncio.Future[None]


class Gate:
    """Lets ``limit`` through at a time, by priority and age. Of one event loop.

    Attributes:
        in_use: How many have been let through and are not back.
        waiting: How many wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: AgeingQueue[_Waiter] = AgeingQueue()
        self._paused_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self.in_use = 0
        self.waiting = 0

    @property
    def limit(self) -> int:
        """How many at a time. Lowering it stops nobody; the next ones wait longer."""
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._limit = value
        self._let_in()

    @property
    def is_paused(self) -> bool:
        """Whether :meth:`pause` is in force."""
        return self._timer is not None

    async def acquire(self, priority: float = 0.0) -> None:
        """Return when there is room; ``release()`` has to follow."""
        if self.in_use < self._limit and not self._queue and self._timer is None:
            self.in_use += 1
            return
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._queue.push(waiter, priority)
        self.waiting += 1
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # let in and cancelled in the same turn
            raise
        finally:
            self.waiting -= 1

    def release(self) -> None:
        """Make room for the next."""
        self.in_use -= 1
        self._let_in()

    def pause(self, until: float) -> None:
        """Let nobody in before ``until``, in the running loop's time."""
        if until <= self._paused_until:
            return
        loop = asyncio.get_running_loop()
        self._paused_until = until
        if until <= loop.time():
            return
        self.close()
        self._timer = loop.call_at(until, self._resume)

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _resume(self) -> None:
        self._timer = None
        self._let_in()

    def _let_in(self) -> None:
        while self._queue and self.in_use < self._limit and self._timer is None:
            waiter = self._queue.pop()
            if not waiter.done():
                self.in_use += 1
                waiter.set_result(None)
