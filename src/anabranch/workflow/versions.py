"""Whether a run that older code has begun can go on with the code as it is.

A run is stored with its workflow's name, what that said of its version, and its plan as
data: which step takes and gives what. Its journal is read with the plan that wrote it, and
the run then goes on with the present one. Bodies of steps, their options and numbers of
workers may change freely. If the graph has changed, the run goes on only if somebody has
said that it can: the workflow has the same ``version`` as before, or a :class:`Migration`
from that one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from anabranch.errors import ContextSerdeError, VersionMismatch
from anabranch.workflow.codec import Codec
from anabranch.workflow.plan import Plan, StepPlan, listed
from anabranch.workflow.state import Lane, RunState

# What does not change where events go.
_FREE: Final = frozenset({"num_workers", "timeout"})
_USUAL: Final[Mapping[str, Any]] = {
    "trigger": "each",
    "subclasses": False,
    "take": None,
    "num_workers": 4,
    "timeout": None,
    "fans_out": (),
    "collectors": (),
    "handler": None,
    "recovers": False,
    "max_recoveries": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """How runs of an older version go on with this one.

    Args:
        steps: New names of steps, by the old ones.
        state: Makes the shared state of the older version into one of this: called with
            the model, returns one. The old model's class must still be there.
    """

    steps: Mapping[str, str] = field(default_factory=dict[str, str])
    state: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """What a workflow says of its version.

    Attributes:
        current: The version; empty if nothing was said.
        migrations: By the version that they come from.
    """

    current: str = ""
    migrations: Mapping[str, Migration] = field(default_factory=dict[str, Migration])


@dataclass(frozen=True, slots=True)
class Shape:
    """A workflow at some time.

    Attributes:
        version: What it said of its version.
        plan: Its plan as data.
    """

    version: str
    plan: dict[str, Any]

    def written(self) -> dict[str, Any]:
        """As data."""
        return {"version": self.version, "plan": self.plan}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Shape:
        """From its data."""
        return cls(plain["version"], plain["plan"])


def shape_of(plan: Plan, versions: Versions, codec: Codec) -> Shape:
    """A workflow as it is."""
    return Shape(
        versions.current,
        {
            "start": codec.frame.to_plain(plan.start),
            "stops": codec.frame.to_plain(list(plan.stops)),
            "steps": {name: _written(step, codec) for name, step in plan.steps.items()},
        },
    )


def _written(step: StepPlan, codec: Codec) -> dict[str, Any]:
    """A step without what most steps have."""
    held = {f.name: getattr(step, f.name) for f in fields(step)}
    return {
        part: codec.frame.to_plain(value)
        for part, value in held.items()
        if part != "name" and value != _USUAL.get(part, ...)
    }


def plan_of(shape: Shape, codec: Codec, *, workflow: str, run_id: str) -> Plan:
    """The plan that wrote a journal.

    Raises:
        VersionMismatch: It has events that are there no more.
    """
    plain = shape.plan
    try:
        steps = {
            name: StepPlan(
                **{
                    "name": name,
                    **_USUAL,
                    **{part: codec.frame.from_plain(v) for part, v in held.items()},
                }
            )
            for name, held in plain["steps"].items()
        }
        stops = tuple(codec.frame.from_plain(plain["stops"]))
        return Plan(workflow, steps, codec.frame.from_plain(plain["start"]), stops)
    except (ContextSerdeError, LookupError, TypeError) as error:
        raise VersionMismatch(
            f"run {run_id!r} of workflow {workflow} was begun by code that cannot be read "
            f"any more ({error}): finish it with that code, or keep the events it has",
            run_id=run_id,
        ) from error


def differences(old: Shape, new: Shape) -> list[str]:
    """What is different between two graphs, as parts of a sentence."""
    before, now = old.plan["steps"], new.plan["steps"]
    gone = [f"step {name!r} is gone" for name in before if name not in now]
    added = [f"step {name!r} is new" for name in now if name not in before]
    changed = [
        f"step {name!r} had {part} {_said(before[name].get(part))} and has "
        f"{_said(held.get(part))}"
        for name, held in now.items()
        if name in before
        for part in {**before[name], **held}
        if part not in _FREE and held.get(part) != before[name].get(part)
    ]
    return [*gone, *added, *changed]


def _said(value: Any) -> str:
    match value:
        case {"v": list()}:
            return ", ".join(_said(item) for item in value["v"]) or "nothing"
        case {"t": str(name)}:
            return name.rpartition(".")[2]
        case None:
            return "nothing"
        case _:
            return json.dumps(value)


def migration_of(
    old: Shape, new: Shape, versions: Versions, *, workflow: str, run_id: str
) -> Migration | None:
    """How a run is to be migrated; ``None`` if it goes on as it is.

    Raises:
        VersionMismatch: It cannot go on.
    """
    changed = differences(old, new)
    said = "; ".join([*changed[:6], *([f"{len(changed) - 6} more"] if changed[6:] else [])])
    if old.version == new.version:
        if new.version or not changed:
            return None
        raise VersionMismatch(
            f"run {run_id!r} was begun when workflow {workflow} had another graph: {said}. "
            "Finish it with the code that began it; or, if it can go on with this, give "
            "the workflow a version='2' and migrations={'': Migration()}",
            run_id=run_id,
        )
    migration = versions.migrations.get(old.version)
    if migration is not None:
        return migration
    had = f"version {old.version!r}" if old.version else "no version"
    has = f"version {new.version!r}" if new.version else "none"
    known = f"from {listed(sorted(versions.migrations))}" if versions.migrations else "none"
    raise VersionMismatch(
        f"run {run_id!r} was begun by workflow {workflow} with {had}, which now has {has} "
        f"({said or 'of the same graph'}); declared migrations: {known}. Finish it with "
        f"the code that began it, or add migrations={{{old.version!r}: Migration()}}",
        run_id=run_id,
    )


def migrate(state: RunState, migration: Migration, plan: Plan, *, workflow: str) -> None:
    """Bring a state to the present names.

    Raises:
        VersionMismatch: The run is in steps that are there no more.
    """

    def new(name: str) -> str:
        return migration.steps.get(name, name)

    for execution in state.executions.values():
        execution.step = new(execution.step)
    for scope in state.scopes.values():
        scope.step = new(scope.step)
        scope.joined = {new(name): held for name, held in scope.joined.items()}
        scope.released = {new(name) for name in scope.released}
    state.lanes = {new(name): lane for name, lane in state.lanes.items()}
    state.buffers = {(new(step), name): b for (step, name), b in state.buffers.items()}
    state.joins = {(new(step), n): slots for (step, n), slots in state.joins.items()}
    if migration.state is not None:
        state.store = migration.state(state.store)
    adopt(state, plan, workflow=workflow)


def adopt(state: RunState, plan: Plan, *, workflow: str) -> None:
    """Let a state go on with this plan.

    Raises:
        VersionMismatch: The run is in steps that the plan does not have.
    """
    named = {e.step for e in state.executions.values()}
    named |= {scope.step for scope in state.scopes.values()}
    named |= {step for step, _ in (*state.buffers, *state.joins)}
    if missing := sorted(named - plan.steps.keys()):
        raise VersionMismatch(
            f"run {state.run_id!r} is in {listed(missing)}, which workflow {workflow} has "
            "no more: declare their new names with Migration(steps={'old': 'new'})",
            run_id=state.run_id,
        )
    state.lanes = {name: state.lanes.get(name) or Lane() for name in plan.steps}
    for (step, _), slots in state.joins.items():
        while len(slots) < len(plan.steps[step].accepts):
            slots.append(deque())
