"""What happened in a run, as lines: a bar for each execution of a step.

It is made of the run's journal alone. So it has what was recorded: executions that ended,
attempts that failed, and waits; what is at work now has left no trace yet.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from anabranch.cli import _plain as plain
from anabranch.cli._terminal import Weight, one_line

if TYPE_CHECKING:
    from anabranch.workflow.history import Entry

Kind: TypeAlias = Literal["ended", "failed", "waiting", "note"]

LEAST_WIDTH: Final = 30
_LEAST_BAR, _MOST_BAR = 10, 48
_LEAST_WORDS: Final = 30
_MOST_NAME: Final = 22
_TIME: Final = 8
# What is open ends where the picture does, and gets so much of it to be seen.
_OPEN_SHARE: Final = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line.

    Attributes:
        position: That of the journal's entry, for ``anabranch runs fork --at``.
        kind: Whether an execution ended, failed or waits; or a note on the whole run.
        began_at: When the execution, or this attempt of it, began; as all times, seconds
            since the epoch.
        at: When it came to what the line says.
        step: Its step; empty for a note.
        execution: Its number.
        attempt: Which attempt it was.
        said: What happened.
        waited_at: When it began to wait, if it did.
        waits: The classes of the events that it waits for, with their modules.
    """

    position: int
    kind: Kind
    began_at: float
    at: float
    step: str = ""
    execution: int | None = None
    attempt: int | None = None
    said: str = ""
    waited_at: float | None = None
    waits: tuple[str, ...] = ()


@dataclass(slots=True)
class _Execution:
    """What is known of an execution that has not ended."""

    began_at: float | None = None
    attempt: int = 1
    waits: dict[str, Row] = field(default_factory=dict[str, Row])


def rows(entries: Sequence[Entry]) -> list[Row]:
    """The lines for a journal, in its order."""
    found: dict[int, Row] = {}
    executions: dict[int, _Execution] = {}
    last_at = entries[0].at if entries else 0.0
    for entry in entries:
        row = None
        if entry.execution is not None:
            execution = executions.setdefault(entry.execution, _Execution(entry.began_at))
            row = _of_execution(entry, execution)
            if row is not None and row.kind != "waiting":
                for wait in execution.waits.values():
                    found.pop(wait.position, None)
                execution.waits.clear()
            if row is not None and row.kind == "ended":
                del executions[entry.execution]
        elif (said := _note(entry, entry.at - last_at)) is not None:
            row = Row(
                position=entry.position,
                kind="note",
                began_at=entry.at,
                at=entry.at,
                said=said,
            )
        if row is not None:
            found[row.position] = row
        last_at = entry.at
    return list(found.values())


def _of_execution(entry: Entry, execution: _Execution) -> Row | None:
    fact = entry.fact
    row = Row(
        position=entry.position,
        kind="ended",
        began_at=entry.at if execution.began_at is None else execution.began_at,
        at=entry.at,
        step=entry.step or "",
        execution=entry.execution,
        attempt=execution.attempt,
        waited_at=min((wait.at for wait in execution.waits.values()), default=None),
    )
    waited = ", ".join(_names(wait.waits) for wait in execution.waits.values())
    match entry.kind:
        case "Returned":
            _, _, _, attempt, events, *_ = fact
            returned = f"→ {_events(events)}"
            said = f"waited for {waited} {returned}" if waited else returned
            return replace(row, attempt=attempt, said=said)
        case "Failed":
            _, _, _, attempt, error, retry_s, *_ = fact
            again = "" if retry_s is None else f"again in {span(retry_s)}: "
            execution.began_at = None if retry_s is None else entry.at + retry_s
            execution.attempt = attempt + 1
            said = f"✗ {again}{plain.error(error)}"
            return replace(row, kind="failed", attempt=attempt, said=said)
        case "Waited":
            _, _, _, key, kind, _, timeout, *_ = fact
            until = "" if timeout is None else f", {span(timeout)} at most"
            wait = replace(
                row,
                kind="waiting",
                waited_at=entry.at,
                said=f"waits for {plain.short_name(kind)}{until}",
                waits=(plain.full_name(kind),),
            )
            execution.waits[key] = wait
            return wait
        case _:
            return None


def _names(kinds: Sequence[str]) -> str:
    return ", ".join(kind.rpartition(".")[2] for kind in kinds)


def _events(events: Any) -> str:
    if isinstance(events, dict):  # a serializer of the workflow's own wrote them
        return "events"
    counts = Counter(plain.short_name(event) for event in events)
    said = [name if n == 1 else f"{n:,} × {name}" for name, n in counts.items()]
    return ", ".join(said) or "nothing"


def _note(entry: Entry, since_s: float) -> str | None:
    """What concerns the run as a whole."""
    fact = entry.fact
    match entry.kind:
        case "Began":
            return f"begun with {plain.short_name(fact[2])}"
        case "Resumed":
            return f"taken up {span(max(0.0, since_s))} later"
        case "Adopted":
            version = json.loads(fact[2]).get("shape", {}).get("version")
            return f"goes on as version {version!r}" if version else "goes on as new code"
        case "Received":
            return f"was sent {plain.short_name(fact[2])}"
        case "Retried":
            return "to be tried again"
        case "Cancelled":
            return "cancelled"
        case "Fired" if "run" in str(fact[2]):
            return "out of time"
        case _:
            return None


# -------------------------------------------------------------------------- drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The widths of a line's columns; without a bar there is no time it took, either."""

    position: int
    step: int
    bar: int
    said: int


def render(
    shown: Sequence[Row],
    *,
    zero: float,
    now: float,
    is_over: bool,
    width: int,
    weight: Weight,
) -> list[str]:
    """Lines of at most ``width`` columns, or :data:`LEAST_WIDTH`.

    Args:
        shown: What to show.
        zero: When the run began.
        now: The time, or when the run ended.
        is_over: Whether the run has ended, so that nothing waits any more.
        width: In columns.
        weight: Colours, if they are wanted.
    """
    if not shown:
        return []
    width = max(width, LEAST_WIDTH)
    layout = _layout(shown, width)
    first = min((row.began_at for row in shown), default=zero)
    last = max((row.at for row in shown), default=zero)
    if not is_over and any(row.kind == "waiting" for row in shown):
        last += (last - first) * _OPEN_SHARE or 0.001
    head = [
        f"{'at':>{layout.position}}",
        f"{'after':>{_TIME}}",
        f"{'took':>{_TIME}}" if layout.bar else "",
        _axis(first - zero, last - zero, layout.bar),
        f"{'step':<{layout.step}}",
        "what it did",
    ]
    lines = [weight.dim("  ".join(part for part in head if part)[:width].rstrip())]
    axis = (first, last)
    lines += [
        _line(row, layout, zero=zero, now=now, axis=axis, is_over=is_over, weight=weight)
        for row in shown
    ]
    return lines


def _layout(shown: Sequence[Row], width: int) -> _Layout:
    position = max([2, *(len(str(row.position)) for row in shown)])
    step = min(max([4, *(len(_step(row)) for row in shown)]), _MOST_NAME, width // 5)
    longest = max([11, *(len(row.said) for row in shown)])
    room = width - position - 2 * _TIME - step - 8
    # One long error must not leave the bars no room.
    said = min(longest, max(room // 2, _LEAST_WORDS))
    bar = min(room - said - 2, _MOST_BAR)
    if bar < _LEAST_BAR:
        return _Layout(position=position, step=step, bar=0, said=room + _TIME)
    return _Layout(position=position, step=step, bar=bar, said=room - bar - 2)


def _step(row: Row) -> str:
    again = f" ({row.attempt})" if row.attempt is not None and row.attempt > 1 else ""
    return f"{row.step}{again}"


def _axis(start: float, end: float, columns: int) -> str:
    left, right = span(start), span(end)
    middle = " " * max(1, columns - len(left) - len(right))
    return f"{left}{middle}{right}"[:columns] if columns else ""


def _line(
    row: Row,
    layout: _Layout,
    *,
    zero: float,
    now: float,
    axis: tuple[float, float],
    is_over: bool,
    weight: Weight,
) -> str:
    is_open = row.kind == "waiting" and not is_over
    colour = {
        "ended": weight.green,
        "failed": weight.red,
        "waiting": weight.yellow if is_open else weight.dim,
        "note": weight.dim,
    }[row.kind]
    took = "" if row.kind == "note" else span(row.at - row.began_at)
    if row.kind == "waiting":
        took = span(now - row.began_at) + ("…" if is_open else "")
    parts = [
        weight.dim(f"{row.position:>{layout.position}}"),
        f"{span(row.began_at - zero):>{_TIME}}",
    ]
    if layout.bar:
        end = axis[1] if is_open else row.at
        parts += [
            f"{took:>{_TIME}}",
            _bar(row, (row.began_at, end), axis, layout.bar, colour),
        ]
    said = row.said
    if row.kind == "waiting" and is_over:
        said = said.replace("waits", "waited", 1)
    words = cut(said, layout.said)
    step = f"{cut(_step(row), layout.step):<{layout.step}}"
    if row.kind == "note":
        parts += [step, weight.dim(words)]
    elif row.kind == "ended":
        parts += [step, words]
    else:
        parts += [step, colour(words)]
    return "  ".join(parts)


def _bar(
    row: Row,
    spent: tuple[float, float],
    axis: tuple[float, float],
    columns: int,
    colour: Any,
) -> str:
    """A line's time in half columns: heavy where it worked, dotted where it waited."""
    scale = 2 * columns / max(axis[1] - axis[0], 1e-9)
    begin = min(round((spent[0] - axis[0]) * scale), 2 * columns - 1)
    end = min(max(round((spent[1] - axis[0]) * scale), begin + 1), 2 * columns)
    rest = end
    if row.waited_at is not None:
        rest = min(max(round((row.waited_at - axis[0]) * scale), begin), end)
    cells = "".join(_cells(begin, rest, end, columns)) if row.kind != "note" else ""
    if row.kind == "note":
        cells = f"{' ' * (begin // 2)}┆"
    blank = len(cells) - len(cells.lstrip())
    drawn = cells.strip()
    return f"{' ' * blank}{colour(drawn)}{' ' * (columns - blank - len(drawn))}"


def _cells(begin: int, rest: int, end: int, columns: int) -> Iterator[str]:
    for column in range(columns):
        left, right = (begin <= half < end for half in (2 * column, 2 * column + 1))
        works = any(begin <= half < rest for half in (2 * column, 2 * column + 1))
        if not left and not right:
            yield " "
        elif not works:
            yield "┄"
        elif left and right:
            yield "━"
        else:
            yield "╸" if left else "╺"


def cut(text: str, columns: int) -> str:
    """The text on one line of at most so many columns."""
    text = one_line(text)
    return text if len(text) <= columns else f"{text[: max(0, columns - 1)].rstrip()}…"


def span(seconds: float) -> str:
    """A duration in at most seven characters."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, below, size, limit in (("m", "s", 60, 3600), ("h", "m", 3600, 86400)):
        if whole < limit:
            return f"{whole // size}{unit}{whole % size // (size // 60):02}{below}"
    if whole < 1000 * 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
    return f"{whole // 86400}d"


def as_data(row: Row) -> dict[str, Any]:
    """A line for programs."""
    return asdict(row) | {"step": row.step or None, "waits": list(row.waits)}
