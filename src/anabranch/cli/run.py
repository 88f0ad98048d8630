"""``anabranch run``: a run of a workflow, kept in a store, driven here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal

from anabranch.cli import _fields, _places, _targets
from anabranch.cli._help import Command, positive_seconds
from anabranch.cli._terminal import counted, say
from anabranch.errors import StreamOverrun

if TYPE_CHECKING:
    from anabranch.cli._targets import Target
    from anabranch.workflow import RunInfo, Runs, StartEvent, Workflow, WorkflowHandler

_EXAMPLE = f"""\
examples:
  anabranch run flow:Invoice --durable runs.db customer=7
  anabranch run flows/invoice.py:Invoice --durable runs.db --id invoice-7 customer=7

Killed at any moment and started again with the same --id, the run goes on where its
journal ends; if it is over, its result is printed again. Ctrl-C lets go of it: it
goes on when somebody takes it up. What it streams is shown on standard error as it
comes, its result on standard output: a text as it is, anything else as JSON. With
--json it is one object: run_id, workflow, status, and result or error.

Where a run waits for a person, the command that answers it is shown; type it in
another terminal. To have runs driven by other processes: anabranch worker, and
anabranch runs start.

{_targets.HELP}

{_fields.EVENT_HELP}

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="MODULE:NAME", help="the workflow")
    _fields.add_fields(parser, "a field of the start event")
    _places.add_durable(parser)
    parser.add_argument("--id", metavar="ID", help="the run's name (default: a new one)")
    parser.add_argument(
        "--timeout",
        type=_timeout,
        default=argparse.SUPPRESS,  # None is a time-out too
        metavar="S",
        help="seconds that a new run may take, or none for no limit (default: what the "
        "workflow says, which is 45 s if it says nothing)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="also show each step as it begins and ends"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def _timeout(text: str) -> float | None:
    return None if text.lower() == "none" else positive_seconds(text)


def run(args: argparse.Namespace) -> int:
    typed = _fields.pairs(args.fields)
    target = _targets.load(args.target)
    timeout: float | Literal["own"] | None = getattr(args, "timeout", "own")
    workflow, store = _targets.workflow_at(target, args, timeout=timeout)

    from anabranch.cli._showing import watch
    from anabranch.jobs import asyncio_run
    from anabranch.workflow import Runs

    if args.watch:
        watch(workflow)

    async def driven() -> int:
        async with _places.closing(store):
            return await _drive(args, target, workflow, Runs(store, workflow), typed)

    return asyncio_run(driven())


async def _drive(
    args: argparse.Namespace,
    target: Target,
    workflow: Workflow,
    runs: Runs,
    typed: dict[str, str],
) -> int:
    import asyncio
    import traceback

    from anabranch.cli import _showing
    from anabranch.workflow.context.context import new_run_id
    from anabranch.workflow.stores import FINAL

    run_id: str = args.id or new_run_id()
    info = await runs.store.info(run_id)
    start = _start(workflow, info, typed)
    say(f"anabranch: run {run_id} of {workflow.workflow_name} {_how(info, typed)}")
    handler = workflow.run(start_event=start, run_id=run_id)
    watching = _Watching(handler, runs, args, target, workflow)
    watching.asked = info is not None and info.status == "waiting"
    showing = asyncio.create_task(watching.show())
    try:
        value = await handler
    except asyncio.CancelledError:
        if await runs.store.info(run_id) is not None:
            _showing.say_how_to_resume(run_id, target, args)
        raise
    except Exception as error:
        ended = await runs.store.info(run_id)
        if ended is None or ended.status not in FINAL:
            raise  # it could not be driven
        if args.debug:
            traceback.print_exception(error)
        await showing
        return _showing.show_end(ended, args, target)
    finally:
        await showing
    return _showing.show_result(await runs.get(run_id), value, as_json=args.json)


def _start(workflow: Workflow, info: RunInfo | None, typed: dict[str, str]) -> StartEvent:
    """What a run begins with; of one that is there already, nothing looks at it."""
    kind = workflow.start_event_class
    if info is None:
        return _fields.event_of(kind, typed)
    _targets.check_workflow(info, workflow)
    return kind.model_construct()


def _how(info: RunInfo | None, typed: dict[str, str]) -> str:
    from anabranch.cli._showing import driver_of
    from anabranch.workflow.stores import FINAL

    if info is None:
        return "begins"
    if info.status in FINAL:
        said = f"is over: {info.status}"
    elif driver := driver_of(info):
        said = f"was driven by {driver}, and is taken over"
    else:
        said = f"goes on: {info.note or info.status}"
    if typed:
        said += f" ({counted(len(typed), 'field')} left out: it has begun)"
    return said


class _Watching:
    """Shows what a run streams, and once it waits for somebody, what to do.

    Attributes:
        asked: Whether it has asked for something, and nobody was told how to answer.
    """

    def __init__(
        self,
        handler: WorkflowHandler,
        runs: Runs,
        args: argparse.Namespace,
        target: Target,
        workflow: Workflow,
    ) -> None:
        self._handler = handler
        self._runs = runs
        self._args = args
        self._target = target
        self._workflow = workflow
        self.asked = False

    async def show(self) -> None:
        events = self._handler.stream_events(expose_internal=True)
        if self.asked:
            await self._tell()
        while True:
            try:
                async for event in events:
                    await self._take(event)
                return
            except StreamOverrun as error:
                say(f"anabranch: {error}")

    async def _take(self, event: Any) -> None:
        from anabranch.cli._showing import show_event
        from anabranch.workflow import (
            InputRequiredEvent,
            InternalDispatchEvent,
            WorkflowIdleEvent,
        )

        if isinstance(event, WorkflowIdleEvent) and self.asked:
            await self._tell()
        if isinstance(event, InternalDispatchEvent):
            return
        self.asked = self.asked or isinstance(event, InputRequiredEvent)
        show_event(event)

    async def _tell(self) -> None:
        from anabranch.cli._showing import say_how_to_answer

        self.asked = False
        await say_how_to_answer(
            self._runs,
            self._handler.run_id,
            self._args,
            workflow=self._workflow,
            target=self._target,
        )


COMMAND = Command(
    name="run",
    summary="drive a run of a workflow that outlives this process, and print its result",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
