"""When the next request may go, by the headers of the answers before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.rag.embedders.pace import Pace, seconds


def said(
    left: object, reset: str, limit: object = None, kind: str = "requests"
) -> dict[str, str]:
    headers = {
        f"x-ratelimit-remaining-{kind}": str(left),
        f"x-ratelimit-reset-{kind}": reset,
    }
    return (
        headers if limit is None else {**headers, f"x-ratelimit-limit-{kind}": str(limit)}
    )


def paced(headers: dict[str, str], now: float = 0.0) -> Pace:
    """After one request that was answered so."""
    pace = Pace()
    number = pace.start(now, 1)
    pace.answered(number, now, headers)
    pace.ended(number)
    return pace


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400.0),
        ("12", 12.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("soon", None),
        ("", None),
        ("5 s", None),
        ("Tue, 26 May 2026 05:00:04 GMT", None),
        (None, None),
    ],
)
def test_durations_as_services_write_them(text: str | None, found: float | None) -> None:
    assert seconds(text) == (pytest.approx(found) if found is not None else None)


@given(st.text())
def test_no_header_is_too_strange(text: str) -> None:
    headers = said(text, text, text)
    assert paced(headers).wait_s(0.0, 1) >= 0.0


def test_as_long_as_something_is_left_nobody_waits() -> None:
    pace = paced(said(2, "40s", 6))
    for _ in range(2):
        assert pace.wait_s(0.0, 1) == 0.0
        pace.start(0.0, 1)
    assert pace.wait_s(0.0, 1) > 0.0


def test_what_is_used_up_comes_back_evenly_where_the_limit_is_known() -> None:
    pace = paced(said(0, "60s", 6))
    assert pace.wait_s(0.0, 1) == pytest.approx(10.0)
    assert pace.wait_s(4.0, 1) == pytest.approx(6.0)
    assert pace.wait_s(10.0, 1) == 0.0


def test_and_all_at_once_where_it_is_not() -> None:
    pace = paced(said(0, "30s"))
    assert pace.wait_s(10.0, 1) == pytest.approx(20.0)
    assert pace.wait_s(30.0, 1) == 0.0


def test_a_request_of_more_tokens_than_the_limit_waits_for_a_full_allowance() -> None:
    pace = paced(said(50, "10s", 100, kind="tokens"))
    assert pace.wait_s(0.0, 40) == 0.0
    assert pace.wait_s(0.0, 1000) == pytest.approx(10.0)


def test_requests_that_the_service_has_not_counted_yet_count() -> None:
    pace = Pace()
    first, second, third = (pace.start(0.0, 1) for _ in range(3))
    pace.answered(first, 0.0, said(2, "60s", 6))  # and two more are under way
    assert pace.wait_s(0.0, 1) > 0.0
    pace.ended(second)
    pace.ended(third)
    pace.answered(third, 0.0, said(2, "60s", 6))
    assert pace.wait_s(0.0, 1) == 0.0


def test_a_refusal_holds_everybody() -> None:
    pace = Pace()
    pace.refused(0.0, 20.0)
    pace.refused(1.0, 5.0)
    assert pace.wait_s(5.0, 1) == pytest.approx(15.0)


def test_a_service_that_asks_for_hours_is_asked_again_and_says_so_itself() -> None:
    pace = paced(said(0, "24h"))
    pace.refused(0.0, 7200.0)
    assert pace.wait_s(0.0, 1) == 0.0
