"""A worker of runs that share a queue, for tests that start several and kill some.

It says in the log when each execution begins and ends, and drives runs until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from anabranch.jobs import RateLimit
from anabranch.workflow import Event, StartEvent, StopEvent, Worker, Workflow, step
from anabranch.workflow.dispatch import LocalDispatcher
from anabranch.workflow.queues import Queue
from anabranch.workflow.stores.places import store_at

MOST = 3
REQUESTS, PER_S = 20, 2.0
LEASE_S = 4.0


class Work(Event):
    n: int


class Done(Event):
    pass


class Flow(Workflow):
    """Ten executions that wait for their turn in a queue."""

    def __init__(self, durable: Any, log: str) -> None:
        super().__init__(durable=durable, timeout=None)
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(self, what: str) -> None:
        # All processes of a machine have one monotonic clock; a short write is whole.
        os.write(self._log, f"{time.monotonic()} {os.getpid()} {what}\n".encode())

    @step
    async def begin(self, ev: StartEvent) -> list[Work]:
        return [Work(n=n) for n in range(10)]

    @step(
        queue=Queue("shared", MOST, RateLimit(requests=REQUESTS, per=PER_S), lease=LEASE_S),
        num_workers=10,
    )
    async def work(self, ev: Work) -> Done:
        self.say("begins")
        try:
            await asyncio.sleep(0.03 + 0.01 * (ev.n % 3))
        finally:
            self.say("ends")
        return Done()

    @step
    async def end(self, evs: list[Done]) -> StopEvent:
        return StopEvent(result=len(evs))


async def work(place: str, log: str) -> None:
    """Drive runs."""
    print("ready", flush=True)
    dispatcher = LocalDispatcher(store_at(place), slots=2, lease=LEASE_S)
    await Worker(Flow(place, log), dispatcher=dispatcher, lease=LEASE_S).work()
