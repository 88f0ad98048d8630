"""Runs that older code has begun, and the code as it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anabranch.errors import JournalError, VersionMismatch
from anabranch.testing import VirtualClock, run_virtual
from anabranch.workflow import (
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    MemoryStore,
    Migration,
    Runs,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from anabranch.workflow.testing import replay

NAME = "flow"


class Go(Event):
    n: int = 0


class Extra(Event):
    pass


class Reply(HumanResponseEvent):
    pass


class Old(Workflow):
    @step
    async def first(self, ctx: Context, ev: StartEvent) -> list[Go]:
        await ctx.store.set("count", 1)
        return [Go(n=n) for n in range(3)]

    @step
    async def second(self, ctx: Context, ev: Go) -> Reply | None:
        if ev.n == 2:
            return await ctx.wait_for_event(Reply)
        return None

    @step
    async def last(self, ctx: Context, ev: Reply) -> StopEvent:
        return StopEvent(result=await ctx.store.get("count"))


class Tuned(Old):
    """Has the same graph, with other numbers of workers and another body."""

    @step(num_workers=1, timeout=60)
    async def second(self, ctx: Context, ev: Go) -> Reply | None:
        bodies.append(ev.n)
        return await super().second(ctx, ev)


class Longer(Old):
    """Has a step more on the way."""

    @step
    async def second(  # type: ignore[override]
        self, ctx: Context, ev: Go
    ) -> Extra | None:
        if ev.n == 2:
            await ctx.wait_for_event(Reply)
            return Extra()
        return None

    @step
    async def third(self, ev: Extra) -> Reply:
        return Reply()


class Renamed(Workflow):
    @step
    async def first(self, ctx: Context, ev: StartEvent) -> list[Go]:
        raise NotImplementedError

    @step
    async def middle(self, ctx: Context, ev: Go) -> Reply | None:
        return await ctx.wait_for_event(Reply)

    @step
    async def last(self, ctx: Context, ev: Reply) -> StopEvent:
        return StopEvent(result=await ctx.store.get("total"))


bodies: list[int] = []


def make(kind: type[Workflow], store: MemoryStore, **options: Any) -> Workflow:
    return kind(timeout=None, durable=store, workflow_name=NAME, **options)


async def begun(kind: type[Workflow] = Old, **options: Any) -> MemoryStore:
    """A store with a run that waits in its second step."""
    store = MemoryStore(clock=VirtualClock())
    flow = make(kind, store, **options)
    flow.run(run_id="r")
    await asyncio.sleep(1)
    return store


async def finished(store: MemoryStore, kind: type[Workflow], **options: Any) -> Any:
    handler = make(kind, store, **options).run(run_id="r")
    await asyncio.sleep(1)
    if not handler.is_done():
        await handler.send_event(Reply())
    return await handler


def test_bodies_and_numbers_of_workers_may_change() -> None:
    bodies.clear()
    store = run_virtual(begun())
    assert run_virtual(finished(store, Tuned)) == 1
    assert bodies == [2]


def test_a_changed_graph_is_refused_with_what_differs() -> None:
    store = run_virtual(begun())
    with pytest.raises(VersionMismatch) as caught:
        run_virtual(finished(store, Longer))
    said = str(caught.value)
    assert "step 'third' is new" in said
    assert "step 'second' had returns Reply and has Extra" in said
    assert caught.value.run_id == "r"
    # Nothing was lost: the old code finishes it.
    assert run_virtual(finished(store, Old)) == 1


def test_another_workflow_is_refused() -> None:
    store = run_virtual(begun())
    flow = Longer(durable=store)
    with pytest.raises(VersionMismatch, match="is of workflow flow, not"):
        run_virtual(drive(flow))


async def drive(flow: Workflow) -> Any:
    return await flow.run(run_id="r")


def test_the_same_version_vouches_for_a_changed_graph() -> None:
    store = run_virtual(begun(version="1"))
    assert run_virtual(finished(store, Longer, version="1")) == 1


def test_another_version_needs_a_migration() -> None:
    store = run_virtual(begun(version="1"))
    with pytest.raises(VersionMismatch, match=r"version '1', which now has version '2'"):
        run_virtual(finished(store, Longer, version="2"))
    with pytest.raises(VersionMismatch, match="migrations: from 'x'"):
        run_virtual(finished(store, Longer, version="2", migrations={"x": Migration()}))
    migrations = {"1": Migration()}
    assert run_virtual(finished(store, Longer, version="2", migrations=migrations)) == 1


def test_a_migration_renames_steps_and_makes_the_state_anew() -> None:
    def state(old: Any) -> Any:
        return DictState(total=old.count + 100)

    store = run_virtual(begun())
    with pytest.raises(VersionMismatch, match="is in 'second', which workflow flow has no"):
        run_virtual(finished(store, Renamed, version="2", migrations={"": Migration()}))
    migrations = {"": Migration(steps={"second": "middle"}, state=state)}
    options: dict[str, Any] = {"version": "2", "migrations": migrations}

    async def taken_up() -> None:
        make(Renamed, store, **options).run(run_id="r")
        await asyncio.sleep(1)

    # It was migrated once, and is of this version from then on.
    run_virtual(taken_up())
    assert run_virtual(finished(store, Renamed, version="2")) == 101

    async def history() -> list[str]:
        return [entry.kind for entry in await Runs(store).history("r")]

    assert run_virtual(history()).count("Adopted") == 1


def test_a_migrated_run_can_be_forked_from_before_and_behind() -> None:
    async def main() -> None:
        store = await begun()
        migrations = {
            "": Migration(steps={"second": "middle"}, state=lambda s: DictState(total=7))
        }
        assert await finished(store, Renamed, version="2", migrations=migrations) == 7
        flow = make(Renamed, store, version="2", migrations=migrations)
        runs = Runs(store, flow)
        history = await runs.history("r")
        last = history[-1].position
        await runs.fork("r", at=last, new_id="behind", state={"total": 8})
        assert await make(Renamed, store, version="2").run(run_id="behind") == 8
        returned = next(e.position for e in history if e.kind == "Returned")
        await runs.fork("r", at=returned, new_id="before")
        old = make(Old, store)
        handler = old.run(run_id="before")
        await asyncio.sleep(1)
        await handler.send_event(Reply())
        assert await handler == 1

    run_virtual(main())


def test_a_run_whose_events_are_gone_is_refused() -> None:
    async def main() -> None:
        class Gone(Event):
            pass

        class Odd(Workflow):
            @step
            async def start(self, ev: StartEvent) -> Gone:
                return Gone()

            @step
            async def wait(self, ctx: Context, ev: Gone) -> StopEvent:
                await ctx.wait_for_event(Reply)
                return StopEvent()

        store = await begun(Odd)
        with pytest.raises(VersionMismatch, match="keep the events"):
            await make(Old, store, version="2", migrations={"": Migration()}).run(
                run_id="r"
            )

    run_virtual(main())


def test_an_old_history_is_tried_against_new_code() -> None:
    async def exported() -> str:
        store = await begun()
        return await Runs(store).export("r")

    history = run_virtual(exported())
    nowhere = MemoryStore()
    same = replay(history, make(Tuned, nowhere))
    assert (same.status, same.steps) == ("waiting", {"first": 1, "second": 2})
    assert (same.under_way, same.differences) == (["second"], [])
    assert same.state.count == 1
    with pytest.raises(VersionMismatch, match="step 'third' is new"):
        replay(history, make(Longer, nowhere))
    migrations = {"": Migration()}
    longer = replay(history, make(Longer, nowhere, version="2", migrations=migrations))
    assert longer.differences[0] == "step 'third' is new"
    for damaged in ("", "[]", "{}", history.replace('"format": 1', '"format": 2')):
        with pytest.raises(JournalError, match="history"):
            replay(damaged, make(Old, nowhere))
