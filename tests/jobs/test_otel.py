"""What OpenTelemetry hears of the jobs, from its real SDK."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import logging
import sys
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from anabranch import amap
from anabranch.jobs import Retry
from anabranch.jobs.limits.rate import RateLimit
from anabranch.jobs.otel import OpenTelemetryObserver
from anabranch.testing import run_virtual


class Backend:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._metrics = InMemoryMetricReader()
        self.meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("test")

    def observer(self) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(self.tracers, self.meters)

    def spans(self, name: str = "job") -> list[ReadableSpan]:
        """Those that have ended, by their labels."""
        ended = [span for span in self._spans.get_finished_spans() if span.name == name]
        return sorted(
            ended, key=lambda span: attributes(span).get("anabranch.job.label", 0)
        )

    def metric(self, name: str) -> dict[str, Any]:
        """The points of an instrument, by outcome."""
        data = self._metrics.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        assert scope.scope.name == "anabranch.jobs"
        (metric,) = [metric for metric in scope.metrics if metric.name == name]
        return {
            str((point.attributes or {}).get("outcome", "")): point
            for point in metric.data.data_points
        }


def attributes(span: ReadableSpan) -> Any:
    return span.attributes or {}


def events(span: ReadableSpan) -> dict[str, Any]:
    return {event.name: event.attributes for event in span.events}


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.tracers.shutdown()
    backend.meters.shutdown()


async def picky(number: int) -> int:
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError(f"{number} is below 0")
    return number


def test_every_job_is_a_span_with_its_label(backend: Backend) -> None:
    asyncio.run(amap(picky, [1, 2, 3], observer=backend.observer()))
    spans = backend.spans()
    assert [attributes(span)["anabranch.job.label"] for span in spans] == [0, 1, 2]
    assert {attributes(span)["anabranch.job.attempts"] for span in spans} == {1}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


def test_an_error_is_recorded_and_sets_the_status(backend: Backend) -> None:
    asyncio.run(amap(picky, [1, -2], errors="skip", observer=backend.observer()))
    well, badly = backend.spans()
    assert well.status.status_code is StatusCode.UNSET
    assert badly.status.status_code is StatusCode.ERROR
    assert badly.status.description == "ValueError: -2 is below 0"
    assert events(badly)["exception"]["exception.type"] == "ValueError"


@pytest.mark.parametrize("isolation", ["context", "task"])
def test_spans_made_in_a_job_are_its_children(backend: Backend, isolation: Any) -> None:
    async def asks(number: int) -> None:
        await asyncio.sleep(0)
        with backend.tracer.start_as_current_span("request"):
            await asyncio.sleep(0)
        trace.get_current_span().set_attribute("number", number)

    options: Any = {"isolation": isolation}
    asyncio.run(
        amap(asks, range(20), concurrency=4, observer=backend.observer(), **options)
    )
    jobs = {span.context.span_id: span for span in backend.spans() if span.context}
    requests = backend.spans("request")
    assert len(requests) == len(jobs) == 20
    assert {span.parent.span_id for span in requests if span.parent} == set(jobs)
    for span in jobs.values():
        assert attributes(span)["number"] == attributes(span)["anabranch.job.label"]


def test_jobs_are_children_of_the_callers_span_and_leave_it_current(
    backend: Backend,
) -> None:
    async def main() -> None:
        with backend.tracer.start_as_current_span("caller") as caller:
            await amap(picky, range(5), concurrency=2, observer=backend.observer())
            assert trace.get_current_span() is caller

    asyncio.run(main())
    (caller,) = backend.spans("caller")
    jobs = backend.spans()
    assert len(jobs) == 5
    assert {span.parent and span.parent.span_id for span in jobs} == {
        caller.context and caller.context.span_id
    }


def test_retries_are_events_and_counted(backend: Backend) -> None:
    async def flaky(number: int) -> int:
        calls.append(number)
        if len(calls) < 3:
            raise ConnectionError("reset")
        return number

    calls: list[int] = []
    run_virtual(amap(flaky, [7], retry=Retry(3), observer=backend.observer()))
    (span,) = backend.spans()
    retries = [event for event in span.events if event.name == "retried"]
    assert [dict(event.attributes or {})["anabranch.job.attempt"] for event in retries] == [
        1,
        2,
    ]
    assert dict(retries[0].attributes or {})["exception.message"] == "reset"
    assert attributes(span)["anabranch.job.attempts"] == 3
    assert span.status.status_code is StatusCode.UNSET
    assert backend.metric("anabranch.jobs.retried")[""].value == 2


def test_waits_for_a_limit_are_events_and_timed(backend: Backend) -> None:
    limit = RateLimit(requests=1, per=10)
    run_virtual(amap(picky, [1, 2], rate=limit, observer=backend.observer()))
    waits = [
        events(span)["throttled"]["anabranch.job.delay_s"]
        for span in backend.spans()
        if "throttled" in events(span)
    ]
    assert waits == [pytest.approx(10)]
    assert backend.metric("anabranch.jobs.throttled")[""].sum == pytest.approx(10)


def test_jobs_are_counted_and_timed_by_outcome(backend: Backend) -> None:
    items = [1, -1, 2, -2, 3]
    asyncio.run(amap(picky, items, errors="skip", observer=backend.observer()))
    finished = backend.metric("anabranch.jobs.finished")
    assert {outcome: point.value for outcome, point in finished.items()} == {
        "ok": 3,
        "error": 2,
    }
    durations = backend.metric("anabranch.jobs.duration")
    assert {outcome: point.count for outcome, point in durations.items()} == {
        "ok": 3,
        "error": 2,
    }
    assert backend.metric("anabranch.jobs.in_flight")[""].value == 0


def test_the_number_in_flight_is_known_while_they_run(backend: Backend) -> None:
    async def look(number: int) -> int:
        await asyncio.sleep(0)
        value: int = backend.metric("anabranch.jobs.in_flight")[""].value
        return value

    observer = backend.observer()
    assert asyncio.run(amap(look, [1, 2, 3], concurrency=3, observer=observer))[0] == 3


def test_what_another_jobs_failure_cancelled_is_no_error(backend: Backend) -> None:
    async def fails_or_waits(number: int) -> None:
        await asyncio.sleep(0)
        if number == 1:
            raise ValueError("the first")
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="the first"):
        asyncio.run(amap(fails_or_waits, range(3), observer=backend.observer()))
    codes = [span.status.status_code for span in backend.spans()]
    assert codes == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET]
    finished = backend.metric("anabranch.jobs.finished")
    assert finished["error"].value == 1
    assert finished["cancelled"].value == 2
    assert attributes(backend.spans()[0])["anabranch.job.cancelled"] is True
    assert backend.metric("anabranch.jobs.in_flight")[""].value == 0


def test_a_job_that_is_never_finished_ends_with_the_run(backend: Backend) -> None:
    def watched() -> None:
        observer = backend.observer()
        observer.begun(2)
        observer.started("page.html")
        observer.started("next.html")
        observer.ended()
        current = trace.get_current_span().get_span_context()
        assert not current.is_valid, "nothing is left behind"

    copy_context().run(watched)  # so that a failure here is no other test's
    labels = [attributes(span)["anabranch.job.label"] for span in backend.spans()]
    assert labels == ["next.html", "page.html"]
    assert attributes(backend.spans()[0])["anabranch.job.cancelled"] is True
    assert backend.metric("anabranch.jobs.in_flight")[""].value == 0


def test_one_observer_watches_runs_one_after_another(backend: Backend) -> None:
    observer = backend.observer()
    for _ in range(3):
        asyncio.run(amap(picky, range(4), observer=observer))
    assert len(backend.spans()) == 12
    assert backend.metric("anabranch.jobs.finished")["ok"].value == 12


def test_runs_at_the_same_time_and_inside_each_other_are_kept_apart(
    backend: Backend,
) -> None:
    """Their jobs have the same labels."""

    async def outer(number: int) -> None:
        await amap(inner, [10 * number, 10 * number + 1], observer=observer)
        trace.get_current_span().set_attribute("outer", number)

    async def inner(number: int) -> None:
        await asyncio.sleep(0)
        trace.get_current_span().set_attribute("inner", number)

    async def main() -> None:
        await asyncio.gather(*(amap(outer, [n], observer=observer) for n in (1, 2)))

    observer = backend.observer()
    asyncio.run(main())
    spans = backend.spans()
    parents = {span.context and span.context.span_id: span for span in spans}
    outside = [span for span in spans if "outer" in attributes(span)]
    inside = [span for span in spans if "inner" in attributes(span)]
    assert (len(outside), len(inside)) == (2, 4)
    for span in inside:
        assert span.parent is not None
        outer_number = attributes(parents[span.parent.span_id])["outer"]
        assert attributes(span)["inner"] // 10 == outer_number
        assert attributes(span)["anabranch.job.label"] == attributes(span)["inner"] % 10


def test_a_job_may_end_in_another_context_than_it_began(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """As a source does that is read in one place and stored in another."""
    observer = backend.observer()

    async def start(uri: str) -> None:
        observer.started(uri)

    async def main() -> None:
        observer.begun(2)
        await amap(start, ["a", "b"])
        for uri in ("a", "b"):
            observer.retried(uri, 1, ConnectionError("reset"), 0.5)
            observer.finished(uri, None)
        observer.ended()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert [span.parent for span in backend.spans()] == [None, None]
    assert backend.metric("anabranch.jobs.finished")["ok"].value == 2
    assert not caplog.records


def test_without_an_sdk_nothing_happens_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    observer = OpenTelemetryObserver()

    async def main() -> list[list[int]]:
        runs = (amap(picky, range(5), observer=observer) for _ in range(2))
        return await asyncio.gather(*runs)

    assert asyncio.run(main()) == [[0, 1, 2, 3, 4]] * 2
    assert not caplog.records


def test_without_opentelemetry_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "anabranch.jobs.otel")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'anabranch\[otel\]'"):
        importlib.import_module("anabranch.jobs.otel")
