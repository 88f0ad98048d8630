"""Zygotes and their children: who is ready, who waits, and who starts the next.

What must hold: a child is given to one run only. Each place in the queue is served in the
order of arrival, and leaving it (cancellation) neither loses a child nor holds the others
up. A zygote that has died is replaced when somebody needs it.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from anabranch.errors import IsolateDied, SandboxError
from anabranch.sandbox.confine import Found
from anabranch.sandbox.isolate.keeper import Keeper, Plan
from anabranch.sandbox.isolate.peer import Peer
from anabranch.sandbox.limits import Limits

_CLOSED: Final = "the sandbox was closed before the code ran"
_TRIES: Final = 3  # how often in a row a child may fail to start before it is an error


class Pool:
    """Gives each run a child of its own. Of one event loop.

    Args:
        plan: What the zygotes are to be.
        limits: Those of the children that are kept ready.
        standby: How many children each zygote keeps ready.
        zygotes: How many there are.
    """

    def __init__(self, plan: Plan, limits: Limits, *, standby: int, zygotes: int) -> None:
        self._plan = plan
        self._limits = limits
        self._standby = standby
        self._zygotes = zygotes
        self._keepers: list[Keeper] = []
        self._idle: deque[Peer] = deque()
        self._coming = 0
        self._waiting: deque[asyncio.Future[Peer]] = deque()
        self._starting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.gate = asyncio.Semaphore(standby * zygotes)

    @property
    def found(self) -> Found | None:
        """What confines the children; None before a zygote has been ready."""
        return next((keeper.found for keeper in self._keepers if keeper.found), None)

    async def start(self) -> None:
        """Return when every zygote is ready.

        Raises:
            SandboxError: As :meth:`Keeper.start` says; or the pool is closed.
        """
        if self._closed:
            raise SandboxError("the sandbox is closed: make another, or close it later")
        if sum(keeper.alive for keeper in self._keepers) == self._zygotes:
            return
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start(), name="anabranch-zygotes")
            self._starting.add_done_callback(_looked_at)
        try:
            await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if self._closed and not (me and me.cancelling()):
                raise SandboxError(_CLOSED) from None  # the start was cancelled, not we
            raise

    @asynccontextmanager
    async def child(self, limits: Limits) -> AsyncGenerator[Peer]:
        """A child nobody has used, with these limits. It is killed at the end.

        Raises:
            SandboxError: As :meth:`start` says; or no child can live within the limits.
        """
        peer = await (self._take() if limits == self._limits else self._made(limits))
        try:
            yield peer
        finally:
            peer.kill()
            self._refill()

    async def close(self) -> None:
        """End every process, and fail whoever waits."""
        self._closed = True
        tasks = [*self._tasks, *([self._starting] if self._starting else [])]
        for task in tasks:
            task.cancel()
        for place in self._waiting:
            _fail(place, SandboxError(_CLOSED))
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(keeper.close() for keeper in self._keepers))
        self._keepers.clear()
        self._idle.clear()

    def abandon(self) -> None:
        """End every process where the loop is closed. Blocks until they are gone."""
        self._closed = True
        for keeper in self._keepers:
            keeper.abandon()

    async def _start(self) -> None:
        missing = self._zygotes - len(self._keepers)
        ends = await asyncio.gather(
            *(self._start_one() for _ in range(missing)), return_exceptions=True
        )
        for end in ends:
            if end is not None:
                raise end
        self._refill()

    async def _start_one(self) -> None:
        keeper = Keeper(self._plan, self._lost)
        await keeper.start()
        self._keepers.append(keeper)

    def _lost(self, keeper: Keeper) -> None:
        if keeper in self._keepers:
            self._keepers.remove(keeper)

    async def _take(self) -> Peer:
        error: Exception | None = None
        for _ in range(_TRIES):
            await self.start()
            if not self._waiting and (peer := self._idle_one()):
                return peer
            try:
                return await self._wait(first=error is not None)
            except IsolateDied as died:
                error = died
        assert error
        raise error

    def _idle_one(self) -> Peer | None:
        while self._idle:
            peer = self._idle.popleft()
            if peer.is_alive():
                if not self._idle:
                    self._refill()
                return peer
            peer.kill()
        return None

    async def _wait(self, *, first: bool) -> Peer:
        """The next child that gets ready, when all who came before have theirs."""
        place: asyncio.Future[Peer] = self.loop.create_future()
        if first:
            self._waiting.appendleft(place)
        else:
            self._waiting.append(place)
        self._refill()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and not place.exception():
                self._hand_on(place.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(place)

    async def _made(self, limits: Limits) -> Peer:
        """A child with limits of its own, which nobody else would want."""
        await self.start()
        return await self._least_busy().fork(limits)

    def _refill(self) -> None:
        """Order as many children as are missing."""
        if self._closed or not any(keeper.alive for keeper in self._keepers):
            return
        wanted = max(self._standby * len(self._keepers), len(self._waiting))
        for _ in range(wanted - len(self._idle) - self._coming):
            self._coming += 1
            task = asyncio.create_task(self._add(self._least_busy()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _add(self, keeper: Keeper) -> None:
        try:
            peer = await keeper.fork(self._limits)
        except SandboxError as error:
            # Nobody waits: then whoever comes next tries again, and is told.
            if self._waiting:
                _fail(self._waiting.popleft(), error)
        else:
            self._hand_on(peer)
        finally:
            self._coming -= 1

    def _hand_on(self, peer: Peer) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(peer)
                return
        self._idle.append(peer)

    def _least_busy(self) -> Keeper:
        alive = [keeper for keeper in self._keepers if keeper.alive]
        if not alive:
            raise IsolateDied("the zygote ended while the code waited for it: try again")
        return min(alive, key=lambda keeper: keeper.load)


def _fail(place: asyncio.Future[Peer], error: Exception) -> None:
    if not place.done():
        place.set_exception(error)
        place.exception()  # who waited may have been cancelled


def _looked_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # everybody who waited may have been cancelled
