"""A few documents and an index of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anabranch.rag import index

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
