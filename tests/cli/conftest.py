"""A few documents and an index of them; workflows, and commands that are under way."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anabranch.rag import index
from tests.cli.command import Started

DOCUMENTS = {
    "guide.md": "# Guide\n\nTo install it, run the installer.\n",
    "birds.txt": "The albatross crosses oceans without beating its wings.\n",
    "code/tool.py": '"""Whets pencils."""\n\n\ndef whet(blade):\n    """Hone a blade."""\n',
    "hostile.txt": "Harmless\x1b[2J\x1b]0;owned\x07 words about volcanoes.\n",
}


def write_documents(folder: Path) -> Path:
    for name, text in DOCUMENTS.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "docs")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``docs`` and their index ``ix``, which no test changes."""
    folder = tmp_path_factory.mktemp("made")
    write_documents(folder / "docs")
    asyncio.run(index([folder / "docs"], into=folder / "ix", model="static"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``flow.py``, as a user of workflows has it."""
    shutil.copy(Path(__file__).with_name("flow.py"), tmp_path)
    return tmp_path


@pytest.fixture
def starting(folder: Path) -> Iterator[Callable[..., Started]]:
    """Starts commands in that folder; what is still under way behind a test is killed."""
    started: list[Started] = []

    def start(*arguments: str) -> Started:
        started.append(Started(folder, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()
