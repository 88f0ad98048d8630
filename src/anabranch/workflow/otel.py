"""Runs and steps as OpenTelemetry sees them: a span each."""

from __future__ import annotations

from typing import Any

from anabranch.observe import Observer
from anabranch.workflow.labels import RunLabel, StepLabel

try:
    from opentelemetry import context, trace
    from opentelemetry.trace import Span, StatusCode, TracerProvider
except ModuleNotFoundError as error:
    raise ImportError(
        "OpenTelemetryObserver needs opentelemetry-api: pip install 'anabranch[otel]'"
    ) from error

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver(Observer):
    """Makes a span of every run and, within it, of every execution of a step.

    Pass it as ``Workflow(observer=...)``. A run's span has the workflow's name and is a
    child of the span that is current where the run begins. A step's is called
    ``workflow.step``, is a child of the run's, and is the current one while the step's code
    runs: spans made there, and the runs of workflows that it uses, are its children. It
    spans all attempts; each retry is an event ``retried`` on it. An error is recorded on
    its span and sets the status; so does that which ended the run on the run's.

    One object may watch any number of workflows and runs at once.

    Args:
        tracer_provider: Makes the spans; the global one by default.
        name: The instrumentation scope.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        name: str = "anabranch.workflow",
    ) -> None:
        self._tracer = trace.get_tracer(name, tracer_provider=tracer_provider)
        self._spans: dict[RunLabel | StepLabel, Span] = {}

    def started(self, label: object) -> None:
        span: Span | None
        match label:
            case RunLabel(run_id, workflow):
                span = self._tracer.start_span(
                    workflow, attributes={"anabranch.workflow.run_id": run_id}
                )
                self._spans[label] = span
            case StepLabel():
                span = self._spans.get(label) or self._step(label)
            case _:
                return
        # Called where the step's code will run, and nowhere else sees this context.
        context.attach(trace.set_span_in_context(span))

    def _step(self, label: StepLabel) -> Span:
        run = self._spans.get(RunLabel(label.run_id, label.workflow))
        attributes: dict[str, Any] = {
            "anabranch.workflow.run_id": label.run_id,
            "anabranch.workflow.step": label.step,
            "anabranch.workflow.execution": label.execution,
        }
        span = self._tracer.start_span(
            f"{label.workflow}.{label.step}",
            context=None if run is None else trace.set_span_in_context(run),
            attributes=attributes,
        )
        self._spans[label] = span
        return span

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        if isinstance(label, StepLabel) and (span := self._spans.get(label)):
            span.add_event(
                "retried",
                {
                    "anabranch.workflow.attempt": attempt,
                    "anabranch.workflow.delay_s": delay_s,
                    "exception.type": type(error).__qualname__,
                    "exception.message": str(error),
                },
            )

    def finished(self, label: object, error: BaseException | None) -> None:
        if not isinstance(label, RunLabel | StepLabel):
            return
        span = self._spans.pop(label, None)
        if span is None:
            return
        if error is not None:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        if isinstance(label, RunLabel):
            # Steps that were under way when the run ended are never finished.
            for key in [key for key in self._spans if key[0] == label.run_id]:
                left = self._spans.pop(key)
                left.set_attribute("anabranch.workflow.cancelled", True)
                left.end()
        span.end()
