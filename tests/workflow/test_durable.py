"""Runs in a store: a step is a transaction, whatever dies and whoever goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from anabranch.errors import Fenced, JournalError, UsageError, WorkflowCancelledByUser
from anabranch.testing import Crash, VirtualClock, crash_at, run_virtual
from anabranch.testing.clock import EPOCH
from anabranch.workflow import (
    BaseSerializer,
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    MemoryStore,
    PickleSerializer,
    Runs,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.dispatch import Done as Dispatched
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from anabranch.workflow.stores import Published


class Go(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Seen(Event):
    what: str


class Ask(InputRequiredEvent):
    question: str = ""


class Reply(HumanResponseEvent):
    text: str = ""


def bodies(rows: list[Published]) -> list[bytes]:
    return [row.body for row in rows]


async def drive(flow: Workflow, run_id: str = "r", **fields: Any) -> Any:
    return await flow.run(run_id=run_id, **fields)


def lives(store: MemoryStore, make: Callable[[], Workflow]) -> Any:
    """The result of a run whose driver dies before and after each of its writes."""
    commit = store.commit
    number = 0
    while True:
        # Two deaths at each place, so that something happens in every life.
        vars(store)["commit"] = crash_at(commit, number // 2 % 3, done=number % 2 == 1)
        if number >= 60:
            vars(store)["commit"] = commit
        try:
            return run_virtual(drive(make()))
        except Crash:
            number += 1


# ---------------------------------------------------------------- a step is a transaction


class Counts(Workflow):
    """Does everything that leaves a trace, in every step."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Go | None:
        for n in range(3):
            ctx.send_event(Go(n=n))
            ctx.write_event_to_stream(Seen(what=f"sent {n}"))
        return None

    @step
    async def work(self, ctx: Context, ev: Go) -> Done:
        async with ctx.store.edit_state() as state:
            state["count"] = state.get("count", 0) + 1
        ctx.write_event_to_stream(Seen(what=f"worked {ev.n}"))
        return Done(n=ev.n)

    @step
    async def join(self, ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * 3)
        if done is None:
            return None
        ctx.write_event_to_stream(Seen(what="joined"))
        ns = sorted(event.n for event in done)
        return StopEvent(result=[await ctx.store.get("count"), *ns])


def test_every_effect_is_there_once_wherever_the_driver_dies() -> None:
    undisturbed, disturbed = (
        MemoryStore(clock=VirtualClock()),
        MemoryStore(clock=VirtualClock()),
    )
    expected = run_virtual(drive(Counts(durable=undisturbed)))
    assert expected == [3, 0, 1, 2]
    assert lives(disturbed, lambda: Counts(durable=disturbed)) == expected

    async def rows(store: MemoryStore) -> list[bytes]:
        return sorted(bodies(await store.events("r")))

    assert run_virtual(rows(disturbed)) == run_virtual(rows(undisturbed))


def test_a_counter_is_one_after_a_death_and_not_two() -> None:
    class Once(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Go:
            async with ctx.store.edit_state() as state:
                state["count"] = state.get("count", 0) + 1
            await asyncio.sleep(5)
            return Go()

        @step
        async def end(self, ctx: Context, ev: Go) -> StopEvent:
            return StopEvent(result=await ctx.store.get("count"))

    async def killed() -> None:
        Once(durable=store).run(run_id="r")
        await asyncio.sleep(1)

    store = MemoryStore(clock=VirtualClock())
    for _ in range(3):
        run_virtual(killed())
    assert run_virtual(drive(Once(durable=store))) == 1


def test_others_see_what_a_step_changed_when_it_has_ended() -> None:
    class Two(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Go | Done:
            return Go()

        @step
        async def slow(self, ctx: Context, ev: Go) -> Done:
            await ctx.store.set("a", 1)
            seen["own"] = await ctx.store.get("a")
            seen["during"] = await outside.store.get("a", None)
            await asyncio.sleep(1)
            return Done()

        @step
        async def end(self, ctx: Context, ev: Done) -> StopEvent:
            return StopEvent(result=await ctx.store.get("a"))

    seen: dict[str, Any] = {}
    outside: Context

    async def main() -> Any:
        nonlocal outside
        handler = Two(durable=MemoryStore(clock=VirtualClock())).run(run_id="r")
        outside = handler.ctx
        return await handler

    assert run_virtual(main()) == 1
    assert seen == {"own": 1, "during": None}


def test_changes_of_many_steps_at_once_are_all_made() -> None:
    class Many(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Go]:
            return [Go(n=n) for n in range(20)]

        @step(num_workers=20)
        async def work(self, ctx: Context, ev: Go) -> Done:
            await asyncio.sleep(ev.n % 3)
            async with ctx.store.edit_state() as state:
                count = state.get("count", 0)
                await asyncio.sleep(0.1)
                state["count"] = count + 1
            await ctx.store.set(f"by.n{ev.n}", ev.n)
            await asyncio.sleep(ev.n % 2)
            return Done()

        @step
        async def end(self, ctx: Context, done: list[Done]) -> StopEvent:
            by = await ctx.store.get("by")
            return StopEvent(result=[await ctx.store.get("count"), len(by)])

    flow = Many(durable=MemoryStore(clock=VirtualClock()), timeout=None)
    assert run_virtual(drive(flow)) == [20, 20]


def test_an_attempt_that_fails_leaves_no_trace() -> None:
    class Fails(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(3)))
        async def start(self, ctx: Context, ev: StartEvent) -> Go | None:
            attempt = ctx.retry_info().retry_number
            await ctx.store.set(f"of_{attempt}", True)
            ctx.write_event_to_stream(Seen(what=f"attempt {attempt}"))
            ctx.send_event(Go(n=attempt))
            if attempt < 2:
                raise ValueError("again")
            return None

        @step
        async def end(self, ctx: Context, ev: Go) -> StopEvent:
            state = await ctx.store.get_state()
            return StopEvent(result=[ev.n, sorted(state.keys())])

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        handler = Fails(durable=store).run(run_id="r")
        assert await handler == [2, ["of_2"]]
        seen = [e.what async for e in handler.stream_events() if isinstance(e, Seen)]
        assert seen == ["attempt 2"]

    run_virtual(main())


def test_what_is_changed_where_it_lies_is_not_recorded_and_not_seen() -> None:
    class Lists(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Go:
            items = [1]
            await ctx.store.set("items", items)
            items.append(2)
            (await ctx.store.get("items")).append(3)
            return Go()

        @step
        async def end(self, ctx: Context, ev: Go) -> StopEvent:
            (await ctx.store.get("items")).append(4)
            return StopEvent(result=await ctx.store.get("items"))

    assert run_virtual(drive(Lists(durable=MemoryStore(clock=VirtualClock())))) == [1]


def test_a_change_that_cannot_be_made_fails_where_it_is_made() -> None:
    class Wrong(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("n", 1)
            with pytest.raises(ValueError, match="cannot be set"):
                await ctx.store.set("n.m", 2)
            return StopEvent(result=await ctx.store.get("n"))

    assert run_virtual(drive(Wrong(durable=MemoryStore(clock=VirtualClock())))) == 1


def test_what_is_only_for_who_watches_is_shown_at_once_and_kept_nowhere() -> None:
    class Talks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(Seen(what="word"), recorded=False)
            ctx.write_event_to_stream(Seen(what="kept"))
            await spoken.wait()
            return StopEvent()

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        handler = Talks(durable=store).run(run_id="r")
        shown = []
        async for event in handler.stream_events():
            shown.append(getattr(event, "what", None))
            spoken.set()
        assert shown == ["word", "kept", None]
        assert len(await store.events("r")) == 2

    spoken = asyncio.Event()
    run_virtual(main())


# ------------------------------------------------------------------------- waits, values


class Interview(Workflow):
    """Leaves traces before and between its questions."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Go | StopEvent:
        async with ctx.store.edit_state() as state:
            state["count"] = state.get("count", 0) + 1
        ctx.write_event_to_stream(Seen(what="begins"))
        ctx.send_event(Go(n=1))
        name = await ctx.wait_for_event(Reply, waiter_event=Ask(question="name?"))
        async with ctx.store.edit_state() as state:
            state["count"] += 10
        town = await ctx.wait_for_event(Reply, waiter_event=Ask(question="town?"))
        count = await ctx.store.get("count")
        return StopEvent(result=[name.text, town.text, count, await ctx.store.get("gone")])

    @step
    async def go(self, ctx: Context, ev: Go) -> None:
        async with ctx.store.edit_state() as state:
            state["gone"] = state.get("gone", 0) + ev.n


def test_what_was_done_before_a_wait_is_seen_then_and_not_done_again() -> None:
    store = MemoryStore(clock=VirtualClock())

    async def until_asked(questions: int) -> None:
        flow = Interview(durable=store, timeout=None)
        handler = flow.run(run_id="r")
        await asyncio.sleep(5)
        assert len(await store.events("r")) == 1 + questions
        assert (await handler.ctx.store.get("count")) == (1 if questions == 1 else 11)
        assert (await handler.ctx.store.get("gone")) == 1

    async def answer(text: str) -> None:
        assert await Runs(store).send("r", Reply(text=text), message_id=text)

    for _ in range(2):
        run_virtual(until_asked(1))
    run_virtual(answer("Ada"))
    for _ in range(2):
        run_virtual(until_asked(2))
    run_virtual(answer("Rome"))
    flow = Interview(durable=store, timeout=None)
    assert run_virtual(drive(flow)) == ["Ada", "Rome", 11, 1]
    rows = run_virtual(store.events("r"))
    assert len(rows) == 4


def test_an_event_counts_once_before_or_after_it_is_asked_for() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Interview(durable=store, timeout=None)
        runs = Runs(store, flow)
        await runs.start(flow, run_id="r")
        for _ in range(2):
            await runs.send("r", Reply(text="Ada"), message_id="one")
        handler = flow.run(run_id="r")
        await asyncio.sleep(5)
        assert not handler.is_done()
        assert not await runs.send("r", Reply(text="Ada"), message_id="one")
        await asyncio.sleep(5)
        assert not handler.is_done()
        await runs.send("r", Reply(text="Rome"), message_id="two")
        assert await handler == ["Ada", "Rome", 11, 1]

    run_virtual(main())


def test_a_value_is_found_out_once() -> None:
    class Asks(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            price = await ctx.once("price", look_up)
            both = await asyncio.gather(*(ctx.once("same", look_up) for _ in range(2)))
            assert both[0] == both[1]
            await asyncio.sleep(5)
            if ctx.retry_info().retry_number == 0:
                raise ValueError("after it")
            return StopEvent(result=price)

    async def look_up() -> int:
        calls.append(len(calls))
        await asyncio.sleep(1)
        return calls[-1]

    async def killed() -> None:
        Asks(durable=store).run(run_id="r")
        await asyncio.sleep(4)

    calls: list[int] = []
    store = MemoryStore(clock=VirtualClock())
    for _ in range(2):
        run_virtual(killed())
    assert run_virtual(drive(Asks(durable=store))) == 0
    assert len(calls) == 3
    # Without a store a further attempt has it as well.
    calls.clear()
    assert run_virtual(drive(Asks())) == 0
    assert len(calls) == 3


def test_a_value_whose_function_fails_is_not_kept() -> None:
    class Asks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(OSError, match="not now"):
                await ctx.once("v", fails)
            return StopEvent(result=await ctx.once("v", lambda: 7))

    def fails() -> int:
        raise OSError("not now")

    assert run_virtual(drive(Asks(durable=MemoryStore(clock=VirtualClock())))) == 7


def test_waits_end_when_they_were_to_end_whoever_drove_the_run_meanwhile() -> None:
    class Patient(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                await ctx.wait_for_event(Reply, timeout=60)
            except TimeoutError:
                return StopEvent(result="in vain")
            return StopEvent(result="answered")

    async def begun() -> None:
        Patient(durable=store, timeout=None).run(run_id="r")
        await asyncio.sleep(1)

    async def later() -> float:
        now = asyncio.get_running_loop().time()
        assert await drive(Patient(durable=store, timeout=None)) == "in vain"
        return asyncio.get_running_loop().time() - now

    store = MemoryStore(clock=VirtualClock())
    run_virtual(begun())
    assert 55 < run_virtual(later()) <= 60


# ------------------------------------------------------------------------------- letting go


def test_who_awaits_a_run_and_is_cancelled_only_lets_it_go() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Interview(durable=store, timeout=None)

        async def waits() -> None:
            await flow.run(run_id="r")

        waiting = asyncio.ensure_future(waits())
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        info = await Runs(store).get("r")
        assert (info.status, info.owner, info.note) == ("waiting", "", "waits for Reply")
        handler = flow.run(run_id="r")
        for text in ("Ada", "Rome"):
            await handler.send_event(Reply(text=text))
        assert await handler == ["Ada", "Rome", 11, 1]

    run_virtual(main())


def test_a_run_that_is_cancelled_while_it_is_opened_is_cancelled_for_good() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Interview(durable=store)
        handler = flow.run(run_id="r")
        assert handler.cancel()
        with pytest.raises(WorkflowCancelledByUser):
            await handler
        with pytest.raises(WorkflowCancelledByUser):
            await flow.run(run_id="r")
        assert (await Runs(store).get("r")).status == "cancelled"

    run_virtual(main())


def test_nothing_is_left_behind_when_the_last_run_has_ended() -> None:
    async def main() -> None:
        await drive(Counts(durable=MemoryStore(clock=VirtualClock())))
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_a_context_that_was_written_down_goes_on_in_a_store() -> None:
    async def main() -> None:
        flow = Interview(timeout=None)
        handler = flow.run()
        await asyncio.sleep(1)
        data = handler.ctx.to_dict()
        await handler.cancel_run()
        store = MemoryStore(clock=VirtualClock())
        kept = Interview(timeout=None, durable=store)
        for text in ("Ada", "Rome"):
            handler = kept.run(ctx=Context.from_dict(kept, data))
            await asyncio.sleep(1)
            await handler.send_event(Reply(text=text))
            await asyncio.sleep(1)
        assert (await handler)[:2] == ["Ada", "Rome"]

    run_virtual(main())


def test_a_workflow_with_a_serializer_of_its_own_is_answered_by_who_does_not_have_it() -> (
    None
):
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Interview(timeout=None, durable=store, serializer=PickleSerializer())
        handler = flow.run(run_id="r")
        await asyncio.sleep(1)
        await Runs(store, flow).send("r", Reply(text="Ada"))
        await asyncio.sleep(1)
        again = flow.run(run_id="r")
        await Runs(store).send("r", Reply(text="Rome"))
        assert await again == ["Ada", "Rome", 11, 1]
        with pytest.raises(Fenced):
            await handler

    run_virtual(main())


class Secret(BaseSerializer):
    """Writes what nobody can read who does not have it."""

    def serialize(self, value: Any) -> str:
        return PickleSerializer().serialize(value)[::-1]

    def deserialize(self, value: str) -> Any:
        return PickleSerializer().deserialize(value[::-1])


def test_what_users_put_into_a_run_is_written_by_their_serializer_alone() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Interview(timeout=None, durable=store, serializer=Secret())
        runs = Runs(store, flow)
        await runs.start(flow, run_id="r")
        for text in ("Adalovelace", "Constantinople"):
            handler = flow.run(run_id="r")
            await asyncio.sleep(1)
            await runs.send("r", Reply(text=text))
            await asyncio.sleep(1)
        assert await handler == ["Adalovelace", "Constantinople", 11, 1]
        kept = await runs.export("r") + str(await store.events("r"))
        for secret in ("Adalovelace", "Constantinople", "really"):
            assert secret not in kept
        assert (await runs.history("r"))[0].kind == "Began"

    run_virtual(main())


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0], ids=["back", "forward"])
def test_a_clock_that_is_set_between_two_lives_holds_nothing_up(jump_s: float) -> None:
    class Patient(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for _ in range(2):
                with suppress(TimeoutError):
                    await ctx.wait_for_event(Reply, timeout=60)
            return StopEvent(result="in vain")

    def set_clock() -> None:
        loop: Any = asyncio.get_running_loop()
        loop.wall_time = lambda: EPOCH + jump_s + loop.time()

    async def begun() -> None:
        Patient(durable=store, timeout=None).run(run_id="r")
        await asyncio.sleep(30)

    async def ended() -> float:
        set_clock()
        assert await drive(Patient(durable=store, timeout=None)) == "in vain"
        return asyncio.get_running_loop().time()

    store = MemoryStore(clock=VirtualClock())
    run_virtual(begun())
    assert run_virtual(ended()) == pytest.approx(120 if jump_s < 0 else 60)


# ------------------------------------------------------------------------- at the edges


def test_blocks_that_edit_the_state_count_whatever_they_change() -> None:
    class States(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async with ctx.store.edit_state() as state:
                state["status"] = "working"
            await ctx.once("a", lambda: 1)
            await asyncio.sleep(5)
            async with ctx.store.edit_state() as state:
                state["status"] = "done"
            return StopEvent(result=await ctx.store.get("status"))

    async def killed() -> None:
        States(durable=store).run(run_id="r")
        await asyncio.sleep(3)

    store = MemoryStore(clock=VirtualClock())
    run_virtual(killed())
    assert run_virtual(drive(States(durable=store))) == "done"


@pytest.mark.parametrize("how", ["del", "clear", "set_state"])
def test_who_takes_something_away_leaves_what_others_have_set(how: str) -> None:
    class Both(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> list[Go]:
            await ctx.store.set_state(DictState(**{"a": 1, "with.dot": 1}))
            return [Go(n=0), Go(n=1)]

        @step
        async def work(self, ctx: Context, ev: Go) -> Done:
            if ev.n:
                await asyncio.sleep(1)
                await ctx.store.set("paid", True)
                return Done()
            if how == "clear":
                await ctx.store.clear()
            elif how == "set_state":
                await ctx.store.set_state(DictState(b=1))
            else:
                async with ctx.store.edit_state() as state:
                    del state["a"]
                    state["with.dot"] = 2
            await asyncio.sleep(3)
            return Done()

        @step
        async def end(self, ctx: Context, done: list[Done]) -> StopEvent:
            return StopEvent(result=(await ctx.store.get_state()).to_dict())

    left = {"del": {"with.dot": 2}, "clear": {}, "set_state": {"b": 1}}[how]
    flow = Both(durable=MemoryStore(clock=VirtualClock()))
    assert run_virtual(drive(flow)) == {**left, "paid": True}


def test_tasks_of_one_step_edit_the_state_one_after_the_other() -> None:
    class Tasks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> list[Go]:
            return [Go(n=n) for n in range(3)]

        @step
        async def work(self, ctx: Context, ev: Go) -> Done:
            async def add() -> None:
                async with ctx.store.edit_state() as state:
                    count = state.get("count", 0)
                    await asyncio.sleep(1)
                    state["count"] = count + 1

            async def remember() -> None:
                await asyncio.sleep(0.5)
                await ctx.once("x", lambda: 1)

            await asyncio.gather(add(), add(), remember())
            return Done()

        @step
        async def end(self, ctx: Context, done: list[Done]) -> StopEvent:
            return StopEvent(result=await ctx.store.get("count"))

    flow = Tasks(durable=MemoryStore(clock=VirtualClock()), timeout=None)
    assert run_virtual(drive(flow)) == 6


def test_what_a_failed_attempt_has_left_behind_does_nothing_any_more() -> None:
    class Leaves(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
        async def start(self, ctx: Context, ev: StartEvent) -> Go | None:
            number = ctx.retry_info().retry_number

            async def late() -> None:
                await asyncio.sleep(3)
                ctx.send_event(Go(n=number))

            task = asyncio.ensure_future(late())
            left.append(task)
            if number == 0:
                raise ValueError("once")
            await task
            return None

        @step
        async def end(self, ctx: Context, ev: Go) -> StopEvent:
            return StopEvent(result=ev.n)

    left: list[Any] = []
    flow = Leaves(durable=MemoryStore(clock=VirtualClock()))
    assert run_virtual(drive(flow)) == 1


# Without a store, what comes when nobody waits any more is kept for nobody.
@pytest.mark.parametrize(
    ("first", "is_stored"), [("cancel", True), ("send", True), ("send", False)]
)
def test_an_event_that_comes_as_its_wait_is_cancelled_is_for_the_next(
    first: str, is_stored: bool
) -> None:
    class Waits(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            task = asyncio.ensure_future(ctx.wait_for_event(Reply, timeout=None))
            tasks.append(task)
            with suppress(asyncio.CancelledError):
                await task
            return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=5)).text)

    async def main() -> Any:
        store = MemoryStore(clock=VirtualClock()) if is_stored else None
        handler = Waits(durable=store).run(run_id="r")
        await asyncio.sleep(1)
        if first == "cancel":
            tasks[0].cancel()
        handler.ctx.send_event(Reply(text="x"))
        tasks[0].cancel()
        return await handler

    tasks: list[asyncio.Task[Any]] = []
    assert run_virtual(main()) == "x"


@pytest.mark.parametrize("how", ["result", "sent", "exit"])
def test_what_cannot_be_recorded_fails_its_run_for_good(how: str) -> None:
    class Odd(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Go | StopEvent:
            bodies_begun.append(1)
            if how == "exit":
                raise SystemExit(3)
            if how == "sent":
                ctx.send_event(Go(n=1, what=object()))  # type: ignore[call-arg]
                with suppress(JournalError):
                    await ctx.once("k", lambda: 1)
            return StopEvent(result=object())

        @step
        async def go(self, ev: Go) -> None: ...

    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Odd(durable=store)
        runs = Runs(store, flow)
        await runs.start(flow, run_id="r")
        assert await Worker(flow).drive("r") == Dispatched("failed")
        note = (await runs.get("r")).note
        assert "cannot be written" in note or "called sys.exit(3)" in note
        assert bodies_begun == [1]

    bodies_begun: list[int] = []
    run_virtual(main())


def test_a_stored_run_that_a_step_has_begun_is_let_go_with_it() -> None:
    class Inner(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(10)
            return StopEvent(result="inner")

    class Outer(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            run = Inner(durable=store, timeout=None).run(run_id=ctx.idempotency_key)
            if ctx.retry_info().retry_number == 0:
                await asyncio.sleep(2)
                raise ValueError("once")
            return StopEvent(result=await run)

    async def let_go() -> None:
        flow = Outer(durable=store, timeout=None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drive(flow), 1)

    store = MemoryStore(clock=VirtualClock())
    run_virtual(let_go())
    assert run_virtual(drive(Outer(durable=store, timeout=None))) == "inner"


def test_a_step_that_awaits_something_beside_its_wait_is_at_work() -> None:
    class Mails(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def mail() -> None:
                await asyncio.sleep(20)
                mails.append(1)

            reply, _ = await asyncio.gather(ctx.wait_for_event(Reply, timeout=None), mail())
            return StopEvent(result=reply.text)

    async def let_go() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drive(Mails(durable=store, timeout=None)), 5)

    async def worked() -> None:
        flow = Mails(durable=store, timeout=None)
        working = asyncio.ensure_future(Worker(flow).work())
        await asyncio.sleep(30)
        assert mails == [1]
        await Runs(store, flow).send("r", Reply(text="x"))
        assert await Runs(store, flow).result("r") == "x"
        working.cancel()
        await asyncio.wait([working])

    mails: list[int] = []
    store = MemoryStore(clock=VirtualClock())
    run_virtual(let_go())
    run_virtual(worked())


def test_integers_of_any_size_are_read_back() -> None:
    class Big(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=-(10**9000) + 7)

    flow = Big(durable=MemoryStore(clock=VirtualClock()))
    for _ in range(2):
        assert run_virtual(drive(flow)) == -(10**9000) + 7


@pytest.mark.parametrize("run_id", ["", 5, "\ud800"])
def test_a_name_that_is_none_is_refused(run_id: Any) -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Interview(durable=store)
        with pytest.raises(UsageError, match="run_id"):
            flow.run(run_id=run_id)
        with pytest.raises(UsageError, match="run_id"):
            await Runs(store, flow).start(flow, run_id=run_id)

    run_virtual(main())
