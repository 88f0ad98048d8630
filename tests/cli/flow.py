"""Workflows that the tests of commands run, by import or from a copy of this file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from anabranch.workflow import (
    Collect,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Order(StartEvent):
    """What all of them begin with.

    Attributes:
        folder: Where to look for the file ``go``, and to count bodies.
    """

    name: str = "you"
    count: int = 1
    folder: Path = Path()


class Said(Event):
    words: str


class Receipt(StopEvent):
    total: int


class Greeting(Workflow):
    """Says hello, and shows so."""

    @step
    async def greet(self, ctx: Context, ev: Order) -> StopEvent:
        ctx.write_event_to_stream(Said(words=f"hello {ev.name}"))
        return StopEvent(result=ev.get("result", f"hello {ev.name}"))


class Billing(Workflow):
    """Its result is an event of its own."""

    @step
    async def bill(self, ev: Order) -> Receipt:
        return Receipt(total=3)


class Part(Event):
    number: int


class Done(Event):
    number: int


class Question(InputRequiredEvent):
    text: str


class Approval(HumanResponseEvent):
    by: str
    ok: bool = True


class Asking(Workflow):
    """Does three parts, then asks a person."""

    @step
    async def plan(self, ctx: Context, ev: Order) -> list[Part]:
        await ctx.store.set("name", ev.name)
        return [Part(number=number) for number in range(3)]

    @step
    async def work(self, ev: Part) -> Done:
        return Done(number=ev.number)

    @step
    async def ask(self, ctx: Context, ev: Annotated[list[Done], Collect()]) -> StopEvent:
        total = sum(done.number for done in ev)
        answer = await ctx.wait_for_event(
            Approval, waiter_event=Question(text=f"is {total} right?"), timeout=None
        )
        name = await ctx.store.get("name")
        return StopEvent(result=[total, answer.by, answer.ok, name])


class Replying(Workflow):
    """Asks by an event, and is answered by one that a step takes."""

    @step
    async def ask(self, ev: Order) -> Question:
        return Question(text="well?")

    @step
    async def reply(self, ev: Approval) -> StopEvent:
        return StopEvent(result=ev.by)


class Half(Event):
    folder: Path


class Holding(Workflow):
    """Stands still in its second step for as long as there is no file ``go``."""

    @step
    async def first(self, ev: Order) -> Half:
        with (ev.folder / "bodies").open("a") as bodies:
            bodies.write("first\n")
        return Half(folder=ev.folder)

    @step
    async def second(self, ctx: Context, ev: Half) -> StopEvent:
        if not (ev.folder / "go").exists():
            ctx.write_event_to_stream(Said(words="holding"), recorded=False)
            await asyncio.Event().wait()
        return StopEvent(result="held")


class Failing(Workflow):
    """Fails for as long as there is no file ``go``."""

    @step
    async def first(self, ev: Order) -> Half:
        return Half(folder=ev.folder)

    @step
    async def second(self, ev: Half) -> StopEvent:
        if not (ev.folder / "go").exists():
            raise ValueError("no go")
        return StopEvent(result="gone")


def patient() -> Asking:
    """One without a limit of time."""
    return Asking(timeout=None)
