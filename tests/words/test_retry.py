"""Whether a failure is worth another try, and when."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pytest
import tenacity
from aiohttp import (
    ClientConnectionError,
    ClientPayloadError,
    ClientResponseError,
    RequestInfo,
)
from aiohttp.http_exceptions import ContentLengthError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from anabranch.retry import Retry, is_throttle, is_transient, retry_after_s, status_of

NOW = 1_000_000_000.0


class Failed(Exception):
    """What a client raises, with whatever attributes it has."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("failed")
        self.__dict__.update(attributes)


def like_httpx(status: int, **headers: str) -> Failed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Failed(response=SimpleNamespace(status_code=status, headers=named))


def like_openai(status: int, **headers: str) -> Failed:
    error = like_httpx(status, **headers)
    error.__dict__.update(status_code=status, code="rate_limit_exceeded", body={})
    return error


def like_botocore(status: int, code: str, **headers: str) -> Failed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Failed(
        response={
            "Error": {"Code": code, "Message": "slow down"},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": named},
        }
    )


def of_aiohttp(status: int, **headers: str) -> ClientResponseError:
    url = URL("http://localhost/")
    named = CIMultiDict({n.replace("_", "-"): v for n, v in headers.items()})
    request = RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)
    return ClientResponseError(request, (), status=status, headers=named)


def of_urllib(status: int, **headers: str) -> HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return HTTPError("http://localhost/", status, "", message, None)


@pytest.mark.parametrize("made", [like_httpx, like_openai, of_aiohttp, of_urllib])
def test_status_and_retry_after_are_read_from_every_clients_errors(made: Any) -> None:
    error = made(429, Retry_After="7")
    assert status_of(error) == 429
    assert retry_after_s(error, NOW) == 7
    assert is_throttle(error)
    assert is_transient(error)
    assert not is_transient(made(404))
    assert is_transient(made(503))
    assert retry_after_s(made(429), NOW) is None


def test_botocores_codes_are_understood_whatever_their_status() -> None:
    throttled = like_botocore(400, "ThrottlingException")
    assert is_throttle(throttled)
    assert status_of(throttled) == 400
    assert not is_transient(like_botocore(400, "ValidationException"))
    assert retry_after_s(like_botocore(503, "SlowDown", retry_after="2"), NOW) == 2


def test_milliseconds_and_dates_are_read() -> None:
    assert retry_after_s(like_httpx(429, retry_after_ms="250"), NOW) == 0.25
    when = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=90)
    dated = like_httpx(503, Retry_After=format_datetime(when, usegmt=True))
    assert retry_after_s(dated, NOW) == 90
    assert retry_after_s(dated, NOW + 1000) == 0
    assert retry_after_s(like_httpx(503, Retry_After="soon"), NOW) is None


def test_an_error_raised_from_a_clients_counts_as_the_clients() -> None:
    wrapped = ValueError("the model did not answer")
    wrapped.__cause__ = like_httpx(429, Retry_After="3")
    assert is_transient(wrapped)
    assert retry_after_s(wrapped, NOW) == 3


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (ClientConnectionError(), True),
        (type("ConnectError", (type("TransportError", (Exception,), {}),), {})(), True),
        (Failed(retry_after=1.5), True),
        (ValueError(), False),
        (FileNotFoundError(), False),
        (Failed(code="invalid_request"), False),
        (Failed(status_code=429, code="insufficient_quota"), False),
    ],
)
def test_what_may_succeed_later_is_transient(error: BaseException, transient: bool) -> None:
    assert is_transient(error) is transient


def test_an_answer_that_broke_off_is_transient_whatever_the_parser_made_of_it() -> None:
    error = ClientPayloadError("Response payload is not completed")
    error.__cause__ = ContentLengthError("Not enough data")  # which has the code 400
    assert status_of(error) is None
    assert is_transient(error)


def test_it_gives_up_after_its_attempts_and_on_what_it_does_not_cover() -> None:
    retry = Retry(3)
    assert retry.delay(1, TimeoutError(), 0, NOW) is not None
    assert retry.delay(2, TimeoutError(), 0, NOW) is not None
    assert retry.delay(3, TimeoutError(), 0, NOW) is None
    assert retry.delay(1, ValueError(), 0, NOW) is None
    assert Retry(2, on=ValueError).delay(1, ValueError(), 0, NOW) is not None
    assert (
        Retry(2, on=lambda e: "x" in str(e)).delay(1, ValueError("x"), 0, NOW) is not None
    )


def test_the_delay_is_random_up_to_a_bound_that_doubles() -> None:
    random.seed(4)
    for attempt, bound in [(1, 0.5), (2, 1), (4, 4), (20, 60)]:
        drawn = [
            Retry(99).delay(attempt, TimeoutError(), 0, NOW) or 0.0 for _ in range(300)
        ]
        assert 0 <= min(drawn) < bound / 10
        assert bound * 0.9 < max(drawn) <= bound


def test_a_services_wish_takes_the_place_of_back_off_and_is_spread() -> None:
    random.seed(4)
    drawn = [
        Retry(5).delay(1, like_httpx(429, Retry_After="20"), 0, NOW) or 0.0
        for _ in range(100)
    ]
    assert min(drawn) >= 20
    assert max(drawn) <= 22
    assert len(set(drawn)) > 50
    assert Retry(5).delay(1, like_httpx(429, Retry_After="3600"), 0, NOW) is None


def test_no_attempt_starts_after_the_time_is_up() -> None:
    retry = Retry(9, wait=tenacity.wait_fixed(10), max_elapsed=25)
    assert retry.delay(1, TimeoutError(), 15, NOW) == 10
    assert retry.delay(2, TimeoutError(), 16, NOW) is None


def test_tenacitys_strategies_are_used_as_they_are() -> None:
    wait = tenacity.wait_fixed(1) + tenacity.wait_incrementing(0, 2)
    assert [Retry(9, wait=wait).delay(n, TimeoutError(), 0, NOW) for n in (1, 2, 3)] == [
        1,
        3,
        5,
    ]
    by_error = tenacity.wait_exception(lambda error: 42.0)
    assert Retry(9, wait=by_error).delay(1, TimeoutError(), 0, NOW) == 42


@pytest.mark.parametrize("attempts", [0, -1, 1.5, True, "3"])
def test_a_number_of_attempts_that_cannot_be_meant_is_refused(attempts: Any) -> None:
    with pytest.raises(ValueError, match="attempts must be an integer of at least 1"):
        Retry(attempts)


def test_an_error_whose_attributes_fail_is_read_in_spite_of_itself() -> None:
    class Odd(ConnectionError):
        @property
        def response(self) -> object:
            raise RuntimeError("no response yet")

    assert is_transient(Odd())
    assert status_of(Odd()) is None
    assert retry_after_s(Odd(), 0.0) is None
