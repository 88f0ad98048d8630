"""The running Python's own documentation."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable

import pytest

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import StandardLibrary, documents
from anabranch.rag.types import Document


def read(modules: Iterable[str] | None) -> list[Document]:
    library = StandardLibrary(modules)

    async def gather() -> list[Document]:
        return [d for uri in library for d in documents(await library.read(uri))]

    return asyncio.run(gather())


@pytest.fixture(scope="module")
def demo() -> list[Document]:
    return read(StandardLibrary.DEMO)


def test_the_demo_is_large_enough_to_show_and_small_enough_to_embed(demo: list[Document]):
    assert 2_000 <= len(demo) <= 2_600
    assert sum(len(document.text) for document in demo) < 1_000_000


def test_ids_are_unique_and_documents_complete(demo: list[Document]):
    assert len({document.id for document in demo}) == len(demo)
    assert all(document.text.strip() and document.metadata["title"] for document in demo)


@pytest.mark.parametrize(
    "title",
    [
        "json.dumps",
        "asyncio.tasks.gather",
        "collections.deque.appendleft",  # in C, behind a front in Python
        "itertools.chain",  # in C alone
        "str.split",  # in nobody's module
        "os.stat",  # behind a front with another name
        "concurrent.futures.Future.result",  # in a private submodule
        "collections.abc.Sequence",  # in a private module at the top
        "pathlib.Path.glob",
        "datetime.datetime.isoformat",
    ],
)
def test_what_people_ask_about_is_found_under_its_name(demo: list[Document], title: str):
    assert title in {document.metadata["title"] for document in demo}


def test_nothing_is_documented_under_two_sources(demo: list[Document]):
    titles = [d.metadata["title"] for d in demo if d.metadata["kind"] == "function"]
    assert len(titles) - len(set(titles)) < len(titles) / 50


def test_the_whole_library_is_here():
    everything = read(None)
    assert len(everything) > 7_500
    titles = {document.metadata["title"] for document in everything}
    assert {
        "for",
        "with",
        "decimal.Decimal.sqrt",
        "email.message.Message.get_payload",
    } <= titles
    words = {uri.removeprefix("python:") for uri in StandardLibrary()}
    assert (
        not {"antigravity", "this", "idlelib", "test", "lib2to3", "unittest.test"} & words
    )


def test_reading_gives_the_same_digests_in_another_process():
    code = (
        "import asyncio; from anabranch.rag.readers import StandardLibrary as S; s = S();"
        "[print(asyncio.run(s.read(u)).digest) for u in S(['math', 'decimal', 'builtins'])]"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_modules_with_source_are_not_imported():
    code = (
        "import asyncio, sys; from anabranch.rag.readers import StandardLibrary as S;"
        "s = S(['turtle', 'tkinter', 'mailbox', 'xmlrpc']);"
        "[asyncio.run(s.read(uri)) for uri in s];"
        "print({'turtle', 'tkinter', 'mailbox', 'xmlrpc.server', 'this'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert run.stdout.strip() == b"set()"


def test_a_package_stands_for_all_that_is_in_it():
    assert list(StandardLibrary(["json"])) == [
        "python:json",
        "python:_json",
        "python:json.decoder",
        "python:json.encoder",
        "python:json.scanner",
        "python:json.tool",
    ]
    assert list(StandardLibrary(["json.decoder"])) == ["python:json.decoder"]
    assert list(StandardLibrary([])) == []


@pytest.mark.parametrize("name", ["no_such_module", "pytest", "", "json.nothing", "../etc"])
def test_a_module_that_is_not_there_is_an_error(name: str):
    with pytest.raises(UsageError, match="in this Python's standard library"):
        StandardLibrary([name])
    with pytest.raises(SourceError, match="no module of this Python"):
        asyncio.run(StandardLibrary().read(f"python:{name}"))
