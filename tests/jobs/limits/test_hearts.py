"""The breaker, percentiles, the queue by age, and the rule for hedging."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.jobs import Breaker, Hedge
from anabranch.jobs.hedge import HedgeRule
from anabranch.jobs.limits.latency import Latencies
from anabranch.jobs.limits.queue import HEAD_START, AgeingQueue


def test_a_breaker_opens_after_failures_in_a_row_and_probes_after_its_cooldown() -> None:
    breaker = Breaker(failures=2, cooldown=10)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(1)
    assert breaker.admit(1) is None
    breaker.failed(2)
    assert breaker.admit(5) == pytest.approx(7)
    assert breaker.admit(12) is None, "one probe goes through"
    assert breaker.admit(12) is not None, "and no second one beside it"
    breaker.failed(13)
    assert breaker.admit(14) == pytest.approx(9), "a failed probe opens it again"
    assert breaker.admit(23) is None
    breaker.succeeded()
    assert breaker.is_closed
    assert breaker.admit(23) is None


def test_a_probe_that_is_cancelled_makes_way_for_the_next() -> None:
    breaker = Breaker(failures=1, cooldown=10)
    breaker.failed(0)
    assert breaker.admit(10) is None
    breaker.abandoned()
    assert breaker.admit(11) is None


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_percentile_is_within_a_tenth_of_the_truth(
    durations: list[float], share: float
) -> None:
    sample = Latencies()
    for duration in durations:
        sample.add(duration)
    found = sample.percentile(share)
    assert found is not None
    ranked = sorted(durations)
    rank = max(0, -int(-share * len(ranked) // 1) - 1)
    assert ranked[rank] * 0.999 <= found <= ranked[rank] * 1.101


def test_percentiles_forget_what_was_long_ago() -> None:
    sample = Latencies()
    for _ in range(20_000):
        sample.add(100.0)
    for _ in range(40_000):
        sample.add(1.0)
    assert sample.percentile(0.9) == pytest.approx(1, rel=0.1)
    assert Latencies().percentile(0.5) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200))
def test_nobody_is_overtaken_for_ever(arrivals: list[tuple[int, bool]]) -> None:
    queue: AgeingQueue[tuple[int, int]] = AgeingQueue()
    order: list[tuple[int, int]] = []
    for number, (priority, leaves) in enumerate(arrivals):
        queue.push((number, priority), priority)
        if leaves:
            order.append(queue.pop())
    order += [queue.pop() for _ in range(len(queue))]
    assert sorted(order) == [(n, p) for n, (p, _) in enumerate(arrivals)]
    place = {entry: i for i, entry in enumerate(order)}
    for entry in order:
        overtook = [
            later for later in order if later[0] > entry[0] and place[later] < place[entry]
        ]
        gained = [later[1] - entry[1] for later in overtook]
        assert all(gain > 0 for gain in gained)
        assert len(overtook) <= HEAD_START * max(gained, default=0)


def test_equals_are_served_as_they_came() -> None:
    queue: AgeingQueue[int] = AgeingQueue()
    for number in range(5):
        queue.push(number)
    assert [queue.pop() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_hedging_waits_for_a_sample_and_keeps_its_budget() -> None:
    rule = HedgeRule(Hedge(percentile=90, budget=0.1))
    assert rule.delay_s() is None
    for _ in range(100):
        rule.started()
        rule.ended(1.0)
    assert rule.delay_s() == pytest.approx(1, rel=0.1)
    assert sum(rule.may_hedge() for _ in range(100)) == 10


@pytest.mark.parametrize(
    "arguments", [{"percentile": 0}, {"percentile": 100}, {"budget": 0}, {"after": 0}]
)
def test_a_hedge_that_cannot_be_meant_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Hedge(**arguments)


def test_a_breaker_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UsageError):
        Breaker(failures=0)
    with pytest.raises(UsageError):
        Breaker(cooldown=0)
