"""Runs in a PostgreSQL database, for any number of processes on any number of machines.

The rules are where the rows are: what must be looked at and changed together is one
function of the schema, called in one statement, which is one transaction and one round
trip. A statement whose answer was lost with its connection is sent again, and is written
so that the second time does no harm and gives the answer of the first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from anabranch.errors import JournalConflict, JournalError, UsageError
from anabranch.workflow.stores import refusals
from anabranch.workflow.stores.postgres import reading
from anabranch.workflow.stores.postgres.arrays import Longs, Texts
from anabranch.workflow.stores.postgres.changes import changes
from anabranch.workflow.stores.postgres.commits import Commits, Entry, Tokens
from anabranch.workflow.stores.postgres.gates import PostgresGates
from anabranch.workflow.stores.postgres.place import Place
from anabranch.workflow.stores.postgres.session import Rows, Session
from anabranch.workflow.stores.protocol import (
    FINAL,
    Commit,
    History,
    Message,
    NewRun,
    Opened,
    Published,
    RunInfo,
    Status,
)

__all__ = ["PostgresStore"]

# An entry of an index is at most 2,704 bytes, other columns included.
MOST_NAME_BYTES: Final = 2500

_CREATE: Final = "SELECT {schema}.create_run($1, $2, $3, $4, $5, $6, $7::float8, $8, $9)"

_OPEN: Final = """
UPDATE {schema}.run SET
    epoch = epoch + 1,
    token = 0,
    owner = $2,
    leased_until = {schema}.seconds() + $3::float8
WHERE run_id = $1 AND status <> ALL ($4)
RETURNING epoch"""

_RELEASE: Final = "SELECT {schema}.release($1, $2, $3, $4::float8)"

# Who was not fenced. Those that have no owner were given back, and stay so. Rows are locked
# in the order in which everybody locks many.
_RENEW: Final = """
WITH held AS MATERIALIZED (
    SELECT run_id FROM {schema}.run
    JOIN unnest($1::text[], $2::bigint[]) AS asked (name, held) ON run_id = name
    WHERE epoch = held ORDER BY run_id FOR UPDATE OF run
), renewed AS (
    UPDATE {schema}.run SET leased_until = {schema}.seconds() + $3::float8
    WHERE run_id = ANY (ARRAY(SELECT run_id FROM held))
        AND owner <> '' AND status <> ALL ($4)
)
SELECT run_id FROM held"""

# First a few more than are wanted are found, each workflow's on its own index; then so many
# of them are locked as are wanted, without those that others are locking now.
_CLAIM: Final = """
WITH due AS MATERIALIZED (
    SELECT found.run_id FROM unnest($1::text[]) AS asked (name) CROSS JOIN LATERAL (
        (SELECT run_id, due_at, key FROM {schema}.run
            WHERE workflow = name AND leased_until = 0
                AND due_at IS NOT NULL AND due_at <= extract(epoch FROM now())::float8
            ORDER BY due_at, key LIMIT 4 * $4::bigint + 64)
        UNION ALL
        (SELECT run_id, due_at, key FROM {schema}.run
            WHERE workflow = name AND leased_until > 0
                AND leased_until <= extract(epoch FROM now())::float8
                AND due_at IS NOT NULL AND due_at <= extract(epoch FROM now())::float8
            ORDER BY due_at, key LIMIT 4 * $4::bigint + 64)
    ) AS found ORDER BY due_at, key LIMIT 4 * $4::bigint + 64
), taken AS MATERIALIZED (
    SELECT run_id FROM {schema}.run
    WHERE run_id = ANY (ARRAY(SELECT run_id FROM due))
        AND leased_until <= extract(epoch FROM now())::float8
        AND due_at <= extract(epoch FROM now())::float8
    ORDER BY due_at, key LIMIT $4::bigint FOR UPDATE SKIP LOCKED
)
UPDATE {schema}.run SET owner = $2, leased_until = {schema}.seconds() + $3::float8
WHERE run_id = ANY (ARRAY(SELECT run_id FROM taken))
RETURNING run_id, due_at, key"""

_NEXT_DUE: Final = """
SELECT min(at) - {schema}.seconds()
FROM unnest($1::text[]) AS asked (name) CROSS JOIN LATERAL (
    (SELECT due_at AS at FROM {schema}.run
        WHERE workflow = name AND leased_until = 0 AND due_at IS NOT NULL
        ORDER BY due_at LIMIT 1)
    UNION ALL
    (SELECT min(greatest(due_at, leased_until)) FROM {schema}.run
        WHERE workflow = name AND leased_until > 0 AND due_at IS NOT NULL
            AND leased_until <= extract(epoch FROM now())::float8)
    UNION ALL
    (SELECT leased_until FROM {schema}.run
        WHERE workflow = name AND leased_until > 0 AND due_at IS NOT NULL
            AND leased_until > extract(epoch FROM now())::float8
        ORDER BY leased_until LIMIT 1)
) AS times"""

_SEND: Final = "SELECT {schema}.send($1, $2, $3, $4)"

_KEY: Final = "SELECT key FROM {schema}.run WHERE run_id = $1"
_PURGE: Final = "SELECT {schema}.purge($1, $2)"


class PostgresStore:
    """A :class:`~anabranch.workflow.Store` in a PostgreSQL database.

    What a call has returned from is on the server's disk, as safe as the server's
    ``synchronous_commit`` makes it. A server that restarts, or a connection that is lost,
    is waited for; nothing is written twice thereby. It may be used on several event loops,
    each with its own connections.

    ::

        store = PostgresStore("postgresql://me@localhost/runs")

    The tables are made in the schema when it is first used.

    Args:
        url: The database; what it does not say, libpq looks up as ``psql`` does.
        schema: The schema of the store's tables; stores in two schemas know nothing of
            each other.
        connections: The most at once, beside the one for commits and one for each who
            waits for changes.
        patience: Seconds for which a server that is not there is waited for.
        pooled: A pooler such as PgBouncer stands in between, so nothing can be kept on a
            connection: statements are not prepared, and changes may be heard of a second
            late.

    Raises:
        UsageError: There can be no such store. Whether the server is there is seen later.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "anabranch",
        connections: int = 4,
        patience: float = 30.0,
        pooled: bool = False,
    ) -> None:
        if connections < 1 or not patience >= 0:
            raise UsageError(
                "a store needs at least 1 connection and a patience of 0 s or more, not "
                f"connections={connections!r} and patience={patience!r}"
            )
        self._place = Place.of(url, schema=schema, is_pooled=pooled)
        self._connections = connections
        self._patience = patience
        self._tokens = Tokens()
        self.gates = PostgresGates(self._ask)
        # Connections belong to a loop. Those of one that was closed first go later.
        self._loops: dict[asyncio.AbstractEventLoop, _OnLoop] = {}

    def __repr__(self) -> str:
        return f"PostgresStore({self._place.shown!r}, schema={self._place.schema!r})"

    # ---------------------------------------------------------------- one driver

    async def create(self, run: NewRun) -> bool:
        self._check(run.run_id, run.workflow, run.version, run.origin or "")
        ((is_new,),) = await self._ask(
            _CREATE,
            [
                *(run.run_id, run.workflow, run.version, run.shape, run.begin),
                *(run.snapshot, run.due_at, run.origin, secrets.randbits(63)),
            ],
        )
        return bool(is_new)

    async def open(self, run_id: str, *, owner: str, lease: float) -> Opened:
        self._check(run_id)
        values = [run_id, _plain(owner), lease, Texts(FINAL)]
        with self._asked() as asked:
            while True:
                raised = await asked.session.ask(_OPEN, values)
                found = await reading.opened(asked.session, run_id)
                for (epoch,) in raised:
                    # Not that of somebody who has opened it since.
                    return replace(found, info=replace(found.info, epoch=epoch))
                if found.info.status in FINAL:
                    return found
                # It was reopened in between, and has a driver whose epoch is not ours.

    async def commit(self, run_id: str, commit: Commit) -> None:
        self._check(run_id)
        entry = Entry(run_id, commit, _plain(commit.note), self._tokens.next())
        with self._asked() as asked:
            if not await asked.commits.write(entry):
                info = await reading.info(asked.session, run_id)
                raise _refusal(run_id, commit, info)

    async def release(self, run_id: str, *, epoch: int, due_at: float | None) -> bool:
        self._check(run_id)
        token = self._tokens.next()
        with self._asked() as asked:
            ((was_released,),) = await asked.session.ask(
                _RELEASE, [run_id, epoch, token, due_at]
            )
            if was_released is None:
                info = await reading.info(asked.session, run_id)
                found = None if info is None else info.epoch
                raise refusals.fenced(run_id, epoch, found)
        return bool(was_released)

    async def renew(self, epochs: Mapping[str, int], *, lease: float) -> set[str]:
        if not epochs:
            return set()
        self._check(*epochs)
        held = await self._ask(
            _RENEW, [Texts(epochs), Longs(epochs.values()), lease, Texts(FINAL)]
        )
        return set(epochs).difference(run_id for (run_id,) in held)

    # -------------------------------------------------------------------- others

    async def claim(
        self, workflows: Collection[str], *, owner: str, lease: float, limit: int
    ) -> list[str]:
        # If the answer is lost, those that were leased are free again when it ends.
        if limit < 1 or not workflows:
            return []
        self._check(*workflows)
        rows = await self._ask(_CLAIM, [Texts(workflows), _plain(owner), lease, limit])
        rows.sort(key=lambda row: row[1:])
        return [run_id for run_id, _, _ in rows]

    async def next_due(self, workflows: Collection[str]) -> float | None:
        self._check(*workflows)
        ((seconds,),) = await self._ask(_NEXT_DUE, [Texts(workflows)])
        return None if seconds is None else max(0.0, seconds)

    async def send(self, run_id: str, message_id: str, body: bytes) -> bool:
        self._check(run_id, message_id)
        ((sent,),) = await self._ask(
            _SEND, [run_id, message_id, body, secrets.randbits(63)]
        )
        if sent == "gone":
            raise refusals.not_found(run_id)
        if sent in FINAL:
            raise refusals.done(run_id, sent)
        return bool(sent == "sent")

    async def messages(self, run_id: str) -> Sequence[Message]:
        self._check(run_id)
        with self._asked() as asked:
            return await reading.messages(asked.session, run_id)

    def changes(self) -> AsyncGenerator[Sequence[str], None]:
        return changes(self._on_loop().session)

    # ------------------------------------------------------------------- looking

    async def info(self, run_id: str) -> RunInfo | None:
        self._check(run_id)
        with self._asked() as asked:
            return await reading.info(asked.session, run_id)

    async def runs(
        self,
        *,
        statuses: Collection[Status] = (),
        workflow: str | None = None,
        updated_before: float | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        self._check(workflow or "", after or "")
        with self._asked() as asked:
            return await reading.runs(
                asked.session,
                statuses=statuses,
                workflow=workflow,
                updated_before=updated_before,
                after=after,
                limit=limit,
            )

    async def events(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> list[Published]:
        self._check(run_id)
        with self._asked() as asked:
            return await reading.events(asked.session, run_id, after, limit)

    async def history(self, run_id: str, *, upto: int | None = None) -> History:
        self._check(run_id)
        with self._asked() as asked:
            return await reading.history(asked.session, run_id, upto)

    async def purge(self, run_id: str) -> bool:
        self._check(run_id)
        with self._asked() as asked:
            # Looked up first: were an answer lost, a second purge would not know.
            rows = await asked.session.ask(_KEY, [run_id])
            for (key,) in rows:
                await asked.session.ask(_PURGE, [run_id, key])
        return bool(rows)

    async def close(self) -> None:
        """Finish what was asked for on this loop, and close its connections.

        The store can be used again. Those who wait for changes let go of their connections
        when they stop.
        """
        self._forget_closed_loops()
        found = self._loops.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found.close()

    # ------------------------------------------------------------------- private

    async def _ask(self, statement: str, values: Sequence[Any]) -> Rows:
        with self._asked() as asked:
            return await asked.session.ask(statement, values)

    @contextmanager
    def _asked(self) -> Generator[_OnLoop, None, None]:
        """Something is asked for, which :meth:`close` waits for."""
        found = self._on_loop()
        found.calls += 1
        try:
            yield found
        finally:
            found.calls -= 1
            if not found.calls:
                found.is_at_rest.set()

    def _on_loop(self) -> _OnLoop:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            self._forget_closed_loops()
            found = self._loops[loop] = _OnLoop(
                Session(self._place, connections=self._connections, patience=self._patience)
            )
        return found

    def _forget_closed_loops(self) -> None:
        for loop in list(self._loops):
            if loop.is_closed():
                self._loops.pop(loop).session.abandon()

    def _check(self, *names: str) -> None:
        """Refuse what the server cannot hold as a name."""
        for name in names:
            try:
                size = len(name.encode())
            except UnicodeEncodeError:
                size = 0
                is_text = False
            else:
                is_text = "\0" not in name
            if not is_text or size > MOST_NAME_BYTES:
                raise JournalError(
                    f"PostgreSQL at {self._place.shown} cannot keep the name "
                    f"{name[:50]!r}{'...' * (len(name) > 50)}: use text of at most "
                    f"{MOST_NAME_BYTES:,} bytes without NUL and lone surrogates"
                )


class _OnLoop:
    """What a store has on one event loop."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.commits = Commits(session)
        self.calls = 0
        self.is_at_rest = asyncio.Event()

    async def close(self) -> None:
        while self.calls:
            self.is_at_rest.clear()
            await self.is_at_rest.wait()
        await self.commits.close()
        await self.session.close()


def _plain(text: str) -> str:
    """A text for people, without the signs that the server cannot hold."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _refusal(run_id: str, commit: Commit, info: RunInfo | None) -> JournalConflict:
    """Why a commit was refused, as far as it can be seen now."""
    if info is None or info.epoch != commit.epoch:
        return refusals.fenced(run_id, commit.epoch, None if info is None else info.epoch)
    if (info.status in FINAL) is not commit.reopens:
        return refusals.ended(run_id, info.status, reopens=commit.reopens)
    return refusals.conflict(run_id, commit.position, info.position)
