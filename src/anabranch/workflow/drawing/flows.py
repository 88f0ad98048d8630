"""The drawing of all that a workflow may do, from its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from anabranch.workflow.drawing.graph import Draft, Graph, Kind, Node
from anabranch.workflow.drawing.text import counted, seconds
from anabranch.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)

if TYPE_CHECKING:
    from anabranch.workflow.plan import Plan, StepPlan

# A handler of more steps than this gets a sentence in the place of an arrow from each.
_MOST_ARROWS_TO_A_HANDLER: Final = 4
_PERSON: Final = "person"


class Descriptor(Protocol):
    """How a resource is got."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def needs(self) -> Mapping[str, Need]:
        """What its factory asks for, by parameter."""
        ...


class Need(Protocol):
    """A parameter that asks for a resource."""

    @property
    def descriptor(self) -> Descriptor:
        """How it is got."""
        ...

    @property
    def type(self) -> Any:
        """What the parameter is annotated with."""
        ...


class Call(Protocol):
    """How a step is called, as far as it is drawn."""

    @property
    def function(self) -> Callable[..., Any]:
        """The step."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        ...

    @property
    def retry_policy(self) -> object:
        """When it is tried again; ``None`` for never."""
        ...

    @property
    def resources(self) -> Mapping[str, Need]:
        """What it asks for, by parameter."""
        ...

    @property
    def services(self) -> Mapping[str, Any]:
        """The workflows that it is given, by parameter."""
        ...


class Drawable(Protocol):
    """What is behind a workflow, as far as it is drawn."""

    @property
    def plan(self) -> Plan:
        """The steps, and the way of each event."""
        ...

    @property
    def calls(self) -> Mapping[str, Call]:
        """How each step is called."""
        ...


def flows(workflow: Drawable, nested: Mapping[str, Drawable]) -> Graph:
    """The graph of a workflow: its steps, and what they take, give and need.

    Args:
        workflow: What to draw.
        nested: The workflows that its steps ask for, by parameter.
    """
    plan, calls = workflow.plan, workflow.calls
    draft = Draft(short_name(plan.workflow))
    kinds = _kinds(plan)
    draft.add(_event(plan.start, plan))
    for name, step in plan.steps.items():
        draft.add(_step(step, calls.get(name)))
        for kind in kinds:
            _join_event(draft, plan, step, kind)
    _join_failures(draft, plan)
    for name in plan.steps:
        if (call := calls.get(name)) is not None:
            _join_needs(draft, name, call, nested)
    _join_person(draft)
    return draft.graph()


def short_name(workflow: str) -> str:
    """A workflow's name without its module and without the function it stands in."""
    return workflow.rpartition("<locals>.")[2].rpartition(".")[2] or workflow


def event_kind(kind: type[Event], plan: Plan) -> Kind:
    """What an event of this type is in a drawing."""
    found: Kind = "event"
    if issubclass(kind, StopEvent):
        found = "stop"
    elif issubclass(kind, StartEvent) or kind is plan.start:
        found = "start"
    elif issubclass(kind, StepFailedEvent):
        found = "failure"
    elif issubclass(kind, InputRequiredEvent):
        found = "ask"
    elif issubclass(kind, HumanResponseEvent):
        found = "answer"
    return found


def _kinds(plan: Plan) -> list[type[Event]]:
    """The event types to draw: not the base that stands for its subclasses."""
    made = {
        kind for step in plan.steps.values() for kind in (*step.returns, *step.fans_out)
    }
    kinds: list[type[Event]] = []
    for kind in plan.events():
        stands_for = any(other is not kind and issubclass(other, kind) for other in made)
        outside = issubclass(kind, StartEvent | HumanResponseEvent) or kind is plan.start
        if kind in made or outside or not stands_for:
            kinds.append(kind)
    return [kind for kind in kinds if not issubclass(kind, StepFailedEvent)]


def _event(kind: type[Event], plan: Plan) -> Node:
    fields = ", ".join(kind.model_fields)
    details = [("type", f"{kind.__module__}.{kind.__qualname__}")]
    if fields:
        details.append(("fields", fields))
    return Node(
        id=f"event_{kind.__name__}_{_nth(kind, plan)}",
        kind=event_kind(kind, plan),
        label=kind.__name__,
        details=tuple(details),
    )


def _nth(kind: type[Event], plan: Plan) -> int:
    """Tells event types of one name apart."""
    same = [other for other in plan.events() if other.__name__ == kind.__name__]
    return same.index(kind) if kind in same else len(same)


def _step(step: StepPlan, call: Call | None) -> Node:
    notes = ["retries"] if call is not None and call.retry_policy is not None else []
    if step.timeout is not None:
        notes.append(f"within {seconds(step.timeout)}")
    return Node(
        id=f"step_{step.name}",
        kind="handler" if step.recovers else "step",
        label=step.name,
        notes=(" · ".join(notes),) if notes else (),
        details=(*_about_call(call), *_about_plan(step)),
    )


def _about_call(call: Call | None) -> Iterator[tuple[str, str]]:
    if call is None:
        return
    if call.function.__doc__:
        yield "about", call.function.__doc__.strip().partition("\n")[0]
    if not call.is_async:
        yield "runs", "in a thread"
    if call.retry_policy is not None:
        yield "retries", "by its retry policy"


def _about_plan(step: StepPlan) -> Iterator[tuple[str, str]]:
    yield "takes", _names(step.accepts)
    if step.returns:
        yield "returns", _names(step.returns)
    if step.fans_out:
        yield "returns a list of", _names(step.fans_out)
    match step.trigger:
        case "collect":
            said = "all" if step.take is None else f"the first {step.take}"
            yield "is called", f"once for each list, with {said}"
        case "join":
            yield "is called", "when an event for each parameter has come"
        case "each":
            yield "at once", f"at most {step.num_workers}"
    if step.timeout is not None:
        yield "an attempt may take", seconds(step.timeout)
    if step.recovers:
        yield "recoveries", f"at most {step.max_recoveries} in a line of events"
    if step.handler is not None:
        yield "failures go to", step.handler


def _names(kinds: tuple[type[Event], ...]) -> str:
    return " | ".join(kind.__name__ for kind in kinds)


def _join_event(draft: Draft, plan: Plan, step: StepPlan, kind: type[Event]) -> None:
    node = f"step_{step.name}"
    if not issubclass(kind, StopEvent) and step.takes(kind):
        match step.trigger:
            case "collect":
                label = "collect" if step.take is None else f"take {step.take}"
            case "join":
                label = "join"
            case "each":
                label = ""
        draft.join(draft.add(_event(kind, plan)), node, label)
    if kind in step.returns:
        draft.join(node, draft.add(_event(kind, plan)))
    if kind in step.fans_out:
        draft.join(node, draft.add(_event(kind, plan)), "list")


def _join_failures(draft: Draft, plan: Plan) -> None:
    for handler in (step for step in plan.steps.values() if step.recovers):
        steps = [step.name for step in plan.steps.values() if step.handler == handler.name]
        many = len(steps) > _MOST_ARROWS_TO_A_HANDLER
        node = draft.add(
            Node(
                id=f"failures_{handler.name}",
                kind="failure",
                label="StepFailedEvent",
                notes=(f"from any of {counted(len(steps), 'step', 'steps')}",)
                if many
                else (),
                details=(("failures of", ", ".join(steps)),),
            )
        )
        draft.join(node, f"step_{handler.name}", kind="failure")
        for name in () if many else steps:
            draft.join(f"step_{name}", node, "fails", "failure")


def _join_needs(
    draft: Draft, name: str, call: Call, nested: Mapping[str, Drawable]
) -> None:
    for parameter, need in call.resources.items():
        draft.join(_resource(draft, need, ()), f"step_{name}", parameter, "need")
    for parameter in call.services:
        inner = nested[parameter].plan
        node = Node(
            id=f"workflow_{parameter}",
            kind="workflow",
            label=short_name(inner.workflow),
            notes=("nested workflow",),
            details=(("parameter", parameter), ("its steps", ", ".join(inner.steps))),
        )
        draft.join(draft.add(node), f"step_{name}", parameter, "need")


def _resource(draft: Draft, need: Need, above: tuple[object, ...]) -> str:
    descriptor = need.descriptor
    name = descriptor.name
    kind: Kind = "config" if hasattr(descriptor, "config_file") else "resource"
    shown = getattr(need.type, "__name__", str(need.type))
    details = [("type", shown)]
    for words, attribute in (
        ("file", "config_file"),
        ("part", "path_selector"),
        ("about", "description"),
    ):
        if (value := getattr(descriptor, attribute, None)) is not None:
            details.append((words, str(value)))
    if kind == "resource":
        shared = getattr(descriptor, "cache", True)
        details.append(("shared", "by all steps" if shared else "no: one an execution"))
        label = name.rpartition("<locals>.")[2]
    else:
        label = name
    node = draft.add(
        Node(id=f"{kind}_{name}", kind=kind, label=label, details=tuple(details))
    )
    if descriptor not in above:  # those that need each other in a circle are drawn as well
        for parameter, inner in descriptor.needs().items():
            draft.join(
                _resource(draft, inner, (*above, descriptor)), node, parameter, "need"
            )
    return node


def _join_person(draft: Draft) -> None:
    """What asks goes to a person, from whom the answers come."""
    nodes = list(draft.graph().nodes)
    asks = [node.id for node in nodes if node.kind == "ask"]
    answers = [node.id for node in nodes if node.kind == "answer"]
    if not asks and not answers:
        return
    draft.add(Node(id=_PERSON, kind="person", label="outside"))
    for node in asks:
        draft.join(node, _PERSON, kind="person")
    for node in answers:
        draft.join(_PERSON, node, kind="person")


def names_to_kinds(plan: Plan) -> Iterator[tuple[str, Kind]]:
    """What each event of a plan is in a drawing, by its name."""
    for kind in (plan.start, *plan.events(), *plan.stops):
        yield kind.__name__, event_kind(kind, plan)
