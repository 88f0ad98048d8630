"""What is known of a run: its attempts, gathered into executions and these into groups.

A run may have thousands of executions. Those of one step that were called by the same
execution, or by executions that are themselves in one group, form a group: a list of a
thousand events that five steps in turn work on is five groups. A loop is one group a turn,
and so shows how it went. If that makes too many, a loop's turns become one group; if that
is still too many, there is one group a step. The drawing says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from anabranch.workflow.drawing.graph import Kind

MOST_GROUPS: Final = 40

Status: TypeAlias = Literal[
    "done", "failed", "recovered", "running", "waiting", "queued", "retrying", "cut off"
]
Folding: TypeAlias = Literal["none", "loops", "steps"]


class Attempt(NamedTuple):
    """One attempt that has ended; times are seconds since the epoch.

    Attributes:
        execution: Which execution it was of.
        cause: The execution whose event that was called for; 0 for one from outside.
        inputs: The names of the types of its events, each once.
        outputs: Those of what it returned.
    """

    execution: int
    cause: int
    step: str
    number: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    began_at: float
    ended_at: float
    error: str | None

    @property
    def is_cut_off(self) -> bool:
        """Whether it ended because the run did."""
        return self.error is not None and self.error.startswith("CancelledError")


class Ongoing(NamedTuple):
    """An execution that has not ended.

    Attributes:
        attempt: How many attempts have begun.
        began_at: When its present one did, as far as is known.
    """

    execution: int
    cause: int
    step: str
    status: Literal["running", "waiting", "queued", "retrying"]
    attempt: int
    inputs: tuple[str, ...]
    began_at: float | None


class StepFacts(NamedTuple):
    """What of a step's plan matters to the drawing of a run."""

    trigger: Literal["each", "join", "collect"]
    recovers: bool
    fans_out: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run, as far as it is remembered.

    Attributes:
        now: The last moment that is known of.
        end: How it ended; ``None`` while it goes on.
        last_event: The name of the type of the event that ended it.
        kinds: What each event is in a drawing, by its name.
        is_cut: Whether something that led to what is here is no longer remembered.
    """

    run_id: str
    workflow: str
    began_at: float | None
    now: float
    end: str | None
    error: str | None
    last_event: str | None
    attempts: tuple[Attempt, ...]
    ongoing: tuple[Ongoing, ...]
    steps: Mapping[str, StepFacts]
    kinds: Mapping[str, Kind]
    is_cut: bool


@dataclass(slots=True)
class Execution:
    """One call of a step, with all its attempts."""

    id: int
    cause: int
    step: str
    inputs: tuple[str, ...]
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    ongoing: Ongoing | None = None
    is_recovered: bool = False

    @property
    def status(self) -> Status:
        """What has become of it."""
        if self.ongoing is not None:
            return self.ongoing.status
        if self.attempts[-1].error is None:
            return "done"
        if self.attempts[-1].is_cut_off:
            return "cut off"
        return "recovered" if self.is_recovered else "failed"

    @property
    def retries(self) -> int:
        """How many attempts there were after the first."""
        known = len(self.attempts)
        return max(1, known, self.ongoing.attempt if self.ongoing else 0) - 1

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the types that it returned."""
        return self.attempts[-1].outputs if self.attempts else ()


OUTSIDE: Final = -1
EARLIER: Final = -2


@dataclass(slots=True)
class Group:
    """Executions of one step that are drawn as one.

    Attributes:
        causes: The groups that called it: numbers, OUTSIDE, or EARLIER for what is no
            longer remembered.
    """

    number: int
    step: str
    causes: dict[int, None] = field(default_factory=dict[int, None])
    executions: list[Execution] = field(default_factory=list[Execution])


def executions(record: RunRecord) -> list[Execution]:
    """All executions that are remembered, in the order in which they came."""
    found: dict[int, Execution] = {}
    for attempt in record.attempts:
        execution = found.get(attempt.execution)
        if execution is None:
            execution = found[attempt.execution] = Execution(
                attempt.execution, attempt.cause, attempt.step, attempt.inputs
            )
        execution.attempts.append(attempt)
    for ongoing in record.ongoing:
        execution = found.setdefault(
            ongoing.execution,
            Execution(ongoing.execution, ongoing.cause, ongoing.step, ongoing.inputs),
        )
        execution.ongoing = ongoing
    for execution in found.values():
        facts = record.steps.get(execution.step)
        if facts is not None and facts.recovers and (cause := found.get(execution.cause)):
            cause.is_recovered = True
    return sorted(found.values(), key=lambda execution: execution.id)


def groups(all_executions: list[Execution]) -> tuple[list[Group], Folding]:
    """The groups to draw, and what was put together so that there are not too many."""
    foldings: tuple[Folding, ...] = ("none", "loops")
    for folding in foldings:
        found = _grouped(all_executions, _KEYS[folding])
        if len(found) <= MOST_GROUPS:
            return found, folding
    return _grouped(all_executions, _by_step), "steps"


_Key: TypeAlias = Callable[[str, int, Mapping[int, int], list[Group]], object]


def _by_cause(step: str, cause: int, _: Mapping[int, int], __: list[Group]) -> object:
    return step, cause


def _by_loop(
    step: str, cause: int, parents: Mapping[int, int], made: list[Group]
) -> object:
    """The number of the group of this step that led here, if there is one."""
    above = cause
    while above >= 0:
        if made[above].step == step:
            return above
        above = parents[above]
    return step, cause


def _by_step(step: str, _: int, __: Mapping[int, int], ___: list[Group]) -> object:
    return step


_KEYS: Final[Mapping[Folding, _Key]] = {
    "none": _by_cause,
    "loops": _by_loop,
    "steps": _by_step,
}


def _grouped(all_executions: Iterable[Execution], key_of: _Key) -> list[Group]:
    made: list[Group] = []
    by_key: dict[object, Group] = {}
    parents: dict[int, int] = {}
    home: dict[int, int] = {}
    for execution in all_executions:
        cause = home.get(execution.cause, EARLIER) if execution.cause else OUTSIDE
        key = key_of(execution.step, cause, parents, made)
        group = made[key] if isinstance(key, int) else by_key.get(key)
        if group is None:
            group = by_key[key] = Group(len(made), execution.step)
            parents[group.number] = cause
            made.append(group)
        group.causes[cause] = None
        group.executions.append(execution)
        home[execution.id] = group.number
    return made
