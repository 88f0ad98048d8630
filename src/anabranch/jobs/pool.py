"""One limit for everything that goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar, Unpack, overload
from weakref import WeakSet

from anabranch.errors import LoopError, UsageError
from anabranch.jobs.admission import Admission
from anabranch.jobs.check import check_call, check_count
from anabranch.jobs.course import Course
from anabranch.jobs.executors import Executor, RunsSource, executor_of
from anabranch.jobs.flight import SingleFlight, end
from anabranch.jobs.job import Job, Work
from anabranch.jobs.limits.gate import Gate
from anabranch.jobs.mapping import collect
from anabranch.jobs.options import JobOptions, Options
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.run import Run
from anabranch.jobs.stream import Stream, streamed
from anabranch.jobs.watchdog import InHand, Watchdog
from anabranch.observe import Observer, Observers

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

SHARED: Final = ("adaptive", "breaker", "concurrency", "rate")
OF_ONE_RUN: Final = ("journal", "progress", "total", "total_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a pool is doing.

    Attributes:
        in_flight: Jobs that have a place.
        queued: Jobs that wait for one.
        done: Jobs that ended well.
        failed: Jobs that failed for good.
        retried: Attempts that failed and were followed by another.
        limit: Places, at present.
        p50_s: Half of the calls that went well took no longer than this many seconds;
            ``None`` before the first.
        p95_s: The same for 95 in a hundred.
        p99_s: The same for 99 in a hundred.
    """

    in_flight: int
    queued: int
    done: int
    failed: int
    retried: int
    limit: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


class _Tally(Observer):
    def __init__(self) -> None:
        self.done = self.failed = self.retried_count = 0

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        self.retried_count += 1

    def finished(self, label: object, error: BaseException | None) -> None:
        if error is None:
            self.done += 1
        elif not isinstance(error, asyncio.CancelledError):
            self.failed += 1


class Pool:
    """A shared limit: so many jobs at once, whoever starts them.

    ``concurrency`` (or ``adaptive``), ``rate`` and ``breaker`` hold for all that goes
    through the pool together. The other options are the defaults of its :meth:`map` and
    :meth:`stream`, and of :meth:`submit`. Who waits for a place gets one by priority and
    age. A pool belongs to one event loop. Leaving ``async with`` waits for what was
    submitted and for calls of :meth:`map` in other tasks; leaving it by an exception
    cancels that. Streams that are still open fail with :class:`UsageError` either way.

    A job of a pool that waits for other jobs of the same pool keeps its place meanwhile:
    when all places are kept so, nothing goes on. Use a second pool for the inner work.

    Args:
        **options: See :class:`Options`.
    """

    def __init__(self, **options: Unpack[JobOptions]) -> None:
        if misplaced := [name for name in OF_ONE_RUN if name in options]:
            raise UsageError(
                f"{misplaced[0]}= belongs to one call: pass it to map or stream"
            )
        self._defaults = options
        self._options = settings = Options(**options)
        self._gate = Gate(settings.concurrency)
        self._admission = Admission(settings, self._gate)
        self._flights: SingleFlight[Any] = SingleFlight()
        self._tally = _Tally()
        self._runs: WeakSet[Run] = WeakSet()
        self._maps: set[asyncio.Future[None]] = set()
        self._tasks: dict[asyncio.Task[Any], Job] = {}
        self._watchdog: Watchdog | None = None
        self._course: Course | None = None
        self._submitted = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._own_executor: Executor | None = None

    @property
    def limit(self) -> int:
        """Jobs at once. Lowering it stops none; the next ones wait longer."""
        return self._gate.limit

    @limit.setter
    def limit(self, value: int) -> None:
        check_count("limit", value)
        if self._options.adaptive is not None:
            raise UsageError("this pool finds its limit itself: it was made with adaptive=")
        self._gate.limit = value
        for run in self._runs:
            run.crew.resize(value)

    def stats(self) -> Stats:
        """What the pool is doing, and has done."""
        percentile = self._admission.latencies.percentile
        return Stats(
            in_flight=self._gate.in_use,
            queued=self._gate.waiting,
            done=self._tally.done,
            failed=self._tally.failed,
            retried=self._tally.retried_count,
            limit=self._gate.limit,
            p50_s=percentile(0.5),
            p95_s=percentile(0.95),
            p99_s=percentile(0.99),
        )

    @overload
    async def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        errors: Literal["return"],
        **options: Unpack[JobOptions],
    ) -> list[Outcome[T, R]]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        errors: Literal["return"],
        **options: Unpack[JobOptions],
    ) -> list[Outcome[T, R]]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        errors: Literal["raise", "skip"] = "raise",
        **options: Unpack[JobOptions],
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        errors: Literal["raise", "skip"] = "raise",
        **options: Unpack[JobOptions],
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        errors: Errors = "raise",
        **options: Unpack[JobOptions],
    ) -> list[Any]: ...
    async def map(
        self,
        fn: Work,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        errors: Errors = "raise",
        **options: Unpack[JobOptions],
    ) -> list[Any]:
        """:func:`~anabranch.amap` within the pool's limits.

        Args:
            fn: As for ``amap``.
            items: As for ``amap``.
            errors: What a failure does.
            **options: Instead of the pool's defaults; its limits stay.
        """
        settings = self._settings(errors, options)
        check_call(fn, items, settings.executor)
        self._enter()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._maps.add(over)
        try:
            return await collect(fn, items, settings, start=self._start)
        finally:
            self._maps.discard(over)
            over.set_result(None)

    @overload
    def stream(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        errors: Literal["return"],
        **options: Unpack[JobOptions],
    ) -> Stream[Outcome[T, R]]: ...
    @overload
    def stream(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        errors: Literal["return"],
        **options: Unpack[JobOptions],
    ) -> Stream[Outcome[T, R]]: ...
    @overload
    def stream(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        errors: Literal["raise", "skip"] = "raise",
        **options: Unpack[JobOptions],
    ) -> Stream[R]: ...
    @overload
    def stream(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        errors: Literal["raise", "skip"] = "raise",
        **options: Unpack[JobOptions],
    ) -> Stream[R]: ...
    @overload
    def stream(
        self,
        fn: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        errors: Errors = "raise",
        **options: Unpack[JobOptions],
    ) -> Stream[Any]: ...
    def stream(
        self,
        fn: Work,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        errors: Errors = "raise",
        **options: Unpack[JobOptions],
    ) -> Stream[Any]:
        """:func:`~anabranch.astream` within the pool's limits.

        Args:
            fn: As for ``astream``.
            items: As for ``astream``.
            ordered: As for ``astream``.
            buffer: As for ``astream``.
            errors: What a failure does.
            **options: Instead of the pool's defaults; its limits stay.
        """
        settings = self._settings(errors, options)
        check_call(fn, items, settings.executor)
        return streamed(
            fn, items, settings, ordered=ordered, buffer=buffer, start=self._start
        )

    @overload
    def submit(
        self, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[R]: ...
    @overload
    def submit(
        self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[R]: ...
    def submit(
        self, fn: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        """Run one job when there is a place for it.

        The pool's ``cost`` is asked with the same arguments.

        Returns:
            Its task: await it, or cancel it. It sees the caller's context variables.
        """
        self._enter()
        if self._course is None:
            self._course = self._course_of_submitted()
            if (after := self._options.stall_after) is not None:
                self._watchdog = Watchdog(
                    self._in_hand, after, self._options.observer, self._gate
                )
        if (executor := self._executor()) is not None:
            executor_of(executor, fn)  # refuses what it cannot run
        job = Job(self._submitted, (fn, args, kwargs))
        self._submitted += 1
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(
            _taken(self._course, job)
        )
        self._tasks[task] = job
        task.add_done_callback(self._tasks.__delitem__)
        return task

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and (under_way := [*self._tasks, *self._maps]):
                await asyncio.wait(under_way)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Cancel what was submitted and return when it has ended. Idempotent.

        What ``map`` and ``stream`` have under way fails with :class:`UsageError`.

        Raises:
            LoopError: Called from one of the pool's own jobs, which would wait for itself.
        """
        me = asyncio.current_task()
        inside = self._course is not None and self._course.owns(me)
        if inside or me in self._tasks or any(run.owns(me) for run in self._runs):
            raise LoopError(
                "a pool cannot be closed by one of its own jobs: it would wait for "
                "itself. Raise an exception from the job instead"
            )
        self._closed = True
        for run in list(self._runs):
            run.end("the pool was closed while this run was under way")
        await end(self._tasks)
        self._gate.close()
        if self._watchdog is not None:
            self._watchdog.close()
        if self._course is not None:
            await self._course.aclose()
        if self._own_executor is not None:
            await self._own_executor.aclose()

    def _settings(self, errors: Errors, options: JobOptions) -> Options:
        for name in ("adaptive", "breaker", "rate"):
            if name in options:
                raise UsageError(f"{name}= belongs to the pool: pass it to Pool()")
        merged: JobOptions = {**self._defaults, "executor": self._executor(), **options}
        merged["observer"] = self._observer(options.get("observer"))
        return Options.of(errors, merged)

    def _observer(self, other: Observer | None = None) -> Observer:
        others = [o for o in (self._options.observer, other) if o is not None]
        return Observers(self._tally, *others)

    def _executor(self) -> Executor | RunsSource | None:
        """The one that all of the pool's jobs share."""
        named = self._options.executor
        if named is None or not isinstance(named, str):
            return named
        if self._own_executor is None:
            self._own_executor = executor_of(
                named, _called, threads=self._options.concurrency
            )
        return self._own_executor

    def _in_hand(self) -> Iterator[InHand]:
        for task, job in self._tasks.items():
            yield job.index, job.item, task

    def _course_of_submitted(self) -> Course:
        options: JobOptions = {"key": None, "priority": None}
        if callable(cost := self._options.cost):
            options["cost"] = lambda work: cost(*work[1], **work[2])
        settings = self._settings("raise", options)
        return Course(
            _called,
            settings,
            settings.observer,
            admission=self._admission,
            flights=None,
            abort=None,
            is_stopping=_is_cancelled,
        )

    def _start(
        self,
        fn: Work,
        items: Iterable[Any] | AsyncIterable[Any],
        sink: Any,
        options: Options,
    ) -> Run:
        self._enter()
        run = Run(
            fn,
            items,
            sink,
            options,
            admission=self._admission,
            flights=self._flights,
        )
        self._runs.add(run)
        return run

    def _enter(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise LoopError(
                "a pool is used inside a running event loop: from another thread, hand "
                "the call over with asyncio.run_coroutine_threadsafe"
            ) from None
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise LoopError(
                "this pool is in use on another event loop: make one for each loop, and "
                "share a Limiter between them"
            )
        if self._closed:
            raise UsageError("this pool is closed: make another one")


def _called(work: tuple[Callable[..., Any], Any, Any]) -> Any:
    fn, args, kwargs = work
    return fn(*args, **kwargs)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _taken(course: Course, job: Job) -> Any:
    return await course.step(job)
