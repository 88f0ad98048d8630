"""One run: a crew, the course of its jobs, and what watches over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any

from anabranch.errors import RunTimeout, UsageError
from anabranch.jobs.admission import Admission
from anabranch.jobs.check import number_of
from anabranch.jobs.course import Course
from anabranch.jobs.crew import Crew, Sink
from anabranch.jobs.flight import SingleFlight
from anabranch.jobs.job import Job, Work
from anabranch.jobs.options import Options
from anabranch.jobs.progress import watcher
from anabranch.jobs.source import PrioritySource, Source, source_of
from anabranch.jobs.watchdog import Watchdog


class Run:
    """The jobs of one call. Make it inside the running loop; then ``join()`` it.

    Args:
        admission: The limits of a pool, which take the place of the run's own.
        flights: What is under way in that pool.

    Raises:
        UsageError, JournalError: What is wrong with the options and can be known before
            any work starts.
    """

    def __init__(
        self,
        fn: Work,
        items: Iterable[Any] | AsyncIterable[Any],
        sink: Sink,
        options: Options,
        *,
        admission: Admission | None = None,
        flights: SingleFlight[Any] | None = None,
    ) -> None:
        self._options = options
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._observer = watcher(options.progress, options.total, options.observer)
        is_plain = options.is_plain and admission is None
        source = self._source(items, None if is_plain else Job)
        self._course: Course | None = None
        if is_plain:
            assert callable(fn)  # source text has an executor, which is not plain
            step: Callable[[Any], Awaitable[Any]] = fn
        else:
            self._course = Course(
                fn,
                options,
                self._observer,
                admission=admission,
                flights=flights,
                abort=self._abort,
                is_stopping=lambda: self.crew.is_stopping,
            )
            step = self._course.step
        if self._observer is not None:
            self._observer.begun(source.size)
        self.crew = Crew(
            step,
            source,
            sink,
            concurrency=self._workers(options),
            skip=options.errors == "skip",
        )
        if options.total_timeout is not None:
            self._timer = self._loop.call_later(options.total_timeout, self._expire)
        self._watchdog: Watchdog | None = None
        if options.stall_after is not None:
            gate = None if admission is None else admission.gate
            self._watchdog = Watchdog(
                self.crew.in_hand, options.stall_after, self._observer, gate
            )

    @property
    def failure(self) -> BaseException | None:
        """What ended the run early."""
        return self.crew.failure

    def owns(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether a job of this run is what goes on in ``task``."""
        return task in self.crew.workers or (
            self._course is not None and self._course.owns(task)
        )

    def end(self, why: str) -> None:
        """Cancel the jobs, if any are left to do, and let the run fail."""
        if self.crew.workers and not self.crew.is_stopping:
            self.crew.fail(UsageError(why))

    async def join(self) -> None:
        """Return when everything of the run has ended and is closed.

        A cancellation of the caller cancels the jobs, and is raised again afterwards.
        """
        try:
            await self.crew.join()
        finally:
            if not self._closed:
                self._closed = True
                await self._close()

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watchdog is not None:
            self._watchdog.close()
        if self._observer is not None:
            self._observer.ended()
        if self._course is not None:
            await self._course.aclose()

    def _source(
        self, items: Iterable[Any] | AsyncIterable[Any], wrap: type[Job] | None
    ) -> Source:
        source = source_of(items, wrap)
        if self._options.priority is None:
            return source
        return PrioritySource(
            source,
            number_of("priority", self._options.priority),
            look_ahead(self._options.concurrency),
        )

    def _workers(self, options: Options) -> int:
        room = None if self._course is None else self._course.room
        return options.most if room is None else min(options.most, room)

    def _abort(self, error: BaseException) -> None:
        self.crew.fail(error)

    def _expire(self) -> None:
        limit_s = self._options.total_timeout
        self.crew.fail(
            RunTimeout(
                f"the run took longer than its total_timeout of {limit_s:g} s", partial={}
            )
        )


def look_ahead(concurrency: int) -> int:
    """How many items beyond those in flight a run may hold."""
    return max(8 * concurrency, 1024)
