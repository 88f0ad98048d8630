"""Processes that share a database, are killed, and are fenced off."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from anabranch.workflow.stores import NewRun, Store
from anabranch.workflow.stores.postgres import PostgresStore
from anabranch.workflow.stores.postgres.schema import SCRIPTS
from tests.postgres import database, shared_server
from tests.workflow.stores import postgres_program as program

ROOT = Path(__file__).parents[3]

Program = subprocess.Popen[str]
Start = Callable[[str, str], Program]


@pytest.fixture
def url() -> Iterator[str]:
    with database() as url:
        yield url


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    """Starts the program; what still runs at the end is killed."""
    with ExitStack() as stack:

        def started(what: str, name: str) -> Program:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", program.__name__, what, url, name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
            stack.callback(process.kill)
            return process

        yield started


def line_of(process: Program) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(processes: list[Program]) -> None:
    """Let those that wait go on, all at once."""
    assert [line_of(process) for process in processes] == ["ready"] * len(processes)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def test_ten_processes_that_start_at_once_make_the_tables_once(
    url: str, start: Start
) -> None:
    processes = [start("begin", f"r{n}") for n in range(10)]
    go(processes)
    assert [line_of(process) for process in processes] == ["done"] * 10
    assert [process.wait() for process in processes] == [0] * 10
    name = url.rpartition("/")[2]
    made = shared_server().execute("SELECT version FROM anabranch.meta", name)
    assert made == [(len(SCRIPTS),)]
    assert shared_server().execute("SELECT count(*) FROM anabranch.run", name) == [(10,)]


def test_no_two_processes_are_given_the_same_run(url: str, start: Start) -> None:
    names = [f"r{n}" for n in range(300)]

    async def create() -> None:
        store = PostgresStore(url)
        for n, name in enumerate(names):
            await store.create(NewRun(run_id=name, workflow="vw"[n % 2]))
        await store.close()

    asyncio.run(create())
    processes = [start("work", f"worker {n}") for n in range(4)]
    go(processes)
    said = [process.communicate()[0].split() for process in processes]
    assert sorted(name for names in said for name in names) == sorted(names)


async def check(store: Store, run_id: str, acknowledged: int) -> int:
    """All that was acknowledged is there, and what is there is whole: the last commit."""
    history = await store.history(run_id)
    info = history.info
    count = info.published
    # One more may have been written whose acknowledgement was not.
    assert acknowledged + 1 <= count <= acknowledged + 2
    assert info.position == 2 * count
    if count:
        assert (info.status, info.note) == (program.status_of(count - 1), str(count - 1))
    events = await store.events(run_id, limit=10**9)
    assert events == [(n + 1, program.event_of(n)) for n in range(count)]
    first = 0 if history.snapshot is None else history.snapshot.position
    assert first <= max(0, info.position - 22)
    facts = [fact for n in range(count) for fact in program.facts_of(n)]
    assert list(history.facts) == facts[first:]
    # Each commit takes the message that was sent before it.
    untaken = [message.message_id for message in await store.messages(run_id)]
    assert untaken in ([], [f"m{count}"])
    return count - 1


def kill_often(start: Start, url: str, times: int, seed: int) -> None:
    draw = random.Random(seed)
    acknowledged = -1

    async def checked() -> int:
        store = PostgresStore(url)
        try:
            # What the server still does for the dead is done then, or fenced off.
            await store.open("r", owner="check", lease=60.0)
            return await check(store, "r", acknowledged)
        finally:
            await store.close()

    for _ in range(times):
        process = start("commit", "r")
        assert line_of(process) == "ready"
        lines = [line_of(process) for _ in range(draw.choice((0, 1, 10, 100)))]
        process.kill()
        assert process.stdout is not None
        # What it said before it died counts too; a write to a pipe is not torn.
        lines += process.stdout.read().split()
        process.wait()
        acknowledged = max([acknowledged, *map(int, lines)])
        acknowledged = asyncio.run(checked())
    assert acknowledged > 10


def test_what_was_acknowledged_survives_whenever_the_process_is_killed(
    url: str, start: Start
) -> None:
    kill_often(start, url, 20, seed=1)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 5))
def test_what_was_acknowledged_survives_whenever_it_is_killed_very_often(
    url: str, start: Start, seed: int
) -> None:
    kill_often(start, url, 100, seed=seed)


def test_a_process_that_stood_still_too_long_is_fenced_off(url: str, start: Start) -> None:
    process = start("commit", "r")
    assert [line_of(process) for _ in range(11)] == ["ready", *map(str, range(10))]
    process.send_signal(signal.SIGSTOP)

    async def take_over() -> int:
        store = PostgresStore(url)
        opened = await store.open("r", owner="them", lease=60.0)
        await store.close()
        return opened.info.published

    published = asyncio.run(take_over())
    process.send_signal(signal.SIGCONT)
    said = process.communicate()[0].split()
    assert said[-1] == "fenced"
    # What it was told is true: nothing was acknowledged that is not there.
    assert max(map(int, said[:-1]), default=9) <= published - 1

    async def info() -> int:
        store = PostgresStore(url)
        found = await store.info("r")
        await store.close()
        assert found is not None
        return found.published

    assert asyncio.run(info()) == published
