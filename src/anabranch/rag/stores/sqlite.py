"""Vectors, full text and metadata in one SQLite file.

The file is in WAL mode with ``synchronous=NORMAL``: a commit survives the death of the
process, and the file is consistent after a loss of power. There is one writer, a thread
of its own behind a lock file; readers never wait for it.

What must hold after a crash: a source is in the index whole or not at all. A version is
*writing* over as many transactions as it takes; the one that writes its last chunk makes
it *complete* and removes the complete version before it. A version that will never be
finished is *abandoned*: by an error in the middle of it, or by the next writer that finds
it. Only complete versions are searched, but the vectors of all are reused, so a run that
was killed embeds nothing again that it had stored. A run that ends well sweeps up.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch.errors import StoreError, StoreMismatch, UsageError
from anabranch.rag.plan import Version
from anabranch.rag.stores.fulltext import match_any
from anabranch.rag.stores.lock import hold_lock
from anabranch.rag.types import Chunk, Embedder, Hit, Metadata, Vectors, Where

R = TypeVar("R")

FORMAT: Final = "1"
FILE: Final = "index.sqlite"
READERS: Final = 2
# Question marks in one statement: SQLite allows 32,766, and smaller ones are cached.
HOST_PARAMETERS: Final = 500


@dataclass(frozen=True, slots=True)
class Add:
    """Write more chunks of a version, the first of which begins it.

    Attributes:
        version: What the chunks are of.
        chunks: In order, behind those added before.
        digests: Of each chunk's text.
        vectors: Of each chunk: shape ``(len(chunks), dimensions)``.
        is_last: The version is complete with these, and takes the place of the one before.
    """

    version: Version
    chunks: Sequence[Chunk]
    digests: Sequence[bytes]
    vectors: Vectors
    is_last: bool


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give up the version of a source that is being written."""

    uri: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a source, whole."""

    uri: str


Write: TypeAlias = Add | Abandon | Remove


class SqliteStore:
    """An index in a folder. Open it with :meth:`open` or :meth:`create`.

    Any number of processes may read; one may write. Every method may be called from many
    tasks at once, and does its work in threads.
    """

    def __init__(self, folder: Path, *, is_writer: bool) -> None:
        self.folder = folder
        self._path = folder / FILE
        self._connections: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="anabranch-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="anabranch-write")
        self._unlock: Callable[[], None] = hold_lock(folder) if is_writer else _nothing
        self._matrix = _Matrix(-1, np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
        self._matrix_turn = threading.Lock()

    @classmethod
    async def create(cls, folder: Path, embedder: Embedder) -> SqliteStore:
        """Open an index for writing; make it if there is none.

        Raises:
            StoreLocked: Another process is writing to it.
            StoreMismatch: It was made with another model.
            StoreError: The folder cannot be written, or holds something else.
        """

        def begin() -> SqliteStore:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"{folder} cannot be made a folder ({error.strerror}): choose another"
                ) from error
            store = cls(folder, is_writer=True)
            try:
                store._on_writer(lambda db: _make(db, embedder))
                store._check(embedder)
            except BaseException:
                store._shut()
                raise
            return store

        return await _opened(begin)

    @classmethod
    async def open(cls, folder: Path, embedder: Embedder | None = None) -> SqliteStore:
        """Open an index for reading.

        Raises:
            StoreMismatch: It was made with another model than ``embedder``.
            StoreError: There is no index in the folder, or it cannot be read.
        """

        def begin() -> SqliteStore:
            if not (folder / FILE).is_file():
                raise StoreError(
                    f"{folder} holds no index: make one with "
                    f"'anabranch index SOURCE --into {folder}'"
                )
            store = cls(folder, is_writer=False)
            try:
                store._check(embedder)
            except BaseException:
                store._shut()
                raise
            return store

        return await _opened(begin)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what is being written, and let go of the file. Idempotent."""
        await asyncio.to_thread(self._shut)

    # -- writing

    async def write(self, writes: Sequence[Write]) -> None:
        """All of it in one transaction: when this returns it survives ``kill -9``.

        Raises:
            StoreError: The disk is full or the file cannot be written; nothing of these
                writes happened, and everything before them stands.
        """
        await self._write(lambda db: _apply(db, writes))

    async def sweep(self) -> None:
        """Remove abandoned versions, whose vectors nobody will ask for any more."""
        await self._write(lambda db: _remove(db, "state = 'abandoned'", []))

    async def remove_where(self, is_gone: Callable[[str], bool]) -> Sequence[str]:
        """Remove the sources of which this is true, and name them."""

        def remove(db: sqlite3.Connection) -> Sequence[str]:
            uris = db.execute("SELECT uri FROM source WHERE state = 'complete'")
            gone = [uri for (uri,) in uris if is_gone(uri)]
            _apply(db, [Remove(uri) for uri in gone])
            return gone

        return await self._write(remove)

    # -- reading

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """The complete version of each source that has one."""

        def find(db: sqlite3.Connection) -> Mapping[str, Version]:
            found: dict[str, Version] = {}
            for marks, some in _in_groups(uris):
                rows = db.execute(
                    "SELECT uri, digest, fingerprint FROM source"
                    f" WHERE state = 'complete' AND uri IN ({marks})",
                    some,
                )
                found.update((row[0], Version(*row)) for row in rows)
            return found

        return await self._read(find)

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors that are stored for some texts, complete or not."""

        def find(db: sqlite3.Connection) -> Mapping[bytes, Vectors]:
            found: dict[bytes, Vectors] = {}
            for marks, some in _in_groups(digests):
                rows = db.execute(
                    f"SELECT digest, vector FROM chunk WHERE digest IN ({marks})", some
                )
                found.update((key, np.frombuffer(blob, "<f4")) for key, blob in rows)
            return found

        return await self._read(find)

    async def count(self) -> tuple[int, int]:
        """How many sources are complete, and how many chunks they have."""

        def find(db: sqlite3.Connection) -> tuple[int, int]:
            sources, chunks = db.execute(
                "SELECT count(*), coalesce(sum(chunks), 0) FROM source"
                " WHERE state = 'complete'"
            ).fetchone()
            return sources, chunks

        return await self._read(find)

    async def model(self) -> str:
        """The name of the model whose vectors it holds."""
        return (await self._read(_meta))["model"]

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """The ``k`` passages whose vectors have the largest inner product with this one.

        Exact: every vector is compared. Ties by key.
        """

        def find(db: sqlite3.Connection) -> Sequence[Hit]:
            matrix = self._fresh_matrix(db)
            keys, rows = matrix.keys, matrix.rows
            if where:
                allowed = np.isin(keys, _allowed(db, where))
                keys, rows = keys[allowed], rows[allowed]
            if len(keys) == 0:
                return []
            scores = rows @ vector.astype(np.float32)
            best = _largest(scores, k)
            return _hits(db, [(int(keys[i]), float(scores[i])) for i in best], name)

        return await self._read(find)

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """The ``k`` passages with the best BM25 for the words of ``query``."""

        def find(db: sqlite3.Connection) -> Sequence[Hit]:
            match = match_any(query)
            if match is None:
                return []
            conditions, values = _conditions(where or {})
            ranked = db.execute(
                "SELECT chunk.id, -passage.rank FROM passage"
                " JOIN chunk ON chunk.id = passage.rowid"
                " JOIN source ON source.id = chunk.source AND source.state = 'complete'"
                f" WHERE passage MATCH ? {conditions} ORDER BY passage.rank LIMIT ?",
                [match, *values, k],
            ).fetchall()
            return _hits(db, ranked, name)

        return await self._read(find)

    # -- threads

    async def _read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._readers, lambda: self._with_connection(work, "mode=ro")
        )

    async def _write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        # A transaction cannot be cancelled half way: whoever is cancelled meanwhile
        # learns of it when it has ended.
        future = self._writer.submit(
            lambda: self._with_connection(lambda db: _transaction(db, work), "mode=rw")
        )
        waiting = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                waiting.exception()
            raise

    def _on_writer(self, work: Callable[[sqlite3.Connection], R]) -> R:
        return self._writer.submit(lambda: self._with_connection(work, "mode=rwc")).result()

    def _with_connection(self, work: Callable[[sqlite3.Connection], R], mode: str) -> R:
        try:
            db: sqlite3.Connection | None = getattr(self._local, "db", None)
            if db is None:
                uri = f"{self._path.absolute().as_uri()}?{self._mode(mode)}"
                db = sqlite3.connect(
                    uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False
                )
                self._connections.append(db)
                self._local.db = db
            return work(db)
        except sqlite3.Error as error:
            raise _explained(self.folder, error) from error

    def _mode(self, mode: str) -> str:
        # Where nothing can be written, SQLite cannot make the files beside a WAL either,
        # and need not: nobody can be writing.
        alone = (
            not os.access(self.folder, os.W_OK)
            and not self._path.with_name(f"{FILE}-wal").exists()
        )
        return "immutable=1" if alone and mode == "mode=ro" else mode

    def _shut(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        while self._connections:
            self._connections.pop().close()
        self._unlock()
        self._unlock = _nothing

    def _check(self, embedder: Embedder | None) -> None:
        meta = self._readers.submit(
            lambda: self._with_connection(_meta, "mode=ro")
        ).result()
        if meta.get("format") != FORMAT:
            raise StoreError(
                f"{self.folder} holds an index of format {meta.get('format')}, and this "
                f"version of anabranch reads format {FORMAT}: index into another folder"
            )
        if embedder is not None and meta["model_digest"] != embedder.digest:
            raise StoreMismatch(
                f"{self.folder} was made with the model {meta['model']}, whose vectors "
                f"cannot be compared with those of {embedder.name}: use the same model, "
                "or index into another folder"
            )

    def _fresh_matrix(self, db: sqlite3.Connection) -> _Matrix:
        with self._matrix_turn:
            generation = int(_meta(db)["generation"])
            if generation != self._matrix.generation:
                self._matrix = _load_matrix(db)
            return self._matrix


async def _opened(begin: Callable[[], SqliteStore]) -> SqliteStore:
    """What ``begin`` opens in a thread; closed again if nobody waits for it any more."""
    opening = asyncio.ensure_future(asyncio.to_thread(begin))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # A thread cannot be cancelled: it must not leave a lock behind.
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().aclose()
        raise


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Every vector that can be found, as of one generation of the store."""

    generation: int
    keys: NDArray[np.int64]
    rows: Vectors


def _load_matrix(db: sqlite3.Connection) -> _Matrix:
    with _snapshot(db):
        meta = _meta(db)
        (size,) = db.execute(
            "SELECT count(*) FROM chunk JOIN source ON source.id = chunk.source"
            " WHERE source.state = 'complete'"
        ).fetchone()
        keys = np.empty(size, np.int64)
        rows = np.empty((size, int(meta["dimensions"])), np.float32)
        found = db.execute(
            "SELECT chunk.id, vector FROM chunk JOIN source ON source.id = chunk.source"
            " WHERE source.state = 'complete' ORDER BY chunk.id"
        )
        for place, (key, blob) in enumerate(found):
            keys[place] = key
            rows[place] = np.frombuffer(blob, "<f4")
    return _Matrix(int(meta["generation"]), keys, rows)


def _make(db: sqlite3.Connection, embedder: Embedder) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -8192")  # KiB
    _transaction(db, lambda db: _make_tables(db, embedder))


def _make_tables(db: sqlite3.Connection, embedder: Embedder) -> None:
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        _abandon(db, "1", [])
        return
    for statement in _statements(
        (files("anabranch.rag.stores") / "schema.sql").read_text("utf-8")
    ):
        db.execute(statement)
    db.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        {
            "format": FORMAT,
            "model": embedder.name,
            "model_digest": embedder.digest,
            "dimensions": str(embedder.dimensions),
            "generation": "0",
        }.items(),
    )


def _statements(script: str) -> Iterator[str]:
    """The script's statements, so that they run in our transaction, not each in its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _transaction(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


@contextmanager
def _snapshot(db: sqlite3.Connection) -> Generator[None]:
    """Several reads of one state."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def _apply(db: sqlite3.Connection, writes: Sequence[Write]) -> None:
    is_visible = False
    rows = _Rows(db)
    for write in writes:
        match write:
            case Add():
                source = _begun(db, write.version, len(write.chunks))
                rows.add(source, write)
                if write.is_last:
                    _complete(db, source, write.version.uri)
                is_visible |= write.is_last
            case Abandon(uri):
                _abandon(db, "uri = ?", [uri])
            case Remove(uri):
                rows.insert()
                _remove(db, "uri = ?", [uri])
                is_visible = True
    rows.insert()
    if is_visible:
        db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")


def _begun(db: sqlite3.Connection, version: Version, chunks: int) -> int:
    """The row of the version that is being written, with so many chunks more."""
    (key,) = db.execute(
        "INSERT INTO source (uri, digest, fingerprint, state, chunks)"
        " VALUES (?, ?, ?, 'writing', ?)"
        " ON CONFLICT (uri, state) WHERE state <> 'abandoned'"
        " DO UPDATE SET chunks = chunks + excluded.chunks RETURNING id",
        (version.uri, version.digest, version.fingerprint, chunks),
    ).fetchone()
    return int(key)


class _Rows:
    """Chunks on their way into the table, many a statement.

    Every statement lets go of Python's lock and must wait to get it back, which a row a
    statement would do a thousand times in a batch.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._values: list[object] = []
        self._metadata = _Metadata()

    def add(self, source: int, add: Add) -> None:
        vectors = add.vectors.astype("<f4", copy=False)
        for chunk, digest, vector in zip(add.chunks, add.digests, vectors, strict=True):
            self._values += (
                source,
                chunk.document_id,
                chunk.start,
                chunk.end,
                str(chunk.metadata.get("title") or ""),
                chunk.text,
                self._metadata.json(chunk.metadata),
                digest,
                vector.tobytes(),
            )

    def insert(self) -> None:
        """Write what has been added, in its order."""
        columns = "source, document, start, end, title, text, metadata, digest, vector"
        width = columns.count(",") + 1
        row = f"({', '.join('?' * width)})"
        step = HOST_PARAMETERS // width * width
        for start in range(0, len(self._values), step):
            values = self._values[start : start + step]
            rows = ", ".join([row] * (len(values) // width))
            self._db.execute(f"INSERT INTO chunk ({columns}) VALUES {rows}", values)
        self._values.clear()


class _Metadata:
    """The JSON of the metadata met last: the chunks of a document share theirs."""

    def __init__(self) -> None:
        self._last: Metadata | None = None
        self._json = ""

    def json(self, metadata: Metadata) -> str:
        if metadata is not self._last:
            self._last = metadata
            self._json = json.dumps(dict(metadata), ensure_ascii=False)
        return self._json


def _complete(db: sqlite3.Connection, source: int, uri: str) -> None:
    _remove(db, "uri = ? AND state = 'complete'", [uri])
    db.execute(
        "UPDATE source SET state = 'complete', indexed_at = ? WHERE id = ?",
        (time.time(), source),
    )


def _abandon(db: sqlite3.Connection, condition: str, values: Sequence[object]) -> None:
    db.execute(
        f"UPDATE source SET state = 'abandoned' WHERE state = 'writing' AND {condition}",
        values,
    )


def _remove(db: sqlite3.Connection, condition: str, values: Sequence[object]) -> None:
    # Read first: deleting from a table that is being read has no defined order.
    found = db.execute(f"SELECT id FROM source WHERE {condition}", values).fetchall()
    db.executemany("DELETE FROM chunk WHERE source = ?", found)
    db.executemany("DELETE FROM source WHERE id = ?", found)


def _meta(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT key, value FROM meta"))


def _allowed(db: sqlite3.Connection, where: Where) -> NDArray[np.int64]:
    conditions, values = _conditions(where)
    rows = db.execute(f"SELECT chunk.id FROM chunk WHERE 1 {conditions}", values)
    return np.fromiter((key for (key,) in rows), np.int64)


def _conditions(where: Where) -> tuple[str, list[object]]:
    """SQL for a filter. Names and values are only ever parameters."""
    sql, values = "", list[object]()
    for field, wanted in where.items():
        if '"' in field:
            raise UsageError(f"the metadata field {field!r} has a quote in its name")
        some = [wanted] if isinstance(wanted, str) or wanted is None else wanted
        some = list(some) if isinstance(some, Sequence) else [some]
        path = f'$."{field}"'
        # IN never finds NULL, which is what a missing field and a null both are.
        null = " OR json_extract(chunk.metadata, ?) IS NULL" if None in some else ""
        marks = ", ".join("?" * len(some))
        sql += f" AND (json_extract(chunk.metadata, ?) IN ({marks}){null})"
        values += [path, *some, *([path] if null else [])]
    return sql, values


def _hits(
    db: sqlite3.Connection, ranked: Sequence[tuple[int, float]], name: str
) -> Sequence[Hit]:
    rows: dict[int, tuple[str, str, str, int, int, Metadata]] = {}
    for marks, some in _in_groups([key for key, _ in ranked]):
        found = db.execute(
            "SELECT chunk.id, source.uri, document, text, start, end, metadata FROM chunk"
            f" JOIN source ON source.id = chunk.source WHERE chunk.id IN ({marks})",
            some,
        )
        for key, uri, document, text, start, end, metadata in found:
            rows[key] = (uri, document, text, start, end, json.loads(metadata))
    # A passage may have been removed since it was ranked.
    present = [(key, score) for key, score in ranked if key in rows]
    return [
        Hit(key, *rows[key], score=score, ranks={name: rank})
        for rank, (key, score) in enumerate(present, start=1)
    ]


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Indices of the ``k`` largest, best first, ties by index."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        few = np.flatnonzero(scores >= least)
        return few[np.argsort(-scores[few], kind="stable")][:k]
    return np.argsort(-scores, kind="stable")


def _in_groups(values: Iterable[object]) -> Iterator[tuple[str, list[object]]]:
    every = list(values)
    for start in range(0, len(every), HOST_PARAMETERS):
        some = every[start : start + HOST_PARAMETERS]
        yield ", ".join("?" * len(some)), some


def _explained(folder: Path, error: sqlite3.Error) -> StoreError:
    said = str(error)
    if "full" in said:
        return StoreError(
            f"the disk of {folder} is full: free some space and run the same command "
            "again; what was stored is kept"
        )
    if "not a database" in said or "malformed" in said:
        return StoreError(
            f"{folder / FILE} is not an index, or is damaged ({said}): move it away and "
            "index again"
        )
    if "readonly" in said or "unable to open" in said:
        return StoreError(
            f"{folder / FILE} cannot be opened or written ({said}): check "
            "who may write there"
        )
    return StoreError(f"{folder / FILE}: {said}")


def _nothing() -> None:
    pass
