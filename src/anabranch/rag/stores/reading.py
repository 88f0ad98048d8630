"""What is read from an index, and how: each function works in one connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.filters import Filter
from anabranch.rag.plan import Version
from anabranch.rag.stores.conditions import condition
from anabranch.rag.stores.fulltext import match_any
from anabranch.rag.stores.records import Count, Passage
from anabranch.rag.types import Chunk, Hit, Metadata, Vectors

# Question marks in one statement: SQLite allows 32,766, and smaller ones are cached.
HOST_PARAMETERS: Final = 500


@dataclass(frozen=True, slots=True)
class Matrix:
    """Every vector that can be found, as of one generation of the store."""

    generation: int
    keys: NDArray[np.int64]
    rows: Vectors

    @classmethod
    def empty(cls) -> Matrix:
        """Older than any generation."""
        return cls(-1, np.zeros(0, np.int64), np.zeros((0, 0), np.float32))


def facts(db: sqlite3.Connection) -> dict[str, str]:
    """What the index says of itself."""
    return dict(db.execute("SELECT key, value FROM meta"))


def versions(db: sqlite3.Connection, uris: Sequence[str]) -> Mapping[str, Version]:
    """The complete version of each source that has one."""
    found: dict[str, Version] = {}
    for marks, some in _in_groups(uris):
        rows = db.execute(
            "SELECT uri, digest, fingerprint FROM source"
            f" WHERE state = 'complete' AND uri IN ({marks})",
            some,
        )
        found.update((row[0], Version(*row)) for row in rows)
    return found


def vectors(db: sqlite3.Connection, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
    """The vectors that are stored for some texts."""
    found: dict[bytes, Vectors] = {}
    for marks, some in _in_groups(digests):
        rows = db.execute(
            f"SELECT digest, vector FROM chunk WHERE digest IN ({marks})", some
        )
        found.update((key, np.frombuffer(blob, "<f4")) for key, blob in rows)
    return found


def count(db: sqlite3.Connection) -> Count:
    """How many sources are complete, and how many chunks they have."""
    sources, chunks = db.execute(
        "SELECT count(*), coalesce(sum(chunks), 0) FROM source WHERE state = 'complete'"
    ).fetchone()
    return Count(sources, chunks)


def all_sources(db: sqlite3.Connection) -> Iterator[Version]:
    """The complete version of every source: one statement sees one state."""
    for row in db.execute(
        "SELECT uri, digest, fingerprint FROM source WHERE state = 'complete' ORDER BY id"
    ):
        yield Version(*row)


def all_passages(db: sqlite3.Connection, where: Filter | None) -> Iterator[Passage]:
    """Every passage of a complete version that is meant, source by source."""
    sql, values = ("1", []) if where is None else condition(where)
    for key, uri, document, text, start, end, metadata, digest, blob in db.execute(
        "SELECT chunk.id, uri, document, text, start, end, metadata, chunk.digest, vector"
        " FROM source JOIN chunk ON source.id = chunk.source"
        f" WHERE state = 'complete' AND {sql} ORDER BY source.id, chunk.id",
        values,
    ):
        chunk = Chunk(document, text, start, end, json.loads(metadata))
        yield Passage(key, uri, chunk, digest, np.frombuffer(blob, "<f4"))


def load_matrix(db: sqlite3.Connection) -> Matrix:
    """Every vector of a complete source, in the order of the keys."""
    with _snapshot(db):
        said = facts(db)
        (size,) = db.execute(
            "SELECT count(*) FROM chunk JOIN source ON source.id = chunk.source"
            " WHERE source.state = 'complete'"
        ).fetchone()
        keys = np.empty(size, np.int64)
        rows = np.empty((size, int(said["dimensions"])), np.float32)
        found = db.execute(
            "SELECT chunk.id, vector FROM chunk JOIN source ON source.id = chunk.source"
            " WHERE source.state = 'complete' ORDER BY chunk.id"
        )
        for place, (key, blob) in enumerate(found):
            keys[place] = key
            rows[place] = np.frombuffer(blob, "<f4")
    return Matrix(int(said["generation"]), keys, rows)


def nearest(
    db: sqlite3.Connection,
    matrix: Matrix,
    vector: Vectors,
    *,
    k: int,
    where: Filter | None,
    name: str,
) -> Sequence[Hit]:
    """The passages with the largest inner products, best first."""
    keys, rows = matrix.keys, matrix.rows
    if where is not None:
        is_allowed = np.isin(keys, _allowed(db, where))
        keys, rows = keys[is_allowed], rows[is_allowed]
    if len(keys) == 0:
        return []
    scores = rows @ vector.astype(np.float32)
    best = _largest(scores, k)
    return _hits(db, [(int(keys[i]), float(scores[i])) for i in best], name)


def matching(
    db: sqlite3.Connection, query: str, *, k: int, where: Filter | None, name: str
) -> Sequence[Hit]:
    """The passages with the best BM25, best first."""
    match = match_any(query)
    if match is None:
        return []
    sql, values = ("1", []) if where is None else condition(where)
    ranked = db.execute(
        "SELECT chunk.id, -passage.rank FROM passage"
        " JOIN chunk ON chunk.id = passage.rowid"
        " JOIN source ON source.id = chunk.source AND source.state = 'complete'"
        f" WHERE passage MATCH ? AND {sql} ORDER BY passage.rank LIMIT ?",
        [match, *values, k],
    ).fetchall()
    return _hits(db, ranked, name)


@contextmanager
def _snapshot(db: sqlite3.Connection) -> Generator[None]:
    """Several reads of one state."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def _allowed(db: sqlite3.Connection, where: Filter) -> NDArray[np.int64]:
    sql, values = condition(where)
    rows = db.execute(f"SELECT chunk.id FROM chunk WHERE {sql}", values)
    return np.fromiter((key for (key,) in rows), np.int64)


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
