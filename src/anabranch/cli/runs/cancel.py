"""``anabranch runs cancel``: the end of a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from anabranch.cli import _engines, _places
from anabranch.cli._help import Command
from anabranch.cli.runs._stored import add_json, add_run, is_over, tell, with_engine

if TYPE_CHECKING:
    from anabranch.workflow import Runs


_EXAMPLE = f"""\
examples:
  anabranch runs cancel invoice-7 --durable runs.db

A run that another process drives ends when that process has seen it, which takes an
instant. With --json, standard output is one object: run_id, ended, status.

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)
    _engines.add_temporal(parser)


def run(args: argparse.Namespace) -> int:
    async def cancelled(runs: Runs) -> int:
        from anabranch.cli._showing import driver_of

        before = await runs.get(args.run_id)
        ended = await runs.cancel(args.run_id)
        status = (await runs.get(args.run_id)).status
        driver = driver_of(before) or "a worker"
        if is_over(before):
            said = f"run {args.run_id} was over already: {before.status}"
        elif ended:
            said = f"run {args.run_id} is cancelled"
        else:
            said = (
                f"run {args.run_id} is to be cancelled: {driver} was told; if that one is "
                "gone, it ends when it is taken up"
            )
        tell(args, said, run_id=args.run_id, ended=ended, status=status)
        return 0

    return with_engine(args, cancelled)


COMMAND = Command(
    name="cancel",
    summary="cancel a run",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
