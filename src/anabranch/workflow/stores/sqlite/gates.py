"""Queues in an SQLite file, for the processes of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Final

from anabranch.clock import Clock
from anabranch.workflow.queues import TICKET_S, Line, Queue, after, wait_s
from anabranch.workflow.stores.sqlite.thread import DatabaseThread

# Made when a queue is first used. The number of a place is larger than those of all others
# that are there, so tickets are in the order in which they were given.
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS gates (
        queue TEXT PRIMARY KEY, full_at REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS places (
        number INTEGER PRIMARY KEY,
        queue TEXT NOT NULL,
        holder TEXT NOT NULL,
        is_inside INTEGER NOT NULL,
        until REAL NOT NULL,
        UNIQUE (queue, holder)
    )""",
)
_PLACE: Final = (
    "INSERT INTO places (queue, holder, is_inside, until) VALUES (?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET is_inside = excluded.is_inside, until = excluded.until"
)
_STANDING: Final = (
    "SELECT coalesce(sum(is_inside), 0), "
    "coalesce(sum(NOT is_inside AND number < ?), 0) FROM places WHERE queue = ?"
)
_LAST: Final = 2**63 - 1


class SQLiteGates:
    """The queues of an :class:`~anabranch.workflow.stores.SQLiteStore`."""

    def __init__(self, writer: DatabaseThread, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    async def enter(self, queue: Queue, holder: str) -> float:
        now = self._clock.now()
        return await self._writer.ask(lambda db: _enter(db, queue, holder, now))

    async def stay(self, queue: Queue, holders: Collection[str]) -> None:
        until = self._clock.now() + queue.lease
        places = [(queue.name, holder, 1, until) for holder in holders]
        await self._writer.ask(lambda db: _stay(db, places))

    async def leave(self, queue: Queue, holder: str) -> None:
        await self._writer.ask(lambda db: _leave(db, queue, holder))


def _enter(db: sqlite3.Connection, queue: Queue, holder: str, now: float) -> float:
    _make_tables(db)
    db.execute("DELETE FROM places WHERE queue = ? AND until <= ?", (queue.name, now))
    number, is_inside, until = db.execute(
        "SELECT number, is_inside, until FROM places WHERE queue = ? AND holder = ?",
        (queue.name, holder),
    ).fetchone() or (_LAST, 0, 0.0)
    if is_inside:
        db.execute(_PLACE, (queue.name, holder, 1, now + queue.lease))
        return 0.0
    inside, ahead = db.execute(_STANDING, (number, queue.name)).fetchone()
    (full_at,) = db.execute(
        "SELECT coalesce(max(full_at), 0.0) FROM gates WHERE queue = ?", (queue.name,)
    ).fetchone()
    line = Line(now, inside, ahead, full_at)
    wait = wait_s(queue, line)
    if wait:
        if until < now + TICKET_S / 2:  # most that ask again need not be written down
            db.execute(_PLACE, (queue.name, holder, 0, now + TICKET_S))
        return wait
    if queue.rate is not None:
        db.execute(
            "INSERT OR REPLACE INTO gates VALUES (?, ?)", (queue.name, after(queue, line))
        )
    if queue.concurrency is None:
        _leave(db, queue, holder)
    else:
        db.execute(_PLACE, (queue.name, holder, 1, now + queue.lease))
    return 0.0


def _stay(db: sqlite3.Connection, places: Collection[tuple[str, str, int, float]]) -> None:
    _make_tables(db)
    db.executemany(_PLACE, places)


def _leave(db: sqlite3.Connection, queue: Queue, holder: str) -> None:
    _make_tables(db)
    db.execute("DELETE FROM places WHERE queue = ? AND holder = ?", (queue.name, holder))


def _make_tables(db: sqlite3.Connection) -> None:
    for table in _TABLES:
        db.execute(table)
