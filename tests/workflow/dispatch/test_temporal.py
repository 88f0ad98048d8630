"""Temporal's real servers carry runs to workers, and lose none."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("temporalio")

from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
)
from temporalio.worker import Replayer

from anabranch.errors import (
    JournalError,
    RunNotFound,
    UsageError,
    WorkflowCancelledByUser,
)
from anabranch.workflow import Runs, Worker
from anabranch.workflow.dispatch import (
    Dispatcher,
    Done,
    Driven,
    Driver,
    Elsewhere,
    Waiting,
    _temporal_run,
    temporal,
)
from anabranch.workflow.dispatch.temporal import TemporalDispatcher
from anabranch.workflow.stores.places import store_at
from tests.temporal import Server, skipping_time
from tests.workflow.dispatch.temporal_flows import (
    Answer,
    Ask,
    Chain,
    flows,
    noted,
    worker,
)

HISTORY = Path(__file__).with_name("temporal_history.json")

# A drive that nobody takes over makes its test fail by the time limit.
LONG_S = 600.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.started() as server:
        yield server


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    name: str = request.node.name
    return name


class Script:
    """A driver that does with a run what a function says of its n-th drive."""

    workflows = ("Flow",)

    def __init__(self, act: Callable[[int], Awaitable[Driven]]) -> None:
        self.act = act
        self.drives: list[str] = []
        self.cancelled: set[str] = set()

    async def drive(self, run_id: str) -> Driven:
        self.drives.append(run_id)
        if run_id in self.cancelled:
            return Done("cancelled")
        return await self.act(self.drives.count(run_id))

    async def cancel(self, run_id: str) -> None:
        self.cancelled.add(run_id)


def says(*driven: Driven | Exception) -> Script:
    """One whose n-th drive ends so; the last one for ever."""

    async def act(drive: int) -> Driven:
        end = driven[min(drive, len(driven)) - 1]
        if isinstance(end, Exception):
            raise end
        return end

    return Script(act)


@asynccontextmanager
async def working(dispatcher: Dispatcher, driver: Driver) -> AsyncIterator[None]:
    task = asyncio.create_task(dispatcher.work(driver))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def seen(server: Server, queue: str, run_id: str) -> WorkflowHandle[Any, Any]:
    """What people see of a run in Temporal."""
    client = await Client.connect(server.target)
    return client.get_workflow_handle(f"{queue}/{run_id}")


async def ended(server: Server, queue: str, run_id: str) -> tuple[str, str]:
    """How a run has ended, in Temporal's words, and what is said of it."""
    handle = await seen(server, queue, run_id)
    try:
        said = await handle.result()
    except WorkflowFailureError as error:
        said = str(error.cause)
    status = (await handle.describe()).status
    assert status is not None
    return status.name, said


# ------------------------------------------------------------------- driving, resting


def test_a_run_that_is_started_twice_is_driven_once(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Done("completed"))
        await dispatcher.start("r", workflow="Flow")
        await dispatcher.start("r", workflow="Flow")
        async with working(dispatcher, driver):
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        assert driver.drives == ["r"]

    asyncio.run(main())


def test_people_find_the_name_of_the_workflow(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        await dispatcher.start("r", workflow="Flow")
        shown = await (await seen(server, queue, "r")).describe()
        assert shown.workflow_type == "Flow"
        assert await shown.memo() == {"workflow": "Flow", "run_id": "r"}
        assert await shown.static_summary() == "Flow: r"

    asyncio.run(main())


def test_a_run_that_is_started_after_its_end_is_looked_at(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Done("completed"))
        async with working(dispatcher, driver):
            for _ in range(2):
                await dispatcher.start("r", workflow="Flow")
                assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        assert driver.drives == ["r", "r"]

    asyncio.run(main())


def test_a_run_that_is_started_again_at_its_end_is_not_overlooked(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)

        async def act(drive: int) -> Driven:
            if drive > 1:
                return Done("completed")
            # Here it has failed for the store, and somebody has it tried again.
            await dispatcher.start("r", workflow="Flow")
            return Done("failed")

        async with working(dispatcher, Script(act)):
            await dispatcher.start("r", workflow="Flow")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


def test_a_run_that_rests_is_driven_if_it_is_started_again(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Waiting(None), Done("completed"))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            await dispatcher.start("r", workflow="Flow")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


def test_a_run_rests_until_it_is_woken(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Waiting(None), Done("completed"))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            await dispatcher.wake("r")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


def test_a_doorbell_that_rings_during_a_drive_is_heard(server: Server, queue: str) -> None:
    async def main() -> None:
        rung = asyncio.Event()

        async def act(drive: int) -> Driven:
            await rung.wait()
            return Waiting(None) if drive == 1 else Done("completed")

        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = Script(act)
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            await dispatcher.wake("r")
            rung.set()
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


@pytest.mark.parametrize("long", [1000, 5], ids=["one history", "a new one each time"])
def test_a_month_of_rest_costs_no_drive_but_for_each_ring_and_its_end(
    queue: str, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    monkeypatch.setattr(_temporal_run, "LONG_HISTORY", long)

    async def main() -> None:
        async with skipping_time() as environment:

            async def now() -> float:
                return (await environment.get_current_time()).timestamp()

            begin = await now()

            async def act(drive: int) -> Driven:
                due = begin + 30 * 86400
                return Waiting(due) if await now() < due else Done("completed")

            client = environment.client
            dispatcher = TemporalDispatcher(client, queue=queue, recheck=1e9)
            driver = Script(act)
            async with working(dispatcher, driver):
                await dispatcher.start("r", workflow="Flow")
                await until(lambda: driver.drives == ["r"])
                await dispatcher.wake("r")
                await until(lambda: driver.drives == ["r", "r"])
                await environment.sleep(timedelta(days=31))
                await client.get_workflow_handle(f"{queue}/r").result()
            assert driver.drives == ["r", "r", "r"]

    asyncio.run(main())


def test_a_run_whose_doorbell_was_lost_is_driven_after_a_while(queue: str) -> None:
    async def main() -> None:
        async with skipping_time() as environment:
            client = environment.client
            dispatcher = TemporalDispatcher(client, queue=queue, recheck=3600.0)
            driver = says(Waiting(None), Waiting(None), Done("completed"))
            async with working(dispatcher, driver):
                await dispatcher.start("r", workflow="Flow")
                await environment.sleep(timedelta(days=1))
                await client.get_workflow_handle(f"{queue}/r").result()
            assert driver.drives == ["r", "r", "r"]

    asyncio.run(main())


def test_a_run_is_not_driven_before_its_time(queue: str) -> None:
    async def main() -> None:
        async with skipping_time() as environment:
            client = environment.client
            begin = (await environment.get_current_time()).timestamp()
            times: list[float] = []

            async def act(drive: int) -> Driven:
                times.append((await environment.get_current_time()).timestamp() - begin)
                return Done("completed")

            dispatcher = TemporalDispatcher(client, queue=queue)
            async with working(dispatcher, Script(act)):
                at = begin + 10 * 86400
                for _ in range(2):
                    await dispatcher.start("r", workflow="Flow", not_before=at)
                await environment.sleep(timedelta(days=11))
                await client.get_workflow_handle(f"{queue}/r").result()
            assert len(times) == 1
            assert times[0] >= 10 * 86400

    asyncio.run(main())


def test_a_run_that_is_woken_before_its_time_is_driven(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        async with working(dispatcher, says(Done("completed"))):
            await dispatcher.start("r", workflow="Flow", not_before=4e9)
            await dispatcher.wake("r")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


def test_a_time_that_the_stores_clock_has_not_reached_does_not_make_a_run_spin(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(*[Waiting(1.0)] * 3, Done("completed"))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await ended(server, queue, "r")
        events = (await (await seen(server, queue, "r")).fetch_history()).events
        assert sum(event.HasField("timer_fired_event_attributes") for event in events) == 3

    asyncio.run(main())


# ------------------------------------------------------------------------ how it ends


@pytest.mark.parametrize("status", ["failed", "timed out"])
def test_a_run_that_fails_is_seen_to_fail(server: Server, queue: str, status: Any) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        async with working(dispatcher, says(Done(status))):
            await dispatcher.start("r", workflow="Flow")
            shown, said = await ended(server, queue, "r")
        assert (shown, said) == (
            "FAILED",
            f"{status}: the run has ended as {status}; its journal says why",
        )

    asyncio.run(main())


def test_a_run_that_rests_is_cancelled(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Waiting(None))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            await dispatcher.cancel("r")
            assert (await ended(server, queue, "r"))[0] == "CANCELED"
        assert driver.cancelled == {"r"}
        assert driver.drives == ["r", "r"]

    asyncio.run(main())


def test_a_run_is_cancelled_with_temporals_own_tools_while_all_workers_are_busy(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        async def act(drive: int) -> Driven:
            await asyncio.sleep(LONG_S)
            raise AssertionError("it was let go")

        options: dict[str, Any] = {"queue": queue, "heartbeat": 1.0, "slots": 1}
        dispatcher = TemporalDispatcher(server.target, **options)
        driver = Script(act)
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            words = ("workflow", "cancel", "--workflow-id", f"{queue}/r")
            await asyncio.to_thread(server.command, *words)
            assert (await ended(server, queue, "r"))[0] == "CANCELED"
        assert driver.cancelled == {"r"}

    asyncio.run(main())


def test_a_run_that_cannot_be_cancelled_any_more_ends_as_it_does(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        go = asyncio.Event()

        class Deaf(Script):
            async def cancel(self, run_id: str) -> None:
                go.set()

        async def act(drive: int) -> Driven:
            await go.wait()
            return Done("completed")

        dispatcher = TemporalDispatcher(server.target, queue=queue, heartbeat=1.0)
        driver = Deaf(act)
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            await dispatcher.cancel("r")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


def test_a_run_that_was_cancelled_by_itself_says_so(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        async with working(dispatcher, says(Done("cancelled"))):
            await dispatcher.start("r", workflow="Flow")
            assert await ended(server, queue, "r") == ("COMPLETED", "cancelled")

    asyncio.run(main())


def test_a_run_that_was_terminated_in_temporal_is_driven_when_it_is_started_again(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Waiting(None), Done("completed"))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            await (await seen(server, queue, "r")).terminate()
            await dispatcher.start("r", workflow="Flow")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


def test_a_run_that_was_terminated_in_temporal_is_driven_to_be_cancelled(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Waiting(None), Done("cancelled"))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            await (await seen(server, queue, "r")).terminate()
            await dispatcher.cancel("r")
            assert await ended(server, queue, "r") == ("COMPLETED", "cancelled")

    asyncio.run(main())


# ---------------------------------------------------------------------- what goes wrong


def test_a_store_that_fails_is_tried_again(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(*[JournalError("the disk is full")] * 3, Done("completed"))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        assert driver.drives == ["r"] * 4

    asyncio.run(main())


def test_a_run_of_other_code_comes_to_the_worker_that_has_it(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        ours, theirs = (TemporalDispatcher(server.target, queue=queue) for _ in range(2))
        one = says(Elsewhere("it is of workflow Flow, which is not served here"))
        other = says(Done("completed"))
        async with working(ours, one):
            await ours.start("r", workflow="Flow")
            await until(lambda: bool(one.drives))
            async with working(theirs, other):
                assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        assert other.drives == ["r"]

    asyncio.run(main())


def test_a_run_that_no_worker_finds_in_its_store_is_given_up_in_the_end(
    server: Server, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal, "ATTEMPTS_TO_FIND", 3)

    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(RunNotFound("there is no run 'r'", run_id="r"))
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            assert (await ended(server, queue, "r"))[0] == "FAILED"
        assert driver.drives == ["r"] * 3

    asyncio.run(main())


def test_a_doorbell_that_nobody_hears_raises_nothing(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        await dispatcher.wake("nobody")
        await TemporalDispatcher(Server().target).wake("nobody")
        await TemporalDispatcher(server.target, namespace="nowhere").wake("nobody")

    asyncio.run(main())


def test_a_temporal_that_cannot_be_reached_is_named(server: Server, queue: str) -> None:
    async def main(target: str) -> None:
        gone = TemporalDispatcher(target)
        for call in (
            gone.start("r", workflow="Flow"),
            gone.cancel("r"),
            gone.work(says(Done("completed"))),
        ):
            with pytest.raises(JournalError, match=rf"Temporal \({target}, namespace"):
                await call
        # Twice, since a worker that could not begin must not stand in the way of the next.
        elsewhere = TemporalDispatcher(server.target, namespace="nowhere")
        for _ in range(2):
            with pytest.raises(JournalError, match="Namespace nowhere is not found"):
                await elsewhere.work(says(Done("completed")))

    asyncio.run(main(Server().target))  # which is not started


@pytest.mark.parametrize(
    "options", [{"heartbeat": 0}, {"recheck": -1.0}, {"slots": 0}], ids=repr
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be more than 0, not"):
        TemporalDispatcher("127.0.0.1:1", **options)


# ------------------------------------------------------------- histories, many runs


def test_a_history_stays_short_however_often_a_run_is_woken(
    server: Server, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_temporal_run, "LONG_HISTORY", 40)
    _wake_often(server, queue, wakes=12, at_once=1, longest=60)


@pytest.mark.exhaustive
def test_a_history_stays_short_over_thousands_of_wakes(server: Server, queue: str) -> None:
    _wake_often(server, queue, wakes=3000, at_once=10, longest=1100)


def _wake_often(
    server: Server, queue: str, *, wakes: int, at_once: int, longest: int
) -> None:
    async def main() -> None:
        is_last = False

        async def act(drive: int) -> Driven:
            return Done("completed") if is_last else Waiting(None)

        def driven_more_than(times: int) -> bool:
            return len(driver.drives) > times

        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = Script(act)
        lengths = []
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            handle = await seen(server, queue, "r")
            for _ in range(wakes // at_once):
                driven = len(driver.drives)
                await asyncio.gather(*(dispatcher.wake("r") for _ in range(at_once)))
                await until(partial(driven_more_than, driven))
                lengths.append((await handle.describe()).history_length)
            is_last = True
            await dispatcher.wake("r")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        assert max(lengths) < longest
        assert lengths != sorted(lengths)  # it has begun anew

    asyncio.run(main())


def test_a_flood_of_rings_during_a_drive_makes_a_new_history(
    server: Server, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_temporal_run, "LONG_HISTORY", 40)
    monkeypatch.setattr(_temporal_run, "MANY_RINGS", 20)

    async def main() -> None:
        async def act(drive: int) -> Driven:
            if drive == 1:
                await asyncio.sleep(LONG_S)
            return Done("completed")

        dispatcher = TemporalDispatcher(server.target, queue=queue, heartbeat=1.0)
        driver = Script(act)
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: driver.drives == ["r"])
            for _ in range(25):
                await dispatcher.wake("r")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        shown = await (await seen(server, queue, "r")).describe()
        assert shown.history_length < 40

    asyncio.run(main())


def test_executions_of_earlier_versions_go_on() -> None:
    """Made by ``python -m tests.workflow.dispatch.test_temporal``; never replace it.

    If this fails, executions under way would stand still after an upgrade.
    """
    history = WorkflowHistory.from_json("queue/r", HISTORY.read_text())
    asyncio.run(Replayer(workflows=[_temporal_run.RunOnTemporal]).replay_workflow(history))


async def recorded(server: Server, queue: str) -> WorkflowHistory:
    """A run that rests, is woken at rest and in a drive, and is cancelled."""
    go = asyncio.Event()

    async def act(drive: int) -> Driven:
        if drive == 2:
            await go.wait()
        return Waiting(1.0 if drive == 1 else None)

    dispatcher = TemporalDispatcher(server.target, queue=queue)
    driver = Script(act)
    async with working(dispatcher, driver):
        await dispatcher.start("r", workflow="Flow")
        await until(lambda: len(driver.drives) == 2)
        await dispatcher.wake("r")
        go.set()
        await until(lambda: len(driver.drives) == 3)
        await dispatcher.wake("r")
        await until(lambda: len(driver.drives) == 4)
        await dispatcher.cancel("r")
        await ended(server, queue, "r")
    assert len(driver.drives) == 5  # none without a reason
    return await (await seen(server, queue, "r")).fetch_history()


def test_what_temporal_runs_of_ours_decides_the_same_when_it_is_replayed(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        history = await recorded(server, queue)
        replayer = Replayer(workflows=[_temporal_run.RunOnTemporal])
        await replayer.replay_workflow(history)

    asyncio.run(main())


def test_no_more_runs_are_driven_at_once_than_there_are_slots(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        now = most = 0
        full = asyncio.Event()

        async def act(drive: int) -> Driven:
            nonlocal now, most
            now += 1
            most = max(most, now)
            if now == 3:
                full.set()
            await full.wait()
            await asyncio.sleep(0.02)
            now -= 1
            return Done("completed")

        dispatcher = TemporalDispatcher(server.target, queue=queue, slots=3)
        driver = Script(act)
        names = [f"r{n}" for n in range(40)]
        async with working(dispatcher, driver):
            starts = [dispatcher.start(name, workflow="Flow") for name in names]
            await asyncio.gather(*starts)
            await asyncio.gather(*(ended(server, queue, name) for name in names))
        assert sorted(driver.drives) == sorted(names)
        assert most == 3

    asyncio.run(main())


# ------------------------------------------------------------- the ends of workers


def test_a_worker_that_stops_leaves_nothing_behind_and_its_runs_to_others_at_once(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        async def act(drive: int) -> Driven:
            await asyncio.sleep(LONG_S)
            raise AssertionError("it was let go")

        options: dict[str, Any] = {"queue": queue, "heartbeat": LONG_S}
        ours, theirs = (TemporalDispatcher(server.target, **options) for _ in range(2))
        one, other = Script(act), says(Done("completed"))
        await ours.start("r", workflow="Flow")
        stopping = asyncio.create_task(ours.work(one))
        await until(lambda: one.drives == ["r"])
        async with working(theirs, other):
            stopping.cancel()
            await asyncio.wait([stopping])
            assert stopping.cancelled()
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        assert other.drives == ["r"]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await ours.close()
        await theirs.close()

    before = threading.enumerate()
    asyncio.run(main())
    assert threading.enumerate() == before


@pytest.mark.parametrize("is_told", [False, True])
def test_a_program_that_does_not_wait_for_its_worker_ends_all_the_same(
    server: Server, queue: str, is_told: bool
) -> None:
    async def main() -> None:
        async def act(drive: int) -> Driven:
            await asyncio.sleep(LONG_S)
            raise AssertionError("it was let go")

        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = Script(act)
        await dispatcher.start("r", workflow="Flow")
        task = asyncio.create_task(dispatcher.work(driver))
        await until(lambda: driver.drives == ["r"])
        if is_told:
            task.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
def test_a_worker_may_be_stopped_while_it_begins(
    server: Server, queue: str, turns: int
) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Done("completed"))
        stopping = asyncio.create_task(dispatcher.work(driver))
        for _ in range(turns):
            await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        assert stopping.cancelled()
        async with working(dispatcher, driver):
            await dispatcher.start("r", workflow="Flow")
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")

    asyncio.run(main())


def test_a_run_rests_and_is_answered_and_cancelled_with_a_real_worker(
    server: Server, queue: str, tmp_path: Path
) -> None:
    async def main() -> None:
        store = store_at(tmp_path / "runs.db")
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        runs = Runs(store, *flows(store), dispatcher=dispatcher)
        real = Worker(*flows(store), dispatcher=dispatcher)
        async with working(dispatcher, real):
            await runs.start(Ask(), run_id="answered")
            await runs.start(Ask(), run_id="cancelled")
            async for _, event in runs.events("answered"):
                if type(event).__name__ == "Question":
                    await runs.send("answered", Answer(text="yes"))
            assert await runs.result("answered") == "yes"
            await runs.cancel("cancelled")
            with pytest.raises(WorkflowCancelledByUser):
                await runs.result("cancelled")
            assert (await ended(server, queue, "cancelled"))[0] == "CANCELED"
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("death", "heartbeat"),
    [(signal.SIGKILL, 2.0), (signal.SIGTERM, LONG_S)],
    ids=["killed", "told to stop"],
)
def test_the_runs_of_a_process_that_ends_are_taken_over(
    server: Server, queue: str, tmp_path: Path, death: signal.Signals, heartbeat: float
) -> None:
    async def main() -> None:
        place, path = tmp_path / "runs.db", tmp_path / "noted"
        store = store_at(place)
        options: dict[str, Any] = {"queue": queue, "heartbeat": heartbeat}
        dispatcher = TemporalDispatcher(server.target, **options)
        runs = Runs(store, *flows(store), dispatcher=dispatcher)
        with worker(server.target, place, **options) as process:
            await runs.start(Chain(), run_id="r", path=str(path), links=4, seconds=0.3)
            await until(lambda: len(noted(path)) == 2)
            async with working(dispatcher, Worker(*flows(store), dispatcher=dispatcher)):
                process.send_signal(death)
                await asyncio.to_thread(process.wait)
                assert await runs.result("r") == [1, 2, 3, 4]
        began = noted(path)
        assert [pid for pid, _ in began] == [process.pid] * 2 + [os.getpid()] * 3
        assert [n for _, n in began] == [1, 2, 2, 3, 4]
        await store.close()

    asyncio.run(main())


def test_a_cancellation_that_cannot_be_noted_yet_stops_no_worker_and_is_not_lost(
    server: Server, queue: str
) -> None:
    async def main() -> None:
        tried = asyncio.Event()

        class Broken(Script):
            async def cancel(self, run_id: str) -> None:
                tried.set()
                raise JournalError("the disk is full")

        dispatcher = TemporalDispatcher(server.target, queue=queue)
        broken, whole = Broken(says(Waiting(None)).act), says(Waiting(None))
        async with working(dispatcher, broken):
            await dispatcher.start("r", workflow="Flow")
            await until(lambda: broken.drives == ["r"])
            await dispatcher.cancel("r")
            await tried.wait()
        async with working(dispatcher, whole):
            assert (await ended(server, queue, "r"))[0] == "CANCELED"
        assert whole.cancelled == {"r"}

    asyncio.run(main())


def test_a_run_is_cancelled_before_it_was_ever_driven(server: Server, queue: str) -> None:
    async def main() -> None:
        dispatcher = TemporalDispatcher(server.target, queue=queue)
        driver = says(Waiting(None))
        await dispatcher.start("r", workflow="Flow")
        await dispatcher.cancel("r")
        async with working(dispatcher, driver):
            assert (await ended(server, queue, "r"))[0] == "CANCELED"
        assert driver.cancelled == {"r"}

    asyncio.run(main())


# -------------------------------------------------------------------- the long ones


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["killed", "paused"])
def test_runs_outlive_a_temporal_that_is_away_for_a_while(
    queue: str, tmp_path: Path, how: str
) -> None:
    async def main(server: Server) -> None:
        path = tmp_path / "noted"
        store = store_at(tmp_path / "runs.db")
        dispatcher = TemporalDispatcher(server.target, queue=queue, heartbeat=3.0)
        runs = Runs(store, *flows(store), dispatcher=dispatcher)
        async with working(dispatcher, Worker(*flows(store), dispatcher=dispatcher)):
            await runs.start(Ask(), run_id="asks")
            await runs.start(Chain(), run_id="r", path=str(path), links=20, seconds=1.0)
            await until(lambda: len(noted(path)) == 2)
            if how == "paused":
                server.pause()
                await asyncio.sleep(15)
                server.resume()
            else:
                server.kill()
                await asyncio.sleep(15)
                await asyncio.to_thread(server.start)
            await runs.send("asks", Answer(text="yes"))
            assert await runs.result("asks") == "yes"
            assert await runs.result("r") == list(range(1, 21))
            assert await ended(server, queue, "r") == ("COMPLETED", "completed")
        await store.close()

    with Server.started(tmp_path / "temporal.db") as server:
        asyncio.run(main(server))


@pytest.mark.exhaustive
def test_a_process_that_was_thought_dead_writes_nothing_when_it_comes_back(
    server: Server, queue: str, tmp_path: Path
) -> None:
    async def main() -> None:
        place, path = tmp_path / "runs.db", tmp_path / "noted"
        store = store_at(place)
        options: dict[str, Any] = {"queue": queue, "heartbeat": 2.0}
        dispatcher = TemporalDispatcher(server.target, **options)
        runs = Runs(store, *flows(store), dispatcher=dispatcher)
        with worker(server.target, place, **options) as process:
            await runs.start(Chain(), run_id="r", path=str(path), links=8, seconds=1.0)
            await until(lambda: len(noted(path)) == 2)
            async with working(dispatcher, Worker(*flows(store), dispatcher=dispatcher)):
                process.send_signal(signal.SIGSTOP)
                await until(lambda: noted(path)[-1][0] == os.getpid())
                process.send_signal(signal.SIGCONT)
                assert await runs.result("r") == list(range(1, 9))
        await store.close()

    asyncio.run(main())


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3))
def test_all_runs_end_however_many_workers_are_killed(
    server: Server, queue: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    place = tmp_path / "runs.db"
    names = [f"r{n}" for n in range(20)]
    options: dict[str, Any] = {"queue": queue, "heartbeat": 2.0}

    async def main(open_worker: Callable[[], Any]) -> None:
        store = store_at(place)
        dispatcher = TemporalDispatcher(server.target, **options)
        runs = Runs(store, *flows(store), dispatcher=dispatcher)
        processes = [await asyncio.to_thread(open_worker) for _ in range(3)]
        for name in names:
            path = str(tmp_path / name)
            await runs.start(Chain(), run_id=name, path=path, links=6, seconds=0.3)
        for _ in range(6):
            await asyncio.sleep(chance.uniform(0.1, 1.5))
            victim = processes.pop(chance.randrange(len(processes)))
            victim.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
            processes.append(await asyncio.to_thread(open_worker))
        for name in names:
            assert await runs.result(name) == list(range(1, 7))
            assert await ended(server, queue, name) == ("COMPLETED", "completed")
        await store.close()

    with ExitStack() as closing:
        asyncio.run(
            main(lambda: closing.enter_context(worker(server.target, place, **options)))
        )


if __name__ == "__main__":
    with Server.started() as _server:
        _history = asyncio.run(recorded(_server, "queue"))
    _text = re.sub(r'"identity": "[^"]*"', '"identity": "worker"', _history.to_json())
    HISTORY.write_text(json.dumps(json.loads(_text), separators=(",", ":")) + "\n")
