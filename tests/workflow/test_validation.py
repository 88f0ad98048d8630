"""A workflow that cannot run well is refused before it runs, with a sentence for each reason."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from anabranch.testing import run_virtual
from anabranch.workflow import (
    Collect,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    Resource,
    ResourceConfig,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Take,
    Workflow,
    WorkflowConfigurationError,
    WorkflowValidationError,
    catch_error,
    step,
)

if TYPE_CHECKING:
    from decimal import Decimal


class A(Event):
    pass


class SubA(A):
    pass


class B(Event):
    pass


class C(Event):
    pass


class Begin(StartEvent):
    pass


class Config(BaseModel):
    size: int


def refused(flow: type[Workflow], **options: Any) -> str:
    with pytest.raises(WorkflowValidationError) as caught:
        flow(**options).validate()
    return str(caught.value)


class TestGraph:
    def test_no_steps(self) -> None:
        class Empty(Workflow):
            pass

        with pytest.raises(
            WorkflowConfigurationError, match="Empty has no steps: mark its"
        ):
            Empty()

    def test_no_start(self) -> None:
        class Headless(Workflow):
            @step
            async def work(self, ev: A) -> StopEvent: ...

        with pytest.raises(WorkflowConfigurationError, match="Headless takes a StartEvent"):
            Headless()

    def test_several_starts(self) -> None:
        class Two(Workflow):
            @step
            async def one(self, ev: StartEvent) -> StopEvent: ...
            @step
            async def two(self, ev: Begin) -> StopEvent: ...

        with pytest.raises(
            WorkflowConfigurationError, match=r"StartEvent by 'one'; Begin by 'two'"
        ):
            Two()

    def test_no_stop(self) -> None:
        class Endless(Workflow):
            @step
            async def work(self, ev: StartEvent) -> A: ...

        with pytest.raises(WorkflowConfigurationError, match="no step of workflow Endless"):
            Endless()

    def test_produced_and_never_consumed(self) -> None:
        class Flow(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent | A: ...

        said = refused(Flow)
        assert said.startswith("step 'work' produces A, which no step consumes: add a step")
        Flow(skip_graph_checks={"terminal_event"}).validate()
        Flow(disable_validation=True)

    def test_consumed_and_never_produced(self) -> None:
        class Flow(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent: ...
            @step
            async def more(self, ev: A) -> StopEvent: ...

        said = refused(Flow)
        assert "step 'more' takes A, which no step produces: add it to the return" in said
        assert "step 'more' can never be reached: no way leads from StartEvent to A" in said

    def test_unreachable(self) -> None:
        class Island(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent: ...
            @step
            async def here(self, ev: A) -> B: ...
            @step
            async def there(self, ev: B) -> A | StopEvent: ...

        said = refused(Island)
        assert said.count("can never be reached") == 2
        Island(skip_graph_checks={"reachability"}).validate()

        class Excused(Island):
            @step(skip_graph_checks=["reachability"])
            async def here(self, ev: A) -> B: ...
            @step(skip_graph_checks=["reachability"])
            async def there(self, ev: B) -> A | StopEvent: ...

        Excused().validate()

    def test_dead_end(self) -> None:
        class Circles(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent | A: ...
            @step
            async def round(self, ev: A) -> A: ...

        assert refused(Circles).startswith(
            "step 'round' is a dead end: no way leads from A"
        )
        Circles(skip_graph_checks={"dead_end"}).validate()

        class Excused(Circles):
            @step(skip_graph_checks=["dead_end"])
            async def round(self, ev: A) -> A: ...

        Excused().validate()

    def test_stop_events_are_for_nobody(self) -> None:
        class Flow(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent: ...
            @step
            async def after(self, ev: StopEvent) -> StopEvent: ...

        assert "step 'after' takes StopEvent, which ends the run" in refused(Flow)

    def test_human_input_may_come_from_and_go_outside(self) -> None:
        class Asks(Workflow):
            @step
            async def ask(self, ev: StartEvent) -> InputRequiredEvent: ...
            @step
            async def told(self, ev: HumanResponseEvent) -> StopEvent: ...

        assert Asks().validate() is True

        class Plain(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent: ...

        assert Plain().validate() is False

    def test_subclasses_are_taken_only_where_asked_for(self) -> None:
        class Exact(Workflow):
            @step
            async def work(self, ev: StartEvent) -> SubA: ...
            @step
            async def end(self, ev: A) -> StopEvent:
                return StopEvent(result=type(ev).__name__)

        assert "produces SubA" in refused(Exact)

        class Broad(Exact):
            @step
            async def work(self, ev: StartEvent) -> SubA:
                return SubA()

            @step(accept_event_subclasses=True)
            async def end(self, ev: A) -> StopEvent:
                return StopEvent(result=type(ev).__name__)

        async def main() -> Any:
            return await Broad().run()

        assert run_virtual(main()) == "SubA"

    def test_a_list_that_nobody_makes_cannot_be_collected(self) -> None:
        class Flow(Workflow):
            @step
            async def work(self, ev: StartEvent) -> A: ...
            @step
            async def join(self, events: list[A]) -> StopEvent: ...

        assert "step 'join' collects list[A], but no list leads there" in refused(Flow)


class TestHandlers:
    def test_each_mistake_is_named(self) -> None:
        class Flow(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent: ...
            @catch_error(for_steps=["wrok"])
            async def one(self, ev: StepFailedEvent) -> StopEvent: ...
            @catch_error(for_steps=["work", "one"])
            async def two(self, ev: StepFailedEvent) -> StopEvent: ...
            @catch_error(for_steps=["work"])
            async def three(self, ev: A) -> StopEvent: ...
            @catch_error
            async def four(self, ev: StepFailedEvent) -> StopEvent: ...
            @catch_error
            async def five(self, ev: StepFailedEvent) -> StopEvent: ...

        for sentence, said in zip(
            refused(Flow).splitlines(),
            (
                "handler 'one' names the step 'wrok' in for_steps, which does not exist",
                "handler 'two' names 'one' in for_steps, which is itself a handler",
                "handler 'three' must take a StepFailedEvent and no other event",
                "step 'work' is named by two handlers, 'two' and 'three'",
                "the handlers 'four' and 'five' all take the failures of any step",
            ),
            strict=True,
        ):
            assert sentence.startswith(said)

    def test_only_handlers_are_given_failures(self) -> None:
        class Flow(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent: ...
            @step
            async def handle(self, ev: StepFailedEvent) -> StopEvent: ...

        assert "mark it with @catch_error instead" in refused(Flow)

    @pytest.mark.parametrize("options", [{"max_recoveries": 0}, {"for_steps": "work"}])
    def test_options_that_cannot_be_meant(self, options: Any) -> None:
        with pytest.raises(WorkflowValidationError, match=next(iter(options))):
            catch_error(**options)


class TestSignatures:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (
                "async def s(self) -> StopEvent: ...",
                "has no parameter annotated with an event",
            ),
            (
                "async def s(self, ev) -> StopEvent: ...",
                "parameter 'ev' without annotation",
            ),
            (
                "async def s(self, ev: int) -> StopEvent: ...",
                "'ev' annotated with int, which",
            ),
            ("async def s(self, ev: A | int) -> StopEvent: ...", "'ev' annotated with"),
            ("async def s(self, ev: A): ...", "does not say what it returns"),
            ("async def s(self, ev: A) -> int: ...", "annotated to return int"),
            ("async def s(self, ev: A) -> list[int]: ...", "annotated to return list"),
            ("async def s(self, ev: A) -> A: yield ev", "is a generator"),
            ("async def s(self, e: list[A], f: B) -> A: ...", "takes a list of events and"),
            ("async def s(self, e: list[A], f: list[B]) -> A: ...", "collects two lists"),
            ("async def s(self, e: A | C, f: B) -> A: ...", "'e' may be of several types"),
            (
                "async def s(self, ctx: Context[int], ev: A) -> A: ...",
                "takes a Context[int]: the state of a context is a pydantic",
            ),
            (
                "async def s(self, e: Annotated[A, Collect()]) -> A: ...",
                "collects into 'e', which is annotated with A",
            ),
            (
                "async def s(self, e: Annotated[list[A], Collect(3)]) -> A: ...",
                "collects 3: Collect takes All() or Take(n)",
            ),
        ],
    )
    def test_each_mistake_is_named(self, body: str, said: str) -> None:
        program = f"class Flow(Workflow):\n    @step\n    {body}\n"
        names = {**globals(), "Annotated": Annotated}
        with pytest.raises(WorkflowValidationError) as caught:
            exec(program, names)
        assert str(caught.value).startswith("step 's' ")
        assert said in str(caught.value)

    def test_options_that_cannot_be_meant(self) -> None:
        of_steps: list[tuple[dict[str, Any], str]] = [
            ({"num_workers": 0}, "num_workers must be an integer greater than 0, not 0"),
            ({"num_workers": True}, "num_workers"),
            ({"timeout": 0}, "timeout must be a number of seconds greater than 0"),
            ({"retry_policy": 3}, "retry_policy must have a method next"),
            ({"skip_graph_checks": ["x"]}, "there is no graph check x of a step"),
        ]
        for options, said in of_steps:
            with pytest.raises(WorkflowValidationError, match=said):
                step(**options)
        of_workflows: list[tuple[dict[str, Any], str]] = [
            ({"timeout": "1"}, "timeout must be a number"),
            ({"num_concurrent_runs": 0}, "num_concurrent_runs must be an integer"),
            ({"skip_graph_checks": {"x"}}, "there is no graph check x"),
            ({"durable": 3}, "path of an SQLite file.*not at 3"),
        ]
        for options, said in of_workflows:
            with pytest.raises(WorkflowValidationError, match=said):
                Good(**options)
        with pytest.raises(ValueError, match=r"Take\(n\) needs an integer"):
            Take(0)

    def test_a_name_that_is_only_for_type_checkers_is_named(self) -> None:
        class Flow(Workflow):
            @step
            async def work(self, ev: StartEvent, amount: Decimal) -> StopEvent: ...

        with pytest.raises(WorkflowValidationError, match=r"names 'Decimal', which is not"):
            Flow()

    def test_functions_are_steps_of_the_class_they_name(self) -> None:
        class Flow(Workflow):
            pass

        @step(workflow=Flow)
        async def begin(ev: StartEvent) -> A:
            return A()

        @step(workflow=Flow, num_workers=1)
        def end(ctx: Context, ev: A) -> StopEvent:
            return StopEvent(result="free")

        class Derived(Flow):
            pass

        async def main(flow: type[Workflow]) -> Any:
            return await flow(timeout=None).run()

        assert asyncio.run(main(Flow)) == asyncio.run(main(Derived)) == "free"
        with pytest.raises(
            WorkflowValidationError, match="say which workflow it is a step"
        ):
            step(_free)
        with pytest.raises(WorkflowValidationError, match="has a step 'end' already"):
            Flow.add_step(end)
        with pytest.raises(WorkflowValidationError, match="_free is no step"):
            Flow.add_step(_free)

    def test_names_that_are_defined_later_are_found(self) -> None:
        class Flow(Workflow):
            @step
            async def begin(self, ev: StartEvent) -> Later:
                return Later(n=5)

            @step
            async def end(self, ev: Later) -> StopEvent:
                return StopEvent(result=ev.n)

        async def main() -> Any:
            return await Flow().run()

        assert run_virtual(main()) == 5

    def test_a_step_may_be_replaced_or_taken_away_in_a_subclass(self) -> None:
        class Replaced(Good):
            @step
            async def end(self, ev: A) -> StopEvent:
                return StopEvent(result="replaced")

        class Taken(Good):
            async def end(self, ev: A) -> StopEvent:
                return StopEvent()

        async def main() -> Any:
            return await Replaced().run(), await Good().run()

        assert run_virtual(main()) == ("replaced", "good")
        with pytest.raises(WorkflowConfigurationError, match="returns a StopEvent"):
            Taken()

    def test_parameters_with_defaults_are_left_alone(self) -> None:
        class Flow(Workflow):
            @step
            async def work(
                self, ev: StartEvent, n: int = 3, *args: Any, **kw: Any
            ) -> StopEvent:
                return StopEvent(result=n)

        async def main() -> Any:
            return await Flow().run()

        assert run_virtual(main()) == 3


class TestState:
    def test_steps_agree_on_the_state(self) -> None:
        class Other(BaseModel):
            n: int = 0

        class Flow(Workflow):
            @step
            async def begin(self, ctx: Context[Config], ev: StartEvent) -> A: ...
            @step
            async def end(self, ctx: Context[Other], ev: A) -> StopEvent: ...

        assert "'begin' and 'end' ask for different states" in refused(Flow)


class TestResources:
    def test_configuration_is_read_before_anything_runs(self, tmp_path: Path) -> None:
        file = tmp_path / "config.json"

        class Flow(Workflow):
            @step
            async def work(
                self,
                ev: StartEvent,
                config: Annotated[Config, ResourceConfig(str(file), "a.b")],
            ) -> StopEvent:
                return StopEvent(result=config.size)

        assert "step 'work', parameter 'config': " in refused(Flow)
        for text, said in (
            ("{", "is no JSON"),
            ('{"a": 1}', "holds nothing at 'a.b'"),
            ('{"a": {"b": {"size": "x"}}}', "does not hold a Config"),
        ):
            file.write_text(text)
            assert said in refused(Flow)
        Flow().validate(validate_resource_configs=False)
        file.write_text('{"a": {"b": {"size": 3}}}')

        async def main() -> Any:
            return await Flow().run()

        assert run_virtual(main()) == 3
        with pytest.raises(ValueError, match=r"must end in \.json"):
            ResourceConfig("config.yaml")

    def test_resources_are_made_on_request(self) -> None:
        def broken() -> int:
            raise OSError("no key")

        class Flow(Workflow):
            @step
            async def work(
                self, ev: StartEvent, value: Annotated[int, Resource(broken)]
            ) -> StopEvent: ...

        Flow().validate()
        with pytest.raises(
            WorkflowValidationError, match=r"'work', .*cannot be made: no key"
        ):
            Flow().validate(validate_resources=True)

    def test_a_circle_is_named(self) -> None:
        class Flow(Workflow):
            @step
            async def work(
                self, ev: StartEvent, one: Annotated[int, Resource(chicken)]
            ) -> StopEvent: ...

        assert "need each other: chicken -> egg -> chicken" in refused(Flow)


def chicken(egg: Annotated[int, Resource(lambda: 0)]) -> int:
    return egg


def egg(bird: Annotated[int, Resource(chicken)]) -> int:
    return bird


chicken.__annotations__["egg"] = Annotated[int, Resource(egg)]


class Good(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> A:
        return A()

    @step
    async def end(self, ev: A) -> StopEvent:
        return StopEvent(result="good")


class Later(Event):
    n: int


async def _free(ev: StartEvent) -> StopEvent:
    return StopEvent()


def test_marks_may_be_given_bare() -> None:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[A]:
            return [A(), A()]

        @step
        async def end(self, events: Annotated[list[A], Collect]) -> StopEvent:
            return StopEvent(result=len(events))

    async def main() -> Any:
        return await Flow().run()

    assert run_virtual(main()) == 2
