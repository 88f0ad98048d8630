"""A run before somebody's eyes: its events as they come, its end, and what to do then."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from anabranch.cli import _plain as plain
from anabranch.cli._errors import FAILED
from anabranch.cli._places import option
from anabranch.cli._terminal import Weight, one_line, say, whole_width
from anabranch.cli._terminal import plain as plain_text
from anabranch.observe import Observer

if TYPE_CHECKING:
    from anabranch.cli._targets import Target
    from anabranch.workflow import Event, RunInfo, Runs, Workflow

LONGEST_LINE = 2_000
LOOK_EVERY_S = 0.1


# ---------------------------------------------------------------------- as it comes


def log(what: str, fields: Mapping[str, Any] | str = "") -> None:
    """A line with the time of day on standard error, cut to the terminal if it is one."""
    weight = Weight(sys.stderr)
    now = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
    said = fields if isinstance(fields, str) else assigned(fields)
    room = whole_width() if sys.stderr.isatty() else LONGEST_LINE
    room = max(20, room - len(now) - len(what) - 4)
    text = one_line(said)[:room]
    line = f"{weight.dim(now)}  {weight.bold(plain_text(what))}  {text}"
    print(line.rstrip(), file=sys.stderr, flush=True)


def assigned(fields: Mapping[str, Any]) -> str:
    """``key=value`` for each, as a command line takes them."""
    return " ".join(f"{key}={_typed(value)}" for key, value in fields.items())


def _typed(value: Any) -> str:
    if isinstance(value, str) and value and not any(c in value for c in " \"'\t\n"):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def show_event(event: Event) -> None:
    """A line for an event of a run's stream; what ended it is told otherwise."""
    from anabranch.workflow import StopEvent

    if not isinstance(event, StopEvent):
        log(type(event).__name__, fields_of(event))


def fields_of(event: Event) -> dict[str, Any]:
    """An event's fields as JSON."""
    value = jsonable(event)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"value": value}


def jsonable(value: Any) -> Any:
    """A value as JSON; what has no form there as text."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=str, inf_nan_mode="null")


class Steps(Observer):
    """A line for each beginning and end of a step."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}

    def started(self, label: object) -> None:
        if _is_step(label):
            self._began[str(label)] = time.monotonic()
            log(str(label), "begins")

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        if _is_step(label):
            again = f"attempt {attempt + 1} in {delay_s:g} s"
            log(str(label), f"failed ({again}): {type(error).__name__}: {error}")

    def finished(self, label: object, error: BaseException | None) -> None:
        from anabranch.cli._timeline import span

        if _is_step(label):
            now = time.monotonic()
            took = span(now - self._began.pop(str(label), now))
            said = f"{type(error).__name__}: {error}" if error is not None else ""
            log(str(label), f"failed: {said}" if said else f"ended after {took}")


def _is_step(label: object) -> bool:
    from anabranch.workflow.labels import StepLabel

    return isinstance(label, StepLabel)


def watch(workflow: Workflow) -> None:
    """Show the steps of a workflow's runs from now on."""
    from anabranch.observe import Observers
    from anabranch.workflow.engine import engine_of

    settings = engine_of(workflow).settings
    others = () if settings.observer is None else (settings.observer,)
    settings.observer = Observers(*others, Steps())


async def follow(runs: Runs, run_id: str, after: int, ended: asyncio.Event) -> None:
    """Show what a run publishes behind a number until it is driven no longer."""
    while True:
        is_last = ended.is_set()
        async for number, event in runs.events(run_id, after=after, follow=False):
            after = number
            show_event(event)
        if is_last:
            return
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await ended.wait()
        except TimeoutError:
            continue


# ----------------------------------------------------------------------- how it ends


def show_result(info: RunInfo, value: Any, *, as_json: bool) -> int:
    """Print what a run gave; the exit status."""
    held = jsonable(value)
    if as_json:
        print_json(_head(info) | {"result": held})
    elif isinstance(held, str):
        print(held)
    elif held is not None:
        print(json.dumps(held, ensure_ascii=False, indent=2))
    return 0


def show_end(info: RunInfo, args: argparse.Namespace, target: Target | None) -> int:
    """Say that a run has ended without a result, and what can be done; the exit status."""
    if args.json:
        print_json(_head(info) | {"error": info.note})
    say(f"anabranch: run {info.run_id} {how_it_ended(info)}")
    again = f"runs retry {shlex.quote(info.run_id)}"
    if target is not None:
        again += f" {shlex.quote(target.text)}"
    suggest("what went well is kept; to let it go on where it was", again, args)
    return FAILED


def how_it_ended(info: RunInfo) -> str:
    """Why a run gave no result, as the end of a sentence."""
    if info.status == "failed" and info.result is not None:
        held = plain.fields(json.loads(info.result))
        attempts = held.get("attempts")
        tries = f" after {attempts} attempts" if attempts not in (None, 1) else ""
        return f"failed in step {held.get('step_name')!r}{tries}: {info.note}"
    ended = "was cancelled" if info.status == "cancelled" else info.status
    return f"{ended}: {info.note}" if info.note else ended


def driver_of(info: RunInfo) -> str | None:
    """Who drives a run now, as far as can be known; ``None`` if nobody does."""
    if not info.owner or info.leased_until <= time.time():
        return None
    host, _, number = info.owner.rpartition(":")
    if host == socket.gethostname() and number.isdigit():
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return None  # it has died, and its lease goes on for a while
        except PermissionError:
            pass  # it is somebody else's
    return info.owner if host else "a worker"


def _head(info: RunInfo) -> dict[str, Any]:
    return {"run_id": info.run_id, "workflow": info.workflow, "status": info.status}


def print_json(value: Any, *, indent: int | None = None) -> None:
    """A JSON document on standard output, on one line unless said otherwise."""
    print(json.dumps(value, ensure_ascii=False, indent=indent), flush=True)


# --------------------------------------------------------------------- what to do then


def suggest(purpose: str, command: str, args: argparse.Namespace) -> None:
    """A command that can be typed next, on a line of its own."""
    say(f"  {purpose}:\n    anabranch {command}{option(args)}")


def say_how_to_resume(run_id: str, target: Target, args: argparse.Namespace) -> None:
    say(f"anabranch: run {run_id} is let go; what its steps have recorded is kept")
    suggest(
        "to go on", f"runs resume {shlex.quote(run_id)} {shlex.quote(target.text)}", args
    )


async def say_how_to_answer(
    runs: Runs,
    run_id: str,
    args: argparse.Namespace,
    *,
    workflow: Workflow | None = None,
    target: Target | None = None,
) -> None:
    """What a run waits for, and the command that sends it."""
    waited = await awaited(runs, run_id)
    if not waited and workflow is not None:
        waited = _taken_from_people(workflow)
    if not waited:
        return
    names = ", ".join(name.rpartition(".")[2] for name in waited)
    say(f"anabranch: run {run_id} waits for {names}")
    for name in waited:
        kind = _loaded(name)
        spec = ":".join(name.rsplit(".", 1))
        if kind is not None and target is not None:
            spec = target.beside(kind)
        command = f"runs send {shlex.quote(run_id)} {shlex.quote(spec)} {_blanks(kind)}"
        suggest("to answer", command, args)


def _loaded(name: str) -> type[Any] | None:
    """The class of this name, if its module is loaded."""
    module, _, rest = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, outer = module.rpartition(".")
        rest = f"{outer}.{rest}"
    found: Any = sys.modules.get(module)
    for part in rest.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _blanks(kind: type[Any] | None) -> str:
    """The fields that are to be filled in."""
    fields: dict[str, Any] = getattr(kind, "model_fields", {})
    wanted = [name for name, field in fields.items() if field.is_required()]
    return " ".join(f"{name}=..." for name in wanted or list(fields) or ["KEY"])


def _taken_from_people(workflow: Workflow) -> list[str]:
    """Of a workflow whose steps wait for nothing: the answers that begin one."""
    from anabranch.workflow import HumanResponseEvent
    from anabranch.workflow.engine import engine_of

    return [
        f"{kind.__module__}.{kind.__qualname__}"
        for step in engine_of(workflow).plan.steps.values()
        for kind in step.accepts
        if issubclass(kind, HumanResponseEvent)
    ]


async def awaited(runs: Runs, run_id: str) -> list[str]:
    """The classes of the events that the steps of a run wait for, with their modules."""
    from anabranch.cli._timeline import rows

    found = rows(await runs.history(run_id))
    waits = [kind for row in found if row.kind == "waiting" for kind in row.waits]
    return [kind for kind in dict.fromkeys(waits) if kind]
