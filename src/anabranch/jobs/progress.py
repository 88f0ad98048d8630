"""How far the work is: as a bar, as lines, or told to a function.

A :class:`Tally` counts, and makes a :class:`Status` when it is told the time: that is all
there is to know, and it knows no clock. :class:`Progress`, :class:`RichProgress` and
:class:`CallbackProgress` are one observer, ``_Meter``, with a *screen* each. A screen draws
a status. One that raises is given up: a bar for lines, lines for nothing at all. So a
closed standard error costs a warning and no job.
"""

from __future__ import annotations

import logging
import sys
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from math import exp
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, TextIO

from anabranch.errors import UsageError
from anabranch.observe import Observer, Observers

if TYPE_CHECKING:
    from rich.console import Console
    from tqdm import tqdm

logger = logging.getLogger("anabranch")

REDRAW_EVERY_S = 0.1
# Where there is no terminal: the first line is written so late, and the time to the next
# doubles up to the most. A log has a dozen lines of an hour's work.
FIRST_LINE_S = 5.0
MOST_LINE_S = 600.0
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


class Tally:
    """Counts what happens. It is told the time and has no clock.

    Attributes:
        total: Jobs expected, if anyone knows.
        started, done, failed, retried, cancelled: So many, up to now.
        counts: What else was counted, by name.
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
        "started",
        "total",
    )

    def __init__(self, now: float, total: int | None = None) -> None:
        self.total = total
        self.started = self.done = self.failed = self.retried = self.cancelled = 0
        self.counts: dict[str, int] = {}
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
        )


class _Screen:
    """Where a status is drawn. This one shows nothing and cannot fail."""

    def pause_s(self, elapsed_s: float) -> float:
        """Seconds from one redraw to the next."""
        return REDRAW_EVERY_S

    def draw(self, status: Status) -> None:
        """Show how far the work is."""

    def say(self, message: str) -> None:
        """Show a message and keep it."""

    def close(self, status: Status) -> None:
        """Draw for the last time, and let go of everything."""
        self.draw(status)

    def give_up(self) -> None:
        """Let go of everything after something was raised."""


class _Meter(Observer):
    """Counts, and has it drawn ten times a second at most."""

    def __init__(
        self, title: str, total: int | None, unit: str, clock: Callable[[], float] | None
    ) -> None:
        self._title = title
        self._total = total
        self._unit = unit
        self._clock = clock or monotonic
        self._screen: _Screen = _Screen()
        self._start(None)

    def begun(self, total: int | None) -> None:
        self._start(total)
        status = self._tally.look(self._clock())
        try:
            self._screen = self._open(status)
        except Exception as error:
            self._replace(self._plain(), error)
        self._set_redraw()

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

    def said(self, message: str) -> None:
        self._try(lambda screen: screen.say(message))

    def ended(self) -> None:
        status = self._tally.end(self._clock())
        self._try(lambda screen: screen.close(status))
        self._screen = _Screen()

    def _open(self, status: Status) -> _Screen:
        """What to draw on; it shows ``status``."""
        raise NotImplementedError

    def _plain(self) -> _Screen:
        """What to draw on where that fails."""
        raise NotImplementedError

    def _start(self, total: int | None) -> None:
        self._has_warned = False
        self._tally = Tally(self._clock(), self._total if total is None else total)
        self._set_redraw()

    def _set_redraw(self) -> None:
        now = self._clock()
        self._redraw_at = now + self._screen.pause_s(now - self._tally.began)

    def _draw(self) -> None:
        status = self._tally.look(self._clock())
        self._try(lambda screen: screen.draw(status))
        self._set_redraw()

    def _try(self, act: Callable[[_Screen], None]) -> None:
        try:
            act(self._screen)
        except Exception as error:
            with suppress(Exception):
                self._screen.give_up()
            was_plain = isinstance(self._screen, _Lines)
            self._replace(_Screen() if was_plain else self._plain(), error)
            self._try(act)

    def _replace(self, screen: _Screen, error: Exception) -> None:
        self._screen = screen
        if not self._has_warned:
            self._has_warned = True
            instead = ": plain lines instead" if isinstance(screen, _Lines) else ""
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

    def _open(self, status: Status) -> _Screen:
        file = sys.stderr if self._file is None else self._file
        in_notebook = _is_of_a_notebook(file)
        # Standard error is None where a program has no console at all.
        if file is None or not (in_notebook or file.isatty()):  # pyright: ignore[reportUnnecessaryComparison]
            return self._plain()
        return _TqdmBar(
            self._title, self._unit, file, status, as_widget=in_notebook and _has_widgets()
        )

    def _plain(self) -> _Screen:
        file = sys.stderr if self._file is None else self._file
        return _Lines(self._title, self._unit, file)


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

    def _open(self, status: Status) -> _Screen:
        console = self._console
        if console.is_jupyter:
            is_able = _has_widgets()
        else:
            is_able = console.is_terminal and not console.is_dumb_terminal
        if not is_able:
            return self._plain()
        return _RichBar(self._title, self._unit, console, status)

    def _plain(self) -> _Screen:
        return _Lines(self._title, self._unit, self._console.file)


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

    def _open(self, status: Status) -> _Screen:
        self._callback(status)
        return _Told(self._callback)

    def _plain(self) -> _Screen:
        # Who has a function for it did not ask for lines on standard error.
        return _Screen()


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
    if isinstance(progress, type) or not callable(progress):
        raise UsageError(
            "progress must be True, False, a title, a function of a Status, or an "
            f"observer (the object, not its class), not {progress!r}"
        )
    return CallbackProgress(progress)


# --------------------------------------------------------------------------- screens


class _Told(_Screen):
    """A function of the caller's."""

    def __init__(self, callback: Callable[[Status], object]) -> None:
        self._callback = callback

    def draw(self, status: Status) -> None:
        self._callback(status)


class _Lines(_Screen):
    """A line now and then, for logs."""

    def __init__(self, title: str, unit: str, file: IO[str] | None) -> None:
        self._title = title
        self._unit = unit
        self._file = file

    def pause_s(self, elapsed_s: float) -> float:
        return min(max(elapsed_s, FIRST_LINE_S), MOST_LINE_S)

    def draw(self, status: Status) -> None:
        self.say(f"{self._title}: {line(status, self._unit)}")

    def say(self, message: str) -> None:
        if self._file is not None:  # else print() would take standard output
            print(message, file=self._file, flush=True)


class _TqdmBar(_Screen):
    """tqdm's bar, on a terminal or as a widget. What stands beside it is ours."""

    def __init__(
        self, title: str, unit: str, file: IO[str], status: Status, *, as_widget: bool
    ) -> None:
        self._unit = unit
        self._file = file
        self._bar = _tqdm(as_widget)(
            desc=title,
            total=status.total,
            bar_format=self._format(status),
            file=None if as_widget else file,
            # Every redraw is ours to time, since counts matter beside finished jobs.
            mininterval=0,
            miniters=0,
            dynamic_ncols=True,
        )

    def draw(self, status: Status) -> None:
        self._set(status)
        self._bar.refresh()

    def say(self, message: str) -> None:
        self._bar.write(message, file=self._file)

    def close(self, status: Status) -> None:
        self._set(status)
        self._bar.close()

    def give_up(self) -> None:
        self._bar.leave = False
        self._bar.close()

    def _set(self, status: Status) -> None:
        self._bar.n = status.done
        self._bar.bar_format = self._format(status)

    def _format(self, status: Status) -> str:
        text = beside(status, self._unit).replace("{", "{{").replace("}", "}}")
        if _total(status) is None:
            return "{desc}: " + text
        return "{desc}: {percentage:3.0f}%|{bar}| " + text


def _tqdm(as_widget: bool) -> type[tqdm[Any]]:
    """The class of tqdm's bar, which the event loop never has to wait for."""
    kind: Any = import_module("tqdm.notebook" if as_widget else "tqdm.std").tqdm
    # The lock of threads alone. tqdm's own is one of processes too: a child that is killed
    # while it draws would hold it for ever.
    lock: Any = import_module("tqdm.std").TqdmDefaultWriteLock.th_lock

    def refresh(bar: object, *_: object, **__: object) -> None:
        # tqdm's own does not release the lock when drawing raises.
        with lock:
            kind.refresh(bar, nolock=True)

    # No thread looks after our bars: we redraw them.
    changed = {"_lock": lock, "refresh": refresh, "monitor_interval": 0}
    bar: Any = type("Bar", (kind,), changed)
    return bar  # type: ignore[no-any-return]  # a class by its making


class _RichBar(_Screen):
    """rich's bar. It is redrawn when we say so, not by a thread of its own."""

    def __init__(self, title: str, unit: str, console: Console, status: Status) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bars

        self._unit = unit
        self._console = console
        # Only what goes to a terminal may be moved above the bar: a pipe must get its own.
        moves = not console.is_jupyter
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[beside]}", markup=False),
            console=console,
            auto_refresh=False,
            redirect_stdout=moves and _is_terminal(sys.stdout),
            redirect_stderr=moves and _is_terminal(sys.stderr),
            expand=True,
        )
        self._task = self._bars.add_task(
            title, total=_total(status), beside=beside(status, unit)
        )
        self._bars.start()

    def draw(self, status: Status) -> None:
        self._bars.update(
            self._task,
            completed=status.done,
            total=_total(status),
            beside=beside(status, self._unit),
        )
        self._bars.refresh()

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False)

    def close(self, status: Status) -> None:
        self.draw(status)
        self._bars.stop()

    def give_up(self) -> None:
        self._bars.stop()


def _is_of_a_notebook(file: object) -> bool:
    """Whether it is a stream of a Jupyter kernel; one that was put in its place is not."""
    return type(file).__module__.startswith("ipykernel.")


def _has_widgets() -> bool:
    try:
        import_module("ipywidgets")
    except ImportError:
        return False
    return True


def _is_terminal(file: IO[str] | None) -> bool:
    return file is not None and file.isatty()


# ----------------------------------------------------------------------------- words


def beside(status: Status, unit: str) -> str:
    """What stands beside a bar: ``3/10 [00:06<00:14, 0.5/s, 1 failed]``."""
    total = _total(status)
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
    if status.failed:
        details.append(f"{status.failed:,} failed")
    if status.retried:
        details.append(f"{status.retried:,} retried")
    return details


def _total(status: Status) -> int | None:
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
