"""``anabranch runs fork``: another run, from a point of one."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from anabranch.cli import _engines, _fields, _places, _targets
from anabranch.cli._help import Command, natural_int
from anabranch.cli.runs._stored import TARGET, add_json, say_if_nobody_drives, tell
from anabranch.errors import UsageError

if TYPE_CHECKING:
    from anabranch.workflow import Event, Store, Workflow


_EXAMPLE = f"""\
examples:
  anabranch runs fork invoice-7 flow:Invoice --at 12 --durable runs.db
  anabranch runs fork invoice-7 flow:Invoice --at 12 --durable runs.db \\
      --state customer.name=Ada --id invoice-7b amount=20

The new run is as the old one was just before that entry of its journal, which is
the first number of a line of 'runs show'. If a step ended there, the new run begins
with that step, with KEY=VALUE in the place of fields of the event that it had. The
old run is not touched. Workers drive the new one; what is printed is its name. With
--json, standard output is one object: run_id, workflow, origin.

{_targets.HELP}

{_fields.EVENT_HELP}

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="ID", help="the run to fork")
    parser.add_argument("target", metavar="MODULE:NAME", help=TARGET)
    _fields.add_fields(parser, "a field of the event that the step at --at is called with")
    _places.add_durable(parser)
    parser.add_argument(
        "--at",
        type=natural_int,
        required=True,
        metavar="POSITION",
        help="an entry of the journal",
    )
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change the shared state; may be given several times",
    )
    parser.add_argument("--id", metavar="ID", help="the new run's name (default: any)")
    add_json(parser)
    _engines.add_temporal(parser)


def run(args: argparse.Namespace) -> int:
    typed, changes = _fields.pairs(args.fields), _fields.pairs(args.state)
    state = {path: _fields.value_of(text) for path, text in changes.items()}
    target = _targets.load(args.target)
    workflow, store = _targets.workflow_at(target, args)

    from anabranch.jobs import asyncio_run
    from anabranch.workflow import Runs

    async def forked() -> int:
        async with (
            _places.closing(_places.existing(store)),
            _engines.engine(args) as engine,
        ):
            runs = Runs(store, workflow, dispatcher=engine)
            info = await runs.get(args.run_id)
            _targets.check_workflow(info, workflow)
            event = None
            if typed:
                like = await _event_at(store, workflow, args.run_id, args.at)
                event = _fields.event_of(type(like), typed, like)
            name = await runs.fork(
                args.run_id, at=args.at, new_id=args.id, state=state, event=event
            )
            tell(args, name, run_id=name, workflow=info.workflow, origin=args.run_id)
            say_if_nobody_drives(await runs.get(name), args)
        return 0

    return asyncio_run(forked())


async def _event_at(store: Store, workflow: Workflow, run_id: str, at: int) -> Event:
    """What the step that ended at a position was called with, or what the run began with.

    Raises:
        UsageError: No step was called with one event there.
    """
    from anabranch.workflow.engine import engine_of
    from anabranch.workflow.history import Reading, read_begin, read_entry
    from anabranch.workflow.versions import Shape

    engine = engine_of(workflow)
    history = await store.history(run_id, upto=at + 1)
    first = 0 if history.snapshot is None else history.snapshot.position
    if first <= at < first + len(history.facts):
        entry = read_entry(at, history.facts[-1])
        if entry.kind == "Began" and history.begin is not None:
            return read_begin(engine.codec, history.begin)[0]
        shape = Shape.read(json.loads(history.info.shape))
        reading = Reading(engine.codec, workflow=engine.name, run_id=run_id, shape=shape)
        if history.snapshot is not None:
            reading.go_to(history.snapshot)
        state = reading.read_all(history.facts[:-1])
        execution = state.executions.get(entry.execution or 0)
        if execution is not None and len(execution.events) == 1:
            return execution.events[0]
    raise UsageError(
        f"no step of run {run_id!r} was called with one event at {at}, so there are no "
        "fields to change: leave them out, or choose another line of `anabranch runs show`"
    )


COMMAND = Command(
    name="fork",
    summary="begin another run from a point of one",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
