"""What every store of journals must do: tests to inherit."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from anabranch.errors import JournalConflict, JournalError

if TYPE_CHECKING:
    from anabranch.workflow import Store

FACTS = [b"one", b"two", b"", b"\x00\xff", "größer".encode()]


class StoreContract(ABC):
    """Tests for a :class:`~anabranch.workflow.Store`, found by pytest in a subclass.

    ::

        class TestMyStore(StoreContract):
            async def make(self) -> Store:
                return MyStore(...)  # an empty one
    """

    @abstractmethod
    async def make(self) -> Store:
        """A new store without runs, on the running loop."""

    async def close(self, store: Store) -> None:  # noqa: B027  # not every store has to
        """Release what :meth:`make` has opened."""

    def _check(self, check: Callable[[Store], Awaitable[None]]) -> None:
        async def checked() -> None:
            store = await self.make()
            try:
                await check(store)
            finally:
                await self.close(store)

        asyncio.run(checked())

    def test_a_journal_is_created_once(self) -> None:
        async def check(store: Store) -> None:
            assert await store.create("r")
            opened = await store.open("r")
            await store.append("r", epoch=opened.epoch, position=0, facts=FACTS)
            assert not await store.create("r")
            assert list((await store.open("r")).facts) == FACTS

        self._check(check)

    def test_a_journal_that_is_not_there_cannot_be_opened(self) -> None:
        async def check(store: Store) -> None:
            await _raises(JournalError, store.open("r"))

        self._check(check)

    def test_facts_come_back_in_order_whatever_they_are(self) -> None:
        async def check(store: Store) -> None:
            epoch = await _opened(store, "r")
            position = 0
            large = [b"x" * 1_000_000, *FACTS]
            for facts in (FACTS[:1], FACTS[1:], large):
                position = await store.append(
                    "r", epoch=epoch, position=position, facts=facts
                )
            assert position == len(FACTS) + len(large)
            opened = await store.open("r")
            assert opened.position == position
            assert opened.snapshot is None
            assert list(opened.facts) == [*FACTS, *large]

        self._check(check)

    def test_journals_do_not_mix(self) -> None:
        async def check(store: Store) -> None:
            for run_id in ("r", "r2", "R", "r%", "r'; --", "ä/ö"):
                epoch = await _opened(store, run_id)
                facts = [run_id.encode()]
                await store.append(run_id, epoch=epoch, position=0, facts=facts)
            for run_id in ("r", "r2", "R", "r%", "r'; --", "ä/ö"):
                assert list((await store.open(run_id)).facts) == [run_id.encode()]

        self._check(check)

    def test_a_writer_that_is_wrong_about_the_position_writes_nothing(self) -> None:
        async def check(store: Store) -> None:
            epoch = await _opened(store, "r")
            await store.append("r", epoch=epoch, position=0, facts=FACTS)
            for position in (0, 2, len(FACTS) + 1):
                await _conflicts(store, "r", epoch, position)
            assert list((await store.open("r")).facts) == FACTS

        self._check(check)

    def test_whoever_opens_a_journal_is_its_only_writer(self) -> None:
        async def check(store: Store) -> None:
            old = await _opened(store, "r")
            await store.append("r", epoch=old, position=0, facts=FACTS[:1])
            new = (await store.open("r")).epoch
            assert new > old
            await _conflicts(store, "r", old, 1)
            await _raises(
                JournalConflict, store.snapshot("r", epoch=old, position=1, state=b"s")
            )
            assert await store.append("r", epoch=new, position=1, facts=FACTS[1:2]) == 2
            opened = await store.open("r")
            assert (list(opened.facts), opened.snapshot) == (FACTS[:2], None)

        self._check(check)

    def test_of_two_appends_at_one_position_one_wins(self) -> None:
        async def check(store: Store) -> None:
            epoch = await _opened(store, "r")

            async def append(fact: bytes) -> bool:
                try:
                    await store.append("r", epoch=epoch, position=0, facts=[fact, fact])
                except JournalConflict:
                    return False
                return True

            won = await asyncio.gather(*(append(bytes([n])) for n in range(8)))
            assert won.count(True) == 1
            winner = bytes([won.index(True)])
            assert list((await store.open("r")).facts) == [winner, winner]

        self._check(check)

    def test_a_snapshot_takes_the_place_of_the_facts_before_it(self) -> None:
        async def check(store: Store) -> None:
            epoch = await _opened(store, "r")
            await store.append("r", epoch=epoch, position=0, facts=FACTS)
            await store.snapshot("r", epoch=epoch, position=3, state=b"\x00state")
            opened = await store.open("r")
            assert opened.position == len(FACTS)
            assert opened.snapshot == b"\x00state"
            assert list(opened.facts) == FACTS[3:]
            epoch = opened.epoch
            await store.append("r", epoch=epoch, position=len(FACTS), facts=[b"more"])
            await store.snapshot("r", epoch=epoch, position=len(FACTS) + 1, state=b"s2")
            opened = await store.open("r")
            assert (opened.snapshot, list(opened.facts)) == (b"s2", [])

        self._check(check)

    def test_there_is_no_snapshot_of_what_has_not_happened(self) -> None:
        async def check(store: Store) -> None:
            epoch = await _opened(store, "r")
            await store.append("r", epoch=epoch, position=0, facts=FACTS)
            await store.snapshot("r", epoch=epoch, position=3, state=b"s")
            for position in (2, len(FACTS) + 1):
                snapshot = store.snapshot("r", epoch=epoch, position=position, state=b"t")
                await _raises(JournalConflict, snapshot)
            assert (await store.open("r")).snapshot == b"s"

        self._check(check)

    def test_a_purged_journal_is_gone_and_its_writer_is_told(self) -> None:
        async def check(store: Store) -> None:
            await store.purge("never there")
            epoch = await _opened(store, "r")
            await store.append("r", epoch=epoch, position=0, facts=FACTS)
            await store.purge("r")
            await _raises(JournalError, store.open("r"))
            await _conflicts(store, "r", epoch, len(FACTS))
            assert await store.create("r")
            assert list((await store.open("r")).facts) == []

        self._check(check)


async def _opened(store: Store, run_id: str) -> int:
    assert await store.create(run_id)
    opened = await store.open(run_id)
    assert (opened.position, opened.snapshot, list(opened.facts)) == (0, None, [])
    return opened.epoch


async def _conflicts(store: Store, run_id: str, epoch: int, position: int) -> None:
    facts: Sequence[bytes] = [b"lost"]
    await _raises(
        JournalConflict, store.append(run_id, epoch=epoch, position=position, facts=facts)
    )


async def _raises(kind: type[BaseException], awaitable: Awaitable[object]) -> None:
    try:
        await awaitable
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
