"""Results that survive the process: a run that is started again does only the rest.

One SQLite file, written by one thread. Many jobs finish while a transaction is being
written; they share the next one (*group commit*), so the cost of a commit is divided by
the number of workers. What must hold after a crash at any point:

* ``put`` returns after its transaction is committed, and a run hands on no result before:
  whoever has seen a result will never see the item done again.
* A job that ended but was not committed is done again: at least once, never not at all.
* The file is locked as long as it is open; the lock dies with the process.

The write-ahead log is not forced to the disk at each commit: it survives the death of the
process, while a loss of power may take the last results. They are done again.
"""

from __future__ import annotations

import asyncio
import collections.abc
import io
import pickle
import sqlite3
import stat
import threading
import types
import typing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from anabranch.errors import JournalError
from anabranch.jobs.filelock import FileLock

APPLICATION_ID: Final = 0x616E6A31  # "anj1": a journal of jobs, first format
_IN_USE: Final = "{} is in use by another run: wait for it, or give another path"
ROW_OVERHEAD_BYTES: Final = 1000
STACK_GLOBAL: Final = b"\x93"  # with it a pickle names a class or a function
NEVER_PICKLED: Final = (
    collections.abc.AsyncIterator,
    collections.abc.Awaitable,
    collections.abc.Generator,
    io.IOBase,
    typing.IO,
    types.ModuleType,
    threading.Thread,
    sqlite3.Connection,
)


class Journal:
    """The results of finished items, by key. Of one event loop.

    Values are pickled. Open only journals that you wrote: a pickle from elsewhere can run
    any code.

    Args:
        path: The file; it is made if it is not there.

    Raises:
        JournalError: It is in use, damaged, read-only, or something else.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = fspath(path)
        self._asked: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._told: list[tuple[bytes, bytes, asyncio.Future[Any]]] = []
        self._writing: asyncio.Future[Any] | None = None
        self._closing = ExitStack()
        try:
            self._connection = _open(self.path, self._closing)
        except sqlite3.Error as error:
            raise JournalError(_sentence(self.path, error)) from error
        self._place = Path(self.path).absolute()  # wherever the program goes from here
        self._file = _file_at(self._place)
        # A row is its key, its value, and some bytes more.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="anabranch-journal")
        limit = self._connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        self._most_bytes = limit - ROW_OVERHEAD_BYTES

    async def get(self, key: bytes) -> tuple[Any] | None:
        """The result for a key, in a tuple since it may be ``None``; ``None`` if absent."""
        future: asyncio.Future[Any] = self._loop().create_future()
        self._asked.append((key, future))
        self._stir()
        found: bytes | None = await future
        if found is None:
            return None
        try:
            return (pickle.loads(found),)  # noqa: S301  # see the class: own files only
        except Exception as error:
            raise JournalError(
                f"{self.path}: a result cannot be read back ({error!r}). If its class was "
                "moved or renamed, bring it back under its old name, or start with a new "
                "journal"
            ) from error

    async def put(self, key: bytes, value: object) -> None:
        """Return when the result for a key is committed."""
        try:
            content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise JournalError(
                f"{self.path}: a result of type {type(value).__name__} cannot be stored "
                f"({error}): return plain data, or leave the journal out"
            ) from error
        if len(content) > self._most_bytes:
            raise JournalError(
                f"{self.path}: a result of {len(content):,} bytes cannot be stored; the "
                f"most is {self._most_bytes:,}. Write it to a file and return the file's "
                "name"
            )
        if STACK_GLOBAL in content:  # it may be more than plain data
            self._check_readable(content, value)
        future: asyncio.Future[Any] = self._loop().create_future()
        self._told.append((key, content, future))
        self._stir()
        await future

    def _check_readable(self, content: bytes, value: object) -> None:
        try:
            pickle.loads(content)  # noqa: S301  # written just now
        except Exception as error:
            raise JournalError(
                f"{self.path}: a result of type {type(value).__name__} can be stored but "
                f"not read back ({error}): return plain data, or leave the journal out"
            ) from error

    async def aclose(self) -> None:
        """Write what is waiting, and release the file."""
        while self._writing is not None or self._asked or self._told:
            if self._writing is None:
                self._write()
            else:
                await asyncio.wait((self._writing,))
        await self._in_thread(self._closing.close)
        self._thread.shutdown(wait=False)

    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def _stir(self) -> None:
        # At the end of this turn of the loop: who else finishes in it joins.
        if self._writing is None and len(self._asked) + len(self._told) == 1:
            self._loop().call_soon(self._write)

    def _write(self) -> None:
        if self._writing is not None or not (self._asked or self._told):
            return
        asked, self._asked = self._asked, []
        told, self._told = self._told, []
        self._writing = self._in_thread(
            self._apply,
            [key for key, _ in asked],
            [(key, content) for key, content, _ in told],
        )
        self._writing.add_done_callback(lambda done: self._written(done, asked, told))

    def _in_thread(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        try:
            return self._loop().run_in_executor(self._thread, work, *args)
        except RuntimeError:
            # The interpreter exits: its executors take no more work. The thread has ended,
            # and nobody minds any more that the loop stands still.
            future: asyncio.Future[Any] = self._loop().create_future()
            try:
                future.set_result(work(*args))
            except Exception as error:
                future.set_exception(error)
            return future

    def _written(
        self,
        done: asyncio.Future[list[bytes | None]],
        asked: list[tuple[bytes, asyncio.Future[Any]]],
        told: list[tuple[bytes, bytes, asyncio.Future[Any]]],
    ) -> None:
        self._writing = None
        error = done.exception()
        if isinstance(error, sqlite3.Error):
            cause, error = error, JournalError(_sentence(self.path, error))
            error.__cause__ = cause
        answers = [None] * len(asked) if error is not None else done.result()
        settled = [
            *zip((future for _, future in asked), answers, strict=True),
            *((future, None) for _, _, future in told),
        ]
        for future, answer in settled:
            if future.done():  # its job was cancelled
                continue
            if error is None:
                future.set_result(answer)
            else:
                future.set_exception(error)
        self._write()

    def _apply(
        self, asked: list[bytes], told: list[tuple[bytes, bytes]]
    ) -> list[bytes | None]:
        """On the journal's thread: one transaction, then the questions."""
        if told:
            try:
                self._connection.execute("BEGIN")
                self._connection.executemany(
                    "INSERT OR REPLACE INTO done VALUES (?, ?)", told
                )
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._check_place()
        answers: list[bytes | None] = []
        for key in asked:
            row = self._connection.execute(
                "SELECT value FROM done WHERE key = ?", (key,)
            ).fetchone()
            answers.append(None if row is None else row[0])
        return answers

    def _check_place(self) -> None:
        # The connection goes on with the file that it has opened, which the next run
        # would not find. While it is open, no other file gets its number.
        try:
            found = _file_at(self._place)
        except OSError:
            return  # nobody knows
        if found != self._file:
            raise JournalError(
                f"{self.path} was moved, removed or replaced during the run: its results "
                "are not stored there. Leave a journal in its place until the run has ended"
            )


def check_result_type(fn: Callable[..., Any] | str) -> None:
    """Refuse a function whose annotation says that its results cannot be stored.

    Raises:
        JournalError: Before any work is done for nothing.
    """
    try:
        given: Any = typing.get_type_hints(fn).get("return")
    except Exception:  # an annotation that cannot be evaluated says nothing
        return
    for part in (given, *typing.get_args(given)):
        kind = typing.get_origin(part) or part
        if not isinstance(kind, type):
            continue
        if issubclass(kind, NEVER_PICKLED) or "<locals>" in kind.__qualname__:
            raise JournalError(
                f"{getattr(fn, '__qualname__', fn)} returns {kind.__qualname__}, which "
                "cannot be stored in a journal: return plain data or a class defined at "
                "the top of its module, or leave the journal out"
            )


def _open(path: str, closing: ExitStack) -> sqlite3.Connection:
    """The connection, and in ``closing`` what has to be done at its end."""
    with suppress(OSError):
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise JournalError(f"{path} is a folder: give the path of a file in it")
        if not stat.S_ISREG(mode):
            raise JournalError(f"{path} is a device or a pipe: give the path of a file")
    with ExitStack() as done:
        # Before SQLite touches the file, and until it has left it.
        with suppress(OSError):  # where it cannot be opened, SQLite says so
            try:
                done.callback(FileLock(path).release)
            except BlockingIOError:
                raise JournalError(_IN_USE.format(path)) from None
        connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        done.callback(connection.close)
        # Exclusive: a second process is refused at once, and no shared memory is needed.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _check_kind(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS done (key BLOB PRIMARY KEY, value BLOB NOT NULL) "
            "WITHOUT ROWID"
        )
        connection.execute("COMMIT")
        closing.push(done.pop_all())
        return connection


def _check_kind(connection: sqlite3.Connection, path: str) -> None:
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if kind != APPLICATION_ID and tables:
        raise JournalError(
            f"{path} is a database, but not a journal of jobs: give another path"
        )


def _file_at(path: Path) -> tuple[int, int] | None:
    """Which file is there: its device and inode, or ``None`` if there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _sentence(path: str, error: sqlite3.Error) -> str:
    what = str(error)
    if "locked" in what:
        return _IN_USE.format(path)
    if "readonly" in what or "read-only" in what:
        return f"{path} cannot be written to: make it and its folder writable"
    if "full" in what:
        return (
            f"{path} cannot grow: the disk is full. Make room and start again; what is in "
            "the journal is not done again"
        )
    if "not a database" in what or "malformed" in what:
        return (
            f"{path} is damaged, or was never a journal ({what}): move it away and start "
            "again with a new one"
        )
    if "unable to open" in what:
        return f"{path} cannot be opened: its folder is not there, or not writable"
    if "I/O error" in what:
        return f"{path} cannot be read or written: is its disk read-only, full or failing?"
    return f"{path} cannot be used as a journal: {what}"
