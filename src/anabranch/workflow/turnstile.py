"""Waiting for one's turn in a queue, and keeping one's place in it.

Of those who wait on one event loop only the first asks the store, and it asks at once when
another one of them leaves. So the store is asked as often as there are processes, not as
there are executions, and within a process nobody waits for a clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from anabranch.clock import stopwatch
from anabranch.errors import JournalError, WorkflowRuntimeError
from anabranch.workflow.queues import Queue
from anabranch.workflow.stores.gates import Gates, HasGates, MemoryGates
from anabranch.workflow.stores.protocol import Store

if TYPE_CHECKING:
    from anabranch.workflow.activity import Activity

logger = logging.getLogger("anabranch.workflow")

_serial = count()


class Turn:
    """One execution's turn in a queue, which it may take and give back several times.

    Args:
        activity: The execution at work.
        queue: The queue.
        waits: Is called when it has to wait.
        begins: Is called when it has waited and may begin.
    """

    def __init__(
        self,
        activity: Activity,
        queue: Queue,
        *,
        waits: Callable[[], None],
        begins: Callable[[], None],
    ) -> None:
        run, execution = activity.run, activity.execution
        self._store = run.engine.settings.store
        self._queue = queue
        # The same for whoever takes the run over, so that it finds its place still taken.
        self._holder = f"{run.id}:{execution.id}:{execution.attempt}"
        if self._store is None:
            self._holder += f":{next(_serial)}"  # runs in memory may have one name
        self._waits = waits
        self._begins = begins
        self._line: Line | None = None
        self._taking = asyncio.Lock()  # a body may have several tasks

    async def take(self) -> None:
        """Return when it is inside.

        Raises:
            WorkflowRuntimeError: The run's store keeps no queues.
            JournalError: The store cannot be read or written.
        """
        async with self._taking:
            if self._line is not None:
                return
            line = _line(self._store, self._queue)
            has_waited = await line.enter(self._holder, self._waits)
            self._line = line
        if has_waited:
            self._begins()

    async def give_back(self) -> None:
        """Let others in."""
        line, self._line = self._line, None
        if line is not None:
            await line.leave(self._holder)


class Line:
    """Those of one event loop who are in one queue, and those who wait for it."""

    def __init__(self, key: _Key, gates: Gates, queue: Queue) -> None:
        self._key = key
        self._gates = gates
        self._queue = queue
        self._is_held = queue.concurrency is not None
        self._has_leases = not isinstance(gates, MemoryGates) or gates.has_leases
        self._first = asyncio.Lock()  # first come, first served
        self._bell = asyncio.Event()
        self._waiting = 0
        self._inside: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None

    async def enter(self, holder: str, waits: Callable[[], None]) -> bool:
        """Return when the holder is inside; whether it had to wait."""
        has_waited = self._waiting > 0
        if has_waited:
            waits()
        self._waiting += 1
        try:
            async with self._first:
                while delay_s := await self._ask(holder):
                    if not has_waited:
                        has_waited = True
                        waits()
                    await self._pause(holder, delay_s)
        finally:
            self._waiting -= 1
            self._end_if_unused()
        return has_waited

    async def _ask(self, holder: str) -> float:
        """0 if it is inside; else for how long to wait."""
        self._bell.clear()  # before: who leaves while we ask is not overlooked
        try:
            delay_s = await self._gates.enter(self._queue, holder)
        except BaseException:
            await self._give_up(holder)  # it may be inside
            raise
        if not delay_s and self._is_held:
            self._inside.add(holder)
            if self._timer is None and self._has_leases:
                self._renew_later()
        return delay_s

    async def _pause(self, holder: str, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._bell.wait()
        except TimeoutError:
            pass
        except BaseException:
            await self._give_up(holder)  # its ticket
            raise

    async def leave(self, holder: str) -> None:
        """Give the holder's place to others."""
        if not self._is_held:
            return
        self._inside.discard(holder)
        if self._renewal is not None:
            await asyncio.wait([self._renewal])  # which has not heard of it
        await self._give_up(holder)
        self._bell.set()
        self._end_if_unused()

    async def _give_up(self, holder: str) -> None:
        try:
            await self._gates.leave(self._queue, holder)
        except JournalError as error:
            logger.warning(
                "queue %r: a place cannot be given back, and is free when its lease ends "
                "in %g s: %s",
                self._queue.name,
                self._queue.lease,
                error,
            )

    def _end_if_unused(self) -> None:
        if not self._waiting and not self._inside:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if _lines.get(self._key) is self:
                del _lines[self._key]

    # ------------------------------------------------------------------------ leases

    def _renew_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._queue.lease / 3, self._renew, loop)

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        self._renew_later()
        if self._renewal is None:
            self._renewal = loop.create_task(self._stay(), name="places in queues")

    async def _stay(self) -> None:
        try:
            await self._gates.stay(self._queue, tuple(self._inside))
        except JournalError as error:
            logger.warning(
                "queue %r: places cannot be kept, and are free for others when their lease "
                "ends: %s",
                self._queue.name,
                error,
            )
        finally:
            self._renewal = None


_Key = tuple[asyncio.AbstractEventLoop, int, Queue]

# Only of those that are in use, since they keep their loop alive.
_lines: dict[_Key, Line] = {}


def _line(store: Store | None, queue: Queue) -> Line:
    loop = asyncio.get_running_loop()
    key = loop, id(store), queue
    line = _lines.get(key)
    if line is None:
        line = _lines[key] = Line(key, _gates_of(store, loop), queue)
    return line


def _gates_of(store: Store | None, loop: asyncio.AbstractEventLoop) -> Gates:
    if store is None:
        return _own_gates(loop)
    if not isinstance(store, HasGates):
        raise WorkflowRuntimeError(
            f"a step has a queue, and {type(store).__name__}, where its run is kept, has "
            "none: keep runs in one of anabranch's stores, or give yours `gates`"
        )
    return store.gates


def _now() -> float:
    return stopwatch()()


# Of runs that no store has: the loops of a process share the machine's clock, and those of
# tests, whose time is their own, share nothing.
_process: Final = MemoryGates(_now, has_leases=False)
_loops: WeakKeyDictionary[Any, MemoryGates] = WeakKeyDictionary()


def _own_gates(loop: asyncio.AbstractEventLoop) -> MemoryGates:
    if not hasattr(loop, "wall_time"):
        return _process
    return _loops.setdefault(loop, MemoryGates(_now, has_leases=False))
