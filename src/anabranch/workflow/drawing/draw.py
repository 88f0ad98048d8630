"""Drawing workflows and runs, into files."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from anabranch.errors import UsageError
from anabranch.workflow.drawing.flows import (
    Drawable,
    flows,
    names_to_kinds,
    short_name,
)
from anabranch.workflow.drawing.graph import Graph
from anabranch.workflow.drawing.html import Section, page
from anabranch.workflow.drawing.mermaid import mermaid
from anabranch.workflow.drawing.record import Attempt, Ongoing, RunRecord, StepFacts
from anabranch.workflow.drawing.runs import run_graph, summary
from anabranch.workflow.drawing.svg import document, picture
from anabranch.workflow.drawing.timeline import timeline
from anabranch.workflow.engine import engine_of
from anabranch.workflow.handler import WorkflowHandler, run_of
from anabranch.workflow.marks import IsWorkflow

if TYPE_CHECKING:
    from anabranch.workflow.run import Run
    from anabranch.workflow.state import Execution
    from anabranch.workflow.workflow import Workflow

_ENDINGS: Final = ".html, .svg, .mmd or .md"
_STATES: Final[dict[str, Literal["running", "waiting", "queued", "retrying"]]] = {
    "running": "running",
    "waiting": "waiting",
    "woken": "waiting",
    "queued": "queued",
    "backoff": "retrying",
}


def draw_all_possible_flows(
    workflow: Workflow | Drawable,
    filename: str | PathLike[str] = "workflow_all_flows.html",
    *,
    max_label_length: int | None = None,
) -> Path:
    """Draw all that a workflow may do: its steps, and what they take, give and need.

    Args:
        workflow: A :class:`~anabranch.workflow.Workflow`.
        filename: Where to; its ending says how: ``.html`` is a page to look around in,
            ``.svg`` a picture, ``.mmd`` Mermaid text and ``.md`` the same for Markdown.
        max_label_length: The most characters of a name that are shown.

    Returns:
        The path of the file.

    Raises:
        UsageError: The name has another ending.
        WorkflowValidationError: A step asks for a workflow that nobody has added.
    """
    return _write(
        filename,
        {
            "html": lambda: _flows_page(workflow, max_label_length),
            "svg": lambda: draw_all_possible_flows_svg(workflow, None, max_label_length),
            "mmd": lambda: draw_all_possible_flows_mermaid(
                workflow, None, max_label_length
            ),
        },
    )


def draw_all_possible_flows_mermaid(
    workflow: Workflow | Drawable,
    filename: str | PathLike[str] | None = None,
    max_label_length: int | None = None,
) -> str:
    """All that a workflow may do, as Mermaid text; with a name, also in a file."""
    text = mermaid(_flows(_behind(workflow)), max_label_length=_checked(max_label_length))
    return _kept(text, filename)


def draw_all_possible_flows_svg(
    workflow: Workflow | Drawable,
    filename: str | PathLike[str] | None = None,
    max_label_length: int | None = None,
) -> str:
    """All that a workflow may do, as SVG text; with a name, also in a file."""
    graph = _flows(_behind(workflow))
    drawn = picture(graph, max_label_length=_checked(max_label_length))
    return _kept(document(graph.title, drawn), filename)


def draw_most_recent_execution(
    handler: WorkflowHandler,
    filename: str | PathLike[str] = "workflow_recent_execution.html",
    *,
    max_label_length: int | None = None,
) -> Path:
    """Draw what a run has done so far: which steps, how long, what failed.

    Executions of one step that the same executions led to are drawn as one, with their
    number and their times. A page and a picture also show the time of the run, a lane a
    step.

    Args:
        handler: The run; it may be under way.
        filename: As for :func:`draw_all_possible_flows`.
        max_label_length: The most characters of a name that are shown.

    Returns:
        The path of the file.

    Raises:
        UsageError: The name has another ending.
    """
    return _write(
        filename,
        {
            "html": lambda: _run_page(handler, max_label_length),
            "svg": lambda: draw_most_recent_execution_svg(handler, None, max_label_length),
            "mmd": lambda: draw_most_recent_execution_mermaid(
                handler, None, max_label_length
            ),
        },
    )


def draw_most_recent_execution_mermaid(
    handler: WorkflowHandler,
    filename: str | PathLike[str] | None = None,
    max_label_length: int | None = None,
) -> str:
    """What a run has done so far, as Mermaid text; with a name, also in a file."""
    graph = run_graph(_record(run_of(handler)))
    return _kept(mermaid(graph, max_label_length=_checked(max_label_length)), filename)


def draw_most_recent_execution_svg(
    handler: WorkflowHandler,
    filename: str | PathLike[str] | None = None,
    max_label_length: int | None = None,
) -> str:
    """What a run has done so far, as SVG text; with a name, also in a file."""
    most = _checked(max_label_length)
    record = _record(run_of(handler))
    drawn = picture(run_graph(record), max_label_length=most)
    said = ", ".join(
        value if name == "outcome" else f"{name} {value}"
        for name, value in summary(record)
        if name in ("outcome", "time")
    )
    title = f"{record.workflow}: {said}"
    return _kept(document(title, drawn, timeline(record, max_label_length=most)), filename)


# ----------------------------------------------------------------------- pages


def _flows_page(workflow: Workflow | Drawable, max_label_length: int | None) -> str:
    most = _checked(max_label_length)
    outer = _behind(workflow)
    graph = _flows(outer)
    sections = [Section("", graph)]
    seen = [outer]
    waiting = list(_nested(outer).items())
    for parameter, inner in waiting:  # grows meanwhile
        if any(inner is other for other in seen):
            continue
        seen.append(inner)
        drawn = _flows(inner)
        sections.append(Section(f"Nested workflow {parameter}: {drawn.title}", drawn))
        waiting += _nested(inner).items()
    return page(graph.title, "all possible flows", sections, max_label_length=most)


def _behind(workflow: Workflow | Drawable) -> Drawable:
    return engine_of(workflow) if isinstance(workflow, IsWorkflow) else workflow


def _flows(workflow: Drawable) -> Graph:
    return flows(workflow, _nested(workflow))


def _nested(workflow: Drawable) -> dict[str, Drawable]:
    """The workflows that its steps ask for, by parameter."""
    return {
        parameter: _behind(service)
        for call in workflow.calls.values()
        for parameter, service in call.services.items()
    }


def _run_page(handler: WorkflowHandler, max_label_length: int | None) -> str:
    most = _checked(max_label_length)
    record = _record(run_of(handler))
    return page(
        record.workflow,
        f"run {record.run_id}",
        [Section("", run_graph(record))],
        facts=summary(record),
        time=timeline(record, max_label_length=most),
        max_label_length=most,
    )


# ------------------------------------------------------------------------ runs


def _record(run: Run) -> RunRecord:
    """What is known of a run at this moment."""
    plan, state, outcome = run.machine.plan, run.machine.state, run.outcome
    attempts = tuple(Attempt(*traced) for traced in run.trace)
    ended_at = {attempt.execution: attempt.ended_at for attempt in attempts}
    is_over = outcome is not None
    return RunRecord(
        run_id=run.id,
        workflow=short_name(plan.workflow),
        began_at=state.began_at,
        now=max(state.now, *ended_at.values(), 0) if is_over else run.now(),
        end=outcome.end if outcome else None,
        error=f"{type(outcome.error).__name__}: {outcome.error}"
        if outcome and outcome.error
        else None,
        last_event=type(outcome.event).__name__ if outcome else None,
        attempts=attempts,
        # One that has ended without a result keeps what was under way.
        ongoing=()
        if is_over
        else tuple(_ongoing(e, ended_at.get(e.id)) for e in state.executions.values()),
        steps={
            name: StepFacts(
                step.trigger,
                step.recovers,
                frozenset(kind.__name__ for kind in step.fans_out),
            )
            for name, step in plan.steps.items()
        },
        kinds=dict(names_to_kinds(plan)),
        is_cut=run.forgotten > 0,
    )


def _ongoing(execution: Execution, last_ended_at: float | None) -> Ongoing:
    began_at = execution.began_at
    if last_ended_at is not None and began_at is not None:
        began_at = max(began_at, last_ended_at)
    return Ongoing(
        execution.id,
        execution.cause,
        execution.step,
        _STATES[execution.status],
        execution.attempt,
        tuple(dict.fromkeys(type(event).__name__ for event in execution.events)),
        began_at,
    )


# ----------------------------------------------------------------------- files


def _checked(max_label_length: int | None) -> int | None:
    if max_label_length is not None and max_label_length < 1:
        raise UsageError(
            f"max_label_length must be at least 1, or None, not {max_label_length!r}"
        )
    return max_label_length


def _write(filename: str | PathLike[str], forms: dict[str, Callable[[], str]]) -> Path:
    path = Path(filename)
    match path.suffix.lower():
        case ".html" | ".htm":
            text = forms["html"]()
        case ".svg":
            text = forms["svg"]()
        case ".mmd" | ".mermaid":
            text = forms["mmd"]()
        case ".md":
            text = f"```mermaid\n{forms['mmd']()}```\n"
        case _:
            raise UsageError(
                f"{path}: a drawing's file must end in {_ENDINGS}, which says how"
            )
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _kept(text: str, filename: str | PathLike[str] | None) -> str:
    if filename is not None:
        Path(filename).write_text(text, encoding="utf-8", newline="\n")
    return text
