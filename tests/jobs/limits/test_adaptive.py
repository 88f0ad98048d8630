"""How many at once, found out by trying."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.jobs import Adaptive
from anabranch.jobs.limits.adaptive import (
    Event,
    State,
    Succeeded,
    Throttled,
    TimedOut,
    advance,
    initial,
)

POLICY = Adaptive(min=2, start=4, max=64)


def after(events: list[Event], state: State | None = None) -> State:
    state = initial(POLICY) if state is None else state
    for event in events:
        state = advance(state, event, POLICY)
    return state


def good(count: int, *, at: float = 1.0, in_flight: int = 64) -> list[Event]:
    return [Succeeded(at, at - 1.0, in_flight)] * count


def test_it_doubles_each_round_until_somebody_complains() -> None:
    assert after(good(4)).limit == 8
    assert after(good(4 + 8)).limit == 16
    assert after(good(1000)).limit == 64


def test_a_complaint_cuts_and_from_then_on_growth_is_slow() -> None:
    state = after([*good(28), Throttled(at=2, started_at=1)])
    assert state.limit == pytest.approx(32 * 0.7)
    grown = after(good(23, at=10), state)
    assert state.limit < grown.limit <= state.limit * 1.06


def test_one_wave_of_complaints_cuts_once() -> None:
    wave: list[Event] = [Throttled(at=2 + i / 100, started_at=1.5) for i in range(20)]
    assert after([*good(28), *wave]).limit == pytest.approx(32 * 0.7)
    second = Throttled(at=4, started_at=3)
    assert after([*good(28), *wave, second]).limit == pytest.approx(32 * 0.7 * 0.7)


def test_a_timeout_cuts_as_well() -> None:
    assert after([*good(4), TimedOut(at=2, started_at=1)]).limit == pytest.approx(5.6)


def test_an_unused_limit_does_not_grow() -> None:
    assert after(good(1000, in_flight=3)).limit == 4


def test_it_pauses_for_as_long_as_it_is_told_and_never_shortens_a_pause() -> None:
    state = after([Throttled(2, 1, retry_after_s=10), Throttled(3, 1, retry_after_s=2)])
    assert state.paused_until == 12


def test_a_retry_after_does_not_keep_the_limit_down_for_ever() -> None:
    state = after([Throttled(2, 1, retry_after_s=10)])
    assert after(good(300, at=20), state).limit > POLICY.start


def test_latency_grown_to_twice_the_best_cuts_gently() -> None:
    state = after(good(28))  # latency 1 s
    slow: list[Event] = [Succeeded(10.0, 7.0, 0)] * 40
    assert after(slow, state).limit == pytest.approx(32 * 0.9)


events = st.one_of(
    st.builds(
        Succeeded, st.floats(0, 100), st.floats(0, 100), in_flight=st.integers(0, 100)
    ),
    st.builds(
        Throttled,
        st.floats(0, 100),
        st.floats(0, 100),
        retry_after_s=st.none() | st.floats(0, 60),
    ),
    st.builds(TimedOut, st.floats(0, 100), st.floats(0, 100)),
)


@given(st.lists(events, max_size=200))
def test_whatever_happens_the_limit_stays_within_its_bounds(happened: list[Event]) -> None:
    state = initial(POLICY)
    for event in happened:
        state = advance(state, event, POLICY)
        assert POLICY.min <= state.limit <= POLICY.max


@given(st.lists(events, max_size=50))
def test_the_same_events_give_the_same_state(happened: list[Event]) -> None:
    assert after(happened) == after(happened)


@pytest.mark.parametrize("bounds", [(0, 1, 2), (5, 4, 10), (1, 11, 10)])
def test_bounds_that_cannot_be_meant_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError):
        Adaptive(*bounds)
