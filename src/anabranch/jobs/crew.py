"""W workers on one shared iterator: the core that everything in this room stands on.

A worker is one task. It takes an item, calls the function in a fresh copy of the
caller's context, and drives the coroutine itself: every ``send`` goes through
``Context.run``, so a job sees its caller's context variables and no other job's, without
a Task, Future, Semaphore or Queue a job. Jobs of one worker share ``current_task()``.

Why this shape and not a task a job: docs/decisions/0007-pull-core.md. States and duties::

    open ──(a job fails under "raise", the source fails, stop() is called)──▶ stopping
      │                                                                          │
      └──────────────(the source is exhausted)──────────▶ done ◀─(workers ended)─┘

* Whoever moves the crew to *stopping* cancels every other worker at that moment.
* A worker leaves once the crew is stopping, even if its job swallowed the cancellation.
* ``join()`` returns only when every worker has ended: nothing runs on behind its caller.
* A ``CancelledError`` that reaches a worker before the crew is stopping is the job's own
  doing, since nobody else holds the worker's task.
"""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context, copy_context
from inspect import iscoroutine
from time import perf_counter
from types import coroutine
from typing import Any, Generic, Protocol, TypeVar

from anabranch.errors import JobCancelled
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.source import AsyncSource, Exhausted, SyncSource
from anabranch.observe import Observer

T = TypeVar("T")
R = TypeVar("R")

# A job that never suspends would keep the loop for itself: one turn for the others
# every so many jobs costs 0.2 µs a job and lets cancellation, timers and Ctrl-C in.
TURN_EVERY = 32


class Sink(Protocol):
    """Where a crew puts what its jobs gave."""

    def room(self) -> Awaitable[None] | None:
        """Take the room for one result; ``None`` if there was some, else what to await."""
        ...

    def opened(self, index: int) -> None:
        """The job of this index starts; indices come in order, from 0."""
        ...

    def put(self, index: int, value: Any) -> None:
        """The result of a job: a value, or an :class:`Outcome`."""
        ...

    def skipped(self, index: int) -> None:
        """This job leaves no result."""
        ...

    def ended(self) -> None:
        """The last worker has ended. Nothing follows."""
        ...


class Crew(Generic[T, R]):
    """Runs ``fn`` over a source with at most ``concurrency`` jobs in flight.

    Make it inside the running loop and in the context that its jobs shall see. ``failure``
    is what ended the run early, with a note naming the item.
    """

    def __init__(
        self,
        fn: Callable[[T], Awaitable[R]],
        source: SyncSource[T] | AsyncSource[T],
        sink: Sink,
        *,
        concurrency: int,
        errors: Errors,
        observer: Observer | None,
    ) -> None:
        self.failure: BaseException | None = None
        self._fn = fn
        self._source = source
        self._sink = sink
        self._errors = errors
        self._observer = observer
        self._context = copy_context()
        self._stopping = False
        self._pulled = 0
        size = concurrency if source.size is None else min(concurrency, source.size)
        if observer is not None:
            observer.begun(source.size)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(max(1, size))]
        self._alive = len(self._tasks)
        for task in self._tasks:
            task.add_done_callback(self._left)

    def stop(self) -> None:
        """Start no more jobs, and cancel those in flight."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    def is_worker(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task is one of the crew's, which cannot wait for itself."""
        return task in self._tasks

    async def join(self) -> None:
        """Return when every worker has ended and the source is closed.

        A cancellation of the caller stops the crew and is raised again afterwards.
        """
        interrupted: asyncio.CancelledError | None = None
        while pending := [task for task in self._tasks if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                interrupted = error
                self.stop()
        await self._source.aclose()
        if interrupted is not None:
            raise interrupted

    def _left(self, task: asyncio.Task[None]) -> None:
        # Only a KeyboardInterrupt or SystemExit, or a defect of ours, gets out of a worker.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        self._alive -= 1
        if self._alive == 0:
            if self._observer is not None:
                self._observer.ended()
            self._sink.ended()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, StopIteration | StopAsyncIteration):
            # Passed on as it is, it would end whatever loop the results are taken in.
            ended = RuntimeError(f"a job or its source raised {type(error).__name__}")
            ended.__cause__ = error
            for note in getattr(error, "__notes__", ()):
                ended.add_note(note)
            error = ended
        if self.failure is None:
            self.failure = error
        elif error is not self.failure:
            self.failure.add_note(f"after it, another job failed too: {error!r}")
        if not self._stopping:
            self._stopping = True
            me = asyncio.current_task()
            for task in self._tasks:
                if task is not me:
                    task.cancel()

    async def _work(self) -> None:
        try:
            if isinstance(self._source, AsyncSource):
                await self._pull_async(self._source)
            else:
                await self._pull_sync(self._source.iterator)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        except Exception as error:  # the source's own: a job's never gets here
            self._fail(error)

    async def _pull_sync(self, iterator: Iterator[T]) -> None:
        sink, turn = self._sink, 0
        while not self._stopping:
            if (waiting := sink.room()) is not None:
                await waiting
            try:
                item = next(iterator)
            except StopIteration:
                return
            index = self._pulled
            self._pulled = index + 1
            sink.opened(index)
            await self._job(index, item)
            turn += 1
            if turn % TURN_EVERY == 0:
                await asyncio.sleep(0)

    async def _pull_async(self, source: AsyncSource[T]) -> None:
        sink = self._sink
        while not self._stopping:
            if (waiting := sink.room()) is not None:
                await waiting
            index, item = await source.pull()
            if isinstance(item, Exhausted):
                return
            sink.opened(index)
            await self._job(index, item)

    @coroutine
    def _job(self, index: int, item: T) -> Generator[Any, Any, None]:
        observer = self._observer
        if observer is not None:
            observer.started(index)
        context = self._context.copy()
        began = perf_counter()
        error: BaseException | None = None
        value: R | None = None
        try:
            given = context.run(self._fn, item)
            job = given if iscoroutine(given) else _awaited(given)
            value = yield from _drive(context, job)
        except asyncio.CancelledError as cancelled:
            if self._stopping:
                raise
            error = JobCancelled(f"job {index} raised CancelledError of its own accord")
            error.__cause__ = cancelled
        except Exception as raised:
            error = raised
        if (task := asyncio.current_task()) is not None and not self._stopping:
            # Before Python 3.13 a failed TaskGroup inside a job leaves this raised
            # (python/cpython#116720); so does a job that cancels its own task.
            while task.cancelling():
                task.uncancel()
        if observer is not None:
            observer.finished(index, error)
        if self._errors == "return":
            elapsed = perf_counter() - began
            self._sink.put(index, Outcome(index, item, value, error, 1, elapsed))
        elif error is None:
            self._sink.put(index, value)
        elif self._errors == "skip":
            self._sink.skipped(index)
        else:
            error.add_note(f"in job {index}, given {reprlib.repr(item)}")
            self._fail(error)


def _drive(context: Context, job: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
    """``await job``, with every step of it inside ``context``."""
    run = context.run
    step: Callable[[Any], Any] = job.send
    argument: Any = None
    while True:
        try:
            awaited = run(step, argument)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            argument = yield awaited
            step = job.send
        except GeneratorExit:
            run(job.close)
            raise
        except BaseException as error:
            argument, step = error, job.throw


async def _awaited(job: Awaitable[R]) -> R:
    return await job
