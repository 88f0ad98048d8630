"""So many requests and tokens a period."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.jobs import RateLimit
from anabranch.jobs.limits.rate import Allowance


def starts(limit: RateLimit, costs: list[float], arrivals: list[float]) -> list[float]:
    """When each request starts, first come first served."""
    allowance, times, now = Allowance(limit), [], 0.0
    for cost, arrival in zip(costs, arrivals, strict=True):
        now = max(now, arrival)
        now += allowance.wait_s(now, cost)
        allowance.take(now, cost)
        times.append(now)
    return times


def test_a_full_allowance_goes_at_once_and_comes_back_evenly() -> None:
    times = starts(RateLimit(requests=3, per=3), [0] * 6, [0.0] * 6)
    assert times == pytest.approx([0, 0, 0, 1, 2, 3])


def test_requests_and_tokens_hold_together() -> None:
    times = starts(RateLimit(requests=100, tokens=10, per=10), [5, 5, 5, 1], [0.0] * 4)
    assert times == pytest.approx([0, 0, 5, 6])


def test_a_request_larger_than_the_allowance_waits_for_a_full_one_and_leaves_a_debt() -> (
    None
):
    times = starts(RateLimit(tokens=10, per=10), [1, 25, 1], [0.0] * 3)
    assert times == pytest.approx([0, 1, 17])


def test_what_was_not_used_comes_back_and_what_was_used_on_top_is_owed() -> None:
    allowance = Allowance(RateLimit(tokens=10, per=10))
    allowance.take(0, 10)
    assert allowance.wait_s(0, 4) == pytest.approx(4)
    allowance.give_back(tokens=3)
    assert allowance.wait_s(0, 4) == pytest.approx(1)
    allowance.give_back(tokens=-5)
    assert allowance.wait_s(0, 4) == pytest.approx(6)


@given(
    requests=st.integers(1, 20),
    tokens=st.integers(1, 50),
    costs=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    gaps=st.lists(st.floats(0, 3), min_size=60, max_size=60),
    window=st.floats(0.1, 20),
)
def test_no_window_of_time_sees_more_than_a_full_allowance_and_what_came_back(
    requests: int, tokens: int, costs: list[int], gaps: list[float], window: float
) -> None:
    arrivals = [sum(gaps[:i]) for i in range(len(costs))]
    capped = [min(cost, tokens) for cost in costs]  # larger ones may leave a debt
    times = starts(
        RateLimit(requests=requests, tokens=tokens, per=10), list(capped), arrivals
    )
    for start in times:
        inside = [i for i, t in enumerate(times) if start <= t <= start + window]
        assert len(inside) <= requests * (1 + window / 10) + 1e-6
        assert sum(capped[i] for i in inside) <= tokens * (1 + window / 10) + 1e-6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "requests=, tokens= or both"),
        ({"requests": 0}, "requests must be a finite number above 0, not 0"),
        ({"tokens": -1}, "tokens must be"),
        ({"requests": 1, "per": float("inf")}, "per must be"),
        ({"requests": True}, "requests must be"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(
    arguments: dict[str, float], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        RateLimit(**arguments)
