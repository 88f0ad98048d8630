"""Words in drawings: made harmless, shortened, measured."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

# What XML cannot hold, and what moves the cursor or turns the direction of writing.
_UNFIT: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufffe\uffff]"
)
# Where a long name may be broken: behind `_`, `.` and `-`, and before a capital.
_PARTS: Final = re.compile(r"[^_.\-A-Z]*[_.\-]+|[A-Z]+[^_.\-A-Z]*|[^_.\-A-Z]+")


def clean(text: str) -> str:
    """The text without characters that no page may hold."""
    return _UNFIT.sub("\ufffd", text.replace("\t", " ").replace("\r\n", "\n"))


def escaped(text: str) -> str:
    """The text as it may stand in XML and HTML, in an element or in quotes."""
    return html.escape(clean(text), quote=True)


def one_line(text: str) -> str:
    """The text with all white space as single spaces."""
    return " ".join(clean(text).split())


def shortened(text: str, most: int | None) -> str:
    """The text, or so many of its characters with an ellipsis as the last one."""
    if most is None or len(text) <= most:
        return text
    return text[: most - 1] + "…"


def columns(text: str) -> int:
    """How many columns of a typewriter it takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def wrapped(label: str, width: int, most_lines: int = 3) -> list[str]:
    """A name on a few lines of at most this many columns, broken where its parts meet."""
    lines = [""]
    for part in _PARTS.findall(one_line(label)) or [one_line(label)]:
        for piece in _pieces(part, width):
            if lines[-1] and columns(lines[-1]) + columns(piece) > width:
                lines.append("")
            lines[-1] += piece
    if len(lines) > most_lines:
        last = lines[most_lines - 1]
        lines[most_lines - 1 :] = [shortened(last + "…", width)]
    return [line.strip() for line in lines]


def _pieces(part: str, width: int) -> list[str]:
    return [part[start : start + width] for start in range(0, len(part), width)]


def number(value: int) -> str:
    """12345 as 12,345."""
    return f"{value:,}"


def counted(value: int, one: str, many: str) -> str:
    """The number with its noun."""
    return f"{number(value)} {one if value == 1 else many}"


def seconds(value: float) -> str:
    """A duration for people to read: two or three digits that matter, and a unit."""
    value = max(0.0, value)
    if value < 0.9995:
        thousandths = value * 1000
        return f"{thousandths:.3g} ms" if thousandths >= 0.1 else "< 0.1 ms"
    if value < 59.995:
        return f"{value:.3g} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The least, the middle and the greatest."""
    ordered = sorted(values)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
