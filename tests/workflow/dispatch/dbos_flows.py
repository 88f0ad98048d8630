"""Workflows for the tests of DBOS, and a worker process that drives them.

::

    with worker(url, "runs.db", lease=2.0) as process:
        ...
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from anabranch.workflow import (
    Context,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.dispatch.dbos import DBOSDispatcher
from anabranch.workflow.stores import Store
from anabranch.workflow.stores.places import store_at

ROOT = Path(__file__).parents[3]


class Question(InputRequiredEvent):
    text: str = ""


class Answer(HumanResponseEvent):
    text: str = ""


class Asking(StartEvent):
    answers: int = 1


class Ask(Workflow):
    """Waits for answers, one after the other."""

    @step
    async def ask(self, ctx: Context, ev: Asking) -> StopEvent:
        given = []
        for n in range(ev.answers):
            question = Question(text=f"question {n}")
            answer = await ctx.wait_for_event(
                Answer, waiter_id=f"{n}", waiter_event=question, timeout=None
            )
            given.append(answer.text)
        return StopEvent(result=given)


class Nap(Workflow):
    """Waits for somebody until a time."""

    @step
    async def nap(self, ctx: Context, ev: StartEvent) -> StopEvent:
        with suppress(TimeoutError):
            await ctx.wait_for_event(Answer, timeout=0.8)
            return StopEvent(result="answered")
        return StopEvent(result="slept well")


class Noting(StartEvent):
    path: str
    hangs: int = 0


class Note(Workflow):
    """Leaves a line in a file, and hangs as often as it is told to."""

    @step
    async def note(self, ctx: Context, ev: Noting) -> StopEvent:
        with Path(ev.path).open("a") as file:
            file.write(f"{os.getpid()}\n")
        lines = noted(Path(ev.path))
        if len(lines) <= ev.hangs:
            await asyncio.sleep(3600)
        return StopEvent(result=len(lines))


def noted(path: Path) -> list[int]:
    """Which processes have left a line."""
    return [int(line) for line in path.read_text().split()] if path.exists() else []


FLOWS = (Ask, Nap, Note)


def flows(store: Store) -> list[Workflow]:
    return [flow(durable=store, timeout=None) for flow in FLOWS]


# ------------------------------------------------------------------ another process


@contextmanager
def worker(
    url: str, place: object, *, lease: float = 30.0, dies_at: str = "", **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process that works; it has begun to. At the end it is killed.

    Args:
        url: DBOS's database.
        place: The store's.
        lease: Seconds for which it leases the runs that it drives.
        dies_at: The run before whose drive it is killed.
        **options: Of the dispatcher.
    """
    program = f"from {__name__} import main; main(*{(url, str(place), lease, dies_at)!r}"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}, **{options!r})"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def main(url: str, place: str, lease: float, dies_at: str, **options: Any) -> None:
    asyncio.run(_work(url, place, lease, dies_at, **options))


class Mortal(Worker):
    """A worker that is killed when it is given a certain run."""

    dies_at = ""

    async def drive(self, run_id: str) -> Any:
        if run_id == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().drive(run_id)


async def _work(url: str, place: str, lease: float, dies_at: str, **options: Any) -> None:
    store = store_at(place)
    quick: dict[str, Any] = {"poll": 0.05, "lease": 1.0}
    dispatcher = DBOSDispatcher(url, store, **(quick | options))
    worker = Mortal(*flows(store), dispatcher=dispatcher, lease=lease)
    worker.dies_at = dies_at
    working = asyncio.create_task(worker.work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    while "queue-worker-anabranch" not in {t.name for t in threading.enumerate()}:
        await asyncio.sleep(0.01)  # DBOS is launched when it looks into the queue
    print("works", flush=True)
    with suppress(asyncio.CancelledError):
        await working
    await store.close()
