"""A run that is killed three times, and does not care.

A book of six chapters is made in twelve steps: chapters are written at once, pages are
counted in the state that steps share, and at the end an editor is asked. The process that
drives the run is killed with SIGKILL in the middle of the chapters, behind them, and while
it waits; each time another one takes the run up where its journal ends. The editor answers
from this process, while nobody drives the run at all, and twice by mistake.

Every body writes a line into a file when it begins. What was under way when the process
died is begun anew, so there are more of these than steps. But each step is recorded once,
with what it did to the shared state: so the pages are right.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from anabranch.workflow import (
    Collect,
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

RUN_ID = "book"
TITLES = ("Rain", "Springs", "Rivers", "Lakes", "Deltas", "The sea")
STEPS = len(TITLES) + 6


class Order(StartEvent):
    folder: Path


class Title(Event):
    name: str


class Chapter(Event):
    name: str


class Bound(Event):
    names: list[str]


class Proofread(Event):
    pass


class Typeset(Event):
    pass


class Question(InputRequiredEvent):
    text: str


class Answer(HumanResponseEvent):
    by: str


class Approved(Event):
    by: str


class Book(Workflow):
    @step
    async def plan(self, ctx: Context, ev: Order) -> list[Title]:
        await ctx.store.set("folder", ev.folder)
        await ctx.store.set("pages", 0)
        await work(ctx, "plan")
        return [Title(name=name) for name in TITLES]

    @step(num_workers=2)
    async def write(self, ctx: Context, ev: Title) -> Chapter:
        await work(ctx, f"write {ev.name}")
        async with ctx.store.edit_state() as state:
            state.pages += 10 * len(ev.name)
        return Chapter(name=ev.name)

    @step
    async def bind(
        self, ctx: Context, chapters: Annotated[list[Chapter], Collect()]
    ) -> Bound:
        await work(ctx, "bind")
        return Bound(names=sorted((c.name for c in chapters), key=TITLES.index))

    @step
    async def proofread(self, ctx: Context, ev: Bound) -> Proofread:
        await work(ctx, "proofread")
        return Proofread()

    @step
    async def typeset(self, ctx: Context, ev: Proofread) -> Typeset:
        await work(ctx, "typeset")
        async with ctx.store.edit_state() as state:
            state.pages += 1  # the cover
        return Typeset()

    @step
    async def ask(self, ctx: Context, ev: Typeset) -> Approved:
        await work(ctx, "ask")
        pages = await ctx.store.get("pages")
        question = Question(text=f"Print {pages} pages?")
        answer = await ctx.wait_for_event(Answer, waiter_event=question, timeout=None)
        return Approved(by=answer.by)

    @step
    async def publish(self, ctx: Context, ev: Approved) -> StopEvent:
        await work(ctx, "publish")
        pages = await ctx.store.get("pages")
        return StopEvent(result=f"{pages} pages, approved by {ev.by}")


async def work(ctx: Context, what: str) -> None:
    """What takes time; and a line that says that it was begun."""
    folder = await ctx.store.get("folder")
    with (folder / "bodies.txt").open("a") as bodies:
        bodies.write(f"{what}\n")
    await asyncio.sleep(0.15)


# ------------------------------------------------------------- the process that is killed


async def drive(folder: Path) -> None:
    """Begin the run, or take it up."""
    book = Book(durable=folder / "runs.db", timeout=None)
    await book.run(run_id=RUN_ID, folder=folder)


# --------------------------------------------------------------- the one that looks on


class Onlooker:
    """Starts drivers, kills them, and reads the journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = Runs(folder / "runs.db", Book())
        self.driver: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, __file__, "drive", str(self.folder)]
        self.driver = subprocess.Popen(command)

    def kill(self) -> None:
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait()

    async def recorded(self) -> Counter[tuple[Any, Any]]:
        """How often each execution of a step was recorded as ended."""
        if await self.runs.store.info(RUN_ID) is None:
            return Counter()
        history = await self.runs.history(RUN_ID)
        return Counter((e.execution, e.step) for e in history if e.kind == "Returned")

    async def see(self, is_so: Callable[[list[str], str], bool]) -> list[str]:
        """The names of the steps recorded, as soon as something is so."""
        while True:
            steps = [name for _, name in await self.recorded()]
            info = await self.runs.store.info(RUN_ID)
            if info is not None and is_so(steps, info.status):
                return steps
            assert self.driver is not None
            assert self.driver.poll() is None, "the driver has ended by itself"
            await asyncio.sleep(0.01)

    async def look_on(self) -> None:
        print(f"A book of {len(TITLES)} chapters is made in {STEPS} steps.\n")

        self.start()
        steps = await self.see(lambda steps, _: steps.count("write") >= 2)
        self.kill()
        written = steps.count("write")
        print(f"1. killed in the fan-out: {written} of {len(TITLES)} chapters recorded")

        self.start()
        steps = await self.see(lambda steps, _: "bind" in steps)
        self.kill()
        print(f"2. killed behind it: {len(steps)} of {STEPS} steps recorded")

        self.start()
        steps = await self.see(lambda _, status: status == "waiting")
        self.kill()
        print(f"3. killed while it waits for the editor: {len(steps)} steps recorded")

        answer = Answer(by="Ada")
        for _ in range(2):
            counts = await self.runs.send(RUN_ID, answer, message_id="mail 31")
            print(f"   the editor answers, and nobody is there; it counts: {counts}")

        self.start()
        result = await self.runs.result(RUN_ID)
        assert self.driver is not None
        self.driver.wait()
        print(f"4. not killed: {result}\n")
        await self.check(result)

    async def check(self, result: Any) -> None:
        """See to it that nothing is missing and nothing is there twice."""
        bodies = (self.folder / "bodies.txt").read_text().splitlines()
        recorded = await self.recorded()
        pages = 10 * sum(map(len, TITLES)) + 1
        asked = [e async for _, e in self.runs.events(RUN_ID) if isinstance(e, Question)]
        print(f"{len(bodies)} times a body began, for {len(set(bodies))} things to do;")
        print(f"{recorded.total()} steps were recorded, each once;")
        print(f"{len(asked)} question was asked, and {pages} pages are right.\n")
        assert result == f"{pages} pages, approved by Ada"
        assert len(recorded) == recorded.total() == len(set(bodies)) == STEPS
        assert len(bodies) > STEPS
        assert [question.text for question in asked] == [f"Print {pages} pages?"]


async def main(folder: Path) -> None:
    onlooker = Onlooker(folder)
    try:
        await onlooker.look_on()
    finally:
        if onlooker.driver is not None:
            onlooker.kill()
        await onlooker.runs.store.close()


def show(folder: Path) -> None:
    """What the command line tells of the run, without its code."""
    command = [
        "runs",
        "show",
        RUN_ID,
        "--durable",
        str(folder / "runs.db"),
        "--width",
        "80",
    ]
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "anabranch", *command], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["drive"]:
        asyncio.run(drive(Path(sys.argv[2])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(Path(temporary)))
            show(Path(temporary))
