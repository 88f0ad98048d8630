"""Runs in a store: who has the turn, whose lease it is, and what comes late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import PrivateAttr

from anabranch.clock import wall_time
from anabranch.errors import Fenced, JournalError, VersionMismatch
from anabranch.testing import VirtualClock, run_virtual
from anabranch.testing.clock import EPOCH
from anabranch.workflow import (
    BaseSerializer,
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    MemoryStore,
    Migration,
    PickleSerializer,
    Runs,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.dispatch import Elsewhere, LocalDispatcher, Waiting
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Go(Event):
    n: int = 0


class Other(Event):
    pass


class Done(Event):
    pass


class Reply(HumanResponseEvent):
    text: str = ""


class Slow(Workflow):
    """Works for a long time, and writes nothing meanwhile."""

    @step
    async def start(self, ev: StartEvent) -> StopEvent:
        begun.append(now())
        await asyncio.sleep(100)
        return StopEvent(result="done")


class Patient(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply)
        return StopEvent(result=reply.text)


begun: list[float] = []


def now() -> float:
    return asyncio.get_running_loop().time()


def new_store() -> MemoryStore:
    return MemoryStore(clock=VirtualClock())


def put(store: MemoryStore, name: str, call: Any) -> None:
    """Let a store do something in another way."""
    vars(store)[name] = call


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(worker.work()) for worker in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


# -------------------------------------------------------------------- the shared state


class Beside(Workflow):
    """Two steps at work at once, and what is there when both have ended."""

    @step
    async def begin(self, ev: StartEvent) -> list[Go | Other]:
        return [Go(), Other()]

    @step
    async def one(self, ctx: Context, ev: Go) -> Done:
        raise NotImplementedError

    @step
    async def other(self, ctx: Context, ev: Other) -> Done:
        raise NotImplementedError

    @step
    async def end(self, ctx: Context, done: list[Done]) -> StopEvent:
        state = await ctx.store.get_state()
        return StopEvent(result=dict(state.items()))


def outcome(kind: type[Workflow]) -> Any:
    async def main() -> Any:
        return await kind(durable=new_store()).run(run_id="r")

    return run_virtual(main())


def test_a_step_with_changes_of_its_own_sees_what_others_have_recorded_since() -> None:
    class Sees(Beside):
        @step
        async def one(self, ctx: Context, ev: Go) -> Done:
            await ctx.store.set("own", 1)
            assert await ctx.store.get("other", None) is None
            await asyncio.sleep(5)
            await ctx.store.set("seen", [await ctx.store.get(k) for k in ("own", "other")])
            return Done()

        @step
        async def other(self, ctx: Context, ev: Other) -> Done:
            await asyncio.sleep(1)
            await ctx.store.set("other", 2)
            return Done()

    assert outcome(Sees) == {"own": 1, "other": 2, "seen": [1, 2]}


@pytest.mark.parametrize("how", ["set_state", "clear"])
def test_who_replaces_the_state_waits_for_who_is_editing_it(how: str) -> None:
    class Replaces(Beside):
        @step
        async def one(self, ctx: Context, ev: Go) -> Done:
            async with ctx.store.edit_state() as state:
                state["count"] = 1
            await asyncio.sleep(5)
            return Done()

        @step
        async def other(self, ctx: Context, ev: Other) -> Done:
            await asyncio.sleep(1)
            if how == "clear":
                await ctx.store.clear()
            else:
                await ctx.store.set_state(DictState(count=100))
            return Done()

    assert outcome(Replaces) == ({} if how == "clear" else {"count": 100})


def test_a_task_that_a_step_leaves_behind_does_not_keep_the_turn() -> None:
    class Leaves(Beside):
        @step
        async def one(self, ctx: Context, ev: Go) -> Done:
            async with ctx.store.edit_state() as state:
                state["count"] = 1
            await asyncio.sleep(5)
            return Done()

        @step
        async def other(self, ctx: Context, ev: Other) -> Done:
            left.append(asyncio.ensure_future(ctx.store.set_state(DictState(count=100))))
            await asyncio.sleep(1)
            return Done()

        @step
        async def end(self, ctx: Context, done: list[Done]) -> StopEvent:
            async with ctx.store.edit_state() as state:
                state["count"] += 1
            return StopEvent(result=await ctx.store.get("count"))

    left: list[asyncio.Task[None]] = []
    assert outcome(Leaves) == 2


def test_a_body_that_is_begun_anew_may_send_in_another_order() -> None:
    class Sends(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Go | StopEvent:
            for name in order:
                ctx.send_event(Go(), step=name)
            await ctx.wait_for_event(Reply)
            for name in reversed(order):
                ctx.send_event(Go(), step=name)
            reply = await ctx.wait_for_event(Reply)
            return StopEvent(result=reply.text)

        @step
        async def a(self, ev: Go) -> None:
            called.append("a")

        @step
        async def b(self, ev: Go) -> None:
            called.append("b")

    async def main() -> None:
        store = new_store()
        flow = Sends(durable=store, timeout=None)
        flow.run(run_id="r")
        await asyncio.sleep(1)
        assert called == ["a"]
        order[:] = ["b", "a"]
        handler = flow.run(run_id="r")
        for text in ("one", "two"):
            await asyncio.sleep(1)
            await handler.send_event(Reply(text=text))
        assert await handler == "two"
        assert sorted(called) == ["a", "a", "b", "b"]

    order = ["a"]
    called: list[str] = []
    run_virtual(main())


# -------------------------------------------------------------------------- whose it is


def test_a_run_that_is_opened_anew_in_this_process_ends_at_once_where_it_was() -> None:
    async def main() -> None:
        flow = Slow(durable=new_store(), timeout=None)
        first = flow.run(run_id="r")
        await asyncio.sleep(1)
        second = flow.run(run_id="r")
        with pytest.raises(Fenced):
            await first
        assert now() < 5
        assert await second == "done"

    run_virtual(main())


def test_a_run_that_is_opened_anew_is_looked_after_where_it_is_now() -> None:
    async def main() -> None:
        store = new_store()
        flow = Patient(durable=store, timeout=None)
        first = flow.run(run_id="r")
        await asyncio.sleep(1)
        second = flow.run(run_id="r")
        with pytest.raises(Fenced):
            await first
        await asyncio.sleep(100)
        assert (await store.info("r")).leased_until > wall_time()  # type: ignore[union-attr]
        await Runs(store).send("r", Reply(text="x"))
        assert await second == "x"

    run_virtual(main())


def test_a_run_that_takes_longer_than_its_lease_stays_where_it_is() -> None:
    async def main() -> None:
        store = new_store()
        flow = Slow(durable=store, timeout=None)
        runs = Runs(store, flow)
        begun.clear()
        async with working(Worker(flow, lease=30), Worker(flow, lease=30)):
            await runs.start(flow, run_id="r")
            assert await runs.result("r") == "done"
        assert len(begun) == 1

    run_virtual(main())


def test_a_renewal_that_fails_is_made_up_for_by_the_next() -> None:
    async def main() -> None:
        store = new_store()
        flow = Slow(durable=store, timeout=None)
        runs = Runs(store, flow)
        renew = store.renew

        async def fails(*args: Any, **kwargs: Any) -> set[str]:
            if 45 < now() < 55:
                raise JournalError("the store is away")
            return await renew(*args, **kwargs)

        put(store, "renew", fails)
        begun.clear()
        async with working(Worker(flow, lease=30), Worker(flow, lease=30)):
            await runs.start(flow, run_id="r")
            assert await runs.result("r") == "done"
        assert len(begun) == 1

    run_virtual(main())


def test_a_run_whose_lease_cannot_be_renewed_ends_with_the_lease() -> None:
    async def main() -> None:
        store = new_store()

        async def fails(*args: Any, **kwargs: Any) -> set[str]:
            raise JournalError("the store is away")

        put(store, "renew", fails)
        with pytest.raises(JournalError, match="is away"):
            await Slow(durable=store, timeout=None).run(run_id="r")
        assert now() <= 40

    run_virtual(main())


def test_a_run_that_another_process_has_opened_ends_here_though_it_writes_nothing() -> None:
    async def main() -> None:
        store = new_store()
        handler = Slow(durable=store, timeout=None).run(run_id="r")
        await asyncio.sleep(1)
        await store.open("r", owner="another process", lease=30)
        with pytest.raises(Fenced):
            await handler
        assert now() <= 20

    run_virtual(main())


def test_who_lets_go_of_a_run_finishes_what_is_being_written() -> None:
    async def main() -> None:
        store = new_store()
        commit = store.commit

        async def slow(*args: Any) -> None:
            await asyncio.sleep(5)
            await commit(*args)

        put(store, "commit", slow)

        async def waits() -> None:
            await Patient(durable=store, timeout=None).run(run_id="r")

        waiting = asyncio.ensure_future(waits())
        await asyncio.sleep(7)
        waiting.cancel()
        await asyncio.wait([waiting])
        kinds = [entry.kind for entry in await Runs(store).history("r")]
        assert kinds == ["Began", "Waited"]
        info = await Runs(store).get("r")
        assert (info.status, info.owner) == ("waiting", "")

    run_virtual(main())


def test_a_run_is_put_back_when_its_bodies_have_ended() -> None:
    class Tidies(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                await ctx.wait_for_event(Reply, timeout=None)
            finally:
                await asyncio.sleep(1)
                log.append("body ends")
            return StopEvent()

    async def main() -> None:
        store = new_store()
        flow = Tidies(durable=store, timeout=None)
        release = store.release

        async def noted(*args: Any, **kwargs: Any) -> bool:
            log.append("is put back")
            return await release(*args, **kwargs)

        put(store, "release", noted)
        await Runs(store).start(flow, run_id="r")
        assert await Worker(flow).drive("r") == Waiting(None)
        assert log == ["body ends", "is put back"]

    log: list[str] = []
    run_virtual(main())


def test_a_clock_that_is_set_back_does_not_put_off_a_run_that_is_put_back() -> None:
    class Naps(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for _ in range(2):
                try:
                    await ctx.wait_for_event(Reply, timeout=60)
                except TimeoutError:
                    continue
            return StopEvent(result="in vain")

    async def first() -> None:
        Naps(durable=store, timeout=None).run(run_id="r")
        await asyncio.sleep(30)

    async def second() -> None:
        loop: Any = asyncio.get_running_loop()
        loop.wall_time = lambda: EPOCH - 86_400 + loop.time()
        flow = Naps(durable=store, timeout=None)
        driven = await Worker(flow).drive("r")
        assert isinstance(driven, Waiting)
        assert driven.until is not None
        assert 0 < driven.until - wall_time() <= 60
        info = await Runs(store).get("r")
        assert info.due_at == driven.until

    store = new_store()
    run_virtual(first())
    run_virtual(second())


# --------------------------------------------------------------------- messages


def test_a_message_that_cannot_be_read_is_left_out_for_good() -> None:
    async def main() -> None:
        store = new_store()
        flow = Patient(durable=store, timeout=None)
        await Runs(store).start(flow, run_id="r")
        await store.send("r", "m", b"rubbish")
        handler = flow.run(run_id="r")
        await asyncio.sleep(1)
        assert await store.messages("r") == ()
        await handler.send_event(Reply(text="x"))
        assert await handler == "x"

    run_virtual(main())


# ---------------------------------------------------------------------------- snapshots


class Chain(Workflow):
    """A hundred links, a question, and so on."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Go:
        await ctx.store.set("text", "x" * ev.get("size", 0))
        return Go(n=1)

    @step
    async def link(self, ctx: Context, ev: Go) -> Go | StopEvent:
        if ev.n % 100 == 0:
            await ctx.wait_for_event(Reply)
        return Go(n=ev.n + 1)


async def snapshots(lives: int, **fields: Any) -> int:
    """How many are taken of a chain in so many lives, of a hundred facts each."""
    store = new_store()
    flow = Chain(durable=store, timeout=None)
    runs = Runs(store, flow)
    taken = 0
    commit = store.commit

    async def counted(run_id: str, written: Any) -> None:
        nonlocal taken
        taken += written.snapshot is not None
        await commit(run_id, written)

    put(store, "commit", counted)
    await runs.start(flow, run_id="r", **fields)
    for _ in range(lives):
        assert isinstance(await Worker(flow).drive("r"), Waiting)
        await runs.send("r", Reply())
    return taken


def test_snapshots_are_taken_of_a_run_of_many_short_lives() -> None:
    assert run_virtual(snapshots(2)) == 0
    assert run_virtual(snapshots(6)) == 2


def test_no_snapshot_is_taken_before_the_facts_behind_the_last_are_as_large() -> None:
    assert run_virtual(snapshots(9, size=500_000)) == 1


# ------------------------------------------------------------------ more of the state


def test_an_attempt_that_fails_passes_the_turn_on() -> None:
    class Fails(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(3)))
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async with ctx.store.edit_state() as state:
                state["count"] = state.get("count", 0) + 1
            if ctx.retry_info().retry_number < 2:
                raise ValueError("again")
            return StopEvent(result=await ctx.store.get("count"))

    assert outcome(Fails) == 1


def test_what_is_taken_out_of_the_state_is_gone() -> None:
    class Takes(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Go:
            await ctx.store.set_state(DictState(a=1, b=2))
            return Go()

        @step
        async def take(self, ctx: Context, ev: Go) -> Done:
            async with ctx.store.edit_state() as state:
                del state["a"]
            return Done()

        @step
        async def end(self, ctx: Context, ev: Done) -> StopEvent:
            return StopEvent(result=list((await ctx.store.get_state()).keys()))

    assert outcome(Takes) == ["b"]


class Hides(DictState):
    _hidden: int = PrivateAttr(default=0)


def test_a_private_attribute_that_is_changed_counts() -> None:
    class Changes(Workflow):
        @step
        async def start(self, ctx: Context[Hides], ev: StartEvent) -> Go:
            async with ctx.store.edit_state() as state:
                state._hidden = 7
            return Go()

        @step
        async def end(self, ctx: Context[Hides], ev: Go) -> StopEvent:
            return StopEvent(result=(await ctx.store.get_state())._hidden)

    assert outcome(Changes) == 7


# ---------------------------------------------------------------- more of waits and values


def test_the_first_value_of_a_key_is_everybodys() -> None:
    class Asks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def late() -> str:
                await asyncio.sleep(1)
                return "late"

            late_one = asyncio.ensure_future(ctx.once("key", late))
            first = await ctx.once("key", lambda: "first")
            return StopEvent(result=[first, await late_one])

    assert outcome(Asks) == ["first", "first"]


def test_a_key_may_be_named_like_a_wait() -> None:
    class Asks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            waiting = asyncio.ensure_future(ctx.wait_for_event(Reply, waiter_id="x"))
            await asyncio.sleep(1)
            value = await ctx.once("x#1", lambda: 7)
            reply = await waiting
            return StopEvent(result=[value, reply.text])

    async def main() -> None:
        handler = Asks(durable=new_store()).run(run_id="r")
        await asyncio.sleep(5)
        await handler.send_event(Reply(text="y"))
        assert await handler == [7, "y"]

    run_virtual(main())


def test_a_value_is_given_when_it_is_written_down() -> None:
    class Asks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.once("key", lambda: 7)
            kinds = [entry.kind for entry in await runs.history("r")]
            return StopEvent(result=kinds)

    async def main() -> None:
        commit = store.commit

        async def slow(*args: Any) -> None:
            await asyncio.sleep(5)
            await commit(*args)

        put(store, "commit", slow)
        assert await Asks(durable=store).run(run_id="r") == ["Began", "Remembered"]

    store = new_store()
    runs = Runs(store)
    run_virtual(main())


def test_a_body_that_went_on_beside_a_wait_goes_on_when_it_is_taken_up() -> None:
    class Both(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def branch(name: str) -> str:
                reply = await ctx.wait_for_event(
                    Reply, waiter_id=name, requirements={"text": name}
                )
                await asyncio.sleep(10)
                gone_on.append(name)
                return reply.text

            return StopEvent(result=await asyncio.gather(branch("a"), branch("b")))

    async def main() -> None:
        store = new_store()
        flow = Both(durable=store, timeout=None)
        handler = flow.run(run_id="r")
        await asyncio.sleep(1)
        await handler.send_event(Reply(text="a"))
        await asyncio.sleep(5)
        handler = flow.run(run_id="r")
        await asyncio.sleep(20)
        assert gone_on == ["a"]
        await handler.send_event(Reply(text="b"))
        assert await handler == ["a", "b"]

    gone_on: list[str] = []
    run_virtual(main())


def test_a_body_that_gives_up_a_wait_is_not_put_back_while_it_works() -> None:
    class GivesUp(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            begun.append(now())
            try:
                async with asyncio.timeout(0.5):
                    await ctx.wait_for_event(Reply)
            except TimeoutError:
                await ctx.once("given up", lambda: 1)
            await asyncio.sleep(100)
            return StopEvent(result="worked")

    async def main() -> None:
        store = new_store()
        flow = GivesUp(durable=store, timeout=None)
        begun.clear()
        handler = flow.run(run_id="r")
        await asyncio.sleep(10)
        assert (await Runs(store).get("r")).status == "running"
        assert await handler == "worked"
        assert len(begun) == 1

    run_virtual(main())


def test_a_task_that_a_step_leaves_behind_waits_no_longer() -> None:
    class Leaves(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Go:
            left.append(asyncio.ensure_future(ctx.wait_for_event(Reply)))
            await asyncio.sleep(1)
            return Go()

        @step
        async def end(self, ev: Go) -> StopEvent:
            await asyncio.sleep(5)
            return StopEvent(result=left[0].done())

    left: list[asyncio.Future[Reply]] = []
    assert outcome(Leaves) is True


class Ordered(Workflow):
    """Two steps that wait for the same, the second one later."""

    @step
    async def begin(self, ev: StartEvent) -> list[Go | Other]:
        return [Go(), Other()]

    @step
    async def one(self, ctx: Context, ev: Go) -> Done:
        await asyncio.sleep(5)
        texts["one"] = (await ctx.wait_for_event(Reply)).text
        return Done()

    @step
    async def other(self, ctx: Context, ev: Other) -> Done:
        await asyncio.sleep(10)
        texts["other"] = (await ctx.wait_for_event(Reply)).text
        return Done()

    @step
    async def end(self, done: list[Done]) -> StopEvent:
        return StopEvent(result=texts)


texts: dict[str, str] = {}


@pytest.mark.parametrize("step_name", [None, "other"])
def test_what_came_early_goes_to_whom_it_is_for_the_oldest_first(
    step_name: str | None,
) -> None:
    async def main() -> None:
        store = new_store()
        flow = Ordered(durable=store, timeout=None)
        runs = Runs(store, flow)
        await runs.start(flow, run_id="r")
        await runs.send("r", Reply(text="1"), step=step_name)
        await runs.send("r", Reply(text="2"))
        first, second = ("1", "2") if step_name is None else ("2", "1")
        assert await flow.run(run_id="r") == {"one": first, "other": second}

    run_virtual(main())


class Secret(BaseSerializer):
    """Writes what nobody can read who does not have it."""

    def serialize(self, value: Any) -> str:
        return PickleSerializer().serialize(value)[::-1]

    def deserialize(self, value: str) -> Any:
        return PickleSerializer().deserialize(value[::-1])


def test_who_does_not_have_the_serializer_of_a_workflow_can_answer_it() -> None:
    async def main() -> None:
        store = new_store()
        handler = Patient(durable=store, serializer=Secret(), timeout=None).run(run_id="r")
        await asyncio.sleep(1)
        await Runs(store).send("r", Reply(text="x"))
        assert await handler == "x"

    run_virtual(main())


@pytest.mark.parametrize("fault", ["nameless", "broken"])
def test_messages_come_though_the_store_does_not_say_for_whom_or_fails(
    fault: str,
) -> None:
    async def main() -> None:
        store = new_store()
        changes = store.changes
        calls: list[float] = []

        async def odd() -> AsyncIterator[Any]:
            calls.append(now())
            if fault == "broken" and len(calls) == 1:
                raise JournalError("the store is away")
            async for _ in changes():
                yield ()

        put(store, "changes", odd)
        handler = Patient(durable=store, timeout=None).run(run_id="r")
        await asyncio.sleep(5)
        await Runs(store).send("r", Reply(text="x"))
        assert await handler == "x"
        assert now() < 10

    run_virtual(main())


# ------------------------------------------------------------------------ more of workers


def test_a_run_that_is_begun_here_is_left_to_us_while_it_is_opened() -> None:
    async def main() -> None:
        store = new_store()
        flow = Slow(durable=store, timeout=None)
        opens = store.open

        async def slow(*args: Any, **kwargs: Any) -> Any:
            put(store, "open", opens)
            await asyncio.sleep(5)
            return await opens(*args, **kwargs)

        put(store, "open", slow)
        begun.clear()
        async with working(Worker(flow)):
            assert await flow.run(run_id="r") == "done"
        assert len(begun) == 1

    run_virtual(main())


def test_a_run_that_is_let_go_while_it_is_opened_is_not_kept() -> None:
    async def main() -> None:
        store = new_store()
        flow = Patient(durable=store, timeout=None)
        opens = store.open

        async def slow(*args: Any, **kwargs: Any) -> Any:
            opened = await opens(*args, **kwargs)
            await asyncio.sleep(5)
            return opened

        put(store, "open", slow)

        async def waits() -> None:
            await flow.run(run_id="r")

        waiting = asyncio.ensure_future(waits())
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(100)
        info = await Runs(store).get("r")
        assert (info.status, info.position) == ("pending", 0)
        assert info.leased_until < wall_time()

    run_virtual(main())


def test_a_worker_keeps_a_run_for_as_long_as_it_says() -> None:
    class Looks(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(3)
            info = await store.info("r")
            assert info is not None
            return StopEvent(result=info.leased_until - wall_time())

    async def main() -> None:
        flow = Looks(durable=store)
        runs = Runs(store, flow)
        await runs.start(flow, run_id="r")
        await Worker(flow, lease=5).drive("r")
        assert 0 < await runs.result("r") <= 5

    store = new_store()
    run_virtual(main())


def test_a_run_that_others_have_opened_is_elsewhere() -> None:
    async def main() -> None:
        store = new_store()
        flow = Slow(durable=store, timeout=None)
        await Runs(store).start(flow, run_id="r")
        driving = asyncio.ensure_future(Worker(flow).drive("r"))
        await asyncio.sleep(1)
        await store.open("r", owner="another process", lease=30)
        assert isinstance(await driving, Elsewhere)

    run_virtual(main())


def test_a_worker_goes_on_when_runs_cannot_be_found_for_some_time() -> None:
    async def main() -> None:
        store = new_store()
        flow = Slow(durable=store, timeout=None)
        runs = Runs(store, flow)
        claim = store.claim

        async def fails(*args: Any, **kwargs: Any) -> list[str]:
            if now() < 3:
                raise JournalError("the store is away")
            return await claim(*args, **kwargs)

        put(store, "claim", fails)
        async with working(Worker(flow)):
            await runs.start(flow, run_id="r")
            assert await runs.result("r") == "done"

    run_virtual(main())


class Quick(Workflow):
    @step
    async def start(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("n"))


def test_the_next_run_begins_as_soon_as_a_worker_is_free_for_it() -> None:
    async def main() -> None:
        store = new_store()
        flow = Quick(durable=store)
        runs = Runs(store, flow)
        for n in range(10):
            await runs.start(flow, run_id=str(n))
        async with working(Worker(flow, dispatcher=LocalDispatcher(store, slots=1))):
            for n in range(10):
                await runs.result(str(n))
        assert now() < 5

    run_virtual(main())


class Noting(LocalDispatcher):
    """Notes what it is told to start."""

    async def start(
        self, run_id: str, *, workflow: str, not_before: float | None = None
    ) -> None:
        begins.append(run_id)


begins: list[str] = []


def test_what_a_schedule_starts_is_brought_by_the_workers_dispatcher() -> None:
    async def main() -> None:
        store = new_store()
        flow = Quick(durable=store)
        begins.clear()
        await Runs(store, flow).schedule(flow, "s", "0 * * * *")
        async with working(Worker(flow, dispatcher=Noting(store))):
            await asyncio.sleep(3600)
        assert begins == ["s@2001-09-09T02:00Z"]

    run_virtual(main())


def test_a_schedule_that_was_cancelled_is_begun_anew() -> None:
    async def main() -> None:
        store = new_store()
        flow = Quick(durable=store)
        runs = Runs(store, flow)
        await runs.schedule(flow, "s", "0 * * * *")
        assert await runs.cancel("schedule/s")
        await runs.schedule(flow, "s", "0 * * * *")
        async with working(Worker(flow)):
            await asyncio.sleep(3600)
        assert len(await runs.find(workflow=flow.workflow_name)) == 1

    run_virtual(main())


# ----------------------------------------------------------------------- steering runs


def test_a_run_whose_driver_is_gone_is_cancelled_at_once() -> None:
    async def main() -> None:
        store = new_store()
        runs = Runs(store)
        await runs.start(Patient(durable=store), run_id="r")
        await store.open("r", owner="who dies", lease=5)
        assert not await runs.cancel("r")
        await asyncio.sleep(10)
        assert await runs.cancel("r")

    run_virtual(main())


def test_a_run_that_is_taken_up_while_it_is_cancelled_is_told() -> None:
    async def main() -> None:
        store = new_store()
        runs = Runs(store)
        await runs.start(Patient(durable=store), run_id="r")
        commit = store.commit

        async def late(*args: Any) -> None:
            await store.open("r", owner="another process", lease=30)
            await commit(*args)

        put(store, "commit", late)
        assert not await runs.cancel("r")
        assert len(await store.messages("r")) == 1

    run_virtual(main())


def test_a_run_that_two_retry_at_once_is_retried_once() -> None:
    class Fails(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            begun.append(now())
            raise ValueError("is down")

    async def main() -> None:
        store = new_store()
        flow = Fails(durable=store)
        runs = Runs(store, flow)
        begun.clear()
        with pytest.raises(ValueError, match="is down"):
            await flow.run(run_id="r")
        commit = store.commit

        async def twice(*args: Any) -> None:
            put(store, "commit", commit)
            await commit(*args)
            await commit(*args)

        put(store, "commit", twice)
        await runs.retry("r")
        with pytest.raises(ValueError, match="is down"):
            await flow.run(run_id="r")
        assert len(begun) == 2

    run_virtual(main())


def test_all_events_of_a_run_are_given_however_many_they_are() -> None:
    class Talks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for n in range(2500):
                ctx.write_event_to_stream(Go(n=n))
            return StopEvent()

    async def main() -> None:
        store = new_store()
        flow = Talks(durable=store)
        await flow.run(run_id="r")
        numbers = [number async for number, _ in Runs(store, flow).events("r")]
        assert numbers == list(range(1, 2502))

    run_virtual(main())


def test_any_number_of_runs_is_purged() -> None:
    async def main() -> None:
        store = new_store()
        flow = Quick(durable=store)
        runs = Runs(store, flow)
        for n in range(250):
            await flow.run(run_id=str(n))
        await asyncio.sleep(1)
        assert await runs.purge(older_than=0) == 250

    run_virtual(main())


# -------------------------------------------------------------------------------- forks


class Copies(Workflow):
    """Keeps what it was called with, and counts."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Go:
        return Go(n=1)

    @step
    async def keep(self, ctx: Context, ev: Go) -> Done:
        await asyncio.sleep(5)
        async with ctx.store.edit_state() as state:
            state["n"] = ev.n
        ctx.write_event_to_stream(ev)
        return Done()

    @step
    async def end(self, ctx: Context, ev: Done) -> StopEvent:
        state = await ctx.store.get_state()
        return StopEvent(result=dict(state.items()))


def test_a_fork_has_nothing_of_the_step_that_it_begins_with() -> None:
    async def main() -> None:
        store = new_store()
        flow = Copies(durable=store)
        runs = Runs(store, flow)
        handler = flow.run(run_id="r")
        await asyncio.sleep(1)
        await handler.ctx.store.set("outside", True)
        assert await handler == {"n": 1, "outside": True}
        kept = next(
            e for e in await runs.history("r") if e.kind == "Returned" and e.step == "keep"
        )
        await runs.fork("r", at=kept.position, new_id="f", event=Go(n=2))
        assert await flow.run(run_id="f") == {"n": 2, "outside": True}
        shown = [event async for _, event in runs.events("f")]
        assert shown[0] == Go(n=2)

    run_virtual(main())


def test_a_fork_of_the_beginning_has_the_state_that_was_asked_for() -> None:
    async def main() -> None:
        store = new_store()
        flow = Copies(durable=store)
        runs = Runs(store, flow)
        await flow.run(run_id="r")
        await runs.fork("r", at=0, new_id="f", state={"more": 5})
        assert await flow.run(run_id="f") == {"n": 1, "more": 5}

    run_virtual(main())


def test_a_fork_that_waits_is_due_when_its_wait_ends() -> None:
    class Naps(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            reply = await ctx.wait_for_event(Reply, timeout=3600)
            return StopEvent(result=reply.text)

    async def main() -> None:
        store = new_store()
        flow = Naps(durable=store, timeout=None)
        runs = Runs(store, flow)
        await runs.start(flow, run_id="r")
        await Worker(flow).drive("r")
        info = await runs.get("r")
        assert info.due_at is not None
        await runs.send("r", Reply())
        await Worker(flow).drive("r")
        received = next(e for e in await runs.history("r") if e.kind == "Received")
        await runs.fork("r", at=received.position, new_id="f")
        assert (await runs.get("f")).due_at == info.due_at

    run_virtual(main())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals that are cut soon."""
    monkeypatch.setattr("anabranch.workflow.history.KEPT", 100)
    monkeypatch.setattr("anabranch.workflow.history.SNAPSHOT_EVERY", 10)


@pytest.mark.usefixtures("short")
def test_of_a_long_journal_the_last_part_is_kept_and_forked() -> None:
    class Counts(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Go:
            return Go(n=1)

        @step
        async def link(self, ctx: Context, ev: Go) -> Go | StopEvent:
            kept.append((ev.n, len(await runs.history("r"))))
            return Go(n=ev.n + 1) if ev.n < 1000 else StopEvent(result=ev.n)

    async def main() -> None:
        flow = Counts(durable=store)
        assert await flow.run(run_id="r") == 1000
        lengths = [length for n, length in kept if n > 100]
        assert min(lengths) >= 100
        assert max(lengths) <= 400
        entries = await runs.history("r")
        assert entries[-1].position == (await runs.get("r")).position - 1
        assert entries[0].position > 0
        kept.clear()
        forks = Runs(store, flow)
        await forks.fork("r", at=entries[-3].position, new_id="f")
        assert await flow.run(run_id="f") == 1000
        assert [n for n, _ in kept] == [998, 999, 1000]

    kept: list[tuple[int, int]] = []
    store = new_store()
    runs = Runs(store)
    run_virtual(main())


# ---------------------------------------------------------------------------- migrations


class Pair(Event):
    pass


class Old(Workflow):
    """Has begun to collect in three ways when it waits."""

    @step
    async def spread(self, ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(3)]

    @step
    async def work(self, ctx: Context, ev: Go) -> Done:
        if ev.n == 2:
            await ctx.wait_for_event(Reply, timeout=None)
        return Done()

    @step
    async def join(self, done: list[Done]) -> Other:
        return Other()

    @step
    async def end(self, ev: Other) -> StopEvent:
        return StopEvent(result="joined")


class Renamed(Workflow):
    @step
    async def scatter(self, ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(3)]

    @step
    async def labour(self, ctx: Context, ev: Go) -> Done:
        if ev.n == 2:
            await ctx.wait_for_event(Reply, timeout=None)
        return Done()

    @step
    async def gather(self, done: list[Done]) -> StopEvent:
        return StopEvent(result=f"gathered {len(done)}")


class OldBuffer(Workflow):
    """Has one of two events in a buffer when it waits, and one for a step that takes two."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> list[Go | Other]:
        return [Go(), Other()]

    @step
    async def later(self, ctx: Context, ev: Other) -> Pair:
        await ctx.wait_for_event(Reply, timeout=None)
        return Pair()

    @step
    async def collect(self, ctx: Context, ev: Go | Pair) -> Done | None:
        got = ctx.collect_events(ev, [Go, Pair])
        return None if got is None else Done()

    @step
    async def join(self, one: Go, two: Pair, three: Done) -> StopEvent:
        return StopEvent(result="both")


class NewBuffer(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> list[Go | Other]:
        return [Go(), Other()]

    @step
    async def later(self, ctx: Context, ev: Other) -> Pair:
        await ctx.wait_for_event(Reply, timeout=None)
        return Pair()

    @step
    async def heap(self, ctx: Context, ev: Go | Pair) -> Done | None:
        got = ctx.collect_events(ev, [Go, Pair])
        return None if got is None else Done()

    @step
    async def meet(self, one: Go, two: Pair, three: Done) -> StopEvent:
        return StopEvent(result="both")


async def migrated(
    old: type[Workflow], new: type[Workflow], steps: dict[str, str], **options: Any
) -> Any:
    store = new_store()
    common: dict[str, Any] = {"durable": store, "workflow_name": "flow", "timeout": None}
    old(**common).run(run_id="r")
    await asyncio.sleep(1)
    migrations = {"": Migration(steps=steps)}
    handler = new(**common, version="2", migrations=migrations).run(run_id="r")
    await asyncio.sleep(1)
    if not handler.is_done():
        await handler.send_event(Reply())
    return await handler


def test_what_was_spread_is_gathered_by_steps_of_other_names() -> None:
    names = {"spread": "scatter", "work": "labour", "join": "gather"}
    assert run_virtual(migrated(Old, Renamed, names)) == "gathered 3"
    del names["spread"]
    with pytest.raises(VersionMismatch, match="is in 'spread', which"):
        run_virtual(migrated(Old, Renamed, names))


def test_what_was_collected_is_there_for_steps_of_other_names() -> None:
    names = {"collect": "heap", "join": "meet"}
    assert run_virtual(migrated(OldBuffer, NewBuffer, names)) == "both"
    with pytest.raises(VersionMismatch, match="is in 'collect' and 'join', which"):
        run_virtual(migrated(OldBuffer, NewBuffer, {}))
