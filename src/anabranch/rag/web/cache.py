"""What was fetched, kept on disk: one SQLite file.

A response is stored in one transaction, so it is there whole or not at all, whatever dies.
WAL with ``synchronous=NORMAL``: a stored response survives the death of the process; a
loss of power may cost the last ones, which are then fetched again. Any number of processes
may use one file. What may be kept, and for how long, is in
:mod:`~anabranch.rag.web.freshness`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from anabranch.errors import StoreError
from anabranch.jobs.check import check_count

R = TypeVar("R")

FORMAT: Final = 1
GIB: Final = 1 << 30
# Down to this part of the limit, so that not every response has to make room.
_ROOM: Final = 0.9

_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA user_version = {FORMAT};
CREATE TABLE IF NOT EXISTS response (
    url TEXT NOT NULL,
    variant TEXT NOT NULL,   -- what else decided the answer: who asked
    headers TEXT NOT NULL,   -- a JSON object, names in lower case
    body BLOB NOT NULL,      -- unpacked
    size INTEGER NOT NULL,   -- of the body, in bytes
    stored REAL NOT NULL,    -- when it came or was confirmed, seconds since the epoch
    PRIMARY KEY (url, variant)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS response_stored ON response (stored, size);
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that was kept.

    Attributes:
        headers: Names in lower case.
        body: Unpacked.
        stored: When it came or was last confirmed, in seconds since the epoch.
    """

    headers: Mapping[str, str]
    body: bytes
    stored: float


class HttpCache:
    """A cache of responses in a file. It opens when it is first used.

    Args:
        path: The file; it is made where there is none. It holds whole pages: it is as
            confidential as they are.
        max_bytes: Of bodies; above it, those that were not confirmed for longest go.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = GIB) -> None:
        check_count("max_bytes", max_bytes)
        self.path = Path(path)
        self.max_bytes = max_bytes
        self._db: sqlite3.Connection | None = None
        self._size = 0
        self._thread: ThreadPoolExecutor | None = None

    async def get(self, url: str, variant: str) -> Stored | None:
        """The response that is kept for an address.

        Raises:
            StoreError: The file cannot be read.
        """

        def find(db: sqlite3.Connection) -> Stored | None:
            row = db.execute(
                "SELECT headers, body, stored FROM response WHERE url = ? AND variant = ?",
                (url, variant),
            ).fetchone()
            return None if row is None else Stored(json.loads(row[0]), row[1], row[2])

        return await self._do(find)

    async def put(self, url: str, variant: str, response: Stored) -> None:
        """Keep a response: when this returns it survives the death of the process.

        Raises:
            StoreError: The file cannot be written; what was there stays.
        """
        row = (url, variant, json.dumps(dict(response.headers)), response.body)

        def store(db: sqlite3.Connection) -> None:
            size = len(response.body)
            if size > self.max_bytes:
                return
            with db:
                db.execute(
                    "INSERT INTO response (url, variant, headers, body, size, stored)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " headers = excluded.headers, body = excluded.body,"
                    " size = excluded.size, stored = excluded.stored",
                    (*row, size, response.stored),
                )
                self._make_room(db, size)

        await self._do(store)

    async def confirm(
        self, url: str, variant: str, headers: Mapping[str, str], now: float
    ) -> None:
        """The server says that what is kept is still the page.

        Raises:
            StoreError: The file cannot be written.
        """
        text = json.dumps(dict(headers))

        def update(db: sqlite3.Connection) -> None:
            with db:
                db.execute(
                    "UPDATE response SET headers = ?, stored = ?"
                    " WHERE url = ? AND variant = ?",
                    (text, now, url, variant),
                )

        await self._do(update)

    async def drop(self, url: str, variant: str) -> None:
        """Keep nothing for an address.

        Raises:
            StoreError: The file cannot be written.
        """

        def delete(db: sqlite3.Connection) -> None:
            with db:
                db.execute(
                    "DELETE FROM response WHERE url = ? AND variant = ?", (url, variant)
                )

        await self._do(delete)

    async def aclose(self) -> None:
        """Finish what is being written, and let go of the file. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)
        db, self._db = self._db, None
        if db is not None:
            db.close()

    async def _do(self, work: Callable[[sqlite3.Connection], R]) -> R:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="anabranch-cache")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._explained, work)

    def _explained(self, work: Callable[[sqlite3.Connection], R]) -> R:
        try:
            if self._db is None:
                self._db = self._opened()
            return work(self._db)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the cache {self.path} cannot be used ({error}): if it is damaged or is "
                "something else, move it away; nothing but pages fetched before is lost"
            ) from error

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            # What must not be kept any more is not left in free pages either.
            db.execute("PRAGMA secure_delete = ON")
            _check_format(db)
            db.executescript(_SCHEMA)
            (self._size,) = db.execute(
                "SELECT COALESCE(SUM(size), 0) FROM response"
            ).fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def _make_room(self, db: sqlite3.Connection, added: int) -> None:
        # An upper bound: what was replaced, and what others removed, is not subtracted.
        self._size += added
        if self._size <= self.max_bytes:
            return
        (size,) = db.execute("SELECT SUM(size) FROM response").fetchone()
        victims: list[tuple[str, str, float]] = []
        for stored, url, variant, freed in db.execute(
            "SELECT stored, url, variant, size FROM response ORDER BY stored"
        ):
            if size <= self.max_bytes * _ROOM:
                break
            victims.append((url, variant, stored))
            size -= freed
        db.executemany(
            "DELETE FROM response WHERE url = ? AND variant = ? AND stored = ?", victims
        )
        self._size = size


def _check_format(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version != FORMAT and (version or tables):
        raise sqlite3.DatabaseError("it is not a cache of this version of anabranch")
