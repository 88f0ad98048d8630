"""Workflows whose steps run on executors, in a module that a worker can import."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from anabranch.workflow import Event, StartEvent, StopEvent, Workflow, step
from anabranch.workflow.retry_policy import retry_policy, wait_none

PATIENCE_S = 30.0
PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


class Refused(Exception):
    """As the errors of many API clients: made from keywords, with facts as attributes."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"refused with status {status}")
        self.status = status


class Work(Event):
    n: int = 0
    folder: str = ""


class Done(Event):
    n: int = 0
    pid: int = 0
    place: str = ""


def say(folder: str) -> None:
    """Tell the test, through a file, which process has begun."""
    (Path(folder) / f"pid-{os.getpid()}").touch()


def said(folder: Path) -> list[int]:
    return [int(path.name[4:]) for path in folder.glob("pid-*")]


class Places(Workflow):
    """Says where its steps ran, and what they saw."""

    def __init__(self, **options: Any) -> None:
        super().__init__(timeout=None, **options)
        self.factor = 3

    @step
    async def begin(self, ev: StartEvent) -> Work:
        PLACE.set("run")
        return Work(n=14)

    @step(executor="process")
    def compute(self, ev: Work) -> Done:
        self.factor += ev.n
        return Done(n=self.factor, pid=os.getpid(), place=PLACE.get())

    @step(executor="process")
    async def think(self, ev: Done) -> Work | StopEvent:
        await asyncio.sleep(0)
        seen = {"self": self.factor, "event": ev.n, "place": ev.place}
        return StopEvent(result={**seen, "pids": [ev.pid, os.getpid()]})


class InThread(Workflow):
    @step(executor="thread")
    def block(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(os.getpid(), threading.current_thread().name))


class Failing(Workflow):
    @step(executor="process", retry_policy=retry_policy(wait=wait_none()))
    def fail(self, ev: StartEvent) -> StopEvent:
        marker = Path(ev.folder) / "tries"
        tries = marker.read_text() if marker.exists() else ""
        marker.write_text(tries + "x")
        if len(tries) < ev.times:
            raise Refused(status=500 + len(tries))
        return StopEvent(result=len(tries))


class Dying(Workflow):
    """Its process is killed in the middle of the step, so many times."""

    @step(executor="process")
    def crunch(self, ev: StartEvent) -> StopEvent:
        folder = Path(ev.folder)
        say(ev.folder)
        if len(said(folder)) <= ev.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return StopEvent(result=len(said(folder)))


class Slow(Workflow):
    @step(executor="process")
    def warm_up(self, ev: StartEvent) -> Work:
        return Work(folder=ev.folder)

    @step(executor="process", timeout=0.5)
    def stay(self, ev: Work) -> StopEvent:
        say(ev.folder)
        time.sleep(PATIENCE_S * 10)
        return StopEvent()


class Endless(Workflow):
    @step(executor="process")
    async def stay(self, ev: StartEvent) -> StopEvent:
        say(ev.folder)
        await asyncio.sleep(PATIENCE_S * 10)
        return StopEvent()


class Unsendable(Workflow):
    @step(executor="process")
    def lock(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=threading.Lock())


class Crossing(Workflow):
    """A step on a process between two that are in a journal."""

    @step
    async def begin(self, ev: StartEvent) -> Work:
        return Work(folder=ev.folder)

    @step(executor="process")
    def crunch(self, ev: Work) -> Done:
        say(ev.folder)
        (Path(ev.folder) / "begun").touch()
        deadline = time.monotonic() + PATIENCE_S
        while not (Path(ev.folder) / "go").exists():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)
        return Done(n=os.getpid())

    @step
    async def end(self, ev: Done) -> StopEvent:
        return StopEvent(result=ev.n)


class OnRay(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> list[Work]:
        return [Work(n=n) for n in range(6)]

    @step(executor="ray")
    def square(self, ev: Work) -> Done:
        return Done(n=ev.n**2, pid=os.getpid())

    @step
    async def end(self, evs: list[Done]) -> StopEvent:
        return StopEvent(result=[(ev.n, ev.pid) for ev in evs])
