"""Where progress is drawn: tqdm's bar, rich's, lines, or a function of the caller's.

A screen draws a :class:`~anabranch.jobs.status.Status`. Whatever it raises is for who
draws on it; ``give_up`` lets go of everything after that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from anabranch.jobs.status import Status, beside, known_total, line

if TYPE_CHECKING:
    from rich.console import Console
    from tqdm import tqdm

REDRAW_EVERY_S = 0.1
# Where there is no terminal: the first line is written so late, and the time to the next
# doubles up to the most. A log has a dozen lines of an hour's work.
FIRST_LINE_S = 5.0
MOST_LINE_S = 600.0


class Screen:
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


class Told(Screen):
    """A function of the caller's."""

    def __init__(self, callback: Callable[[Status], object]) -> None:
        self._callback = callback

    def draw(self, status: Status) -> None:
        self._callback(status)


class Lines(Screen):
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


class TqdmBar(Screen):
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
        if known_total(status) is None:
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


class RichBar(Screen):
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
            title, total=known_total(status), beside=beside(status, unit)
        )
        self._bars.start()

    def draw(self, status: Status) -> None:
        self._bars.update(
            self._task,
            completed=status.done,
            total=known_total(status),
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


def is_of_a_notebook(file: object) -> bool:
    """Whether it is a stream of a Jupyter kernel; one that was put in its place is not."""
    return type(file).__module__.startswith("ipykernel.")


def has_widgets() -> bool:
    try:
        import_module("ipywidgets")
    except ImportError:
        return False
    return True


def _is_terminal(file: IO[str] | None) -> bool:
    return file is not None and file.isatty()
