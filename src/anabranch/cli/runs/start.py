"""``anabranch runs start``: a new run, for workers."""

from __future__ import annotations

import argparse

from anabranch.cli import _engines, _fields, _places, _targets
from anabranch.cli._help import Command, duration
from anabranch.cli._terminal import say
from anabranch.cli.runs._stored import add_json, tell

_EXAMPLE = f"""\
examples:
  anabranch runs start flow:Invoice --durable runs.db customer=7
  anabranch runs start flow:Invoice --durable runs.db --id invoice-7 --in 2h

It is driven by workers; nothing is driven here. What is printed is its name.
Started twice with one --id there is one run, which begins as it was asked for
first. With --json, standard output is one object: run_id, workflow.

{_targets.HELP}

{_fields.EVENT_HELP}

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="MODULE:NAME", help="the workflow")
    _fields.add_fields(parser, "a field of the start event")
    _places.add_durable(parser)
    parser.add_argument("--id", metavar="ID", help="the run's name (default: a new one)")
    parser.add_argument(
        "--in",
        dest="delay",
        type=duration,
        default=0.0,
        metavar="TIME",
        help="begin so much later, such as 30m or 2h (default: at once)",
    )
    add_json(parser)
    _engines.add_temporal(parser)


def run(args: argparse.Namespace) -> int:
    workflow, store = _targets.workflow_at(_targets.load(args.target), args)
    event = _fields.event_of(workflow.start_event_class, _fields.pairs(args.fields))

    from anabranch.jobs import asyncio_run
    from anabranch.workflow import Runs

    async def started() -> int:
        async with _places.closing(store), _engines.engine(args) as engine:
            runs = Runs(store, workflow, dispatcher=engine)
            if args.id and (info := await store.info(args.id)) is not None:
                _targets.check_workflow(info, workflow)
                say(f"anabranch: run {args.id} is there already: {info.status}")
            name = await runs.start(workflow, event, run_id=args.id, delay=args.delay)
        tell(args, name, run_id=name, workflow=workflow.workflow_name)
        return 0

    return asyncio_run(started())


COMMAND = Command(
    name="start",
    summary="have a new run driven by workers",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
