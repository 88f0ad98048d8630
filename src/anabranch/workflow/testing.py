"""Running a workflow to its end in a test, with all that it streamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anabranch.workflow.context import Context
from anabranch.workflow.events import Event, EventType, StartEvent
from anabranch.workflow.workflow import Workflow

__all__ = ["WorkflowTestResult", "WorkflowTestRunner"]


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
