"""Percentiles of durations, in constant memory.

Durations are counted in classes that grow by a tenth each, so a percentile is within a
tenth of the truth. Now and then every count is halved: what was long ago fades.
"""

from __future__ import annotations

from math import ceil, log

STEP = 1.1
LEAST_S = 1e-6
# When so many are counted, the counts are halved.
MEMORY = 10_000


class Latencies:
    """A sample of durations."""

    def __init__(self) -> None:
        self._classes: dict[int, float] = {}
        self.count = 0
        self._weight = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        place = ceil(log(max(seconds, LEAST_S) / LEAST_S, STEP))
        self._classes[place] = self._classes.get(place, 0.0) + 1.0
        self.count += 1
        self._weight += 1.0
        if self._weight >= MEMORY:
            self._classes = {key: n / 2 for key, n in self._classes.items() if n > 1}
            self._weight = sum(self._classes.values())

    def percentile(self, share: float) -> float | None:
        """A duration that ``share`` (0 to 1) of them do not exceed; ``None`` for none."""
        if not self._classes:
            return None
        wanted, seen, place = share * self._weight, 0.0, 0
        for place in sorted(self._classes):
            seen += self._classes[place]
            if seen >= wanted:
                break
        return LEAST_S * STEP**place
