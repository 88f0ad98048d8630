"""Time that passes only when everybody waits: an hour of back-off in a millisecond."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")

EPOCH = 1_000_000_000.0
# Real seconds that a loop without timers waits for a thread or a socket before it is
# taken for a deadlock.
PATIENCE_S = 10.0


class Deadlock(RuntimeError):
    """Every task waits, no timer is set, and nothing has come from outside."""


class _Jump(selectors.DefaultSelector):
    """A selector that, instead of waiting, moves its clock to where it would wake."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(PATIENCE_S)
            if not ready:
                raise Deadlock(
                    "every task waits for something that does not come: no timer is set, "
                    f"and no thread or socket has answered for {PATIENCE_S:g} s"
                )
            return ready
        ready = super().select(0)
        if not ready:
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time starts at 0 and jumps to the next timer when all wait.

    Work in threads takes no virtual time: a timer may fire before a thread has answered.
    """

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def wall_time(self) -> float:
        """Seconds since the epoch, as :class:`VirtualClock` has them by default."""
        return EPOCH + self._jump.now

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  # the signature is asyncio's
    ) -> None:
        # Threads end in real time: a virtual limit would have passed at once.
        await super().shutdown_default_executor()


class VirtualClock:
    """A Clock that shows the time of the running :class:`VirtualLoop`.

    Args:
        epoch: What ``now()`` is when the loop starts.
    """

    def __init__(self, epoch: float = EPOCH) -> None:
        self._epoch = epoch

    def now(self) -> float:
        return self._epoch + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


def run_virtual(main: Coroutine[Any, Any, R]) -> R:
    """``asyncio.run`` on a :class:`VirtualLoop`.

    Raises:
        Deadlock: ``main`` cannot end.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
