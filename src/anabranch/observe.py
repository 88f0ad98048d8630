"""Watching work go by: one protocol of empty methods.

Progress bars, logs and metrics are observers. An observer is called on the event loop,
between jobs, so it must be quick. What it raises is logged once and the observer is
dropped: the work never notices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

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

    def finished(self, label: object, error: BaseException | None) -> None:
        """A job ended; ``error`` is what it raised."""

    def counted(self, what: str, count: int) -> None:
        """So many of something else than jobs, up to now."""

    def said(self, message: str) -> None:
        """Something a person should read."""

    def ended(self) -> None:
        """The work is over, whatever its end. Nothing follows."""


class Observers(Observer):
    """Several observers as one, each of which may fail alone."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def begun(self, total: int | None) -> None:
        self._tell(lambda observer: observer.begun(total))

    def started(self, label: object) -> None:
        self._tell(lambda observer: observer.started(label))

    def finished(self, label: object, error: BaseException | None) -> None:
        self._tell(lambda observer: observer.finished(label, error))

    def counted(self, what: str, count: int) -> None:
        self._tell(lambda observer: observer.counted(what, count))

    def said(self, message: str) -> None:
        self._tell(lambda observer: observer.said(message))

    def ended(self) -> None:
        self._tell(lambda observer: observer.ended())

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                logger.warning("%r failed and is dropped", observer, exc_info=True)
                self._observers = tuple(o for o in self._observers if o is not observer)
