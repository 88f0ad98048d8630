"""What a store must do for those who look for work, send messages, and look on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anabranch.errors import Fenced, RunNotFound, WorkflowDone
from anabranch.testing._store_kit import (
    FACTS,
    LEASE,
    MARGIN,
    ODD,
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
from anabranch.workflow.stores.protocol import Commit, Published, Status

if TYPE_CHECKING:
    from anabranch.workflow import Store


class Claiming(StoreTests):
    """Each run that is due is given to one who looks for work."""

    @on_a_store
    async def test_what_is_due_is_claimed_oldest_first(self, store: Store) -> None:
        now = await time_of(store)
        ages = {"a": 100.0, "b": 300.0, "c": 200.0, "later": -100.0}
        for name, age in ages.items():
            await store.create(new(name, due_at=now - age))
        await store.create(new("at once", due_at=0.0))
        await store.create(new("rests", due_at=None))
        await store.create(new("another's", workflow="x"))
        await store.create(new("other", workflow="v", due_at=now - 250.0))
        assert await claimed(store, "v", "w", limit=2) == ["at once", "b"]
        assert await claimed(store, "w", "v") == ["other", "c", "a"]
        assert await claimed(store, "w", "v") == []
        await self.pass_time(store, LEASE / 2)  # the leases go on
        assert await claimed(store, "w", "v") == []
        await self.pass_time(store, 100.0)
        assert await claimed(store, "w", "v", limit=100) == [
            "at once",
            "b",
            "other",
            "c",
            "a",
            "later",
        ]
        assert await claimed(store, "x") == ["another's"]

    @on_a_store
    async def test_what_is_claimed_is_leased_and_not_opened(self, store: Store) -> None:
        await store.create(new("r"))
        assert await claimed(store, owner="worker 7") == ["r"]
        info = await store.info("r")
        assert info is not None
        assert (info.owner, info.epoch, info.status) == ("worker 7", 0, "pending")
        assert info.leased_until > info.created_at + LEASE - MARGIN

    @on_a_store
    async def test_nothing_is_claimed_by_who_wants_nothing(self, store: Store) -> None:
        await store.create(new("r"))
        assert await store.claim((), owner="us", lease=LEASE, limit=5) == []
        assert await claimed(store, limit=0) == []
        assert await claimed(store, "no such workflow") == []
        assert await claimed(store) == ["r"]

    @on_a_store
    async def test_no_two_claimers_are_given_the_same_run(self, store: Store) -> None:
        names = {f"r{n}" for n in range(60)}
        for name in names:
            await store.create(new(name, workflow=f"w{len(name) % 2}"))
        lots = await asyncio.gather(
            *(
                store.claim({"w0", "w1"}, owner=str(n), lease=LEASE, limit=7)
                for n in range(16)
            )
        )
        given = [name for lot in lots for name in lot]
        assert len(given) == len(set(given)) == len(names)
        assert set(given) == names

    @on_a_store
    async def test_a_run_that_is_driven_is_claimed_when_its_lease_ends(
        self, store: Store
    ) -> None:
        await opened(store, "driven")
        await store.create(new("claimed"))
        assert await claimed(store) == ["claimed"]
        await self.pass_time(store, LEASE / 2)
        assert await claimed(store) == []
        await self.pass_time(store, LEASE / 2 + MARGIN)
        assert sorted(await claimed(store)) == ["claimed", "driven"]

    @on_a_store
    async def test_a_run_is_due_when_its_driver_said_so(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        due_at = await time_of(store) + 3 * LEASE
        commit = Commit(epoch=epoch, position=0, status="waiting", due_at=due_at)
        await store.commit("r", commit)
        await self.pass_time(store, LEASE + MARGIN)
        assert await claimed(store) == []
        await self.pass_time(store, 2 * LEASE)
        assert await claimed(store) == ["r"]

    @on_a_store
    async def test_when_something_will_be_due_is_known(self, store: Store) -> None:
        assert await store.next_due(("w",)) is None
        await store.create(new("rests", due_at=None))
        await store.create(new("another's", workflow="x"))
        assert await store.next_due(("w",)) is None
        assert await store.next_due(()) is None
        assert await store.next_due(("w", "x")) == 0.0
        now = await time_of(store)
        for name, wait in (("hour", 3600.0), ("minute", 60.0)):
            await store.create(new(name, due_at=now + wait))
        assert 60.0 - MARGIN < (await store.next_due(("w",)) or 0.0) <= 60.0
        await self.pass_time(store, 60.0 + MARGIN)
        assert await store.next_due(("w",)) == 0.0
        assert await claimed(store) == ["minute"]
        # That is "minute", should its driver die.
        assert LEASE - MARGIN < (await store.next_due(("w",)) or 0.0) <= LEASE
        await self.pass_time(store, LEASE / 2)
        await opened(store, "driven")  # its lease is the later one
        wait = await store.next_due(("w",)) or 0.0
        assert LEASE / 2 - MARGIN < wait <= LEASE / 2

    @on_two_stores
    async def test_no_two_stores_give_the_same_run(
        self, store: Store, another: Store
    ) -> None:
        names = {f"r{n}" for n in range(60)}
        for name in names:
            await store.create(new(name))
        lots = await asyncio.gather(
            *(claimed((store, another)[n % 2], owner=str(n), limit=7) for n in range(16))
        )
        given = [name for lot in lots for name in lot]
        assert len(given) == len(set(given)) == len(names)


class Sending(StoreTests):
    """Messages arrive once, in order, and wake."""

    @on_a_store
    async def test_messages_come_in_the_order_in_which_they_were_sent(
        self, store: Store
    ) -> None:
        epoch = (await opened(store)).info.epoch
        await opened(store, "other")
        bodies = [*FACTS, b"x" * 1_000_000]
        for n, body in enumerate(bodies):
            assert await store.send("r", f"m{n}", body)
            assert await store.send("other", f"m{n}", b"other")
        found = await store.messages("r")
        assert [message.body for message in found] == bodies
        assert [message.message_id for message in found] == [
            f"m{n}" for n in range(len(bodies))
        ]
        numbers = [message.number for message in found]
        assert numbers == sorted(set(numbers))
        others = {message.number for message in await store.messages("other")}
        assert not others & set(numbers)
        # They are taken in any order.
        taken = (numbers[3], numbers[0])
        await store.commit("r", Commit(epoch=epoch, position=0, taken=taken))
        left = [message for message in found if message.number not in taken]
        assert list(await store.messages("r")) == left
        assert list((await store.open("r", owner="us", lease=LEASE)).messages) == left

    @on_a_store
    async def test_a_message_is_sent_once(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await opened(store, "other")
        assert await store.send("r", "m", b"first")
        assert not await store.send("r", "m", b"second")
        assert [message.body for message in await store.messages("r")] == [b"first"]
        assert await store.send("other", "m", b"not the same")
        taken = [message.number for message in await store.messages("r")]
        await store.commit("r", Commit(epoch=epoch, position=0, taken=taken))
        assert not await store.send("r", "m", b"after it was taken")
        assert list(await store.messages("r")) == []
        commit = Commit(epoch=epoch, position=0, status="completed")
        await store.commit("r", commit)
        assert not await store.send("r", "m", b"after the end")

    @on_a_store
    async def test_of_many_that_send_one_message_one_does(self, store: Store) -> None:
        await opened(store)
        sent = await asyncio.gather(
            *(store.send("r", "m", bytes([n])) for n in range(16)),
        )
        assert sent.count(True) == 1
        (message,) = await store.messages("r")
        assert message.body == bytes([sent.index(True)])

    @on_a_store
    async def test_a_run_that_has_ended_takes_no_messages(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await store.commit("r", Commit(epoch=epoch, position=0, status="cancelled"))
        await refuses(WorkflowDone, store.send("r", "m", b"late"))
        assert list(await store.messages("r")) == []

    @on_a_store
    async def test_who_is_sent_something_is_due(self, store: Store) -> None:
        later = await time_of(store) + 1000 * LEASE
        for name, due_at in (("rests", None), ("later", later)):
            await store.create(new(name, due_at=due_at))
        assert await claimed(store) == []
        await store.send("rests", "m", b"")
        assert await store.next_due(("w",)) == 0.0
        assert await claimed(store) == ["rests"]
        await store.send("later", "m", b"")
        assert await claimed(store) == ["later"]
        # Those who are driven are due when their driver is gone.
        epoch = (await opened(store, "driven", due_at=None)).info.epoch
        await store.commit("driven", Commit(epoch=epoch, position=0, due_at=None))
        await store.send("driven", "m", b"")
        assert await claimed(store) == []
        await self.pass_time(store, LEASE + MARGIN)
        assert "driven" in await claimed(store)


class Watching(StoreTests):
    """Changes are told."""

    @on_a_store
    async def test_what_is_sent_is_told(self, store: Store) -> None:
        await opened(store, "a")
        await opened(store, "b")
        async with changes_of(store) as changes, changes_of(store) as others:
            for n, name in enumerate(("a", "b", "a")):
                told = asyncio.create_task(told_of(changes, name))
                await asyncio.sleep(0)  # it waits
                assert await store.send(name, f"m{n}", b"")
                await told
                await told_of(others, name)

    @on_a_store
    async def test_what_happens_while_nobody_waits_is_told_too(self, store: Store) -> None:
        await opened(store, "a")
        await opened(store, "b")
        async with changes_of(store) as changes:
            await store.send("a", "m", b"")
            await store.send("b", "m", b"")
            missing = {"a", "b"}
            async with asyncio.timeout(30):
                while missing:
                    told = await anext(changes)
                    missing.difference_update(told or ("a", "b"))

    @on_a_store
    async def test_a_new_run_that_is_due_is_told(self, store: Store) -> None:
        async with changes_of(store) as changes:
            await store.create(new("r"))
            await told_of(changes, "r")

    @on_two_stores
    async def test_what_happens_elsewhere_is_told(
        self, store: Store, another: Store
    ) -> None:
        await opened(store, "r")
        async with changes_of(another) as changes:
            await store.send("r", "m", b"body")
            await told_of(changes, "r")
            assert [message.body for message in await another.messages("r")] == [b"body"]
            await store.create(new("s"))
            await told_of(changes, "s")
            assert await claimed(another) == ["s"]


class Looking(StoreTests):
    """Runs are listed, read and forgotten."""

    @on_a_store
    async def test_the_latest_runs_come_first(self, store: Store) -> None:
        for n in range(9):
            await store.create(new(f"r{n}"))
            if n % 3 == 2:
                await self.pass_time(store, 1.0)
        infos = await store.runs()
        assert len(infos) == 9
        assert infos == sorted(infos, key=lambda info: (-info.created_at, info.run_id))
        assert infos == [await store.info(info.run_id) for info in infos]
        pages: list[str] = []
        while page := await store.runs(after=pages[-1] if pages else None, limit=4):
            assert len(page) == min(4, 9 - len(pages))
            pages += [info.run_id for info in page]
        assert pages == [info.run_id for info in infos]
        assert await store.runs(limit=0) == []

    @on_a_store
    async def test_only_runs_that_are_asked_for_are_listed(self, store: Store) -> None:
        statuses: tuple[Status, ...] = ("pending", "running", "waiting", "failed")
        for status in statuses:
            for workflow in ("w", "x"):
                name = f"{workflow} {status}"
                await store.create(new(name, workflow=workflow))
                if status != "pending":
                    run = await store.open(name, owner="us", lease=LEASE)
                    commit = Commit(epoch=run.info.epoch, position=0, status=status)
                    await store.commit(name, commit)
            await self.pass_time(store, 1.0)

        async def names(
            *statuses: Status, workflow: str | None = None, before: float | None = None
        ) -> set[str]:
            found = await store.runs(
                statuses=statuses, workflow=workflow, updated_before=before
            )
            return {info.run_id for info in found}

        assert await names("waiting") == {"w waiting", "x waiting"}
        assert await names("failed", "pending", workflow="x") == {"x failed", "x pending"}
        assert await names(workflow="w") == {f"w {status}" for status in statuses}
        assert await names("completed") == set()
        assert await names(workflow="none") == set()
        waiting = await store.info("w waiting")
        assert waiting is not None
        before = waiting.updated_at
        assert await names(workflow="w", before=before) == {"w pending", "w running"}
        assert await names("running", before=before) == {"w running", "x running"}
        last = await store.runs(workflow="w", statuses=statuses, limit=2)
        rest = await store.runs(workflow="w", statuses=statuses, after=last[-1].run_id)
        assert {info.run_id for info in (*last, *rest)} == await names(workflow="w")
        assert len(last) == len(rest) == 2

    @on_a_store
    async def test_a_list_cannot_go_on_behind_a_run_that_is_gone(
        self, store: Store
    ) -> None:
        await store.create(new("r"))
        await refuses(RunNotFound, store.runs(after="gone"))

    @on_a_store
    async def test_what_happens_to_a_run_makes_it_newer(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        times: list[float] = []
        for n in range(3):
            await self.pass_time(store, 1.0)
            if n == 1:
                await store.send("r", "m", b"")
            else:
                await store.commit("r", Commit(epoch=epoch, position=0))
            info = await store.info("r")
            assert info is not None
            times.append(info.updated_at)
        assert times == sorted(set(times))

    @on_a_store
    async def test_a_stream_is_read_from_any_place(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        bodies = [b"e%d" % n for n in range(1, 11)]
        for position in range(0, 10, 5):
            commit = Commit(
                epoch=epoch, position=0, published=bodies[position : position + 5]
            )
            await store.commit("r", commit)
        stream = [Published(n, body) for n, body in enumerate(bodies, 1)]
        assert await store.events("r") == stream
        for after in (0, 1, 4, 5, 9, 10, 99):
            assert await store.events("r", after=after) == stream[after:]
            assert await store.events("r", after=after, limit=3) == stream[after:][:3]
        end = Commit(epoch=epoch, position=0, published=(b"last",), status="completed")
        await store.commit("r", end)
        assert await store.events("r", after=10) == [Published(11, b"last")]
        assert await store.events("r", after=11) == []

    @on_a_store
    async def test_a_run_that_is_purged_is_gone(self, store: Store) -> None:
        epoch = (await opened(store)).info.epoch
        await opened(store, "other")
        await store.send("r", "m", b"body")
        taken = [message.number for message in await store.messages("r")]
        commit = Commit(
            epoch=epoch, position=0, facts=FACTS, published=FACTS, snapshot=b"state"
        )
        await store.commit("r", commit)
        other = await everything(store, "other")
        assert await store.purge("r")
        assert not await store.purge("r")
        assert await store.info("r") is None
        assert [info.run_id for info in await store.runs()] == ["other"]
        for call in (store.events("r"), store.history("r"), store.send("r", "n", b"")):
            await refuses(RunNotFound, call)
        late = Commit(epoch=epoch, position=len(FACTS))
        await refuses(Fenced, store.commit("r", late))
        await self.pass_time(store, LEASE + MARGIN)
        assert await claimed(store) == ["other"]
        assert await everything(store, "other") != other  # it is leased
        # A new run of the name knows nothing of the old one, and its driver is no driver.
        assert await store.create(new("r", due_at=None))
        await refuses(Fenced, store.commit("r", Commit(epoch=epoch, position=0)))
        found = await store.open("r", owner="us", lease=LEASE)
        assert (found.info.position, found.info.published) == (0, 0)
        assert (found.snapshot, list(found.facts)) == (None, [])
        assert list(found.messages) == []
        assert await store.events("r") == []
        late = Commit(epoch=epoch, position=0, facts=(b"lost",), taken=taken)
        await refuses(Fenced, store.commit("r", late))
        assert await store.renew({"r": epoch}, lease=LEASE) == {"r"}
        assert await store.send("r", "m", b"new")

    @on_a_store
    async def test_names_may_be_odd(self, store: Store) -> None:
        for name in ODD:
            body = name.encode()
            assert await store.create(new(name, workflow=name, begin=body))
            assert await store.send(name, name, body)
            run = await store.open(name, owner=name, lease=LEASE)
            commit = Commit(
                epoch=run.info.epoch,
                position=0,
                facts=(body,),
                published=(body,),
                note=name,
                result=body,
                status="completed",
            )
            await store.commit(name, commit)
        for name in ODD:
            body = name.encode()
            history = await store.history(name)
            info = history.info
            assert (info.run_id, info.workflow, info.owner) == (name, name, name)
            assert (info.note, info.result) == (name, body)
            assert (history.begin, list(history.facts)) == (body, [body])
            assert await store.events(name) == [Published(1, body)]
            (message,) = await store.messages(name)
            assert (message.message_id, message.body) == (name, body)
            assert await store.runs(workflow=name) == [info]
        infos = await store.runs()
        assert infos == sorted(infos, key=lambda info: (-info.created_at, info.run_id))
        assert len(infos) == len(ODD)

    @on_a_store
    async def test_many_may_do_many_things_at_once(self, store: Store) -> None:
        async def live(name: str) -> None:
            await store.create(new(name))
            run = await store.open(name, owner=name, lease=LEASE)
            for n in range(5):
                await store.send(name, f"m{n}", b"body")
                (message,) = await store.messages(name)
                commit = Commit(
                    epoch=run.info.epoch,
                    position=2 * n,
                    facts=FACTS[:2],
                    published=FACTS[:3],
                    taken=(message.number,),
                )
                await store.commit(name, commit)
                assert len(await store.events(name)) == 3 * (n + 1)
            assert await store.release(name, epoch=run.info.epoch, due_at=None)

        names = [f"r{n}" for n in range(40)]
        await asyncio.gather(*map(live, names))
        infos = await store.runs()
        assert {info.run_id for info in infos} == set(names)
        assert {(info.position, info.published) for info in infos} == {(10, 15)}

    @on_two_stores
    async def test_a_store_that_is_closed_has_done_what_it_was_asked_for(
        self, store: Store, another: Store
    ) -> None:
        third = await self.another(store)
        assert third is not None
        epoch = (await opened(store)).info.epoch
        writes = [asyncio.create_task(third.send("r", f"m{n}", b"body")) for n in range(50)]
        commit = Commit(epoch=epoch, position=0, facts=FACTS)
        writes.append(asyncio.create_task(third.commit("r", commit)))  # type: ignore[arg-type]  # a bool is not needed
        await asyncio.sleep(0)  # all are asked for
        await third.close()
        await asyncio.gather(*writes)
        assert len(await another.messages("r")) == 50
        assert list((await another.history("r")).facts) == list(FACTS)
