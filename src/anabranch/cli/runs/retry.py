"""``anabranch runs retry``: a run that has failed goes on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from anabranch.cli import _engines, _places, _targets
from anabranch.cli._help import Command
from anabranch.cli.runs._stored import (
    TARGET,
    add_json,
    say_if_nobody_drives,
    tell,
    with_engine,
)
from anabranch.cli.runs.resume import drive_here

if TYPE_CHECKING:
    from anabranch.workflow import Runs


_EXAMPLE = f"""\
examples:
  anabranch runs retry invoice-7 --durable runs.db
  anabranch runs retry invoice-7 flow:Invoice --durable runs.db

A run that failed, was cancelled or took too long goes on where it was: what had
failed is tried again, what was under way is begun anew. Without MODULE:NAME a
worker drives it; with it, it is driven here, as by 'runs resume'. With --json,
standard output is one object: run_id, status; or as for 'runs resume'.

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="ID", help="which run")
    parser.add_argument("target", nargs="?", metavar="MODULE:NAME", help=TARGET)
    _places.add_durable(parser)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="with MODULE:NAME, also show each step as it begins and ends",
    )
    add_json(parser)
    _engines.add_temporal(parser)


def run(args: argparse.Namespace) -> int:
    if args.target is not None:
        return drive_here(args, _targets.load(args.target), is_retried=True)

    async def retried(runs: Runs) -> int:
        await runs.retry(args.run_id)
        info = await runs.get(args.run_id)
        said = f"run {args.run_id} goes on where it was"
        tell(args, said, run_id=args.run_id, status=info.status)
        say_if_nobody_drives(info, args)
        return 0

    return with_engine(args, retried)


COMMAND = Command(
    name="retry",
    summary="let a run that has ended without a result go on where it was",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
