"""What is imported, and what is said where it is missing."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from anabranch.rag.readers import WebReader, documents
from anabranch.rag.readers.media import DOCX
from anabranch.rag.types import Content


def test_importing_the_readers_loads_no_extra():
    code = (
        "import sys, anabranch.rag.readers;"
        "print({'aiohttp', 'selectolax', 'pypdfium2'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert run.stdout.strip() == b"set()"


@pytest.mark.parametrize(
    ("media_type", "module", "extra"),
    [
        ("text/html", "selectolax.lexbor", "rag"),
        ("application/pdf", "pypdfium2", "pdf"),
        (DOCX, "docx", "docx"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, media_type: str, module: str, extra: str
):
    monkeypatch.setitem(sys.modules, module, None)
    content = Content(uri="u", media_type=media_type, digest="", data=b"x")
    with pytest.raises(ImportError, match=rf"pip install 'anabranch\[{extra}\]'"):
        list(documents(content))


def test_a_missing_http_client_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)

    async def main() -> None:
        async with WebReader():
            pass

    with pytest.raises(ImportError, match=r"pip install 'anabranch\[rag\]'"):
        asyncio.run(main())
