"""What a workflow is to its machine: steps without their functions, and ways of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from anabranch.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)

Trigger: TypeAlias = Literal["each", "join", "collect"]
"""When a step is called: for each event; when there is one event for each of its
parameters; when a fan-out has ended."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepPlan:
    """One step.

    Attributes:
        accepts: The event types it takes, in the order of its parameters.
        take: Of a collecting step, how many events are enough; ``None`` for all.
        returns: Types of single events that it may return.
        fans_out: Types of the events in a list that it may return.
        collectors: The steps that join what its list leads to.
        handler: The step that takes its failures.
        max_recoveries: Of a handler, how often it may be called in one line of events.
    """

    name: str
    trigger: Trigger
    accepts: tuple[type[Event], ...]
    subclasses: bool
    take: int | None
    num_workers: int
    timeout: float | None
    returns: tuple[type[Event], ...]
    fans_out: tuple[type[Event], ...]
    collectors: tuple[str, ...]
    handler: str | None
    recovers: bool
    max_recoveries: int

    def takes(self, kind: type) -> bool:
        """Whether an event of this type is for it."""
        if kind in self.accepts:
            return True
        return self.subclasses and issubclass(kind, self.accepts)


class Route(NamedTuple):
    """Where events of one type go.

    Attributes:
        steps: Those that take it.
        ends: Whether it ends the run.
        asks: Whether it goes to the stream, for a person.
        bases: Its type and those above it, for who waits for any of them.
    """

    steps: tuple[StepPlan, ...]
    ends: bool
    asks: bool
    bases: tuple[type, ...]


class Plan:
    """All steps of a workflow, and the way of each event.

    Attributes:
        workflow: The workflow's name.
        start: The type of the event that begins a run.
        stops: The types of events that end one.
        joining: The steps that are called with several events.
    """

    __slots__ = ("_routes", "joining", "start", "steps", "stops", "workflow")

    def __init__(
        self,
        workflow: str,
        steps: Mapping[str, StepPlan],
        start: type[StartEvent],
        stops: tuple[type[StopEvent], ...],
    ) -> None:
        self.workflow = workflow
        self.steps = steps
        self.start = start
        self.stops = stops
        self.joining = tuple(s.name for s in steps.values() if s.trigger == "join")
        self._routes: dict[type, Route] = {}

    def route(self, kind: type) -> Route:
        """Where events of this type go."""
        route = self._routes.get(kind)
        if route is None:
            ends = issubclass(kind, StopEvent)
            steps = () if ends else self.steps.values()
            route = self._routes[kind] = Route(
                tuple(step for step in steps if step.takes(kind)),
                ends,
                issubclass(kind, InputRequiredEvent),
                tuple(base for base in kind.__mro__ if issubclass(base, Event)),
            )
        return route

    def events(self) -> list[type[Event]]:
        """Every event type that a step takes or returns."""
        kinds: dict[type[Event], None] = {}
        for step in self.steps.values():
            kinds |= dict.fromkeys((*step.accepts, *step.returns, *step.fans_out))
        return list(kinds)

    @property
    def asks_people(self) -> bool:
        """Whether it uses human input."""
        return any(
            issubclass(kind, InputRequiredEvent | HumanResponseEvent)
            for kind in self.events()
        )


def listed(names: Iterable[str]) -> str:
    """Names as a sentence has them."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} and {last}" if others else last
