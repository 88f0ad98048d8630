"""Processes that are killed, and that share a file."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from anabranch.workflow.stores import SQLiteStore
from tests.workflow.stores import sqlite_program as program

RUNS = ("a", "b", "c")

Start: TypeAlias = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the program; what still runs at the end is killed."""
    with ExitStack() as stack:

        def started(what: str, path: Path, *run_ids: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, program.__file__, what, str(path), *run_ids],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            return process

        yield started


def kill_after(process: subprocess.Popen[str], acknowledged: int) -> dict[str, int]:
    """Kill a process that commits; the last acknowledged commit of each run."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(acknowledged)]
    process.kill()
    # What it said before it died counts too; a write to a pipe is not torn.
    lines += process.stdout.readlines()
    process.wait()
    last: dict[str, int] = {}
    for line in lines:
        run_id, number = line.split()
        last[run_id] = int(number)
    return last


async def check(store: SQLiteStore, run_id: str, acknowledged: int) -> int:
    """All that was acknowledged is there, and what is there is whole: the last commit."""
    if await store.info(run_id) is None:
        assert acknowledged == -1
        return -1
    history = await store.history(run_id)
    info = history.info
    count = info.published
    # One more may have been written whose acknowledgement was not.
    assert acknowledged + 1 <= count <= acknowledged + 2
    assert info.position == 2 * count
    if count:
        assert (info.status, info.note) == (program.status_of(count - 1), str(count - 1))
    events = await store.events(run_id, limit=1_000_000)
    assert events == [(n + 1, program.event_of(n)) for n in range(count)]
    first = 0 if history.snapshot is None else history.snapshot.position
    assert first <= max(0, info.position - 22)
    assert (first == 0) == (count < 15)
    facts = [fact for n in range(count) for fact in program.facts_of(n)]
    assert list(history.facts) == facts[first:]
    # Each commit takes the message that was sent before it.
    untaken = [message.message_id for message in await store.messages(run_id)]
    assert untaken in ([], [f"m{count}"])
    return count - 1


def kill_often(start: Start, path: Path, times: int, seed: int) -> None:
    draw = random.Random(seed)
    acknowledged: dict[str, int] = dict.fromkeys(RUNS, -1)

    async def check_all() -> None:
        store = SQLiteStore(path)
        for run_id, number in acknowledged.items():
            acknowledged[run_id] = await check(store, run_id, number)
        await store.close()

    for _ in range(times):
        process = start("commit", path, *RUNS)
        acknowledged.update(
            kill_after(process, draw.choice((0, 1, 10, draw.randrange(200))))
        )
        asyncio.run(check_all())
    assert min(acknowledged.values()) > 10


def test_what_was_acknowledged_survives_whenever_the_process_is_killed(
    start: Start, tmp_path: Path
) -> None:
    kill_often(start, tmp_path / "runs.db", 30, seed=1)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 6))
def test_what_was_acknowledged_survives_whenever_it_is_killed_very_often(
    start: Start, tmp_path: Path, seed: int
) -> None:
    kill_often(start, tmp_path / "runs.db", 120, seed=seed)


def test_processes_share_a_file_and_no_run(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    processes = [start("work", path) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    claimed: Counter[str] = Counter()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        claimed.update(out.split())
    assert claimed == Counter(f"r{n}" for n in range(60))

    async def look() -> None:
        store = SQLiteStore(path)
        infos = await store.runs()
        assert len(infos) == 60
        for info in infos:
            assert (info.status, info.position, info.published) == ("completed", 5, 5)
            facts = (await store.history(info.run_id)).facts
            assert list(facts) == [info.owner.encode()] * 5
        await store.close()

    asyncio.run(look())


def test_a_killed_process_leaves_its_runs_to_another(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    other = start("commit", path, "a")
    process = start("commit", path, "b")
    kill_after(process, 20)

    async def take_over() -> None:
        store = SQLiteStore(path)
        opened = await store.open("b", owner="them", lease=60.0)
        assert opened.info.epoch == 2
        assert opened.info.published >= 20
        # The one that lives goes on beside it.
        assert other.stdout is not None
        for _ in range(50):
            assert await asyncio.to_thread(other.stdout.readline)
        await store.close()

    asyncio.run(take_over())
    kill_after(other, 1)
