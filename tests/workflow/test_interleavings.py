"""Workflows are right in whatever order their concurrent steps run."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest

from anabranch.testing import explore, replay
from anabranch.workflow import (
    Collect,
    Context,
    Event,
    HumanResponseEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Take,
    Workflow,
    catch_error,
    step,
)
from anabranch.workflow.retry_policy import retry_policy, wait_none


class A(Event):
    n: int


class B(Event):
    n: int


class Done(Event):
    n: int


class TestExploring:
    def test_every_order_of_two_tasks_is_found(self) -> None:
        async def program() -> str:
            log: list[str] = []

            async def task(name: str) -> None:
                log.append(name)
                await asyncio.sleep(0)
                log.append(name)

            async with asyncio.TaskGroup() as group:
                group.create_task(task("a"))
                group.create_task(task("b"))
            return "".join(log)

        found = explore(program)
        assert found.complete
        assert {*found.results} == {"aabb", "abab", "abba", "baab", "baba", "bbaa"}
        drawn = explore(program, most=50, seed=1)
        assert not drawn.complete
        assert {*drawn.results} == {*found.results}

    def test_a_race_is_found_and_can_be_seen_again(self) -> None:
        async def program() -> None:
            count = 0

            async def add() -> None:
                nonlocal count
                before = count
                await asyncio.sleep(0)
                count = before + 1

            await asyncio.gather(add(), add())
            assert count == 2

        with pytest.raises(AssertionError) as caught:
            explore(program)
        note = caught.value.__notes__[0]
        order = eval(note[note.index("[") : -1])
        with pytest.raises(AssertionError):
            replay(program, order)


class Collects(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | None:
        for n in range(3):
            ctx.send_event(A(n=n))
        return None

    @step(num_workers=3, retry_policy=retry_policy(wait=wait_none()))
    async def gather(self, ctx: Context, ev: A) -> StopEvent | None:
        await asyncio.sleep(0)
        got = ctx.collect_events(ev, [A] * 3)
        if got is None:
            if ctx.retry_info().retry_number == 0 and ev.n == 1:
                raise ValueError
            return None
        await asyncio.sleep(0)
        if ctx.retry_info().retry_number == 0:
            raise ValueError
        return StopEvent(result=sorted(e.n for e in got))


class Fans(Workflow):
    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(3)]

    @step(num_workers=2)
    async def work(self, ctx: Context, ev: A) -> Done | None:
        async with ctx.store.edit_state() as state:
            before = state.get("n", 0)
            await asyncio.sleep(0)
            state["n"] = before + 1
        if ev.n == 1:
            raise ValueError
        return Done(n=ev.n)

    @catch_error
    async def recover(self, ev: StepFailedEvent) -> Done:
        return Done(n=100)

    @step
    async def join(self, ctx: Context, done: list[Done]) -> StopEvent:
        return StopEvent(result=(await ctx.store.get("n"), sorted(d.n for d in done)))


class Waits(Workflow):
    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(2)]

    @step(num_workers=1)
    async def ask(self, ctx: Context, ev: A) -> Done:
        answer = await ctx.wait_for_event(HumanResponseEvent, requirements={"n": ev.n})
        await asyncio.sleep(0)
        return Done(n=answer.value)

    @step
    async def join(self, done: Annotated[list[Done], Collect()]) -> StopEvent:
        return StopEvent(result=sorted(d.n for d in done))


class First(Workflow):
    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(3)]

    @step
    async def work(self, ev: A) -> Done:
        await asyncio.sleep(0)
        return Done(n=ev.n)

    @step
    async def join(self, done: Annotated[list[Done], Collect(Take(2))]) -> B:
        return B(n=len(done))

    @step
    async def end(self, ev: B) -> StopEvent:
        return StopEvent(result=ev.n)


async def run(flow: Workflow) -> Any:
    handler = flow.run()
    loop = asyncio.get_running_loop()
    for n in (1, 0):
        loop.call_later(
            1 + n, handler.ctx.send_event, HumanResponseEvent(n=n, value=10 + n)
        )
    result = await handler
    assert len(asyncio.all_tasks()) == 1
    return result


CASES = [
    (Collects, [0, 1, 2]),
    (Fans, (3, [0, 2, 100])),
    (Waits, [10, 11]),
    (First, 2),
]


@pytest.mark.parametrize(("flow", "expected"), CASES)
@pytest.mark.parametrize("seed", [None, 7], ids=["in order", "at random"])
def test_the_result_is_the_same_in_every_order(
    flow: type[Workflow], expected: Any, seed: int | None
) -> None:
    found = explore(lambda: run(flow(timeout=None)), most=100, seed=seed)
    assert all(result == expected for result in found.results)
    assert found.complete or len(found.results) == 100


@pytest.mark.exhaustive
@pytest.mark.parametrize(("flow", "expected"), CASES)
def test_the_result_is_the_same_in_thousands_of_orders(
    flow: type[Workflow], expected: Any
) -> None:
    for seed in (None, 1, 2):
        found = explore(lambda: run(flow(timeout=None)), most=3000, seed=seed)
        assert all(result == expected for result in found.results)


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize(("flow", "expected"), CASES[:2])
def test_written_down_after_any_turn_of_the_loop_it_ends_the_same(
    flow: type[Workflow], expected: Any, turns: int
) -> None:
    async def main() -> Any:
        first = flow(timeout=None)
        handler = first.run()
        for _ in range(turns):
            await asyncio.sleep(0)
        written = handler.ctx.to_dict()
        if handler.is_done():
            return await handler
        await handler.cancel_run()
        again = flow(timeout=None)
        return await again.run(ctx=Context.from_dict(again, written))

    result = asyncio.run(main())
    if flow is Fans:  # edits of a step that was under way are made again
        assert result[0] >= 3
        assert result[1] == expected[1]
    else:
        assert result == expected
