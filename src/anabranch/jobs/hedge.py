"""A second request when the first one takes unusually long; the faster answer wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from anabranch.clock import stopwatch
from anabranch.errors import UsageError
from anabranch.jobs.check import check_positive, checked_number
from anabranch.jobs.flight import end
from anabranch.jobs.limits.latency import Latencies

R = TypeVar("R")

# Before so many have ended, nobody knows what is unusual.
LEAST_SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a job is started a second time, to take whichever answer comes first.

    Only for what may safely be done twice. Never while the service throttles: a second
    request would make it worse. A second request takes no place of its own and counts for
    no rate: the budget is what bounds it.

    Source: J. Dean and L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013.

    Attributes:
        percentile: Hedge a job that has taken longer than so many per cent of those
            before it.
        budget: Second requests at most, as a share of the first ones.
        after: Seconds, instead of a percentile.
    """

    percentile: float = 95.0
    budget: float = 0.05
    after: float | None = None

    def __post_init__(self) -> None:
        if not 0 < checked_number("percentile", self.percentile) < 100:
            raise UsageError(
                f"percentile must be between 0 and 100, not {self.percentile!r}"
            )
        if not 0 < checked_number("budget", self.budget) <= 1:
            raise UsageError(
                f"budget must be a share above 0, up to 1, not {self.budget!r}"
            )
        if self.after is not None:
            check_positive("after", self.after)


class HedgeRule:
    """What a :class:`Hedge` decides from what has been so far. Knows no clock."""

    def __init__(self, hedge: Hedge) -> None:
        self._hedge = hedge
        self._latencies = Latencies()
        self._started = 0
        self._hedged = 0

    def started(self) -> None:
        """A first request starts."""
        self._started += 1

    def ended(self, seconds: float) -> None:
        """A request ended well after so long."""
        self._latencies.add(seconds)

    def delay_s(self) -> float | None:
        """When to look again after a first request; ``None`` for not at all."""
        if self._hedge.after is not None:
            return self._hedge.after
        if self._latencies.count < LEAST_SAMPLE:
            return None
        return self._latencies.percentile(self._hedge.percentile / 100)

    def may_hedge(self) -> bool:
        """Whether the budget allows a second request now, which then counts."""
        if self._hedged + 1 > self._hedge.budget * max(self._started, LEAST_SAMPLE):
            return False
        self._hedged += 1
        return True


async def hedged(
    start: Callable[[], asyncio.Task[R]],
    rule: HedgeRule,
    *,
    is_throttled: Callable[[], bool],
) -> R:
    """The first good answer of one or two attempts; the other one is cancelled, awaited.

    If both fail, the error of the first one.
    """
    now = stopwatch()
    began = now()
    rule.started()
    first = start()
    racing = [first]
    try:
        if (delay_s := rule.delay_s()) is not None:
            await asyncio.wait(racing, timeout=delay_s)
            if not first.done() and not is_throttled() and rule.may_hedge():
                racing.append(start())
        winner = await _first_good(racing)
        rule.ended(now() - began)
        return winner.result()
    finally:
        try:
            await end(racing)
        finally:
            for task in racing:
                if not task.cancelled():
                    task.exception()  # the loser's is no news


async def _first_good(racing: list[asyncio.Task[R]]) -> asyncio.Task[R]:
    """The first that did not fail, or else the first of all."""
    pending = set(racing)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and task.exception() is None:
                return task
    return racing[0]
