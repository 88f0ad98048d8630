"""Whether a failure is worth another try, and when.

What an HTTP client, an SDK or a broker raises is read by its shape, so that none of them
needs to be imported: httpx, aiohttp, requests, urllib, openai, anthropic, botocore and
google-api-core are understood, and whatever looks like them. An exception raised *from*
one of theirs counts as theirs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, cast

__all__ = ["Retry", "is_throttle", "is_transient", "retry_after_s", "status_of"]

# 529 is Anthropic's "overloaded", 503 everybody's.
THROTTLES = frozenset({429, 503, 529})
# 408: the server gave up waiting; 425: too early; 409 is not here: trying again conflicts.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
# Services that answer 400 when they mean 429 say so in a code.
THROTTLE_CODES = re.compile(
    r"thrott|toomanyrequests|slowdown|limitexceeded|rate_?limit|overloaded", re.IGNORECASE
)
USED_UP = frozenset({"insufficient_quota"})  # openai
# Broken connections of clients whose classes have no common base with Python's own.
TRANSIENT_NAMES = frozenset(
    {
        "APIConnectionError",  # openai, anthropic
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",  # aiohttp
        "ConnectTimeoutError",  # botocore
        "EndpointConnectionError",  # botocore
        "ReadTimeoutError",  # botocore
        "TransportError",  # httpx
    }
)
# A service may ask for hours. Waiting longer than this is for the caller to decide.
MOST_RETRY_AFTER_S = 300.0
# Jobs told the same Retry-After would all come back in the same moment.
SPREAD = 0.1

On: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error, or the one it was raised from, tells of."""
    for link in chain_of(error):
        if (status := _own_status(link)) is not None:
            return status
        if _is_broken_connection(link):
            return None  # aiohttp's parser gives what an answer lacks the code 400
    return None


def retry_after_s(error: BaseException, now: float) -> float | None:
    """How many seconds a service asked to wait, if it did.

    Args:
        error: A number of seconds in its ``retry_after``, or the headers ``retry-after-ms``
            and ``retry-after`` of its response.
        now: Seconds since the Unix epoch, for a date in the header.
    """
    for link in chain_of(error):
        said = _attribute(link, "retry_after")
        if isinstance(said, int | float):
            return max(0.0, float(said))
        headers = _headers(link)
        for name, unit_s in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001)):
            if (value := _header(headers, name)) is not None and _is_number(value):
                return max(0.0, float(value) * unit_s)
        if (value := _header(headers, "retry-after")) is not None:
            return _seconds(value, now)
    return None


def is_throttle(error: BaseException) -> bool:
    """Whether a service says that it gets too much: 429, 503, 529, or such a code."""
    status = status_of(error)
    if status in THROTTLES:
        return True
    return status in (None, 400) and any(
        isinstance(code, str) and THROTTLE_CODES.search(code) is not None
        for code in map(_code, chain_of(error))
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed later.

    A throttle, a time-out, a broken connection, or a failure on the server's side. An
    error with any other HTTP status is not, whatever its class, nor is a used-up quota,
    which some services tell of with 429.
    """
    if any(_code(link) in USED_UP for link in chain_of(error)):
        return False
    if is_throttle(error):
        return True
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT
    return any(
        isinstance(link, TimeoutError | ConnectionError)
        or _is_broken_connection(link)
        or isinstance(_attribute(link, "retry_after"), int | float)
        for link in chain_of(error)
    )


@dataclass(frozen=True, slots=True)
class Retry:
    """When to try a failed job again.

    By default three attempts in all, for transient failures (:func:`is_transient`), with
    exponential back-off and full jitter: a random time between 0 and ``min(60, 2 ** n)``
    seconds, half a second's worth at first. A service's ``Retry-After`` takes its place.

    Source: M. Brooker, "Exponential Backoff And Jitter", 2015.

    Attributes:
        attempts: Tries in all, the first included.
        on: Exception types, or a function of the exception; default :func:`is_transient`.
        wait: A wait strategy of tenacity, such as ``wait_fixed(1) + wait_random(0, 2)``.
        max_elapsed: No attempt starts later than so many seconds after the first began.
        max_retry_after: A service that asks for longer than this many seconds is not
            waited for: its error is raised.
    """

    attempts: int = 3
    on: On = is_transient
    wait: Any = None  # tenacity's wait_base, which is imported when it is needed
    max_elapsed: float | None = None
    max_retry_after: float = MOST_RETRY_AFTER_S

    def __post_init__(self) -> None:
        attempts: Any = self.attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(f"attempts must be an integer of at least 1, not {attempts!r}")
        on: Any = self.on
        is_meant = isinstance(on, tuple) or callable(on)
        if not is_meant:
            raise ValueError(f"on must be exception types or a function, not {on!r}")
        if self.wait is not None and not callable(self.wait):
            raise ValueError(f"wait must be a strategy of tenacity, not {self.wait!r}")
        for name in ("max_elapsed", "max_retry_after"):
            value: Any = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be at least 0 seconds, not {value!r}")
        if self.wait is None:
            from tenacity import wait_random_exponential

            object.__setattr__(self, "wait", wait_random_exponential(0.5, 60))

    def covers(self, error: BaseException) -> bool:
        """Whether such a failure is tried again at all."""
        on: Any = self.on
        return isinstance(error, on) if isinstance(on, type | tuple) else on(error)

    def delay(
        self, attempt: int, error: BaseException, elapsed_s: float, now: float
    ) -> float | None:
        """Seconds until the next attempt; ``None`` to give up.

        Args:
            attempt: How many have been made.
            error: What the last one raised.
            elapsed_s: Since the first one began.
            now: Seconds since the Unix epoch.
        """
        if attempt >= self.attempts or not self.covers(error):
            return None
        asked_s = retry_after_s(error, now)
        if asked_s is None:
            delay_s = self._drawn(attempt, error, elapsed_s)
        elif asked_s > self.max_retry_after:
            return None
        else:
            delay_s = asked_s * (1 + SPREAD * random.random())
        if self.max_elapsed is not None and elapsed_s + delay_s > self.max_elapsed:
            return None
        return delay_s

    def _drawn(self, attempt: int, error: BaseException, elapsed_s: float) -> float:
        from tenacity import Future, RetryCallState

        state = RetryCallState(_NO_RETRYING, None, (), {})
        state.attempt_number = attempt
        state.outcome = Future(attempt)
        state.outcome.set_exception(error)
        state.outcome_timestamp = state.start_time + elapsed_s
        return max(0.0, float(self.wait(state)))


# A strategy is asked for a time only; nothing of tenacity's own loop runs.
_NO_RETRYING: Any = None


def _attribute(holder: object, name: str) -> Any:
    """``None`` if it is not there, or fails: an error is read in spite of itself."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """The error, the one that it was raised from, and so on."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def _is_broken_connection(error: BaseException) -> bool:
    return any(kind.__name__ in TRANSIENT_NAMES for kind in type(error).__mro__)


def _own_status(error: BaseException) -> int | None:
    response = _attribute(error, "response")
    metadata = _entry(response, "ResponseMetadata")
    for holder, name in (
        (error, "status_code"),
        (error, "status"),
        (response, "status_code"),
        (response, "status"),
        (error, "code"),
    ):
        value = _attribute(holder, name)
        if isinstance(value, int) and 100 <= value < 600:
            return int(value)
    value = _entry(metadata, "HTTPStatusCode")
    return value if isinstance(value, int) else None


def _entry(holder: object, name: str) -> Any:
    """An entry of a dictionary, which botocore's responses are."""
    if isinstance(holder, Mapping):
        return cast("Mapping[str, Any]", holder).get(name)
    return None


def _code(error: BaseException) -> object:
    detail = _entry(_attribute(error, "response"), "Error")
    if detail is not None:
        return _entry(detail, "Code")
    # aiohttp warns whoever reads its code, which is the status over again.
    return None if _attribute(error, "status") is not None else _attribute(error, "code")


def _headers(error: BaseException) -> object:
    response = _attribute(error, "response")
    if (headers := _entry(_entry(response, "ResponseMetadata"), "HTTPHeaders")) is not None:
        return headers
    headers = _attribute(response, "headers")
    return _attribute(error, "headers") if headers is None else headers


def _header(headers: object, name: str) -> str | None:
    get = getattr(headers, "get", None)
    if get is None:
        return None
    # Clients' own header classes ignore case; a plain dictionary does not.
    for spelling in (name, name.title()):
        value = get(spelling)
        if isinstance(value, str | int | float):
            return str(value).strip()
    return None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


def _seconds(value: str, now: float) -> float | None:
    if _is_number(value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.fromtimestamp(now, UTC)).total_seconds())
