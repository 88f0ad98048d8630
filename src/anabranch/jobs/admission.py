"""Who may start now: the breaker, the gate and the rate, and what they learn from it.

What several runs of one :class:`~anabranch.jobs.Pool` share, and what a run without a
pool has to itself. The rules are in the hearts of :mod:`~anabranch.jobs.limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from anabranch.clock import RealClock, stopwatch
from anabranch.errors import CircuitOpen
from anabranch.jobs.check import number_of
from anabranch.jobs.job import Job, Step
from anabranch.jobs.limits import adaptive
from anabranch.jobs.limits.adaptive import Adaptive, Succeeded, Throttled, TimedOut
from anabranch.jobs.limits.breaker import Breaker
from anabranch.jobs.limits.gate import Gate
from anabranch.jobs.limits.latency import Latencies
from anabranch.jobs.limits.limiter import Limiter
from anabranch.jobs.options import Options
from anabranch.observe import Observer
from anabranch.retry import (
    MOST_RETRY_AFTER_S,
    Retry,
    is_throttle,
    is_transient,
    retry_after_s,
)

CLOCK: Final = RealClock()
# For so long after the last throttle nothing is hedged.
CALM_S = 10.0


class Admission:
    """The limits, for the jobs of one event loop: the one that it is first used in.

    Args:
        options: ``rate``, ``breaker`` and ``adaptive`` are looked at.
        gate: Of so many places at once; none to leave that to the number of workers,
            unless ``adaptive`` decides.
    """

    def __init__(self, options: Options, gate: Gate | None = None) -> None:
        self.latencies = Latencies()
        self.running = 0
        self._time: Callable[[], float] = _no_loop_yet
        self._limiter = options.rate if isinstance(options.rate, Limiter) else None
        self._breaker = options.breaker if isinstance(options.breaker, Breaker) else None
        retry = options.retry
        self._most_s = (
            retry.max_retry_after if isinstance(retry, Retry) else MOST_RETRY_AFTER_S
        )
        self._policy = options.adaptive if isinstance(options.adaptive, Adaptive) else None
        if self._policy is not None:
            self._state = adaptive.initial(self._policy)
            gate = gate or Gate(0)
            gate.limit = self._policy.start
        self.gate = gate
        # A pool shows latencies, and these two learn from them.
        self._measures = self.gate is not None or options.hedge is not None
        self._throttled_at = float("-inf")

    def is_throttled(self) -> bool:
        """Whether the service has complained of late."""
        return (
            self._time() < self._throttled_at + CALM_S
            or (self.gate is not None and self.gate.is_paused)
            or (self._breaker is not None and not self._breaker.is_closed)
        )

    def close(self) -> None:
        """Leave no timer behind."""
        if self.gate is not None:
            self.gate.close()

    def around(self, inner: Step, options: Options, observer: Observer | None) -> Step:
        """``inner`` behind these limits.

        Args:
            inner: What is limited.
            options: ``cost`` and ``priority`` are looked at.
            observer: Told who is held back.
        """
        self._time = stopwatch()
        step = inner
        if self._measures:
            step = self._measured(step)
        if self._limiter is not None:
            cost = number_of("cost", options.cost, least=0)
            step = _rated(step, self._limiter, cost, observer)
        if self.gate is not None:
            priority = number_of("priority", options.priority)
            step = self._gated(step, self.gate, priority, observer)
        if self._breaker is not None:
            step = self._guarded(step, self._breaker)
        return step

    def _measured(self, inner: Step) -> Step:
        time = self._time

        async def step(job: Job) -> Any:
            began = time()
            self.running += 1
            try:
                value = await inner(job)
                self._succeeded(began)
            except Exception as error:
                self._failed(error, began)
                raise
            finally:
                self.running -= 1
            return value

        return step

    def _gated(
        self,
        inner: Step,
        gate: Gate,
        priority: Callable[[Any], float],
        observer: Observer | None,
    ) -> Step:
        time = self._time

        async def step(job: Job) -> Any:
            asked_at = time()
            await gate.acquire(priority(job.item))
            try:
                waited_s = time() - asked_at
                if waited_s > 0 and observer is not None:
                    observer.throttled(job.index, waited_s)
                return await inner(job)
            finally:
                gate.release()

        return step

    def _guarded(self, inner: Step, breaker: Breaker) -> Step:
        time = self._time

        async def step(job: Job) -> Any:
            if (wait_s := breaker.admit(time())) is not None:
                raise CircuitOpen(
                    f"too many failures in a row: nothing is asked for {wait_s:.1f} s",
                    retry_after=wait_s,
                )
            try:
                value = await inner(job)
            except Exception as error:
                if is_transient(error):
                    breaker.failed(time())
                else:
                    breaker.succeeded()
                raise
            except BaseException:
                breaker.abandoned()
                raise
            breaker.succeeded()
            return value

        return step

    def _succeeded(self, started_at: float) -> None:
        now = self._time()
        self.latencies.add(now - started_at)
        self._tell(Succeeded(now, started_at, self.running))

    def _failed(self, error: Exception, started_at: float) -> None:
        now = self._time()
        if is_throttle(error):
            self._throttled_at = now
            asked_s = retry_after_s(error, CLOCK.now())
            if asked_s is not None and asked_s > self._most_s:
                asked_s = None  # nobody waits for so long
            self._tell(Throttled(now, started_at, asked_s))
        elif isinstance(error, TimeoutError):
            self._tell(TimedOut(now, started_at))

    def _tell(self, event: adaptive.Event) -> None:
        if self._policy is None or self.gate is None:
            return
        self._state = adaptive.advance(self._state, event, self._policy)
        if int(self._state.limit) != self.gate.limit:
            self.gate.limit = int(self._state.limit)
        self.gate.pause(self._state.paused_until)


def _no_loop_yet() -> float:
    raise RuntimeError("no event loop uses these limits yet")


def _rated(
    inner: Step,
    limiter: Limiter,
    cost: Callable[[Any], float],
    observer: Observer | None,
) -> Step:
    counts_tokens = limiter.rate.tokens is not None

    async def step(job: Job) -> Any:
        tokens = cost(job.item)
        waited_s = await limiter.acquire(tokens)
        if waited_s > 0 and observer is not None:
            observer.throttled(job.index, waited_s)
        value = await inner(job)
        if counts_tokens and (used := tokens_used(value)) is not None:
            limiter.reconcile(tokens, used)
        return value

    return step


def tokens_used(value: object) -> float | None:
    """The tokens that a response says it took: ``usage.total_tokens``, by key or name.

    Where a total is not given, the sum of the input's and the output's.
    """
    usage = _part(value, "usage")
    total = _number_in(usage, "total_tokens")
    if total is not None:
        return total
    parts = [_number_in(usage, name) for name in ("input_tokens", "output_tokens")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _number_in(whole: object, name: str) -> float | None:
    part = _part(whole, name)
    if isinstance(part, bool) or not isinstance(part, int | float):
        return None
    return float(part) if 0 <= part < float("inf") else None


def _part(whole: object, name: str) -> object:
    """Whatever the caller's function gave: it may well object to be asked."""
    with suppress(Exception):
        if isinstance(whole, Mapping):
            return cast("Mapping[str, Any]", whole).get(name)
        return getattr(whole, name, None)
    return None
