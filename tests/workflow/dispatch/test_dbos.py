"""A queue of DBOS on a real PostgreSQL carries runs to workers, and loses none."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dbos import DBOS, DBOSClient, WorkflowStatus

from anabranch.errors import JournalError, UsageError, WorkflowCancelledByUser
from anabranch.workflow import (
    MemoryStore,
    Runs,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.dispatch import Dispatcher, Driven, _dbos_tickets
from anabranch.workflow.dispatch.dbos import DBOSDispatcher
from anabranch.workflow.stores import Store
from anabranch.workflow.stores.places import store_at
from tests.postgres import Server, database
from tests.workflow.dispatch.dbos_flows import (
    Answer,
    Ask,
    Nap,
    Note,
    flows,
    noted,
    worker,
)

SECRET = "xyzzy"


@pytest.fixture
def url() -> Iterator[str]:
    with database() as url:
        yield url


@pytest.fixture(autouse=True)
def briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    """DBOS sleeps for a second when it is to stop, for what few tests need."""
    monkeypatch.setattr(_dbos_tickets, "DRAIN_S", 0)


def dispatcher(url: str, store: Store, **options: Any) -> DBOSDispatcher:
    quick: dict[str, Any] = {"poll": 0.05, "lease": 0.5}
    return DBOSDispatcher(url, store, **(quick | options))


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.01)


async def rests(runs: Runs, run_id: str) -> None:
    """Wait until nobody drives a run that waits."""

    async def holds() -> bool:
        info = await runs.get(run_id)
        return info.status == "waiting" and not info.owner

    await until(holds)


async def tickets(url: str, **filters: Any) -> list[WorkflowStatus]:
    client = DBOSClient(system_database_url=url)
    try:
        return await client.list_workflows_async(**filters)
    finally:
        client.destroy()


async def are_over(url: str) -> bool:
    """Whether DBOS has noted that all tickets have ended."""
    return not await tickets(url, status=["ENQUEUED", "PENDING"])


async def tell(url: str, what: Callable[[DBOSClient], Awaitable[None]]) -> None:
    """Do what a person could do with DBOS's own tools."""
    client = DBOSClient(system_database_url=url)
    try:
        await what(client)
    finally:
        client.destroy()


class Count(Workflow):
    """Counts how many of its runs are at work at once."""

    now = most = 0

    @step
    async def count(self, ev: StartEvent) -> StopEvent:
        Count.now += 1
        Count.most = max(Count.now, Count.most)
        began = time.time()
        await asyncio.sleep(0.1)
        Count.now -= 1
        assert DBOS.workflow_id is None  # nothing of a step's is one of DBOS's
        return StopEvent(result=began)


def count(store: Store) -> Count:
    Count.now = Count.most = 0
    return Count(durable=store)


# ------------------------------------------------------------------------- driving


def test_a_run_that_is_started_twice_is_driven_once(url: str, tmp_path: Path) -> None:
    async def main() -> None:
        store = MemoryStore()
        carrier = dispatcher(url, store)
        runs = Runs(store, *flows(store), dispatcher=carrier)
        path = str(tmp_path / "note")
        for _ in range(2):
            await runs.start(Note(), run_id="a/run", path=path)
        async with working(Worker(*flows(store), dispatcher=carrier)):
            await runs.start(Note(), run_id="a/run", path=path)
            assert await runs.result("a/run") == 1
            await runs.start(Note(), run_id="a/run", path=path)
            await until(lambda: are_over(url))
        assert len(noted(tmp_path / "note")) == 1
        (ticket,) = await tickets(url)
        assert (ticket.name, ticket.output) == ("anabranch.drive", "completed")
        assert ticket.workflow_id.startswith("anabranch/a/run/0/")

    asyncio.run(main())


def test_a_run_that_rests_is_driven_again_when_it_is_answered(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        # One that waits takes up no slot.
        async with working(
            Worker(*flows(store), dispatcher=dispatcher(url, store, slots=1))
        ):
            names = [await runs.start(Ask(), answers=2) for _ in range(2)]
            for name in names:
                await rests(runs, name)
            for name in reversed(names):
                await runs.send(name, Answer(text="yes"))
                await rests(runs, name)
                await runs.send(name, Answer(text="no"))
                assert await runs.result(name) == ["yes", "no"]

    asyncio.run(main())


def test_no_answer_is_lost_whenever_it_comes(url: str) -> None:
    """While the run is queued, opened, driven, about to rest, at rest."""

    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        chance = random.Random(1)

        async def ask() -> None:
            name = await runs.start(Ask(), answers=5)
            for n in range(5):
                await asyncio.sleep(chance.random() * 0.15)
                await runs.send(name, Answer(text=f"{n}"))
            assert await runs.result(name) == ["0", "1", "2", "3", "4"]

        async with working(Worker(*flows(store), dispatcher=dispatcher(url, store))):
            await asyncio.gather(*(ask() for _ in range(60)))

    asyncio.run(main())


def test_a_run_is_driven_when_its_time_has_come(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        rested = Worker(*flows(store), dispatcher=dispatcher(url, store), keep=0)
        async with working(rested):
            name = await runs.start(Nap())
            await rests(runs, name)
            assert await runs.result(name) == "slept well"

    asyncio.run(main())


def test_a_run_does_not_begin_before_its_time(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        counted = count(store)
        carrier = dispatcher(url, store)
        runs = Runs(store, counted, dispatcher=carrier)
        async with working(Worker(counted, dispatcher=carrier)):
            asked = time.time()
            late = await runs.start(counted, delay=1.5)
            at_once = await runs.start(counted)
            assert await runs.result(at_once) < await runs.result(late)
            assert await runs.result(late) >= asked + 1.5

    asyncio.run(main())


def test_many_runs_are_driven_at_once_up_to_the_limit_of_all_workers(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        counted = count(store)
        runs = Runs(store, counted)
        names = [await runs.start(counted) for _ in range(30)]
        carrier = dispatcher(url, store, slots=20, concurrency=3)
        async with working(Worker(counted, dispatcher=carrier)):
            for name in names:
                await runs.result(name)
        assert Count.most == 3

    asyncio.run(main())


@pytest.mark.exhaustive
def test_drives_begin_no_faster_than_the_queue_allows(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        counted = count(store)
        runs = Runs(store, counted)
        names = [await runs.start(counted) for _ in range(5)]
        carrier = dispatcher(url, store, rate=(2, 1.0))
        async with working(Worker(counted, dispatcher=carrier)):
            began = sorted([await runs.result(name) for name in names])
        # A drive begins an instant after the queue has let it.
        assert began[2] - began[0] > 0.5
        assert began[4] - began[2] > 0.5

    asyncio.run(main())


def test_many_runs_go_through_a_short_queue(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        counted = count(store)
        runs = Runs(store, counted)
        names = [await runs.start(counted) for _ in range(200)]
        carrier = dispatcher(url, store, slots=40)
        longest = 0
        async with working(Worker(counted, dispatcher=carrier)):
            await runs.result(names[0])
            while await runs.find(statuses=["pending"]):
                queued = await tickets(url, status="ENQUEUED")
                longest = max(longest, len(queued))
            for name in names:
                await runs.result(name)
        assert 0 < longest <= 40
        assert Count.most <= 40
        assert len(await tickets(url)) == 200

    asyncio.run(main())


# ------------------------------------------------------------- cancelled and failed


def test_a_run_is_cancelled_wherever_it_is(url: str, tmp_path: Path) -> None:
    async def main() -> None:
        store = MemoryStore()
        carrier = dispatcher(url, store)
        runs = Runs(store, *flows(store), dispatcher=carrier)
        async with working(Worker(*flows(store), dispatcher=carrier)):
            path = tmp_path / "note"
            resting = await runs.start(Ask())
            driven = await runs.start(Note(), path=str(path), hangs=1)
            await rests(runs, resting)
            await until(lambda: bool(noted(path)))
            for name in (resting, driven):
                await runs.cancel(name)
                with pytest.raises(WorkflowCancelledByUser):
                    await runs.result(name)

    asyncio.run(main())


class Unlucky(Worker):
    """Its store fails at first."""

    failures = 2
    error: type[Exception] = JournalError

    async def drive(self, run_id: str) -> Driven:
        if self.failures:
            self.failures -= 1
            raise self.error("the disk is full")
        return await super().drive(run_id)


@pytest.mark.parametrize("error", [JournalError, ZeroDivisionError])
def test_a_run_that_could_not_be_driven_is_tried_again(
    url: str, error: type[Exception]
) -> None:
    async def main() -> None:
        store = MemoryStore()
        counted = count(store)
        runs = Runs(store, counted)
        unlucky = Unlucky(counted, dispatcher=dispatcher(url, store))
        unlucky.error = error
        async with working(unlucky):
            name = await runs.start(counted)
            await runs.result(name)
        said = [ticket.output for ticket in await tickets(url)]
        assert len(said) == 3
        assert "the disk is full" in str(said[0])

    asyncio.run(main())


def test_a_ticket_that_is_cancelled_in_dbos_is_made_again(url: str, tmp_path: Path) -> None:
    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        carrier = dispatcher(url, store, slots=1)
        async with working(Worker(*flows(store), dispatcher=carrier)):
            path = tmp_path / "note"
            driven = await runs.start(Note(), path=str(path), hangs=1)
            await until(lambda: bool(noted(path)))
            queued = await runs.start(Ask(), run_id="queued")

            async def is_queued() -> bool:
                return len(await tickets(url, status="ENQUEUED")) == 1

            await until(is_queued)
            (ticket,) = await tickets(url, status="ENQUEUED")
            await tell(url, lambda dbos: dbos.cancel_workflow_async(ticket.workflow_id))
            await until(is_queued)
            (again,) = await tickets(url, status="ENQUEUED")
            assert again.workflow_id.startswith("anabranch/queued/0/")
            assert again.workflow_id != ticket.workflow_id
            await runs.cancel(driven)
            await rests(runs, queued)

    asyncio.run(main())


def test_a_ticket_that_comes_too_late_leaves_the_run_to_its_driver(
    url: str, tmp_path: Path
) -> None:
    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        carrier = dispatcher(url, store, slots=1)
        async with working(Worker(*flows(store), dispatcher=carrier)):
            path, other = tmp_path / "note", tmp_path / "other"
            blocking = await runs.start(Note(), path=str(path), hangs=1)
            await until(lambda: bool(noted(path)))
            await runs.start(Note(), run_id="queued", path=str(other), hangs=1)

            async def is_queued() -> bool:
                return len(await tickets(url, status="ENQUEUED")) == 1

            await until(is_queued)
            here = Note(durable=store, timeout=None).run(
                run_id="queued", path=str(other), hangs=1
            )
            await until(lambda: bool(noted(other)))
            await runs.cancel(blocking)

            await until(lambda: are_over(url))
            late = await tickets(url, workflow_id_prefix="anabranch/queued/")
            assert [ticket.output for ticket in late] == ["left alone"]
            assert len(noted(other)) == 1
            await runs.cancel("queued")
            with pytest.raises(WorkflowCancelledByUser):
                await here

    asyncio.run(main())


def test_a_ticket_that_dbos_takes_and_forgets_is_made_again(
    url: str, tmp_path: Path
) -> None:
    """As if the answer of the database had been lost when the ticket was taken."""

    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        carrier = dispatcher(url, store, slots=1)
        async with working(Worker(*flows(store), dispatcher=carrier)):
            path = tmp_path / "note"
            driven = await runs.start(Note(), path=str(path), hangs=1)
            await until(lambda: bool(noted(path)))
            queued = await runs.start(Ask())

            async def is_queued() -> bool:
                return len(await tickets(url, status="ENQUEUED")) == 1

            await until(is_queued)
            (hanging,) = await tickets(url, status="PENDING")
            with psycopg.connect(url) as connection:
                connection.execute(
                    "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = %s,"
                    " started_at_epoch_ms = created_at WHERE status = 'ENQUEUED'",
                    [hanging.executor_id],
                )
            await until(is_queued)  # another one
            (cancelled,) = await tickets(url, status="CANCELLED")
            assert queued in cancelled.workflow_id
            await runs.cancel(driven)
            await rests(runs, queued)

    asyncio.run(main())


@pytest.mark.exhaustive
def test_another_program_in_the_same_database_is_no_hindrance(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        counted = count(store)
        runs = Runs(store, counted)
        async with working(Worker(counted, dispatcher=dispatcher(url, store))):
            await runs.result(await runs.start(counted))

    asyncio.run(main())
    DBOS(
        config={
            "name": "theirs",
            "system_database_url": url,
            "application_version": "the latest",
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    DBOS.destroy()
    asyncio.run(main())


@pytest.mark.exhaustive
def test_tickets_that_ended_long_ago_are_forgotten(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        counted = count(store)
        runs = Runs(store, counted)
        carrier = dispatcher(url, store)
        carrier._tickets._keep = timedelta()
        async with working(Worker(counted, dispatcher=carrier)):
            await runs.result(await runs.start(counted))

            async def is_forgotten() -> bool:
                return not await tickets(url)

            await until(is_forgotten)

    asyncio.run(main())


# ------------------------------------------------------------------ one per process


def test_nothing_of_dbos_is_left_when_a_worker_has_ended(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()

    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        path = tmp_path / "note"
        for _ in range(30):
            await runs.start(Ask())
        before = {thread.name for thread in threading.enumerate()}
        tasks = asyncio.all_tasks()
        for hangs in range(1, 3):  # a worker may work again
            await runs.start(Note(), run_id="hangs", path=str(path), hangs=2)
            async with working(Worker(*flows(store), dispatcher=dispatcher(url, store))):
                await until(lambda n=hangs: len(noted(path)) == n)  # type: ignore[misc]
            info = await runs.get("hangs")
            assert (info.status, info.owner) == ("running", "")
            left = {thread.name for thread in threading.enumerate()} - before
            assert not {name for name in left if not name.startswith("asyncio_")}
            assert asyncio.all_tasks() == tasks
        left_over = await tickets(url, workflow_id_prefix="anabranch/hangs/")
        outputs = [ticket.output for ticket in left_over]
        # On a slow machine a run is asked for again while it is being driven.
        assert [said for said in outputs if said != "left alone"] == ["let go"] * 2
        with pytest.raises(Exception, match="No DBOS was created"):
            await DBOS.list_workflows_async()

    asyncio.run(main())


def test_a_worker_that_is_cancelled_while_it_begins_leaves_nothing(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        for delay in (0.0, 0.02, 0.2):
            carrier = dispatcher(url, store)
            task = asyncio.create_task(Worker(*flows(store), dispatcher=carrier).work())
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        names = {thread.name.rstrip("0123456789") for thread in threading.enumerate()}
        assert names - before <= {"asyncio_"}

    # What other tests have left in this process is not its.
    before = {thread.name.rstrip("0123456789") for thread in threading.enumerate()}
    asyncio.run(main())


def test_a_second_dispatcher_of_a_process_says_that_there_can_be_one(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        runs = Runs(store, *flows(store))
        async with working(Worker(*flows(store), dispatcher=dispatcher(url, store))):
            await rests(runs, await runs.start(Ask()))
            with pytest.raises(UsageError, match="works in this process already"):
                await Worker(*flows(store), dispatcher=dispatcher(url, store)).work()
            await rests(runs, await runs.start(Ask()))  # the first one goes on

    asyncio.run(main())


def test_a_process_that_uses_dbos_itself_is_told_to_work_elsewhere(url: str) -> None:
    async def main() -> None:
        store = MemoryStore()
        with pytest.raises(UsageError, match="process of its own"):
            await Worker(*flows(store), dispatcher=dispatcher(url, store)).work()

    DBOS(config={"name": "theirs", "system_database_url": url, "log_level": "ERROR"})
    try:
        asyncio.run(main())
        assert DBOS.executor_id == "local"
    finally:
        DBOS.destroy()


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    async def main() -> None:
        store = MemoryStore()
        nowhere = dispatcher(f"postgresql://me:{SECRET}@127.0.0.1:1/runs", store)
        with pytest.raises(JournalError, match=r"127\.0\.0\.1:1/runs") as raised:
            await Worker(*flows(store), dispatcher=nowhere).work()
        assert SECRET not in str(raised.value)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slots": 0}, "slots must be more than 0"),
        ({"concurrency": 0}, "concurrency must be more than 0"),
        ({"rate": (0, 1.0)}, "rate must be more than 0"),
        ({"poll": 0}, "poll must be more than 0"),
        ({"lease": -1.0}, "lease must be more than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DBOSDispatcher("postgresql:///runs", MemoryStore(), **options)


def test_dbos_on_sqlite_is_refused() -> None:
    with pytest.raises(UsageError, match="not sqlite://"):
        DBOSDispatcher("sqlite:///dbos.sqlite", MemoryStore())


def test_it_is_a_dispatcher() -> None:
    assert isinstance(DBOSDispatcher("postgresql:///runs", MemoryStore()), Dispatcher)


# ---------------------------------------------------------------- several processes


def test_a_run_of_a_killed_worker_is_taken_over_though_its_ticket_stays(
    url: str, tmp_path: Path
) -> None:
    """The queue allows one drive at a time, and the dead one does not count."""

    async def main() -> None:
        path = tmp_path / "note"
        store = store_at(url)  # beside the queue
        runs = Runs(store, *flows(store))
        await runs.start(Note(), run_id="hangs", path=str(path), hangs=1)
        with worker(url, url, lease=2.0, concurrency=1) as first:
            await until(lambda: bool(noted(path)))
            with worker(url, url, lease=2.0, concurrency=1) as second:
                waiting = await runs.start(Ask())
                first.kill()
                killed_at = time.monotonic()
                assert await runs.result("hangs") == 2
                print(f"taken over after {time.monotonic() - killed_at:.1f} s")
                assert noted(path) == [first.pid, second.pid]
                await rests(runs, waiting)
        await store.close()

    asyncio.run(main())


def test_runs_of_a_worker_that_is_told_to_stop_go_to_another_at_once(
    url: str, tmp_path: Path
) -> None:
    async def main() -> None:
        path = tmp_path / "note"
        store = store_at(url)  # beside the queue
        runs = Runs(store, *flows(store))
        await runs.start(Note(), run_id="hangs", path=str(path), hangs=1)
        with worker(url, url, lease=600.0) as first:
            await until(lambda: bool(noted(path)))
            with worker(url, url, lease=600.0) as second:
                first.send_signal(signal.SIGTERM)
                told_at = time.monotonic()
                assert await runs.result("hangs") == 2
                print(f"taken over after {time.monotonic() - told_at:.1f} s")
                assert noted(path) == [first.pid, second.pid]
                assert first.wait(60) == 0
                left = await tickets(url, status="SUCCESS", sort_desc=True)
                # The second may have the ticket before the first can say that it let go.
                assert left[0].output == "completed"
                assert {ticket.output for ticket in left} <= {"completed", "let go"}
        await store.close()

    asyncio.run(main())


@pytest.mark.exhaustive
def test_a_worker_that_dies_between_queue_and_run_loses_neither(
    url: str, tmp_path: Path
) -> None:
    async def main() -> None:
        path = tmp_path / "note"
        store = store_at(url)  # beside the queue
        runs = Runs(store, *flows(store))
        with worker(url, url, dies_at="fatal") as first:
            await runs.start(Note(), run_id="fatal", path=str(path))
            first.wait(60)
            assert noted(path) == []
            with worker(url, url) as second:
                assert await runs.result("fatal") == 1
                assert noted(path) == [second.pid]
        await store.close()

    asyncio.run(main())


@pytest.mark.exhaustive
def test_a_worker_that_was_frozen_past_its_lease_writes_nothing(
    url: str, tmp_path: Path
) -> None:
    async def main() -> None:
        path = tmp_path / "note"
        store = store_at(url)  # beside the queue
        runs = Runs(store, *flows(store))
        await runs.start(Note(), run_id="hangs", path=str(path), hangs=1)
        with worker(url, url, lease=2.0) as first:
            await until(lambda: bool(noted(path)))
            with worker(url, url, lease=2.0) as second:
                first.send_signal(signal.SIGSTOP)
                assert await runs.result("hangs") == 2
                first.send_signal(signal.SIGCONT)
                name = await runs.start(Ask())
                await rests(runs, name)
                assert noted(path) == [first.pid, second.pid]
                assert (await runs.get("hangs")).status == "completed"
        await store.close()

    asyncio.run(main())


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_shared", [False, True], ids=["queue", "queue and store"])
@pytest.mark.parametrize("immediate", [False, True], ids=["stopped", "lost power"])
def test_runs_outlive_a_restart_of_the_database(
    tmp_path: Path, immediate: bool, is_shared: bool
) -> None:
    async def main(server: Server, url: str) -> None:
        place = url if is_shared else str(tmp_path / "runs.db")
        store = store_at(place)
        runs = Runs(store, *flows(store))
        with worker(url, place, lease=2.0), worker(url, place, lease=2.0):
            before = [await runs.start(Ask()) for _ in range(20)]
            for name in before[:3]:
                await rests(runs, name)
            await asyncio.to_thread(server.stop, immediate=immediate)
            during = []
            if not is_shared:
                during = [await runs.start(Ask()) for _ in range(5)]
            await asyncio.sleep(2.0)
            await asyncio.to_thread(server.start)
            for name in (*before, *during):
                await runs.send(name, Answer(text="yes"))
                assert await runs.result(name) == ["yes"]
        await store.close()

    with Server.started() as server, server.database() as url:
        asyncio.run(main(server, url))


@pytest.mark.exhaustive
def test_a_worker_can_be_stopped_while_the_database_is_away(tmp_path: Path) -> None:
    async def main(server: Server, url: str) -> None:
        place, path = tmp_path / "runs.db", tmp_path / "note"
        store = store_at(place)
        runs = Runs(store, *flows(store))
        name = await runs.start(Note(), path=str(path), hangs=1)
        with worker(url, place) as first:
            await until(lambda: bool(noted(path)))
            await asyncio.to_thread(server.stop)
            first.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait, 60) == 0
        assert not (await runs.get(name)).owner
        await asyncio.to_thread(server.start)
        with worker(url, place, concurrency=1):
            assert await runs.result(name) == 2
        await store.close()

    with Server.started() as server, server.database() as url:
        asyncio.run(main(server, url))
