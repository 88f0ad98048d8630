"""``anabranch runs show``: how a run stands, and what has happened in it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from anabranch.cli import _places
from anabranch.cli._help import Command, positive_int
from anabranch.cli._terminal import Weight, counted, drawable, plain, whole_width
from anabranch.cli.runs._stored import add_run, as_data, colour, is_over, moment, on_runs

if TYPE_CHECKING:
    from anabranch.workflow import RunInfo, Runs


LAST_ROWS = 40

_EXAMPLE = f"""\
examples:
  anabranch runs show invoice-7 --durable runs.db
  anabranch runs show invoice-7 --durable runs.db --last all --width 160 | less
  anabranch runs show invoice-7 --durable runs.db --json | jq .timeline

Each line of the timeline is an execution of a step that has ended, an attempt that
failed, a wait, or something that concerns the whole run: where it is in the journal
(for --at of 'runs fork'), how long after the beginning of the run it began, how
long it took (attempts and waits included), when that was, and what came of it. A
bar is dotted where it waited for an event. What is at work now has left no trace
yet.

With --json, standard output is one object: what 'runs list' has, result (as JSON),
and timeline: position, kind ("ended", "failed", "waiting", "note"), step,
execution, attempt, began_at, at, waited_at, waits (classes of events), said.

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--last",
        type=_last,
        default=LAST_ROWS,
        metavar="N",
        help=f"how many lines of the timeline, or all (default: {LAST_ROWS})",
    )
    parser.add_argument(
        "--width",
        type=positive_int,
        metavar="N",
        help="how many columns to fill (default: those of the terminal)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def _last(text: str) -> int | None:
    return None if text == "all" else positive_int(text)


def run(args: argparse.Namespace) -> int:
    async def shown(runs: Runs) -> int:
        from anabranch.cli import _plain, _showing, _timeline

        info = await runs.get(args.run_id)
        entries = await runs.history(args.run_id)
        found = _timeline.rows(entries)
        kept = found if args.last is None else found[-args.last :]
        result = None if info.result is None else _plain.readable(json.loads(info.result))
        if args.json:
            data = as_data(info) | {"result": result}
            data["timeline"] = [_timeline.as_data(row) for row in kept]
            print(json.dumps(data, ensure_ascii=False))
            return 0
        weight = Weight(sys.stdout)
        width = args.width or whole_width()
        began_at = next((e.at for e in entries if e.kind == "Began"), info.created_at)
        lines = [*_header(info, began_at, result, width, weight), ""]
        first = entries[0].position if entries else 0
        lines += _left_out(len(found) - len(kept), first, len(found), weight)
        if not kept:
            lines.append(weight.dim("nothing has been recorded yet"))
        lines += _timeline.render(
            kept,
            zero=began_at,
            now=info.updated_at if is_over(info) else time.time(),
            is_over=is_over(info),
            width=width,
            weight=weight,
        )
        print(drawable("\n".join(lines), sys.stdout), flush=True)
        if not is_over(info):
            await _showing.say_how_to_answer(runs, args.run_id, args)
        return 0

    return on_runs(args, shown)


def _left_out(count: int, first: int, everything: int, weight: Weight) -> list[str]:
    lines: list[str] = []
    if first > 0:
        lines.append(weight.dim(f"… what was before entry {first:,} is not kept any more"))
    if count > 0:
        lines.append(
            weight.dim(
                f"… {counted(count, 'earlier line')} left out: --last all shows "
                f"all {everything:,}"
            )
        )
    return lines


def _header(
    info: RunInfo, began_at: float, result: Any, width: int, weight: Weight
) -> list[str]:
    from anabranch.cli._showing import driver_of, how_it_ended
    from anabranch.cli._timeline import cut, span

    now = time.time()
    end = info.updated_at if is_over(info) else now
    version = f", version {info.version}" if info.version else ""
    status = colour(info, weight)(info.status)
    said = how_it_ended(info) if is_over(info) else info.note
    if is_over(info):
        said = said.removeprefix(info.status).removeprefix("was cancelled")
        said = said.removeprefix(": ")
    if said:
        status += f": {plain(said)}" if not said.startswith(" ") else plain(said)
    took = span(max(0.0, end - began_at))
    driver = driver_of(info)
    rows: Mapping[str, str] = {
        "run": weight.bold(plain(info.run_id)),
        "workflow": plain(f"{info.workflow}{version}"),
        "status": status,
        "begun": f"{moment(began_at)}, {span(max(0.0, now - began_at))} ago"
        if info.position
        else f"not yet; {_due(info, now)}",
        "took": took if is_over(info) else f"{took} so far" if info.position else "",
        "driven": ""
        if is_over(info)
        else f"by {plain(driver)}"
        if driver
        else f"by nobody now; {_due(info, now)}",
        "journal": f"{counted(info.position, 'entry').replace('entrys', 'entries')}, "
        f"{counted(info.published, 'event')} published, opened {_times(info.epoch)}",
        "forked from": plain(info.origin or ""),
        "result": cut(_brief(result), width - 13) if info.status == "completed" else "",
    }
    return [
        f"{weight.dim(f'{name:<11}')}  {value}" for name, value in rows.items() if value
    ]


def _brief(result: Any) -> str:
    """What a run gave, from its last event's fields."""
    from anabranch.cli._showing import assigned

    fields = cast("dict[str, Any]", result if isinstance(result, dict) else {})
    return (
        json.dumps(fields["result"], ensure_ascii=False)
        if fields.keys() == {"result"}
        else assigned(fields)
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _due(info: RunInfo, now: float) -> str:
    from anabranch.cli._timeline import span

    if info.due_at is None:
        return "due when it is sent something"
    if info.due_at <= now:
        return "due now"
    return f"due in {span(info.due_at - now)}"


COMMAND = Command(
    name="show",
    summary="show how a run stands, and what has happened in it when",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
