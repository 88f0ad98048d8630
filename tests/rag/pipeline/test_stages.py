"""Stages of one's own: on documents and on chunks, in threads and on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anabranch.errors import UsageError
from anabranch.observe import Observer, StageStats
from anabranch.rag import Chunk, Document, Stage
from anabranch.retry import Retry
from tests.rag.parts import HashEmbedder, Shelf
from tests.rag.pipeline.running import TEXTS, held, lines, metadata, run


def shelved(document: Document) -> Document:
    return replace(document, metadata={**document.metadata, "shelf": document.id[-1]})


async def shelved_later(document: Document) -> Document:
    await asyncio.sleep(0)
    return shelved(document)


@pytest.mark.parametrize("fn", [shelved, shelved_later])
def test_a_stage_on_documents_gives_them_metadata(fn: Any, tmp_path: Path) -> None:
    async def main() -> None:
        report = await run(tmp_path, documents=[Stage("shelf", fn, concurrency=3)])
        assert report.new == 6
        assert await metadata(tmp_path, "shelf") == set("123456")
        assert await held(tmp_path) == lines(TEXTS)

    asyncio.run(main())


def no_odd(chunk: Chunk) -> Chunk | None:
    return None if int(chunk.text[-1]) % 2 else chunk


async def no_odd_later(chunk: Chunk) -> Chunk | None:
    return no_odd(chunk)


@pytest.mark.parametrize("fn", [no_odd, no_odd_later])
def test_a_stage_leaves_chunks_out_and_sources_stay_complete(
    fn: Any, tmp_path: Path
) -> None:
    async def main() -> None:
        embedder = HashEmbedder()
        report = await run(tmp_path, embedder=embedder, chunks=[Stage("even", fn)])
        assert (report.new, report.chunks) == (6, 12)
        assert not [text for text in embedder.embedded if int(text[-1]) % 2]
        again = await run(tmp_path, chunks=[Stage("even", fn)])
        assert again.unchanged == 6

    asyncio.run(main())


def test_a_stage_makes_several_of_one_and_stages_follow_each_other(tmp_path: Path) -> None:
    def halves(chunk: Chunk) -> Sequence[Chunk]:
        middle = chunk.start + 6
        return [
            replace(chunk, text=chunk.text[:6], end=middle),
            replace(chunk, text=chunk.text[6:], start=middle),
        ]

    async def shout(chunk: Chunk) -> Chunk:
        return replace(chunk, text=chunk.text.upper())

    async def main() -> None:
        shelf = Shelf({"a": "first line\nsecond line"})
        stages = [Stage("halves", halves), Stage("shout", shout, concurrency=4)]
        await run(tmp_path, shelf, chunks=stages)
        assert await held(tmp_path) == {"a": ["FIRST ", "LINE", "SECOND", " LINE"]}

    asyncio.run(main())


def test_another_version_of_a_stage_indexes_anew(tmp_path: Path) -> None:
    async def main() -> None:
        await run(tmp_path, documents=[Stage("shelf", shelved)])
        same = await run(tmp_path, documents=[Stage("shelf", shelved)])
        other = await run(tmp_path, documents=[Stage("shelf", shelved, version="2")])
        assert (same.unchanged, other.unchanged, other.changed) == (6, 0, 6)
        assert other.embedded == 0

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("on", ["documents", "chunks"])
def test_a_source_on_which_a_stage_fails_is_broken_and_its_old_version_stays(
    on: str, is_async: bool, tmp_path: Path
) -> None:
    def fail(item: Document | Chunk) -> Document | Chunk:
        if "line 70" in item.text and "long" in item.text:
            raise ValueError("too long for me")
        return item

    async def fail_later(item: Document | Chunk) -> Document | Chunk:
        return fail(item)

    async def main() -> None:
        await run(tmp_path, Shelf({**TEXTS, "long": "long line"}))
        long = "\n".join(f"long line {number}" for number in range(300))
        stage: Stage[Any] = Stage("check", fail_later if is_async else fail)
        options: dict[str, Any] = {on: [stage]}
        report = await run(tmp_path, Shelf({**TEXTS, "long": long}), **options)
        [error] = report.broken
        assert error.uri == "long"
        assert error.reason == "stage 'check' failed (ValueError: too long for me)"
        assert (report.sources, report.changed) == (7, 6)
        assert await held(tmp_path) == lines({**TEXTS, "long": "long line"})

    asyncio.run(main())


def test_a_stage_of_its_own_concurrency_runs_ahead_and_keeps_order(tmp_path: Path) -> None:
    running = most = 0

    async def slow(chunk: Chunk) -> Chunk:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(int(chunk.text[-1]) + 1):
            await asyncio.sleep(0)
        running -= 1
        return chunk

    async def main() -> None:
        report = await run(tmp_path, chunks=[Stage("slow", slow, concurrency=5)])
        assert most == 5
        assert await held(tmp_path) == lines(TEXTS)
        [stage] = [stage for stage in report.stages if stage.name == "slow"]
        assert (stage.done, stage.most_at_once, stage.concurrency) == (21, 5, 5)

    asyncio.run(main())


def test_what_fails_now_and_then_is_tried_again(tmp_path: Path) -> None:
    tried: set[str] = set()

    async def flaky(chunk: Chunk) -> Chunk:
        if chunk.text not in tried:
            tried.add(chunk.text)
            raise ConnectionError("reset")
        return chunk

    async def main() -> None:
        at_once = Retry(2, wait=lambda state: 0.0)
        report = await run(tmp_path, chunks=[Stage("flaky", flaky, retry=at_once)])
        assert (report.new, report.broken) == (6, [])

    asyncio.run(main())


def test_a_synchronous_stage_may_run_in_an_executor(tmp_path: Path) -> None:
    async def main() -> None:
        stage = Stage("even", no_odd, executor="thread", concurrency=2)
        assert (await run(tmp_path, chunks=[stage])).chunks == 12

    asyncio.run(main())


def test_every_stage_is_counted_and_observers_are_told(tmp_path: Path) -> None:
    class Telling(Observer):
        last: Sequence[StageStats] = ()

        def flowed(self, stages: Sequence[StageStats]) -> None:
            self.last = stages

    async def main() -> None:
        telling = Telling()
        stages = [Stage("shelf", shelved)]
        report = await run(tmp_path, documents=stages, observer=telling)
        assert telling.last == report.stages
        done = {stage.name: stage.done for stage in report.stages}
        assert done == {
            "read": 6, "parse": 6, "shelf": 6, "split": 21, "embed": 21, "store": 21
        }  # fmt: skip
        assert all(stage.waiting == stage.at_once == 0 for stage in report.stages)
        plain = await run(tmp_path / "plain")
        assert {s.name: s.done for s in plain.stages} == {
            "read": 6, "parse": 6, "split": 21, "embed": 21, "store": 21
        }  # fmt: skip
        assert all(stage.waiting == 0 for stage in plain.stages)

    asyncio.run(main())


def test_a_changed_text_does_not_keep_the_tokens_of_the_old_one() -> None:
    stage: Stage[Chunk] = Stage("x", lambda chunk: chunk)
    chunk = Chunk("a", "old", 0, 3, tokens=np.arange(3, dtype=np.int32))
    [changed] = stage.results(chunk, replace(chunk, text="new"))
    [same] = stage.results(chunk, replace(chunk, metadata={"x": 1}))
    assert changed.tokens is None
    assert same.tokens is chunk.tokens


def test_a_stage_that_gives_something_else_breaks_its_sources(tmp_path: Path) -> None:
    stage: Stage[Any] = Stage("odd", lambda chunk: [chunk.text])
    report = asyncio.run(run(tmp_path, chunks=[stage]))
    assert len(report.broken) == 6
    assert "gave a str in the place of a Chunk" in report.broken[0].reason


def test_a_stage_that_is_cancelled_with_its_run_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def stuck(chunk: Chunk) -> Chunk:
            begun.set()
            await asyncio.Event().wait()
            return chunk

        stage = Stage("stuck", stuck, concurrency=3, cached=True)
        task = asyncio.create_task(run(tmp_path, chunks=[stage], cache=tmp_path / "cache"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"documents": [Stage("a", shelved)], "chunks": [Stage("a", no_odd)]}, "one name"),
        ({"chunks": [Stage("a", no_odd, cached=True)]}, "has no cache"),
        ({"strategy": "replace"}, "'upsert', 'skip' or 'delete'"),
        ({"embedders": 0}, "embedders"),
    ],
)
def test_a_pipeline_that_cannot_be_meant_is_refused(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        asyncio.run(run(tmp_path, **options))


@pytest.mark.parametrize(
    ("name", "fn", "options", "said"),
    [
        ("embed", shelved, {}, "cannot be named 'embed'"),
        ("", shelved, {}, "cannot be named ''"),
        ("a", "shelved", {}, "needs a function"),
        ("a", shelved, {"retry": 3}, "retry cannot be kept"),
        ("a", shelved_later, {"priority": len}, "priority="),
        ("a", shelved_later, {"concurrency": 0}, "concurrency"),
    ],
)
def test_a_stage_that_cannot_be_meant_is_refused(
    name: str, fn: Any, options: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Stage(name, fn, **options)


def test_several_batches_may_be_embedded_at_once_and_no_text_twice(tmp_path: Path) -> None:
    class Together(HashEmbedder):
        """The first three calls go on when all three are there."""

        running = most = begun = 0
        three = asyncio.Barrier(3)

        async def embed(self, chunks: Sequence[Chunk]) -> Any:
            self.begun += 1
            self.running += 1
            self.most = max(self.most, self.running)
            if self.begun <= 3:
                await self.three.wait()
            vectors = await super().embed(chunks)
            self.running -= 1
            return vectors

    async def main() -> None:
        embedder = Together()
        texts = {f"s{n}": "one line\nand another\n" + f"only {n} here" for n in range(40)}
        await run(tmp_path, Shelf(texts), embedder=embedder, embedders=3)
        assert embedder.most == 3
        assert len(embedder.embedded) == len(set(embedder.embedded)) == 42
        assert await held(tmp_path) == lines(texts)

    asyncio.run(main())
