"""A run whose driver is killed with SIGKILL, over and over, until it has ended.

``python mortal.py STORE LOG boundaries`` kills one run before its first commit, another one
after it, and so on for each commit; ``python mortal.py STORE LOG random SEED`` at random times. Each life is
a process of its own. What is left of each run is printed as JSON: how often it was killed,
and what the store says.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    Runs,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from anabranch.workflow.stores import Commit
from anabranch.workflow.stores.places import store_at

PARTS = 6
LIVES = 400


class Part(Event):
    n: int


class Done(Event):
    n: int


class Ask(InputRequiredEvent):
    question: str


class Answer(HumanResponseEvent):
    text: str


class Link(Event):
    n: int


class Said(Event):
    what: str
    pid: int


class Mortal(Workflow):
    """Fans out, counts, joins, asks a person, remembers, waits a little, and goes on."""

    def __init__(self, log: Path | None = None, **options: Any) -> None:
        super().__init__(timeout=None, **options)
        self._log = log

    def note(self, what: str) -> None:
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(f"{what}\n")

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> list[Part]:
        self.note("begin")
        ctx.write_event_to_stream(Said(what="begin", pid=os.getpid()))
        return [Part(n=n) for n in range(PARTS)]

    @step(num_workers=3)
    async def work(self, ctx: Context, ev: Part) -> Done:
        self.note(f"work {ev.n}")
        await asyncio.sleep(0.001 * ev.n)
        async with ctx.store.edit_state() as state:
            state["count"] = state.get("count", 0) + 1
        ctx.write_event_to_stream(Said(what=f"work {ev.n}", pid=os.getpid()))
        return Done(n=ev.n)

    @step
    async def join(self, ctx: Context, done: list[Done]) -> Link:
        self.note("join")
        await ctx.store.set("joined", sorted(event.n for event in done))
        token = await ctx.once("token", lambda: random.getrandbits(64))
        ctx.write_event_to_stream(Said(what="joined", pid=os.getpid()))
        answer = await ctx.wait_for_event(Answer, waiter_event=Ask(question="go on?"))
        await ctx.store.set("said", answer.text)
        assert token == await ctx.once("token", lambda: 0)
        return Link(n=3)

    @step
    async def chain(self, ctx: Context, ev: Link) -> Link | StopEvent:
        self.note(f"chain {ev.n}")
        async with ctx.store.edit_state() as state:
            state["count"] += 1
        if ev.n:
            return Link(n=ev.n - 1)
        try:
            await ctx.wait_for_event(Answer, timeout=0.01)
        except TimeoutError:
            pass
        state = await ctx.store.get_state()
        return StopEvent(result=[state["count"], state["joined"], state["said"]])


EXPECTED = [PARTS + 4, list(range(PARTS)), "yes"]


@dataclass(frozen=True)
class Life:
    """One process's share of a run.

    Attributes:
        dies_at: The commit at which it kills itself.
        when: Whether before or after that commit.
        after_s: When it is killed, if it has not ended.
    """

    dies_at: int = -1
    when: str = "before"
    after_s: float = float("inf")


@dataclass(frozen=True)
class Story:
    """One run and all its lives."""

    place: str
    run_id: str
    log: Path

    async def live(self, life: Life) -> Any:
        store = store_at(self.place)
        commit, number = store.commit, 0

        async def deadly(run_id: str, what: Commit) -> None:
            nonlocal number
            is_fatal, number = number == life.dies_at, number + 1
            if is_fatal and life.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            await commit(run_id, what)
            if is_fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        vars(store)["commit"] = deadly
        flow = Mortal(self.log, durable=store)
        handler = flow.run(run_id=self.run_id)
        answering = asyncio.ensure_future(self.answer(Runs(store, flow)))
        try:
            return await handler
        finally:
            answering.cancel()
            await asyncio.wait([answering])
            await store.close()

    async def answer(self, runs: Runs) -> None:
        """Answer before the run asks, and again in every life, by mistake."""
        while await runs.store.info(self.run_id) is None:
            await asyncio.sleep(0.001)
        await runs.send(self.run_id, Answer(text="yes"), message_id="the answer")

    def lives(self, life: Life) -> bool:
        """Live in a process of its own; whether it was killed."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert asyncio.run(self.live(life)) == EXPECTED
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        if life.after_s < float("inf"):
            time.sleep(life.after_s)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return True
        if os.WEXITSTATUS(status):
            raise SystemExit("a life ended with an error")
        return False

    async def told(self, kills: int) -> dict[str, Any]:
        store = store_at(self.place)
        runs = Runs(store, Mortal(durable=store))
        recorded = Counter(
            f"{entry.step} {entry.execution}"
            for entry in await runs.history(self.run_id)
            if entry.kind == "Returned"
        )
        said = Counter[str]()
        async for _, event in runs.events(self.run_id, follow=False):
            said[event.what if isinstance(event, Said) else type(event).__name__] += 1
        result = await runs.result(self.run_id)
        await store.close()
        return {
            "kills": kills,
            "result": result,
            "recorded": recorded,
            "said": said,
            "bodies": len(self.log.read_text().splitlines()),
        }

    def end(self, kills: int) -> dict[str, Any]:
        """Let it live to its end, and tell what is left."""
        self.lives(Life())
        return asyncio.run(self.told(kills))


def boundaries(place: str, log: Path) -> Iterator[dict[str, Any]]:
    """A run for each of its commits and the instants before and after it."""
    for number in range(LIVES):
        for when in ("before", "after"):
            name = f"{number}-{when}"
            story = Story(place, name, log.with_name(f"{log.name}-{name}"))
            if not story.lives(Life(number, when)):
                return
            yield story.end(1)


def at_random(place: str, log: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A run that is killed at random times until a life is long enough."""
    draw = random.Random(seed)
    story = Story(place, f"random-{seed}", log)
    for number in range(LIVES):
        # Longer and longer, so that it ends.
        if not story.lives(Life(after_s=draw.uniform(0.001, 0.03 * 1.01**number))):
            yield story.end(number)
            return
    raise SystemExit(f"the run did not end in {LIVES} lives")


def main(place: str, log: str, how: str, seed: str = "0") -> None:
    if how == "boundaries":
        told = boundaries(place, Path(log))
    else:
        told = at_random(place, Path(log), int(seed))
    print(json.dumps(list(told)))


if __name__ == "__main__":
    main(*sys.argv[1:])
