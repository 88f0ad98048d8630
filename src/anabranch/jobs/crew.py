"""W workers on one shared iterator: the core that everything in this room stands on.

A worker is one task. It takes an item, calls the function, and awaits what it gave: no
Task, Future, Semaphore or Queue a job. A worker has its own copy of the caller's context
variables, and its jobs use it one after another. A job that leaves them changed takes the
worker with it: the worker ends, and a new one with a fresh copy has its place. So a job
sees its caller's context variables and no other job's, and only those that change some
pay for it. Jobs of one worker share ``current_task()``.

Why this shape and not a task a job: docs/decisions/0007-pull-core.md. States and duties::

    open ──(a job fails, the source fails, stop() is called)──▶ stopping
      │                                                            │
      └───────(the source is exhausted)────────▶ done ◀─(workers ended)

* Whoever moves the crew to *stopping* cancels every other worker at that moment.
* A worker leaves once the crew is stopping, even if its job swallowed the cancellation.
* ``join()`` returns only when every worker has ended: nothing runs on behind its caller.
* A ``CancelledError`` that reaches a worker before the crew is stopping is somebody
  else's doing: in a job, the job fails; in the source, the run does; between two jobs it
  is what a job left behind, and counts for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from itertools import chain, count
from typing import Any, Final, Protocol

from anabranch.errors import JobCancelled
from anabranch.jobs.frames import frames_of
from anabranch.jobs.notes import note, raisable, said, shown
from anabranch.jobs.source import AsyncSource, Pair, PrioritySource, Source, SyncSource

# A job that never suspends would keep the loop for itself: one turn for the others
# every so many jobs lets cancellation, timers and Ctrl-C in.
TURN_EVERY = 32
_UNSET: Any = object()
logger = logging.getLogger("anabranch")
ADVICE: Final = (
    "fn has to return an awaitable: for a synchronous function pass executor='thread' or "
    "executor='process'"
)

ABSENT: Final = object()
"""Stands where a result is not yet, or will not be."""


class Sink(Protocol):
    """Where a crew puts what its jobs gave. Its functions are called a job: keep them bare.

    Attributes:
        room: Takes the room for one result; gives ``None`` if there was some, else what to
            await. ``None`` instead of a function: there is always room.
        leave: Room that was taken is not needed.
        opened: The job of the next index starts; called with :data:`ABSENT`. May be
            ``None`` as well.
        put: The result of a job, by its index.
        skipped: The job of this index leaves no result.
        ended: The last worker has ended. Nothing follows.
    """

    room: Callable[[], asyncio.Future[None] | None] | None
    leave: Callable[[], object]
    opened: Callable[[object], object] | None
    put: Callable[[int, Any], object]
    skipped: Callable[[int], object]
    ended: Callable[[], object]


class Crew:
    """Runs ``fn`` over a source with at most ``concurrency`` jobs in flight.

    Make it inside the running loop and in the context that its jobs shall see. ``failure``
    is what ended the run early, with a note naming the item.

    Args:
        skip: A failed job leaves no result, and the others go on.
    """

    def __init__(
        self,
        fn: Callable[[Any], Awaitable[Any]],
        source: Source,
        sink: Sink,
        *,
        concurrency: int,
        skip: bool = False,
    ) -> None:
        self.failure: BaseException | None = None
        self.is_stopping = False
        self._fn = fn
        self._source = source
        self._sink = sink
        self._skip = skip
        self._context = copy_context()
        self._variables = tuple(self._context.items())
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._exhausted = False
        self._most = concurrency
        self._size = 0
        self.workers: set[asyncio.Task[None]] = set()
        for _ in range(1 if source.size is None else max(1, min(concurrency, source.size))):
            self._grow()

    def resize(self, most: int) -> None:
        """Let there be so many workers; there are never fewer than before."""
        self._most = max(self._most, most)
        if self.workers:
            self._grow()

    def _grow(self) -> None:
        """Hire one more worker, if that may be. It hires the next when it has work."""
        if self._size < self._most and not (self.is_stopping or self._exhausted):
            self._size += 1
            self._hire()

    def stop(self) -> None:
        """Start no more jobs, and cancel those in flight, unless that has been done."""
        if not self.is_stopping:
            self._cancel()

    def _cancel(self) -> None:
        self.is_stopping = True
        for task in self.workers:
            task.cancel()

    def fail(self, error: BaseException) -> None:
        """End the run because of ``error``; later ones are noted on the first."""
        error = raisable(error)
        if self.failure is None:
            self.failure = error
        elif error is not self.failure:
            note(self.failure, f"after it, another job failed too: {said(error)}")
        if not self.is_stopping:
            self.is_stopping = True
            me = asyncio.current_task()
            for task in self.workers:
                if task is not me:
                    task.cancel()

    def in_hand(self) -> Iterator[tuple[int, Any, asyncio.Task[None]]]:
        """The index and item of each job in flight, and the task that runs it.

        Read from the workers' suspended frames, so that keeping it costs a job nothing.
        """
        for worker in self.workers:
            for frame in frames_of(worker):
                held = frame.f_locals
                if frame.f_code is Crew._drain.__code__ and "item" in held:
                    yield held["index"], held["item"], worker
                    break

    async def join(self) -> None:
        """Return when every worker has ended and the source is closed.

        A cancellation of the caller stops the crew and is raised again afterwards.
        """
        interrupted: asyncio.CancelledError | None = None
        while not self._over.done():
            try:
                await asyncio.wait((self._over,))
            except asyncio.CancelledError as error:
                interrupted = error
                self._cancel()  # once more, if their clean-up is what takes so long
        try:
            await self._source.aclose()
        except Exception as error:
            text = f"the source of the items could not be closed: {said(error)}"
            if (first := interrupted or self.failure) is not None:
                note(first, f"after it, {text}")
            else:  # nothing to lose the results for
                logger.warning("%s", text, exc_info=error)
        if interrupted is not None:
            raise interrupted

    def _hire(self) -> None:
        task = self._loop.create_task(self._work(), context=self._context.copy())
        self.workers.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if not self.is_stopping:  # by somebody who cancels every task that there is
                self.fail(JobCancelled("a worker of the run was cancelled from outside"))
        # Only a KeyboardInterrupt or SystemExit, or a defect of ours, gets out of a worker.
        elif (error := task.exception()) is not None:
            self.fail(error)
        self.workers.discard(task)
        if not self.workers:
            self._sink.ended()
            self._over.set_result(None)

    async def _work(self) -> None:
        source, room = self._source, self._sink.room
        try:
            if room is not None and (waiting := room()) is not None:
                await self._enter(waiting)
            if not isinstance(source, SyncSource):
                await self._pull(source)
            else:
                pairs = source.pairs
                if self._size < self._most and (first := next(pairs, None)) is not None:
                    self._grow()
                    pairs = chain((first,), pairs)
                if await self._drain(pairs):
                    self._exhausted = True
            if self._exhausted:
                self._sink.leave()
        except asyncio.CancelledError as error:
            if not self.is_stopping:
                self.fail(own_cancellation("the source of the items", error))
        except Exception as error:  # the source's own: a job's never gets here
            self.fail(error)

    async def _pull(self, source: AsyncSource | PrioritySource) -> None:
        for turn in count(1):
            if (pair := await source.pull()) is None:
                self._exhausted = True
                return
            if self.is_stopping:
                return
            if turn == 1:
                self._grow()
            if not await self._drain(iter((pair,))):
                return
            if turn % TURN_EVERY == 0:
                await self._give_way()

    async def _drain(self, pairs: Iterator[Pair]) -> bool:
        """Run jobs until there are no more; false if this worker has to leave before."""
        fn, sink, turn = self._fn, self._sink, 0
        put, opened, room = sink.put, sink.opened, sink.room
        # Asked after each job, so as bare as can be: an empty context is false.
        is_changed = self._is_changed if self._variables else copy_context
        me = asyncio.current_task()
        assert me is not None
        is_cancelled = me.cancelling
        for index, item in pairs:
            if opened is not None:
                opened(ABSENT)
            try:
                value = await fn(item)
            except BaseException as error:
                self._failed(index, item, error)
                if self.is_stopping:
                    return False
            else:
                put(index, value)
            if is_cancelled():
                if self.is_stopping:
                    return False
                # Before Python 3.13 a failed TaskGroup inside a job leaves this raised
                # (python/cpython#116720); so does a job that cancels its own task.
                await self._give_way()
            if is_changed():
                self._hire()
                return False
            turn += 1
            if turn == TURN_EVERY:
                turn = 0
                await self._give_way()
            if room is not None and (waiting := room()) is not None:
                await self._enter(waiting)
        return True

    async def _give_way(self) -> None:
        """Let the others have a turn. What cancellation a job left behind ends here."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self.is_stopping:
                raise
        _forget_cancellation()

    async def _enter(self, waiting: asyncio.Future[None] | None) -> None:
        """Wait for room; what cancellation a job left behind ends here as well."""
        room = self._sink.room
        while waiting is not None:
            try:
                await waiting
            except asyncio.CancelledError:
                if self.is_stopping:
                    raise
                _forget_cancellation()
            if waiting.done() and not waiting.cancelled():
                return
            waiting = None if room is None else room()

    def _is_changed(self) -> bool:
        """Whether the last job left another value in a context variable than it found.

        By identity: an equal list is not the same list.
        """
        return len(copy_context()) != len(self._variables) or any(
            variable.get(_UNSET) is not value for variable, value in self._variables
        )

    def _failed(self, index: int, item: Any, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            if self.is_stopping:
                raise error
            error = own_cancellation(f"job {index}", error)
        elif isinstance(error, GeneratorExit):
            raise error  # this worker's own coroutine is being closed
        error_is_final = not isinstance(error, Exception)
        if is_no_awaitable(error):
            note(error, ADVICE)
        elif self._skip and not error_is_final:
            self._sink.skipped(index)
            return
        note(error, f"in job {index}, given {shown(item)}")
        if error_is_final:
            raise error
        self.fail(error)


def own_cancellation(who: str, cancelled: asyncio.CancelledError) -> JobCancelled:
    """What stands for a CancelledError that somebody raised though nobody cancelled it."""
    error = JobCancelled(f"{who} raised CancelledError of its own accord")
    error.__cause__ = cancelled
    return error


def is_no_awaitable(error: BaseException) -> bool:
    """Whether ``fn`` gave what cannot be awaited: our own ``await`` raised this."""
    trace = error.__traceback__
    if not isinstance(error, TypeError) or trace is None or "await" not in str(error):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_globals.get("__package__") == __package__


def _forget_cancellation() -> None:
    me = asyncio.current_task()
    while me is not None and me.uncancel():
        pass
