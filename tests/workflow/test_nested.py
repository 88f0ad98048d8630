"""Workflows that steps use: by name, as a resource, or just made there."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest

from anabranch.testing import run_virtual
from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    Resource,
    ServiceManager,
    ServiceNotFoundError,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCancelledByUser,
    WorkflowTimeoutError,
    WorkflowValidationError,
    step,
)
from anabranch.workflow.retry_policy import retry_policy, wait_fixed


class Progress(Event):
    said: str


class Inner(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Progress(said=f"inner {ev.n}"))
        try:
            await asyncio.sleep(ev.get("seconds", 1))
        except asyncio.CancelledError:
            ended.append(ev.n)
            raise
        return StopEvent(result=2 * ev.n)


ended: list[int] = []


class Outer(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent, inner: Inner) -> StopEvent:
        ctx.write_event_to_stream(Progress(said="outer"))
        result = await inner.run(n=21, seconds=ev.get("seconds", 1))
        return StopEvent(result=result)


class WithDefault(Workflow):
    @step
    async def start(self, ev: StartEvent, inner: Inner = Inner()) -> StopEvent:  # noqa: B008
        return StopEvent(result=await inner.run(n=1))


async def _result(flow: Workflow, **start: Any) -> Any:
    return await flow.run(**start)


def outer(**options: Any) -> Outer:
    made = Outer(**options)
    made.add_workflows(inner=Inner())
    return made


def test_a_step_is_given_the_workflow_of_that_name_or_its_default() -> None:
    assert run_virtual(_result(outer())) == 42
    assert run_virtual(_result(WithDefault())) == 2
    other = WithDefault()

    class Other(Inner):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result="other")

    other.add_workflows(inner=Other())
    assert run_virtual(_result(other)) == "other"


def test_a_missing_workflow_is_named() -> None:
    with pytest.raises(
        WorkflowValidationError,
        match=r"The following services are not available: inner: add them with add_workflows",
    ):
        run_virtual(_result(Outer()))


def test_a_service_manager_may_be_shared() -> None:
    services = ServiceManager()
    with pytest.raises(ServiceNotFoundError, match="Service inner not found"):
        services.get("inner")
    default = Inner()
    assert services.get("inner", default) is default
    services.add("inner", Inner())
    assert run_virtual(_result(Outer(service_manager=services))) == 42


def test_events_of_the_inner_run_come_through() -> None:
    async def said() -> list[str]:
        handler = outer().run()
        return [
            event.said if isinstance(event, Progress) else repr(event)
            async for event in handler.stream_events()
        ]

    assert run_virtual(said()) == ["outer", "inner 21", "StopEvent(result=42)"]


def test_the_inner_run_may_take_what_is_left_to_the_outer_one() -> None:
    assert run_virtual(_result(outer(timeout=1000), seconds=900)) == 42
    with pytest.raises(WorkflowTimeoutError, match=r"after 100 seconds.*start"):
        run_virtual(_result(outer(timeout=100), seconds=900))
    assert run_virtual(_result(outer(timeout=None), seconds=10**6)) == 42


def test_cancelling_the_outer_run_ends_the_inner_one_first() -> None:
    async def main() -> None:
        handler = outer().run()
        await asyncio.sleep(0.5)
        ended.clear()
        await handler.cancel_run()
        assert ended == [21]
        with pytest.raises(WorkflowCancelledByUser):
            await handler
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main())


def test_a_step_that_does_not_await_the_inner_run_does_not_outlive_it() -> None:
    class Careless(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            Inner().run(n=7, seconds=100)
            await asyncio.sleep(1)
            return StopEvent(result="careless")

    async def main() -> None:
        ended.clear()
        assert await Careless().run() == "careless"
        assert ended == [7]
        assert asyncio.get_running_loop().time() == 1
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main())


def test_nor_does_it_outlive_the_attempt_that_began_it() -> None:
    class Retries(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(10)))
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ctx.retry_info().retry_number == 0:
                Inner().run(n=8, seconds=100)
                await asyncio.sleep(1)
                raise ValueError
            return StopEvent(result=list(ended))

    ended.clear()
    assert run_virtual(_result(Retries())) == [8]


def test_an_inner_failure_is_the_steps_failure() -> None:
    class Fails(Inner):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            raise ValueError("inside")

    flow = Outer()
    flow.add_workflows(inner=Fails())
    with pytest.raises(ValueError, match="inside"):
        run_virtual(_result(flow))


def test_a_workflow_may_be_a_resource() -> None:
    class Uses(Workflow):
        @step
        async def start(
            self, ev: StartEvent, inner: Annotated[Inner, Resource(Inner)]
        ) -> StopEvent:
            return StopEvent(result=await inner.run(n=3))

    assert run_virtual(_result(Uses())) == 6


def test_a_person_answers_the_inner_run_through_the_outer_one() -> None:
    class Asks(Inner):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(
                HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="name?")
            )
            return StopEvent(result=answer.response)

    async def main() -> Any:
        flow = Outer()
        flow.add_workflows(inner=Asks())
        handler = flow.run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                await handler.send_event(HumanResponseEvent(response="ann"))
        return await handler

    assert run_virtual(main()) == "ann"


def test_what_a_step_passes_on_by_hand_is_streamed_once() -> None:
    class Forwards(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            handler = Inner().run(n=1)
            async for event in handler.stream_events():
                if not isinstance(event, StopEvent):
                    ctx.write_event_to_stream(event)
            return StopEvent(result=await handler)

    async def main() -> list[str]:
        handler = Forwards().run()
        return [type(event).__name__ async for event in handler.stream_events()]

    assert run_virtual(main()) == ["Progress", "StopEvent"]
