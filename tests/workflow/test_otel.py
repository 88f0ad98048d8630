"""Runs and steps as spans."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from anabranch.observe import Observer
from anabranch.testing import run_virtual
from anabranch.workflow import (
    Context,
    Event,
    RunLabel,
    StartEvent,
    StepLabel,
    StopEvent,
    Workflow,
    step,
)
from anabranch.workflow.otel import OpenTelemetryObserver
from anabranch.workflow.retry_policy import retry_policy, wait_fixed


class A(Event):
    pass


class Flow(Workflow):
    @step
    async def start(self, ev: StartEvent) -> A:
        trace.get_current_span().set_attribute("topic", ev.topic)
        return A()

    @step(retry_policy=retry_policy(wait=wait_fixed(1)))
    async def end(self, ctx: Context, ev: A) -> StopEvent:
        if ctx.retry_info().retry_number == 0:
            raise ValueError("once")
        return StopEvent()


def spans_of(program: Any) -> dict[str, ReadableSpan]:
    provider = TracerProvider()
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    run_virtual(program(OpenTelemetryObserver(provider), provider.get_tracer("test")))
    return {span.name: span for span in exporter.get_finished_spans()}


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return int(span.parent.span_id)


def test_steps_are_children_of_their_run_and_it_of_its_caller() -> None:
    async def program(observer: Observer, tracer: trace.Tracer) -> None:
        with tracer.start_as_current_span("caller"):
            await Flow(workflow_name="flow", observer=observer).run(
                topic="rivers", run_id="r"
            )

    spans = spans_of(program)
    assert {*spans} == {"caller", "flow", "flow.start", "flow.end"}
    assert parent_of(spans["flow"]) == id_of(spans["caller"])
    for name in ("flow.start", "flow.end"):
        assert parent_of(spans[name]) == id_of(spans["flow"])
    attributes = spans["flow.start"].attributes
    assert attributes is not None
    assert attributes["topic"] == "rivers"  # set by the step itself
    assert attributes["anabranch.workflow.run_id"] == "r"
    [retried] = spans["flow.end"].events
    assert retried.name == "retried"
    assert retried.attributes is not None
    assert retried.attributes["exception.message"] == "once"


def test_errors_and_what_a_runs_end_cut_off_are_marked() -> None:
    class Fails(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | StopEvent:
            ctx.send_event(A())
            await asyncio.sleep(1)
            raise ValueError("bad")

        @step
        async def aside(self, ev: A) -> StopEvent:
            await asyncio.sleep(100)
            return StopEvent()

    async def program(observer: Observer, tracer: trace.Tracer) -> None:
        with pytest.raises(ValueError, match="bad"):
            await Fails(workflow_name="flow", observer=observer).run()

    spans = spans_of(program)
    for name in ("flow", "flow.start"):
        assert spans[name].status.status_code is StatusCode.ERROR
        assert spans[name].events[0].name == "exception"
    assert (spans["flow.aside"].attributes or {})["anabranch.workflow.cancelled"]


def test_any_observer_is_told_of_runs_and_steps() -> None:
    class Log(Observer):
        def __init__(self) -> None:
            self.told: list[Any] = []

        def begun(self, total: int | None) -> None:
            self.told.append("begun")

        def started(self, label: object) -> None:
            self.told.append(("started", label))

        def retried(
            self, label: object, attempt: int, error: BaseException, delay_s: float
        ) -> None:
            self.told.append(("retried", str(label), attempt, str(error), delay_s))

        def finished(self, label: object, error: BaseException | None) -> None:
            self.told.append(("finished", str(label), error))

        def ended(self) -> None:
            self.told.append("ended")

    log = Log()

    async def main() -> None:
        await Flow(workflow_name="flow", observer=log).run(topic="x", run_id="r")

    run_virtual(main())
    run, start, end = RunLabel("r", "flow"), "start#1", StepLabel("r", "flow", "end", 2)
    assert log.told == [
        "begun",
        ("started", run),
        ("started", StepLabel("r", "flow", "start", 1)),
        ("finished", start, None),
        ("started", end),
        ("retried", str(end), 1, "once", 1.0),
        ("started", end),
        ("finished", str(end), None),
        ("finished", str(run), None),
        "ended",
    ]


def test_an_observer_that_fails_costs_no_run() -> None:
    class Broken(Observer):
        def started(self, label: object) -> None:
            raise RuntimeError

    async def main() -> Any:
        return await Flow(observer=Broken(), timeout=None).run(topic="x")

    assert run_virtual(main()) is None
