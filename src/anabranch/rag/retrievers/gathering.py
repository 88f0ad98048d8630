"""Calls that are made while others are under way, answered together.

A model embeds thirty questions in little more time than one, and a store compares thirty
vectors in one pass over its matrix. Whoever asks need not know: a call starts a batch at
once if there is room for one; what comes meanwhile waits and goes with the next. So a
single question waits for nobody, and many at once make large batches by themselves.

A batch is a task, since those who wait for it come and go. It ends with the last of them:
when all have been cancelled, it is cancelled too, and the last one awaits its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from anabranch.jobs.flight import end

T = TypeVar("T")
R = TypeVar("R")


class _Call(Generic[T, R]):
    """One who waits, and the batch that has taken his item."""

    __slots__ = ("batch", "future", "item")

    def __init__(self, item: T, future: asyncio.Future[R]) -> None:
        self.item = item
        self.future = future
        self.batch: _Batch[T, R] | None = None


class _Batch(Generic[T, R]):
    __slots__ = ("calls", "task")

    def __init__(self) -> None:
        self.calls: Sequence[_Call[T, R]] = ()
        self.task: asyncio.Task[None] | None = None


class Gathering(Generic[T, R]):
    """Makes batches of calls. Any number of event loops may use it at the same time.

    Each loop has batches of its own, since whoever waits can only be told within his loop.

    Args:
        work: Gives the result or the error of each item, in their order.
        most: Items of a batch.
        at_once: Batches of one loop.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        most: int = 64,
        at_once: int = 4,
    ) -> None:
        self._work = work
        self._most = most
        self._at_once = at_once
        # A loop touches its own entry only, and each access is a single one of a dict.
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[T, R]]
        self._queues = WeakKeyDictionary()

    async def do(self, item: T) -> R:
        """The result of one item.

        Raises:
            Exception: What the work gave for this item, or raised for its batch.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self._work, self._most, self._at_once)
        return await queue.do(item)


class _Queue(Generic[T, R]):
    """The calls of one loop."""

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        most: int,
        at_once: int,
    ) -> None:
        self._work = work
        self._most = most
        self._at_once = at_once
        self._waiting: deque[_Call[T, R]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, item: T) -> R:
        call: _Call[T, R] = _Call(item, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._start()
        try:
            return await call.future
        except asyncio.CancelledError:
            if call in self._waiting:
                self._waiting.remove(call)
            elif call.batch and all(each.future.cancelled() for each in call.batch.calls):
                assert call.batch.task is not None
                await end([call.batch.task])
            raise

    def _start(self) -> None:
        # A batch takes what is there when it starts, a little later than this: of several
        # that are started now, the first takes all that comes until then.
        if len(self._running) >= self._at_once:
            return
        batch: _Batch[T, R] = _Batch()
        batch.task = asyncio.create_task(self._run(batch))
        self._running.add(batch.task)
        batch.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting:
            self._start()

    async def _run(self, batch: _Batch[T, R]) -> None:
        size = min(self._most, len(self._waiting))
        batch.calls = [self._waiting.popleft() for _ in range(size)]
        for call in batch.calls:
            call.batch = batch
        if not batch.calls:
            return
        if self._waiting:
            self._start()
        try:
            results = await self._work([call.item for call in batch.calls])
            for call, result in zip(batch.calls, results, strict=True):
                _tell(call.future, result)
        except Exception as error:
            for call in batch.calls:
                _tell(call.future, error)
        finally:
            for call in batch.calls:
                call.future.cancel()  # of whoever has no answer by now


def _tell(future: asyncio.Future[Any], result: object) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
