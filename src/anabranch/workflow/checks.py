"""Whether a workflow holds: every event has a way, and every way an end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from anabranch.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from anabranch.workflow.plan import Plan, StepPlan, listed

CHECKS: Final = ("reachability", "terminal_event", "dead_end")


def faults(
    plan: Plan, *, skipped: frozenset[str], excused: Mapping[str, set[str]]
) -> list[str]:
    """What keeps a workflow from running well, a sentence each.

    Args:
        plan: The workflow.
        skipped: Checks to leave out.
        excused: Steps to leave out, by check.
    """
    found = [*_misused(plan), *_unproduced(plan), *_uncollected(plan)]
    if "terminal_event" not in skipped:
        found += _unconsumed(plan)
    if "reachability" not in skipped:
        found += _unreachable(plan, excused["reachability"])
    if "dead_end" not in skipped:
        found += _dead_ends(plan, excused["dead_end"])
    return found


def _misused(plan: Plan) -> Iterator[str]:
    for step in plan.steps.values():
        for kind in step.accepts:
            if issubclass(kind, StopEvent):
                yield (
                    f"step {step.name!r} takes {kind.__name__}, which ends the run: let it "
                    "take another event"
                )
            if kind is StepFailedEvent and not step.recovers:
                yield (
                    f"step {step.name!r} takes StepFailedEvent, which only handlers are "
                    "given: mark it with @catch_error instead of @step"
                )


def _produced(plan: Plan) -> dict[type[Event], list[str]]:
    found: dict[type[Event], list[str]] = {}
    for step in plan.steps.values():
        for kind in dict.fromkeys((*step.returns, *step.fans_out)):
            found.setdefault(kind, []).append(step.name)
    return found


def _unproduced(plan: Plan) -> Iterator[str]:
    from_outside = (StartEvent, HumanResponseEvent, InputRequiredEvent, StepFailedEvent)
    produced = _produced(plan)
    for step in plan.steps.values():
        for kind in step.accepts:
            if issubclass(kind, (*from_outside, StopEvent)) or kind in produced:
                continue
            if step.subclasses and any(issubclass(made, kind) for made in produced):
                continue
            yield (
                f"step {step.name!r} takes {kind.__name__}, which no step produces: add it "
                "to the return annotation of the step that returns or sends it, or let it "
                "be a HumanResponseEvent if it comes from outside"
            )


def _unconsumed(plan: Plan) -> Iterator[str]:
    to_outside = (StopEvent, InputRequiredEvent, HumanResponseEvent)
    for kind, names in _produced(plan).items():
        if not issubclass(kind, to_outside) and not plan.route(kind).steps:
            yield (
                f"step {listed(names)} produces {kind.__name__}, which no step consumes: "
                "add a step that takes it, take it out of the return annotation, or write "
                "it to the stream instead"
            )


def _uncollected(plan: Plan) -> Iterator[str]:
    joined = {name for step in plan.steps.values() for name in step.collectors}
    for step in plan.steps.values():
        if step.trigger == "collect" and step.name not in joined:
            kinds = " | ".join(kind.__name__ for kind in step.accepts)
            yield (
                f"step {step.name!r} collects list[{kinds}], but no list leads there: let "
                "a step before it return a list of events, or use ctx.collect_events for "
                "events that are sent one by one"
            )


def _after(plan: Plan, step: StepPlan) -> Iterator[StepPlan]:
    for kind in (*step.returns, *step.fans_out):
        yield from plan.route(kind).steps
    if step.handler is not None:
        yield plan.steps[step.handler]


def _unreachable(plan: Plan, excused: set[str]) -> Iterator[str]:
    starts = (StartEvent, HumanResponseEvent)
    left = [
        step
        for step in plan.steps.values()
        if step.recovers or any(issubclass(kind, starts) for kind in step.accepts)
    ]
    reached: set[str] = set()
    while left:
        step = left.pop()
        if step.name not in reached:
            reached.add(step.name)
            left.extend(_after(plan, step))
    for name in plan.steps:
        if name not in reached and name not in excused:
            kinds = " or ".join(kind.__name__ for kind in plan.steps[name].accepts)
            yield (
                f"step {name!r} can never be reached: no way leads from "
                f"{plan.start.__name__} to {kinds}; let a step on the way return it, or "
                "pass skip_graph_checks=['reachability'] to its @step"
            )


def _dead_ends(plan: Plan, excused: set[str]) -> Iterator[str]:
    ends = (StopEvent, InputRequiredEvent)
    into: dict[str, list[str]] = {}
    left: list[str] = []
    for step in plan.steps.values():
        if any(issubclass(kind, ends) for kind in (*step.returns, *step.fans_out)):
            left.append(step.name)
        for later in _after(plan, step):
            into.setdefault(later.name, []).append(step.name)
    ending: set[str] = set()
    while left:
        name = left.pop()
        if name not in ending:
            ending.add(name)
            left += into.get(name, ())
    for step in plan.steps.values():
        made = (*step.returns, *step.fans_out)
        # What returns nothing ends its branch on purpose; what has no taker is told of
        # elsewhere.
        if not made or step.name in ending or step.name in excused:
            continue
        if not all(plan.route(kind).steps for kind in made):
            continue
        kinds = " | ".join(kind.__name__ for kind in made)
        yield (
            f"step {step.name!r} is a dead end: no way leads from {kinds} to a StopEvent "
            "or InputRequiredEvent; let a step behind it return one, or pass "
            "skip_graph_checks=['dead_end'] to its @step"
        )
