"""Workers drive runs of a store, put back those that rest, and take over from the dead."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from anabranch.clock import wall_time
from anabranch.errors import (
    RunNotFound,
    UsageError,
    WorkflowCancelledByUser,
    WorkflowDone,
    WorkflowTimeoutError,
)
from anabranch.testing import VirtualClock, run_virtual
from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    MemoryStore,
    Runs,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.dispatch import Done, Elsewhere, LocalDispatcher, Waiting
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Ask(InputRequiredEvent):
    question: str = ""


class Reply(HumanResponseEvent):
    text: str = ""


class Asked(Event):
    text: str


class Review(Workflow):
    """Waits for a person, then for an hour."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Asked:
        bodies.append("ask")
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(question="well?"))
        return Asked(text=reply.text)

    @step
    async def pause(self, ctx: Context, ev: Asked) -> StopEvent:
        bodies.append("pause")
        with suppress(TimeoutError):
            await ctx.wait_for_event(Reply, timeout=3600)
        return StopEvent(result=ev.text)


bodies: list[str] = []


def review(store: MemoryStore) -> Review:
    bodies.clear()
    return Review(durable=store, timeout=None)


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(worker.work()) for worker in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_a_run_that_waits_for_a_person_or_a_time_is_put_back() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        runs, worker = Runs(store, flow), Worker(flow)
        async with working(worker):
            await runs.start(flow, run_id="r")
            await asyncio.sleep(1)
            info = await runs.get("r")
            assert (info.status, info.owner, info.note) == (
                "waiting",
                "",
                "waits for Reply",
            )
            await runs.send("r", Reply(text="fine"))
            await asyncio.sleep(1)
            info = await runs.get("r")
            assert (info.status, info.owner) == ("waiting", "")
            assert info.due_at is not None
            began = asyncio.get_running_loop().time()
            assert await runs.result("r") == "fine"
            assert 3590 < asyncio.get_running_loop().time() - began <= 3600
        assert bodies == ["ask", "ask", "pause", "pause"]

    run_virtual(main())


def test_a_run_that_is_put_back_holds_no_memory() -> None:
    class Heavy(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            held = Asked(text="large")
            alive.append(weakref.ref(held))
            await ctx.wait_for_event(Reply)
            return StopEvent(result=held.text)

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Heavy(durable=store, timeout=None)
        runs = Runs(store, flow)
        async with working(Worker(flow)):
            for n in range(20):
                await runs.start(flow, run_id=str(n))
            await asyncio.sleep(1)
            gc.collect()
            assert len(alive) == 20
            assert [held() for held in alive] == [None] * 20
            await runs.send("7", Reply())
            assert await runs.result("7") == "large"

    alive: list[Any] = []
    run_virtual(main())


def test_a_run_whose_next_time_comes_soon_is_kept() -> None:
    class Tries(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0.5), stop=stop_after_attempt(3)))
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ctx.retry_info().retry_number < 2:
                raise ValueError("again")
            return StopEvent()

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Tries(durable=store)
        worker = Worker(flow)
        await Runs(store, flow).start(flow, run_id="r")
        assert await worker.drive("r") == Done("completed")
        info = await Runs(store).get("r")
        assert info.epoch == 1

    run_virtual(main())


def test_a_run_may_begin_later() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        runs = Runs(store, flow)
        async with working(Worker(flow)):
            await runs.start(flow, run_id="delayed", delay=100)
            await runs.start(
                flow, run_id="at", at=datetime.fromtimestamp(wall_time() + 3600, UTC)
            )
            await runs.start(flow, run_id="now")
            await asyncio.sleep(50)
            stand = {i.run_id: i.status for i in await runs.find()}
            assert stand == {"delayed": "pending", "at": "pending", "now": "waiting"}
            await asyncio.sleep(60)
            assert (await runs.get("delayed")).status == "waiting"
            assert (await runs.get("at")).status == "pending"
            await asyncio.sleep(3600)
            assert (await runs.get("at")).status == "waiting"
        with pytest.raises(UsageError, match="no time zone"):
            await runs.start(flow, at=datetime(2030, 1, 1))  # noqa: DTZ001

    run_virtual(main())


def test_a_start_that_is_asked_for_twice_is_one_run() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        runs = Runs(store, flow)
        async with working(Worker(flow), Worker(flow)):
            for _ in range(3):
                assert await runs.start(flow, run_id="r") == "r"
            await asyncio.sleep(1)
            assert bodies == ["ask"]
            assert len(await runs.find()) == 1

    run_virtual(main())


def test_workers_do_not_drive_one_run_at_once() -> None:
    class Slow(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            at_work.append(1)
            await asyncio.sleep(100)
            return StopEvent()

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Slow(durable=store, timeout=None)
        runs = Runs(store, flow)
        workers = [Worker(flow, dispatcher=LocalDispatcher(store, slots=3)) for _ in "abc"]
        async with working(*workers):
            for n in range(9):
                await runs.start(flow, run_id=str(n))
            for n in range(9):
                await runs.result(str(n))
        assert len(at_work) == 9

    at_work: list[int] = []
    run_virtual(main())


def test_a_worker_that_stops_lets_go_and_another_goes_on_at_once() -> None:
    class Slow(Workflow):
        @step
        async def first(self, ev: StartEvent) -> Asked:
            at_work.append("first")
            return Asked(text="x")

        @step
        async def second(self, ev: Asked) -> StopEvent:
            at_work.append("second")
            await asyncio.sleep(20)
            return StopEvent(result="done")

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Slow(durable=store, timeout=None)
        runs = Runs(store, flow)
        async with working(Worker(flow)):
            await runs.start(flow, run_id="r")
            await asyncio.sleep(5)
        began = asyncio.get_running_loop().time()
        async with working(Worker(flow)):
            assert await runs.result("r") == "done"
        assert asyncio.get_running_loop().time() - began < 22
        assert at_work == ["first", "second", "second"]

    at_work: list[str] = []
    run_virtual(main())


def test_runs_of_a_worker_that_died_are_taken_over_when_its_lease_has_ended() -> None:
    async def dies() -> None:
        flow = review(store)
        await Runs(store, flow).start(flow, run_id="r")
        worker = Worker(flow)
        asyncio.ensure_future(worker.drive("r"))  # noqa: RUF006  # it dies with the loop
        await asyncio.sleep(0)
        # Claimed, and then nothing more is heard of it.

    async def lives() -> None:
        flow = review(store)
        assert await store.claim({flow.workflow_name}, owner="x", lease=30, limit=1) == [
            "r"
        ]
        runs = Runs(store, flow)
        began = asyncio.get_running_loop().time()
        async with working(Worker(flow)):
            while (await runs.get("r")).status != "waiting":
                await asyncio.sleep(1)
        assert 25 < asyncio.get_running_loop().time() - began <= 32

    store = MemoryStore(clock=VirtualClock())
    run_virtual(dies())
    run_virtual(lives())


def test_a_driver_answers_how_a_run_stands() -> None:
    class Other(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow, other = review(store), Other(durable=store)
        runs, worker = Runs(store, flow), Worker(flow)
        await runs.start(flow, run_id="r")
        await runs.start(other, run_id="other")
        driven = await worker.drive("r")
        assert isinstance(driven, Waiting)
        assert driven.until is not None
        assert isinstance(await worker.drive("other"), Elsewhere)
        with pytest.raises(RunNotFound, match="purged"):
            await worker.drive("nobody")
        assert await Worker(other).drive("other") == Done("completed")
        assert await Worker(other).drive("other") == Done("completed")

    run_virtual(main())


def test_what_comes_while_a_run_is_put_back_is_not_overlooked() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        runs, worker = Runs(store, flow), Worker(flow)
        await runs.start(flow, run_id="r")
        release = store.release

        async def late(*args: Any, **kwargs: Any) -> bool:
            vars(store)["release"] = release
            await runs.send("r", Reply(text="just now"))
            return await release(*args, **kwargs)

        vars(store)["release"] = late
        driven = await worker.drive("r")
        assert isinstance(driven, Waiting)
        assert (await runs.history("r"))[-1].step == "pause"

    run_virtual(main())


def test_a_worker_needs_workflows_of_one_store_with_names_of_their_own() -> None:
    with pytest.raises(UsageError, match="have one store"):
        Worker(Review())
    with pytest.raises(UsageError, match="have one store"):
        Worker()
    with pytest.raises(UsageError, match="have one store"):
        Worker(
            Review(durable=MemoryStore(clock=VirtualClock())),
            Review(durable=MemoryStore(clock=VirtualClock())),
        )
    store = MemoryStore(clock=VirtualClock())
    with pytest.raises(UsageError, match="same name"):
        Worker(Review(durable=store), Review(durable=store))


# ------------------------------------------------------------------------ steering runs


def test_a_run_is_cancelled_whatever_it_does() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        runs = Runs(store, flow)
        # Not begun, and nobody works.
        await runs.start(flow, run_id="pending")
        assert await runs.cancel("pending")
        # Put back.
        await runs.start(flow, run_id="waiting")
        await Worker(flow).drive("waiting")
        assert await runs.cancel("waiting")
        # Driven.
        handler = flow.run(run_id="driven")
        await asyncio.sleep(1)
        assert not await runs.cancel("driven")
        with pytest.raises(WorkflowCancelledByUser):
            await handler
        # Ended.
        assert await runs.cancel("driven")
        for run_id in ("pending", "waiting", "driven"):
            assert (await runs.get(run_id)).status == "cancelled"
            with pytest.raises(WorkflowCancelledByUser):
                await runs.result(run_id)
            with pytest.raises(WorkflowCancelledByUser):
                await flow.run(run_id=run_id)
            with pytest.raises(WorkflowDone):
                await runs.send(run_id, Reply())
        with pytest.raises(RunNotFound, match="nobody"):
            await runs.cancel("nobody")

    run_virtual(main())


class Fragile(Workflow):
    """Fails in its second step as long as it is told to."""

    @step
    async def first(self, ctx: Context, ev: StartEvent) -> Asked:
        bodies.append("first")
        await ctx.store.set("n", 1)
        return Asked(text=ev.get("text", "a"))

    @step
    async def second(self, ctx: Context, ev: Asked) -> StopEvent:
        bodies.append("second")
        if broken:
            raise ValueError("the service is down")
        return StopEvent(result=f"{ev.text}{await ctx.store.get('n')}")


broken: list[bool] = []


def test_a_run_that_failed_goes_on_from_its_failed_step() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Fragile(durable=store)
        runs = Runs(store, flow)
        for _ in range(2):
            with pytest.raises(ValueError, match="is down"):
                await flow.run(run_id="r")
        with pytest.raises(ValueError, match="is down"):
            await runs.result("r")
        assert (await runs.get("r")).note == "ValueError: the service is down"
        await runs.retry("r")
        with pytest.raises(ValueError, match="is down"):
            await flow.run(run_id="r")
        await runs.retry("r")
        broken.clear()
        async with working(Worker(flow)):
            assert await runs.result("r") == "a1"
        assert bodies == ["first", "second", "second", "second"]
        with pytest.raises(UsageError, match="is completed"):
            await runs.retry("r")

    bodies.clear()
    broken.append(True)
    run_virtual(main())


def test_a_run_that_was_too_slow_or_cancelled_goes_on_with_new_time() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Review(durable=store, timeout=10)
        runs = Runs(store, flow)
        with pytest.raises(WorkflowTimeoutError):
            await flow.run(run_id="r")
        await runs.retry("r")
        handler = flow.run(run_id="r")
        await asyncio.sleep(5)
        await handler.cancel_run()
        await runs.retry("r")
        handler = flow.run(run_id="r")
        await handler.send_event(Reply(text="at last"))
        await asyncio.sleep(1)
        await handler.send_event(Reply(text="go on"))
        assert await handler == "at last"

    run_virtual(main())


def test_a_run_is_forked_from_any_step_with_other_input_or_state() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Fragile(durable=store)
        runs = Runs(store, flow)
        assert await flow.run(run_id="r") == "a1"
        history = await runs.history("r")
        ends = {e.step: e.position for e in history if e.kind == "Returned"}

        async def forked(**options: Any) -> Any:
            bodies.clear()
            name = await runs.fork("r", **options)
            assert (await runs.get(name)).origin == "r"
            return await flow.run(run_id=name), list(bodies)

        assert await forked(at=ends["second"]) == ("a1", ["second"])
        changed = await forked(at=ends["second"], state={"n": 7})
        assert changed == ("a7", ["second"])
        changed = await forked(at=ends["second"], event=Asked(text="b"))
        assert changed == ("b1", ["second"])
        assert await forked(at=ends["first"]) == ("a1", ["first", "second"])
        begun = await forked(at=0, event=StartEvent(text="c"))
        assert begun == ("c1", ["first", "second"])
        changed = await forked(at=0, state={"n": 5})
        assert changed == ("a1", ["first", "second"])
        with pytest.raises(UsageError, match="no entry 99"):
            await runs.fork("r", at=99)
        with pytest.raises(UsageError, match="already"):
            await runs.fork("r", at=0, new_id="r")
        with pytest.raises(UsageError, match="Runs was given none"):
            await Runs(store).fork("r", at=0)
        assert await flow.run(run_id="r") == "a1"

    broken.clear()
    run_virtual(main())


def test_a_run_that_waits_is_forked_and_both_go_on() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        runs = Runs(store, flow)
        async with working(Worker(flow)):
            await runs.start(flow, run_id="r")
            await asyncio.sleep(1)
            await runs.send("r", Reply(text="one"))
            await asyncio.sleep(1)
            received = next(
                e.position for e in await runs.history("r") if e.kind == "Received"
            )
            await runs.fork("r", at=received, new_id="f")
            await asyncio.sleep(1)
            await runs.send("f", Reply(text="two"))
            assert await runs.result("r") == "one"
            assert await runs.result("f") == "two"

    run_virtual(main())


def test_runs_are_purged_by_name_or_age() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Fragile(durable=store)
        waits = review(store)
        runs = Runs(store, flow, waits)
        for n in range(5):
            await flow.run(run_id=str(n))
        await runs.start(waits, run_id="waits")
        assert await runs.purge("0") == 1
        assert await runs.purge("0") == 0
        assert await runs.purge(older_than=3600) == 0
        await asyncio.sleep(1)
        assert await runs.purge(older_than=0) == 4
        assert [info.run_id for info in await runs.find()] == ["waits"]
        with pytest.raises(UsageError, match="not both"):
            await runs.purge()
        with pytest.raises(RunNotFound):
            await runs.result("1")

    broken.clear()
    run_virtual(main())


def test_events_are_followed_from_any_number_to_the_end() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        runs = Runs(store, flow)
        await runs.start(flow, run_id="r")
        async with working(Worker(flow)):
            follow = asyncio.ensure_future(collect(runs, 0))
            await asyncio.sleep(1)
            assert [e async for e in runs.events("r", follow=False)] == [
                (1, Ask(question="well?"))
            ]
            await runs.send("r", Reply(text="x"))
            assert await follow == [(1, "Ask"), (2, "StopEvent")]
        assert await collect(runs, 1) == [(2, "StopEvent")]

    async def collect(runs: Runs, after: int) -> list[tuple[int, str]]:
        return [(n, type(e).__name__) async for n, e in runs.events("r", after=after)]

    run_virtual(main())


def test_a_worker_that_is_stopped_while_it_opens_a_run_lets_go_of_it() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = review(store)
        await Runs(store, flow).start(flow, run_id="r")
        open_run = store.open

        async def slow(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(2)
            opened = await open_run(*args, **kwargs)
            await asyncio.sleep(2)
            return opened

        vars(store)["open"] = slow
        driving = asyncio.ensure_future(Worker(flow).drive("r"))
        await asyncio.sleep(3)
        driving.cancel()
        await asyncio.wait([driving])
        assert driving.cancelled()
        info = await Runs(store).get("r")
        assert (info.owner, info.leased_until, info.status) == ("", 0.0, "waiting")

    run_virtual(main())
