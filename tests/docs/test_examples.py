"""Every example runs: the Python of README and manual, and the programs in examples/.

The Python blocks of a page are one program, run from top to bottom in an empty folder. A
block marked ``text output`` is what the page has printed since the last such block; in
it ``...`` stands for anything. A block marked ``python norun`` is only for reading.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[!_]*/**/*.md"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))

FENCE = re.compile(r"^(?P<fence>```+)(?P<info>.*)$")
END_OF_BLOCK = "\x1e"


@dataclass(slots=True)
class Page:
    """A page as a program whose line numbers are the page's, and what it shall print."""

    lines: list[str] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)  # after each block

    @classmethod
    def read(cls, text: str) -> Page:
        page = cls()
        info = fence = None
        output: list[str] = []
        for line in text.splitlines():
            kept = ""
            match = FENCE.match(line)
            if fence is None and match:
                fence, info, output = match["fence"], match["info"].strip(), []
            elif fence is not None and line.rstrip() == fence:
                if info == "python":
                    kept = f"print({END_OF_BLOCK!r}, end='', flush=True)"
                    page.shown.append(None)
                elif info == "text output":
                    page.shown[-1] = "\n".join(output)
                fence = info = None
            elif info == "python":
                kept = line
            elif fence is not None:
                output.append(line)
            page.lines.append(kept)
        return page


def run(program: Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", [page for page in PAGES if Page.read(page.read_text()).shown], ids=name
)
def test_a_page_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    page = Page.read(path.read_text())
    program = tmp_path / f"{path.stem}.py"
    program.write_text("\n".join(page.lines))
    (tmp_path / "empty").mkdir()

    printed = run(program, tmp_path / "empty").split(END_OF_BLOCK)

    since = ""
    for got, wanted in zip(printed, page.shown, strict=False):
        since += got
        if wanted is not None:
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            matches = doctest.OutputChecker().check_output(wanted, since, options)
            assert matches, f"the page says:\n{wanted}\nit prints:\n{since}"
            since = ""


@pytest.mark.parametrize("path", PROGRAMS, ids=name)
def test_a_program_runs(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path)


def test_a_page_that_lies_is_found_out() -> None:
    text = "```python\nprint(1)\n```\n\n```text output\n2\n```\n\n```python norun\nx\n```\n"
    page = Page.read(text)
    assert page.shown == ["2"]
    assert page.lines[1] == "print(1)"
    assert "x" not in page.lines
