"""What is written to an index, and how: each function works in one connection."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Final, TypeVar

from anabranch.rag.filters import Filter
from anabranch.rag.plan import Version
from anabranch.rag.stores.conditions import condition
from anabranch.rag.stores.records import Abandon, Add, Remove, Write
from anabranch.rag.stores.storable import storable
from anabranch.rag.types import Embedder, Metadata

R = TypeVar("R")

FORMAT: Final = "2"
# Question marks in one statement: SQLite allows 32,766, and smaller ones are cached.
HOST_PARAMETERS: Final = 500
# As the index says it: without its condition every source would be looked at.
_OF_URI: Final = "uri = ? AND state <> 'abandoned'"


def make(db: sqlite3.Connection, embedder: Embedder) -> None:
    """Ready the connection for writing, and the index if there is none."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -8192")  # KiB
    transaction(db, lambda db: _make_tables(db, embedder))


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
            "index": uuid.uuid4().hex,
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


def transaction(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
    """All that ``work`` does, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


def apply(db: sqlite3.Connection, writes: Sequence[Write]) -> None:
    """Each write in its order, in the transaction that is open."""
    is_visible = False
    rows = _Rows(db)
    completed: set[str] = set()
    removed: list[str] = []
    for write in storable(writes):
        match write:
            case Add():
                source = _begun(db, write.version, len(write.chunks))
                if write.version.uri in completed:
                    rows.insert()  # what is on its way may have to be removed
                rows.add(source, write)
                if write.is_last:
                    completed.add(write.version.uri)
                    _complete(db, source, write.version.uri)
                is_visible |= write.is_last
            case Abandon(uri):
                _abandon(db, _OF_URI, [uri])
            case Remove(uri):
                rows.insert()
                _remove(db, _OF_URI, [uri])
                removed.append(uri)
                is_visible = True
    rows.insert()
    if removed:
        # Abandoned versions are in no index: they are looked through once for all.
        of_removed = "uri IN (SELECT value FROM json_each(?))"
        _remove(db, f"state = 'abandoned' AND {of_removed}", [json.dumps(removed)])
    if is_visible:
        db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")


def sweep(db: sqlite3.Connection) -> None:
    """Remove abandoned versions."""
    _remove(db, "state = 'abandoned'", [])


def remove_where(db: sqlite3.Connection, is_gone: Callable[[str], bool]) -> Sequence[str]:
    """Remove the sources of which this is true, and name them."""
    uris = db.execute("SELECT uri FROM source WHERE state = 'complete'")
    gone = [uri for (uri,) in uris if is_gone(uri)]
    apply(db, [Remove(uri) for uri in gone])
    return gone


def delete(db: sqlite3.Connection, where: Filter) -> Sequence[str]:
    """Remove the sources of whose passages the filter means one, and name them."""
    sql, values = condition(where)
    found = db.execute(
        "SELECT uri FROM source WHERE state = 'complete' AND EXISTS"
        f" (SELECT 1 FROM chunk WHERE chunk.source = source.id AND {sql})",
        values,
    )
    gone = [uri for (uri,) in found]
    apply(db, [Remove(uri) for uri in gone])
    return gone


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
    _remove(db, f"{_OF_URI} AND state = 'complete'", [uri])
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
