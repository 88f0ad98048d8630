"""``anabranch runs send``: an event for a run."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from anabranch.cli import _engines, _fields, _places, _plain, _targets
from anabranch.cli._help import Command
from anabranch.cli.runs._stored import (
    add_json,
    say_if_nobody_drives,
    tell,
    with_engine,
)
from anabranch.errors import UsageError

if TYPE_CHECKING:
    from anabranch.workflow import Runs, Store, Workflow


_EXAMPLE = f"""\
examples:
  anabranch runs send invoice-7 flow:Approval --durable runs.db by=Ada ok=true
  anabranch runs send invoice-7 flow:Approval --durable runs.db --message-id m31 ok=1

It is for all steps that take such an event and all that wait for one. If nobody
does yet, it is kept for the first who asks. With --message-id, the same message
sent twice counts once. With --json, standard output is one object: run_id, event,
counts.

{_fields.EVENT_HELP}

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="ID", help="which run")
    parser.add_argument(
        "event", metavar="MODULE:EVENT", help="the event's class; the module as for 'run'"
    )
    _fields.add_fields(parser, "a field of the event")
    _places.add_durable(parser)
    parser.add_argument("--message-id", metavar="NAME", help="a name for this message")
    parser.add_argument("--step", metavar="NAME", help="only for this step")
    parser.add_argument(
        "--workflow",
        metavar="MODULE:NAME",
        help="the run's workflow, if that has a serializer of its own",
    )
    add_json(parser)
    _engines.add_temporal(parser)


def run(args: argparse.Namespace) -> int:
    event = _fields.event_of(_targets.event_class(args.event), _fields.pairs(args.fields))
    name = type(event).__name__

    workflows: list[Workflow] = []
    if args.workflow is not None:
        args.durable = args.durable or _places.place_of(args)
        workflows.append(_targets.workflow_at(_targets.load(args.workflow), args)[0])

    async def sent(runs: Runs) -> int:
        if not workflows and await _has_own_serializer(runs.store, args.run_id):
            raise UsageError(
                f"what run {args.run_id!r} is sent is written by a serializer of its "
                "workflow's own: name that with --workflow MODULE:NAME"
            )
        before = await runs.get(args.run_id)
        counts = await runs.send(
            args.run_id, event, step=args.step, message_id=args.message_id
        )
        said = f"sent {name} to run {args.run_id}"
        if not counts:
            said = f"run {args.run_id} has message {args.message_id!r} already: left out"
        tell(args, said, run_id=args.run_id, event=name, counts=counts)
        if counts:
            say_if_nobody_drives(before, args)
        return 0

    return with_engine(args, sent, *workflows)


async def _has_own_serializer(store: Store, run_id: str) -> bool:
    if await store.info(run_id) is None:
        return False
    begin = (await store.history(run_id, upto=0)).begin
    match json.loads(begin or b"{}"):
        case {"start": {_plain.KIND: "text"}}:
            return True
        case _:
            return False


COMMAND = Command(
    name="send",
    summary="send a run an event",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
