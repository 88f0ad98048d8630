"""What a thread does with its connection: transactions that many share.

What is asked for is a function of the connection. It raises one of our errors before it
has written anything, or else it succeeds. If it fails in any other way, the transaction is
undone, and each of the functions gets one of its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from anabranch.errors import AnabranchError, JournalError
from anabranch.workflow.stores.sqlite.file import DatabaseFile

POLL_S: Final = 0.02
"""How often one looks what other processes have written."""

Request: TypeAlias = tuple[
    Callable[[sqlite3.Connection], Any], asyncio.Future[Any], str | None
]
"""Something to be done in a transaction: what; who waits for the result; and a run of which
is to be told that something happened to it, if the result is true."""

Outcome: TypeAlias = tuple[Any, BaseException | None]


class Connected:
    """A connection of a thread's."""

    _begin = "BEGIN"

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._db = file.open()
        self._identities = file.identities()

    def outcomes(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        """What each request gives, or the error that it meets."""
        try:
            return self._transaction(requests)
        except Exception as error:
            return [(None, self._sentence(error)) for _ in requests]

    def changes(self) -> list[Sequence[str] | None]:
        """What others have done since one has asked for it; ``None`` stands for any run."""
        return []

    def patience_s(self) -> float | None:
        """Seconds until one has to ask."""
        return None

    def close(self) -> None:
        self._db.close()

    def _transaction(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        db = self._db
        outcomes: list[Outcome] = []
        db.execute(self._begin)
        try:
            self._begun()
            for work, _, _ in requests:
                try:
                    outcomes.append((work(db), None))
                except AnabranchError as refusal:
                    outcomes.append((None, refusal))
            self._commit()
        except Exception:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if len(outcomes) == len(requests) or len(requests) == 1:
                raise
            # One of them fails: it is not to take the others with it.
            return [self.outcomes((request,))[0] for request in requests]
        self._file.check_identities(self._identities)
        return outcomes

    def _begun(self) -> None:
        """What comes first in each transaction."""

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    def _sentence(self, error: Exception) -> Exception:
        if isinstance(error, JournalError):
            return JournalError(str(error))  # each has its own
        if isinstance(error, sqlite3.Error) and hasattr(error, "sqlite_errorcode"):
            sentence = self._file.sentence(error)
            sentence.__cause__ = error
            return sentence
        return error


class Reader(Connected):
    """A connection that only reads."""

    def __init__(self, file: DatabaseFile) -> None:
        super().__init__(file)
        self._db.execute("PRAGMA query_only = ON")


class Writer(Connected):
    """The one connection that writes; if somebody watches, it looks what others do too.

    SQLite counts the commits of other connections. Behind each that was not seen, the
    numbers of messages and of other stirs tell what has come. One's own are not counted:
    inside a transaction nobody else writes, so that one looks at its beginning and takes
    stock at its end.
    """

    _begin = "BEGIN IMMEDIATE"

    def __init__(
        self, file: DatabaseFile, watchers: Mapping[asyncio.AbstractEventLoop, object]
    ) -> None:
        super().__init__(file)
        self._watchers = watchers
        self._version: int | None = None
        self._marks: tuple[int, int] = (0, 0)  # messages, other stirs
        self._found: list[Sequence[str] | None] = []
        self._looked_at = 0.0

    def changes(self) -> list[Sequence[str] | None]:
        if self._is_time():
            try:
                self._look()
            except sqlite3.Error:  # whoever asks for something is told what is wrong
                self._version = None
                self._found.append(None)
        found, self._found = self._found, []
        return found

    def patience_s(self) -> float | None:
        return POLL_S if self._watchers else None

    def _is_time(self) -> bool:
        return bool(self._watchers) and time.monotonic() - self._looked_at >= POLL_S / 2

    def _begun(self) -> None:
        if self._watchers:
            self._look()
        else:
            self._version = None

    def _commit(self) -> None:
        if self._version is None:
            self._db.execute("COMMIT")
            return
        marks = self._take_stock()
        self._db.execute("COMMIT")
        self._marks = marks

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        is_first, self._version = self._version is None, version
        number, stirred = self._marks
        self._marks = self._take_stock()
        if is_first:
            return
        if self._marks[1] != stirred:
            self._found.append(None)
        elif self._marks[0] != number:
            rows = self._db.execute(
                "SELECT DISTINCT run_id FROM messages WHERE number > ? "
                "AND body IS NOT NULL",
                (number,),
            )
            self._found.append([run_id for (run_id,) in rows])

    def _take_stock(self) -> tuple[int, int]:
        marks: tuple[int, int] = self._db.execute(
            "SELECT (SELECT coalesce(max(number), 0) FROM messages), value FROM meta "
            "WHERE name = 'stirred'"
        ).fetchone()
        return marks
