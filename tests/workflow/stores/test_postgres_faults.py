"""Servers that restart, connections that are lost, and places where there is no store."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
import pytest

from anabranch.errors import JournalConflict, JournalError, UsageError, WorkflowDone
from anabranch.workflow.stores import (
    Commit,
    NewRun,
    Status,
    Store,
)
from anabranch.workflow.stores.postgres import PostgresStore, reading
from anabranch.workflow.stores.postgres import changes as postgres_changes
from anabranch.workflow.stores.postgres import schema as postgres_schema
from anabranch.workflow.stores.postgres.place import Place, is_passing
from tests.postgres import Server, database, shared_server

LEASE = 600.0

SECRET = "xyzzy"


@pytest.fixture
def url() -> Iterator[str]:
    with database() as url:
        yield url


def on(url: str, test: Callable[[PostgresStore], Awaitable[None]], **options: Any) -> None:
    """Run a test on a store, on a loop of its own."""

    async def run() -> None:
        store = PostgresStore(url, **options)
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(run())


async def opened(store: Store, run_id: str = "r") -> int:
    await store.create(NewRun(run_id=run_id, workflow="w"))
    return (await store.open(run_id, owner="us", lease=LEASE)).info.epoch


def end_connections(url: str, what: str = "%") -> None:
    """End the sessions whose last statement is like this."""
    shared_server().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{url.rpartition('/')[2]}' AND query LIKE '{what}'"
    )


# ------------------------------------------------------------- answers that are lost


class Proxy:
    """Stands between a store and its server, and cuts a connection when it is told to.

    Attributes:
        url: Leads to the server through this.
        where: Which request is cut off: ``before`` the server has it, or ``after`` the
            server has answered it.
        what: Words of the request.
        cuts: How many were.
    """

    def __init__(self, url: str) -> None:
        self.url = ""
        self.where = ""
        self.what = b""
        self.cuts = 0
        self._head, _, rest = url.rpartition("@")
        address, _, self._database = rest.partition("/")
        self._port = int(address.rpartition(":")[2])
        self._writers: list[asyncio.StreamWriter] = []

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator[Proxy]:
        proxy = cls(url)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = f"{proxy._head}@127.0.0.1:{port}/{proxy._database}"
        try:
            yield proxy
        finally:
            server.close()
            for writer in proxy._writers:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    def cut(self, where: str, what: bytes) -> None:
        """Cut the next connection over which these words go."""
        self.where, self.what = where, what

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        behind, forward = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += (writer, forward)
        is_cut = asyncio.Event()

        async def forth() -> None:
            while data := await reader.read(1 << 16):
                if self.what and self.what in data:
                    self.what = b""
                    self.cuts += 1
                    if self.where == "before":
                        return
                    is_cut.set()
                forward.write(data)

        async def back() -> None:
            while data := await behind.read(1 << 16):
                if is_cut.is_set():
                    return  # the server has done it, and nobody learns of it
                writer.write(data)

        tasks = [asyncio.create_task(forth()), asyncio.create_task(back())]
        with contextlib.suppress(ConnectionError):
            done, _ = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            for task in done:
                task.result()
        for task in tasks:
            task.cancel()
        writer.close()
        forward.close()


async def creates(store: Store, epoch: int) -> None:
    assert await store.create(NewRun(run_id="new", workflow="w"))
    assert not await store.create(NewRun(run_id="new", workflow="w"))


async def creates_again(store: Store, epoch: int) -> None:
    assert not await store.create(NewRun(run_id="r", workflow="w"))


async def opens(store: Store, epoch: int) -> None:
    info = (await store.open("r", owner="them", lease=LEASE)).info
    assert info.epoch > epoch
    assert info == await store.info("r")


async def commits(store: Store, epoch: int) -> None:
    commit = Commit(epoch=epoch, position=0, facts=(b"f",), published=(b"e",))
    await store.commit("r", commit)
    assert list((await store.history("r")).facts) == [b"f"]
    assert len(await store.events("r")) == 1
    with pytest.raises(JournalConflict):
        await store.commit("r", commit)


async def commits_without_facts(store: Store, epoch: int) -> None:
    # That it was written cannot be seen from the position.
    await store.commit("r", Commit(epoch=epoch, position=0, published=(b"e",)))
    assert len(await store.events("r")) == 1


async def commits_too_late(store: Store, epoch: int) -> None:
    await store.commit("r", Commit(epoch=epoch, position=0, status="failed"))
    with pytest.raises(JournalConflict):
        await store.commit("r", Commit(epoch=epoch, position=0, published=(b"e",)))
    assert await store.events("r") == []


async def releases(store: Store, epoch: int) -> None:
    assert await store.release("r", epoch=epoch, due_at=0.0)
    assert await store.claim(("w",), owner="them", lease=LEASE, limit=9) == ["r"]


async def renews(store: Store, epoch: int) -> None:
    assert await store.renew({"r": epoch, "x": 1}, lease=LEASE) == {"x"}


async def sends(store: Store, epoch: int) -> None:
    assert await store.send("r", "m", b"body")
    assert not await store.send("r", "m", b"again")
    assert [message.body for message in await store.messages("r")] == [b"body"]


async def purges(store: Store, epoch: int) -> None:
    assert await store.purge("r")
    assert not await store.purge("r")


async def reads(store: Store, epoch: int) -> None:
    assert (await store.history("r")).info.epoch == epoch


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    ("what", "does"),
    [
        (b".create_run(", creates),
        (b".create_run(", creates_again),
        (b"epoch = epoch + 1", opens),
        (b".commit_one(", commits),
        (b".commit_one(", commits_without_facts),
        (b".commit_one(", commits_too_late),
        (b".release(", releases),
        (b"asked (name, held)", renews),
        (b".send(", sends),
        (b".purge(", purges),
        (b".fact", reads),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_lost_connection_changes_no_answer(
    url: str, where: str, what: bytes, does: Callable[[Store, int], Awaitable[None]]
) -> None:
    async def run() -> None:
        async with Proxy.before(url) as proxy:
            # Unprepared statements can be told apart on their way.
            store = PostgresStore(proxy.url, pooled=True)
            epoch = await opened(store)
            proxy.cut(where, what)
            await does(store, epoch)
            assert proxy.cuts == 1
            await store.close()

    asyncio.run(run())


def test_many_commits_whose_answer_is_lost_are_written_once(url: str) -> None:
    names = [f"r{n}" for n in range(20)]

    async def run() -> None:
        async with Proxy.before(url) as proxy:
            store = PostgresStore(proxy.url, pooled=True)
            epochs = {name: await opened(store, name) for name in names}
            for where in ("before", "after"):
                proxy.cut(where, b".commit_all(")
                await asyncio.gather(
                    *(
                        store.commit(
                            name, Commit(epoch=epoch, position=0, published=(b"e",))
                        )
                        for name, epoch in epochs.items()
                    )
                )
            assert proxy.cuts == 2
            for name in names:
                assert len(await store.events(name)) == 2
            await store.close()

    asyncio.run(run())


def test_a_commit_that_arrives_late_is_not_written(url: str) -> None:
    async def late(store: PostgresStore) -> None:
        epoch = await opened(store)
        await store.commit("r", Commit(epoch=epoch, position=0))
        # As if it were sent before, and had been on its way ever since.
        ghost = shared_server().execute(
            f"""SELECT anabranch.commit_one('r', {epoch}, 0, 1, ARRAY['f'::bytea],
                ARRAY['e'::bytea], ARRAY[]::bigint[], 'running', 0, '', NULL, NULL, 0,
                false)""",
            dbname=url.rpartition("/")[2],
        )
        assert ghost == [(False,)]
        assert await store.events("r") == []

    on(url, late)


# ---------------------------------------------------------------- servers that restart


class Load:
    """Runs that are committed and sent to, whatever happens to the server."""

    def __init__(self, store: PostgresStore, runs: int) -> None:
        self.store = store
        self.names = [f"r{n}" for n in range(runs)]
        self.written = dict.fromkeys(self.names, 0)
        self.sent = dict.fromkeys(self.names, 0)
        self.is_over = False

    async def commit(self, name: str) -> None:
        epoch = await opened(self.store, name)
        position = 0
        while not self.is_over:
            number = self.written[name]
            # Every other one cannot be told from the one before by its position.
            facts = (b"%d" % number,) if number % 2 else ()
            await self.store.commit(
                name,
                Commit(
                    epoch=epoch,
                    position=position,
                    facts=facts,
                    published=(b"%d" % number,),
                    note=str(number),
                ),
            )
            position += len(facts)
            self.written[name] += 1

    async def send(self, name: str) -> None:
        while not self.written[name]:
            await asyncio.sleep(0.01)
        while not self.is_over:
            assert await self.store.send(name, f"m{self.sent[name]}", b"body")
            self.sent[name] += 1

    async def goes_on(self) -> None:
        """Return when each run was written and sent to."""
        before = [*self.written.values(), *self.sent.values()]
        while any(
            now == then
            for then, now in zip(
                before, (*self.written.values(), *self.sent.values()), strict=True
            )
        ):
            await asyncio.sleep(0.01)

    async def check(self) -> None:
        for name in self.names:
            written = self.written[name]
            events = await self.store.events(name, limit=10**9)
            assert [body for _, body in events] == [b"%d" % n for n in range(written)]
            facts = (await self.store.history(name)).facts
            assert list(facts) == [b"%d" % n for n in range(1, written, 2)]
            messages = await self.store.messages(name)
            expected = [f"m{n}" for n in range(self.sent[name])]
            assert [message.message_id for message in messages] == expected


async def under_load(store: PostgresStore, disturb: Callable[[], None], times: int) -> None:
    load = Load(store, runs=8)
    async with asyncio.TaskGroup() as group:
        for name in load.names:
            group.create_task(load.commit(name))
            group.create_task(load.send(name))
        await load.goes_on()
        for _ in range(times):
            await asyncio.to_thread(disturb)
            await load.goes_on()
        load.is_over = True
    await load.check()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.started() as server:
        yield server


def test_a_server_that_loses_its_power_loses_nothing_and_repeats_nothing(
    server: Server,
) -> None:
    def power_fails() -> None:
        server.restart(immediate=True)

    on(server.url(), lambda store: under_load(store, power_fails, times=5))


def test_a_server_that_is_restarted_loses_nothing_and_repeats_nothing(
    server: Server,
) -> None:
    on(server.url(), lambda store: under_load(store, server.restart, times=3))


def test_connections_that_are_lost_under_load_change_nothing(url: str) -> None:
    on(url, lambda store: under_load(store, lambda: end_connections(url), times=30))


def test_a_server_that_is_away_for_long_is_an_error_and_nothing_else(
    server: Server,
) -> None:
    async def away(store: PostgresStore) -> None:
        epoch = await opened(store)
        await store.commit("r", Commit(epoch=epoch, position=0, facts=(b"before",)))
        server.stop(immediate=True)
        commit = Commit(epoch=epoch, position=1, facts=(b"after",))
        calls = (
            store.info("r"),
            store.send("r", "m", b""),
            *(store.commit("r", commit) for _ in range(5)),
            anext(store.changes()),
        )
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, JournalError)
            assert f"PostgreSQL at 127.0.0.1:{server.port}/" in str(error)
            assert "See that the server runs" in str(error)
            assert_without_password(error, server.password)
        server.start()
        await store.commit("r", commit)
        assert list((await store.history("r")).facts) == [b"before", b"after"]

    on(server.url(), away, patience=0.5)


def test_a_run_that_somebody_else_keeps_locked_is_an_error_in_the_end(url: str) -> None:
    async def locked(store: PostgresStore) -> None:
        epochs = {name: await opened(store, name) for name in ("r", "s")}
        with psycopg.connect(url) as other:
            other.execute("SELECT FROM anabranch.run WHERE run_id = 'r' FOR UPDATE")
            with pytest.raises(JournalError, match="lock timeout"):
                await store.commit("r", Commit(epoch=epochs["r"], position=0))
        for name, epoch in epochs.items():
            await store.commit(name, Commit(epoch=epoch, position=0))

    on(f"{url}?options=-c%20lock_timeout%3D50", locked, patience=0.2)


# --------------------------------------------------------------------------- changes


@contextlib.asynccontextmanager
async def listening(store: Store) -> AsyncIterator[AsyncIterator[Any]]:
    changes = cast("Any", store.changes())
    async with contextlib.aclosing(changes), asyncio.timeout(60):
        assert await anext(changes) == ()
        yield changes


def test_changes_are_told_after_the_connection_that_listens_is_lost(url: str) -> None:
    async def lost(store: PostgresStore) -> None:
        await opened(store)
        async with listening(store) as changes:
            for n in range(3):
                end_connections(url)
                assert await anext(changes) == ()  # it may have been anything
                await store.send("r", f"m{n}", b"")
                assert "r" in await anext(changes)

    on(url, lost)


def test_what_no_notification_tells_is_found_by_looking(url: str) -> None:
    async def unheard(store: PostgresStore) -> None:
        await opened(store)
        # As behind a pooler that does not know who listens.
        shared_server().execute(
            "CREATE OR REPLACE FUNCTION anabranch.ring(a_run_id text) RETURNS void"
            " LANGUAGE plpgsql AS 'BEGIN END'",
            dbname=url.rpartition("/")[2],
        )
        async with listening(store) as changes:
            await store.send("r", "m1", b"")
            assert await anext(changes) == ("r",)
            await store.send("r", "m2", b"")
            assert await anext(changes) == ("r",)
            await store.create(NewRun(run_id="new", workflow="w"))
            assert await anext(changes) == ("new",)

    on(url, unheard)


def test_what_happens_is_told_without_looking(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_changes, "LOOK_EVERY_S", 3600.0)

    async def heard(store: PostgresStore) -> None:
        epoch = await opened(store)
        async with listening(store) as changes:
            await store.send("r", "m1", b"")
            assert await anext(changes) == ("r",)
            await store.create(NewRun(run_id="new", workflow="w"))
            assert await anext(changes) == ("new",)
            (message,) = await store.messages("r")
            await store.commit(
                "r", Commit(epoch=epoch, position=0, taken=(message.number,))
            )
            await store.release("r", epoch=epoch, due_at=0.0)
            assert await anext(changes) == ("r",)

    on(url, heard)


def test_a_name_that_no_notification_can_hold_is_told_of_as_any(url: str) -> None:
    async def empty(store: PostgresStore) -> None:
        async with listening(store) as changes:
            await store.create(NewRun(run_id="", workflow="w"))
            assert await anext(changes) == ()

    on(url, empty)


# --------------------------------------------------------------- what cannot be a store


def assert_without_password(error: BaseException, password: str) -> None:
    assert password not in "".join(traceback.format_exception(error))
    assert password not in repr(error)


def failing(url: str, **options: Any) -> JournalError:
    async def fails(store: PostgresStore) -> None:
        with pytest.raises(JournalError) as caught:
            await store.info("r")
        errors.append(caught.value)

    errors: list[JournalError] = []
    on(url, fails, **options)
    return errors[0]


def test_a_pooler_that_refuses_settings_is_told_of() -> None:
    place = Place.of("postgresql://localhost/x", schema="a", is_pooled=False)
    refused = psycopg.OperationalError("FATAL: unsupported startup parameter: options")
    assert "PostgresStore(url, pooled=True)" in str(place.sentence(refused))
    assert not is_passing(refused)


def test_a_wrong_password_is_told_at_once_and_never_shown(url: str) -> None:
    password = shared_server().password
    error = failing(url.replace(password, "xyzzy"), patience=10_000.0)
    assert "password authentication failed" in str(error)
    assert_without_password(error, "xyzzy")


def test_a_database_that_is_not_there_is_told_at_once() -> None:
    error = failing(shared_server().url("nowhere"), patience=10_000.0)
    assert 'database "nowhere" does not exist' in str(error)
    assert_without_password(error, shared_server().password)


def test_a_server_that_is_not_there_is_told_after_a_while() -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:1/runs"
    error = failing(url, patience=0.1)
    assert str(error).startswith("PostgreSQL at 127.0.0.1:1/runs did not answer")
    assert_without_password(error, "xyzzy")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@[half/runs",
        f"postgresql://me:{SECRET[:3]}%{SECRET[3:]}@localhost/runs",
        f"postgresql+psycopg://me:{SECRET}@localhost/runs",
        "host=localhost password=xyzzy nonsense=1",
        "xyzzy",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_unseen(url: str) -> None:
    with pytest.raises(UsageError, match="write it like postgresql://") as caught:
        PostgresStore(url)
    assert_without_password(caught.value, "xyz")


@pytest.mark.parametrize("schema", ["", "A", "9a", 'a"; DROP', "a b", "x" * 49])
def test_a_schema_that_would_need_quotes_is_refused(schema: str) -> None:
    with pytest.raises(UsageError, match="cannot be the schema"):
        PostgresStore("postgresql://localhost/runs", schema=schema)


@pytest.mark.parametrize("options", [{"connections": 0}, {"patience": -1.0}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least 1 connection"):
        PostgresStore("postgresql://localhost/runs", **options)


def test_a_store_is_shown_without_its_password() -> None:
    store = PostgresStore(f"postgresql://me:{SECRET}@db.example:6543/runs", schema="mine")
    assert repr(store) == "PostgresStore('db.example:6543/runs', schema='mine')"


def test_tables_of_an_earlier_version_are_upgraded_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(postgres_schema, "SCRIPTS", postgres_schema.SCRIPTS[:1])
        on(url, opened_once)

    async def upgrade(store: PostgresStore) -> None:
        others = [PostgresStore(url) for _ in range(5)]
        for info in await asyncio.gather(*(other.info("r") for other in (store, *others))):
            assert info is not None
            assert info.epoch == 1
        for other in others:
            await other.close()

    on(url, upgrade)
    name = url.rpartition("/")[2]
    found = shared_server().execute("SELECT version FROM anabranch.meta", name)
    assert found == [(len(postgres_schema.SCRIPTS),)]


def test_tables_of_a_later_version_are_left_alone(url: str) -> None:
    on(url, opened_once)
    name = url.rpartition("/")[2]
    shared_server().execute("UPDATE anabranch.meta SET version = version + 1", name)
    error = failing(url)
    known = len(postgres_schema.SCRIPTS)
    assert f"of version {known + 1}, and this anabranch knows {known}" in str(error)


async def opened_once(store: PostgresStore) -> None:
    await opened(store)


def test_who_may_not_make_the_tables_is_told_what_to_do(url: str) -> None:
    server, name = shared_server(), url.rpartition("/")[2]
    server.execute(f"CREATE ROLE guest_{name} LOGIN PASSWORD 'guest'")
    try:
        guest = f"postgresql://guest_{name}:guest@{url.rpartition('@')[2]}"
        assert "open the store once as a user who may" in str(failing(guest))
    finally:
        server.execute(f"DROP ROLE guest_{name}")


# ------------------------------------------------------------------------ the rest


def test_stores_in_two_schemas_know_nothing_of_each_other(url: str) -> None:
    async def two(store: PostgresStore) -> None:
        other = PostgresStore(url, schema="other")
        await opened(store)
        async with listening(other) as changes:
            await store.send("r", "m", b"")
            assert await other.info("r") is None
            assert await other.create(NewRun(run_id="mine", workflow="w"))
            assert await anext(changes) == ("mine",)
        await other.close()

    on(url, two)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 2501])
def test_a_name_that_the_server_cannot_hold_is_refused(url: str, name: str) -> None:
    async def odd(store: PostgresStore) -> None:
        for call in (
            store.create(NewRun(run_id=name, workflow="w")),
            store.create(NewRun(run_id="r", workflow=name)),
            store.send(name, "m", b""),
            store.send("r", name, b""),
            store.info(name),
        ):
            with pytest.raises(JournalError, match="cannot keep the name"):
                await call

    on(url, odd)


def test_a_note_is_kept_though_the_server_cannot_hold_each_of_its_signs(url: str) -> None:
    async def odd(store: PostgresStore) -> None:
        epoch = await opened(store)
        commit = Commit(epoch=epoch, position=0, status="failed", note="a\0b \ud800")
        await store.commit("r", commit)
        info = await store.info("r")
        assert info is not None
        assert info.note == "a\N{REPLACEMENT CHARACTER}b ?"

    on(url, odd)


def test_a_commit_that_cannot_be_written_does_not_disturb_others(url: str) -> None:
    async def one_is_bad(store: PostgresStore) -> None:
        epochs = {f"r{n}": await opened(store, f"r{n}") for n in range(6)}
        commits = {
            name: Commit(epoch=epoch, position=0, facts=(b"f",))
            for name, epoch in epochs.items()
        }
        # One is refused by the server, and one cannot even be sent.
        bad = cast("Status", "\0")
        commits["r2"] = Commit(epoch=epochs["r2"], position=0, facts=(b"f",), status=bad)
        commits["r4"] = Commit(epoch=epochs["r4"], position=2**70, facts=(b"f",))
        answers = await asyncio.gather(
            *(store.commit(name, commit) for name, commit in commits.items()),
            return_exceptions=True,
        )
        assert [answer is None for answer in answers] == [
            True,
            True,
            False,
            True,
            False,
            True,
        ]
        assert isinstance(answers[2], JournalError)
        for name, answer in zip(commits, answers, strict=True):
            assert len((await store.history(name)).facts) == (answer is None)

    on(url, one_is_bad)


def test_who_is_cancelled_leaves_a_store_that_works(url: str) -> None:
    async def cancelled(store: PostgresStore) -> None:
        epochs = {f"r{n}": await opened(store, f"r{n}") for n in range(10)}
        for delay in range(12):
            tasks = [
                asyncio.create_task(
                    store.commit(name, Commit(epoch=epoch, position=0, published=(b"e",)))
                )
                for name, epoch in epochs.items()
            ]
            for _ in range(delay):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not any(task.cancelled() for task in tasks[1::2])
        for n, name in enumerate(epochs):
            events = await store.events(name)
            assert len(events) == 12 if n % 2 else len(events) <= 12

    on(url, cancelled)


def test_a_store_may_be_used_on_one_loop_after_the_other(url: str) -> None:
    store = PostgresStore(url)

    async def use(n: int) -> None:
        epoch = await opened(store)
        assert epoch == n + 1
        await store.commit("r", Commit(epoch=epoch, position=n, facts=(b"f",)))

    for n in range(5):
        asyncio.run(use(n))
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    # Its own, those of the last loop, and those that the server is about to end.
    ((connections,),) = shared_server().execute(count, url.rpartition("/")[2])
    assert connections <= 5
    asyncio.run(store.close())


def test_no_more_connections_are_made_than_one_may(url: str) -> None:
    async def many(store: PostgresStore) -> None:
        await asyncio.gather(*(opened(store, f"r{n}") for n in range(50)))
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ((connections,),) = shared_server().execute(count, url.rpartition("/")[2])
        assert connections <= 2 + 1

    on(url, many, connections=2)


def scans(url: str) -> int:
    """How often all of a table was read, when nobody is connected any more."""
    name = url.rpartition("/")[2]
    others = "SELECT FROM pg_stat_activity WHERE datname = $$" + name + "$$"
    while shared_server().execute(others):
        pass
    count = "SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables WHERE relname <> 'meta'"
    ((scans,),) = shared_server().execute(count, name)
    return int(scans)


def test_no_table_is_read_whole_though_it_was_small(url: str) -> None:
    async def make(store: PostgresStore) -> None:
        for n in range(30):
            await opened(store, f"r{n}")

    async def use(store: PostgresStore) -> None:
        epoch = await opened(store, "r0")
        async with listening(store):
            for n in range(10):  # plans are kept from the sixth time on
                await store.create(NewRun(run_id=f"new{n}", workflow="v"))
                await store.send("r0", f"m{n}", b"")
                (message,) = await store.messages("r0")
                await store.commit(
                    "r0",
                    Commit(
                        epoch=epoch,
                        position=n,
                        facts=(b"f",),
                        published=(b"e",),
                        taken=(message.number,),
                        snapshot=b"s",
                        keep_from=n,
                    ),
                )
                await store.claim(("v", "w"), owner="us", lease=LEASE, limit=1)
                await store.next_due(("v", "w"))
                await store.renew({"r0": epoch}, lease=LEASE)
                await store.info("r0")
                await store.runs()
                await store.events("r0")
                await store.history("r0")
                epoch = (await store.open("r0", owner="us", lease=LEASE)).info.epoch
                await store.release("r0", epoch=epoch, due_at=None)
                await store.purge(f"r{n + 1}")

    on(url, make)
    shared_server().execute("VACUUM ANALYZE", url.rpartition("/")[2])
    before = scans(url)
    on(url, use)
    assert scans(url) == before


def test_who_opens_a_run_while_it_is_reopened_has_an_epoch_of_its_own(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, others = reading.opened, []

    async def race(store: PostgresStore) -> None:
        epoch = await opened(store)
        await store.commit("r", Commit(epoch=epoch, position=0, status="failed"))

        async def read_late(session: Any, run_id: str) -> Any:
            monkeypatch.setattr(reading, "opened", read)
            await store.commit("r", Commit(epoch=epoch, position=0, reopens=True))
            others.append(await store.open("r", owner="them", lease=LEASE))
            return await read(session, run_id)

        monkeypatch.setattr(reading, "opened", read_late)
        ours = await store.open("r", owner="us", lease=LEASE)
        assert [other.info.epoch for other in others] == [epoch + 1]
        assert (ours.info.epoch, ours.info.owner) == (epoch + 2, "us")

    on(url, race)


def test_a_message_to_a_run_that_has_ended_names_how(url: str) -> None:
    async def late(store: PostgresStore) -> None:
        epoch = await opened(store)
        await store.commit("r", Commit(epoch=epoch, position=0, status="timed out"))
        with pytest.raises(WorkflowDone, match="timed out"):
            await store.send("r", "m", b"")

    on(url, late)
