"""Bringing a store up to date, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from anabranch.observe import Observer
from anabranch.rag import Chunk, Pipeline, Report, SqliteStore
from anabranch.rag.types import Vectors
from anabranch.testing import Crash, crash_at
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf, vector_of

TEXTS = {
    f"book {number}": "\n".join(f"book {number} line {line}" for line in range(number))
    for number in range(9)
}


async def bring_up_to_date(
    folder: Path,
    shelf: Shelf,
    embedder: HashEmbedder | None = None,
    *,
    crash: tuple[int, bool] | None = None,
    observer: Observer | None = None,
) -> Report:
    embedder = embedder or HashEmbedder()
    async with await SqliteStore.create(folder, embedder) as store:
        if crash is not None:
            store.write = crash_at(store.write, crash[0], done=crash[1])  # type: ignore[assignment,method-assign]
        pipeline = Pipeline(
            reader=shelf, splitter=LineSplitter(), embedder=embedder, store=store, readers=3
        )
        report = await pipeline.run(shelf.names(), observer=observer)
        await store.sweep()
        return report


async def held(folder: Path) -> list[tuple[str, str, int]]:
    """Every passage that can be found, by both ways."""
    async with await SqliteStore.open(folder) as store:
        by_vector = await store.search(vector_of("x"), k=10_000)
        by_text = await store.search_text("line", k=10_000)
        assert {hit.key for hit in by_vector} == {hit.key for hit in by_text}
        return sorted((hit.source, hit.text, hit.start) for hit in by_vector)


def expected(texts: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(
        (name, line) for name, text in texts.items() for line in text.splitlines()
    )


def test_everything_is_stored_and_found(tmp_path: Path) -> None:
    async def main() -> None:
        report = await bring_up_to_date(tmp_path, Shelf(TEXTS))
        assert (report.sources, report.new, report.chunks) == (9, 9, 36)
        assert report.embedded == 36
        assert [(source, text) for source, text, _ in await held(tmp_path)] == expected(
            TEXTS
        )

    asyncio.run(main())


def test_a_second_run_embeds_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        await bring_up_to_date(tmp_path, Shelf(TEXTS))
        embedder = HashEmbedder()
        report = await bring_up_to_date(tmp_path, Shelf(TEXTS), embedder)
        assert (report.unchanged, report.new, report.changed) == (9, 0, 0)
        assert embedder.embedded == []

    asyncio.run(main())


def test_of_a_changed_source_only_the_changed_lines_are_embedded(tmp_path: Path) -> None:
    async def main() -> None:
        await bring_up_to_date(tmp_path, Shelf(TEXTS))
        changed = {**TEXTS, "book 5": TEXTS["book 5"] + "\na new line"}
        embedder = HashEmbedder()
        report = await bring_up_to_date(tmp_path, Shelf(changed), embedder)
        assert (report.changed, report.unchanged) == (1, 8)
        assert embedder.embedded == ["a new line"]
        assert [(source, text) for source, text, _ in await held(tmp_path)] == expected(
            changed
        )

    asyncio.run(main())


def test_a_text_that_comes_often_is_embedded_once(tmp_path: Path) -> None:
    async def main() -> None:
        embedder = HashEmbedder()
        texts = {f"copy {number}": "the same line\nand line two" for number in range(50)}
        report = await bring_up_to_date(tmp_path, Shelf(texts), embedder)
        assert report.chunks == 100
        assert sorted(embedder.embedded) == ["and line two", "the same line"]

    asyncio.run(main())


def test_a_broken_source_is_reported_and_the_others_are_indexed(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf({**TEXTS, "book 3": None, "book 7": "\0\0\0\0"})
        report = await bring_up_to_date(tmp_path, shelf)
        reasons = {error.uri: error.reason for error in report.broken}
        assert set(reasons) == {"book 3", "book 7"}
        assert reasons["book 3"] == "is out on loan: ask again later"
        assert (report.sources, report.new) == (9, 7)
        assert {source for source, _, _ in await held(tmp_path)} == {
            "book 1", "book 2", "book 4", "book 5", "book 6", "book 8"
        }  # fmt: skip

    asyncio.run(main())


def test_the_version_before_stays_when_the_new_one_is_broken(tmp_path: Path) -> None:
    async def main() -> None:
        await bring_up_to_date(tmp_path, Shelf(TEXTS))
        await bring_up_to_date(tmp_path, Shelf({**TEXTS, "book 8": "\0\0\0\0"}))
        assert [(source, text) for source, text, _ in await held(tmp_path)] == expected(
            TEXTS
        )

    asyncio.run(main())


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(8))
def test_a_crash_at_any_write_costs_at_most_that_write(
    at: int,
    done: bool,
    tmp_path: Path,
) -> None:
    async def main() -> None:
        texts = {**TEXTS, "long": "\n".join(f"long line {n}" for n in range(150))}
        await bring_up_to_date(tmp_path, Shelf({"long": "an older line\nlong line 3"}))
        with suppress(Crash):
            await bring_up_to_date(tmp_path, Shelf(texts), crash=(at, done))
        async with await SqliteStore.open(tmp_path) as store:
            complete = await store.versions(list(texts))
        found = await held(tmp_path)
        for (
            name,
            text,
        ) in texts.items():  # whole or not at all, and never two versions at once
            lines = [line for source, line, _ in found if source == name]
            if name == "long" and lines and lines[0] == "an older line":
                assert len(lines) == 2
            else:
                assert lines == (sorted(text.splitlines()) if name in complete else [])
        embedder = HashEmbedder()
        await bring_up_to_date(tmp_path, Shelf(texts), embedder)
        assert [(source, text) for source, text, _ in await held(tmp_path)] == expected(
            texts
        )

        again = HashEmbedder()
        await bring_up_to_date(tmp_path, Shelf(texts), again)
        assert again.embedded == []

    asyncio.run(main())


def test_what_a_crashed_run_had_stored_is_not_embedded_again(tmp_path: Path) -> None:
    async def main() -> None:
        texts = {"long": "\n".join(f"line {n}" for n in range(1000))}
        first, second = HashEmbedder(), HashEmbedder()
        with suppress(Crash):
            await bring_up_to_date(tmp_path, Shelf(texts), first, crash=(5, True))
        await bring_up_to_date(tmp_path, Shelf(texts), second)
        in_flight = set(first.embedded) & set(second.embedded)
        assert set(first.embedded) | set(second.embedded) == set(texts["long"].splitlines())
        assert 0 < len(first.embedded) < 1000
        assert len(in_flight) <= 2 * 64  # the batch being stored and the one behind it

    asyncio.run(main())


def test_reading_waits_for_embedding(tmp_path: Path) -> None:
    most_ahead = 0
    shelf = Shelf({f"s{number}": f"line {number} " * 20 for number in range(400)})

    class Slow(HashEmbedder):
        async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
            nonlocal most_ahead
            vectors = await super().embed(chunks)
            for _ in range(50):
                await asyncio.sleep(0)
            most_ahead = max(most_ahead, shelf.reads - len(self.embedded))
            return vectors

    async def main() -> None:
        await bring_up_to_date(tmp_path, shelf, Slow())
        assert shelf.reads == 400

    asyncio.run(main())
    assert most_ahead < 60


def test_an_observer_that_fails_is_dropped_and_the_work_goes_on(tmp_path: Path) -> None:
    class Broken(Observer):
        def finished(self, label: object, error: BaseException | None) -> None:
            raise RuntimeError("the observer broke")

    report = asyncio.run(bring_up_to_date(tmp_path, Shelf(TEXTS), observer=Broken()))
    assert report.new == 9


def test_an_observer_is_told_of_every_source_once(tmp_path: Path) -> None:
    class Telling(Observer):
        def __init__(self) -> None:
            self.finished_sources: list[tuple[object, bool]] = []
            self.passages = 0
            self.is_over = False

        def finished(self, label: object, error: BaseException | None) -> None:
            self.finished_sources.append((label, error is None))

        def counted(self, what: str, count: int) -> None:
            assert what == "passages"
            self.passages = count

        def ended(self) -> None:
            self.is_over = True

    async def main() -> None:
        telling = Telling()
        shelf = Shelf({**TEXTS, "book 3": None})
        await bring_up_to_date(tmp_path, shelf, observer=telling)
        assert sorted(telling.finished_sources) == sorted(
            (name, name != "book 3") for name in TEXTS
        )
        assert telling.passages == 33
        assert telling.is_over

    asyncio.run(main())
