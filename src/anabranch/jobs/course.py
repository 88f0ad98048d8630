"""What happens to a job from its item to its result, as layers around one call.

From the outside in: observation and outcome, single flight, journal, retry, breaker and
limits, time-out, hedge, task or executor, the caller's function. Each layer is there only
if an option asks for it, so a run pays for what it uses; a run without any of them calls
the function itself. A layer sees the one inside it as ``await inner(job)``, and nothing
of the others. The rules are in hearts (``limits``, :mod:`~anabranch.retry`, ``hedge``);
here are clocks, waits and tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from anabranch.clock import RealClock, stopwatch
from anabranch.errors import JournalError, UsageError
from anabranch.jobs.admission import Admission
from anabranch.jobs.crew import ADVICE, is_no_awaitable, own_cancellation
from anabranch.jobs.flight import SingleFlight
from anabranch.jobs.hedge import Hedge, HedgeRule, hedged
from anabranch.jobs.job import Job, Step, Work, coroutine_of
from anabranch.jobs.keys import key_of
from anabranch.jobs.notes import note
from anabranch.jobs.options import Options
from anabranch.jobs.outcome import Outcome
from anabranch.jobs.timer import JobTimer
from anabranch.observe import Observer
from anabranch.retry import Retry

if TYPE_CHECKING:
    from anabranch.jobs.journal import Journal

CLOCK: Final = RealClock()


class Course:
    """The way of the jobs of one run.

    Args:
        fn: The caller's function, or source text.
        options: What was asked for.
        observer: Told what happens.
        admission: The limits of a pool; by default this run's own.
        abort: Ends the run because of an error that no policy covers; ``None`` if each job
            is on its own.
        is_stopping: Whether the run, or the job of the current task, is being cancelled.

    Attributes:
        room: Jobs that the executor can have at once; ``None`` if that is no matter.
    """

    def __init__(
        self,
        fn: Work,
        options: Options,
        observer: Observer | None,
        *,
        admission: Admission | None,
        flights: SingleFlight[Any] | None,
        abort: Callable[[BaseException], None] | None,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._options = options
        self._observer = observer
        self._abort = abort
        self._is_stopping = is_stopping
        self._closing = AsyncExitStack()
        self.room: int | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._time = stopwatch()
        if admission is None:
            admission = Admission(options)
            self._closing.callback(admission.close)
        self.step = self._layered(fn, options, admission, flights or SingleFlight())

    def owns(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` was made here, for one job or one try of it."""
        return task in self._tasks

    async def aclose(self) -> None:
        """Close what the layers opened."""
        await self._closing.aclose()

    def _layered(
        self,
        fn: Work,
        options: Options,
        admission: Admission,
        flights: SingleFlight[Any],
    ) -> Step:
        step = self._called(fn, options)
        if isinstance(options.hedge, Hedge):
            step = self._hedged(step, HedgeRule(options.hedge), admission)
        elif options.isolation == "task":
            step = self._in_a_task(step)
        if options.timeout is not None:
            step = self._timed(step, options.timeout)
        step = admission.around(step, options, self._observer)
        if isinstance(options.retry, Retry):
            step = self._retried(step, options.retry)
        if options.key is not None or options.journal is not None:
            step = self._once(step, fn, options, flights)
        if self._observer is not None or options.errors == "return":
            step = self._watched(step, returns=options.errors == "return")
        return step

    def _called(self, fn: Work, options: Options) -> Step:
        if options.executor is None:
            assert callable(fn)  # the call has seen to it
            return lambda job: fn(job.item)
        from anabranch.jobs.executors import Dispatcher, executor_of

        executor = executor_of(options.executor, fn, threads=options.concurrency)
        if executor.chunk == 1:
            # Who waits for a worker of the executor would use up its time-out there. A
            # chunk needs jobs that wait; and a cluster tells its size when it is met.
            self.room = executor.slots
        call = fn if callable(fn) else _is_there
        dispatcher: Dispatcher[Any, Any] = Dispatcher(executor, call)
        if isinstance(options.executor, str):
            self._closing.push_async_callback(executor.aclose)
        self._closing.push_async_callback(dispatcher.aclose)
        return lambda job: dispatcher(job.item)

    def _hedged(self, inner: Step, rule: HedgeRule, admission: Admission) -> Step:
        async def step(job: Job) -> Any:
            return await hedged(
                lambda: self._spawn(inner, job), rule, is_throttled=admission.is_throttled
            )

        return step

    def _in_a_task(self, inner: Step) -> Step:
        async def step(job: Job) -> Any:
            return await self._spawn(inner, job)

        return step

    def _spawn(self, inner: Step, job: Job) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(
            coroutine_of(inner, job), name=f"job {job.index}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _timed(self, inner: Step, timeout: float) -> Step:
        idle: list[JobTimer] = []

        async def step(job: Job) -> Any:
            timer = idle.pop() if idle else self._timer(timeout)
            timer.start()
            try:
                value = await inner(job)
            except asyncio.CancelledError:
                if timer.stop() and not self._is_stopping():
                    raise TimeoutError(f"no result within {timeout:g} s") from None
                raise
            finally:
                timer.stop()
                idle.append(timer)
            return value

        return step

    def _timer(self, timeout: float) -> JobTimer:
        timer = JobTimer(timeout)
        self._closing.callback(timer.close)
        return timer

    def _retried(self, inner: Step, retry: Retry) -> Step:
        async def step(job: Job) -> Any:
            began = self._time()
            while True:
                try:
                    return await inner(job)
                except Exception as error:
                    delay_s = retry.delay(
                        job.attempts, error, self._time() - began, CLOCK.now()
                    )
                    if delay_s is None:
                        if job.attempts > 1:
                            note(error, f"at attempt {job.attempts}")
                        raise
                    if self._observer is not None:
                        self._observer.retried(job.index, job.attempts, error, delay_s)
                await asyncio.sleep(delay_s)
                job.attempts += 1

        return step

    def _once(
        self,
        inner: Step,
        fn: Work,
        options: Options,
        flights: SingleFlight[Any],
    ) -> Step:
        key_for = key_of(fn, options.key)
        if options.journal is not None:
            # SQLite is loaded by who needs it.
            from anabranch.jobs.journal import Journal, check_result_type

            check_result_type(fn)
            journal = Journal(options.journal)
            self._closing.push_async_callback(journal.aclose)
            inner = self._journaled(inner, journal)

        async def step(job: Job) -> Any:
            try:
                job.key = key_for(job.item)
            except UsageError as error:
                raise self._aborted(job, error) from None
            # What is stored for one run is not for another that has no such journal.
            work = (id(fn), options.journal, job.key)
            return await flights.do(work, lambda: inner(job), self)

        return step

    def _journaled(self, inner: Step, journal: Journal) -> Step:
        async def step(job: Job) -> Any:
            try:
                if (found := await journal.get(job.key)) is not None:
                    job.attempts = 0
                    return found[0]
            except JournalError as error:
                raise self._aborted(job, error) from None
            value = await inner(job)
            try:
                await journal.put(job.key, value)
            except JournalError as error:
                raise self._aborted(job, error) from None
            return value

        return step

    def _aborted(self, job: Job, error: Exception) -> BaseException:
        """End the run: going on would do work that is lost."""
        note(error, f"in job {job.index}, given {job!r}")
        if self._abort is None:
            return error
        self._abort(error)
        return asyncio.CancelledError()

    def _watched(self, inner: Step, *, returns: bool) -> Step:
        observer = self._observer

        async def step(job: Job) -> Any:
            if observer is not None:
                observer.started(job.index)
            began = self._time()
            value: Any = None
            failure: BaseException | None = None
            try:
                value = await inner(job)
            except asyncio.CancelledError as cancelled:
                if self._is_stopping():
                    if observer is not None:
                        observer.finished(job.index, cancelled)
                    raise
                failure = own_cancellation(f"job {job.index}", cancelled)
            except Exception as error:
                if is_no_awaitable(error):
                    note(error, ADVICE)
                    raise self._aborted(job, error) from None
                failure = error
            if observer is not None:
                observer.finished(job.index, failure)
            if returns:
                elapsed_s = self._time() - began
                return Outcome(job.index, job.item, value, failure, job.attempts, elapsed_s)
            if failure is not None:
                raise failure
            return value

        return step


def _is_there(_: Any) -> Any:
    """Stands for source text, which the executor that was made for it has."""
    raise AssertionError("an executor of source text calls no function")
