"""What observers and drawings are told of a run."""

from __future__ import annotations

from typing import NamedTuple

from anabranch.workflow.events import Event
from anabranch.workflow.state import Execution


class RunLabel(NamedTuple):
    """A run, to an observer."""

    run_id: str
    workflow: str

    def __str__(self) -> str:
        return f"{self.workflow} {self.run_id}"


class StepLabel(NamedTuple):
    """One execution of a step in a run, to an observer."""

    run_id: str
    workflow: str
    step: str
    execution: int

    def __str__(self) -> str:
        return f"{self.step}#{self.execution}"


class Traced(NamedTuple):
    """One attempt that has ended; times are seconds since the epoch.

    Attributes:
        execution: Which execution.
        cause: The execution whose event it was called for; 0 for one from outside.
        inputs: The types of the events that it was called with.
        outputs: The types of those that it returned.
        error: What it raised, with its type.
    """

    execution: int
    cause: int
    step: str
    attempt: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    began_at: float
    ended_at: float
    error: str | None


def traced(
    execution: Execution,
    attempt: int,
    outputs: list[Event],
    *,
    began_at: float,
    ended_at: float,
    error: BaseException | None,
) -> Traced:
    """What is remembered of an attempt."""
    return Traced(
        execution.id,
        execution.cause,
        execution.step,
        attempt,
        _names(execution.events),
        _names(outputs),
        began_at,
        ended_at,
        None if error is None else f"{type(error).__name__}: {error}",
    )


def _names(events: list[Event]) -> tuple[str, ...]:
    if len(events) == 1:
        return (type(events[0]).__name__,)
    return tuple(dict.fromkeys(type(event).__name__ for event in events))
