"""A worker that tells what it does, a line for each run that comes and goes."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from anabranch.cli._showing import log
from anabranch.cli._timeline import span
from anabranch.workflow import Worker, Workflow
from anabranch.workflow.dispatch import Dispatcher, Done, Driven, Elsewhere, Waiting

Tell = Callable[..., None]


class LoggingWorker(Worker):
    """A worker that tells ``tell(what, run_id=..., ...)`` of every run."""

    def __init__(self, *workflows: Workflow, dispatcher: Dispatcher, tell: Tell) -> None:
        super().__init__(*workflows, dispatcher=dispatcher)
        self._tell = tell

    async def drive(self, run_id: str) -> Driven:
        """Drive a run, and tell of it."""
        info = await self.store.info(run_id)
        workflow = None if info is None else info.workflow
        self._tell("taken", run_id=run_id, workflow=workflow)
        began = time.monotonic()
        try:
            driven = await super().drive(run_id)
        except asyncio.CancelledError:
            self._tell("let go", run_id=run_id, workflow=workflow)
            raise
        took_s = round(time.monotonic() - began, 3)
        match driven:
            case Done(status):
                note = await self._note(run_id) if status != "completed" else None
                self._tell("ended", run_id=run_id, workflow=workflow, status=status,
                           took_s=took_s, note=note)  # fmt: skip
            case Waiting(until):
                self._tell("put back", run_id=run_id, workflow=workflow, until=until,
                           took_s=took_s, note=await self._note(run_id))  # fmt: skip
            case Elsewhere(reason):
                self._tell("left", run_id=run_id, workflow=workflow, note=reason)
        return driven

    async def _note(self, run_id: str) -> str | None:
        info = await self.store.info(run_id)
        return None if info is None else info.note or None


def tell_people(what: str, **facts: Any) -> None:
    """A line for people."""
    said = [str(facts[key]) for key in ("run_id", "workflow") if facts.get(key)]
    said += facts.get("workflows", [])
    if status := facts.get("status"):
        said.append(status)
    if (took_s := facts.get("took_s")) is not None:
        said.append(f"after {span(took_s)}")
    if until := facts.get("until"):
        said.append(f"until {datetime.fromtimestamp(until, UTC).astimezone():%F %T}")
    if note := facts.get("note"):
        said.append(f"({note})")
    log(f"{what:<8}", " ".join(said))


def tell_programs(what: str, **facts: Any) -> None:
    """A line for programs: a JSON object."""
    there = {key: value for key, value in facts.items() if value is not None}
    line = {"at": round(time.time(), 3), "what": what, **there}
    print(json.dumps(line, ensure_ascii=False), file=sys.stderr, flush=True)


class Warnings(logging.Formatter):
    """What is logged otherwise, as a line for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {"at": round(record.created, 3), "what": "warning"}
        return json.dumps(line | {"note": record.getMessage()}, ensure_ascii=False)
