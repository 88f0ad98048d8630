"""When what was at work in a run: a lane a step, a bar an attempt.

A lane whose step had many executions at once shows how many, as an area, in the place of a
bar each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from anabranch.workflow.drawing.graph import Tone
from anabranch.workflow.drawing.record import RunRecord
from anabranch.workflow.drawing.svg import Picture
from anabranch.workflow.drawing.text import (
    columns,
    counted,
    escaped,
    number,
    one_line,
    seconds,
    shortened,
)

_MOST_ROWS: Final = 8  # bars one below the other
_MOST_BARS: Final = 4_000  # in all lanes
_ROW: Final = 9.0
_AREA: Final = 46.0
_WIDTH: Final = 860.0  # of the time axis
_NARROWEST: Final = 1.5
_SHORTEST: Final = 0.001  # seconds from left to right
_STEPS: Final = 200  # of an area, from left to right
_MARGIN: Final = 20.0


class Bar(NamedTuple):
    """A span of time in a lane, in seconds from the run's beginning."""

    start: float
    end: float
    tone: Tone
    said: str


class Lane(NamedTuple):
    """A step's time.

    Attributes:
        rows: Bars that do not overlap, row by row.
    """

    step: str
    bars: tuple[Bar, ...]
    rows: tuple[tuple[Bar, ...], ...]


def lanes(record: RunRecord) -> tuple[Lane, ...]:
    """The lanes of a run, in the order in which its steps came first."""
    zero = _zero(record)
    found: dict[str, list[Bar]] = {}
    for attempt in record.attempts:
        took = seconds(attempt.ended_at - attempt.began_at)
        said = f"{attempt.step} #{attempt.execution}, attempt {attempt.number}: {took}"
        tone: Tone = "good" if attempt.number == 1 else "warned"
        if attempt.is_cut_off:
            tone, said = "busy", f"{said}, cut off by the end of the run"
        elif attempt.error is not None:
            tone, said = "bad", f"{said}, {shortened(one_line(attempt.error), 160)}"
        bar = Bar(attempt.began_at - zero, attempt.ended_at - zero, tone, said)
        found.setdefault(attempt.step, []).append(bar)
    for ongoing in record.ongoing:
        bars = found.setdefault(ongoing.step, [])
        if ongoing.began_at is not None and ongoing.status in (
            "running",
            "waiting",
            "cut off",
        ):
            said = f"{ongoing.step} #{ongoing.execution}, attempt {ongoing.attempt}: "
            bars.append(
                Bar(
                    ongoing.began_at - zero,
                    record.now - zero,
                    "busy",
                    said + ongoing.status,
                )
            )
    ordered = {step: sorted(bars) for step, bars in found.items()}
    steps = sorted(
        ordered, key=lambda step: ordered[step][0].start if ordered[step] else 1e18
    )
    return tuple(Lane(step, tuple(ordered[step]), _rows(ordered[step])) for step in steps)


def _zero(record: RunRecord) -> float:
    starts = [attempt.began_at for attempt in record.attempts]
    starts += [o.began_at for o in record.ongoing if o.began_at is not None]
    first = min(starts, default=record.now)
    # What came before is no longer remembered, so the axis begins where memory does.
    return (
        first if record.is_cut or record.began_at is None else min(first, record.began_at)
    )


def _rows(bars: Sequence[Bar]) -> tuple[tuple[Bar, ...], ...]:
    """The bars in as few rows as will do."""
    rows: list[list[Bar]] = []
    free: list[tuple[float, int]] = []  # when a row's last bar ends
    for bar in bars:
        if free and free[0][0] <= bar.start + 1e-9:
            _, index = heappop(free)
        else:
            index = len(rows)
            rows.append([])
        rows[index].append(bar)
        heappush(free, (bar.end, index))
    return tuple(map(tuple, rows))


def timeline(record: RunRecord, *, max_label_length: int | None = None) -> Picture:
    """The time of a run as a drawing."""
    found = lanes(record)
    ends = [bar.end for lane in found for bar in lane.bars]
    span = max([record.now - _zero(record), *ends, _SHORTEST])
    names = [shortened(one_line(lane.step), max_label_length or 36) for lane in found]
    widths = [columns(name) * 7.9 for name in names]
    widths += [columns(_at_work(lane)) * 6.3 for lane in found]
    left = max([130.0, *widths]) + 20
    are_few = sum(len(lane.bars) for lane in found) <= _MOST_BARS
    parts: list[str] = []
    top = 26.0
    scale = _WIDTH / span
    for index, (lane, name) in enumerate(zip(found, names, strict=True)):
        as_bars = are_few and len(lane.rows) <= _MOST_ROWS
        inside = max(len(lane.rows), 1) * _ROW if as_bars else _AREA
        height = max(inside + 12, 36.0)
        if index % 2 == 0:
            parts.append(
                f'<rect class="band" x="{-_MARGIN / 2:g}" y="{top:g}" '
                f'width="{left + _WIDTH + _MARGIN:g}" height="{height:g}"/>'
            )
        parts.append(_title(name, lane, top + height / 2))
        draw = _bars if as_bars else _area
        parts.append(
            f'<g transform="translate({left:.1f} {top + (height - inside) / 2:.1f})">'
            f"{''.join(draw(lane, scale))}</g>"
        )
        top += height
    axis = "".join(_axis(span, scale, top))
    body = f'<g transform="translate({left:.1f} 0)">{axis}</g>' + "\n".join(parts)
    return Picture(
        round(left + _WIDTH + 3 * _MARGIN, 1),
        top + 2 * _MARGIN,
        f'<g class="timeline" transform="translate({_MARGIN:g} {_MARGIN:g})">{body}</g>',
    )


def _title(name: str, lane: Lane, middle: float) -> str:
    return (
        f'<text class="ink name" x="0" y="{middle - 2:.1f}">{escaped(name)}</text>'
        f'<text class="faint" x="0" y="{middle + 12:.1f}">{escaped(_at_work(lane))}</text>'
    )


def _at_work(lane: Lane) -> str:
    said = counted(len(lane.bars), "attempt", "attempts")
    return said + (f", {number(len(lane.rows))} at once" if len(lane.rows) > 1 else "")


def _bars(lane: Lane, scale: float) -> Iterator[str]:
    for index, row in enumerate(lane.rows):
        for bar in row:
            width = max((bar.end - bar.start) * scale - 0.5, _NARROWEST)
            yield (
                f'<rect class="bar {bar.tone}" x="{bar.start * scale:.1f}" '
                f'y="{index * _ROW + 1:g}" width="{width:.1f}" height="{_ROW - 2:g}" '
                f'rx="1.5"><title>{escaped(bar.said)}</title></rect>'
            )


def _area(lane: Lane, scale: float) -> Iterator[str]:
    """How many were at work, and below, where some failed."""
    at_once = [0.0] * _STEPS
    of_step = _WIDTH / scale / _STEPS
    for bar in lane.bars:
        first = min(int(bar.start / of_step), _STEPS - 1)
        last = min(int(bar.end / of_step), _STEPS - 1)
        for index in range(first, last + 1):
            begin, end = index * of_step, (index + 1) * of_step
            at_once[index] += max(0.0, min(bar.end, end) - max(bar.start, begin)) / of_step
    most = max(1.0, *at_once)
    room = _AREA - 6
    wide = _WIDTH / _STEPS
    path = f"M0 {room:g}"
    for index, value in enumerate(at_once):
        y = room * (1 - value / most)
        path += f"L{index * wide:.1f} {y:.1f}L{(index + 1) * wide:.1f} {y:.1f}"
    said = f"{lane.step}: up to {len(lane.rows):,} at once"
    yield (
        f'<path class="bar good" d="{path}L{_WIDTH:g} {room:g}Z">'
        f"<title>{escaped(said)}</title></path>"
    )
    failed = sorted({int(bar.end * scale / 2) for bar in lane.bars if bar.tone == "bad"})
    for place in failed:
        yield (
            f'<rect class="bar bad" x="{place * 2}" y="{room + 1:g}" width="1.5" '
            'height="5">'
            f"<title>{escaped(lane.step)}: a failure</title></rect>"
        )


def _axis(span: float, scale: float, bottom: float) -> Iterator[str]:
    step = _nice(span / 6)
    for index in range(int(span / step * (1 + 1e-9)) + 1):
        x = index * step * scale
        words = escaped(seconds(index * step)) if index else "0"
        yield (
            f'<path class="rule" d="M{x:.1f} 20V{bottom:g}"/>'
            f'<text class="faint" x="{x:.1f}" y="12" text-anchor="middle">{words}</text>'
        )


def _nice(least: float) -> float:
    """The round number above: 1, 2 or 5 times a power of ten; of minutes, also round."""
    if least > 30:
        rounds = (60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
        for value in rounds:
            if value >= least:
                return float(value)
    power = 10.0 ** math.floor(math.log10(least))
    return next(
        power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999
    )
