"""Jobs as OpenTelemetry sees them: a span each, and five instruments."""

from __future__ import annotations

from asyncio import CancelledError
from contextvars import Token
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from anabranch.observe import Observer

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, StatusCode, TracerProvider
except ModuleNotFoundError as error:
    raise ImportError(
        "OpenTelemetryObserver needs opentelemetry-api: pip install 'anabranch[otel]'"
    ) from error

__all__ = ["OpenTelemetryObserver"]

# Made once, since every job passes one to two instruments.
OK = {"outcome": "ok"}
ERROR = {"outcome": "error"}
CANCELLED = {"outcome": "cancelled"}


@dataclass(slots=True, eq=False)
class _Job:
    span: Span
    began: float
    attempts: int = 1
    token: Token[Context] | None = None


class OpenTelemetryObserver(Observer):
    """Makes every job a span, and counts and times jobs. Pass it as ``observer=``.

    The span is called ``job`` and is the current one while the job runs, so spans made in
    the job are its children. Its attributes are ``anabranch.job.label`` and
    ``anabranch.job.attempts``; retries and waits for a limit are its events ``retried``
    and ``throttled``; an error is recorded on it and sets its status. A job that was
    cancelled from outside, as when another one ended the run, is no error: its span has
    the attribute ``anabranch.job.cancelled``.

    The instruments are ``anabranch.jobs.finished`` and ``anabranch.jobs.duration`` (in
    seconds), both with the attribute ``outcome``: ``ok``, ``error`` or ``cancelled``;
    ``anabranch.jobs.retried``, ``anabranch.jobs.in_flight``, and
    ``anabranch.jobs.throttled``, the seconds that a job was held back.

    One object may watch many runs, also at the same time in one event loop.

    Args:
        tracer_provider: Makes the spans; the global one by default.
        meter_provider: Makes the instruments; the global one by default.
        name: The instrumentation scope of both.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        name: str = "anabranch.jobs",
    ) -> None:
        self._tracer = trace.get_tracer(name, tracer_provider=tracer_provider)
        meter = metrics.get_meter(name, meter_provider=meter_provider)
        self._finished = meter.create_counter(
            "anabranch.jobs.finished", "{job}", "Jobs that ended"
        )
        self._retried = meter.create_counter(
            "anabranch.jobs.retried", "{attempt}", "Attempts that another one followed"
        )
        self._duration = meter.create_histogram(
            "anabranch.jobs.duration", "s", "From a job's start to its end"
        )
        self._in_flight = meter.create_up_down_counter(
            "anabranch.jobs.in_flight", "{job}", "Jobs started and not ended"
        )
        self._throttled = meter.create_histogram(
            "anabranch.jobs.throttled", "s", "How long a limit held a job back"
        )
        # Several, where runs at the same time have jobs of the same label. Which one is
        # meant, its context knows.
        self._jobs: dict[object, list[_Job]] = {}
        self._key = context.create_key("anabranch.job")
        self._runs = 0

    def begun(self, total: int | None) -> None:
        self._runs += 1

    def started(self, label: object) -> None:
        span = self._tracer.start_span(
            "job", attributes={"anabranch.job.label": _attribute(label)}
        )
        job = _Job(span, perf_counter())
        current = context.set_value(self._key, job, trace.set_span_in_context(span))
        job.token = context.attach(current)
        self._jobs.setdefault(label, []).append(job)
        self._in_flight.add(1)

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        self._retried.add(1)
        if job := self._find(label):
            job.attempts = attempt + 1
            job.span.add_event(
                "retried",
                {
                    "anabranch.job.attempt": attempt,
                    "anabranch.job.delay_s": delay_s,
                    "exception.type": type(error).__qualname__,
                    "exception.message": str(error),
                },
            )

    def throttled(self, label: object, delay_s: float) -> None:
        self._throttled.record(delay_s)
        if job := self._find(label):
            job.span.add_event("throttled", {"anabranch.job.delay_s": delay_s})

    def finished(self, label: object, error: BaseException | None) -> None:
        job = self._find(label)
        if job is None:
            return
        self._jobs[label].remove(job)
        if not self._jobs[label]:
            del self._jobs[label]
        self._end(job, error)

    def ended(self) -> None:
        self._runs -= 1
        if self._runs > 0:
            return
        # A job that ends the program, say, is never finished.
        left = [job for jobs in self._jobs.values() for job in jobs]
        self._jobs.clear()
        for job in reversed(left):
            self._end(job, CancelledError())

    def _find(self, label: object) -> _Job | None:
        """The job of that label; of several, the one in whose context this is."""
        jobs = self._jobs.get(label, [])
        here = context.get_value(self._key)
        return next((job for job in jobs if job is here), jobs[-1] if jobs else None)

    def _end(self, job: _Job, error: BaseException | None) -> None:
        # While its span is the current one, so that a backend can link both.
        outcome = _outcome(error)
        self._in_flight.add(-1)
        self._finished.add(1, outcome)
        self._duration.record(perf_counter() - job.began, outcome)
        span = job.span
        span.set_attribute("anabranch.job.attempts", job.attempts)
        if outcome is CANCELLED:
            span.set_attribute("anabranch.job.cancelled", True)
        elif error is not None:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        span.end()
        # A source that goes through a pipeline ends in another context than its first.
        if job.token is not None and context.get_value(self._key) is job:
            context.detach(job.token)


def _outcome(error: BaseException | None) -> dict[str, str]:
    if error is None:
        return OK
    return CANCELLED if isinstance(error, CancelledError) else ERROR


def _attribute(label: Any) -> str | int:
    """A label as OpenTelemetry can carry it."""
    return label if isinstance(label, int) else str(label)
