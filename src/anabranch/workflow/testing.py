"""Running a workflow to its end in a test, and old histories against new code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anabranch.workflow.codec import loads
from anabranch.workflow.context import Context
from anabranch.workflow.engine import engine_of
from anabranch.workflow.events import Event, EventType, StartEvent
from anabranch.workflow.history import Reading, history_of
from anabranch.workflow.standing import standing
from anabranch.workflow.stores.protocol import Status
from anabranch.workflow.versions import Shape, adopt, differences, migrate, migration_of
from anabranch.workflow.workflow import Workflow

__all__ = ["Replayed", "WorkflowTestResult", "WorkflowTestRunner", "replay"]


@dataclass(frozen=True, slots=True)
class WorkflowTestResult:
    """What a run did.

    Attributes:
        collected: The events of its stream, in order.
        event_types: How many of each type.
        result: What it gave.
        ctx: Its context.
    """

    collected: list[Event]
    event_types: dict[EventType, int]
    result: Any
    ctx: Context[Any]


class WorkflowTestRunner:
    """Runs one workflow."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    async def run(
        self,
        start_event: StartEvent | None = None,
        ctx: Context[Any] | None = None,
        expose_internal: bool = True,
        exclude_events: Sequence[EventType] | None = None,
    ) -> WorkflowTestResult:
        """Run it to its end.

        Args:
            start_event: What the run begins with; default one without fields.
            ctx: A context that carries state.
            expose_internal: Whether to collect internal events as well.
            exclude_events: Types that are not collected.

        Raises:
            Exception: What the run raised.
        """
        handler = self._workflow.run(ctx=ctx, start_event=start_event)
        excluded = tuple(exclude_events or ())
        collected = [
            event
            async for event in handler.stream_events(expose_internal=expose_internal)
            if type(event) not in excluded
        ]
        result = await handler
        counts = Counter(type(event) for event in collected)
        return WorkflowTestResult(collected, dict(counts), result, handler.ctx)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a history with the code as it is.

    Attributes:
        status: How the run stands at its end.
        steps: The executions that have ended, by their step.
        under_way: The steps that would begin anew, or go on waiting.
        differences: What is different between the graph that the history ends with and the
            workflow's, as parts of a sentence.
        state: The state that steps share.
    """

    status: Status
    steps: dict[str, int]
    under_way: list[str]
    differences: list[str]
    state: Any


def replay(history: str, workflow: Workflow) -> Replayed:
    """Take a run up from its history with this workflow, as far as nothing is run.

    Keep the histories of real runs beside the tests, and a change that they could not go on
    with is found before it is deployed.

    Args:
        history: What :meth:`Runs.export <anabranch.workflow.Runs.export>` gave.
        workflow: With its ``version`` and ``migrations``, as it would be deployed.

    Raises:
        VersionMismatch: The run could not go on; the sentence says what differs.
        ContextSerdeError: It holds an event or a value that cannot be read any more.
        JournalError: It is no history.
    """
    read = history_of(history)
    engine = engine_of(workflow)
    name, run_id, codec = engine.name, read.info.run_id, engine.codec
    shape = Shape.read(loads(read.info.shape))
    reading = Reading(codec, workflow=name, run_id=run_id, shape=shape)
    if read.snapshot is not None:
        reading.go_to(read.snapshot)
    steps = Counter[str]()
    for entry in reading.read(read.facts):
        if entry.kind == "Returned" and entry.step is not None:
            steps[entry.step] += 1
    old, state = reading.shape, reading.machine.state
    if state.outcome is None:
        versions = engine.settings.versions
        migration = migration_of(old, engine.shape, versions, workflow=name, run_id=run_id)
        if migration is None:
            adopt(state, engine.plan, workflow=name)
        else:
            migrate(state, migration, engine.plan, workflow=name)
    return Replayed(
        status=standing(state).status,
        steps=dict(steps),
        under_way=sorted(e.step for e in state.executions.values()),
        differences=differences(old, engine.shape),
        state=state.store,
    )
