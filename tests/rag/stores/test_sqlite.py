"""The embedded store beside a dictionary, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anabranch.errors import StoreError, StoreLocked, StoreMismatch
from anabranch.rag import Chunk, Hit, SqliteStore
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.stores import Abandon, Add, Remove, reading, writing
from anabranch.rag.types import Metadata
from tests.rag.parts import HashEmbedder, vector_of

R = TypeVar("R")

URIS = st.sampled_from(["a", "b", "c"])
WORDS = ["river", "delta", "stream", "braid", "oxbow"]
LINES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join), max_size=4)


def add(uri: str, lines: list[str], *, state: str = "1", is_last: bool = True) -> Add:
    return Add(
        Version(uri, state, "lines/1"),
        [Chunk(uri, line, 0, len(line), {"title": uri, "kind": line[0]}) for line in lines],
        [text_digest(line) for line in lines],
        np.array([vector_of(line) for line in lines], np.float32).reshape(-1, 8),
        is_last,
    )


class StoreBesideADictionary(RuleBasedStateMachine):
    """Whatever is written, what is found is what a dictionary of sources would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.complete: dict[str, list[str]] = {}
        self.writing: dict[str, list[str]] = {}
        self.reopen()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(coroutine)

    def reopen(self) -> None:
        self.store = self.run(SqliteStore.create(self.folder, HashEmbedder()))

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(uri=URIS, lines=LINES, is_last=st.booleans())
    def add(self, uri: str, lines: list[str], *, is_last: bool) -> None:
        self.run(self.store.write([add(uri, lines, is_last=is_last)]))
        self.writing.setdefault(uri, []).extend(lines)
        if is_last:
            self.complete[uri] = self.writing.pop(uri)

    @rule(uri=URIS, first=LINES, second=LINES)
    def add_and_remove_in_one_write(
        self, uri: str, first: list[str], second: list[str]
    ) -> None:
        self.run(self.store.write([add(uri, first), Remove(uri), add("z", second)]))
        self.complete.pop(uri, None)
        self.writing.pop(uri, None)
        self.complete["z"] = second

    @rule(uri=URIS)
    def abandon(self, uri: str) -> None:
        self.run(self.store.write([Abandon(uri)]))
        self.writing.pop(uri, None)

    @rule(uri=URIS)
    def remove(self, uri: str) -> None:
        self.run(self.store.write([Remove(uri)]))
        self.complete.pop(uri, None)
        self.writing.pop(uri, None)

    @rule()
    def sweep(self) -> None:
        self.run(self.store.sweep())

    @rule()
    def close_and_open_again(self) -> None:
        self.run(self.store.aclose())
        self.reopen()
        self.writing.clear()  # a writer that finds them gives them up

    @precondition(lambda self: self.complete)
    @rule(word=st.sampled_from(WORDS))
    def search(self, word: str) -> None:
        passages = [line for lines in self.complete.values() for line in lines]
        hits: Sequence[Hit] = self.run(self.store.search_text(word, k=100))
        assert sorted(hit.text for hit in hits) == sorted(
            line for line in passages if word in line.split()
        )
        query = vector_of(word)
        hits = self.run(self.store.search(query, k=3))
        best = sorted((float(vector_of(line) @ query) for line in passages), reverse=True)
        assert [hit.score for hit in hits] == pytest.approx(best[:3], abs=1e-5)

    @invariant()
    def what_is_complete_is_found_whole(self) -> None:
        passages = [(u, line) for u, lines in self.complete.items() for line in lines]
        counted = self.run(self.store.count())
        assert counted == (len(self.complete), len(passages))
        hits: Sequence[Hit] = self.run(self.store.search(vector_of("river"), k=1000))
        assert sorted((hit.source, hit.text) for hit in hits) == sorted(passages)
        versions = self.run(self.store.versions(["a", "b", "c", "z"]))
        assert set(versions) == set(self.complete)
        stored = self.run(self.store.vectors([text_digest(line) for _, line in passages]))
        for _, line in passages:
            np.testing.assert_array_equal(stored[text_digest(line)], vector_of(line))


TestStoreBesideADictionary = StoreBesideADictionary.TestCase
TestStoreBesideADictionary.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


async def filled(folder: Path) -> SqliteStore:
    store = await SqliteStore.create(folder, HashEmbedder())
    await store.write([add("a", ["river delta", "delta stream"]), add("b", ["oxbow lake"])])
    return store


def test_filters_hold_for_both_searches(folder: Path) -> None:
    async def main() -> None:
        async with await filled(folder) as store:
            for where, expected in (
                ({"kind": "d"}, {"delta stream"}),
                ({"kind": ["d", "r"]}, {"delta stream", "river delta"}),
                ({"kind": "d", "title": "b"}, set[str]()),
                ({"missing": None}, {"delta stream", "river delta", "oxbow lake"}),
            ):
                by_vector = await store.search(vector_of("x"), k=9, where=where)
                by_text = await store.search_text("delta oxbow", k=9, where=where)
                assert {hit.text for hit in by_vector} == expected
                assert {hit.text for hit in by_text} == expected

    asyncio.run(main())


def test_a_number_that_json_does_not_have_is_a_value_that_is_missing(folder: Path) -> None:
    metadata: Metadata = {"nan": float("nan"), "few": [1.5, float("inf")]}
    odd = replace(add("c", ["odd"]), chunks=[Chunk("c", "odd", 0, 3, metadata)])

    async def main() -> None:
        async with await filled(folder) as store:
            await store.write([odd])
            [hit] = await store.search_text("odd", k=1, where="nan == None")
            assert dict(hit.metadata) == {"nan": None, "few": [1.5, None]}
            assert len(await store.search_text("delta", k=9, where="nan == None")) == 2

    asyncio.run(main())


def test_nothing_in_a_filter_or_a_question_is_ever_syntax(folder: Path) -> None:
    async def main() -> None:
        async with await filled(folder) as store:
            hostile = "') OR 1=1 --"
            assert await store.search(vector_of("x"), k=9, where={hostile: hostile}) == []
            for field in ("kind", hostile, "a.b", "$", "*"):
                assert await store.search_text("delta", k=9, where={field: hostile}) == []
            for question in (
                '"',
                "delta NOT stream",
                "title:delta",
                "NEAR(",
                "*",
                "^x",
                "-",
            ):
                await store.search_text(question, k=9)
            assert await store.search_text("?!", k=9) == []
            assert await store.search(vector_of("x"), k=9, where={'a"b': 1}) == []

    asyncio.run(main())


def test_readers_see_what_another_process_writes(folder: Path) -> None:
    async def main() -> None:
        async with await filled(folder) as writer, await SqliteStore.open(folder) as reader:
            assert len(await reader.search(vector_of("x"), k=9)) == 3
            await writer.write([add("c", ["braid"])])
            assert len(await reader.search(vector_of("x"), k=9)) == 4
            assert await reader.model() == "hash-8"

    asyncio.run(main())


def test_one_process_writes_at_a_time_and_opens_an_index_once(folder: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from anabranch.rag import SqliteStore\n"
        "from tests.rag.parts import HashEmbedder\n"
        "asyncio.run(SqliteStore.create(Path(sys.argv[1]), HashEmbedder()))\n"
    )

    async def main() -> None:
        async with await filled(folder):
            with pytest.raises(StoreLocked, match="this process is indexing into"):
                await SqliteStore.create(folder, HashEmbedder())
            other = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", program, str(folder)],
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[3],
            )
            assert f"another process ({os.getpid()}) is indexing into" in other.stderr
        async with await SqliteStore.create(folder, HashEmbedder()):
            pass

    asyncio.run(main())


def test_a_file_of_somebody_else_is_not_taken_for_a_lock(folder: Path) -> None:
    folder.mkdir()
    (folder / "lock").write_text("The lock on the canal.")
    with pytest.raises(StoreError, match=r"lock is not of an index.*folder of its own"):
        asyncio.run(SqliteStore.create(folder, HashEmbedder()))
    assert (folder / "lock").read_text() == "The lock on the canal."


def test_vectors_of_another_model_are_refused(folder: Path) -> None:
    class Other(HashEmbedder):
        name = "other"
        digest = "other/1"

    async def main() -> None:
        await (await filled(folder)).aclose()
        with pytest.raises(StoreMismatch, match="made with the model hash-8"):
            await SqliteStore.create(folder, Other())
        with pytest.raises(StoreMismatch, match="use the same model"):
            await SqliteStore.open(folder, Other())

    asyncio.run(main())


def test_what_is_no_index_is_refused_with_a_sentence(folder: Path) -> None:
    async def main() -> None:
        with pytest.raises(StoreError, match="holds no index: make one with"):
            await SqliteStore.open(folder)
        folder.mkdir()
        (folder / "index.sqlite").write_bytes(b"rubbish" * 1000)
        with pytest.raises(StoreError, match="not an index, or is damaged"):
            await SqliteStore.open(folder)
        with pytest.raises(StoreError, match="not an index, or is damaged"):
            await SqliteStore.create(folder, HashEmbedder())
        file = folder.parent / "file"
        file.touch()
        with pytest.raises(StoreError, match="choose another"):
            await SqliteStore.create(file, HashEmbedder())

    asyncio.run(main())


def test_an_empty_file_is_no_index_to_ask_and_becomes_one_when_written(
    folder: Path,
) -> None:
    folder.mkdir()
    (folder / "index.sqlite").touch()
    with pytest.raises(StoreError, match=r"damaged.*: move it away and index again"):
        asyncio.run(SqliteStore.open(folder))

    async def main() -> None:
        await (await filled(folder)).aclose()
        async with await SqliteStore.open(folder) as store:
            assert await store.count() == (2, 3)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("damage", "asked"),
    [
        ("vector = x'00000000'", {"search", "vectors", "passages"}),
        ("vector = x'00'", {"search", "vectors", "passages"}),
        ("vector = ''", {"search", "vectors", "passages"}),
        ("metadata = '{'", {"search", "search_text", "passages", "filter"}),
        ("metadata = '[1]'", {"search", "search_text", "passages"}),
    ],
)
def test_a_passage_that_is_damaged_is_told_with_a_remedy(
    folder: Path, damage: str, asked: set[str]
) -> None:
    async def main() -> None:
        await (await filled(folder)).aclose()
        with sqlite3.connect(folder / "index.sqlite") as db:
            db.execute(f"UPDATE chunk SET {damage} WHERE text = 'delta stream'")
        db.close()
        async with await SqliteStore.open(folder) as store:
            nearest = vector_of("x")
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "search": lambda: store.search(nearest, k=9),
                "filter": lambda: store.search(nearest, k=9, where={"kind": "d"}),
                "search_text": lambda: store.search_text("stream", k=9),
                "vectors": lambda: store.vectors([text_digest("delta stream")]),
                "passages": lambda: anext(store.passages("kind == None or kind != None")),
            }
            for name, call in calls.items():
                if name in asked:
                    said = "is damaged .*: move it away and index again"
                    with pytest.raises(StoreError, match=said):
                        await call()
            assert await store.count() == (2, 3)

    asyncio.run(main())


def test_an_index_of_another_format_is_refused(folder: Path) -> None:
    async def main() -> None:
        await (await filled(folder)).aclose()
        with sqlite3.connect(folder / "index.sqlite") as db:
            db.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
        db.close()
        with pytest.raises(StoreError, match="index of format 99"):
            await SqliteStore.open(folder)

    asyncio.run(main())


def test_a_database_of_somebody_else_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    db = sqlite3.connect(folder / "index.sqlite")
    db.execute("CREATE TABLE precious (x)")
    db.commit()
    db.close()
    with pytest.raises(StoreError):
        asyncio.run(SqliteStore.open(folder))


def test_a_write_that_fails_leaves_everything_as_it_was(folder: Path) -> None:
    async def main() -> None:
        async with await filled(folder) as store:
            wrong = add("c", ["braid"])
            broken = Add(wrong.version, wrong.chunks, [], wrong.vectors, is_last=True)
            with pytest.raises(ValueError, match="shorter"):
                await store.write([Remove("a"), wrong, broken])
            assert await store.count() == (2, 3)

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work otherwise there")
def test_a_folder_that_cannot_be_written_can_still_be_asked(folder: Path) -> None:
    # As somebody else, since root may write anywhere.
    program = (
        "import asyncio, os, sys\n"
        "import concurrent.futures.thread\n"
        "from pathlib import Path\n"
        "from anabranch.rag import SqliteStore\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "async def main():\n"
        "    async with await SqliteStore.open(Path(sys.argv[1])) as store:\n"
        "        print(*await store.count())\n"
        "asyncio.run(main())\n"
    )

    async def main() -> None:
        await (await filled(folder)).aclose()

    asyncio.run(main())
    with tempfile.TemporaryDirectory() as open_to_all:
        place = Path(open_to_all) / "index"
        shutil.copytree(folder, place)
        Path(open_to_all).chmod(0o755)
        place.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", program, str(place)], capture_output=True, text=True
        )
        place.chmod(0o755)
    assert done.stdout == "2 3\n", done.stderr


@pytest.mark.parametrize(
    "work",
    [
        lambda db, uri: writing.apply(db, [add(uri, [], state="2")]),
        lambda db, uri: writing.apply(db, [add(uri, [], is_last=False), Abandon(uri)]),
        lambda db, uri: reading.versions(db, [uri]),
    ],
    ids=["replacing", "abandoning", "looking up"],
)
def test_what_is_done_to_a_source_takes_the_same_however_many_there_are(
    work: Callable[[sqlite3.Connection, str], object], tmp_path: Path
) -> None:
    def steps(sources: int) -> int:
        db = sqlite3.connect(tmp_path / f"{sources}.sqlite", isolation_level=None)
        try:
            writing.make(db, HashEmbedder())
            writing.apply(db, [add(f"uri {number}", []) for number in range(sources)])
            count = 0

            def step() -> None:
                nonlocal count
                count += 1

            db.set_progress_handler(step, 1)
            work(db, "uri 7")
            return count
        finally:
            db.close()

    assert steps(1000) < steps(10) + 200


def test_a_source_that_is_removed_leaves_no_abandoned_version(folder: Path) -> None:
    async def main() -> None:
        async with await SqliteStore.create(folder, HashEmbedder()) as store:
            await store.write([add("a", ["river"], is_last=False), Abandon("a")])
            await store.write([add("a", ["delta"]), Remove("a")])
            digests = [text_digest("river"), text_digest("delta")]
            assert await store.vectors(digests) == {}

    asyncio.run(main())
