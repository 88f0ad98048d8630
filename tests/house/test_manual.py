"""The manual tells of everything that is public, and its pictures are current."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import ROOT

DOCS = ROOT / "docs"


def test_the_diagram_is_current() -> None:
    spec = importlib.util.spec_from_file_location("diagram", DOCS / "diagram.py")
    assert spec is not None
    assert spec.loader is not None
    diagram = importlib.util.module_from_spec(spec)
    sys.modules["diagram"] = diagram  # dataclasses look their module up
    spec.loader.exec_module(diagram)
    assert diagram.PICTURE.read_text() == diagram.draw(), "run: python docs/diagram.py"


def test_every_package_is_in_the_reference() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"automodule:: (\S+)", pages))
    package = ROOT / "src/anabranch"
    rooms = {
        f"anabranch.{path.stem}"
        for path in package.iterdir()
        if not path.stem.startswith("_") and (path.suffix == ".py" or path.is_dir())
    }
    # The command line has a page of its own.
    assert rooms - documented == {"anabranch.cli"}
    listed = set(re.findall(r"\{public-names\} (\S+)", pages))
    assert listed >= documented | {"anabranch"}


@pytest.mark.parametrize(
    "room", ["jobs", "rag", "workflow", "testing", "errors", "clock", "observe"]
)
def test_every_public_class_and_function_says_what_it_does(room: str) -> None:
    """That each name is in the reference at all is seen when the manual is built."""
    module = importlib.import_module(f"anabranch.{room}")
    public = {name: getattr(module, name) for name in module.__all__}
    silent = [
        name
        for name, value in public.items()
        if (inspect.isclass(value) or inspect.isroutine(value))
        and not inspect.getdoc(value)
    ]
    assert not silent


def test_every_command_is_in_the_manual() -> None:
    program = Path(sys.executable).with_name("anabranch")
    shown = subprocess.run(
        [program, "--help"], check=True, capture_output=True, text=True
    ).stdout
    match = re.search(r"\{([\w,-]+)\}", shown)
    assert match is not None, shown
    page = (DOCS / "cli.md").read_text()
    assert set(match[1].split(",")) == set(re.findall(r"\{command-help\} (\w+)", page))


def test_every_decision_follows_the_form() -> None:
    for page in sorted((DOCS / "decisions").glob("0*.md")):
        number = int(page.name[:4])
        text = page.read_text()
        assert text.startswith(f"# {number}. "), page.name
        for part in ("Question", "Choice", "Rejected", "What would change our mind"):
            assert f"**{part}" in text, f"{page.name} has no {part}"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:4]) for page in (DOCS / "decisions").glob("0*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
