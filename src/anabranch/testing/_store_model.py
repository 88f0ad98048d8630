"""A store does what the one in memory does, whatever it is asked for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from anabranch.errors import AnabranchError
from anabranch.testing._store_kit import ManualClock, StoreTests, new, time_of
from anabranch.workflow.stores.protocol import FINAL, Commit, Opened, RunInfo, Status

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from anabranch.workflow import Store

RUNS = ("a", "b")

Operation: TypeAlias = tuple[Any, ...]
"""The name of one of the methods of :class:`_Side`, and what it is given."""


@dataclass
class _Side:
    """One of the two stores, with what its users know.

    Results are given without times, and epochs as how many openings ago they were given.
    """

    store: Store
    pass_time: Callable[[float], Awaitable[None]]
    epochs: defaultdict[str, list[int]] = field(
        default_factory=lambda: defaultdict[str, list[int]](lambda: [-1])
    )

    async def do(self, operation: Operation) -> object:
        name, *given = operation
        try:
            return await getattr(self, name)(*given)
        except AnabranchError as error:
            return type(error)

    async def create(self, run_id: str, due_in: float | None, is_fork: bool) -> bool:
        due_at = await time_of(self.store) + due_in if due_in else due_in
        begin, snapshot = (None, b"fork") if is_fork else (b"begin", None)
        run = new(run_id, due_at=due_at, begin=begin, snapshot=snapshot)
        return await self.store.create(run)

    async def open(self, run_id: str) -> object:
        opened: Opened = await self.store.open(run_id, owner="us", lease=100.0)
        self.epochs[run_id].append(opened.info.epoch)
        messages = [(message.message_id, message.body) for message in opened.messages]
        return _plain(opened.info), opened.begin, opened.snapshot, *opened.facts, messages

    async def commit(
        self, run_id: str, epochs_ago: int, ahead: int, counts: tuple[int, int], what: Any
    ) -> None:
        status, takes, keeps_snapshot, dropped, due_in, fits = what
        info = await self.store.info(run_id)
        position = max(0, (info.position if info else 0) + ahead)
        is_over = info is not None and info.status in FINAL
        facts, published = counts
        messages = await self.store.messages(run_id)
        commit = Commit(
            epoch=self._epoch(run_id, epochs_ago),
            position=position,
            facts=[b"fact %d" % (position + n) for n in range(facts)],
            published=[b"event"] * published,
            taken=[message.number for message in messages[:takes]],
            status=status,
            due_at=await time_of(self.store) + due_in if due_in else due_in,
            note=f"{status} at {position}",
            result=b"result" if takes else None,
            snapshot=b"state %d" % position if keeps_snapshot else None,
            keep_from=max(0, position - dropped),
            reopens=is_over == fits,
        )
        await self.store.commit(run_id, commit)

    async def release(self, run_id: str, epochs_ago: int, due_in: float | None) -> bool:
        due_at = await time_of(self.store) + due_in if due_in else due_in
        epoch = self._epoch(run_id, epochs_ago)
        return await self.store.release(run_id, epoch=epoch, due_at=due_at)

    async def renew(self, epochs_ago: int) -> set[str]:
        epochs = {run_id: self._epoch(run_id, epochs_ago) for run_id in RUNS}
        return await self.store.renew(epochs, lease=100.0)

    async def claim(self) -> list[str]:
        claimed = await self.store.claim(["w"], owner="them", lease=100.0, limit=9)
        return sorted(claimed)  # which of two that are due at once is first is not said

    async def send(self, run_id: str, message_id: str) -> bool:
        return await self.store.send(run_id, message_id, b"body of " + message_id.encode())

    async def wait(self, seconds: float) -> None:
        await self.pass_time(seconds)

    async def purge(self, run_id: str) -> bool:
        return await self.store.purge(run_id)

    async def look(self, run_id: str, upto: int | None) -> object:
        info = await self.store.info(run_id)
        if info is None:
            return None
        history = await self.store.history(run_id, upto=upto)
        assert history.info == info
        messages = await self.store.messages(run_id)
        return (
            _plain(info),
            (history.begin, history.snapshot, list(history.facts)),
            await self.store.events(run_id),
            [(message.message_id, message.body) for message in messages],
        )

    def _epoch(self, run_id: str, epochs_ago: int) -> int:
        return self.epochs[run_id][-1 - epochs_ago :][0]


def _plain(info: RunInfo) -> object:
    is_leased = info.leased_until > 0.0
    return (
        (info.run_id, info.status, info.position, info.published, info.owner, is_leased),
        (info.due_at and info.due_at > 0.0, info.note, info.result),
    )


class Modelled(StoreTests):
    """A store is compared with the one in memory."""

    def test_a_store_does_what_the_one_in_memory_does(self) -> None:
        from hypothesis import HealthCheck, given, settings

        @settings(
            max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
        @given(_operations())
        def check(operations: list[Operation]) -> None:
            asyncio.run(self._compare(operations))

        check()

    async def _compare(self, operations: list[Operation]) -> None:
        from anabranch.workflow.stores.memory import MemoryStore

        clock = ManualClock()

        async def move(seconds: float) -> None:
            clock.time += seconds

        store = await self.make()
        try:
            for info in await store.runs():
                await store.purge(info.run_id)
            sides = (
                _Side(store, lambda seconds: self.pass_time(store, seconds)),
                _Side(MemoryStore(clock=clock), move),
            )
            for operation in operations:
                done, expected = [await side.do(operation) for side in sides]
                assert done == expected, operation
                for run_id in RUNS:
                    done, expected = [await side.look(run_id, None) for side in sides]
                    assert done == expected, operation
        finally:
            await self.close(store)


def _operations() -> SearchStrategy[list[Operation]]:
    from hypothesis import strategies as st

    run = st.sampled_from(("a", "a", "a", "b"))
    # Far from each other, as the clock may go on by itself meanwhile.
    due_in = st.sampled_from((0.0, 0.0, 150.0, None))
    epochs_ago = st.sampled_from((0,) * 9 + (1, 2))
    statuses = cast(
        "tuple[Status, ...]", ("running", "running", "waiting", "completed", "failed")
    )
    what = st.tuples(
        st.sampled_from(statuses),
        st.integers(0, 2),
        st.booleans(),
        st.integers(0, 9),
        due_in,
        st.sampled_from((True,) * 9 + (False,)),
    )
    operations: dict[str, tuple[int, tuple[SearchStrategy[Any], ...]]] = {
        "commit": (
            10,
            (
                run,
                epochs_ago,
                st.sampled_from((0,) * 9 + (-1, 1)),
                st.tuples(st.integers(0, 3), st.integers(0, 2)),
                what,
            ),
        ),
        "create": (1, (run, due_in, st.booleans())),
        "open": (4, (run,)),
        "release": (2, (run, epochs_ago, due_in)),
        "renew": (1, (epochs_ago,)),
        "claim": (3, ()),
        "send": (3, (run, st.sampled_from(("m1", "m2", "m3")))),
        "wait": (2, (st.sampled_from((60.0, 130.0)),)),
        "purge": (1, (run,)),
        "look": (1, (run, st.integers(0, 12))),
    }
    names = [name for name, (weight, _) in operations.items() for _ in range(weight)]
    operation = st.sampled_from(names).flatmap(
        lambda name: st.tuples(st.just(name), *operations[name][1])
    )
    begin = [("create", "a", 0.0, False), ("open", "a"), ("create", "b", None, True)]
    return st.lists(operation, min_size=10, max_size=40).map(lambda more: [*begin, *more])
