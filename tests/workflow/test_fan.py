"""Lists fan out, and are joined once when all that they led to has ended."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import Field

from anabranch.testing import run_virtual
from anabranch.workflow import (
    All,
    Collect,
    Context,
    Event,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Take,
    Workflow,
    catch_error,
    step,
)


class Page(Event):
    n: int


class Part(Event):
    page: int
    n: int


class Piece(Event):
    page: int
    n: int


class PageDone(Event):
    n: int
    pieces: list[int] = Field(default_factory=list)


class Left(Event):
    n: int


class Right(Event):
    n: int


async def _result(flow: Workflow, **start: Any) -> Any:
    return await flow.run(**start)


class Nested(Workflow):
    """Pages of parts: a fan-out in a fan-out."""

    @step
    async def start(self, ev: StartEvent) -> list[Page]:
        return [Page(n=n) for n in range(ev.pages)]

    @step
    async def split(self, ev: Page) -> list[Part]:
        return [Part(page=ev.n, n=n) for n in range(ev.n)]

    @step(num_workers=9)
    async def work(self, ev: Part) -> Piece:
        await asyncio.sleep(10 - ev.n)
        return Piece(page=ev.page, n=ev.n)

    @step
    async def join_parts(self, pieces: list[Piece]) -> PageDone:
        number = pieces[0].page if pieces else 0
        return PageDone(n=number, pieces=[piece.n for piece in pieces])

    @step
    async def join_pages(
        self, pages: Annotated[list[PageDone], Collect(All())]
    ) -> StopEvent:
        return StopEvent(result=sorted((page.n, page.pieces) for page in pages))


def test_fan_outs_nest() -> None:
    assert run_virtual(_result(Nested(timeout=None), pages=4)) == [
        (0, []),
        (1, [0]),
        (2, [1, 0]),
        (3, [2, 1, 0]),
    ]


def test_an_empty_list_is_joined_with_nothing() -> None:
    assert run_virtual(_result(Nested(), pages=0)) == []


class Some(Workflow):
    """Of its branches some give nothing, some fail and are recovered, some do not."""

    @step
    async def start(self, ev: StartEvent) -> list[Page]:
        return [Page(n=n) for n in range(6)]

    @step
    async def work(self, ev: Page) -> PageDone | None:
        await asyncio.sleep(ev.n)
        if ev.n % 3 == 1:
            return None
        if ev.n % 3 == 2:
            raise ValueError(ev.n)
        return PageDone(n=ev.n)

    @catch_error(for_steps=["work"])
    async def recover(self, ev: StepFailedEvent) -> PageDone | None:
        assert isinstance(ev.input_event, Page)
        return PageDone(n=-ev.input_event.n) if ev.input_event.n == 2 else None

    @step
    async def join(
        self, ctx: Context, done: Annotated[list[PageDone], Collect()]
    ) -> StopEvent:
        await ctx.store.set("calls", 1 + await ctx.store.get("calls", default=0))
        return StopEvent(result=[d.n for d in done])


def test_branches_that_give_nothing_or_fail_are_not_waited_for() -> None:
    assert run_virtual(_result(Some())) == [0, -2, 3]


@pytest.mark.parametrize(("n", "expected"), [(1, [0]), (2, [0, 1]), (9, [0, 1, 2, 3])])
def test_the_first_n_are_enough(n: int, expected: list[int]) -> None:
    class Fastest(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Page]:
            return [Page(n=n) for n in range(4)]

        @step
        async def work(self, ev: Page) -> PageDone:
            await asyncio.sleep(ev.n)
            return PageDone(n=ev.n)

        @step
        async def join(
            self, done: Annotated[list[PageDone], Collect(Take(n))]
        ) -> StopEvent | None:
            calls.append([d.n for d in done])
            await asyncio.sleep(20)  # the others end meanwhile, and call nobody
            return StopEvent(result=calls)

    calls: list[list[int]] = []
    assert run_virtual(_result(Fastest())) == [expected]


def test_events_that_are_sent_count_as_members_of_the_fan_out() -> None:
    class Sends(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Page]:
            return [Page(n=n) for n in range(3)]

        @step
        async def work(self, ctx: Context, ev: Page) -> PageDone | Part | None:
            ctx.send_event(Part(page=ev.n, n=0))
            return None

        @step
        async def later(self, ev: Part) -> PageDone:
            await asyncio.sleep(5)
            return PageDone(n=ev.page)

        @step
        async def join(self, done: list[PageDone]) -> StopEvent:
            return StopEvent(result=sorted(d.n for d in done))

    assert run_virtual(_result(Sends())) == [0, 1, 2]


def test_a_step_with_several_events_is_called_when_there_is_one_of_each() -> None:
    class Meets(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Left | Right | None:
            for event in (Left(n=1), Left(n=2), Right(n=10), Right(n=20)):
                ctx.send_event(event)
            return None

        @step
        async def meet(self, right: Right, left: Left) -> PageDone:
            return PageDone(n=left.n + right.n)

        @step
        async def end(self, ctx: Context, ev: PageDone) -> StopEvent | None:
            got = ctx.collect_events(ev, [PageDone] * 2)
            return None if got is None else StopEvent(result=[e.n for e in got])

    assert run_virtual(_result(Meets())) == [11, 22]


def test_joins_in_a_fan_out_keep_to_their_branch() -> None:
    class Branches(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Page]:
            return [Page(n=n) for n in range(3)]

        @step
        async def fork(self, ev: Page) -> list[Left | Part]:
            return [Left(n=ev.n), Part(page=ev.n, n=10 * ev.n)]

        @step
        async def late(self, ev: Part) -> Right:
            await asyncio.sleep(3 - ev.page)  # the last branch comes first
            return Right(n=ev.n)

        @step
        async def meet(self, left: Left, right: Right) -> PageDone:
            assert right.n == 10 * left.n
            return PageDone(n=left.n)

        @step
        async def inner(self, done: list[PageDone]) -> Piece:
            return Piece(page=done[0].n, n=len(done))

        @step
        async def outer(self, pieces: list[Piece]) -> StopEvent:
            return StopEvent(result=sorted((p.page, p.n) for p in pieces))

    assert run_virtual(_result(Branches())) == [(0, 1), (1, 1), (2, 1)]


def test_a_list_without_a_join_is_so_many_events() -> None:
    class Loose(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Page]:
            return [Page(n=n) for n in range(3)]

        @step
        async def end(self, ctx: Context, ev: Page) -> StopEvent | None:
            got = ctx.collect_events(ev, [Page] * 3)
            return None if got is None else StopEvent(result=[e.n for e in got])

    assert run_virtual(_result(Loose())) == [0, 1, 2]


def test_a_fan_out_of_ten_thousand_leaves_nothing_behind() -> None:
    class Wide(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Page]:
            return [Page(n=n) for n in range(10_000)]

        @step(num_workers=16)
        async def work(self, ev: Page) -> PageDone:
            return PageDone(n=ev.n)

        @step
        async def join(self, ctx: Context, done: list[PageDone]) -> Left:
            return Left(n=len(done))

        @step
        async def end(self, ctx: Context, ev: Left) -> StopEvent:
            written = ctx.to_dict()["machine"]
            assert (written["scopes"], len(written["executions"])) == ({}, 1)
            return StopEvent(result=ev.n)

    assert asyncio.run(_result(Wide())) == 10_000
