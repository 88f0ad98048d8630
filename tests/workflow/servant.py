"""A worker in a process of its own, for tests that kill, stop and freeze it.

``python servant.py STORE LOG LEASE`` works until it is terminated. Each body writes a line to
the log when it begins and when it ends: its step, what it was called with, and its process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)


class Link(Event):
    n: int


class Reply(HumanResponseEvent):
    text: str = ""


class Labour(Workflow):
    """A chain of steps that take some time, and a question at its end."""

    def __init__(self, log: Path, **options: Any) -> None:
        super().__init__(timeout=None, **options)
        self._log = log

    def note(self, what: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{what} {os.getpid()}\n")

    @step
    async def begin(self, ev: StartEvent) -> Link:
        return Link(n=ev.links)

    @step
    async def work(self, ctx: Context, ev: Link) -> Link | StopEvent:
        self.note(f"begins {ev.n}")
        async with ctx.store.edit_state() as state:
            state["count"] = state.get("count", 0) + 1
        await asyncio.sleep(0.05)
        ctx.write_event_to_stream(ev)
        self.note(f"ends {ev.n}")
        if ev.n:
            return Link(n=ev.n - 1)
        reply = await ctx.wait_for_event(Reply)
        return StopEvent(result=[await ctx.store.get("count"), reply.text])


async def main(place: str, log: str, lease: str) -> None:
    flow = Labour(Path(log), durable=place)
    working = asyncio.ensure_future(Worker(flow, lease=float(lease)).work())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, working.cancel)
    print("works", flush=True)
    try:
        await working
    except asyncio.CancelledError:
        print("has let go", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
