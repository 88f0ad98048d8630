"""What people see: widths, weights, and text that cannot harm a terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TextIO

# Escape and other control characters could clear the screen or answer in the user's
# name, and those that turn the direction of writing could show another text than there
# is. Surrogates cannot be written at all.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LEAST_WIDTH, _MOST_WIDTH = 40, 100


def plain(text: str) -> str:
    """The text without characters that could command a terminal."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    return " ".join(plain(text).split())


def width() -> int:
    """How many columns to fill: lines longer than a hundred are hard to read."""
    columns = shutil.get_terminal_size((80, 24)).columns
    return min(max(columns, _LEAST_WIDTH), _MOST_WIDTH)


def whole_width() -> int:
    """How many columns there are, for tables and pictures."""
    return max(shutil.get_terminal_size((80, 24)).columns, _LEAST_WIDTH)


# What a terminal of another encoding gets in the place of what it cannot show.
_SIMPLER = str.maketrans(
    {"━": "=", "╸": "=", "╺": "=", "┄": "-", "┆": "|", "→": ">", "✗": "x", "×": "x"}
    | {"…": "~", "·": "-"}
)


def drawable(text: str, file: TextIO) -> str:
    """The text with signs that the file's encoding has."""
    try:
        text.encode(file.encoding or "ascii")
        return text
    except (UnicodeEncodeError, LookupError):
        return text.translate(_SIMPLER)


def say(message: str) -> None:
    """Something for people beside the output: to standard error."""
    print(plain(message), file=sys.stderr, flush=True)


class Weight:
    """Bold, dim and colours where they are wanted: on a terminal, without ``NO_COLOR``."""

    def __init__(self, file: TextIO) -> None:
        self._on = (
            file.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )

    def bold(self, text: str) -> str:
        return self._set(1, text)

    def dim(self, text: str) -> str:
        return self._set(2, text)

    def red(self, text: str) -> str:
        return self._set(31, text)

    def green(self, text: str) -> str:
        return self._set(32, text)

    def yellow(self, text: str) -> str:
        return self._set(33, text)

    def _set(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and text else text


def shown_path(uri: str) -> str:
    """A source's name, shorter where it lies in the working folder."""
    try:
        return plain(str(Path(uri).relative_to(Path.cwd())))
    except (OSError, ValueError):
        return plain(uri)


def wrapped(text: str, columns: int, *, most: int | None = None) -> list[str]:
    """A passage as lines of at most so many columns, its own lines and indents kept.

    With ``most``, blank lines are left out and the rest is cut behind so many lines.
    """
    lines: list[str] = []
    for line in plain(text).expandtabs(4).splitlines():
        if most is not None and len(lines) > most:
            break
        body = line.strip()
        if not body:
            if most is None:
                lines.append("")
            continue
        indent = " " * min(len(line) - len(line.lstrip()), columns // 2)
        lines.extend(
            textwrap.wrap(
                body,
                columns,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
        )
    if most is not None and len(lines) > most:
        last = textwrap.shorten(lines[most - 1], columns - 2, placeholder="")
        indent = " " * (len(lines[most - 1]) - len(lines[most - 1].lstrip()))
        lines[most - 1 :] = [f"{indent}{last} …"[:columns]]
    return lines


def counted(number: int, noun: str) -> str:
    """``1 source``, ``2,000 sources``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    return f"{value // 60:.0f} min {value % 60:.0f} s"


def size(count: int) -> str:
    """A number of bytes as people say it."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return (
        f"{value:,.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
    )
