"""What happens to a job from its item to its result, as layers around one call.

From the outside in: observation and outcome, journal, single flight, retry, breaker and
limits, time-out, hedge, task or executor, the caller's function. Each layer is there only
if an option asks for it, so a run pays for what it uses; a run without any of them calls
the function itself. A layer sees the one inside it as ``await inner(job)``, and nothing
of the others. The rules are in hearts (``limits``, :mod:`~anabranch.retry`, ``hedge``);
here are clocks, waits and tasks.
"""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from anabranch.clock import RealClock
from anabranch.errors import CircuitOpen, JournalError, UsageError
from anabranch.jobs.crew import own_cancellation
from anabranch.jobs.flight import SingleFlight
from anabranch.jobs.hedge import Hedge, HedgeRule, hedged
from anabranch.jobs.journal import Journal, check_result_type
from anabranch.jobs.keys import key_of
from anabranch.jobs.limits import adaptive
from anabranch.jobs.limits.adaptive import Adaptive, Succeeded, Throttled, TimedOut
from anabranch.jobs.limits.breaker import Breaker
from anabranch.jobs.limits.gate import Gate
from anabranch.jobs.limits.latency import Latencies
from anabranch.jobs.limits.limiter import Limiter
from anabranch.jobs.options import Options, now_s
from anabranch.jobs.outcome import Outcome
from anabranch.jobs.timer import JobTimer
from anabranch.observe import Observer
from anabranch.retry import Retry, is_throttle, is_transient, retry_after_s

CLOCK: Final = RealClock()
# For so long after the last throttle nothing is hedged.
CALM_S = 10.0


class Job:
    """One item on its way.

    Attributes:
        index: The item's place in the input, from 0.
        item: What the function is given.
        key: What tells it apart; empty if nobody asks.
        attempts: How often it was started.
    """

    __slots__ = ("attempts", "index", "item", "key")

    def __init__(self, index: int, item: Any) -> None:
        self.index = index
        self.item = item
        self.key = b""
        self.attempts = 1

    def __repr__(self) -> str:
        return reprlib.repr(self.item)


Step: TypeAlias = Callable[[Job], Awaitable[Any]]


@dataclass(slots=True)
class Admission:
    """Who may start now: what several runs of one :class:`~anabranch.jobs.Pool` share."""

    gate: Gate | None = None
    limiter: Limiter | None = None
    breaker: Breaker | None = None
    policy: Adaptive | None = None
    latencies: Latencies = field(default_factory=Latencies)
    running: int = 0
    _state: adaptive.State = field(init=False)
    _throttled_at: float = float("-inf")

    def __post_init__(self) -> None:
        self._state = adaptive.initial(self.policy or Adaptive())

    @property
    def is_needed(self) -> bool:
        """Whether there is any limit at all."""
        return not (self.gate is None and self.limiter is None and self.breaker is None)

    def is_throttled(self) -> bool:
        """Whether the service has complained of late."""
        return (
            now_s() < self._throttled_at + CALM_S
            or (self.gate is not None and self.gate.is_paused)
            or (self.breaker is not None and not self.breaker.is_closed)
        )

    def succeeded(self, started_at: float) -> None:
        """A job that started then has ended well."""
        now = now_s()
        self.latencies.add(now - started_at)
        self._tell(Succeeded(now, started_at, self.running))

    def failed(self, error: Exception, started_at: float) -> None:
        """A job that started then has failed."""
        now = now_s()
        if is_throttle(error):
            self._throttled_at = now
            asked_s = retry_after_s(error, CLOCK.now())
            self._tell(Throttled(now, started_at, asked_s))
        elif isinstance(error, TimeoutError):
            self._tell(TimedOut(now, started_at))

    def _tell(self, event: adaptive.Event) -> None:
        if self.policy is None or self.gate is None:
            return
        self._state = adaptive.advance(self._state, event, self.policy)
        if int(self._state.limit) != self.gate.limit:
            self.gate.limit = int(self._state.limit)
        self.gate.pause(self._state.paused_until)


class Course:
    """The way of the jobs of one run.

    Args:
        fn: The caller's function.
        options: What was asked for.
        observer: Told what happens.
        admission: The limits of a pool; by default this run's own.
        abort: Ends the run because of an error that no policy covers.
        is_stopping: Whether the run is being cancelled.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        options: Options,
        observer: Observer | None,
        *,
        admission: Admission | None,
        flights: SingleFlight[Any] | None,
        abort: Callable[[BaseException], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._options = options
        self._observer = observer
        self._abort = abort
        self._is_stopping = is_stopping
        self._closing = AsyncExitStack()
        if admission is None:
            admission = _own_admission(options)
            if admission.gate is not None:
                self._closing.callback(admission.gate.close)
        self.step = self._layered(fn, options, admission, flights or SingleFlight())

    async def aclose(self) -> None:
        """Close what the layers opened."""
        await self._closing.aclose()

    def _layered(
        self,
        fn: Callable[[Any], Any],
        options: Options,
        admission: Admission,
        flights: SingleFlight[Any],
    ) -> Step:
        step = self._called(fn, options)
        if isinstance(options.hedge, Hedge):
            step = self._hedged(step, HedgeRule(options.hedge), admission)
        elif options.isolation == "task":
            step = _in_a_task(step)
        if options.timeout is not None:
            step = self._timed(step, options.timeout)
        if admission.is_needed or options.hedge is not None:
            step = self._admitted(step, admission, options)
        if isinstance(options.retry, Retry):
            step = self._retried(step, options.retry)
        if options.key is not None or options.journal is not None:
            step = self._once(step, fn, options, flights)
        return self._watched(step, returns=options.errors == "return")

    def _called(self, fn: Callable[[Any], Any], options: Options) -> Step:
        if options.executor is None:
            return lambda job: fn(job.item)
        from anabranch.jobs.executors import Dispatcher, executor_of

        executor = executor_of(options.executor, fn)
        dispatcher: Dispatcher[Any, Any] = Dispatcher(executor, fn)
        if isinstance(options.executor, str):
            self._closing.push_async_callback(executor.aclose)
        self._closing.push_async_callback(dispatcher.aclose)
        return lambda job: dispatcher(job.item)

    def _hedged(self, inner: Step, rule: HedgeRule, admission: Admission) -> Step:
        async def step(job: Job) -> Any:
            return await hedged(
                lambda: _coroutine(inner, job), rule, is_throttled=admission.is_throttled
            )

        return step

    def _timed(self, inner: Step, timeout: float) -> Step:
        idle: list[JobTimer] = []

        async def step(job: Job) -> Any:
            timer = idle.pop() if idle else self._timer(timeout)
            timer.start()
            try:
                value = await inner(job)
            except asyncio.CancelledError:
                if timer.stop():
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

    def _admitted(self, inner: Step, admission: Admission, options: Options) -> Step:
        step = _measured(inner, admission)
        if admission.limiter is not None:
            step = self._rated(step, admission.limiter, options)
        if admission.gate is not None:
            step = self._gated(step, admission.gate, options)
        if admission.breaker is not None:
            step = _guarded(step, admission.breaker)
        return step

    def _rated(self, inner: Step, limiter: Limiter, options: Options) -> Step:
        estimate = _number_of(options.cost)

        async def step(job: Job) -> Any:
            tokens = estimate(job.item)
            waited_s = await limiter.acquire(tokens)
            if waited_s > 0 and self._observer is not None:
                self._observer.throttled(job.index, waited_s)
            value = await inner(job)
            if (used := tokens_used(value)) is not None:
                limiter.reconcile(tokens, used)
            return value

        return step

    def _gated(self, inner: Step, gate: Gate, options: Options) -> Step:
        priority = _number_of(options.priority)

        async def step(job: Job) -> Any:
            asked_at = now_s()
            await gate.acquire(priority(job.item))
            try:
                waited_s = now_s() - asked_at
                if waited_s > 0 and self._observer is not None:
                    self._observer.throttled(job.index, waited_s)
                return await inner(job)
            finally:
                gate.release()

        return step

    def _retried(self, inner: Step, retry: Retry) -> Step:
        async def step(job: Job) -> Any:
            began = now_s()
            while True:
                try:
                    return await inner(job)
                except Exception as error:
                    delay_s = retry.delay(job.attempts, error, now_s() - began, CLOCK.now())
                    if delay_s is None:
                        if job.attempts > 1:
                            error.add_note(f"at attempt {job.attempts}")
                        raise
                    if self._observer is not None:
                        self._observer.retried(job.index, job.attempts, error, delay_s)
                await asyncio.sleep(delay_s)
                job.attempts += 1

        return step

    def _once(
        self,
        inner: Step,
        fn: Callable[[Any], Any],
        options: Options,
        flights: SingleFlight[Any],
    ) -> Step:
        key_for = key_of(fn, options.key)
        if options.journal is not None:
            check_result_type(fn)
            journal = Journal(options.journal)
            self._closing.push_async_callback(journal.aclose)
            inner = self._journaled(inner, journal)

        async def step(job: Job) -> Any:
            try:
                job.key = key_for(job.item)
            except UsageError as error:
                raise self._aborted(job, error) from None
            return await flights.do((id(fn), job.key), lambda: inner(job))

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

    def _aborted(self, job: Job, error: Exception) -> asyncio.CancelledError:
        """End the run: going on would do work that is lost."""
        error.add_note(f"in job {job.index}, given {job!r}")
        self._abort(error)
        return asyncio.CancelledError()

    def _watched(self, inner: Step, *, returns: bool) -> Step:
        observer = self._observer

        async def step(job: Job) -> Any:
            if observer is not None:
                observer.started(job.index)
            began = now_s()
            value: Any = None
            failure: BaseException | None = None
            try:
                value = await inner(job)
            except asyncio.CancelledError as cancelled:
                if self._is_stopping():
                    if observer is not None:
                        observer.finished(job.index, cancelled)
                    raise
                failure = own_cancellation(job.index, cancelled)
            except Exception as error:
                failure = error
            if observer is not None:
                observer.finished(job.index, failure)
            if returns:
                elapsed_s = now_s() - began
                return Outcome(job.index, job.item, value, failure, job.attempts, elapsed_s)
            if failure is not None:
                raise failure
            return value

        return step


def _own_admission(options: Options) -> Admission:
    policy = options.adaptive if isinstance(options.adaptive, Adaptive) else None
    return Admission(
        gate=None if policy is None else Gate(policy.start),
        limiter=options.rate if isinstance(options.rate, Limiter) else None,
        breaker=options.breaker,
        policy=policy,
    )


def _measured(inner: Step, admission: Admission) -> Step:
    async def step(job: Job) -> Any:
        began = now_s()
        admission.running += 1
        try:
            value = await inner(job)
            admission.succeeded(began)
        except Exception as error:
            admission.failed(error, began)
            raise
        finally:
            admission.running -= 1
        return value

    return step


def _guarded(inner: Step, breaker: Breaker) -> Step:
    async def step(job: Job) -> Any:
        if (wait_s := breaker.admit(now_s())) is not None:
            raise CircuitOpen(
                f"too many failures in a row: nothing is asked for {wait_s:.1f} s",
                retry_after=wait_s,
            )
        try:
            value = await inner(job)
        except Exception as error:
            if is_transient(error):
                breaker.failed(now_s())
            else:
                breaker.succeeded()
            raise
        except BaseException:
            breaker.abandoned()
            raise
        breaker.succeeded()
        return value

    return step


def _in_a_task(inner: Step) -> Step:
    async def step(job: Job) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.create_task(_coroutine(inner, job), name=f"job {job.index}")

    return step


def _coroutine(inner: Step, job: Job) -> Coroutine[Any, Any, Any]:
    """A coroutine for what may be any awaitable; nothing happens until it is awaited."""

    async def run() -> Any:
        return await inner(job)

    return run()


def _number_of(value: Callable[[Any], float] | float | None) -> Callable[[Any], float]:
    if callable(value):
        return value
    number = 0.0 if value is None else float(value)
    return lambda _: number


def tokens_used(value: object) -> float | None:
    """The tokens that a response says it took: ``usage.total_tokens``, by key or name.

    Where a total is not given, the sum of the input's and the output's.
    """
    usage = _part(value, "usage")
    if isinstance(total := _part(usage, "total_tokens"), int | float):
        return float(total)
    parts = [_part(usage, name) for name in ("input_tokens", "output_tokens")]
    known = [float(part) for part in parts if isinstance(part, int | float)]
    return sum(known) if known else None


def _part(whole: object, name: str) -> object:
    if isinstance(whole, Mapping):
        return cast("Mapping[str, Any]", whole).get(name)
    return getattr(whole, name, None)
