"""What type checkers know of workflows: read by mypy and pyright, and run as well."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, assert_type

from pydantic import BaseModel

from anabranch.workflow import (
    Collect,
    Context,
    DictState,
    Event,
    Resource,
    StartEvent,
    StateStore,
    StopEvent,
    Workflow,
    WorkflowHandler,
    catch_error,
    step,
)
from anabranch.workflow.events import StepFailedEvent
from anabranch.workflow.stream import StreamReader


class State(BaseModel):
    count: int = 0


class Job(Event):
    n: int


class Done(Event):
    n: int


def client() -> str:
    return "client"


class Flow(Workflow):
    @step
    async def start(self, ctx: Context[State], ev: StartEvent) -> list[Job]:
        assert_type(ctx.store, StateStore[State])
        async with ctx.store.edit_state() as state:
            assert_type(state, State)
            state.count += 1
        assert_type(await ctx.store.get_state(), State)
        assert_type(ctx.collect_events(ev, [Job, Done]), list[Event] | None)
        assert_type(ctx.idempotency_key, str)
        assert_type(ev.anything, Any) if "anything" in ev else None
        return [Job(n=1)]

    @step(num_workers=2, timeout=3)
    def work(self, ev: Job, name: Annotated[str, Resource(client)]) -> Done:
        assert_type(ev.n, int)
        return Done(n=ev.n)

    @step
    async def end(self, ctx: Context, done: Annotated[list[Done], Collect()]) -> StopEvent:
        assert_type(ctx.store, StateStore[DictState])
        return StopEvent(result=sum(d.n for d in done))

    @catch_error(for_steps=["work"])
    async def handle(self, ev: StepFailedEvent) -> Done:
        assert_type(ev.exception, Exception)
        return Done(n=0)


async def asks(ctx: Context[State]) -> None:
    assert_type(await ctx.wait_for_event(Job), Job)


async def main() -> None:
    flow = Flow()
    handler = flow.run()
    assert_type(handler, WorkflowHandler)
    assert_type(handler.stream_events(), StreamReader)
    assert_type(await handler, Any)
    assert_type(await handler.stop_event_result(), StopEvent)
    assert_type(handler.is_done(), bool)
    assert_type(handler.exception(), BaseException | None)
    # A step stays the method that it was.
    assert_type(flow.work(Job(n=2), "name"), Done)
    assert_type(await flow.handle(failed()), Done)


def failed() -> StepFailedEvent:
    from datetime import UTC, datetime

    return StepFailedEvent(
        step_name="work",
        input_event=Job(n=1),
        exception=ValueError(),
        attempts=1,
        elapsed_seconds=0.0,
        failed_at=datetime.now(UTC),
    )


def test_results_have_the_types_that_steps_give() -> None:
    asyncio.run(main())
