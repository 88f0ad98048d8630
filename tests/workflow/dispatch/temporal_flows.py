"""Workflows for the tests of Temporal, and a worker process that drives them.

::

    with worker(server.target, "runs.db", heartbeat=2.0) as process:
        ...
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.dispatch.temporal import TemporalDispatcher
from anabranch.workflow.stores import Store
from anabranch.workflow.stores.places import store_at

ROOT = Path(__file__).parents[3]


class Question(InputRequiredEvent):
    text: str = ""


class Answer(HumanResponseEvent):
    text: str = ""


class Ask(Workflow):
    """Waits for an answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(), timeout=None)
        return StopEvent(result=answer.text)


class Link(Event):
    n: int


class Begin(StartEvent):
    path: str
    links: int
    seconds: float = 0.0


class Chain(Workflow):
    """Goes from step to step, and notes in a file which process began which."""

    @step
    async def begin(self, ctx: Context, ev: Begin) -> Link:
        await ctx.store.set("begin", ev.model_dump())
        return Link(n=1)

    @step
    async def link(self, ctx: Context, ev: Link) -> Link | StopEvent:
        begin = Begin(**await ctx.store.get("begin"))
        with Path(begin.path).open("a") as file:
            file.write(f"{os.getpid()} {ev.n}\n")
        await asyncio.sleep(begin.seconds)
        async with ctx.store.edit_state() as state:
            state["done"] = [*state.get("done", []), ev.n]
            done = state["done"]
        return Link(n=ev.n + 1) if ev.n < begin.links else StopEvent(result=done)


def noted(path: Path) -> list[tuple[int, int]]:
    """Which processes have begun which links, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(n)) for pid, n in map(str.split, lines)]


def flows(store: Store) -> list[Workflow]:
    return [flow(durable=store, timeout=None) for flow in (Ask, Chain)]


# ------------------------------------------------------------------ another process


@contextmanager
def worker(target: str, place: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that works; it is about to begin. At the end it is killed.

    Args:
        target: Of Temporal.
        place: The store's.
        **options: Of the dispatcher.
    """
    program = f"from {__name__} import main; main(*{(target, str(place))!r}, **{options!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def main(target: str, place: str, **options: Any) -> None:
    asyncio.run(_work(target, place, **options))


async def _work(target: str, place: str, **options: Any) -> None:
    store = store_at(place)
    worker = Worker(*flows(store), dispatcher=TemporalDispatcher(target, **options))
    working = asyncio.create_task(worker.work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    print("works", flush=True)
    with suppress(asyncio.CancelledError):
        await working
    await store.close()
