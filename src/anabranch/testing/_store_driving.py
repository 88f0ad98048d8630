"""What a store must do for the one that drives a run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anabranch.errors import Fenced, JournalConflict, RunNotFound
from anabranch.testing._store_kit import (
    FACTS,
    LEASE,
    MARGIN,
    StoreTests,
    changes_of,
    claimed,
    everything,
    new,
    on_a_store,
    on_two_stores,
    opened,
    refuses,
    time_of,
    told_of,
)
from anabranch.workflow.stores.protocol import FINAL, Commit, NewRun, Published, Snapshot

if TYPE_CHECKING:
    from anabranch.workflow import Store


class Beginning(StoreTests):
    """Runs are created and opened."""

    @on_a_store
    async def test_a_new_run_is_as_it_was_given(self, store: Store) -> None:
        run = NewRun(
            run_id="r",
            workflow="w",
            version="v2",
            shape=b"\x00shape",
            begin=b"begin",
            due_at=None,
            origin="other",
        )
        assert await store.create(run)
        info = await store.info("r")
        assert info is not None
        assert (info.run_id, info.workflow, info.version) == ("r", "w", "v2")
        assert (info.shape, info.origin) == (b"\x00shape", "other")
        assert (info.status, info.epoch) == ("pending", 0)
        assert (info.position, info.published) == (0, 0)
        assert (info.due_at, info.owner) == (None, "")
        assert info.leased_until <= info.created_at == info.updated_at
        assert (info.note, info.result) == ("", None)
        found = await store.open("r", owner="us", lease=LEASE)
        assert (found.begin, found.snapshot) == (b"begin", None)
        assert (list(found.facts), list(found.messages)) == ([], [])

    @on_a_store
    async def test_a_run_is_created_once(self, store: Store) -> None:
        run = await opened(store)
        await store.commit("r", Commit(epoch=run.info.epoch, position=0, facts=FACTS))
        before = await everything(store)
        assert not await store.create(new("r", workflow="x", begin=b"other"))
        assert await everything(store) == before

    @on_a_store
    async def test_of_many_that_create_a_run_one_does(self, store: Store) -> None:
        made = await asyncio.gather(
            *(store.create(new("r", begin=bytes([n]))) for n in range(16))
        )
        assert made.count(True) == 1
        found = await store.open("r", owner="us", lease=LEASE)
        assert found.begin == bytes([made.index(True)])

    @on_a_store
    async def test_a_run_that_is_not_there_is_not_found(self, store: Store) -> None:
        for call in (
            store.open("r", owner="us", lease=LEASE),
            store.send("r", "m", b""),
            store.events("r"),
            store.history("r"),
        ):
            error = await refuses(RunNotFound, call)
            assert isinstance(error, RunNotFound)
            assert error.run_id == "r"
        assert await store.info("r") is None
        assert not await store.purge("r")
        assert await store.renew({"r": 1}, lease=LEASE) == {"r"}
        await refuses(Fenced, store.commit("r", Commit(epoch=1, position=0)))
        await refuses(Fenced, store.release("r", epoch=1, due_at=None))
        assert await store.runs() == []

    @on_a_store
    async def test_each_opening_raises_the_epoch(self, store: Store) -> None:
        assert await store.create(new("r"))
        for epoch in range(1, 4):
            found = await store.open("r", owner=f"worker {epoch}", lease=LEASE)
            assert (found.info.epoch, found.info.owner) == (epoch, f"worker {epoch}")
            assert found.info.leased_until > found.info.created_at + LEASE - MARGIN
            assert found.info == await store.info("r")

    @on_a_store
    async def test_of_many_that_open_a_run_one_may_write(self, store: Store) -> None:
        assert await store.create(new("r"))
        all_found = await asyncio.gather(
            *(store.open("r", owner=str(n), lease=LEASE) for n in range(8))
        )
        epochs = [found.info.epoch for found in all_found]
        assert sorted(epochs) == list(range(1, 9))
        for epoch in range(1, 8):
            await refuses(Fenced, store.commit("r", Commit(epoch=epoch, position=0)))
        await store.commit("r", Commit(epoch=8, position=0, facts=FACTS))


class Committing(StoreTests):
    """What has happened is written, whole or not at all, by one."""

    @on_a_store
    async def test_facts_come_back_in_order_whatever_they_are(self, store: Store) -> None:
        run = await opened(store)
        large = bytes(range(256)) * 4096  # 1 MiB
        written: list[bytes] = []
        for facts in (FACTS[:1], FACTS[1:], (), (large, b"", large), FACTS * 50):
            commit = Commit(epoch=run.info.epoch, position=len(written), facts=facts)
            await store.commit("r", commit)
            written += facts
        found = await store.open("r", owner="us", lease=LEASE)
        assert found.info.position == len(written)
        assert list(found.facts) == written
        assert (found.begin, found.snapshot) == (b"begin", None)

    @on_a_store
    async def test_a_commit_is_whole(self, store: Store) -> None:
        run = await opened(store)
        assert await store.send("r", "m1", b"one")
        assert await store.send("r", "m2", b"two")
        first, second = await store.messages("r")
        await self.pass_time(store, 1.0)
        due_at = await time_of(store) + 3600.0
        commit = Commit(
            epoch=run.info.epoch,
            position=0,
            facts=FACTS,
            published=(b"e1", b"\x00"),
            taken=(first.number, second.number),
            status="waiting",
            due_at=due_at,
            note="waits for an answer",
            snapshot=b"\x00state",
        )
        await store.commit("r", commit)
        info = await store.info("r")
        assert info is not None
        assert (info.status, info.note) == ("waiting", "waits for an answer")
        assert (info.position, info.published) == (len(FACTS), 2)
        assert (info.due_at, info.result, info.owner) == (due_at, None, "us")
        assert info.created_at < info.updated_at
        assert await store.events("r") == [Published(1, b"e1"), Published(2, b"\x00")]
        assert list(await store.messages("r")) == []
        assert list((await store.history("r")).facts) == list(FACTS)
        found = await store.open("r", owner="us", lease=LEASE)
        assert found.snapshot == Snapshot(len(FACTS), b"\x00state")
        assert (list(found.facts), list(found.messages)) == ([], [])

    @on_a_store
    async def test_a_commit_that_is_refused_leaves_nothing(self, store: Store) -> None:
        run = await opened(store)
        epoch = run.info.epoch
        await store.commit("r", Commit(epoch=epoch, position=0, facts=FACTS))
        assert await store.send("r", "m", b"body")
        numbers = [message.number for message in await store.messages("r")]
        before = await everything(store)
        for position in (0, len(FACTS) - 1, len(FACTS) + 1):
            commit = Commit(
                epoch=epoch,
                position=position,
                facts=(b"lost",),
                published=(b"lost",),
                taken=numbers,
                status="completed",
                note="lost",
                result=b"lost",
                snapshot=b"lost",
                keep_from=position + 1,
            )
            error = await refuses(JournalConflict, store.commit("r", commit))
            assert isinstance(error, JournalConflict)
            assert (error.run_id, isinstance(error, Fenced)) == ("r", False)
            assert await everything(store) == before

    @on_a_store
    async def test_of_many_commits_at_one_position_one_wins(self, store: Store) -> None:
        run = await opened(store)

        async def commit(fact: bytes) -> bool:
            commit = Commit(epoch=run.info.epoch, position=0, facts=(fact, fact))
            try:
                await store.commit("r", commit)
            except Fenced:
                raise
            except JournalConflict:
                return False
            return True

        won = await asyncio.gather(*(commit(bytes([n])) for n in range(16)))
        assert won.count(True) == 1
        winner = bytes([won.index(True)])
        assert list((await store.history("r")).facts) == [winner, winner]

    @on_a_store
    async def test_only_who_has_opened_a_run_last_writes(self, store: Store) -> None:
        old = (await opened(store)).info.epoch
        await store.commit("r", Commit(epoch=old, position=0, facts=FACTS[:1]))
        new = (await store.open("r", owner="them", lease=LEASE)).info.epoch
        before = await everything(store)
        late = Commit(epoch=old, position=1, facts=(b"lost",), published=(b"lost",))
        error = await refuses(Fenced, store.commit("r", late))
        assert isinstance(error, Fenced)
        assert error.run_id == "r"
        await refuses(Fenced, store.release("r", epoch=old, due_at=None))
        assert await store.renew({"r": old}, lease=10 * LEASE) == {"r"}
        assert await everything(store) == before
        # Nor does one that nobody can have opened.
        await refuses(Fenced, store.commit("r", Commit(epoch=new + 1, position=1)))
        await store.commit("r", Commit(epoch=new, position=1, facts=FACTS[1:2]))
        assert list((await store.history("r")).facts) == list(FACTS[:2])

    @on_a_store
    async def test_a_driver_whose_lease_has_ended_may_write(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await self.pass_time(store, LEASE + MARGIN)
        await store.commit("r", Commit(epoch=epoch, position=0, facts=FACTS))
        assert await claimed(store, owner="them") == ["r"]
        # It is claimed, but not opened.
        await store.commit("r", Commit(epoch=epoch, position=len(FACTS), facts=FACTS))

    @on_a_store
    async def test_runs_do_not_mix(self, store: Store) -> None:
        epochs = {name: (await opened(store, name)).info.epoch for name in ("a", "b")}

        async def drive(name: str) -> None:
            for n in range(20):
                body = f"{name}{n}".encode()
                await store.commit(
                    name,
                    Commit(
                        epoch=epochs[name], position=n, facts=(body,), published=(body,)
                    ),
                )

        await asyncio.gather(*map(drive, epochs))
        for name in epochs:
            expected = [f"{name}{n}".encode() for n in range(20)]
            assert list((await store.history(name)).facts) == expected
            assert [body for _, body in await store.events(name)] == expected

    @on_a_store
    async def test_a_run_takes_only_its_own_messages(self, store: Store) -> None:
        epoch = (await opened(store, "a")).info.epoch
        await opened(store, "b")
        await store.send("b", "m", b"body")
        (message,) = await store.messages("b")
        taken = (message.number, message.number + 1)
        await store.commit("a", Commit(epoch=epoch, position=0, taken=taken))
        assert list(await store.messages("b")) == [message]

    @on_a_store
    async def test_a_run_that_has_ended_stays_as_it_is(self, store: Store) -> None:
        for status in sorted(FINAL):
            epoch = (await opened(store, status)).info.epoch
            await store.send(status, "m", b"unread")
            commit = Commit(
                epoch=epoch,
                position=0,
                facts=FACTS,
                status=status,
                due_at=0.0,
                note="so",
                result=b"\x00result",
            )
            await store.commit(status, commit)
            info = await store.info(status)
            assert info is not None
            assert (info.status, info.note, info.result) == (status, "so", b"\x00result")
            assert info.due_at is None
            found = await store.open(status, owner="them", lease=LEASE)
            assert found.info.epoch == epoch
            assert list(found.facts) == list(FACTS)
            after = Commit(epoch=epoch, position=len(FACTS), facts=(b"lost",))
            await refuses(JournalConflict, store.commit(status, after))
            assert await store.renew({status: epoch}, lease=LEASE) == set()
            assert await store.release(status, epoch=epoch, due_at=0.0)
            found = await store.open(status, owner="them", lease=LEASE)
            assert found.info.status == status
        await self.pass_time(store, LEASE + MARGIN)
        assert await claimed(store) == []
        assert await store.next_due(("w",)) is None

    @on_a_store
    async def test_a_run_that_has_ended_can_be_reopened(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await store.send("r", "m", b"body")
        end = Commit(
            epoch=epoch, position=0, facts=FACTS, status="failed", note="so", result=b"none"
        )
        await store.commit("r", end)
        before = await everything(store)
        for position in (0, len(FACTS) + 1):
            elsewhere = Commit(epoch=epoch, position=position, reopens=True)
            await refuses(JournalConflict, store.commit("r", elsewhere))
        foreign = Commit(epoch=epoch + 1, position=len(FACTS), reopens=True)
        await refuses(Fenced, store.commit("r", foreign))
        assert await everything(store) == before
        async with changes_of(store) as changes:
            again = Commit(
                epoch=epoch, position=len(FACTS), facts=(b"again",), reopens=True
            )
            await store.commit("r", again)
            await told_of(changes, "r")
        info = await store.info("r")
        assert info is not None
        assert (info.status, info.due_at) == ("running", 0.0)
        assert (info.note, info.result) == ("", None)
        assert await claimed(store) == ["r"]
        found = await store.open("r", owner="them", lease=LEASE)
        assert found.info.epoch == epoch + 1
        assert list(found.facts) == [*FACTS, b"again"]
        assert not await store.send("r", "m", b"known")
        assert await store.send("r", "n", b"body")

    @on_a_store
    async def test_only_a_run_that_has_ended_can_be_reopened(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await store.commit("r", Commit(epoch=epoch, position=0, facts=FACTS))
        before = await everything(store)
        again = Commit(epoch=epoch, position=len(FACTS), facts=(b"lost",), reopens=True)
        await refuses(JournalConflict, store.commit("r", again))
        assert await everything(store) == before


class Remembering(StoreTests):
    """Snapshots stand for the facts before them."""

    @on_a_store
    async def test_the_newest_snapshot_comes_with_the_facts_behind_it(
        self, store: Store
    ) -> None:
        epoch = (await opened(store)).info.epoch
        for position in range(0, 12, 3):
            commit = Commit(
                epoch=epoch,
                position=position,
                facts=[bytes([n]) for n in range(position, position + 3)],
                snapshot=None if position == 9 else b"state %d" % (position + 3),
            )
            await store.commit("r", commit)
        found = await store.open("r", owner="us", lease=LEASE)
        assert found.snapshot == Snapshot(9, b"state 9")
        assert list(found.facts) == [b"\x09", b"\x0a", b"\x0b"]
        assert found.info.position == 12
        # Nothing was dropped, so the history begins at the beginning.
        history = await store.history("r")
        assert (history.begin, history.snapshot) == (b"begin", None)
        assert list(history.facts) == [bytes([n]) for n in range(12)]
        assert history.info == found.info

    @on_a_store
    async def test_a_snapshot_can_be_taken_without_facts(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await store.commit("r", Commit(epoch=epoch, position=0, facts=FACTS[:2]))
        for state in (b"first", b"second"):
            await store.commit("r", Commit(epoch=epoch, position=2, snapshot=state))
        found = await store.open("r", owner="us", lease=LEASE)
        assert (found.snapshot, list(found.facts)) == (Snapshot(2, b"second"), [])

    @on_a_store
    async def test_what_is_not_kept_is_dropped(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        for position, keep_from in ((0, 0), (3, 0), (6, 3), (9, 9)):
            commit = Commit(
                epoch=epoch,
                position=position,
                facts=[bytes([n]) for n in range(position, position + 3)],
                snapshot=b"state %d" % (position + 3),
                keep_from=keep_from,
            )
            await store.commit("r", commit)
            history = await store.history("r")
            first = keep_from
            expected = Snapshot(first, b"state %d" % first) if first else None
            assert history.snapshot == expected
            assert list(history.facts) == [bytes([n]) for n in range(first, position + 3)]
            assert history.info.position == position + 3
        await store.commit("r", Commit(epoch=epoch, position=12, facts=(b"\x0c",)))
        found = await store.open("r", owner="us", lease=LEASE)
        assert (found.snapshot, list(found.facts)) == (Snapshot(12, b"state 12"), [b"\x0c"])
        assert found.info.position == 13

    @on_a_store
    async def test_the_newest_snapshot_stays_whatever_is_dropped(
        self, store: Store
    ) -> None:
        epoch = (await opened(store)).info.epoch
        commit = Commit(
            epoch=epoch, position=0, facts=FACTS, snapshot=b"state", keep_from=1000
        )
        await store.commit("r", commit)
        found = await store.open("r", owner="us", lease=LEASE)
        assert found.snapshot == Snapshot(len(FACTS), b"state")
        assert (found.info.position, list(found.facts)) == (len(FACTS), [])

    @on_a_store
    async def test_every_state_from_where_is_kept_can_be_had(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        for position, keep_from in ((0, 0), (4, 6), (8, 6)):
            commit = Commit(
                epoch=epoch,
                position=position,
                facts=[bytes([n]) for n in range(position, position + 4)],
                snapshot=b"state %d" % (position + 4),
                keep_from=keep_from,
            )
            await store.commit("r", commit)
        history = await store.history("r")
        first = 0 if history.snapshot is None else history.snapshot.position
        assert first <= 6
        assert list(history.facts) == [bytes([n]) for n in range(first, 12)]

    @on_a_store
    async def test_what_is_dropped_stays_dropped_when_one_asks_for_more_later(
        self, store: Store
    ) -> None:
        epoch = (await opened(store)).info.epoch
        for position, keep_from in ((0, 2), (2, 0)):
            commit = Commit(
                epoch=epoch,
                position=position,
                facts=[bytes([n]) for n in range(position, position + 2)],
                snapshot=b"state %d" % (position + 2),
                keep_from=keep_from,
            )
            await store.commit("r", commit)
        history = await store.history("r")
        assert history.snapshot == Snapshot(2, b"state 2")
        assert list(history.facts) == [b"\x02", b"\x03"]
        assert history.info.position == 4

    @on_a_store
    async def test_nothing_is_dropped_without_a_snapshot(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await store.commit("r", Commit(epoch=epoch, position=0, facts=FACTS, keep_from=3))
        found = await store.open("r", owner="us", lease=LEASE)
        assert (found.snapshot, list(found.facts)) == (None, list(FACTS))

    @on_a_store
    async def test_a_history_ends_where_one_asks(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await store.commit("r", Commit(epoch=epoch, position=0, facts=FACTS))
        for upto in (0, 1, 4, len(FACTS), len(FACTS) + 5):
            history = await store.history("r", upto=upto)
            assert list(history.facts) == list(FACTS[:upto])
            assert history.info.position == len(FACTS)
        more = Commit(
            epoch=epoch,
            position=len(FACTS),
            facts=FACTS,
            snapshot=b"s12",
            keep_from=2 * len(FACTS),
        )
        await store.commit("r", more)
        for upto, count in ((3, 0), (12, 0), (13, 1), (14, 2), (99, 3)):
            if upto == 13:
                last = Commit(epoch=epoch, position=12, facts=FACTS[:3])
                await store.commit("r", last)
            history = await store.history("r", upto=upto)
            assert history.snapshot == Snapshot(12, b"s12")
            assert list(history.facts) == list(FACTS[:count])

    @on_a_store
    async def test_a_run_may_begin_with_a_snapshot(self, store: Store) -> None:
        assert await store.create(new("r", begin=None, snapshot=b"fork"))
        found = await store.open("r", owner="us", lease=LEASE)
        assert (found.begin, found.snapshot) == (None, Snapshot(0, b"fork"))
        epoch = found.info.epoch
        commit = Commit(epoch=epoch, position=0, facts=FACTS, snapshot=b"later")
        await store.commit("r", commit)
        history = await store.history("r")
        assert (history.begin, history.snapshot) == (None, Snapshot(0, b"fork"))
        assert list(history.facts) == list(FACTS)
        found = await store.open("r", owner="us", lease=LEASE)
        assert (found.snapshot, list(found.facts)) == (Snapshot(len(FACTS), b"later"), [])


class Resting(StoreTests):
    """Leases are prolonged, and runs given back."""

    @on_a_store
    async def test_a_run_that_is_given_back_is_claimed_when_it_is_due(
        self, store: Store
    ) -> None:
        epoch = (await opened(store)).info.epoch
        due_at = await time_of(store) + LEASE
        assert await store.release("r", epoch=epoch, due_at=due_at)
        info = await store.info("r")
        assert info is not None
        assert (info.owner, info.due_at, info.epoch) == ("", due_at, epoch)
        assert info.leased_until <= info.updated_at
        assert await claimed(store) == []
        await self.pass_time(store, LEASE + MARGIN)
        assert await claimed(store) == ["r"]

    @on_a_store
    async def test_a_run_that_is_given_back_at_once_is_claimed_at_once(
        self, store: Store
    ) -> None:
        epoch = (await opened(store)).info.epoch
        async with changes_of(store) as changes:
            assert await store.release("r", epoch=epoch, due_at=0.0)
            await told_of(changes, "r")
        assert await claimed(store, owner="them") == ["r"]

    @on_a_store
    async def test_no_run_is_given_back_that_has_messages(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await store.send("r", "m", b"body")
        before = await everything(store)
        assert not await store.release("r", epoch=epoch, due_at=None)
        assert await everything(store) == before
        taken = [message.number for message in await store.messages("r")]
        await store.commit("r", Commit(epoch=epoch, position=0, taken=taken, due_at=None))
        assert await store.release("r", epoch=epoch, due_at=None)
        assert await claimed(store) == []

    @on_a_store
    async def test_a_message_that_came_while_its_driver_died_is_not_overlooked(
        self, store: Store
    ) -> None:
        epoch = (await opened(store)).info.epoch
        await store.send("r", "m", b"body")
        # The driver does not know of it, and rests: nothing is due but what was sent.
        for due_at in (await time_of(store) + 1000 * LEASE, None):
            await store.commit(
                "r", Commit(epoch=epoch, position=0, status="waiting", due_at=due_at)
            )
        await self.pass_time(store, LEASE + MARGIN)
        assert await claimed(store) == ["r"]

    @on_a_store
    async def test_a_lease_that_is_renewed_goes_on(self, store: Store) -> None:
        epochs = {name: (await opened(store, name)).info.epoch for name in ("a", "b", "c")}
        await store.open("b", owner="them", lease=LEASE)
        await self.pass_time(store, LEASE / 2)
        assert await store.renew({**epochs, "gone": 1}, lease=LEASE) == {"b", "gone"}
        await self.pass_time(store, LEASE / 2 + MARGIN)
        assert await claimed(store) == ["b"]
        await self.pass_time(store, LEASE / 2)
        assert sorted(await claimed(store)) == ["a", "c"]
        assert await store.renew({}, lease=LEASE) == set()

    @on_a_store
    async def test_a_run_that_was_given_back_is_not_renewed(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        assert await store.release("r", epoch=epoch, due_at=0.0)
        await store.renew({"r": epoch}, lease=LEASE)
        assert await claimed(store) == ["r"]

    @on_two_stores
    async def test_who_opens_a_run_elsewhere_fences_off_the_one_here(
        self, store: Store, another: Store
    ) -> None:
        old = (await opened(store)).info.epoch
        await store.commit("r", Commit(epoch=old, position=0, facts=FACTS))
        found = await another.open("r", owner="them", lease=LEASE)
        assert list(found.facts) == list(FACTS)
        await refuses(Fenced, store.commit("r", Commit(epoch=old, position=len(FACTS))))
        assert await store.renew({"r": old}, lease=LEASE) == {"r"}
        last = Commit(
            epoch=found.info.epoch, position=len(FACTS), published=(b"e",), status="failed"
        )
        await another.commit("r", last)
        assert await everything(store) == await everything(another)
