"""``anabranch runs events``: what a run has published."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from anabranch.cli import _places
from anabranch.cli._help import Command, natural_int
from anabranch.cli._terminal import Weight, one_line, plain
from anabranch.cli.runs._stored import add_run, is_over, on_runs

if TYPE_CHECKING:
    from anabranch.workflow import Runs


LOOK_EVERY_S = 0.2

_EXAMPLE = f"""\
examples:
  anabranch runs events invoice-7 --durable runs.db
  anabranch runs events invoice-7 --durable runs.db --follow --after 12
  anabranch runs events invoice-7 --durable runs.db --json | jq -c .fields

These are the events that the run has published, each once and with its number. With
--json, each is an object on a line of its own: number, type (with its module),
fields. With --follow it goes on until the run is over.

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--after",
        type=natural_int,
        default=0,
        metavar="N",
        help="begin behind the event of this number",
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on with what comes, until the run is over"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead")


def run(args: argparse.Namespace) -> int:
    import asyncio

    async def shown(runs: Runs) -> int:
        after = args.after
        while True:
            # What it had published before it was over is all there is.
            info = await runs.get(args.run_id)
            for number, body in await runs.store.events(args.run_id, after=after):
                after = number
                _print_event(number, json.loads(body), as_json=args.json)
            sys.stdout.flush()
            if after < info.published:
                continue
            if not args.follow or is_over(info):
                return 0
            await asyncio.sleep(LOOK_EVERY_S)

    return on_runs(args, shown)


def _print_event(number: int, event: Any, *, as_json: bool) -> None:
    from anabranch.cli import _plain
    from anabranch.cli._showing import assigned

    fields = _plain.fields(event)
    if as_json:
        line = {"number": number, "type": _plain.full_name(event), "fields": fields}
        print(json.dumps(line, ensure_ascii=False))
    else:
        name = Weight(sys.stdout).bold(plain(_plain.short_name(event)))
        print(f"{number:>5}  {name}  {one_line(assigned(fields))}".rstrip())


COMMAND = Command(
    name="events",
    summary="print the events that a run has published",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
