"""Watching how far the work is: as a bar, as lines, or told to a function.

:class:`Progress`, :class:`RichProgress` and :class:`CallbackProgress` are one observer,
``_Meter``, with a screen each. A screen that raises is given up: a bar for lines, lines
for nothing at all. So a closed standard error costs a warning and no job.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from contextlib import suppress
from inspect import iscoroutinefunction
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from anabranch.errors import UsageError
from anabranch.jobs.screens import (
    Lines,
    RichBar,
    Screen,
    Told,
    TqdmBar,
    has_widgets,
    is_of_a_notebook,
)
from anabranch.jobs.status import Status, Tally
from anabranch.observe import Observer, Observers, StageStats

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger("anabranch")

# How old what is shown may be while nothing happens.
IDLE_S = 0.5
MOST_TITLE = 40


class _Meter(Observer):
    """Counts, and has it drawn ten times a second at most."""

    def __init__(
        self, title: str, total: int | None, unit: str, clock: Callable[[], float] | None
    ) -> None:
        self._title = _on_one_line(title)
        self._total = total
        self._unit = unit
        self._timer: asyncio.TimerHandle | None = None
        self._clock = clock or monotonic
        self._screen: Screen = Screen()
        self._start(None)

    def begun(self, total: int | None) -> None:
        self._start(total)
        status = self._tally.look(self._clock())
        try:
            self._screen = self._open(status)
        except Exception as error:
            self._replace(self._plain(), error)
        self._set_redraw()
        self._watch()

    def started(self, label: object) -> None:
        self._tally.started += 1

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        self._tally.retried += 1
        if self._clock() >= self._redraw_at:
            self._draw()

    def finished(self, label: object, error: BaseException | None) -> None:
        tally = self._tally
        if error is not None:
            if isinstance(error, CancelledError):
                tally.cancelled += 1
                return
            tally.failed += 1
        tally.done += 1
        if self._clock() >= self._redraw_at:
            self._draw()

    def counted(self, what: str, count: int) -> None:
        self._tally.counts[what] = count
        if self._clock() >= self._redraw_at:
            self._draw()

    def flowed(self, stages: Sequence[StageStats]) -> None:
        self._tally.stages = stages

    def said(self, message: str) -> None:
        self._try(lambda screen: screen.say(message))

    def ended(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        status = self._tally.end(self._clock())
        self._try(lambda screen: screen.close(status))
        self._screen = Screen()

    def _open(self, status: Status) -> Screen:
        """What to draw on; it shows ``status``."""
        raise NotImplementedError

    def _plain(self) -> Screen:
        """What to draw on where that fails."""
        raise NotImplementedError

    def _start(self, total: int | None) -> None:
        self._has_warned = False
        self._tally = Tally(self._clock(), self._total if total is None else total)
        self._set_redraw()

    def _set_redraw(self) -> None:
        now = self._clock()
        self._redraw_at = now + self._screen.pause_s(now - self._tally.began)

    def _watch(self) -> None:
        """Draw also while nothing happens: what came just before, and the time."""
        with suppress(RuntimeError):  # no loop runs: the work is synchronous
            loop = asyncio.get_running_loop()
            wait_s = max(IDLE_S, self._redraw_at - self._clock())
            self._timer = loop.call_later(wait_s, self._look)

    def _look(self) -> None:
        if self._clock() >= self._redraw_at:
            self._draw()
        self._watch()

    def _draw(self) -> None:
        status = self._tally.look(self._clock())
        self._try(lambda screen: screen.draw(status))
        self._set_redraw()

    def _try(self, act: Callable[[Screen], None]) -> None:
        try:
            act(self._screen)
        except Exception as error:
            with suppress(Exception):
                self._screen.give_up()
            was_plain = isinstance(self._screen, Lines)
            self._replace(Screen() if was_plain else self._plain(), error)
            self._try(act)

    def _replace(self, screen: Screen, error: Exception) -> None:
        self._screen = screen
        if not self._has_warned:
            self._has_warned = True
            instead = ": plain lines instead" if isinstance(screen, Lines) else ""
            logger.warning("progress cannot be shown (%r)%s", error, instead)


class Progress(_Meter):
    """A bar: count, rate, time left, failures, retries, redrawn ten times a second at most.

    Finishing a job costs a counter and a look at the clock. In a Jupyter notebook it is a
    widget, where there are widgets. Where the file is no terminal, or a bar cannot be
    drawn, it writes plain lines instead, ever more rarely, and one at the end; the work
    never notices. One object shows one run at a time.

    Args:
        title: In front of the bar.
        total: Expected number, where the work itself does not know it.
        unit: What is counted.
        file: Where to draw; standard error by default.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        title: str = "jobs",
        *,
        total: int | None = None,
        unit: str = "job",
        file: TextIO | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(title, total, unit, clock)
        self._file = file

    def _open(self, status: Status) -> Screen:
        file = sys.stderr if self._file is None else self._file
        in_notebook = is_of_a_notebook(file)
        # Standard error is None where a program has no console at all.
        if file is None or not (in_notebook or file.isatty()):  # pyright: ignore[reportUnnecessaryComparison]
            return self._plain()
        return TqdmBar(
            self._title, self._unit, file, status, as_widget=in_notebook and has_widgets()
        )

    def _plain(self) -> Screen:
        file = sys.stderr if self._file is None else self._file
        return Lines(self._title, self._unit, file)


class RichProgress(_Meter):
    """A bar that `rich <https://rich.readthedocs.io>`_ draws, like :class:`Progress`.

    Pass it as ``progress=`` or ``observer=``. What the program prints on a terminal
    appears above the bar. Where the console is no terminal, it writes plain lines.

    Args:
        title: In front of the bar.
        total: Expected number, where the work itself does not know it.
        console: Where to draw; one on standard error by default.
        unit: What is counted.
        clock: Gives the time in seconds.

    Raises:
        ImportError: The extra ``rich`` is not installed.
    """

    def __init__(
        self,
        title: str = "jobs",
        total: int | None = None,
        console: Console | None = None,
        *,
        unit: str = "job",
        clock: Callable[[], float] | None = None,
    ) -> None:
        try:
            from rich.console import Console
        except ModuleNotFoundError as error:
            raise ImportError(
                "RichProgress needs rich: pip install 'anabranch[rich]'"
            ) from error
        super().__init__(title, total, unit, clock)
        self._console = Console(stderr=True) if console is None else console

    def _open(self, status: Status) -> Screen:
        console = self._console
        if console.is_jupyter:
            is_able = has_widgets()
        else:
            is_able = console.is_terminal and not console.is_dumb_terminal
        if not is_able:
            return self._plain()
        return RichBar(self._title, self._unit, console, status)

    def _plain(self) -> Screen:
        return Lines(self._title, self._unit, self._console.file)


class CallbackProgress(_Meter):
    """Calls a function with a :class:`Status`, ten times a second at most.

    It is called when the work starts, and at the end, always, with the last status. It
    runs on the event loop, so it must be quick. If it raises, that is logged, and it is
    not called again; the work never notices.

    Args:
        callback: What to call.
        total: Expected number, where the work itself does not know it.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        callback: Callable[[Status], object],
        *,
        total: int | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__("", total, "", clock)
        self._callback = callback

    def _open(self, status: Status) -> Screen:
        self._callback(status)
        return Told(self._callback)

    def _plain(self) -> Screen:
        # Who has a function for it did not ask for lines on standard error.
        return Screen()


def _on_one_line(title: str) -> str:
    title = " ".join(title.split())
    return title if len(title) <= MOST_TITLE else title[: MOST_TITLE - 1] + "…"


def watcher(
    progress: bool | str | Callable[[Status], object] | Observer,
    total: int | None,
    observer: Observer | None,
) -> Observer | None:
    """The one observer for these arguments, or ``None`` if nobody watches.

    Raises:
        UsageError: ``progress`` is nothing that could show anything.
    """
    shown = _shown(progress)
    watching = [one for one in (observer, shown) if one is not None]
    return Observers(*watching, total=total) if watching else None


def _shown(
    progress: bool | str | Callable[[Status], object] | Observer,
) -> Observer | None:
    if isinstance(progress, Observer):
        return progress
    if progress is False or progress == "":
        return None
    if isinstance(progress, str):
        return Progress(progress)
    if progress is True:
        return Progress()
    fits = not isinstance(progress, type) and not iscoroutinefunction(progress)
    if not fits or not callable(progress):
        raise UsageError(
            "progress must be True, False, a title, a synchronous function of a Status, or "
            f"an observer (the object, not its class), not {progress!r}"
        )
    return CallbackProgress(progress)
