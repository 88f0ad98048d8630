"""``anabranch runs export``: the history of a run, for tests of other code."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from anabranch.cli import _places
from anabranch.cli._help import Command
from anabranch.cli.runs._stored import add_run, on_runs

if TYPE_CHECKING:
    from anabranch.workflow import Runs


_EXAMPLE = f"""\
examples:
  anabranch runs export invoice-7 --durable runs.db > invoice-7.json

What is printed is JSON, for anabranch.workflow.testing.replay: so a test can tell
whether old runs can go on with new code.

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    async def shown(runs: Runs) -> int:
        await runs.get(args.run_id)
        print(await runs.export(args.run_id))
        return 0

    return on_runs(args, shown)


COMMAND = Command(
    name="export",
    summary="print the history of a run, to try it against other code",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
