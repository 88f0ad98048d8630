"""What the tests of a store are written with."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from anabranch.workflow import Store
    from anabranch.workflow.stores.protocol import NewRun, Opened

FACTS: Final = (b"one", b"two", b"", b"\x00\xff", "größer".encode(), b'{"a": 1}')

ODD: Final = (
    "r",
    "R",
    "r2",
    "r%",
    "r_",
    "r ",
    "",
    "r'; DROP TABLE runs; --",
    'say "r"',
    "ä/ö\\n",
    "a\N{COMBINING DIAERESIS}/o",
    "\N{SNOWMAN}\N{PERSON WITH FOLDED HANDS}",
    "line\nbreak\t",
    "x" * 500,
)
"""Names that differ, though a careless store may not see it."""

LEASE: Final = 60.0
MARGIN: Final = 10.0
"""Seconds that a clock which goes on by itself may be ahead during a test."""

PATIENCE_S: Final = 30.0

T = TypeVar("T", bound="StoreTests")


class ManualClock:
    """A Clock that stands until it is moved.

    Attributes:
        time: What it shows, in seconds since the epoch.
    """

    def __init__(self, time: float = 1_000_000_000.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += max(0.0, seconds)
        await asyncio.sleep(0)


class StoreTests(ABC):
    """How the tests come by stores."""

    @abstractmethod
    async def make(self) -> Store:
        """A new store without runs, on the running loop."""

    @abstractmethod
    async def pass_time(self, store: Store, seconds: float) -> None:
        """Let time pass for leases and due times: move a clock, or the rows."""

    async def another(self, store: Store) -> Store | None:
        """Another store on the same runs, as another process has it; ``None`` if none can.

        It goes by the same time.
        """
        return None

    async def close(self, store: Store) -> None:
        """Release what :meth:`make` or :meth:`another` has opened."""
        await store.close()


def on_a_store(
    test: Callable[[T, Store], Coroutine[Any, Any, None]],
) -> Callable[[T], None]:
    """A test that is given a new store on a new loop."""

    def on_a_loop(self: T) -> None:
        async def run() -> None:
            store = await self.make()
            try:
                await test(self, store)
            finally:
                await self.close(store)

        asyncio.run(run())

    on_a_loop.__name__ = test.__name__  # what functools.wraps adds would confuse pytest
    return on_a_loop


def on_two_stores(
    test: Callable[[T, Store, Store], Coroutine[Any, Any, None]],
) -> Callable[[T], None]:
    """A test that is given two stores with the same runs; skipped if there are none."""

    async def with_another(self: T, store: Store) -> None:
        another = await self.another(store)
        if another is None:
            import pytest

            pytest.skip("there cannot be two such stores with the same runs")
        try:
            await test(self, store, another)
        finally:
            await self.close(another)

    with_another.__name__ = test.__name__
    return on_a_store(with_another)


def new(
    run_id: str,
    *,
    workflow: str = "w",
    due_at: float | None = 0.0,
    begin: bytes | None = b"begin",
    snapshot: bytes | None = None,
) -> NewRun:
    from anabranch.workflow.stores.protocol import NewRun

    return NewRun(
        run_id=run_id, workflow=workflow, due_at=due_at, begin=begin, snapshot=snapshot
    )


async def opened(store: Store, run_id: str = "r", *, due_at: float | None = 0.0) -> Opened:
    """A new run, opened."""
    assert await store.create(new(run_id, due_at=due_at))
    return await store.open(run_id, owner="us", lease=LEASE)


async def time_of(store: Store) -> float:
    """What the store's clock shows, about."""
    name = "what time is it?"
    await store.create(new(name, workflow=name, due_at=None))
    info = await store.info(name)
    assert info is not None
    await store.purge(name)
    return info.created_at


async def everything(store: Store, run_id: str = "r") -> Sequence[object]:
    """All that is kept of a run, to be compared."""
    return (
        await store.info(run_id),
        await store.history(run_id),
        await store.messages(run_id),
        await store.events(run_id),
    )


async def claimed(
    store: Store, *workflows: str, owner: str = "us", limit: int = 100
) -> list[str]:
    """What is due, of the workflow ``w`` if none is named."""
    return await store.claim(workflows or ("w",), owner=owner, lease=LEASE, limit=limit)


async def refuses(kind: type[BaseException], call: Awaitable[object]) -> BaseException:
    """The error of this kind, and no other, that a call raises."""
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


@asynccontextmanager
async def changes_of(
    store: Store,
) -> AsyncGenerator[AsyncIterator[Sequence[str]], None]:
    """The changes from now on."""
    changes = store.changes()
    try:
        first = await asyncio.wait_for(anext(changes), PATIENCE_S)
        assert list(first) == []
        yield changes
    finally:
        close = getattr(changes, "aclose", None)
        if close is not None:
            await close()


async def told_of(changes: AsyncIterator[Sequence[str]], run_id: str) -> None:
    """Return when one is told that something happened to a run."""

    async def wait() -> None:
        async for run_ids in changes:
            if not run_ids or run_id in run_ids:
                return

    await asyncio.wait_for(wait(), PATIENCE_S)
