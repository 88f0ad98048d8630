"""Runs with a journal: whatever dies, the run goes on where its journal ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from anabranch.errors import JournalConflict, JournalError, WorkflowCancelledByUser
from anabranch.testing import Crash, crash_at, run_virtual
from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    MemoryStore,
    StartEvent,
    StopEvent,
    Store,
    Workflow,
    step,
)
from anabranch.workflow.retry_policy import retry_policy, wait_fixed
from anabranch.workflow.stores import Commit


class Job(Event):
    n: int


class Done(Event):
    n: int


class Sums(Workflow):
    """Fans out, fails, waits, collects and keeps state."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> list[Job]:
        await ctx.store.set("started", True)
        return [Job(n=n) for n in range(4)]

    @step(num_workers=2, retry_policy=retry_policy(wait=wait_fixed(1)))
    async def work(self, ctx: Context, ev: Job) -> Done:
        if ev.n == 1 and ctx.retry_info().retry_number == 0:
            raise ValueError("once")
        if ev.n == 3:
            answer = await ctx.wait_for_event(HumanResponseEvent)
            return Done(n=answer.n)
        await asyncio.sleep(ev.n)
        return Done(n=ev.n)

    @step
    async def join(self, ctx: Context, done: list[Done]) -> StopEvent:
        assert await ctx.store.get("started")
        return StopEvent(result=sorted(d.n for d in done))


async def drive(store: Store, run_id: str = "r") -> Any:
    """The run as it goes on until it ends; it is answered whenever it waits."""
    handler = Sums(timeout=None, durable=store).run(run_id=run_id)

    async def answer() -> None:
        while not handler.is_done():
            await asyncio.sleep(0.5)
            if handler.ctx.is_running:
                handler.ctx.send_event(HumanResponseEvent(n=30))

    answering = asyncio.ensure_future(answer())
    try:
        return await handler
    finally:
        answering.cancel()


EXPECTED = [0, 1, 2, 30]


def set_commit(store: MemoryStore, commit: Any) -> None:
    vars(store)["commit"] = commit


def commits() -> int:
    """How many writes an undisturbed run makes."""
    count = 0

    class Counting(MemoryStore):
        async def commit(self, run_id: str, commit: Commit) -> None:
            nonlocal count
            count += 1
            await super().commit(run_id, commit)

    assert run_virtual(drive(Counting())) == EXPECTED
    return count


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(commits()))
def test_a_crash_at_any_write_changes_nothing_but_time(number: int, done: bool) -> None:
    store = MemoryStore()
    commit = store.commit
    set_commit(store, crash_at(commit, number, done=done))
    try:
        assert run_virtual(drive(store)) == EXPECTED
    except Crash:
        pass
    set_commit(store, commit)
    assert run_virtual(drive(store)) == EXPECTED


def test_many_crashes_in_a_row_lose_nothing() -> None:
    store = MemoryStore()
    commit = store.commit
    crashes = 0
    while True:
        # A little later each time, so that something happens in each life.
        set_commit(store, crash_at(commit, crashes // 2, done=crashes % 2 == 1))
        try:
            assert run_virtual(drive(store)) == EXPECTED
        except Crash:
            crashes += 1
        else:
            break
    assert crashes > 5


def test_a_run_that_is_over_gives_its_result_again() -> None:
    async def main() -> None:
        store = MemoryStore()
        assert await drive(store) == EXPECTED
        flow = Sums(durable=store)
        handler = flow.run(run_id="r")
        assert await handler == EXPECTED
        last = [event async for event in handler.stream_events()]
        assert [type(event) for event in last] == [StopEvent]
        assert await drive(store, "another") == EXPECTED

    run_virtual(main())


def test_steps_that_had_finished_do_not_run_again() -> None:
    class Chain(Workflow):
        @step
        async def first(self, ev: StartEvent) -> Job:
            ran.append("first")
            return Job(n=0)

        @step
        async def second(self, ev: Job) -> Done:
            ran.append("second")
            await asyncio.sleep(10)
            return Done(n=0)

        @step
        async def third(self, ev: Done) -> StopEvent:
            ran.append("third")
            return StopEvent()

    async def killed() -> None:
        Chain(durable=store).run(run_id="r")
        await asyncio.sleep(5)
        # asyncio.run cancels what is left; the journal must not hear of that.

    async def finish() -> None:
        await Chain(durable=store).run(run_id="r")

    store = MemoryStore()
    ran: list[str] = []
    run_virtual(killed())
    run_virtual(finish())
    assert ran == ["first", "second", "second", "third"]


def test_of_two_drivers_of_one_run_the_first_is_told_to_stop() -> None:
    async def main() -> None:
        store = MemoryStore()
        first = Sums(durable=store).run(run_id="r")
        await asyncio.sleep(0.7)
        assert await drive(store) == EXPECTED
        first.ctx.send_event(HumanResponseEvent(n=-1))
        with pytest.raises(JournalConflict, match="another worker"):
            await first

    run_virtual(main())


def test_a_write_that_fails_ends_the_run_with_a_sentence() -> None:
    class Full(MemoryStore):
        async def commit(self, run_id: str, commit: Commit) -> None:
            if commit.position > 2:
                raise OSError("no space left on device")
            await super().commit(run_id, commit)

    store = Full()
    with pytest.raises(JournalError, match=r"cannot be written down \(no space left"):
        run_virtual(drive(store))


def test_what_cannot_be_written_ends_the_run_with_a_sentence() -> None:
    class Odd(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=lambda: 1)

    async def main() -> None:
        await Odd(durable=MemoryStore()).run()

    with pytest.raises(JournalError, match="cannot be written as JSON"):
        run_virtual(main())


def test_a_long_journal_is_cut_to_a_snapshot_and_a_tail() -> None:
    class Long(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Job:
            return Job(n=3000)

        @step
        async def go(self, ctx: Context, ev: Job) -> Job | StopEvent:
            if ev.n == 0:
                return StopEvent(result=await ctx.store.get("n"))
            await ctx.store.set("n", ev.n)
            return Job(n=ev.n - 1)

    async def main() -> None:
        store = MemoryStore()
        flow = Long(timeout=None, durable=store)
        assert await flow.run(run_id="r") == 1
        opened = await store.open("r", owner="test", lease=1)
        assert opened.info.position > 6000
        assert opened.snapshot is not None
        assert len(opened.facts) < 300
        assert json.loads(opened.snapshot.state)["version"] == 1
        assert await flow.run(run_id="r") == 1

    run_virtual(main())


def test_what_is_streamed_keeps_its_order() -> None:
    class Writes(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for n in range(5):
                ctx.write_event_to_stream(Job(n=n))
            return StopEvent(result=5)

    async def main() -> list[Any]:
        handler = Writes(durable=MemoryStore()).run(run_id="r")
        return [event.get("result", event) async for event in handler.stream_events()]

    *jobs, last = run_virtual(main())
    assert [job.n for job in jobs] == list(range(5))
    assert isinstance(last, StopEvent)


def test_a_cancelled_run_stays_cancelled() -> None:
    async def main() -> None:
        store = MemoryStore()
        handler = Sums(durable=store).run(run_id="r")
        await asyncio.sleep(0.7)
        await handler.cancel_run()
        for again in (handler, Sums(durable=store).run(run_id="r")):
            with pytest.raises(WorkflowCancelledByUser):
                await again

    run_virtual(main())
