"""Watching real files. Nothing sleeps: each wait ends with what it waits for."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.errors import SourceError, UsageError
from anabranch.rag import Changes, Watch

SETTLE = 0.02


async def until(watch: Watch, *wanted: Path) -> Changes:
    """All changes up to those of the wanted paths."""
    seen: set[str] = set()
    async for changes in watch:
        seen |= changes.paths
        if all(changes_touch(seen, path) for path in wanted):
            return Changes(frozenset(seen))
    raise AssertionError("the watch ended")


def changes_touch(seen: set[str], path: Path) -> bool:
    return Changes(frozenset(seen)).touch(str(path))


def names(changes: Changes, root: Path) -> list[str]:
    found = [uri for uri in changes.found() if isinstance(uri, str)]
    return [os.path.relpath(uri, root) for uri in found]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate()]
    assert not [name for name in left if name.startswith("anabranch-watch")]


def test_what_comes_changes_and_goes_is_told(tmp_path: Path) -> None:
    (tmp_path / "old.md").write_text("old")
    (tmp_path / "gone.md").write_text("gone")

    async def main() -> None:
        async with Watch([tmp_path], settle=SETTLE) as watch:
            (tmp_path / "new.md").write_text("new")
            (tmp_path / "old.md").write_text("changed")
            (tmp_path / "gone.md").unlink()
            paths = [tmp_path / name for name in ("new.md", "old.md", "gone.md")]
            changes = await until(watch, *paths)
            assert changes.paths == {str(path) for path in paths}
            assert names(changes, tmp_path) == ["new.md", "old.md"]
            assert changes.are_files()

    asyncio.run(main())


def test_links_are_followed_as_a_walk_follows_them(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for folder in (root / "sub", out):
        folder.mkdir(parents=True)
        (folder / "a.md").write_text("a")
    (root / "named").symlink_to(out)

    async def main() -> None:
        async with Watch([root, root / "named"], settle=SETTLE) as watch:
            (root / "lead.md").symlink_to(out / "a.md")
            (root / "folder").symlink_to(out)
            (root / "new").mkdir()
            (root / "new/within.md").symlink_to("../sub/a.md")
            (out / "b.md").write_text("b")
            (root / "last.md").write_text("last")
            met: set[str] = set()
            async for changes in watch:
                met.update(names(changes, root))
                if {"last.md", "new/within.md", "named/b.md"} <= met:
                    break
            assert not {"lead.md", "folder/a.md", "folder/b.md"} & met

    asyncio.run(main())


def test_what_changed_before_anybody_asked_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with Watch([tmp_path], settle=SETTLE) as watch:
            (tmp_path / "a.md").write_text("a")
            await until(watch, tmp_path / "a.md")
            (tmp_path / "b.md").write_text("b")
            # Nobody waits while this goes on.
            for number in range(200):
                await asyncio.to_thread((tmp_path / f"{number}.md").write_text, "x")
            wanted = [tmp_path / f"{number}.md" for number in range(200)]
            await until(watch, tmp_path / "b.md", *wanted)

    asyncio.run(main())


def test_a_wait_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with Watch([tmp_path], settle=SETTLE) as watch:
            for number in range(20):
                waiting = asyncio.ensure_future(anext(watch))
                await asyncio.sleep(0)  # one turn, so that it waits
                (tmp_path / f"{number}.md").write_text("x")
                waiting.cancel()
                await asyncio.wait([waiting])
            await until(watch, *(tmp_path / f"{number}.md" for number in range(20)))

    asyncio.run(main())


def test_folders_that_are_made_or_moved_are_looked_into(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "a.md").write_text("a")
    (root / "leaves").mkdir()
    (root / "leaves" / "b.md").write_text("b")

    async def main() -> None:
        async with Watch([root], settle=SETTLE) as watch:
            (root / "made" / "deep").mkdir(parents=True)
            (root / "made" / "deep" / "c.md").write_text("c")
            (elsewhere / "deep").rename(root / "came")
            (root / "leaves").rename(elsewhere / "left")
            changes = await until(
                watch, root / "made/deep/c.md", root / "came/a.md", root / "leaves"
            )
            assert set(names(changes, root)) >= {"made/deep/c.md", "came/a.md"}
            assert changes.touch(str(root / "leaves" / "b.md"))
            assert not changes.are_files()
            # What comes later into a folder that came is told too.
            (root / "came" / "later.md").write_text("l")
            await until(watch, root / "came" / "later.md")

    asyncio.run(main())


def test_hidden_names_and_other_kinds_are_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with Watch([tmp_path], kinds=["markdown"], settle=SETTLE) as watch:
            (tmp_path / ".git").mkdir()
            (tmp_path / ".git" / "a.md").write_text("a")
            (tmp_path / "b.txt").write_text("b")
            (tmp_path / "c.png").write_text("c")
            (tmp_path / "d.md").write_text("d")
            changes = await until(watch, tmp_path / "d.md")
            assert changes.paths == {str(tmp_path / "d.md")}

    asyncio.run(main())


def test_a_named_file_is_watched_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "Makefile"
    file.write_text("all:")

    async def main() -> None:
        async with Watch([file], settle=SETTLE) as watch:
            for text in ("one", "two"):
                (tmp_path / "other.md").write_text("not named")
                (tmp_path / "temporary").write_text(text)
                (tmp_path / "temporary").replace(file)
                changes = await until(watch, file)
                assert changes.paths == {str(file)}
                assert names(changes, tmp_path) == ["Makefile"]

    asyncio.run(main())


def test_it_can_look_for_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with Watch([tmp_path], settle=SETTLE, poll=0.02) as watch:
            (tmp_path / "a.md").write_text("a")
            await until(watch, tmp_path / "a.md")

    asyncio.run(main())


def test_cancelled_in_any_wait_it_ends(tmp_path: Path) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def wait() -> None:
            async with Watch([tmp_path], settle=SETTLE) as watch:
                entered.set()
                await anext(watch)

        task = asyncio.create_task(wait())
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)  # one turn: it is being opened
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def test_what_cannot_be_watched_is_said(tmp_path: Path) -> None:
    async def enter(*paths: Path) -> None:
        async with Watch(paths):
            pass

    with pytest.raises(SourceError, match="no such file or folder"):
        asyncio.run(enter(tmp_path, tmp_path / "none"))
    with pytest.raises(UsageError, match="settle is 0 seconds"):
        Watch([tmp_path], settle=0)
    with pytest.raises(UsageError, match="poll is -1"):
        Watch([tmp_path], poll=-1)
    with pytest.raises(UsageError, match="no kind 'picture'"):
        Watch([tmp_path], kinds=["picture"])
    with pytest.raises(UsageError, match="inside 'async with' only"):
        asyncio.run(anext_of(Watch([tmp_path])))


async def anext_of(watch: Watch) -> None:
    await anext(watch)
