"""What stages have made is remembered, and survives whatever happens to the process."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import StoreError
from anabranch.rag import Chunk, Document, Stage
from anabranch.rag.pipeline.cache import TransformCache
from tests.rag.parts import Shelf
from tests.rag.pipeline.enriching import TEXTS
from tests.rag.pipeline.running import held, lines, metadata, run


class Dear:
    """Counts what it is called with."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def summed(self, chunk: Chunk) -> Chunk:
        self.calls.append(chunk.text)
        return replace(chunk, metadata={**chunk.metadata, "sum": len(chunk.text)})

    def stage(self, version: str = "1") -> Stage[Chunk]:
        return Stage("sum", self.summed, concurrency=4, version=version, cached=True)


def test_what_has_not_changed_is_not_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        cache = tmp_path / "cache"
        await run(tmp_path, Shelf({"a": "one\ntwo"}), chunks=[Dear().stage()], cache=cache)
        dear = Dear()
        # Pushed down in its source, and in another one: the same text all the same.
        shelf = Shelf({"a": "zero\none\ntwo", "b": "two\nthree"})
        await run(tmp_path, shelf, chunks=[dear.stage()], cache=cache)
        assert sorted(dear.calls) == ["three", "zero"]
        assert await held(tmp_path) == {"a": ["zero", "one", "two"], "b": ["two", "three"]}
        assert await metadata(tmp_path, "sum") == {3, 4, 5}

    asyncio.run(main())


def test_another_version_of_the_stage_is_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = Dear(), Dear()
        await run(tmp_path, chunks=[first.stage()], cache=tmp_path / "cache")
        await run(tmp_path, chunks=[second.stage("2")], cache=tmp_path / "cache")
        assert sorted(first.calls) == sorted(second.calls)

    asyncio.run(main())


def test_a_synchronous_stage_on_documents_is_remembered_too(tmp_path: Path) -> None:
    calls: list[str] = []

    def halves(document: Document) -> list[Document]:
        calls.append(document.id)
        middle = len(document.text) // 2
        return [
            replace(document, id=document.id + "#1", text=document.text[:middle]),
            replace(
                document, id=document.id + "#2", text=document.text[middle:], start=middle
            ),
        ]

    async def main() -> None:
        def stage() -> Stage[Document]:
            return Stage("halves", halves, cached=True, concurrency=2)

        shelf = Shelf({"a": "first half, 2nd half"})
        await run(tmp_path, shelf, documents=[stage()], cache=tmp_path / "cache")
        expected = {"a": [", 2nd half", "first half"]}  # both begin their document
        assert await held(tmp_path) == expected
        await run(tmp_path / "other", shelf, documents=[stage()], cache=tmp_path / "cache")
        assert await held(tmp_path / "other") == expected
        assert calls == ["a"]

    asyncio.run(main())


names = st.text(max_size=5)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
fields = st.dictionaries(names, values | st.lists(values, max_size=3), max_size=3)


@given(
    st.builds(
        Document,
        st.text(),
        st.text(),
        fields,
        st.lists(st.integers(0, 99)).map(tuple),
        st.integers(0, 99),
    ),
    st.text(max_size=3),
)
def test_documents_come_back_as_they_were_made(document: Document, suffix: str) -> None:
    stage: Stage[Document] = Stage("x", lambda it: it)
    made = [replace(document, id=document.id + suffix, start=document.start + 7)]
    assert list(stage.read(document, stage.written(document, made))) == made
    elsewhere = replace(document, id="elsewhere", start=document.start + 100)
    assert stage.key(elsewhere) == stage.key(document)
    [moved] = stage.read(elsewhere, stage.written(document, made))
    assert (moved.id, moved.start) == ("elsewhere" + suffix, document.start + 107)


@given(st.builds(Chunk, st.text(), st.text(), st.integers(0, 9), st.integers(9), fields))
def test_chunks_come_back_with_their_place_and_tokens(chunk: Chunk) -> None:
    stage: Stage[Chunk] = Stage("x", lambda it: it)
    chunk = replace(chunk, tokens=np.arange(3, dtype=np.int32))
    written = stage.written(chunk, [chunk, replace(chunk, text=chunk.text + "!")])
    same, other = stage.read(chunk, written)
    assert (same, same.tokens is chunk.tokens) == (chunk, True)
    assert (other.text, other.tokens) == (chunk.text + "!", None)
    assert stage.key(replace(chunk, text=chunk.text + "!")) != stage.key(chunk)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [2, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_killed_at_a_write_it_makes_again_only_what_was_not_written(
    at: int, when: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.rag.pipeline.enriching", str(tmp_path)]
    killed = subprocess.run([*command, str(at), when], check=False)
    assert killed.returncode == -9
    before = Counter((tmp_path / "calls").read_text().splitlines())
    db = sqlite3.connect(tmp_path / "cache")
    (remembered,) = db.execute("SELECT count(*) FROM made").fetchone()
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert remembered < len(before) if when == "before" else remembered > 0
    subprocess.run([*command, "-1", when], check=True)
    calls = Counter((tmp_path / "calls").read_text().splitlines())
    everything = {line for text in TEXTS.values() for line in text.splitlines()}
    assert set(calls) == everything
    twice = [text for text, count in calls.items() if count > 1]
    assert len(twice) == len(before) - remembered
    assert asyncio.run(held(tmp_path)) == lines(TEXTS)


def test_a_file_that_is_no_cache_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a database, but long enough to look like one" * 9)
    with pytest.raises(StoreError, match=r"cannot be used .*delete the file"):
        asyncio.run(run(tmp_path, chunks=[Dear().stage()], cache=tmp_path / "cache"))


def test_a_cache_that_breaks_ends_the_run_and_no_source_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: TransformCache, key: bytes, value: bytes) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(TransformCache, "put", full)
    with pytest.raises(StoreError, match="the disk is full"):
        asyncio.run(run(tmp_path, chunks=[Dear().stage()], cache=tmp_path / "cache"))


def test_what_cannot_be_remembered_breaks_its_source(tmp_path: Path) -> None:
    def odd(chunk: Chunk) -> Chunk:
        metadata: Any = {"odd": object()}
        return replace(chunk, metadata=metadata)

    stage = Stage("odd", odd, cached=True)
    report = asyncio.run(run(tmp_path, chunks=[stage], cache=tmp_path / "cache"))
    assert len(report.broken) == 6
    assert "cannot be remembered" in report.broken[0].reason
