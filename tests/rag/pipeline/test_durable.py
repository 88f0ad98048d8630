"""Indexing that outlives its process, and is steered from another one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from anabranch.errors import WorkflowCancelledByUser
from anabranch.rag import Chunk, SqliteStore, Stage, StaticEmbedder
from anabranch.rag.durable import (
    Indexed,
    IndexProgress,
    IndexSources,
    IndexWorkflow,
    Paused,
    PauseIndexing,
    ResumeIndexing,
)
from anabranch.workflow import Event, Runs


def write_documents(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        paragraphs = "\n\n".join(f"Number {number} says {n}." for n in range(30))
        (folder / f"{number:04}.md").write_text(f"# Number {number}\n\n{paragraphs}\n")
    return folder


def order(folder: Path, *, shard: int = 10, prune: bool = False) -> IndexSources:
    return IndexSources(
        sources=[str(folder / "docs")],
        into=str(folder / "index"),
        model="static",
        chunk_tokens=32,
        shard=shard,
        prune=prune,
    )


@contextmanager
def worker(runs: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, killed at the end."""
    command = [sys.executable, "-m", "tests.rag.pipeline.driving", str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def until(
    runs: Runs, run_id: str, kind: type[Event], after: int
) -> tuple[int, Event]:
    """The next event of a kind behind a number, with its number."""
    async for number, event in runs.events(run_id, after=after):
        if isinstance(event, kind):
            return number, event
    raise AssertionError(f"no {kind.__name__} behind {after}")


async def sources_held(folder: Path) -> list[str]:
    async with await SqliteStore.open(folder / "index") as store:
        return sorted([Path(version.uri).name async for version in store.sources()])


def test_a_run_goes_through_all_sources_and_says_how_far_it_is(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", 25)
    (tmp_path / "docs" / "broken.pdf").write_text("no PDF")

    async def main() -> None:
        workflow = IndexWorkflow(durable=tmp_path / "runs.db")
        handler = workflow.run(run_id="a", start_event=order(tmp_path))
        progress = [
            event
            async for event in handler.stream_events()
            if isinstance(event, IndexProgress)
        ]
        indexed = await handler
        assert isinstance(indexed, Indexed)
        assert [event.done.sources for event in progress] == [10, 20, 26]
        assert indexed.done == progress[-1].done
        assert (indexed.done.new, indexed.done.broken) == (25, 1)
        [(name, reason)] = [broken for event in progress for broken in event.broken]
        assert name.endswith("broken.pdf")
        assert "PDF" in reason
        # Once more, by another name: nothing is to be done, and what is gone is removed.
        (tmp_path / "docs" / "0003.md").unlink()
        again = await workflow.run(run_id="b", start_event=order(tmp_path, prune=True))
        assert (again.done.unchanged, again.done.removed, again.done.embedded) == (24, 1, 0)
        assert "0003.md" not in await sources_held(tmp_path)

    asyncio.run(main())


def test_stages_of_ones_own_are_part_of_a_durable_run(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", 3)

    async def tag(chunk: Chunk) -> Chunk:
        return replace(chunk, metadata={**chunk.metadata, "tag": "x"})

    async def main() -> None:
        workflow = IndexWorkflow(
            durable=tmp_path / "runs.db",
            chunks=[Stage("tag", tag, concurrency=4, cached=True)],
            cache=tmp_path / "cache",
        )
        await workflow.run(start_event=order(tmp_path))
        async with await SqliteStore.open(tmp_path / "index") as store:
            assert {p.chunk.metadata["tag"] async for p in store.passages()} == {"x"}

    asyncio.run(main())


def test_a_run_whose_worker_is_killed_is_taken_up_where_it_was(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", 200)

    async def main() -> None:
        runs = Runs(tmp_path / "runs.db")
        workflow = IndexWorkflow(durable=tmp_path / "runs.db")
        await runs.start(workflow, order(tmp_path), run_id="docs")
        number = 0
        with worker(tmp_path / "runs.db") as process:
            for _ in range(3):
                number, _ = await until(runs, "docs", IndexProgress, number)
            process.send_signal(signal.SIGKILL)
            process.wait()
        done_by_then = (await runs.get("docs")).published
        with worker(tmp_path / "runs.db"):
            result = await runs.result("docs")
        events = [event async for _, event in runs.events("docs")]
        shards = [event.shard for event in events if isinstance(event, IndexProgress)]
        assert shards == list(range(1, 22))  # each once, in order; the last is empty
        assert 3 <= done_by_then < 21
        assert (result.done.sources, result.done.broken) == (200, 0)
        # At most the shard that was under way was met again.
        assert result.done.new >= 190
        assert await sources_held(tmp_path) == [f"{n:04}.md" for n in range(200)]

    asyncio.run(main())


def test_a_run_is_paused_resumed_cancelled_and_retried_from_another_process(
    tmp_path: Path,
) -> None:
    write_documents(tmp_path / "docs", 400)

    async def main() -> None:
        runs = Runs(tmp_path / "runs.db")
        workflow = IndexWorkflow(durable=tmp_path / "runs.db")
        await runs.start(workflow, order(tmp_path), run_id="docs")
        with worker(tmp_path / "runs.db"):
            number, _ = await until(runs, "docs", IndexProgress, 0)
            await runs.send("docs", PauseIndexing())
            number, _ = await until(runs, "docs", Paused, number)
            while (await runs.get("docs")).status != "waiting":
                await asyncio.sleep(0.01)
            # Nobody holds the index: anyone may write to it now.
            async with await SqliteStore.create(tmp_path / "index", StaticEmbedder()):
                pass
            assert (await runs.get("docs")).published == number
            await runs.send("docs", ResumeIndexing())
            number, _ = await until(runs, "docs", IndexProgress, number)
            await runs.cancel("docs")
            with pytest.raises(WorkflowCancelledByUser):
                await runs.result("docs")
            held = len(await sources_held(tmp_path))
            assert 10 < held < 400
            await runs.retry("docs")
            result = await runs.result("docs")
        assert result.done.sources == 400
        assert len(await sources_held(tmp_path)) == 400

    asyncio.run(main())


def test_a_pause_and_resume_before_the_shard_ends_changes_nothing(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", 20)

    async def main() -> None:
        workflow = IndexWorkflow()
        handler = workflow.run(start_event=order(tmp_path, shard=5))
        assert handler.ctx is not None
        handler.ctx.send_event(PauseIndexing())
        handler.ctx.send_event(ResumeIndexing())
        assert (await handler).done.new == 20

    asyncio.run(main())


def test_what_is_gone_when_a_run_is_taken_up_begins_the_list_anew(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", 30)

    async def main() -> None:
        runs = Runs(tmp_path / "runs.db")
        first = IndexWorkflow(durable=tmp_path / "runs.db")
        handler = first.run(run_id="docs", start_event=order(tmp_path))
        async for event in handler.stream_events():
            if isinstance(event, IndexProgress):
                await runs.send("docs", PauseIndexing())
            if isinstance(event, Paused):
                break
        (tmp_path / "docs" / "0019.md").unlink()
        (tmp_path / "docs" / "0009.md").unlink()
        await runs.send("docs", ResumeIndexing())
        result = await handler
        assert set(await sources_held(tmp_path)) >= {f"{n:04}.md" for n in range(20, 30)}
        assert result.done.sources >= 28

    asyncio.run(main())
