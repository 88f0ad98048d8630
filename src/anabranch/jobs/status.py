"""How far the work is, and how that is said.

A :class:`Tally` counts, and makes a :class:`Status` when it is told the time: that is all
there is to know, and it knows no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp

from anabranch.observe import StageStats, bottleneck

# What was finished so long ago counts for the rate by a factor of e less than what is
# finished now. Long, since results come in bursts: a batch of a model at a time.
RATE_WINDOW_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far the work is.

    Attributes:
        done: Jobs that ended, well or badly. Those that were cancelled do not count.
        total: Jobs expected, if anyone knows.
        failed: Those of the done that raised.
        retried: Attempts that failed and were followed by another one.
        in_flight: Jobs that have started and not ended.
        elapsed_s: Since the work started.
        rate: Jobs done a second, of late; in the last status, over the whole time.
        remaining_s: Until all are done, at that rate; ``None`` if nobody can tell.
        counts: What else was counted, by name.
        busiest: The stage that holds up the others, and its load, if there are stages.
    """

    done: int = 0
    total: int | None = None
    failed: int = 0
    retried: int = 0
    in_flight: int = 0
    elapsed_s: float = 0.0
    rate: float = 0.0
    remaining_s: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    busiest: str = ""


class Tally:
    """Counts what happens. It is told the time and has no clock.

    Attributes:
        total: Jobs expected, if anyone knows.
        started, done, failed, retried, cancelled: So many, up to now.
        counts: What else was counted, by name.
        stages: How those of a pipeline stand.
    """

    __slots__ = (
        "_looked_at",
        "_moved",
        "_seen",
        "_seen_s",
        "began",
        "cancelled",
        "counts",
        "done",
        "failed",
        "retried",
        "stages",
        "started",
        "total",
    )

    def __init__(self, now: float, total: int | None = None) -> None:
        self.total = total
        self.started = self.done = self.failed = self.retried = self.cancelled = 0
        self.counts: dict[str, int] = {}
        self.stages: Sequence[StageStats] = ()
        self.began = self._looked_at = now
        # The rate is the one over the other. Both fade alike, so it is right at once.
        self._seen = 0.0
        self._seen_s = 0.0
        self._moved = 0

    def look(self, now: float) -> Status:
        """How far the work is now. It measures the rate since the last look."""
        passed_s = now - self._looked_at
        fade = exp(-passed_s / RATE_WINDOW_S)
        self._seen = self._seen * fade + self.done - self._moved
        self._seen_s = self._seen_s * fade + passed_s
        self._looked_at, self._moved = now, self.done
        rate = self._seen / self._seen_s if self._seen_s > 0 else 0.0
        in_flight = max(0, self.started - self.done - self.cancelled)
        return self._status(now, rate, in_flight, self._remaining_s(rate))

    def end(self, now: float) -> Status:
        """How far the work has come: nothing is in flight any more."""
        elapsed_s = now - self.began
        rate = self.done / elapsed_s if elapsed_s > 0 else 0.0
        return self._status(now, rate, 0, 0.0 if self.done == self.total else None)

    def _remaining_s(self, rate: float) -> float | None:
        if self.total is None or self.done > self.total:
            return None
        if self.done == self.total:
            return 0.0
        return (self.total - self.done) / rate if rate > 0 else None

    def _status(
        self, now: float, rate: float, in_flight: int, remaining_s: float | None
    ) -> Status:
        return Status(
            done=self.done,
            total=self.total,
            failed=self.failed,
            retried=self.retried,
            in_flight=in_flight,
            elapsed_s=now - self.began,
            rate=rate,
            remaining_s=remaining_s,
            counts=dict(self.counts),
            busiest=_busiest(self.stages),
        )


def _busiest(stages: Sequence[StageStats]) -> str:
    found = bottleneck(stages)
    return "" if found is None else f"{found.name} {found.load:.0%} busy"


def beside(status: Status, unit: str) -> str:
    """What stands beside a bar: ``3/10 [00:06<00:14, 0.5/s, 1 failed]``."""
    total = known_total(status)
    number = f"{status.done} {unit}s" if total is None else f"{status.done}/{total}"
    time = _time(status.elapsed_s)
    if total is not None:
        time += "<" + ("?" if status.remaining_s is None else _time(status.remaining_s))
    return f"{number} [{', '.join([time, _rate(status.rate), *_details(status)])}]"


def line(status: Status, unit: str) -> str:
    """The same for a log: ``3 of 10 jobs, 0.5/s, 1 failed, 6 s, 00:14 left``."""
    of = "" if status.total is None else f" of {status.total:,}"
    parts = [f"{status.done:,}{of} {unit}s"]
    # What else is counted has a rate of its own, which says more than that of jobs.
    if not status.counts:
        parts.append(_rate(status.rate))
    parts += [*_details(status), f"{status.elapsed_s:.0f} s"]
    if status.remaining_s and not status.counts:
        parts.append(f"{_time(status.remaining_s)} left")
    return ", ".join(parts)


def _details(status: Status) -> list[str]:
    details = [
        f"{count:,} {what}, {count / max(status.elapsed_s, 0.001):,.0f}/s"
        for what, count in status.counts.items()
    ]
    if status.busiest:
        details.append(status.busiest)
    if status.failed:
        details.append(f"{status.failed:,} failed")
    if status.retried:
        details.append(f"{status.retried:,} retried")
    return details


def known_total(status: Status) -> int | None:
    """The total, unless it has turned out to be wrong."""
    return None if status.total is None or status.done > status.total else status.total


def _rate(rate: float) -> str:
    if rate <= 0:
        return "?/s"
    return (
        f"{rate:,.0f}/s"
        if rate >= 100
        else f"{rate:.1f}/s"
        if rate >= 1
        else f"{rate:.2g}/s"
    )


def _time(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"
