"""Many callers, few chunks: where single items become the work of an executor.

An item waits in a queue until a slot of the executor is free; all that wait are then
shared out evenly over the free slots. It costs its caller one future, which is only ever
given a reply or cancelled, so an answer that comes too late is silent::

    waiting ──(a slot is free)──▶ in flight ──(replies)──▶ answered
       ▲                             │ worker lost
       │                             ├─ in a chunk of several ──▶ suspect ──▶ in flight
       └─ __call__                   └─ alone ──▶ suspect again, or answered: WorkerLost

Nobody can tell which item of a chunk killed its worker. So all of them become suspects,
and a suspect is always sent alone: the guilty one kills its worker once more with nobody
else in it, and the others get through.

* A slot is taken as long as its chunk's task lives: also while a cancelled chunk ends.
* When a chunk's task ends, each of its items is answered, cancelled, or a suspect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar, cast

from anabranch.errors import ExecutorClosed, WorkerLost
from anabranch.jobs.executors.protocol import Executor, Reply
from anabranch.jobs.executors.waiting import settle
from anabranch.jobs.notes import note, raisable, shown

T = TypeVar("T")
R = TypeVar("R")


class _Job(Generic[T]):
    """One item, and who waits for it."""

    __slots__ = ("chunk", "context", "future", "item", "losses")

    def __init__(self, item: T, future: asyncio.Future[Reply]) -> None:
        self.item = item
        self.future = future
        self.context = copy_context()
        self.losses = 0  # workers it was alone with
        self.chunk: _Chunk[T] | None = None


class _Chunk(Generic[T]):
    """What is in flight together."""

    __slots__ = ("awaited", "jobs", "task")

    def __init__(self, jobs: list[_Job[T]]) -> None:
        self.jobs = jobs
        self.awaited = len(jobs)
        self.task: asyncio.Task[None] | None = None


def share(waiting: int, free: int, most: int) -> int:
    """The size of the next chunk, when this many wait for this many free slots."""
    return min(most, -(-waiting // free))


def after_loss(
    jobs: Sequence[_Job[T]], error: WorkerLost, resend: int
) -> tuple[Sequence[_Job[T]], Reply | None]:
    """Who is sent again after a worker was lost, and what the others are told.

    Of several items all are sent again. A single one is, ``resend`` times; then it is to
    blame.
    """
    if len(jobs) > 1:
        return jobs, None
    [job] = jobs
    job.losses += 1
    if job.losses <= resend:
        return jobs, None
    if resend:
        note(error, f"its worker was lost {job.losses} times, each time with it alone")
    note(error, f"the item was alone in its worker: {shown(job.item)}")
    return (), (False, error)


class Dispatcher(Generic[T, R]):
    """Runs ``fn`` on an executor, for many concurrent callers of one event loop.

    Make it inside the running loop. Items are sent in the order of the calls, at most
    ``executor.chunk`` in a chunk and ``executor.slots`` chunks at once. An item that is
    alone in its chunk runs in a copy of its caller's context.

    A caller that is cancelled is gone at once: its item is dropped if it was not sent yet,
    and its chunk is cancelled when nobody waits for any item of it. The chunk's slot is
    free again when the executor has ended the chunk; ``aclose`` waits for that.

    The executor remains its owner's to close.
    """

    def __init__(self, executor: Executor, fn: Callable[[T], Any]) -> None:
        self._executor = executor
        self._fn = fn
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._waiting: deque[_Job[T]] = deque()
        self._suspects: deque[_Job[T]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._due = False
        self._closed = False
        self._refusal: str | None = None

    async def __call__(self, item: T) -> R:
        """The result of ``fn(item)``.

        Raises:
            WorkerLost: The worker died with this item alone in it.
            Exception: What ``fn`` raised.
        """
        if self._closed:
            raise RuntimeError("the dispatcher is closed: make a new one")
        if self._refusal is not None:
            raise ExecutorClosed(self._refusal)
        job = _Job(item, self._loop.create_future())
        self._waiting.append(job)
        self._send_soon()
        try:
            reply = await job.future
        except asyncio.CancelledError:
            self._forget(job)
            raise
        if reply[0]:
            # The executor promises what ``fn`` returns, and that is R.
            return cast("R", reply[1])
        try:
            raise raisable(reply[1])
        finally:
            del job, reply  # they hold the exception, whose traceback holds this frame

    async def aclose(self) -> None:
        """Cancel what waits and what is in flight, and return when it has ended."""
        self._closed = True
        for job in (*self._waiting, *self._suspects):
            job.future.cancel()
        self._waiting.clear()
        self._suspects.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if (interrupted := await settle(tasks)) is not None:
            raise interrupted

    def _send_soon(self) -> None:
        # Not at once: the jobs that get going in this turn of the loop share the chunks.
        if not self._due:
            self._due = True
            self._loop.call_soon(self._send, context=self._context)

    def _send(self) -> None:
        self._due = False
        while (free := self._executor.slots - len(self._tasks)) > 0:
            if self._suspects:
                jobs = [self._suspects.popleft()]
            elif self._waiting:
                size = share(len(self._waiting), free, self._executor.chunk)
                jobs = [self._waiting.popleft() for _ in range(size)]
            else:
                return
            chunk = _Chunk(jobs)
            for job in jobs:
                job.chunk = chunk
            # Items that travel together have no context in common but the dispatcher's.
            context = jobs[0].context if len(jobs) == 1 else self._context
            task = self._loop.create_task(self._run(chunk), context=context.copy())
            chunk.task = task
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, chunk))

    def _ended(self, chunk: _Chunk[T], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # It was cancelled, perhaps before it began, or the executor answered too few.
        for job in chunk.jobs:
            if job.chunk is chunk:
                job.future.cancel()
        if (self._waiting or self._suspects) and not self._closed:
            self._send_soon()

    async def _run(self, chunk: _Chunk[T]) -> None:
        jobs = chunk.jobs
        try:
            items = [job.item for job in jobs]
            for job, reply in zip(
                jobs, await self._executor.run(self._fn, items), strict=True
            ):
                if not job.future.done():
                    job.future.set_result(reply)
        except WorkerLost as lost:
            self._lost(jobs, lost)
        except ExecutorClosed as closed:
            self._refusal = str(closed)
            self._answer(jobs, (False, closed))
            for job in (*self._waiting, *self._suspects):
                self._answer([job], (False, ExecutorClosed(self._refusal)))
            self._waiting.clear()
            self._suspects.clear()
        except Exception as error:
            self._answer(jobs, (False, error))

    def _lost(self, jobs: Sequence[_Job[T]], error: WorkerLost) -> None:
        jobs = [job for job in jobs if not job.future.done()]
        if not jobs:
            return
        again, reply = after_loss(jobs, error, self._executor.resend)
        if reply is not None:
            self._answer(jobs, reply)
        if not self._closed:
            for job in again:
                job.chunk = None
            self._suspects.extend(again)

    def _answer(self, jobs: Sequence[_Job[T]], reply: Reply) -> None:
        for job in jobs:
            if not job.future.done():
                job.future.set_result(reply)

    def _forget(self, job: _Job[T]) -> None:
        chunk = job.chunk
        if chunk is not None:
            chunk.awaited -= 1
            if chunk.awaited == 0 and chunk.task is not None:
                chunk.task.cancel()
            return
        for queue in (self._waiting, self._suspects):
            if job in queue:
                queue.remove(job)
