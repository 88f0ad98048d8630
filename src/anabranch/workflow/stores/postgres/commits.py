"""Commits of one event loop, as many as there are in one transaction.

A commit that finds nobody writing is written at once. Those that come meanwhile wait, and
share the next transaction, its one round trip and its one wait for the disk. Each is
fenced by itself: one that is refused has written nothing, and does not disturb the others.

What must hold when a connection is lost while its answer is awaited: each commit has a
*token*, larger than those before it. It is written only over a smaller one, in the same
statement, and one that is there already has been written: so it can be sent again, and
the answer is true. Should the first one still be on its way, it comes too late for its
token, whatever was written in between.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from anabranch.workflow.stores.postgres.arrays import Bodies, Floats, Longs, Texts
from anabranch.workflow.stores.postgres.place import Connection, is_passing
from anabranch.workflow.stores.postgres.session import IDLE, Session
from anabranch.workflow.stores.protocol import Commit

MOST_AT_ONCE: Final = 128
MOST_BYTES_AT_ONCE: Final = 4_000_000

ONE: Final = """
SELECT {schema}.commit_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"""
ALL: Final = "SELECT {schema}.commit_all($1, $2, $3, $4)"


class Tokens:
    """Numbers of which each is larger than those before it, in this process or another.

    Those of another process only count if it drove the same run in the same epoch, which
    does not happen.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, time.time_ns())
        return self._last


@dataclass(slots=True, eq=False)
class Entry:
    """A commit that is to be written.

    Attributes:
        note: As the server can hold it.
        answer: Whether it was written, for who waits.
    """

    run_id: str
    commit: Commit
    note: str
    token: int
    answer: asyncio.Future[bool] | None = None

    @property
    def size(self) -> int:
        """Bytes, about."""
        commit = self.commit
        single = (commit.result or b"", commit.snapshot or b"")
        return sum(map(len, (*commit.facts, *commit.published, *single)))


def _one(entry: Entry) -> list[object]:
    """As ``commit_one`` takes it."""
    commit = entry.commit
    return [
        *(entry.run_id, commit.epoch, commit.position, entry.token),
        *(Bodies(commit.facts), Bodies(commit.published), Longs(commit.taken)),
        *(commit.status, commit.due_at, entry.note),
        *(commit.result, commit.snapshot, commit.keep_from, commit.reopens),
    ]


def _all(entries: list[Entry]) -> list[object]:
    """As ``commit_all`` takes them."""
    numbers, texts, times, bodies = Longs(), Texts(), Floats(), Bodies()
    for entry in entries:
        commit = entry.commit
        facts, published, taken = commit.facts, commit.published, commit.taken
        numbers += (commit.epoch, commit.position, entry.token, commit.keep_from)
        numbers += (commit.reopens, len(taken), len(facts), len(published), *taken)
        texts += (entry.run_id, commit.status, entry.note)
        times.append(commit.due_at)
        bodies += (*facts, *published, commit.result, commit.snapshot)
    return [numbers, texts, times, bodies]


class Commits:
    """The one writer of a session's commits."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: list[Entry] = []
        self._connection: Connection | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_busy = False

    async def write(self, entry: Entry) -> bool:
        """Whether it was written; if not, it was refused.

        Raises:
            JournalError: It cannot be, or nobody knows.
        """
        if self._is_busy:
            entry.answer = asyncio.get_running_loop().create_future()
            self._waiting.append(entry)
            return await entry.answer
        self._is_busy = True
        try:
            return (await self._write([entry]))[0]
        except Exception as error:
            if _is_unreachable(error):
                self._fail([], error)
            raise
        finally:
            if self._waiting:
                self._writing = asyncio.create_task(self._write_waiting())
            else:
                self._is_busy = False

    async def close(self) -> None:
        """Close the connection; nobody writes any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._session.let_go(connection)

    async def _write_waiting(self) -> None:
        entries: list[Entry] = []
        try:
            while self._waiting:
                entries = self._next()
                await self._write_and_tell(entries)
                await asyncio.sleep(0)  # who was told now may have more: it joins
        except BaseException as error:
            # The loop ends, or this code is wrong: nobody is left waiting.
            self._fail(entries, error)
            raise
        finally:
            self._is_busy = False
            self._writing = None

    def _next(self) -> list[Entry]:
        """Those that are to be written together.

        They are in the order of their runs' names, in which everybody locks many runs: so
        two never wait for each other in a circle.
        """
        count = size = 0
        for entry in self._waiting[:MOST_AT_ONCE]:
            size += entry.size
            if count and size > MOST_BYTES_AT_ONCE:
                break
            count += 1
        entries, self._waiting = self._waiting[:count], self._waiting[count:]
        return sorted(entries, key=lambda entry: entry.run_id)

    async def _write_and_tell(self, entries: list[Entry]) -> None:
        # Who was cancelled does not want it any more.
        entries = [entry for entry in entries if not _is_told(entry)]
        if not entries:
            return
        try:
            answers = await self._write(entries)
        except Exception as error:
            if _is_unreachable(error):
                self._fail(entries, error)
            elif len(entries) == 1:
                _tell(entries[0], error)
            else:  # one of them is to blame, and none is written
                for entry in entries:
                    await self._write_and_tell([entry])
        else:
            for entry, was_written in zip(entries, answers, strict=True):
                if entry.answer is not None and not entry.answer.done():
                    entry.answer.set_result(was_written)

    def _fail(self, entries: list[Entry], error: BaseException) -> None:
        for entry in (*entries, *self._waiting):
            _tell(entry, error)
        self._waiting.clear()

    async def _write(self, entries: list[Entry]) -> list[bool]:
        is_one = len(entries) == 1
        statement = ONE if is_one else ALL
        values = _one(entries[0]) if is_one else _all(entries)

        async def once() -> list[bool]:
            if self._connection is None:
                self._connection = await self._session.connect()
            try:
                rows = await self._session.run(self._connection, statement, values)
            except BaseException as error:
                is_idle = self._connection.info.transaction_status == IDLE
                if isinstance(error, psycopg.Error) or not is_idle:
                    await self.close()
                raise
            answer: Any = rows[0][0]
            return [answer] if is_one else answer

        return await self._session.persist(once)


def _is_unreachable(error: Exception) -> bool:
    """Whether all who wait for the server have waited long enough with this one."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and is_passing(cause)


def _is_told(entry: Entry) -> bool:
    return entry.answer is not None and entry.answer.done()


def _tell(entry: Entry, error: BaseException) -> None:
    answer = entry.answer
    if answer is None or answer.done():
        return
    if isinstance(error, Exception):
        answer.set_exception(error)
    else:
        answer.cancel()
