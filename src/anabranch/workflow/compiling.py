"""From a class with marked methods to a plan: once, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from anabranch.errors import WorkflowConfigurationError, WorkflowValidationError
from anabranch.workflow.decorators import StepConfig
from anabranch.workflow.events import Event, StartEvent, StepFailedEvent, StopEvent
from anabranch.workflow.plan import Plan, StepPlan, listed


def start_of(configs: Mapping[str, StepConfig], workflow: str) -> type[StartEvent]:
    """The one type of event that begins a run.

    Raises:
        WorkflowConfigurationError: There is none, or several.
    """
    if not configs:
        raise WorkflowConfigurationError(
            f"workflow {workflow} has no steps: mark its methods with @step, or functions "
            f"with @step(workflow={workflow})"
        )
    found = _takers(configs, StartEvent)
    if not found:
        raise WorkflowConfigurationError(
            f"no step of workflow {workflow} takes a StartEvent: annotate the first step's "
            "event with StartEvent, or with a subclass of it"
        )
    if len(found) > 1:
        said = "; ".join(
            f"{kind.__name__} by {listed(names)}" for kind, names in found.items()
        )
        raise WorkflowConfigurationError(
            f"workflow {workflow} takes several types of start event ({said}): a run "
            "begins with one, so let these steps take the same"
        )
    return next(iter(found))


def stops_of(
    configs: Mapping[str, StepConfig], workflow: str
) -> tuple[type[StopEvent], ...]:
    """The types of events that end a run.

    Raises:
        WorkflowConfigurationError: There is none.
    """
    found = tuple(
        dict.fromkeys(
            kind
            for config in configs.values()
            for kind in (*config.signature.returns, *config.signature.fans_out)
            if issubclass(kind, StopEvent)
        )
    )
    if not found:
        raise WorkflowConfigurationError(
            f"no step of workflow {workflow} returns a StopEvent: annotate the last step "
            "with `-> StopEvent`, or with a subclass of it"
        )
    return found


def _takers(
    configs: Mapping[str, StepConfig], base: type[Any]
) -> dict[type[Any], list[str]]:
    found: dict[type[Any], list[str]] = {}
    for name, config in configs.items():
        for kind in config.signature.accepts:
            if issubclass(kind, base):
                found.setdefault(kind, []).append(name)
    return found


def compile_plan(workflow: str, configs: Mapping[str, StepConfig]) -> Plan:
    """The plan of a workflow, whether or not it holds.

    Raises:
        WorkflowValidationError: It has no start, no stop, or ambiguous handlers.
    """
    start, stops = start_of(configs, workflow), stops_of(configs, workflow)
    handlers = _handlers(configs)
    steps: dict[str, StepPlan] = {}
    for name, config in configs.items():
        signature = config.signature
        steps[name] = StepPlan(
            name=name,
            trigger=signature.trigger,
            accepts=signature.accepts,
            subclasses=config.accept_event_subclasses,
            take=signature.take,
            num_workers=config.num_workers,
            timeout=config.timeout,
            returns=signature.returns,
            fans_out=signature.fans_out,
            collectors=(),
            handler=handlers.get(name),
            recovers=config.recovers,
            max_recoveries=config.max_recoveries,
        )
    plan = Plan(workflow, steps, start, stops)
    joined = {
        name: replace(step, collectors=tuple(sorted(joins)))
        for name, joins in _joins(plan).items()
        for step in (steps[name],)
    }
    return Plan(workflow, steps | joined, start, stops)


def _handlers(configs: Mapping[str, StepConfig]) -> dict[str, str]:
    """Which handler takes a step's failures, by the step's name."""
    handlers = {name: config for name, config in configs.items() if config.recovers}
    wrong: list[str] = []
    owner: dict[str, str] = {}
    for name, config in handlers.items():
        if config.signature.accepts != (StepFailedEvent,):
            wrong.append(
                f"handler {name!r} must take a StepFailedEvent and no other event: "
                "annotate its parameter so"
            )
        for target in config.for_steps or ():
            if target not in configs:
                there = listed(name for name in configs if name not in handlers)
                wrong.append(
                    f"handler {name!r} names the step {target!r} in for_steps, which does "
                    f"not exist: there are {there}"
                )
            elif target in handlers:
                wrong.append(
                    f"handler {name!r} names {target!r} in for_steps, which is itself a "
                    "handler: what a handler raises fails the run"
                )
            elif target in owner:
                wrong.append(
                    f"step {target!r} is named by two handlers, {owner[target]!r} and "
                    f"{name!r}: its failures go to one, so take it out of the other"
                )
            else:
                owner[target] = name
    wildcards = [name for name, config in handlers.items() if config.for_steps is None]
    if len(wildcards) > 1:
        wrong.append(
            f"the handlers {listed(wildcards)} all take the failures of any step: one may, "
            "so give the others for_steps=[...]"
        )
    if wrong:
        raise WorkflowValidationError("\n".join(wrong))
    if wildcards:
        for name in configs:
            if name not in handlers:
                owner.setdefault(name, wildcards[0])
    return owner


def _joins(plan: Plan) -> dict[str, set[str]]:
    """Which steps join the lists of each step that may return one.

    A list opens a scope. What its events lead to is in the scope as well, up to the steps
    that collect: what those return is outside again. A list returned inside opens a scope
    of its own, whose collectors' events are back in the outer one.
    """
    joins = {name: set[str]() for name, step in plan.steps.items() if step.fans_out}
    # What a list within a list leads to is known after what the inner one leads to, which
    # a workflow nests no deeper than it has steps.
    for _ in range(len(plan.steps) + 1):
        found = {name: _joins_of(plan, plan.steps[name].fans_out, joins) for name in joins}
        if found == joins:
            break
        joins = found
    return joins


def _joins_of(
    plan: Plan, kinds: Iterable[type[Event]], joins: Mapping[str, set[str]]
) -> set[str]:
    found: set[str] = set()
    seen: set[type[Event]] = set()
    left = list(kinds)
    while left:
        kind = left.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for step in plan.route(kind).steps:
            if step.trigger == "collect":
                found.add(step.name)
                continue
            left += step.returns
            if step.handler is not None:
                left += plan.steps[step.handler].returns
            if step.fans_out and not joins[step.name]:
                left += step.fans_out
            for inner in joins.get(step.name, ()):
                left += plan.steps[inner].returns
    return found
