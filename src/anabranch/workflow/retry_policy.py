"""When a step that failed is tried again: tenacity's strategies, as one policy.

Conditions combine with ``&`` and ``|``, waits with ``+``. The delay is drawn once, when the
attempt fails, and becomes part of the run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable

import tenacity
from tenacity import (
    Future,
    RetryCallState,
    retry_all,
    retry_any,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_message,
    retry_if_not_exception_type,
    retry_unless_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_before_delay,
    wait_chain,
    wait_combine,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random,
)
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

__all__ = [
    "ConstantDelayRetryPolicy",
    "ExponentialBackoffRetryPolicy",
    "RetryCondition",
    "RetryInfo",
    "RetryPolicy",
    "StopCondition",
    "WaitStrategy",
    "retry_all",
    "retry_always",
    "retry_any",
    "retry_if_exception",
    "retry_if_exception_cause_type",
    "retry_if_exception_message",
    "retry_if_exception_type",
    "retry_if_not_exception_message",
    "retry_if_not_exception_type",
    "retry_never",
    "retry_policy",
    "retry_unless_exception_type",
    "stop_after_attempt",
    "stop_after_delay",
    "stop_all",
    "stop_any",
    "stop_before_delay",
    "stop_never",
    "wait_chain",
    "wait_combine",
    "wait_exponential",
    "wait_exponential_jitter",
    "wait_fixed",
    "wait_full_jitter",
    "wait_incrementing",
    "wait_none",
    "wait_random",
    "wait_random_exponential",
]

RetryCondition: TypeAlias = retry_base | Callable[[BaseException], bool]
WaitStrategy: TypeAlias = wait_base | Callable[..., float]
StopCondition: TypeAlias = stop_base | Callable[..., bool]

Seconds: TypeAlias = float | timedelta
MOST_WAIT_S: Final = 60.0


@runtime_checkable
class RetryPolicy(Protocol):
    """Decides on failures. Anything with this method is one."""

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Seconds until the next attempt; ``None`` to give up.

        Args:
            elapsed_time: Seconds since the first attempt began.
            attempts: How many have failed.
            error: What the last one raised.
        """
        ...


@dataclass(frozen=True, slots=True)
class RetryInfo:
    """What went before in the execution of a step.

    Attributes:
        retry_number: Attempts before this one.
        elapsed_seconds: Since the first one began; 0 in the first.
        last_exception: What the last one raised.
        last_failed_at: When, in UTC.
    """

    retry_number: int
    elapsed_seconds: float
    last_exception: BaseException | None
    last_failed_at: datetime | None


class retry_always(retry_base):  # noqa: N801  # named as tenacity's strategies are
    """Whatever was raised."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        return True


class retry_never(retry_base):  # noqa: N801
    """Not at all."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        return False


class stop_never(stop_base):  # noqa: N801
    """However often and long."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        return False


class wait_exponential(tenacity.wait_exponential):  # noqa: N801
    """``multiplier * exp_base ** retries`` seconds, but from ``min`` to ``max``."""

    def __init__(
        self,
        multiplier: float = 1.0,
        exp_base: float = 2.0,
        max: Seconds = MOST_WAIT_S,  # noqa: A002  # tenacity's name
        min: Seconds = 0.0,  # noqa: A002
    ) -> None:
        super().__init__(multiplier=multiplier, max=max, exp_base=exp_base, min=min)


class wait_random_exponential(tenacity.wait_random_exponential):  # noqa: N801
    """A random time between ``min`` and what :class:`wait_exponential` gives.

    Source: M. Brooker, "Exponential Backoff And Jitter", 2015 ("full jitter").
    """

    def __init__(
        self,
        multiplier: float = 1.0,
        exp_base: float = 2.0,
        max: Seconds = MOST_WAIT_S,  # noqa: A002
        min: Seconds = 0.0,  # noqa: A002
    ) -> None:
        super().__init__(multiplier=multiplier, max=max, exp_base=exp_base, min=min)


wait_full_jitter = wait_random_exponential


class wait_exponential_jitter(tenacity.wait_exponential_jitter):  # noqa: N801
    """``initial * exp_base ** retries`` and up to ``jitter`` seconds, at most ``max``."""

    def __init__(
        self,
        initial: float = 1.0,
        exp_base: float = 2.0,
        max: float = MOST_WAIT_S,  # noqa: A002
        jitter: float = 1.0,
    ) -> None:
        super().__init__(initial=initial, max=max, exp_base=exp_base, jitter=jitter)


class _Policy:
    def __init__(self, retry: Any, wait: Any, stop: Any) -> None:
        self._retry = _instance("retry", retry)
        self._wait = _instance("wait", wait)
        self._stop = _instance("stop", stop)

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        state = _state(elapsed_time, attempts, error)
        retry = self._retry
        if retry is not None:
            given: Any = state if isinstance(retry, retry_base) else error
            if not retry(given):
                return None
        wait, stop = self._wait, self._stop
        if isinstance(wait, wait_base):
            delay_s = float(wait(state))
        else:
            delay_s = float(wait(max(attempts - 1, 0)))
        state.upcoming_sleep = delay_s
        if isinstance(stop, stop_base):
            stops = stop(state)
        else:
            stops = stop(attempts, elapsed_time, upcoming_sleep=delay_s)
        return None if stops else max(0.0, delay_s)

    def __repr__(self) -> str:
        return (
            f"retry_policy(retry={self._retry!r}, wait={self._wait!r}, stop={self._stop!r})"
        )


def _instance(name: str, strategy: Any) -> Any:
    made = strategy() if isinstance(strategy, type) else strategy
    if made is not None and not callable(made):
        raise ValueError(
            f"{name} must be a strategy of tenacity or a function, not {made!r}"
        )
    return made


def _state(elapsed_s: float, attempts: int, error: BaseException) -> RetryCallState:
    state = RetryCallState(cast("Any", None), None, (), {})
    state.attempt_number = attempts
    state.outcome = Future(attempts)
    state.outcome.set_exception(error)
    state.outcome_timestamp = state.start_time + elapsed_s
    return state


def retry_policy(
    retry: RetryCondition | type[retry_base] | None = None,
    wait: WaitStrategy | type[wait_base] = wait_fixed(5),
    stop: StopCondition | type[stop_base] = stop_after_attempt(3),
) -> RetryPolicy:
    """A policy of three parts. By default any error is tried three times, 5 s apart.

    Args:
        retry: Which errors: a condition, or a function of the error; default all.
        wait: How long before the next attempt, in seconds: a wait, or a function of the
            number of retries before it.
        stop: When to give up: a condition, or a function of the number of attempts, the
            elapsed seconds, and ``upcoming_sleep=``.
    """
    return _Policy(retry, wait, stop)


def ConstantDelayRetryPolicy(  # noqa: N802  # a class's name, as in the reference
    maximum_attempts: int = 3, delay: float = 5
) -> RetryPolicy:
    """Deprecated: ``retry_policy(wait=wait_fixed(delay), stop=stop_after_attempt(n))``."""
    warnings.warn(
        "ConstantDelayRetryPolicy is deprecated: use "
        "retry_policy(wait=wait_fixed(delay), stop=stop_after_attempt(n))",
        DeprecationWarning,
        stacklevel=2,
    )
    return retry_policy(wait=wait_fixed(delay), stop=stop_after_attempt(maximum_attempts))


def ExponentialBackoffRetryPolicy(  # noqa: N802
    maximum_attempts: int = 5,
    initial_delay: float = 1,
    multiplier: float = 2,
    max_delay: float = 60,
    jitter: bool = True,
) -> RetryPolicy:
    """Deprecated: ``retry_policy(wait=wait_exponential(...), stop=stop_after_attempt(n))``.

    With ``jitter`` the wait is ``wait_random_exponential``.
    """
    warnings.warn(
        "ExponentialBackoffRetryPolicy is deprecated: use "
        "retry_policy(wait=wait_exponential(...), stop=stop_after_attempt(n))",
        DeprecationWarning,
        stacklevel=2,
    )
    strategy = wait_random_exponential if jitter else wait_exponential
    wait = strategy(multiplier=initial_delay, max=max_delay, exp_base=multiplier)
    return retry_policy(wait=wait, stop=stop_after_attempt(maximum_attempts))
