"""Whole programs, as people write them for workflows: each gives what its author expects.

Each has been run, with other imports, by the library that its names come from. Where the
two differ, the test says what we promise.
"""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from anabranch.testing import run_virtual
from anabranch.workflow import (
    Collect,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    PickleSerializer,
    Resource,
    ResourceConfig,
    StartEvent,
    StepFailedEvent,
    StepStateChanged,
    StopEvent,
    Take,
    UnhandledEvent,
    Workflow,
    WorkflowCancelledByUser,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowHandler,
    WorkflowIdleEvent,
    WorkflowRuntimeError,
    WorkflowTimedOutEvent,
    WorkflowTimeoutError,
    WorkflowValidationError,
    catch_error,
    step,
)
from anabranch.workflow.context.state_store import DictState, InMemoryStateStore
from anabranch.workflow.retry_policy import (
    retry_if_exception_message,
    retry_if_exception_type,
    retry_policy,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_none,
)


class Task(Event):
    n: int = 0


class Other(Event):
    n: int = 0


class Third(Event):
    n: int = 0


class Finished(Event):
    n: int = 0


class Progress(Event):
    text: str


class Question(InputRequiredEvent):
    text: str = ""


class Answer(HumanResponseEvent):
    text: str = ""


async def _run(flow: Workflow, **start: Any) -> Any:
    """The result, once nothing of the run is left."""
    result = await flow.run(**start)
    assert len(asyncio.all_tasks()) == 1
    return result


async def _names(handler: WorkflowHandler, *, internal: bool = False) -> list[str]:
    return [type(ev).__name__ async for ev in handler.stream_events(internal)]


# ---------------------------------------------------------------------------- events


class Typed(Event):
    text: str
    score: int = Field(default=0, ge=0)
    _secret: int = PrivateAttr(default=1)


def test_an_event_is_an_object_and_a_dictionary_at_once() -> None:
    given: dict[str, Any] = {"text": "x", "topic": "y", "_secret": 5}
    event = Typed(**given)
    event.more = [1]
    event["last"] = 2
    assert (event.text, event.topic, event["topic"], event._secret) == ("x", "y", "y", 5)
    assert event.to_dict() == {"topic": "y", "more": [1], "last": 2}
    assert event.get("text") is None  # declared fields are attributes only
    assert event.get("text", "default") == "default"
    assert "last" in event
    assert "text" not in event
    assert (len(event), list(event)) == (3, ["topic", "more", "last"])
    assert bool(Event())
    assert not hasattr(event, "absent")
    with pytest.raises(KeyError):
        event["absent"]
    with pytest.raises(ValidationError):
        Typed(text="x", score=-1)


def test_names_of_methods_can_be_names_of_free_attributes() -> None:
    event = StartEvent(items=[1], keys="k", json=2, copy=3)
    assert (event["items"], event["keys"], event["json"], event["copy"]) == ([1], "k", 2, 3)
    assert list(event.keys()) == ["items", "keys", "json", "copy"]


class Chart(BaseModel):
    points: list[int]


class Report(StopEvent):
    title: str
    chart: Chart


def test_a_run_gives_the_result_or_the_whole_event_of_a_subclass() -> None:
    class Ask(StartEvent):
        topic: str
        size: int = 2

    class Flow(Workflow):
        @step
        async def write(self, ev: Ask) -> Report:
            free = {"by": ev.get("by")}
            return Report(title=ev.topic, chart=Chart(points=[ev.size]), **free)

    async def main() -> None:
        flow = Flow()
        report = await flow.run(topic="rivers", by="me")
        assert isinstance(report, Report)
        assert (report.title, report.chart.points, report.by) == ("rivers", [2], "me")
        again = await flow.run(start_event=Ask(topic="lakes", size=3))
        assert again.model_dump() == {
            "title": "lakes",
            "chart": {"points": [3]},
            "by": None,
        }
        assert (flow.start_event_class, flow.stop_event_class) == (Ask, Report)
        with pytest.raises(WorkflowRuntimeError, match=r"Ask.*size"):
            flow.run(size=4)

    run_virtual(main())


@pytest.mark.parametrize("result", [None, 0, "", [], {"a": 1}, Task(n=1)])
def test_any_result_comes_as_it_is(result: object) -> None:
    class Flow(Workflow):
        @step
        async def give(self, ev: StartEvent) -> StopEvent:
            return StopEvent(ev.value)

    assert run_virtual(_run(Flow(), value=result)) is result


# ----------------------------------------------------------------------------- graphs


def test_a_loop_goes_round_until_it_stops() -> None:
    class Flow(Workflow):
        @step
        async def count(self, ev: StartEvent | Task) -> Task | StopEvent:
            n = ev.n if isinstance(ev, Task) else ev.first
            return Task(n=n - 1) if n > 0 else StopEvent(result="done")

    assert run_virtual(_run(Flow(), first=100)) == "done"


def test_a_subclass_overrides_steps_and_calls_those_of_its_base() -> None:
    class Base(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Task:
            return Task(n=1)

        @step
        async def end(self, ev: Task) -> StopEvent:
            return StopEvent(result=["base", await self.name()])

        async def name(self) -> str:
            return "plain"

    class Sub(Base):
        @step
        async def end(self, ev: Task) -> StopEvent:
            above = await super().end(ev)
            return StopEvent(result=["sub", *above.result])

        async def name(self) -> str:
            return "own"

    class Mixin:
        @step
        async def end(self, ev: Task) -> StopEvent:
            return StopEvent(result="mixin")

    class Mixed(Mixin, Base):
        pass

    assert run_virtual(_run(Base())) == ["base", "plain"]
    assert run_virtual(_run(Sub())) == ["sub", "base", "own"]
    assert run_virtual(_run(Mixed())) == "mixin"


def test_functions_are_steps_of_the_class_they_name() -> None:
    class Flow(Workflow):
        pass

    @step(workflow=Flow)
    async def begin(ev: StartEvent) -> Task:
        return Task(n=ev.n)

    @step(workflow=Flow)
    async def end(ctx: Context, ev: Task) -> StopEvent:
        await ctx.store.set("n", ev.n)
        return StopEvent(result=await ctx.store.get("n"))

    class Sub(Flow):
        pass

    assert run_virtual(_run(Flow(), n=3)) == 3
    assert run_virtual(_run(Sub(), n=4)) == 4
    with pytest.raises(WorkflowValidationError, match="lonely"):

        @step
        async def lonely(ev: StartEvent) -> StopEvent:
            return StopEvent()


def test_a_decorator_below_step_can_use_the_context() -> None:
    def counted(
        function: Callable[..., Coroutine[Any, Any, Any]],
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            store = Context.get_step_context().store
            await store.set("calls", await store.get("calls", default=0) + 1)
            return await function(*args, **kwargs)

        return wrapper

    class Flow(Workflow):
        @step
        @counted
        async def begin(self, ev: StartEvent) -> Task:
            return Task()

        @step
        @counted
        async def end(self, ctx: Context, ev: Task) -> StopEvent:
            return StopEvent(result=await ctx.store.get("calls"))

    assert run_virtual(_run(Flow())) == 2
    with pytest.raises(WorkflowRuntimeError):
        Context.get_step_context()


def test_steps_that_are_not_async_run_beside_the_loop_and_can_do_all_that_others_can() -> (
    None
):
    loop_thread = threading.get_ident()

    class Flow(Workflow):
        @step
        def begin(self, ctx: Context, ev: StartEvent) -> Task | None:
            assert threading.get_ident() != loop_thread
            for n in range(3):
                ctx.send_event(Task(n=n))
            return None

        @step(num_workers=2)
        def work(self, ctx: Context, ev: Task) -> Finished:
            ctx.write_event_to_stream(Progress(text=str(ev.n)))
            return Finished(n=ev.n)

        @step
        def end(self, ctx: Context, ev: Finished) -> StopEvent | None:
            found = ctx.collect_events(ev, [Finished] * 3)
            return StopEvent(result=sorted(e.n for e in found)) if found else None

    async def main() -> None:
        handler = Flow(timeout=None).run()
        assert sorted(await _names(handler)) == [*["Progress"] * 3, "StopEvent"]
        assert await handler == [0, 1, 2]

    run_virtual(main())


def test_an_event_goes_to_every_step_that_takes_it_or_to_the_one_it_is_sent_to() -> None:
    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Task | None:
            ctx.send_event(Task(n=1), step=ev.step)
            return None

        @step
        async def left(self, ev: Task) -> Finished:
            return Finished(n=1)

        @step
        async def right(self, ev: Task) -> Finished:
            return Finished(n=2)

        @step
        async def end(self, ctx: Context, ev: Finished) -> StopEvent | None:
            await ctx.store.set("last", ev.n)
            found = ctx.collect_events(ev, [Finished, Finished])
            return StopEvent(result=sorted(e.n for e in found)) if found else None

    async def to(name: str) -> Any:
        handler = Flow(timeout=9).run(step=name)
        with pytest.raises(WorkflowTimeoutError):
            await handler
        return await handler.ctx.store.get("last")

    assert run_virtual(_run(Flow(), step=None)) == [1, 2]
    assert (run_virtual(to("left")), run_virtual(to("right"))) == (1, 2)


def test_the_first_stop_event_wins_and_the_others_are_cancelled() -> None:
    cancelled: list[int] = []

    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Task | None:
            for n in (3, 1, 2):
                ctx.send_event(Task(n=n))
            return None

        @step
        async def race(self, ev: Task) -> StopEvent:
            try:
                await asyncio.sleep(ev.n)
            except asyncio.CancelledError:
                cancelled.append(ev.n)
                raise
            return StopEvent(result=ev.n)

    assert run_virtual(_run(Flow())) == 1
    assert sorted(cancelled) == [2, 3]


def test_runs_of_one_workflow_do_not_see_each_other_and_keep_to_the_limit() -> None:
    running: list[int] = []
    most = 0

    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            nonlocal most
            running.append(ev.n)
            most = max(most, len(running))
            await ctx.store.set("n", ev.n)
            await asyncio.sleep(1)
            running.remove(ev.n)
            return StopEvent(result=await ctx.store.get("n"))

    async def main(flow: Workflow) -> None:
        assert await asyncio.gather(*(flow.run(n=n) for n in range(6))) == [*range(6)]

    run_virtual(main(Flow()))
    assert most == 6
    most = 0
    run_virtual(main(Flow(num_concurrent_runs=2)))
    assert most == 2


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_step_has_as_many_workers_as_it_was_given(workers: int) -> None:
    now = most = 0

    class Flow(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[Task]:
            return [Task(n=n) for n in range(8)]

        @step(num_workers=workers)
        async def work(self, ev: Task) -> Finished:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(1)
            now -= 1
            return Finished(n=ev.n)

        @step
        async def join(self, events: list[Finished]) -> StopEvent:
            return StopEvent(result=asyncio.get_running_loop().time())

    assert run_virtual(_run(Flow())) == pytest.approx(8 / workers)
    assert most == workers


# ---------------------------------------------------------------------------- collect


def _sender(*events: Event) -> type[Workflow]:
    class Sender(Workflow):
        @step
        async def send(self, ctx: Context, ev: StartEvent) -> Task | Other | Third | None:
            for event in events:
                ctx.send_event(event)
            return None

    return Sender


@pytest.mark.parametrize("workers", [1, 4])
def test_collect_events_gives_the_set_in_the_order_that_was_asked_for(workers: int) -> None:
    class Flow(_sender(Third(n=3), Task(n=1), Other(n=5), Task(n=2))):  # type: ignore[misc]
        @step(num_workers=workers)
        async def gather(self, ctx: Context, ev: Task | Other | Third) -> StopEvent | None:
            await asyncio.sleep(0)
            found = ctx.collect_events(ev, [Task, Third, Task, Other])
            return StopEvent(result=[e.n for e in found]) if found else None

    assert run_virtual(_run(Flow())) == [1, 3, 2, 5]


def test_what_is_collected_beyond_the_set_begins_the_next_one() -> None:
    sets: list[list[int]] = []

    class Flow(_sender(*(Task(n=n) for n in range(6)))):  # type: ignore[misc]
        @step(num_workers=1)
        async def gather(self, ctx: Context, ev: Task | Other | Third) -> StopEvent | None:
            found = ctx.collect_events(ev, [Task, Task])
            if found is None:
                return None
            sets.append([e.n for e in found])
            return StopEvent() if len(sets) == 3 else None

    run_virtual(_run(Flow()))
    assert sets == [[0, 1], [2, 3], [4, 5]]


def test_buffers_of_different_names_know_nothing_of_each_other() -> None:
    class Flow(_sender(*(Task(n=n) for n in range(3)))):  # type: ignore[misc]
        @step(num_workers=1)
        async def gather(self, ctx: Context, ev: Task | Other | Third) -> StopEvent | None:
            if two := ctx.collect_events(ev, [Task] * 2, buffer_id="two"):
                await ctx.store.set("two", [e.n for e in two])
            if three := ctx.collect_events(ev, [Task] * 3, buffer_id="three"):
                return StopEvent([await ctx.store.get("two"), [e.n for e in three]])
            return None

    assert run_virtual(_run(Flow())) == [[0, 1], [0, 1, 2]]


def test_a_step_that_fails_after_it_collected_finds_the_set_again() -> None:
    class Flow(_sender(Task(n=1), Task(n=2))):  # type: ignore[misc]
        @step(num_workers=1, retry_policy=retry_policy())
        async def gather(self, ctx: Context, ev: Task | Other | Third) -> StopEvent | None:
            found = ctx.collect_events(ev, [Task, Task])
            if found is None:
                return None
            if ctx.retry_info().retry_number < 2:
                raise ConnectionError
            return StopEvent(result=[e.n for e in found])

    assert run_virtual(_run(Flow())) == [1, 2]


def test_a_step_that_is_tried_again_offers_its_event_once() -> None:
    class Flow(Workflow):
        @step
        async def send(self, ctx: Context, ev: StartEvent) -> Task:
            ctx.send_event(Task(n=1))
            await asyncio.sleep(20)
            return Task(n=2)

        @step(retry_policy=retry_policy())
        async def gather(self, ctx: Context, ev: Task) -> StopEvent | None:
            found = ctx.collect_events(ev, [Task, Task])
            if ctx.retry_info().retry_number == 0:
                raise ConnectionError
            return StopEvent(result=[e.n for e in found]) if found else None

    assert run_virtual(_run(Flow())) == [1, 2]


def test_a_step_with_two_events_is_called_for_each_pair() -> None:
    class Flow(_sender(Task(n=1), Task(n=2), Other(n=10), Other(n=20))):  # type: ignore[misc]
        @step
        async def add(self, ctx: Context, b: Other, a: Task) -> Finished:
            return Finished(n=a.n + b.n)

        @step
        async def ignore(self, ev: Third) -> None:
            return None

        @step
        async def end(self, ctx: Context, ev: Finished) -> StopEvent | None:
            found = ctx.collect_events(ev, [Finished] * 2)
            return StopEvent(result=sorted(e.n for e in found)) if found else None

    assert run_virtual(_run(Flow())) == [11, 22]


class Fan(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Task]:
        return [Task(n=n) for n in range(ev.n)]

    @step
    async def work(self, ev: Task) -> Finished | None:
        await asyncio.sleep(10 - ev.n)
        return Finished(n=ev.n)

    @step
    async def join(self, events: list[Finished]) -> StopEvent:
        return StopEvent(result=[e.n for e in events])


def test_a_list_is_joined_when_all_of_it_has_come_in_the_order_it_came() -> None:
    assert run_virtual(_run(Fan(), n=4)) == [3, 2, 1, 0]
    assert run_virtual(_run(Fan(), n=0)) == []


def test_branches_that_end_in_nothing_are_not_in_the_join() -> None:
    class Odd(Fan):
        @step
        async def work(self, ev: Task) -> Finished | None:
            return Finished(n=ev.n) if ev.n % 2 else None

    assert run_virtual(_run(Odd(), n=6)) == [1, 3, 5]
    assert run_virtual(_run(Odd(), n=1)) == []


@pytest.mark.parametrize(("enough", "expected"), [(1, [3]), (2, [3, 2]), (9, [3, 2, 1, 0])])
def test_take_gives_the_first_or_all_if_there_are_fewer(
    enough: int, expected: list[int]
) -> None:
    class First(Fan):
        @step
        async def join(
            self, events: Annotated[list[Finished], Collect(Take(enough))]
        ) -> StopEvent:
            return StopEvent(result=[e.n for e in events])

    assert run_virtual(_run(First(), n=4)) == expected


def test_what_a_branch_sends_on_instead_of_returning_is_in_the_join_too() -> None:
    class Sending(Fan):
        @step
        async def work(self, ctx: Context, ev: Task) -> Other | None:  # type: ignore[override]
            ctx.send_event(Other(n=ev.n))
            return None

        @step
        async def more(self, ev: Other) -> Finished:
            return Finished(n=ev.n)

    assert run_virtual(_run(Sending(), n=3)) == [0, 1, 2]


def test_a_fan_out_may_go_round_again() -> None:
    class Again(Event):
        rounds: int

    class Flow(Workflow):
        @step
        async def split(self, ev: StartEvent | Again) -> list[Task]:
            rounds = ev.rounds if isinstance(ev, Again) else 0
            return [Task(n=10 * rounds + n) for n in range(2)]

        @step
        async def work(self, ev: Task) -> Finished:
            return Finished(n=ev.n)

        @step
        async def join(self, ctx: Context, events: list[Finished]) -> Again | StopEvent:
            seen = [*await ctx.store.get("seen", default=[]), [e.n for e in events]]
            await ctx.store.set("seen", seen)
            return StopEvent(result=seen) if len(seen) == 3 else Again(rounds=len(seen))

    assert run_virtual(_run(Flow())) == [[0, 1], [10, 11], [20, 21]]


# ------------------------------------------------------------------- waiting for people


class Interview(Workflow):
    """Asks one question after the other."""

    begun = 0

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.begun += 1
        answers = []
        for text in ("name", "age"):
            answer = await ctx.wait_for_event(Answer, waiter_event=Question(text=text))
            answers.append(answer.text)
        return StopEvent(result=answers)


def test_a_person_answers_one_question_after_the_other() -> None:
    async def main() -> None:
        flow = Interview()
        handler = flow.run()
        asked = []
        async for event in handler.stream_events():
            if isinstance(event, Question):
                asked.append(event.text)
                handler.ctx.send_event(Answer(text=f"my {event.text}"))
        assert (asked, await handler) == (["name", "age"], ["my name", "my age"])
        assert flow.begun == 1  # waiting does not begin the step anew

    run_virtual(main())


def test_the_same_conversation_as_steps() -> None:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Question:
            return Question(text="name")

        @step
        async def heard(self, ev: Answer) -> Question | StopEvent:
            return Question(text="really?") if ev.text != "yes" else StopEvent(result="ok")

    async def main() -> None:
        flow = Flow()
        assert flow.validate()
        handler = flow.run()
        replies = iter(["Bob", "yes"])
        async for event in handler.stream_events():
            if isinstance(event, Question):
                await handler.send_event(Answer(text=next(replies)))
        assert await handler == "ok"

    run_virtual(main())


def test_parallel_branches_each_get_the_answer_that_is_meant_for_them() -> None:
    class Flow(Fan):
        @step(num_workers=1)
        async def work(self, ctx: Context, ev: Task) -> Finished:  # type: ignore[override]
            answer = await ctx.wait_for_event(
                Answer,
                waiter_event=Question(text=str(ev.n)),
                waiter_id=f"branch {ev.n}",
                requirements={"branch": ev.n},
            )
            return Finished(n=int(answer.text))

    async def main() -> None:
        handler = Flow().run(n=4)
        asked: list[int] = []
        async for event in handler.stream_events():
            if isinstance(event, Question):
                asked.append(int(event.text))
                if len(asked) == 4:  # all wait, though one may work at a time
                    handler.ctx.send_event(Answer(text="0"))  # for nobody
                    for n in reversed(asked):
                        meant: dict[str, Any] = {"branch": n, "text": str(10 * n)}
                        handler.ctx.send_event(Answer(**meant))
        assert (asked, sorted(await handler)) == ([0, 1, 2, 3], [0, 10, 20, 30])

    run_virtual(main())


def test_a_wait_that_takes_too_long_is_a_timeout_error_in_the_step() -> None:
    class Flow(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            loop = asyncio.get_running_loop()
            began_at = loop.time()
            with pytest.raises(TimeoutError):
                await ctx.wait_for_event(Answer, timeout=5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ctx.wait_for_event(Answer), 7)
            return StopEvent(result=loop.time() - began_at)

    assert run_virtual(_run(Flow())) == pytest.approx(12)


def test_a_conversation_goes_on_in_another_run_from_what_was_written_down() -> None:
    async def main() -> None:
        flow = Interview()
        handler = flow.run()
        async for event in handler.stream_events():
            if isinstance(event, Question):
                if event.text == "age":
                    break
                handler.ctx.send_event(Answer(text="Bob"))
        written = json.dumps(handler.ctx.to_dict())
        await handler.cancel_run()

        for age in ("7", "70"):  # as often as one likes
            context = Context[Any].from_dict(flow, json.loads(written))
            assert context.is_running
            again = Interview().run(ctx=context)
            again.ctx.send_event(Answer(text=age))
            assert await again == ["Bob", age]

    run_virtual(main())


def test_an_agent_asks_before_the_one_dangerous_tool_while_the_others_run() -> None:
    class Call(Event):
        tool: str

    class Output(Event):
        tool: str
        text: str

    class Agent(Workflow):
        @step
        async def think(self, ctx: Context, ev: StartEvent) -> Call | None:
            await ctx.store.set("calls", 3)
            for tool in ("read", "delete", "list"):
                ctx.send_event(Call(tool=tool))
            return None

        @step
        async def call(self, ctx: Context, ev: Call) -> Output:
            text = "ok"
            if ev.tool == "delete":
                answer = await ctx.wait_for_event(
                    HumanResponseEvent,
                    waiter_id=f"sure-{ev.tool}",
                    waiter_event=InputRequiredEvent(prefix="sure?", user="me"),
                    requirements={"user": "me"},
                )
                text = answer.response
            return Output(tool=ev.tool, text=text)

        @step
        async def sum_up(self, ctx: Context, ev: Output) -> StopEvent | None:
            found = ctx.collect_events(ev, [Output] * await ctx.store.get("calls"))
            return StopEvent({e.tool: e.text for e in found}) if found else None

    async def main() -> None:
        handler = Agent().run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                handler.ctx.send_event(HumanResponseEvent(response="no", user="you"))
                handler.ctx.send_event(HumanResponseEvent(response="yes", user=event.user))
        assert await handler == {"read": "ok", "delete": "yes", "list": "ok"}

    run_virtual(main())


def test_a_step_that_waits_for_its_own_kind_of_event_is_not_called_with_it_too() -> None:
    calls: list[str] = []

    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Question:
            return Question()

        @step
        async def hear(self, ctx: Context, ev: Answer) -> StopEvent:
            calls.append(ev.text)
            second = await ctx.wait_for_event(Answer, waiter_event=Question())
            return StopEvent(result=second.text)

    async def main() -> None:
        handler = Flow().run()
        replies = iter(["first", "second"])
        async for event in handler.stream_events():
            if isinstance(event, Question):
                handler.ctx.send_event(Answer(text=next(replies)))
        assert (await handler, calls) == ("second", ["first"])

    run_virtual(main())


# ------------------------------------------------------------------------------ state


class Basket(BaseModel):
    count: int = 0
    names: list[str] = Field(default_factory=list)


class Shop(Workflow):
    @step
    async def add(self, ctx: Context[Basket], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as basket:
            basket.count += 1
            basket.names.append(ev.name)
        return StopEvent(result=(await ctx.store.get_state()).count)


def test_a_context_carries_typed_state_from_run_to_run_and_through_json() -> None:
    async def main() -> None:
        shop = Shop()
        context = Context[Basket](shop)
        await context.store.set("count", 10)
        assert [await shop.run(ctx=context, name=n) for n in "ab"] == [11, 12]
        written = json.loads(json.dumps(context.to_dict()))
        copy = Context[Basket].from_dict(shop, written)
        assert await shop.run(ctx=copy, name="c") == 13
        assert (await copy.store.get_state()).names == ["a", "b", "c"]
        assert (await context.store.get_state()).names == ["a", "b"]
        assert await shop.run(name="d") == 1

    run_virtual(main())


def test_paths_lead_into_the_state() -> None:
    async def main() -> None:
        store = InMemoryStateStore(DictState())
        await store.set("user", {"name": "x", "tags": ["p", "q"]})
        await store.set("user.name", "y")
        await store.set("user.tags.0", "P")
        await store.set("made.on.the.way", 1)
        assert await store.get("user.name") == "y"
        assert await store.get("user.tags.1") == "q"
        assert await store.get("made") == {"on": {"the": {"way": 1}}}
        assert await store.get("user.absent", default="d") == "d"
        with pytest.raises(ValueError, match=r"user\.absent"):
            await store.get("user.absent")
        await store.clear()
        assert await store.get("user", default=None) is None

    run_virtual(main())


def test_no_edit_is_lost_however_many_steps_make_one_at_once() -> None:
    class Flow(Workflow):
        @step
        async def split(self, ctx: Context, ev: StartEvent) -> list[Task]:
            await ctx.store.set("n", 0)
            return [Task(n=n) for n in range(20)]

        @step(num_workers=20)
        async def count(self, ctx: Context, ev: Task) -> Finished:
            async with ctx.store.edit_state() as state:
                n = state.n
                await asyncio.sleep(1)
                state.n = n + 1
            return Finished()

        @step
        async def end(self, ctx: Context, events: list[Finished]) -> StopEvent:
            return StopEvent(result=await ctx.store.get("n"))

    assert run_virtual(_run(Flow())) == 20


def test_an_edit_that_raises_changes_nothing() -> None:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("names", ["kept"])
            with pytest.raises(ZeroDivisionError):
                async with ctx.store.edit_state() as state:
                    state.names.append("lost")
                    assert await ctx.store.get("names") == ["kept"]
                    state.more = 1 / 0
            return StopEvent(result=(await ctx.store.get_state()).to_dict())

    assert run_virtual(_run(Flow())) == {"names": ["kept"]}


def test_what_json_cannot_hold_goes_through_pickle() -> None:
    class Flow(Workflow):
        @step
        async def keep(self, ctx: Context, ev: StartEvent) -> StopEvent:
            seen = await ctx.store.get("seen", default=None)
            await ctx.store.set("seen", _Opaque(7))
            return StopEvent(result=None if seen is None else seen.value)

    async def main() -> None:
        flow = Flow()
        handler = flow.run()
        assert await handler is None
        with pytest.raises(Exception, match="_Opaque"):
            handler.ctx.to_dict()
        written = json.loads(json.dumps(handler.ctx.to_dict(PickleSerializer())))
        context = Context[Any].from_dict(flow, written, PickleSerializer())
        assert await flow.run(ctx=context) == 7

    run_virtual(main())


class _Opaque:
    def __init__(self, value: int) -> None:
        self.value = value


def test_a_run_in_the_middle_of_its_steps_goes_on_elsewhere() -> None:
    done: list[int] = []

    class Slow(Fan):
        @step
        async def work(self, ctx: Context, ev: Task) -> Finished:  # type: ignore[override]
            await asyncio.sleep(100 * ev.n)
            done.append(ev.n)
            return Finished(n=ev.n)

    async def main() -> None:
        flow = Slow(timeout=None)
        handler = flow.run(n=3)
        await asyncio.sleep(150)
        assert await handler.ctx.running_steps() == ["work"]
        written = json.loads(json.dumps(handler.ctx.to_dict()))
        await handler.cancel_run()
        assert await flow.run(ctx=Context.from_dict(flow, written)) == [0, 1, 2]
        assert done == [0, 1, 2]  # what had ended was not done again

    run_virtual(main())


# -------------------------------------------------------------------- handler and stream


class Teller(Workflow):
    @step
    async def tell(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for word in ("one", "two"):
            ctx.write_event_to_stream(Progress(text=word))
            await asyncio.sleep(1)
        return StopEvent(result="told")


def test_what_is_written_is_seen_while_the_run_goes_on_and_afterwards() -> None:
    async def main() -> None:
        handler = Teller().run()
        loop = asyncio.get_running_loop()
        seen = [
            (getattr(event, "text", "end"), round(loop.time()))
            async for event in handler.stream_events()
        ]
        assert seen == [("one", 0), ("two", 1), ("end", 2)]
        assert (await handler, await handler) == ("told", "told")
        assert (handler.is_done(), handler.exception()) == (True, None)
        late = Teller().run()
        await late
        assert await _names(late) == ["Progress", "Progress", "StopEvent"]

    run_virtual(main())


def test_internal_events_tell_what_the_steps_do() -> None:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Question:
            return Question()

        @step
        async def end(self, ev: Answer) -> StopEvent:
            return StopEvent()

    async def main() -> None:
        handler = Flow().run()
        seen: list[Any] = []
        async for event in handler.stream_events(expose_internal=True):
            match event:
                case StepStateChanged():
                    seen.append((event.name, event.step_state.value))
                case UnhandledEvent():
                    seen.append((event.event_type, event.idle))
                    handler.ctx.send_event(Answer())
                case WorkflowIdleEvent():
                    seen.append("idle")
                    if len(seen) == 4:
                        handler.ctx.send_event(Progress(text="for nobody"))
                case _:
                    seen.append(type(event).__name__)
        assert seen == [
            ("begin", "running"),
            ("begin", "not_running"),
            "Question",
            "idle",
            ("Progress", True),
            ("end", "running"),
            ("end", "not_running"),
            "StopEvent",
        ]
        assert await _names(handler) == ["Question", "StopEvent"]

    run_virtual(main())


class Endless(Workflow):
    log: list[str] = []  # noqa: RUF012  # as people write it

    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(1000)
        finally:
            self.log.append("cleaned up")
        return StopEvent()


@pytest.mark.parametrize("moments", range(6))
def test_a_run_can_be_cancelled_at_any_moment(moments: int) -> None:
    async def main() -> None:
        handler = Endless(timeout=None).run()
        for _ in range(moments):
            await asyncio.sleep(0)
        await handler.cancel_run()
        with pytest.raises(WorkflowCancelledByUser):
            await handler
        assert (handler.is_done(), handler.cancelled()) == (True, True)
        assert isinstance(handler.get_stop_event(), WorkflowCancelledEvent)
        assert await _names(handler) == ["WorkflowCancelledEvent"]
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main())


def test_who_gives_up_awaiting_a_run_ends_it() -> None:
    async def main() -> None:
        flow = Endless(timeout=None)
        flow.log = []
        handler = flow.run()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handler, 3)
        assert (handler.is_done(), flow.log) == (True, ["cleaned up"])

    run_virtual(main())


def test_a_run_that_takes_too_long_says_which_step_was_at_work() -> None:
    async def main() -> None:
        handler = Endless(timeout=30).run()
        [event] = [ev async for ev in handler.stream_events()]
        assert isinstance(event, WorkflowTimedOutEvent)
        assert (event.timeout, event.active_steps) == (30, ["sleep"])
        with pytest.raises(WorkflowTimeoutError, match=r"30.*sleep"):
            await handler

    run_virtual(main())


# ---------------------------------------------------------------------------- failures


def test_a_failure_ends_the_stream_and_comes_to_who_awaits() -> None:
    class Boom(Exception):
        pass

    boom = Boom("x")

    class Flow(Workflow):
        @step(retry_policy=retry_policy(stop=stop_after_attempt(2)))
        async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(Progress(text="trying"))
            raise boom

    async def main() -> None:
        handler = Flow().run()
        *before, last = [ev async for ev in handler.stream_events()]
        assert len(before) == 2
        assert isinstance(last, WorkflowFailedEvent)
        assert (last.step_name, last.exception, last.attempts) == ("fail", boom, 2)
        with pytest.raises(Boom) as caught:
            await handler
        assert caught.value is boom

    run_virtual(main())


@pytest.mark.parametrize(
    ("policy", "tries"),
    [
        (retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(4)), 4),
        (retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)), 2),
        (retry_policy(retry=retry_if_exception_type(KeyError)), 1),
        (
            retry_policy(
                retry=retry_if_exception_message(match="try [12]"),
                wait=wait_none(),
                stop=stop_after_attempt(9),
            ),
            3,
        ),
        (
            retry_policy(
                wait=wait_fixed(2) + wait_fixed(1),
                stop=stop_after_attempt(9) | stop_after_delay(5),
            ),
            3,
        ),
    ],
    ids=["four", "two", "other type", "message", "delay"],
)
def test_a_policy_says_how_often_a_step_is_tried(policy: Any, tries: int) -> None:
    seen: list[tuple[int, str]] = []

    class Flow(Workflow):
        @step(retry_policy=policy)
        async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
            info = ctx.retry_info()
            seen.append((info.retry_number, str(info.last_exception)))
            raise ValueError(f"try {len(seen)}")

    async def main() -> None:
        with pytest.raises(ValueError, match=f"try {tries}"):
            await Flow(timeout=None).run()

    run_virtual(main())
    assert seen == [(n, f"try {n}" if n else "None") for n in range(tries)]


def test_handlers_take_failures_of_their_steps_as_often_as_they_may() -> None:
    class Flow(Workflow):
        tries = 0

        @step
        async def begin(self, ev: StartEvent) -> Task:
            if ev.where == "begin":
                raise ValueError("begin")
            return Task()

        @step
        async def work(self, ev: Task) -> StopEvent:
            self.tries += 1
            raise KeyError(self.tries)

        @catch_error(for_steps=["work"], max_recoveries=2)
        async def again(self, ev: StepFailedEvent) -> Task:
            assert isinstance(ev.input_event, Task)
            return Task()

        @catch_error
        async def rest(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=(ev.step_name, str(ev.exception), ev.attempts))

    async def main() -> None:
        assert await Flow().run(where="begin") == ("begin", "begin", 1)
        with pytest.raises(KeyError, match="3"):
            await Flow().run(where="work")

    run_virtual(main())


def test_in_a_fan_out_each_branch_is_recovered_on_its_own() -> None:
    class Flow(Fan):
        @step
        async def work(self, ev: Task) -> Finished:
            if ev.n < 3:
                raise ValueError(ev.n)
            return Finished(n=ev.n)

        @catch_error
        async def recover(self, ev: StepFailedEvent) -> Finished:
            assert isinstance(ev.input_event, Task)
            return Finished(n=-ev.input_event.n)

    assert sorted(run_virtual(_run(Flow(), n=5))) == [-2, -1, 0, 3, 4]


def test_a_step_that_is_tried_again_does_not_send_twice() -> None:
    taken: list[int] = []

    class Flow(Workflow):
        @step(retry_policy=retry_policy())
        async def begin(self, ctx: Context, ev: StartEvent) -> Task | StopEvent:
            for n in (1, 1, 2):
                ctx.send_event(Task(n=n))
            if ctx.retry_info().retry_number == 0:
                raise ConnectionError
            await asyncio.sleep(1)
            return StopEvent()

        @step
        async def take(self, ev: Task) -> None:
            taken.append(ev.n)

    run_virtual(_run(Flow()))
    assert taken == [1, 1, 2]


# --------------------------------------------------------------------------- resources


class Memory(BaseModel):
    items: list[str] = Field(default_factory=list)


made: list[str] = []


def make_url() -> str:
    made.append("url")
    return "db://"


async def connect(url: Annotated[str, Resource(make_url)]) -> Memory:
    made.append("memory")
    return Memory(items=[url])


def test_resources_are_shared_between_steps_and_runs_of_one_workflow() -> None:
    class Flow(Workflow):
        @step
        async def begin(
            self, ev: StartEvent, memory: Annotated[Memory, Resource(connect)]
        ) -> Task:
            memory.items.append("begin")
            return Task()

        @step
        async def end(
            self, ev: Task, memory: Annotated[Memory, Resource(connect)]
        ) -> StopEvent:
            memory.items.append("end")
            return StopEvent(result=[*memory.items])

    async def main() -> None:
        made.clear()
        flow = Flow()
        assert await flow.run() == ["db://", "begin", "end"]
        assert await flow.run() == ["db://", "begin", "end", "begin", "end"]
        assert made == ["url", "memory"]
        await Flow().run()
        assert made == ["url", "memory"] * 2

    run_virtual(main())


def test_configuration_comes_from_a_part_of_a_file(tmp_path: Any) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"shops": {"one": {"count": 3}}}))

    class Flow(Workflow):
        @step
        async def read(
            self,
            ev: StartEvent,
            basket: Annotated[Basket, ResourceConfig(str(file), path_selector="shops.one")],
        ) -> StopEvent:
            return StopEvent(result=basket.count)

    class Wrong(Workflow):
        @step
        async def read(
            self,
            ev: StartEvent,
            basket: Annotated[Basket, ResourceConfig(str(file), path_selector="shops.two")],
        ) -> StopEvent:
            return StopEvent()

    assert run_virtual(_run(Flow())) == 3
    with pytest.raises(WorkflowValidationError, match=r"shops\.two"):
        Wrong().validate()
