"""``anabranch runs purge``: runs are forgotten."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from anabranch.cli import _places
from anabranch.cli._help import Command, duration
from anabranch.cli._terminal import counted, say
from anabranch.cli.runs._stored import STATUSES, add_json, on_runs, tell
from anabranch.errors import UsageError

if TYPE_CHECKING:
    from anabranch.workflow import Runs, Store


_EXAMPLE = f"""\
examples:
  anabranch runs purge invoice-7 --durable runs.db
  anabranch runs purge --older-than 30d --durable runs.db --yes
  anabranch runs purge --older-than 7d --status failed --durable runs.db

What is purged is gone: its journal, its events, its result. Only runs that are over
are purged by --older-than, unless --status names others. It asks before it does;
where there is nobody to ask, it wants --yes. With --json, standard output is one
object: purged, the number of runs.

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", nargs="?", metavar="ID", help="one run, whatever it does")
    _places.add_durable(parser)
    parser.add_argument(
        "--older-than",
        type=duration,
        metavar="TIME",
        help="all runs to which nothing has happened for so long, such as 12h or 30d",
    )
    parser.add_argument(
        "--status",
        action="append",
        choices=STATUSES,
        metavar="STATUS",
        help="with --older-than, only runs that stand so; may be given several times",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if (args.run_id is None) == (args.older_than is None):
        raise UsageError("which runs? Give the ID of one, or --older-than 30d")
    if args.status and args.older_than is None:
        raise UsageError("--status goes with --older-than: leave it out")

    from anabranch.workflow.stores import FINAL

    statuses = frozenset(args.status or FINAL)

    async def purged(runs: Runs) -> int:
        if args.run_id is not None:
            info = await runs.get(args.run_id)
            what = f"run {args.run_id}, which is {info.status}"
        else:
            found = await _count(runs.store, statuses, args.older_than)
            what = f"{counted(found, 'run')}"
            if not found:
                tell(args, "there is none that old: nothing to purge", purged=0)
                return 0
        if not args.yes and not await _is_agreed(f"purge {what}, for good?"):
            say("anabranch: nothing was purged")
            return 1
        count = await runs.purge(args.run_id, older_than=args.older_than, statuses=statuses)
        tell(args, f"purged {counted(count, 'run')}", purged=count)
        return 0

    return on_runs(args, purged)


async def _count(store: Store, statuses: frozenset[Any], older_than: float) -> int:
    before = time.time() - older_than
    count, after = 0, None
    while found := await store.runs(
        statuses=statuses, updated_before=before, after=after, limit=1000
    ):
        count, after = count + len(found), found[-1].run_id
    return count


async def _is_agreed(question: str) -> bool:
    """Ask whoever is at the terminal.

    Raises:
        UsageError: Nobody is.
    """
    import asyncio

    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is nobody to ask: give --yes if it is meant")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = await asyncio.to_thread(sys.stdin.readline)
    return answer.strip().lower() in ("y", "yes")


COMMAND = Command(
    name="purge",
    summary="forget a run, or all that are old",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
