"""What stages have made of items, remembered in an SQLite file.

All that is asked for while one transaction runs goes into the next one together. The file
is in WAL mode: what was remembered survives ``kill -9``, and several processes may use one
file. It holds texts, and it may be deleted whenever nobody uses it: then its contents
are made again.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from anabranch.errors import StoreError

R = TypeVar("R")

_FORMAT: Final = 1

_Question = tuple[bytes, bytes | None]  # a key, and its value if it is to be remembered


class TransformCache:
    """Values by key; open inside ``async with``.

    Args:
        path: The file; it is made where there is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="anabranch-cache")
        self._db: sqlite3.Connection | None = None
        self._asked: list[tuple[_Question, asyncio.Future[bytes | None]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._in_thread(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._answering is not None:
            await asyncio.wait([self._answering])
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def get(self, key: bytes) -> bytes | None:
        """What was remembered under a key, if anything.

        Raises:
            StoreError: The file cannot be read.
        """
        return await self._ask((key, None))

    async def put(self, key: bytes, value: bytes) -> None:
        """Remember a value: when this returns it survives ``kill -9``.

        Raises:
            StoreError: The file cannot be written.
        """
        await self._ask((key, value))

    async def _ask(self, question: _Question) -> bytes | None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | None] = loop.create_future()
        self._asked.append((question, answer))
        if self._answering is None:
            self._answering = loop.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            questions = [question for question, _ in asked]
            try:
                answers = await self._in_thread(partial(self._answer, questions))
            except StoreError as error:
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), found in zip(asked, answers, strict=True):
                if not answer.done():
                    answer.set_result(found)
        self._answering = None

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # ---------------------------------------------------------------- in its thread

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = db = sqlite3.connect(
                self._path, timeout=30, isolation_level=None, check_same_thread=False
            )
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("BEGIN IMMEDIATE")
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found not in (0, _FORMAT):
                raise sqlite3.DatabaseError(f"it has the format {found}, not {_FORMAT}")
            db.execute(
                "CREATE TABLE IF NOT EXISTS made"
                " (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
            )
            db.execute(f"PRAGMA user_version = {_FORMAT}")
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._close()
            raise self._explained(error) from error

    def _answer(self, asked: Sequence[_Question]) -> Sequence[bytes | None]:
        assert self._db is not None
        new = [question for question in asked if question[1] is not None]
        try:
            if new:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._db.executemany("INSERT OR REPLACE INTO made VALUES (?, ?)", new)
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            return [
                self._value(self._db, key) if value is None else None
                for key, value in asked
            ]
        except sqlite3.Error as error:
            raise self._explained(error) from error

    @staticmethod
    def _value(db: sqlite3.Connection, key: bytes) -> bytes | None:
        row = db.execute("SELECT value FROM made WHERE key = ?", [key]).fetchone()
        return None if row is None else bytes(row[0])

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _explained(self, error: Exception) -> StoreError:
        return StoreError(
            f"the cache {self._path} cannot be used ({error}): free some space if the disk "
            "is full; otherwise delete the file, since what it holds can be made again, or "
            "name another"
        )
