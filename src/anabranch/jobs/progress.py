"""A bar that shows how far the work is."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from anabranch.observe import Observer, Observers

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger("anabranch")

REDRAW_EVERY_S = 0.1
# Where there is no terminal: the first line is written so late, and the time to the next
# doubles up to the most. A log has a dozen lines of an hour's work.
FIRST_LINE_S = 5.0
MOST_LINE_S = 600.0
# Without the unit, which is no news and takes room from the bar.
BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
    "[{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
)
# How much the newest rate counts: sources come in bursts, a batch of the model at a time.
SMOOTHING = 0.1


class Progress(Observer):
    """A bar: count, rate, time left, failures, redrawn ten times a second at most.

    Finishing a job costs a counter and a look at the clock. Where the file is no
    terminal, or a bar cannot be drawn, it writes plain lines instead, ever more rarely,
    and one at the end; the work never notices.

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
        self._bar: tqdm[Any] | None = None
        self._done = 0
        self._failed = 0
        self._counts: dict[str, int] = {}
        self._began = monotonic()
        self._redraw_at = 0.0

    def begun(self, total: int | None) -> None:
        self._began = monotonic()
        self._redraw_at = self._began + FIRST_LINE_S
        if self._total is None:
            self._total = total
        file = self._file or sys.stderr
        if not file.isatty():
            return
        try:
            from tqdm import tqdm

            # Every redraw is ours to time, since counts matter beside finished jobs.
            self._bar = tqdm(
                desc=self._title,
                total=self._total,
                unit="" if self._total else f" {self._unit}s",
                bar_format=BAR if self._total else None,
                file=file,
                mininterval=0,
                miniters=0,
                smoothing=SMOOTHING,
                dynamic_ncols=True,
            )
            self._redraw_at = self._began
        except Exception as error:
            logger.warning("no progress bar (%s): plain lines instead", error)

    def finished(self, label: object, error: BaseException | None) -> None:
        self._done += 1
        if error is not None:
            self._failed += 1
        self._draw_if_due()

    def counted(self, what: str, count: int) -> None:
        self._counts[what] = count
        self._draw_if_due()

    def said(self, message: str) -> None:
        if self._bar is None:
            print(message, file=self._file or sys.stderr)
        else:
            self._bar.write(message, file=self._file or sys.stderr)

    def ended(self) -> None:
        self._draw()
        if self._bar is not None:
            self._bar.close()

    def _draw_if_due(self) -> None:
        now = monotonic()
        if now < self._redraw_at:
            return
        if self._bar is None:
            self._redraw_at = now + min(now - self._began, MOST_LINE_S)
        else:
            self._redraw_at = now + REDRAW_EVERY_S
        self._draw()

    def _draw(self) -> None:
        elapsed_s = monotonic() - self._began
        details = [
            f"{count:,} {what}, {count / max(elapsed_s, 0.001):,.0f}/s"
            for what, count in self._counts.items()
        ]
        if self._failed:
            details.append(f"{self._failed:,} failed")
        if self._bar is None:
            self._write_line(elapsed_s, details)
            return
        self._bar.set_postfix_str(", ".join(details), refresh=False)
        # Its rate is measured between redraws that moved it: one that did not must not
        # count as the start of a new interval.
        if moved := self._done - self._bar.n:
            self._bar.update(moved)
        else:
            self._bar.refresh()

    def _write_line(self, elapsed_s: float, details: list[str]) -> None:
        of = "" if self._total is None else f" of {self._total:,}"
        line = ", ".join([f"{self._done:,}{of} {self._unit}s", *details])
        print(f"{self._title}: {line}, {elapsed_s:.0f} s", file=self._file or sys.stderr)


def watcher(
    progress: bool | str, total: int | None, observer: Observer | None
) -> Observer | None:
    """The one observer for these arguments, or ``None`` if nobody watches."""
    watching = [] if observer is None else [observer]
    if progress:
        title = progress if isinstance(progress, str) else "jobs"
        watching.append(Progress(title, total=total))
    return Observers(*watching) if watching else None
