"""An index that follows real files."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from anabranch.errors import SourceError, UsageError
from anabranch.rag import Pipeline, Report, Sources, SqliteStore, keep_up
from tests.rag.parts import HashEmbedder, LineSplitter

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def kept(
    folder: Path, into: Path, *, again: float = 3600.0
) -> AsyncGenerator[tuple[AsyncGenerator[Report], SqliteStore]]:
    embedder = HashEmbedder()
    async with (
        Sources([folder]) as sources,
        await SqliteStore.create(into, embedder) as store,
    ):
        pipeline = Pipeline(
            reader=sources, splitter=LineSplitter(), embedder=embedder, store=store
        )
        async with aclosing(
            keep_up(pipeline, sources, settle=0.02, again=again)
        ) as reports:
            yield reports, store


async def stored(store: SqliteStore, folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    async with aclosing(store.passages()) as passages:
        async for passage in passages:
            name = os.path.relpath(passage.source, folder)
            found.setdefault(name, []).append(passage.chunk.text)
    return found


async def follow(
    reports: AsyncGenerator[Report], store: SqliteStore, folder: Path
) -> list[Report]:
    """The reports until the store holds what the folder holds."""
    seen: list[Report] = []
    while await stored(store, folder) != on_disk(folder):
        seen.append(await anext(reports))
    return seen


def on_disk(folder: Path) -> dict[str, list[str]]:
    return {
        os.path.relpath(path, folder): path.read_text().splitlines()
        for path in folder.rglob("*.md")
    }


def change(folder: Path) -> None:
    (folder / "b.md").write_text("b\nagain")
    (folder / "c.md").unlink()
    (folder / "new").mkdir()
    (folder / "new" / "d.md").write_text("d")
    (folder / "away").rename(folder.parent / "away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "away").mkdir(parents=True)
    for name in ("a", "b", "c", "away/x", "away/y"):
        (folder / f"{name}.md").write_text(name)
    return folder


def test_the_index_follows_what_changes(folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with kept(folder, tmp_path / "index") as (reports, store):
            first = await anext(reports)
            assert (first.new, first.removed) == (5, 0)
            change(folder)
            seen = await follow(reports, store, folder)
            assert sum(report.removed for report in seen) == 3
            assert sum(report.new for report in seen) == 1
            assert sum(report.changed for report in seen) == 1
            assert not any(report.broken for report in seen)
            (tmp_path / "away").rename(folder / "back")
            await follow(reports, store, folder)

    asyncio.run(main())


def test_a_change_during_the_first_look_is_not_lost(folder: Path, tmp_path: Path) -> None:
    class Disturbed(Sources):
        """Sources that change when the last of them has been named."""

        async def _found(self) -> AsyncGenerator[str | SourceError]:
            async for uri in super()._found():
                yield uri
            change(folder)

    async def main() -> None:
        embedder = HashEmbedder()
        async with (
            Disturbed([folder]) as sources,
            await SqliteStore.create(tmp_path / "index", embedder) as store,
        ):
            pipeline = Pipeline(
                reader=sources, splitter=LineSplitter(), embedder=embedder, store=store
            )
            async with aclosing(keep_up(pipeline, sources, settle=0.02)) as reports:
                await anext(reports)
                await follow(reports, store, folder)

    asyncio.run(main())


def test_everything_is_looked_at_again_after_some_time(
    folder: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        async with kept(folder, tmp_path / "index", again=0.001) as (reports, _):
            assert (await anext(reports)).new == 5
            assert (await anext(reports)).unchanged == 5

    asyncio.run(main())


def test_what_was_not_a_file_of_the_folder_stays(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.md"
    other.write_text("other")

    async def main() -> None:
        async with kept(other, tmp_path / "index") as (reports, _):
            await anext(reports)
        other.unlink()
        async with kept(folder, tmp_path / "index") as (reports, store):
            assert (await anext(reports)).removed == 0
            (folder / "away").rename(tmp_path / "away")
            assert (await anext(reports)).removed == 2
            assert os.path.relpath(other, folder) in await stored(store, folder)

    asyncio.run(main())


def test_cancelled_it_leaves_no_thread_and_no_lock(folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def keep() -> None:
            async with kept(folder, tmp_path / "index") as (reports, _):
                async for _report in reports:
                    begun.set()

        task = asyncio.create_task(keep())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        async with kept(folder, tmp_path / "index") as (reports, _):
            assert (await anext(reports)).unchanged == 5

    before = set(threading.enumerate())  # such as the portal's, which stays
    asyncio.run(main())
    assert not [t for t in threading.enumerate() if t not in before]


def test_sources_without_a_path_cannot_be_kept_up(folder: Path, tmp_path: Path) -> None:
    async def begin(names: list[str], again: float = 3600.0) -> None:
        embedder = HashEmbedder()
        async with (
            Sources(names) as sources,
            await SqliteStore.create(tmp_path / "index", embedder) as store,
        ):
            pipeline = Pipeline(
                reader=sources, splitter=LineSplitter(), embedder=embedder, store=store
            )
            async for _ in keep_up(pipeline, sources, again=again):
                return

    with pytest.raises(UsageError, match="none of these sources is a path"):
        asyncio.run(begin(["python:this"]))
    with pytest.raises(UsageError, match="again is 0"):
        asyncio.run(begin([str(folder)], again=0))
    with pytest.raises(SourceError, match="no such file"):
        asyncio.run(begin([str(folder / "none")]))


def start(folder: Path, into: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.rag.keeping", str(folder), str(into)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.parametrize("moment", ["looking", "waiting", "following"])
def test_killed_and_started_again_it_catches_up(
    folder: Path, tmp_path: Path, moment: str
) -> None:
    into = tmp_path / "index"
    with start(folder, into) as process:
        assert process.stdout is not None
        if moment != "looking":
            assert process.stdout.readline() == "5 0 0 0\n"
        else:  # as soon as there is something to kill it over
            wait_for((into / "index.sqlite").exists)
        if moment == "following":
            change(folder)
        process.kill()
    if moment != "following":
        change(folder)
    with start(folder, into) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()

    async def main() -> dict[str, list[str]]:
        async with await SqliteStore.open(into) as store:
            return await stored(store, folder)

    assert asyncio.run(main()) == on_disk(folder)


def wait_for(is_so: Callable[[], bool]) -> None:
    while not is_so():
        os.sched_yield()
