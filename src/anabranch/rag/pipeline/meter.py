"""What the stages of a pipeline do, counted: it is told the time and has no clock.

A stage is *busy* while at least one is at work in it. Work is counted as it begins and
ends, or all at once where a thread has measured it. What one stage has finished waits
for the next.
"""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.observe import StageStats


class Meter:
    """Counts for stages that follow each other.

    Args:
        stages: Name and most at once of each, in their order.
        now: Seconds, from whatever clock tells the later times too.
    """

    def __init__(self, stages: Sequence[tuple[str, int]], now: float) -> None:
        self._began = now
        self._stages = {name: _Stage(name, most, now) for name, most in stages}

    def began(self, stage: str, now: float, *, taken: int = 0) -> None:
        """One more is at work; it has taken so many of what waited."""
        found = self._stages[stage]
        found.passed(now)
        found.waiting -= taken
        found.at_once += 1
        found.most_at_once = max(found.most_at_once, found.at_once)

    def ended(self, stage: str, now: float, *, done: int = 0) -> None:
        """One fewer is at work; it has done so many."""
        found = self._stages[stage]
        found.passed(now)
        found.at_once -= 1
        found.done += done

    def worked(self, stage: str, work_s: float, *, taken: int = 0, done: int = 0) -> None:
        """One has worked for so long while nobody looked."""
        found = self._stages[stage]
        found.waiting -= taken
        found.work_s += work_s
        found.busy_s += work_s
        found.done += done
        found.most_at_once = max(found.most_at_once, 1)

    def waits(self, stage: str, count: int) -> None:
        """So many more wait for a stage."""
        self._stages[stage].waiting += count

    def look(self, now: float) -> Sequence[StageStats]:
        """How each stage stands, in their order."""
        for stage in self._stages.values():
            stage.passed(now)
        return [stage.stats(now - self._began) for stage in self._stages.values()]


class _Stage:
    __slots__ = (
        "_now",
        "at_once",
        "busy_s",
        "concurrency",
        "done",
        "most_at_once",
        "name",
        "waiting",
        "work_s",
    )

    def __init__(self, name: str, concurrency: int, now: float) -> None:
        self.name = name
        self.concurrency = concurrency
        self.done = self.waiting = self.at_once = self.most_at_once = 0
        self.busy_s = self.work_s = 0.0
        self._now = now

    def passed(self, now: float) -> None:
        """Count the time since it was counted last."""
        if self.at_once:
            self.busy_s += now - self._now
            self.work_s += (now - self._now) * self.at_once
        self._now = now

    def stats(self, elapsed_s: float) -> StageStats:
        return StageStats(
            name=self.name,
            concurrency=self.concurrency,
            done=self.done,
            waiting=self.waiting,
            at_once=self.at_once,
            most_at_once=self.most_at_once,
            busy_s=self.busy_s,
            work_s=self.work_s,
            elapsed_s=elapsed_s,
        )
