"""One rate limit for many calls: a queue, and one timer for its head."""

from __future__ import annotations

import asyncio
from collections import deque
from threading import Lock

from anabranch.errors import UsageError
from anabranch.jobs.limits.rate import Allowance, RateLimit

# What a clock cannot tell from now.
INSTANT_S = 1e-6


class _Waiter:
    __slots__ = ("admitted", "future", "loop", "tokens")

    def __init__(self, loop: asyncio.AbstractEventLoop, tokens: float) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()
        self.tokens = tokens
        self.admitted = False


class Limiter:
    """Keeps a :class:`RateLimit` across calls, tasks, threads and event loops.

    First come, first served: a small request waits behind a large one that came before.
    A loop has one timer, for the head of the queue, so an admission costs one timer and one
    wake-up, however many wait. Pass one limiter as ``rate=`` to every call that uses the
    same service, or call :meth:`acquire` yourself.

    Args:
        rate: What is allowed.
    """

    def __init__(self, rate: RateLimit) -> None:
        self.rate = rate
        self._allowance = Allowance(rate)
        self._queue: deque[_Waiter] = deque()
        self._lock = Lock()
        self._timers: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    async def acquire(self, tokens: float = 0) -> float:
        """Return when a request that costs so many tokens may start.

        Returns:
            The seconds it waited.
        """
        if not 0 <= tokens < float("inf"):
            raise UsageError(
                f"tokens must be a finite number of at least 0, not {tokens!r}"
            )
        loop = asyncio.get_running_loop()
        began = loop.time()
        with self._lock:
            if self._head() is None and self._allowance.wait_s(began, tokens) <= INSTANT_S:
                self._allowance.take(began, tokens)
                return 0.0
            waiter = _Waiter(loop, tokens)
            self._queue.append(waiter)
            if loop not in self._timers:
                self._set_timer(loop)
        try:
            await waiter.future
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        return loop.time() - began

    def reconcile(self, estimated: float, used: float) -> None:
        """Correct a request's cost in tokens when the true one is known.

        What was reserved and not used comes back; what was used on top is owed.
        """
        with self._lock:
            self._allowance.give_back(tokens=estimated - used)
            self._reset_timers()

    def _abandon(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.admitted:
                # Admitted and cancelled in the same turn: nobody uses the admission.
                self._allowance.give_back(requests=1, tokens=waiter.tokens)
                self._reset_timers()
            elif self._queue and self._queue[0] is waiter:
                self._queue.popleft()
                self._reset_timers()
            # Elsewhere in the queue it is passed over when its turn comes.

    def _admit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by a loop's timer, for whoever is the head: its own loop may be busy."""
        with self._lock:
            self._timers.pop(loop, None)
            now = loop.time()
            while (head := self._head()) is not None:
                if self._allowance.wait_s(now, head.tokens) > INSTANT_S:
                    break
                self._queue.popleft()
                if head.future.done():
                    continue
                self._allowance.take(now, head.tokens)
                head.admitted = True
                if head.loop is loop:
                    head.future.set_result(None)
                else:
                    head.loop.call_soon_threadsafe(_wake, head.future)
            self._set_timer(loop)

    def _head(self) -> _Waiter | None:
        """Who is next, brought to the front: those of loops that stand still are not."""
        for _ in range(len(self._queue)):
            head = self._queue[0]
            if head.loop.is_running():
                return head
            self._queue.popleft()
            if not head.loop.is_closed():
                self._queue.append(head)
        return None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """On ``loop``, which has a timer for the head as long as any waiter is its own."""
        head = self._head()
        if head is None or all(waiter.loop is not loop for waiter in self._queue):
            return
        wait_s = self._allowance.wait_s(loop.time(), head.tokens)
        self._timers[loop] = loop.call_later(wait_s, self._admit, loop)

    def _reset_timers(self) -> None:
        """The head's turn may be sooner than it was. Loops share the machine's clock."""
        here = _running_loop()
        for loop in list(self._timers):
            if loop is here:
                if (timer := self._timers.pop(loop, None)) is not None:
                    timer.cancel()
                self._set_timer(loop)
            elif loop.is_closed():
                del self._timers[loop]
            else:
                # Only its own thread may touch a timer; one that rings early does no harm.
                loop.call_soon_threadsafe(self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            timer = self._timers.pop(loop, None)
        if timer is not None:
            timer.cancel()
        self._admit(loop)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
