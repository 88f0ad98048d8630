"""Runs in an SQLite file: what every store does, and how the requests share transactions."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anabranch.errors import Fenced, JournalConflict, JournalError, RunNotFound
from anabranch.testing import VirtualClock, run_virtual
from anabranch.testing.stores import ManualClock, StoreContract
from anabranch.workflow.stores import Commit, NewRun, SQLiteStore, Store
from anabranch.workflow.stores.sqlite.connection import Writer
from anabranch.workflow.stores.sqlite.file import DatabaseFile


class TestSQLiteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "runs.db"

    async def make(self) -> Store:
        self.clock = ManualClock()
        return SQLiteStore(self.path, clock=self.clock)

    async def another(self, store: Store) -> Store:
        return SQLiteStore(self.path, clock=self.clock)

    async def pass_time(self, store: Store, seconds: float) -> None:
        self.clock.time += seconds


class TestSQLiteStoreOnPower(TestSQLiteStore):
    async def make(self) -> Store:
        self.clock = ManualClock()
        return SQLiteStore(self.path, clock=self.clock, durability="power")


def new(run_id: str, workflow: str = "w") -> NewRun:
    return NewRun(run_id=run_id, workflow=workflow, begin=b"begin")


async def opened(store: Store, run_id: str) -> int:
    await store.create(new(run_id))
    return (await store.open(run_id, owner="us", lease=60.0)).info.epoch


@contextmanager
def held_up(store: SQLiteStore) -> Iterator[asyncio.Future[bool]]:
    """What is asked for inside waits, so that it comes at one time."""
    begun, go = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> bool:
        begun.set()
        return go.wait(30)

    holding = store._writer.ask(hold)
    assert begun.wait(30)
    try:
        yield holding
    finally:
        go.set()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of every connection from now on."""
    found: list[str] = []
    open_it = DatabaseFile.open

    def traced(self: DatabaseFile) -> sqlite3.Connection:
        db = open_it(self)
        db.set_trace_callback(found.append)
        return db

    monkeypatch.setattr(DatabaseFile, "open", traced)
    return found


def test_commits_that_wait_at_one_time_are_one_transaction(
    tmp_path: Path, statements: list[str]
) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        epochs = {f"r{n}": await opened(store, f"r{n}") for n in range(100)}
        with held_up(store) as holding:
            await asyncio.sleep(0)
            commits = [
                asyncio.create_task(
                    store.commit(name, Commit(epoch=epoch, position=0, facts=(b"fact",)))
                )
                for name, epoch in epochs.items()
            ]
            await asyncio.sleep(0)  # all are asked for
            statements.clear()
        await holding
        await asyncio.gather(*commits)
        # One for what held them up, one for all of them.
        assert statements.count("COMMIT") == 2
        for name in epochs:
            assert list((await store.history(name)).facts) == [b"fact"]
        await store.close()

    asyncio.run(main())


def test_what_is_refused_does_not_disturb_those_in_its_transaction(
    tmp_path: Path, statements: list[str]
) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        epochs = {f"r{n}": await opened(store, f"r{n}") for n in range(6)}
        await store.open("r1", owner="them", lease=60.0)
        position = {"r2": 7}
        with held_up(store):
            calls = [
                store.commit(
                    name,
                    Commit(
                        epoch=epoch,
                        position=position.get(name, 0),
                        facts=(b"fact",),
                        published=(b"event",),
                    ),
                )
                for name, epoch in epochs.items()
            ]
            calls.append(store.commit("gone", Commit(epoch=1, position=0)))
            waiting = asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            statements.clear()
        outcomes = await waiting
        assert statements.count("COMMIT") == 2
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            Fenced,
            JournalConflict,
            type(None),
            type(None),
            type(None),
            Fenced,
        ]
        for name in epochs:
            is_written = name not in ("r1", "r2")
            history = await store.history(name)
            assert list(history.facts) == [b"fact"] * is_written
            assert history.info.position == history.info.published == is_written
            assert len(await store.events(name)) == is_written
        await store.close()

    asyncio.run(main())


def test_a_commit_that_cannot_be_written_does_not_take_others_with_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        epochs = {f"r{n}": await opened(store, f"r{n}") for n in range(4)}
        with held_up(store):
            calls = [
                store.commit(
                    name,
                    Commit(
                        epoch=epoch,
                        position=0,
                        facts=(b"first", object() if name == "r1" else b"second"),  # type: ignore[arg-type]  # on purpose
                    ),
                )
                for name, epoch in epochs.items()
            ]
            waiting = asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        outcomes = await waiting
        assert [outcome is None for outcome in outcomes] == [True, False, True, True]
        for name in epochs:
            written = [] if name == "r1" else [b"first", b"second"]
            assert list((await store.history(name)).facts) == written
        await store.close()

    asyncio.run(main())


def test_a_transaction_that_fails_fails_for_all_that_shared_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Writer._commit
    fails = False

    def may_fail(self: Writer) -> None:
        if fails:
            self._db.execute("SELECT no_such_function()")
        commit(self)

    monkeypatch.setattr(Writer, "_commit", may_fail)

    async def main() -> None:
        nonlocal fails
        store = SQLiteStore(tmp_path / "runs.db")
        epochs = {f"r{n}": await opened(store, f"r{n}") for n in range(4)}

        async def commit(name: str) -> None:
            facts = Commit(epoch=epochs[name], position=0, facts=(b"fact",))
            await store.commit(name, facts)

        with held_up(store) as holding:
            waiting = asyncio.gather(*map(commit, epochs), return_exceptions=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            fails = True
        outcomes = await waiting
        await asyncio.gather(holding, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [JournalError] * 4
        assert len({id(outcome) for outcome in outcomes}) == 4
        fails = False
        for name in epochs:
            assert list((await store.history(name)).facts) == []
        await asyncio.gather(*map(commit, epochs))
        await store.close()

    asyncio.run(main())


def test_the_loop_does_not_wait_for_the_database(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        with held_up(store):
            creating = asyncio.create_task(store.create(new("r")))
            for _ in range(100):
                await asyncio.sleep(0)  # the loop goes on
            assert not creating.done()
        assert await creating
        await store.close()

    asyncio.run(main())


def test_commits_elsewhere_that_wake_nobody_are_not_told(tmp_path: Path) -> None:
    async def main() -> None:
        here, there = SQLiteStore(tmp_path / "runs.db"), SQLiteStore(tmp_path / "runs.db")
        epoch = await opened(there, "r")
        await opened(there, "s")
        changes = here.changes()
        assert list(await anext(changes)) == []
        for position in range(20):
            facts = Commit(epoch=epoch, position=position, facts=(b"fact",))
            await there.commit("r", facts)
            await here.renew({"s": 1}, lease=60.0)  # it looks what there is
        await there.send("s", "m", b"body")
        assert list(await asyncio.wait_for(anext(changes), 30)) == ["s"]
        await here.send("r", "m", b"body")
        assert list(await asyncio.wait_for(anext(changes), 30)) == ["r"]
        await there.send("s", "n", b"body")
        assert list(await asyncio.wait_for(anext(changes), 30)) == ["s"]
        await there.create(new("t"))
        assert list(await asyncio.wait_for(anext(changes), 30)) == []
        await changes.aclose()
        await here.close()
        await there.close()

    asyncio.run(main())


def test_what_is_written_here_and_elsewhere_in_turn_is_all_told(tmp_path: Path) -> None:
    async def main() -> None:
        here, there = SQLiteStore(tmp_path / "runs.db"), SQLiteStore(tmp_path / "runs.db")
        names = {f"r{n}" for n in range(60)}
        for name in names:
            await here.create(new(name))
        changes = here.changes()
        assert list(await anext(changes)) == []
        for n, name in enumerate(sorted(names)):
            await (here, there)[n % 2].send(name, "m", b"body")
        while names:
            told = await asyncio.wait_for(anext(changes), 30)
            assert told  # no run was created
            names.difference_update(told)
        await changes.aclose()
        await here.close()
        await there.close()

    asyncio.run(main())


def test_a_store_serves_one_loop_after_the_other(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")

    async def watch(name: str) -> None:
        epoch = await opened(store, name)
        changes = store.changes()
        assert list(await anext(changes)) == []
        await store.send(name, "m", b"body")
        assert list(await anext(changes)) == [name]
        await store.commit(name, Commit(epoch=epoch, position=0, facts=(b"fact",)))
        # What nobody waits for, and who watches, goes with the loop.
        asyncio.create_task(store.send(name, "n", b"body"))  # noqa: RUF006  # on purpose
        await asyncio.sleep(0)

    for n in range(3):
        asyncio.run(watch(f"r{n}"))
    for n in range(3, 6):
        run_virtual(watch(f"r{n}"))

    async def look() -> None:
        assert len(await store.runs()) == 6
        for n in range(6):
            assert [m.message_id for m in await store.messages(f"r{n}")] == ["m", "n"]
        await store.close()

    asyncio.run(look())


def test_a_store_goes_by_the_clock_of_its_loop(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db", clock=VirtualClock())

    async def main() -> None:
        await store.create(new("r"))
        assert await store.claim(["w"], owner="us", lease=3600.0, limit=1) == ["r"]
        assert await store.next_due(["w"]) == 3600.0
        await asyncio.sleep(3600.0)
        assert await store.next_due(["w"]) == 0.0
        assert await store.claim(["w"], owner="us", lease=3600.0, limit=1) == ["r"]
        await store.close()

    run_virtual(main())


def test_loops_in_threads_may_share_a_store(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")

    async def live(name: str) -> None:
        epoch = await opened(store, name)
        changes = store.changes()
        assert list(await anext(changes)) == []
        await store.send(name, "m", b"body")
        while name not in await asyncio.wait_for(anext(changes), 30):
            pass
        await changes.aclose()
        for position in range(50):
            facts = Commit(epoch=epoch, position=position, facts=(b"fact",))
            await store.commit(name, facts)

    threads = [
        threading.Thread(target=lambda n=n: asyncio.run(live(f"r{n}"))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def look() -> None:
        assert {info.position for info in await store.runs()} == {50}
        await store.close()

    asyncio.run(look())


def test_a_store_that_was_closed_opens_again(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        await store.close()
        for n in range(3):
            await store.create(new(f"r{n}"))
            await store.close()
            assert {path.name for path in tmp_path.iterdir()} == {"runs.db"}
        assert len(await store.runs()) == 3
        await store.close()
        await store.close()

    asyncio.run(main())


def test_a_store_that_nobody_has_any_more_lets_go_of_its_file(tmp_path: Path) -> None:
    async def main() -> list[threading.Thread]:
        store = SQLiteStore(tmp_path / "runs.db")
        await store.create(new("r"))
        await store.info("r")
        lives = (store._writer._life, store._reader._life)
        return [life.thread for life in lives if life is not None]

    threads = asyncio.run(main())
    assert len(threads) == 2
    gc.collect()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert {path.name for path in tmp_path.iterdir()} == {"runs.db"}


def test_who_stops_waiting_does_not_stop_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        await store.create(new("r"))
        with held_up(store):
            sends = [
                asyncio.create_task(store.send("r", f"m{n}", b"body")) for n in range(9)
            ]
            await asyncio.sleep(0)
            for send in sends[::2]:
                send.cancel()
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert [outcome is True for outcome in outcomes] == [False, True] * 4 + [False]
        assert len(await store.messages("r")) >= 4
        await store.close()

    asyncio.run(main())


EXIT = """
import asyncio, sys, time
from anabranch.workflow.stores import NewRun, SQLiteStore

store = SQLiteStore(sys.argv[1])

async def main():
    await store.create(NewRun(run_id="r", workflow="w"))
    store._writer.ask(lambda db: time.sleep(0.5))  # the disk is slow
    for n in range(200):
        asyncio.create_task(store.send("r", f"m{n}", b"body"))
    await asyncio.sleep(0)

asyncio.run(main())
"""


def test_a_program_that_ends_has_written_what_it_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    program = [sys.executable, "-W", "error", "-c", EXIT, str(path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")

    async def main() -> None:
        store = SQLiteStore(path)
        assert len(await store.messages("r")) == 200
        await store.close()

    asyncio.run(main())


FORK = """
import asyncio, os, sys
from anabranch.errors import JournalError
from anabranch.workflow.stores import NewRun, SQLiteStore

store = SQLiteStore(sys.argv[1])
asyncio.run(store.create(NewRun(run_id="r", workflow="w")))
child = os.fork()
if not child:
    try:
        asyncio.run(store.send("r", "m", b"body"))
    except JournalError as error:
        print(error, flush=True)
    asyncio.run(store.close())
    os._exit(0)
os.waitpid(child, 0)
asyncio.run(store.send("r", "m", b"body"))
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="nothing forks there")
def test_a_store_is_not_taken_along_by_a_fork(tmp_path: Path) -> None:
    program = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "runs.db")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert "cannot be used by process" in done.stdout
    assert "make a store there" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_that_is_not_there_is_no_fault_of_the_file(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        with pytest.raises(RunNotFound, match="there is no run 'r': create it first"):
            await store.open("r", owner="us", lease=60.0)
        await store.close()

    asyncio.run(main())
