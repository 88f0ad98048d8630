"""How many at once, found out by trying: a pure function over what happened.

Additive increase, multiplicative decrease, as TCP has it. It starts by doubling (*slow
start*) until something complains, and then grows by a twentieth a round; a round is as
many successes as the limit. A complaint is a throttle (429, 503, 529), a time-out, or
latency grown to twice the best known. One wave of complaints cuts once: what was started
before the last cut says nothing about the limit after it. The limit grows only while it
is in use, since an unused limit proves nothing.

Source: V. Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988; D.-M. Chiu and
R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in
Computer Networks", 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from anabranch.errors import UsageError
from anabranch.jobs.check import check_count

# The share of the limit that must be in flight for a success to count as proof.
IN_USE = 0.8
GROWTH = 0.05
CUT = 0.7
# A round that took so many times the best one is queueing at the server.
INFLATED = 2.0
SLOW_CUT = 0.9
# The best round is forgotten by so much a round: what is served changes.
FORGETTING = 1.02


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Let the number of jobs in flight find its own limit.

    Attributes:
        min: Never fewer.
        start: At first.
        max: Never more.
    """

    min: int = 1
    start: int = 8
    max: int = 200

    def __post_init__(self) -> None:
        for name in ("min", "start", "max"):
            check_count(name, getattr(self, name))
        if not self.min <= self.start <= self.max:
            raise UsageError(
                f"Adaptive needs min <= start <= max, not {self.min}, {self.start}, "
                f"{self.max}"
            )


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A job ended well. Times are seconds on one clock.

    Attributes:
        at: When.
        started_at: When it had started.
        in_flight: How many were in flight, itself included.
    """

    at: float
    started_at: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """The server said that it gets too much; it may have said for how long."""

    at: float
    started_at: float
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """No answer in time."""

    at: float
    started_at: float


Event: TypeAlias = Succeeded | Throttled | TimedOut


@dataclass(frozen=True, slots=True)
class State:
    """What is known.

    Attributes:
        limit: Jobs in flight at most; a driver uses its whole part.
        paused_until: Nothing starts before.
        slow_start: Nobody has complained yet.
        cut_at: When the limit was last cut.
        round_size: Successes of this round so far.
        round_s: The sum of their latencies.
        best_s: The mean latency of the best round.
    """

    limit: float
    paused_until: float = float("-inf")
    slow_start: bool = True
    cut_at: float = float("-inf")
    round_size: int = 0
    round_s: float = 0.0
    best_s: float = float("inf")


def initial(policy: Adaptive) -> State:
    """Before anything happened."""
    return State(limit=float(policy.start))


def advance(state: State, event: Event, policy: Adaptive) -> State:
    """The state after ``event``."""
    match event:
        case Throttled(at, started_at, retry_after):
            cut = _cut(state, at, started_at, policy, CUT)
            if retry_after is None:
                return cut
            return replace(cut, paused_until=max(state.paused_until, at + retry_after))
        case TimedOut(at, started_at):
            return _cut(state, at, started_at, policy, CUT)
        case Succeeded(at, started_at, in_flight):
            grown = _grow(state, in_flight, policy)
            return _count(grown, at, started_at, policy)


def _cut(
    state: State, at: float, started_at: float, policy: Adaptive, share: float
) -> State:
    if started_at < state.cut_at:
        return state
    return replace(
        state,
        limit=max(float(policy.min), state.limit * share),
        slow_start=False,
        cut_at=at,
        round_size=0,
        round_s=0.0,
    )


def _grow(state: State, in_flight: int, policy: Adaptive) -> State:
    if in_flight < IN_USE * int(state.limit):
        return state
    # One for each success doubles a round; else a twentieth of the limit a round, and at
    # least one.
    step = 1.0 if state.slow_start else max(GROWTH, 1 / state.limit)
    return replace(state, limit=min(float(policy.max), state.limit + step))


def _count(state: State, at: float, started_at: float, policy: Adaptive) -> State:
    if started_at < state.cut_at:
        return state
    size, total_s = state.round_size + 1, state.round_s + (at - started_at)
    if size < state.limit:
        return replace(state, round_size=size, round_s=total_s)
    mean_s = total_s / size
    best_s = min(mean_s, state.best_s * FORGETTING)
    judged = replace(state, round_size=0, round_s=0.0, best_s=best_s)
    if mean_s > INFLATED * best_s:
        return _cut(judged, at, at, policy, SLOW_CUT)
    return judged
