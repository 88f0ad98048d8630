"""What becomes of the sources that a store holds already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from anabranch.errors import SourceError
from anabranch.rag import index
from anabranch.rag.plan import unmet
from tests.rag.parts import Shelf
from tests.rag.pipeline.running import TEXTS, held, lines, run

CHANGED = {**TEXTS, "book 3": "a changed line", "book 9": "a new book"}


def test_skip_leaves_what_is_there_unread_though_it_has_changed(tmp_path: Path) -> None:
    async def main() -> None:
        await run(tmp_path)
        shelf = Shelf(CHANGED)
        report = await run(tmp_path, shelf, strategy="skip")
        assert (report.present, report.new, report.changed, report.sources) == (6, 1, 0, 7)
        assert shelf.reads == 1
        assert await held(tmp_path) == lines({**TEXTS, "book 9": "a new book"})

    asyncio.run(main())


def test_delete_removes_what_a_run_was_not_given(tmp_path: Path) -> None:
    async def main() -> None:
        await run(tmp_path)
        fewer = {"book 2": TEXTS["book 2"], "book 3": "a changed line", "book 4": None}
        report = await run(tmp_path, Shelf(fewer), strategy="delete")
        assert (report.removed, report.changed, report.unchanged) == (3, 1, 1)
        # What could not be read was given all the same.
        assert await held(tmp_path) == lines(
            {name: TEXTS[name] for name in ("book 2", "book 4")}
            | {"book 3": "a changed line"}
        )

    asyncio.run(main())


def test_delete_removes_nothing_when_the_list_is_empty_or_not_whole(tmp_path: Path) -> None:
    class Unlisted(Shelf):
        async def names(self) -> AsyncIterator[str | SourceError]:
            yield "book 2"
            yield SourceError("the cellar", "cannot be listed")

    async def main() -> None:
        await run(tmp_path)
        for shelf in (Shelf({}), Unlisted(TEXTS)):
            report = await run(tmp_path, shelf, strategy="delete")
            assert report.removed == 0
            assert await held(tmp_path) == lines(TEXTS)

    asyncio.run(main())


def test_an_index_in_one_call_takes_a_strategy_too(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("one", "two"):
        (docs / f"{name}.txt").write_text(f"This is {name}.")

    async def main() -> None:
        await index([docs], into=tmp_path / "index", model="static")
        (docs / "one.txt").write_text("This is another one.")
        skipped = await index([docs], into=tmp_path / "index", strategy="skip")
        assert (skipped.present, skipped.changed) == (2, 0)
        (docs / "two.txt").unlink()
        gone = await index([docs], into=tmp_path / "index", strategy="delete")
        assert (gone.changed, gone.removed) == (1, 1)

    asyncio.run(main())


def test_only_a_whole_list_tells_what_is_gone() -> None:
    assert list(unmet(["a", "b", "c"], {"b"}, is_whole=True)) == ["a", "c"]
    assert list(unmet(["a", "b", "c"], {"b"}, is_whole=False)) == []
    assert list(unmet(["a", "b", "c"], set(), is_whole=True)) == []


def test_a_source_that_is_given_twice_is_indexed(tmp_path: Path) -> None:
    class Twice(Shelf):
        async def names(self) -> AsyncIterator[str | SourceError]:
            for name in (*self.texts, *self.texts):
                yield name

    async def main() -> None:
        report = await run(tmp_path, Twice(TEXTS), readers=1)
        assert report.sources == 12
        assert await held(tmp_path) == lines(TEXTS)

    asyncio.run(main())
