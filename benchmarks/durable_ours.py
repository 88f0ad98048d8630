"""Durable workflows in anabranch's words; see :mod:`benchmarks.durable_engines`.

What is returned by a step is stored before the next one begins, in one transaction. A run
that waits is put back by its worker, and whoever answers it writes a row.
"""

import asyncio
from contextlib import suppress

from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    Runs,
    StartEvent,
    StopEvent,
    Store,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.dispatch import Driven, Waiting
from anabranch.workflow.stores import PostgresStore, SQLiteStore
from benchmarks.durable_engines import Answer, Bodies, Engine, Tally


class Start(StartEvent):
    left: int


class Go(Event):
    left: int


class Answered(HumanResponseEvent):
    sent_at: float


class Chain(Workflow):
    bodies: Bodies

    @step
    async def start(self, ev: Start) -> Go | StopEvent:
        return self.behind(ev.left)

    @step
    async def go(self, ev: Go) -> Go | StopEvent:
        return self.behind(ev.left)

    def behind(self, left: int) -> Go | StopEvent:
        left = self.bodies.step(left)
        return Go(left=left) if left else StopEvent(result=left)


class Ask(Workflow):
    bodies: Bodies

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answered, timeout=None)
        self.bodies.told(answer.sent_at)
        return StopEvent()


class Counting(Worker):
    """A worker that counts the runs which it has put back."""

    def __init__(self, *workflows: Workflow) -> None:
        super().__init__(*workflows)
        self.put_back = Tally()

    async def drive(self, run_id: str) -> Driven:
        driven = await super().drive(run_id)
        if isinstance(driven, Waiting):
            self.put_back.add()
        return driven


class Ours(Engine):
    has_outside = True

    def __init__(self, place: str, bodies: Bodies) -> None:
        super().__init__(place, bodies)
        self.bodies = bodies

    def store(self) -> Store:
        """A new one at the place."""
        raise NotImplementedError

    async def open(self) -> None:
        store = self.store()
        self.exits.push_async_callback(store.close)
        self.workflow = Chain(timeout=None, durable=store)
        self.asking = Ask(timeout=None, durable=store)
        self.workflow.bodies = self.asking.bodies = self.bodies
        self.runs = Runs(store, self.asking)

    async def chain(self, run: str, count: int) -> int:
        return await self.workflow.run(run_id=run, start_event=Start(left=count))

    async def take_up(self, run: str) -> int:
        return await self.chain(run, 0)

    async def serve(self) -> None:
        self.worker = Counting(self.asking)
        working = asyncio.create_task(self.worker.work())

        async def end() -> None:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working

        self.exits.push_async_callback(end)

    async def ask(self, run: str) -> None:
        await self.runs.start(self.asking, run_id=run)

    async def all_wait(self, count: int) -> None:
        await self.worker.put_back.reaches(count)

    async def answer(self, run: str, sent_at: float) -> None:
        await self.runs.send(run, Answered(sent_at=sent_at))

    async def outside(self) -> Answer:
        store = self.store()
        self.exits.push_async_callback(store.close)
        self.runs = Runs(store)
        return self.answer


class OnSQLite(Ours):
    def store(self) -> Store:
        return SQLiteStore(self.place)


class OnSQLitePower(Ours):
    def store(self) -> Store:
        return SQLiteStore(self.place, durability="power")


class OnPostgres(Ours):
    def store(self) -> Store:
        return PostgresStore(self.place)
