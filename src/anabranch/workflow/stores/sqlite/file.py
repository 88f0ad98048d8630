"""The file of an SQLite store: opened, checked, watched over; and what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from anabranch.errors import JournalError
from anabranch.workflow.stores.sqlite.filesystems import NETWORK, file_system

Durability: TypeAlias = Literal["process", "power"]

APPLICATION_ID: Final = 0x616E7773  # "anws": the runs of workflows
FORMAT: Final = 1

BUSY_S: Final = 30.0
"""Seconds that another program may keep the file locked."""

# The log is copied into the file when it has as many pages: each time the disk is waited
# for twice, and a commit writes three or four.
LOG_PAGES: Final = 4000

SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('first_epoch', 0), ('stirred', 0);

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    status TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    position INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    published INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    due_at REAL,
    leased_until REAL NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    result BLOB
) WITHOUT ROWID;
CREATE INDEX runs_due ON runs (workflow, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX runs_created ON runs (created_at DESC, run_id);

-- What never changes, apart, since a row is written whole.
CREATE TABLE births (
    run_id TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    origin TEXT,
    shape BLOB NOT NULL,
    begin BLOB
) WITHOUT ROWID;

-- With a hidden number of its own each row is put behind the last one, so that the facts
-- of many runs share a page when they are written together, and only the narrow index is
-- written in many places.
CREATE TABLE facts (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (run_id, number)
);

CREATE TABLE snapshots (
    run_id TEXT, position INTEGER, state BLOB NOT NULL, PRIMARY KEY (run_id, position)
) WITHOUT ROWID;

CREATE TABLE stream (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (run_id, number)
);

-- The body is NULL once it was taken. Numbers are never used twice.
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    body BLOB,
    UNIQUE (run_id, message_id)
);
CREATE INDEX messages_untaken ON messages (run_id, number) WHERE body IS NOT NULL;
"""

_Identity: TypeAlias = tuple[int, int] | None  # device and inode


class DatabaseFile:
    """The file of a store, by its path."""

    def __init__(self, path: str, durability: Durability) -> None:
        self.path = path
        self._real = os.path.realpath(path)  # where SQLite puts the log
        self._durability = durability

    def open(self) -> sqlite3.Connection:
        """A connection; the file is made if there is none.

        Raises:
            JournalError: It cannot be, with what to do.
        """
        self._check_place()
        try:
            db = sqlite3.connect(
                self._real, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self.sentence(error) from error
        try:
            self._prepare(db)
        except sqlite3.Error as error:
            db.close()
            raise self.sentence(error) from error
        except BaseException:
            db.close()
            raise
        return db

    def _check_place(self) -> None:
        folder = Path(self._real).parent
        if not folder.is_dir():
            raise JournalError(
                f"{self.path} cannot be made: there is no folder {folder}; make it first"
            )
        with suppress(OSError):
            mode = Path(self.path).stat().st_mode
            if stat.S_ISDIR(mode):
                raise JournalError(
                    f"{self.path} is a folder: give the path of a file in it"
                )
            if not stat.S_ISREG(mode):
                raise JournalError(
                    f"{self.path} is a device or a pipe: give the path of a file"
                )
        kind = _file_system(folder)
        if kind in NETWORK:
            raise JournalError(
                f"{self.path} is on a network drive ({kind}): processes on different "
                "machines would damage it. Choose a folder on a disk of this machine, or "
                "keep runs in PostgreSQL"
            )

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # all that is asked is of one moment
        is_new = self._check_kind(db)
        db.execute("COMMIT")
        # Whoever makes the file at the same time is waited for: SQLite does not by itself.
        mode = _patiently(db, "PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise JournalError(
                f"{self.path} cannot be shared by processes on this file system: choose a "
                "folder on an ordinary disk"
            )
        synchronous = "FULL" if self._durability == "power" else "NORMAL"
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA fullfsync = ON")  # macOS: past the disk's own memory
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        db.execute("PRAGMA cache_size = -16384")  # KiB
        if is_new:
            self._fill(db)

    def _fill(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if self._check_kind(db):  # nobody else was faster
            for statement in SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")

    def _check_kind(self, db: sqlite3.Connection) -> bool:
        """Whether it is empty; if not, it is ours, or refused."""
        application = _value(db, "PRAGMA application_id")
        version = _value(db, "PRAGMA user_version")
        tables = _value(db, "SELECT count(*) FROM sqlite_master")
        if application == APPLICATION_ID:
            if version != FORMAT:
                whose = "a newer" if version > FORMAT else "an older"
                raise JournalError(
                    f"{self.path} was written by {whose} release of anabranch (format "
                    f"{version}, this one has {FORMAT}): use that release, or another path"
                )
            return False
        if application or version or tables:
            raise JournalError(
                f"{self.path} is a database of something else, and holds no runs of "
                "workflows: give another path"
            )
        return True

    def sentence(self, error: sqlite3.Error) -> JournalError:
        """What is wrong, for people."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        says = _SENTENCES.get(code, f"cannot be used ({error}): is its disk failing?")
        return JournalError(f"{self.path} {says.format(error=error, busy=BUSY_S)}")

    def identities(self) -> tuple[_Identity, _Identity]:
        """Which files are at the path: the database and its log."""
        return _identity(self.path), _identity(f"{self._real}-wal")

    def check_identities(self, expected: tuple[_Identity, _Identity]) -> None:
        """See to it that they are those that were opened.

        A connection goes on with its files, wherever they are; nobody else would find
        what it writes.

        Raises:
            JournalError: They are not.
        """
        try:
            found = self.identities()
        except OSError:
            return  # nobody knows
        if found != expected:
            raise JournalError(
                f"{self.path} or its log {self._real}-wal was moved, removed or replaced "
                "while it was in use: what is written now is not stored there. Put both "
                "back as they were, or begin anew: close the store, or start the "
                "program again"
            )


_SENTENCES: Final = {
    sqlite3.SQLITE_BUSY: "has been locked by another program for {busy:g} s: end that "
    "program, or wait until it has finished",
    sqlite3.SQLITE_LOCKED: "is locked ({error}): end the program that uses it",
    sqlite3.SQLITE_READONLY: "cannot be written to: make it and its folder writable",
    sqlite3.SQLITE_PERM: "cannot be written to: make it and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: see that it and its folder can be read "
    "and written by this user",
    sqlite3.SQLITE_FULL: "cannot grow, since the disk is full: make room and go on; "
    "nothing that was stored is lost",
    sqlite3.SQLITE_IOERR: "cannot be read or written ({error}): see whether its disk is "
    "full, read-only or failing",
    sqlite3.SQLITE_CORRUPT: "is damaged ({error}): bring back a copy, or move it away to "
    "begin with a new one",
    sqlite3.SQLITE_NOTADB: "is not a database of ours, or is damaged: give another path, "
    "or move it away to begin with a new one",
    sqlite3.SQLITE_TOOBIG: "cannot hold a value so large ({error}): write it to a file and "
    "keep the file's name",
}


def _file_system(folder: Path) -> str:
    if sys.platform != "linux":
        return ""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        return file_system(mountinfo, str(folder))
    except OSError:
        return ""  # nobody knows


def _patiently(db: sqlite3.Connection, statement: str) -> object:
    """A statement that is not waited with by SQLite while the file is locked."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            return _value(db, statement)
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _value(db: sqlite3.Connection, query: str) -> Any:
    with closing(db.execute(query)) as cursor:
        row = cursor.fetchone()
    return None if row is None else row[0]


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
