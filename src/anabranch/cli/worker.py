"""``anabranch worker``: a process that drives runs, beside any number of others."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anabranch.cli import _engines, _places, _targets
from anabranch.cli._help import Command, positive_int

if TYPE_CHECKING:
    from anabranch.cli._working import Tell
    from anabranch.workflow import Store, Workflow

_EXAMPLE = f"""\
examples:
  anabranch worker flow:Invoice --durable runs.db
  anabranch worker flow:Invoice letters:Letter --durable postgresql://db/runs
  anabranch worker flow:Invoice --durable postgresql://db/runs \\
      --temporal localhost:7233 --slots 20

It drives the runs of these workflows that are due, and puts those back that wait.
Told to stop, by Ctrl-C or SIGTERM, it lets go of the runs under way, which other
workers take up where their journals end, and its exit status is 0. If it is killed,
that happens when its leases have ended, within half a minute.

Each run that is taken, put back or ended is a line on standard error; with --json
an object a line: at (seconds since 1970), what ("ready", "taken", "put back",
"ended", "let go", "left", "warning", "stopped"), and what there is of workflows,
run_id, workflow, status, until, took_s and note.

{_targets.HELP}

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="+", metavar="MODULE:NAME", help="a workflow")
    _places.add_durable(parser)
    parser.add_argument(
        "--slots",
        type=positive_int,
        default=100,
        metavar="N",
        help="how many runs to drive at once (default: 100)",
    )
    parser.add_argument("--json", action="store_true", help="the log as JSON lines")
    _engines.add_engines(parser)


def run(args: argparse.Namespace) -> int:
    targets = [_targets.load(text) for text in args.targets]
    made = [_targets.workflow_at(target, args) for target in targets]

    from anabranch.cli import _working
    from anabranch.jobs import asyncio_run

    tell = _working.tell_people
    if args.json:
        tell = _working.tell_programs
        for handler in logging.getLogger("anabranch").handlers:
            handler.setFormatter(_working.Warnings())
    try:
        asyncio_run(_work(args, [workflow for workflow, _ in made], made[0][1], tell))
    except KeyboardInterrupt:  # or SIGTERM: to be told to stop is how a worker ends
        tell("stopped")
    return 0


async def _work(
    args: argparse.Namespace, workflows: Sequence[Workflow], store: Store, tell: Tell
) -> None:
    from anabranch.cli._working import LoggingWorker
    from anabranch.workflow.dispatch import LocalDispatcher

    async with (
        _places.closing(store),
        _engines.engine(args, store=store, slots=args.slots) as engine,
    ):
        dispatcher = engine or LocalDispatcher(store, slots=args.slots)
        worker = LoggingWorker(*workflows, dispatcher=dispatcher, tell=tell)
        # A store that cannot be had at the beginning is a mistake; later on, an accident.
        await store.next_due(worker.workflows)
        tell("ready", workflows=[workflow.workflow_name for workflow in workflows])
        await worker.work()


COMMAND = Command(
    name="worker",
    summary="drive the runs of workflows that are due, until told to stop",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
