"""Draws docs/images/demo.svg: what the second run of ``anabranch demo`` shows.

Run it in the project's environment after a change of what the demo prints:
``.venv/bin/python docs/picture.py``. It runs the demo in a pseudo-terminal, the first
time for its index (about a minute) and a second time for the picture.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "demo.svg"
COMMAND = ("anabranch", "demo", "--into", "my-index")

COLUMNS = 100
# One character and one line, in pixels.
WIDTH, HEIGHT = 8.0, 19
MARGIN, TITLE = 24, 40
FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace"

# What the command line uses of a terminal: bold, dim, neither, and going back to the
# beginning of the line, over which a progress bar draws itself again.
STYLES = {"": "plain", "0": "plain", "1": "bold", "2": "dim"}
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")

Line = list[tuple[str, str]]
"""The characters of a line, each with its style."""


def recorded(folder: str) -> str:
    """What the demo writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("NO_COLOR", "COLUMNS", "LINES")
    }
    with subprocess.Popen(
        [sys.executable, "-m", *COMMAND],
        cwd=folder,
        env={**environment, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"the demo ended with status {process.returncode}")
    return written.decode()


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # how a pseudo-terminal ends on Linux
        return b""


def lines(written: str) -> Iterator[Line]:
    """The screen that the text leaves behind, line by line."""
    style = "plain"
    for text in written.rstrip().split("\n"):
        line: Line = []
        column, place = 0, 0
        while place < len(text):
            if match := _ESCAPE.match(text, place):
                place = match.end()
                if match[2] == "m":
                    style = STYLES[match[1]]
                continue
            if text[place] == "\r":
                column = 0
            else:
                line[column : column + 1] = [(text[place], style)]
                column += 1
            place += 1
        yield line


def runs(line: Line) -> Iterator[tuple[int, str, str]]:
    """The words of one style that follow each other: column, text, style."""
    start = 0
    for column in range(1, len(line) + 1):
        if column == len(line) or line[column][1] != line[start][1]:
            text = "".join(character for character, _ in line[start:column])
            if text.strip():
                indent = len(text) - len(text.lstrip())
                yield start + indent, text.strip(), line[start][1]
            start = column


def drawn(screen: list[Line]) -> str:
    """The screen as SVG: fonts of the system, colours of its own on any page."""
    width = round(COLUMNS * WIDTH) + 2 * MARGIN
    height = TITLE + len(screen) * HEIGHT + MARGIN
    style = (
        f"text{{font:13.3px {FONTS};fill:#d5dbe3;white-space:pre}}"
        ".bold{font-weight:700;fill:#fff}.dim{fill:#94a1b2}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"',
        f' viewBox="0 0 {width} {height}" role="img" aria-labelledby="t">',
        '<title id="t">The second run of anabranch demo, with its answers</title>',
        f"<style>{style}</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}"',
        ' rx="10" fill="#10161f" stroke="#3b4654"/>',
    ]
    for number, line in enumerate(screen):
        y = TITLE + number * HEIGHT
        for column, text, style in runs(line):
            # The length holds columns in place whatever font there is.
            parts.append(
                f'<text class="{style}" x="{MARGIN + column * WIDTH:g}" y="{y}" '
                f'textLength="{len(text) * WIDTH:g}" lengthAdjust="spacingAndGlyphs">'
                f"{escape(text)}</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        recorded(folder)
        written = recorded(folder)
    prompt: Line = [(character, "bold") for character in f"$ {' '.join(COMMAND)}"]
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn([prompt, *lines(written)]), "utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
