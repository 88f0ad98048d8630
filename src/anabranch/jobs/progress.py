"""A bar that shows how far the work is."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from anabranch.observe import Observer, Observers

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger("anabranch")

REDRAW_EVERY_S = 0.1


class Progress(Observer):
    """A tqdm bar: count, rate, time left and failures, redrawn ten times a second at most.

    Finishing a job costs a counter and a look at the clock. A bar that cannot be drawn is
    replaced by plain lines, with a warning; the work never notices.

    Args:
        title: In front of the bar.
        total: Expected number, where the work itself does not know it.
        unit: What is counted.
        file: Where to draw; standard error by default.
    """

    def __init__(
        self,
        title: str = "jobs",
        *,
        total: int | None = None,
        unit: str = "job",
        file: TextIO | None = None,
    ) -> None:
        self._title = title
        self._total = total
        self._unit = unit
        self._file = file
        self._bar: tqdm[None] | None = None
        self._done = 0
        self._failed = 0
        self._redraw_at = 0.0

    def begun(self, total: int | None) -> None:
        try:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._title,
                total=total if self._total is None else self._total,
                unit=f" {self._unit}",
                file=self._file or sys.stderr,
                mininterval=REDRAW_EVERY_S,
                dynamic_ncols=True,
            )
        except Exception as error:
            logger.warning("no progress bar (%s): plain lines instead", error)

    def finished(self, label: object, error: BaseException | None) -> None:
        self._done += 1
        if error is not None:
            self._failed += 1
        if (now := monotonic()) >= self._redraw_at:
            self._redraw_at = now + REDRAW_EVERY_S
            self._draw()

    def said(self, message: str) -> None:
        if self._bar is None:
            print(message, file=self._file or sys.stderr)
        else:
            self._bar.write(message, file=self._file or sys.stderr)

    def ended(self) -> None:
        self._draw()
        if self._bar is not None:
            self._bar.close()

    def _draw(self) -> None:
        if self._bar is None:
            # Every tenth of a second would flood a log: a line whenever the count has
            # doubled tells as much.
            if self._done & (self._done - 1) == 0:
                print(f"{self._title}: {self._done} done", file=self._file or sys.stderr)
            return
        if self._failed:
            self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        self._bar.update(self._done - self._bar.n)


def watcher(
    progress: bool | str, total: int | None, observer: Observer | None
) -> Observer | None:
    """The one observer for these arguments, or ``None`` if nobody watches."""
    watching = [] if observer is None else [observer]
    if progress:
        title = progress if isinstance(progress, str) else "jobs"
        watching.append(Progress(title, total=total))
    return Observers(*watching) if watching else None
