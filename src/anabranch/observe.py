"""Watching work go by: one protocol of empty methods.

Progress bars, logs and metrics are observers. An observer is called on the event loop,
between jobs, so it must be quick. What it raises is logged once and the observer is
dropped: the work never notices.
"""

from __future__ import annotations

import logging

__all__ = ["Observer", "Observers"]

logger = logging.getLogger("anabranch")


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
