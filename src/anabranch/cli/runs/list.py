"""``anabranch runs list``: which runs there are."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from anabranch.cli import _places
from anabranch.cli._help import Command, positive_int
from anabranch.cli._terminal import Weight, drawable, one_line, say, whole_width
from anabranch.cli.runs._stored import STATUSES, as_data, colour, on_runs

if TYPE_CHECKING:
    from anabranch.workflow import RunInfo, Runs


_LEAST_NOTE = 20
_ALIGNED = {"id": "<", "workflow": "<"}

_EXAMPLE = f"""\
examples:
  anabranch runs list --durable runs.db
  anabranch runs list --durable runs.db --status waiting --status failed
  anabranch runs list --durable runs.db --json | jq -r '.[] | .run_id'

The latest is first. With --json, standard output is one array of objects: run_id,
workflow, version, status, note, created_at, updated_at, due_at (null: not before it
is sent something), owner, leased_until, epoch (how often it was opened), position
(how many entries its journal has), published (how many events its stream has),
origin (the run it was forked from). Times are seconds since 1970.

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _places.add_durable(parser)
    parser.add_argument(
        "--status",
        action="append",
        choices=STATUSES,
        metavar="STATUS",
        help=f"only runs that stand so: {', '.join(STATUSES)}; may be given several times",
    )
    parser.add_argument("--workflow", metavar="NAME", help="only runs of this workflow")
    parser.add_argument(
        "--limit", type=positive_int, default=20, metavar="N", help="the most (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array instead")


def run(args: argparse.Namespace) -> int:
    async def shown(runs: Runs) -> int:
        found = await runs.find(
            statuses=args.status or (), workflow=args.workflow, limit=args.limit + 1
        )
        there = found[: args.limit]
        if args.json:
            print(json.dumps([as_data(info) for info in there], ensure_ascii=False))
        elif there:
            for line in table(there, whole_width(), Weight(sys.stdout)):
                print(drawable(line, sys.stdout))
        else:
            chosen = args.status or args.workflow
            say(f"anabranch: no runs{' that stand so' if chosen else ' yet'}")
        if len(found) > args.limit:
            say(f"anabranch: there are more than {args.limit}: --limit shows them")
        return 0

    return on_runs(args, shown)


def table(found: Sequence[RunInfo], width: int, weight: Weight) -> list[str]:
    """A line for each run, and a second one where its note has no room in the first."""
    from anabranch.cli._timeline import cut, span

    now = time.time()
    columns: dict[str, list[str]] = {
        "id": [one_line(info.run_id) for info in found],
        "workflow": [one_line(info.workflow) for info in found],
        "status": [info.status for info in found],
        "age": [span(max(0.0, now - info.created_at)) for info in found],
        "updated": [span(max(0.0, now - info.updated_at)) for info in found],
        "entries": [f"{info.position:,}" for info in found],
    }
    widths = {name: max(map(len, [name, *column])) for name, column in columns.items()}
    for name in ("entries", "age"):  # what can be done without, if it is too much
        if _sum(widths) > width:
            del widths[name]
    widths["workflow"] -= max(0, min(_sum(widths) - width, widths["workflow"] - 8))
    room = width - _sum(widths) - 2
    notes = [one_line(info.note) for info in found]
    is_beside = room >= min(max(map(len, notes)), _LEAST_NOTE)

    def line(row: Mapping[str, str], status: Callable[[str], str], note: str) -> str:
        parts = [
            status(f"{row[name]:<{size}}")
            if name == "status"
            else f"{_tail(row[name], size):{_ALIGNED.get(name, '>')}{size}}"
            for name, size in widths.items()
        ]
        return "  ".join([*parts, cut(note, room) if is_beside else ""]).rstrip()

    head = "note" if any(notes) else ""
    lines = [weight.dim(line({name: name for name in columns}, str, head))]
    for index, (info, note) in enumerate(zip(found, notes, strict=True)):
        row = {name: column[index] for name, column in columns.items()}
        lines.append(line(row, colour(info, weight), note))
        if note and not is_beside:
            lines.append(weight.dim(f"  {cut(note, width - 2)}"))
    return lines


def _sum(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _tail(text: str, columns: int) -> str:
    """The end of a text: that of a workflow's name says more than its beginning."""
    return text if len(text) <= columns else f"…{text[1 - columns :]}"


COMMAND = Command(
    name="list",
    summary="list the runs of a store, the latest first",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
