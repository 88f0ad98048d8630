"""What the commands on runs in a store share."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anabranch.cli import _engines, _places
from anabranch.cli._terminal import Weight, say

if TYPE_CHECKING:
    from anabranch.workflow import RunInfo, Runs, Workflow

STATUSES = (
    "pending", "running", "waiting", "completed", "failed", "cancelled", "timed out"
)  # fmt: skip
TARGET = "its workflow, as for 'anabranch run'"


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="ID", help="which run")
    _places.add_durable(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def on_runs(args: argparse.Namespace, do: Callable[[Runs], Awaitable[int]]) -> int:
    """What ``do`` gives for the runs of the store that the command is about."""
    from anabranch.jobs import asyncio_run
    from anabranch.workflow import Runs

    async def done() -> int:
        async with _places.existing_store(args) as store:
            return await do(Runs(store))

    return asyncio_run(done())


def with_engine(args: argparse.Namespace, do: Any, *workflows: Workflow) -> int:
    async def done(runs: Runs) -> int:
        from anabranch.workflow import Runs

        async with _engines.engine(args) as engine:
            return int(await do(Runs(runs.store, *workflows, dispatcher=engine)))

    return on_runs(args, done)


def tell(args: argparse.Namespace, said: str, **facts: Any) -> None:
    """What was done: a sentence, or an object with these facts."""
    print(json.dumps(facts, ensure_ascii=False) if args.json else said, flush=True)


def as_data(info: RunInfo) -> dict[str, Any]:
    """How a run stands, for programs; times are seconds since the epoch."""
    names = (
        "run_id", "workflow", "version", "status", "note", "created_at", "updated_at",
        "due_at", "owner", "leased_until", "epoch", "position", "published", "origin",
    )  # fmt: skip
    return {name: getattr(info, name) for name in names}


def is_over(info: RunInfo) -> bool:
    """Whether a run has ended."""
    return info.status in ("completed", "failed", "cancelled", "timed out")


def colour(info: RunInfo, weight: Weight) -> Callable[[str], str]:
    """How a run's status is written."""
    match info.status:
        case "completed":
            return weight.green
        case "failed" | "timed out":
            return weight.red
        case "waiting":
            return weight.yellow
        case "cancelled":
            return weight.dim
        case _:
            return str


def moment(at: float) -> str:
    """An instant, for people."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def say_if_nobody_drives(info: RunInfo, args: argparse.Namespace) -> None:
    """If nobody drives a run, how somebody can."""
    from anabranch.cli._showing import driver_of, suggest

    if driver_of(info) is None and not args.temporal:
        say("nobody drives it now: a worker takes it up, if there is one")
        command = f"runs resume {shlex.quote(info.run_id)} {_guess(info.workflow)}"
        suggest("to drive it here", command, args)


def _guess(workflow: str) -> str:
    """A workflow as it is likely to be named on a command line."""
    return shlex.quote(
        ":".join(workflow.rsplit(".", 1)) if "." in workflow else "MODULE:NAME"
    )
