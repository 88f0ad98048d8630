"""Workers in processes that are killed, terminated and frozen while others live."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anabranch.workflow import Runs
from anabranch.workflow.stores.places import store_at
from tests.postgres import database
from tests.workflow.servant import Labour, Link, Reply

PROGRAM = Path(__file__).with_name("servant.py")
ROOT = Path(__file__).resolve().parent.parent.parent
LINKS = 20
LEASE_S = 1.0


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "runs.db")
    else:
        with database() as url:
            yield url


@contextmanager
def servant(place: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-m", "tests.workflow.servant"]
    worker = subprocess.Popen(
        [*command, place, str(log), str(LEASE_S)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline() == "works\n"
        yield worker
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


class Farm:
    """A run, its store, and who works on it."""

    def __init__(self, place: str, log: Path) -> None:
        self.flow = Labour(log, durable=place)
        self.runs = Runs(place, self.flow)
        self.log = log

    async def until(self, links: int) -> int:
        """Wait until so many links were begun; the process that is at work."""
        while True:
            lines = self.log.read_text().splitlines() if self.log.exists() else []
            begun = [line for line in lines if line.startswith("begins")]
            if len(begun) >= links:
                return int(begun[-1].split()[-1])
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Answer, and see to it that everything is there once."""
        await self.runs.send("r", Reply(text="fine"), message_id="m")
        assert await self.runs.result("r") == [LINKS + 1, "fine"]
        recorded = Counter(
            (entry.step, entry.execution)
            for entry in await self.runs.history("r")
            if entry.kind == "Returned"
        )
        assert set(recorded.values()) == {1}
        assert len(recorded) == 1 + LINKS + 1
        shown = [
            event.n
            async for _, event in self.runs.events("r", follow=False)
            if isinstance(event, Link)
        ]
        assert shown == list(range(LINKS, -1, -1))

    def processes(self) -> list[int]:
        lines = self.log.read_text().splitlines()
        return list(dict.fromkeys(int(line.split()[-1]) for line in lines))


def test_a_worker_that_is_killed_is_replaced_by_one_that_lives(
    place: str, tmp_path: Path
) -> None:
    async def main() -> None:
        farm = Farm(place, tmp_path / "log")
        await farm.runs.start(farm.flow, run_id="r", links=LINKS)
        with servant(place, farm.log) as one, servant(place, farm.log) as other:
            at_work = await farm.until(5)
            os.kill(at_work, signal.SIGKILL)
            killed_at = time.monotonic()
            while await farm.until(1) == at_work:
                await asyncio.sleep(0.01)
            print(f"taken over after {time.monotonic() - killed_at:.2f} s")
            await farm.end()
            assert set(farm.processes()) == {one.pid, other.pid}
        await farm.runs.store.close()

    asyncio.run(main())


def test_a_worker_that_is_terminated_lets_go_at_once(place: str, tmp_path: Path) -> None:
    async def main() -> None:
        farm = Farm(place, tmp_path / "log")
        await farm.runs.start(farm.flow, run_id="r", links=LINKS)
        with servant(place, farm.log) as one, servant(place, farm.log) as other:
            at_work = await farm.until(5)
            worker = one if one.pid == at_work else other
            worker.terminate()
            assert worker.stdout is not None
            assert await asyncio.to_thread(worker.stdout.readline) == "has let go\n"
            assert worker.wait() == 0
            await farm.end()
        await farm.runs.store.close()

    asyncio.run(main())


def test_a_worker_that_was_frozen_and_comes_back_writes_nothing(
    place: str, tmp_path: Path
) -> None:
    async def main() -> None:
        farm = Farm(place, tmp_path / "log")
        await farm.runs.start(farm.flow, run_id="r", links=LINKS)
        with servant(place, farm.log) as one:
            await farm.until(5)
            one.send_signal(signal.SIGSTOP)
            with servant(place, farm.log) as other:
                while await farm.until(1) != other.pid:
                    await asyncio.sleep(0.01)
                await farm.until(9)
                one.send_signal(signal.SIGCONT)
                await farm.end()
            # It lives, and works on: only this run is no longer its.
            await farm.runs.start(farm.flow, run_id="next", links=0)
            await farm.runs.send("next", Reply(text="x"))
            assert await farm.runs.result("next") == [1, "x"]
            assert farm.processes()[-1] == one.pid or one.poll() is None
        await farm.runs.store.close()

    asyncio.run(main())


def test_two_processes_that_open_one_run_end_as_one(place: str, tmp_path: Path) -> None:
    async def main() -> None:
        farm = Farm(place, tmp_path / "log")
        await farm.runs.start(farm.flow, run_id="r", links=LINKS)
        with servant(place, farm.log):
            await farm.until(5)
            # Here too, without asking anybody.
            handler = farm.flow.run(run_id="r")
            await farm.runs.send("r", Reply(text="fine"), message_id="m")
            assert await handler == [LINKS + 1, "fine"]
        await farm.runs.store.close()

    asyncio.run(main())


def test_a_store_is_found_by_its_place(tmp_path: Path) -> None:
    place = tmp_path / "runs.db"
    assert store_at(place) is store_at(str(place))
