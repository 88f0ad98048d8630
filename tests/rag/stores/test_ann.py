"""The graph of neighbours beside an index: what it finds, and what becomes of its file."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from anabranch.errors import UsageError
from anabranch.rag import Chunk, Hit, SqliteStore
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.stores import Add, Approximate, Remove, ann
from anabranch.rag.types import Vectors

DIMENSIONS = 16
GRAPH = Approximate(above=1_000)
COUNT = 2_500


class SeededEmbedder:
    """A vector from a generator seeded by the text."""

    name = "seeded"
    digest = "seeded/1"
    dimensions = DIMENSIONS
    max_tokens = batch_tokens = 1_000

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        return vectors_of([chunk.text for chunk in chunks])

    async def embed_query(self, text: str) -> Vectors:
        return vector_of(text)


def vector_of(text: str) -> Vectors:
    seed = int.from_bytes(text_digest(text)[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS, np.float32)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def vectors_of(texts: Sequence[str]) -> Vectors:
    return np.array([vector_of(text) for text in texts], np.float32)


def add(uri: str, texts: Sequence[str], **metadata: int) -> Add:
    return Add(
        Version(uri, "1", "lines/1"),
        [Chunk(uri, text, 0, len(text), {"uri": uri, **metadata}) for text in texts],
        [text_digest(text) for text in texts],
        vectors_of(texts).reshape(-1, DIMENSIONS),
        is_last=True,
    )


def lines(name: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(count)]


QUESTIONS = [vector_of(f"question {number}") for number in range(20)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with its graph, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "index"

    async def main() -> None:
        async with await SqliteStore.create(
            folder, SeededEmbedder(), search=GRAPH
        ) as store:
            for part in range(5):
                texts = lines(f"part {part}", COUNT // 5)
                await store.write([add(f"part {part}", texts, part=part)])
            await store.prepare()

    asyncio.run(main())
    assert (folder / "index.ann").exists()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "index"))


async def found(store: SqliteStore, **options: str) -> list[Sequence[Hit]]:
    return [await store.search(vector, k=5, **options) for vector in QUESTIONS]


def shared(some: Sequence[Sequence[Hit]], others: Sequence[Sequence[Hit]]) -> float:
    pairs = list(zip(some, others, strict=True))
    both = sum(len({h.key for h in a} & {h.key for h in b}) for a, b in pairs)
    return both / sum(len(b) for _, b in pairs)


async def exact(folder: Path, **options: str) -> list[Sequence[Hit]]:
    async with await SqliteStore.open(folder) as store:
        return await found(store, **options)


def test_a_large_index_is_searched_along_its_graph_with_exact_scores(folder: Path) -> None:
    async def main() -> None:
        truly = await exact(folder)
        async with await SqliteStore.open(folder, search=GRAPH) as store:
            await store.prepare()
            perhaps = await found(store)
            recall = await store.recall(k=5, sample=50)
        assert (recall.passages, recall.in_graph) == (COUNT, COUNT)
        assert recall.share > 0.95
        assert shared(perhaps, truly) > 0.95
        scores = {hit.key: hit.score for hits in truly for hit in hits}
        for hit in (hit for hits in perhaps for hit in hits if hit.key in scores):
            assert hit.score in {
                h.score for hits in truly for h in hits if h.key == hit.key
            }

    asyncio.run(main())


def test_a_small_index_has_no_graph(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SqliteStore.create(
            tmp_path, SeededEmbedder(), search=GRAPH
        ) as store:
            await store.write([add("few", lines("few", 900))])
            await store.prepare()
            recall = await store.recall()
        assert (recall.share, recall.in_graph) == (1.0, 0)
        assert not (tmp_path / "index.ann").exists()

    asyncio.run(main())


def test_what_is_written_is_found_and_what_is_removed_is_not_before_the_graph_knows(
    folder: Path,
) -> None:
    async def main() -> None:
        async with await SqliteStore.create(
            folder, SeededEmbedder(), search=GRAPH
        ) as store:
            await store.prepare()
            await store.write([add("new", ["question 0"]), Remove("part 0")])
            [first, *_] = await store.search(QUESTIONS[0], k=5)
            assert first.text == "question 0"
            assert all(h.source != "part 0" for hits in await found(store) for h in hits)
            assert (await store.recall(k=5)).in_graph == COUNT * 4 // 5
        assert shared(await exact(folder), await exact(folder)) == 1

    asyncio.run(main())


def test_a_graph_grows_when_much_is_new_and_is_made_anew_when_much_is_gone(
    folder: Path,
) -> None:
    async def main() -> None:
        async with await SqliteStore.create(
            folder, SeededEmbedder(), search=GRAPH
        ) as store:
            await store.write([add("many", lines("many", 1_500))])
            await store.prepare()
            recall = await store.recall(k=5)
            assert recall.in_graph == recall.passages == COUNT + 1_500
            assert recall.share > 0.95
            size = (folder / "index.ann").stat().st_size
            await store.write([Remove(f"part {part}") for part in range(5)])
            await store.prepare()
            recall = await store.recall(k=5)
            assert recall.in_graph == recall.passages == 1_500
            assert (folder / "index.ann").stat().st_size < size
            assert shared(await found(store), await exact(folder)) > 0.95

    asyncio.run(main())


def test_a_filter_that_leaves_few_is_exact_and_one_that_leaves_many_is_kept(
    folder: Path,
) -> None:
    few = "part == 3 and uri == 'part 3'"

    async def main() -> None:
        async with await SqliteStore.create(
            folder, SeededEmbedder(), search=GRAPH
        ) as store:
            await store.write([add("rare", lines("rare", 7), rare=1)])
            await store.prepare()
            assert await found(store, where="rare == 1") == await exact(
                folder, where="rare == 1"
            )
            assert await found(store, where="rare == 2") == [[]] * len(QUESTIONS)
            hits = await found(store, where=few)
            assert {h.source for some in hits for h in some} == {"part 3"}
            assert shared(hits, await exact(folder, where=few)) > 0.95

    asyncio.run(main())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def at(share: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] ^= 1
        path.write_bytes(data)

    return flip


def another_format(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"anabranch ann 1", b"anabranch ann 0"))


def test_a_file_that_is_damaged_anywhere_is_not_read(folder: Path) -> None:
    path = folder / "index.ann"
    whole = path.read_bytes()
    with closing(sqlite3.connect(folder / "index.sqlite", isolation_level=None)) as db:
        assert ann.read(path, db) is not None
        for damage in (truncate, empty, at(0), at(0.0005), at(0.2), at(1), another_format):
            damage(path)
            assert path.read_bytes() != whole
            assert ann.read(path, db) is None
            path.write_bytes(whole)


def test_a_file_that_is_damaged_is_made_anew(folder: Path) -> None:
    path = folder / "index.ann"
    whole = path.read_bytes()
    at(0.5)(path)

    async def main() -> None:
        async with await SqliteStore.open(folder, search=GRAPH) as store:
            await store.prepare()
            assert (await store.recall(k=5)).in_graph == COUNT
            assert shared(await found(store), await exact(folder)) > 0.95

    asyncio.run(main())
    assert len(path.read_bytes()) == len(whole)


def test_the_graph_of_another_index_is_not_used(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"

    async def main() -> None:
        async with await SqliteStore.create(other, SeededEmbedder(), search=GRAPH) as store:
            await store.write([add("other", lines("other", COUNT))])
            shutil.copy(folder / "index.ann", other / "index.ann")
            await store.prepare()
            assert (await store.recall(k=5)).share > 0.95
            assert shared(await found(store), await exact(other)) > 0.95

    asyncio.run(main())
    assert (other / "index.ann").read_bytes() != (folder / "index.ann").read_bytes()


@pytest.mark.parametrize("count", [0, 3], ids=["as it was", "gone another way"])
def test_when_an_old_copy_of_the_index_is_put_back_the_newer_graph_is_not_used(
    count: int, folder: Path
) -> None:
    async def main() -> None:
        old = folder.with_name("old")
        shutil.copytree(folder, old)
        async with await SqliteStore.create(
            folder, SeededEmbedder(), search=GRAPH
        ) as store:
            await store.write([add("one way", lines("one way", 1_500))])
            await store.prepare()
        (old / "index.ann").unlink()
        shutil.copy(folder / "index.ann", old / "index.ann")
        async with await SqliteStore.create(old, SeededEmbedder(), search=GRAPH) as store:
            # The same keys are given again, to other passages.
            for part in range(count):
                name = f"another way {part}"
                await store.write([add(name, lines(name, 500))])
            await store.prepare()
            recall = await store.recall(k=5)
            assert recall.in_graph == recall.passages == COUNT + 500 * count
            assert shared(await found(store), await exact(old)) > 0.95

    asyncio.run(main())


# KILLED FOLDER: writes FOLDER/index.ann, from what FOLDER/before holds, in processes that
# kill themselves at the first moment around a step of it, at the second, and so on.
KILLED = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from anabranch.rag.stores import ann, building

folder = Path(sys.argv[1])
path, before = folder / "index.ann", folder / "before"
moment = 0

def kill_in_time():
    global moment
    moment -= 1
    if moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def around(function):
    def called(*arguments, **options):
        kill_in_time()
        result = function(*arguments, **options)
        kill_in_time()
        return result
    return called

def build():
    os.fsync = around(os.fsync)
    Path.open = around(Path.open)
    Path.replace = around(Path.replace)
    building.build(folder)
    os._exit(0)

status, tried, whole = -1, 0, 0
while status != 0:
    tried += 1
    path.unlink(missing_ok=True)
    if before.exists():
        shutil.copy(before, path)
    moment = tried
    child = os.fork()
    if child == 0:
        build()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    if path.exists() and not (before.exists() and path.read_bytes() == before.read_bytes()):
        db = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
        whole += ann.read(path, db) is not None
        db.close()
    else:
        assert whole == 0, "it was renamed already"
print(tried, whole)
"""


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "next"])
def test_killed_before_and_after_every_step_of_a_write_the_graph_is_whole(
    is_first: bool, folder: Path
) -> None:
    async def grow() -> None:
        async with await SqliteStore.create(folder, SeededEmbedder()) as store:
            await store.write([add("more", lines("more", 1_100))])

    async def check() -> None:
        async with await SqliteStore.open(folder, search=GRAPH) as store:
            await store.prepare()
            recall = await store.recall(k=5, sample=20)
            assert recall.in_graph == recall.passages == COUNT + 1_100
            assert recall.share > 0.9

    asyncio.run(grow())
    if not is_first:
        shutil.copy(folder / "index.ann", folder / "before")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    tried, whole = map(int, done.stdout.split())
    assert tried > 8
    assert whole == 2  # killed after it was renamed, and not killed
    asyncio.run(check())
    assert not list(folder.glob("*.tmp"))


def test_where_the_graph_cannot_be_written_search_is_exact_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "index.ann").unlink()
    (folder / "index.ann").mkdir()

    async def main() -> None:
        async with await SqliteStore.open(folder, search=GRAPH) as store:
            await store.prepare()
            assert await found(store) == await exact(folder)
            assert (await store.recall()).in_graph == 0

    asyncio.run(main())
    [warning] = caplog.messages
    assert "is searched exactly until it is opened again" in warning


def test_closing_ends_what_is_being_made(folder: Path) -> None:
    (folder / "index.ann").unlink()

    async def main() -> None:
        store = await SqliteStore.open(folder, search=GRAPH)
        await store.search(QUESTIONS[0], k=1)  # has it made
        await store.aclose()
        async with await SqliteStore.open(folder, search=GRAPH) as store:
            await store.prepare()
            assert (await store.recall()).in_graph == COUNT

    asyncio.run(main())


def test_without_the_extra_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)

    async def main() -> None:
        with pytest.raises(ImportError, match=r"pip install 'anabranch\[ann\]'"):
            await SqliteStore.open(folder, search=GRAPH)
        async with await SqliteStore.open(folder) as store:
            assert len(await store.search(QUESTIONS[0], k=3)) == 3

    asyncio.run(main())


def test_how_to_search_is_checked_when_it_is_said() -> None:
    with pytest.raises(UsageError, match="above must be at least 0"):
        Approximate(above=-1)
