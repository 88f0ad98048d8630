"""Watching work go by: one protocol of empty methods.

Progress bars, logs and metrics are observers. An observer is called on the event loop,
between jobs, so it must be quick. What it raises is logged once and the observer is
dropped: the work never notices.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Observer", "Observers", "StageStats", "bottleneck"]

logger = logging.getLogger("anabranch")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStats:
    """How one stage of a pipeline stands.

    Attributes:
        name: The stage's.
        concurrency: How many may be at work in it at once.
        done: Items that have left it. What an item is, the stage's pipeline says.
        waiting: Items that could be taken up now.
        at_once: At work now.
        most_at_once: At work at the busiest moment.
        busy_s: The time in which at least one was at work.
        work_s: The time that those at work have spent, added up.
        elapsed_s: Since the pipeline began.
    """

    name: str
    concurrency: int = 1
    done: int = 0
    waiting: int = 0
    at_once: int = 0
    most_at_once: int = 0
    busy_s: float = 0.0
    work_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def rate(self) -> float:
        """Items a second, over the whole time."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def load(self) -> float:
        """The share of what it could have done that it has done: from 0 to 1."""
        most = self.concurrency * self.elapsed_s
        return min(1.0, self.work_s / most) if most > 0 else 0.0


def bottleneck(stages: Sequence[StageStats]) -> StageStats | None:
    """The stage that holds up the others: the one with the greatest load.

    Of several, the first; ``None`` if none has done anything.
    """
    busiest = max(stages, key=lambda stage: stage.load, default=None)
    return busiest if busiest is not None and busiest.load > 0 else None


class Observer:
    """Override what you want to see.

    ``label`` names what is worked on: an item's index, or a source.
    """

    def begun(self, total: int | None) -> None:
        """The work starts; ``total`` items are expected, if anyone knows."""

    def started(self, label: object) -> None:
        """A job starts."""

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        """Attempt number ``attempt`` failed; the next one starts ``delay_s`` later."""

    def throttled(self, label: object, delay_s: float) -> None:
        """A job has been held back ``delay_s`` by a limit; it goes on now."""

    def stalled(self, message: str) -> None:
        """Nothing has finished for long; ``message`` says what is waiting, and where."""

    def finished(self, label: object, error: BaseException | None) -> None:
        """A job ended; ``error`` is what it raised."""

    def counted(self, what: str, count: int) -> None:
        """So many of something else than jobs, up to now."""

    def flowed(self, stages: Sequence[StageStats]) -> None:
        """How the stages of a pipeline stand, in their order: a few times a second."""

    def said(self, message: str) -> None:
        """Something a person should read."""

    def ended(self) -> None:
        """The work is over, whatever its end. Nothing follows."""


class Observers(Observer):
    """Several observers as one, each of which may fail alone.

    Args:
        observers: In the order in which they are told.
        total: The number of items, where the work itself does not know it.
    """

    def __init__(self, *observers: Observer, total: int | None = None) -> None:
        self._observers = observers
        self._total = total

    def begun(self, total: int | None) -> None:
        self._tell("begun", self._total if total is None else total)

    def started(self, label: object) -> None:
        self._tell("started", label)

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        self._tell("retried", label, attempt, error, delay_s)

    def throttled(self, label: object, delay_s: float) -> None:
        self._tell("throttled", label, delay_s)

    def stalled(self, message: str) -> None:
        self._tell("stalled", message)

    def finished(self, label: object, error: BaseException | None) -> None:
        self._tell("finished", label, error)

    def counted(self, what: str, count: int) -> None:
        self._tell("counted", what, count)

    def flowed(self, stages: Sequence[StageStats]) -> None:
        self._tell("flowed", stages)

    def said(self, message: str) -> None:
        self._tell("said", message)

    def ended(self) -> None:
        self._tell("ended")

    def _tell(self, what: str, *facts: object) -> None:
        # By name, since a function made for each call would double what a job pays.
        for observer in self._observers:
            try:
                getattr(observer, what)(*facts)
            except Exception:
                logger.warning("%r failed and is dropped", observer, exc_info=True)
                self._observers = tuple(o for o in self._observers if o is not observer)
