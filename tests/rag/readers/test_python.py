"""Docstrings of Python sources."""

from __future__ import annotations

import ast
import gc
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

from anabranch.errors import SourceError
from anabranch.rag.readers import documents
from anabranch.rag.readers.media import DOCSTRINGS
from anabranch.rag.readers.python import defined
from anabranch.rag.types import Content, Document

SOURCE = '''\
"""The module."""
import sys
raise SystemExit  # Never run.

def plain(a, b=1, *args, c: int = 2, d="more than forty characters of a default", **k) -> str:
    """Plain.

    Words.
        Indented.
    """

async def waits(): "Waits."

def bare(): pass

def _private(): "Private."

class Base: pass

class Thing(Base, metaclass=type):
    """A thing."""
    def __init__(self): "Makes it."
    def method(self):
        "A method."
        def inner(): "Unreachable."
    @property
    def value(self): "A value."
    @value.setter
    def value(self, new): "Sets it."
    class Inner: "Inside."
    class _Hidden:
        def seen(self): "Not seen."

if sys.platform == "win32":
    def either(): "On Windows."
else:
    def either(): "Elsewhere."
    try:
        def tried(): "Tried."
    except ImportError:
        def caught(): "Caught."
'''


def read(source: str | bytes, uri: str = "/x/pkg/mod.py") -> list[Document]:
    data = source.encode() if isinstance(source, str) else source
    return list(documents(Content(uri=uri, media_type=DOCSTRINGS, digest="", data=data)))


def test_every_public_docstring_is_a_document():
    found = {d.id.partition("#")[2]: d for d in read(SOURCE)}
    assert {name: d.metadata["kind"] for name, d in found.items()} == {
        "": "module",
        "plain": "function",
        "waits": "function",
        "Thing": "class",
        "Thing.__init__": "method",
        "Thing.method": "method",
        "Thing.value": "method",
        "Thing.Inner": "class",
        "either": "function",
        "tried": "function",
        "caught": "function",
    }
    assert found[""].text == "mod\n\nThe module."
    assert found["plain"].text == (
        "mod.plain(a, b=1, *args, c: int=2, d=..., **k) -> str\n\n"
        "Plain.\n\nWords.\n    Indented."
    )
    assert found["plain"].metadata == {"title": "mod.plain", "kind": "function", "line": 5}
    assert found["waits"].text == "async mod.waits()\n\nWaits."
    assert found["Thing"].text == "class mod.Thing(Base)\n\nA thing."
    assert found["Thing.value"].text.endswith("A value.")
    assert found["either"].text.endswith("On Windows.")


def test_a_package_is_named_after_its_folder():
    assert read('"Doc."', "/x/pkg/__init__.py")[0].metadata["title"] == "pkg"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(:\n", r"invalid syntax.* in line 1"),
        (b"# coding: utf-8\nx = '\xff'\n", "not Python"),
        (b"# coding: nonsense\n", "nonsense"),
        (b"x = 1\0", "null bytes"),
        ("(" * 100_000, "not Python"),
        ("-" * 200_000 + "1", "not Python"),
    ],
    ids=range(6),
)
def test_what_is_not_python_is_an_error(source: str | bytes, reason: str):
    with pytest.raises(SourceError, match=reason):
        read(source)


def test_the_declared_encoding_is_honoured():
    (document,) = read(b"# coding: latin-1\n'''caf\xe9'''\n")
    assert document.text == "mod\n\ncafé"


def test_an_invalid_escape_warns_nobody_even_where_warnings_are_errors():
    actions: tuple[Literal["error", "always"], ...] = ("error", "always")
    for action in actions:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            assert len(read('"""A doc with \\d."""')) == 1
        assert caught == []


def test_sources_are_read_in_many_threads_at_once():
    def let_others_in(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    def parse_beside_us() -> None:
        while not done.is_set():
            with suppress(SystemError):  # Python's own, which we do not have to suffer
                ast.parse("x = " + "(" * 20 + ")" * 20)
            time.sleep(0.001)

    done = threading.Event()
    beside_us = threading.Thread(target=parse_beside_us)
    source = Path(ast.__file__).read_bytes()
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(50)
    sys.setswitchinterval(1e-6)
    gc.callbacks.append(let_others_in)
    beside_us.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(defined, [source] * 16))
    finally:
        done.set()
        beside_us.join()
        gc.callbacks.remove(let_others_in)
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
    assert all("NodeVisitor" in names for names in found)
