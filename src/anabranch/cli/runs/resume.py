"""``anabranch runs resume``: a run that is there, driven here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from anabranch.cli import _places, _targets
from anabranch.cli._help import Command
from anabranch.cli._terminal import say
from anabranch.cli.runs._stored import TARGET, add_json, moment

if TYPE_CHECKING:
    from anabranch.cli._targets import Target
    from anabranch.workflow import Runs, Workflow


_EXAMPLE = f"""\
examples:
  anabranch runs resume invoice-7 flow:Invoice --durable runs.db

It drives the run here, from where its journal ends, until it is over, when its
result is printed, or has nothing to do but wait for an event or a time. If another
process drives the run, it does so no longer. Ctrl-C lets go of it. With --json,
standard output is one object: run_id, workflow, status, and result, error or
waits_for.

{_targets.HELP}

{_places.HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="ID", help="which run")
    parser.add_argument("target", metavar="MODULE:NAME", help=TARGET)
    _places.add_durable(parser)
    parser.add_argument(
        "--watch", action="store_true", help="also show each step as it begins and ends"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    target = _targets.load(args.target)
    return drive_here(args, target, is_retried=False)


def drive_here(args: argparse.Namespace, target: Target, *, is_retried: bool) -> int:
    workflow, store = _targets.workflow_at(target, args)

    from anabranch.cli._showing import watch
    from anabranch.jobs import asyncio_run
    from anabranch.workflow import Runs

    if args.watch:
        watch(workflow)

    async def driven() -> int:
        async with _places.closing(_places.existing(store)):
            runs = Runs(store, workflow)
            _targets.check_workflow(await runs.get(args.run_id), workflow)
            if is_retried:
                await runs.retry(args.run_id)
            return await _drive(args, target, workflow, runs)

    return asyncio_run(driven())


async def _drive(
    args: argparse.Namespace, target: Target, workflow: Workflow, runs: Runs
) -> int:
    import asyncio

    from anabranch.cli import _showing
    from anabranch.workflow import Worker
    from anabranch.workflow.dispatch import Done, Elsewhere

    info = await runs.get(args.run_id)
    if driver := _showing.driver_of(info):
        say(f"anabranch: run {args.run_id} was driven by {driver}, and is taken over")
    ended = asyncio.Event()
    showing = asyncio.create_task(_showing.follow(runs, args.run_id, info.published, ended))
    try:
        driven = await Worker(workflow).drive(args.run_id)
    except asyncio.CancelledError:
        _showing.say_how_to_resume(args.run_id, target, args)
        raise
    finally:
        ended.set()
        await showing
    info = await runs.get(args.run_id)
    match driven:
        case Elsewhere(reason):
            say(f"anabranch: run {args.run_id} cannot go on here: {reason}")
            return 1
        case Done("completed"):
            value = await runs.result(args.run_id)
            return _showing.show_result(info, value, as_json=args.json)
        case Done():
            return _showing.show_end(info, args, target)
        case _:
            return await _say_that_it_rests(args, target, workflow, runs)


async def _say_that_it_rests(
    args: argparse.Namespace, target: Target, workflow: Workflow, runs: Runs
) -> int:
    from anabranch.cli import _showing

    info = await runs.get(args.run_id)
    if args.json:
        waits_for = await _showing.awaited(runs, args.run_id)
        head = {"run_id": info.run_id, "workflow": info.workflow, "status": info.status}
        _showing.print_json(head | {"waits_for": waits_for, "due_at": info.due_at})
    if info.due_at:
        say(f"anabranch: run {args.run_id} rests until {moment(info.due_at)}")
    await _showing.say_how_to_answer(
        runs, args.run_id, args, workflow=workflow, target=target
    )
    return 0


COMMAND = Command(
    name="resume",
    summary="drive a run here until it is over or rests",
    example=_EXAMPLE,
    add_arguments=add_arguments,
    run=run,
)
