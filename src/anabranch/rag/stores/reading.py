"""What is read from an index, and how: each function works in one connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

import numpy as np

from anabranch.rag.filters import Filter
from anabranch.rag.plan import Version
from anabranch.rag.stores.conditions import condition
from anabranch.rag.stores.records import Count, Passage
from anabranch.rag.stores.storable import is_storable
from anabranch.rag.types import Chunk, Metadata, Vectors

# Question marks in one statement: SQLite allows 32,766, and smaller ones are cached.
HOST_PARAMETERS: Final = 500


class Damaged(sqlite3.DatabaseError):
    """Something in the file is not what was written there."""


def metadata_of(text: str) -> Metadata:
    """The metadata of a passage, from its JSON.

    Raises:
        Damaged: It is none.
    """
    try:
        found: object = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"metadata that is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Damaged("metadata that is no JSON object")
    return cast("Metadata", found)


def check_lengths(blobs: Iterable[bytes], dimensions: int) -> None:
    """Refuse vectors that are not of so many numbers.

    Raises:
        Damaged: One is not.
    """
    if any(len(blob) != 4 * dimensions for blob in blobs):
        raise Damaged(f"a vector that is not of {dimensions} numbers")


def facts(db: sqlite3.Connection) -> dict[str, str]:
    """What the index says of itself."""
    return dict(db.execute("SELECT key, value FROM meta"))


def versions(db: sqlite3.Connection, uris: Sequence[str]) -> Mapping[str, Version]:
    """The complete version of each source that has one."""
    found: dict[str, Version] = {}
    for marks, some in _in_groups(uri for uri in uris if is_storable(uri)):
        rows = db.execute(
            "SELECT uri, digest, fingerprint FROM source"
            # The second condition is the index's own: without it all rows are looked at.
            f" WHERE state = 'complete' AND state <> 'abandoned' AND uri IN ({marks})",
            some,
        )
        found.update((row[0], Version(*row)) for row in rows)
    return found


def vectors(
    db: sqlite3.Connection, digests: Sequence[bytes], dimensions: int
) -> Mapping[bytes, Vectors]:
    """The vectors that are stored for some texts."""
    found: dict[bytes, Vectors] = {}
    for marks, some in _in_groups(digests):
        rows = db.execute(
            f"SELECT digest, vector FROM chunk WHERE digest IN ({marks})", some
        ).fetchall()
        check_lengths((blob for _, blob in rows), dimensions)
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


def all_passages(
    db: sqlite3.Connection, where: Filter | None, dimensions: int
) -> Iterator[Passage]:
    """Every passage of a complete version that is meant, source by source."""
    sql, values = ("1", []) if where is None else condition(where)
    for key, uri, document, text, start, end, metadata, digest, blob in db.execute(
        "SELECT chunk.id, uri, document, text, start, end, metadata, chunk.digest, vector"
        " FROM source JOIN chunk ON source.id = chunk.source"
        f" WHERE state = 'complete' AND {sql} ORDER BY source.id, chunk.id",
        values,
    ):
        check_lengths([blob], dimensions)
        chunk = Chunk(document, text, start, end, metadata_of(metadata))
        yield Passage(key, uri, chunk, digest, np.frombuffer(blob, "<f4"))


def texts(
    db: sqlite3.Connection, keys: Collection[int]
) -> Mapping[int, tuple[str, str, str, int, int, str]]:
    """Of each passage: source, document, text, start, end and the JSON of its metadata."""
    found: dict[int, tuple[str, str, str, int, int, str]] = {}
    for marks, some in _in_groups(keys):
        rows = db.execute(
            "SELECT chunk.id, source.uri, document, text, start, end, metadata FROM chunk"
            f" JOIN source ON source.id = chunk.source WHERE chunk.id IN ({marks})",
            some,
        )
        found.update((row[0], row[1:]) for row in rows)
    return found


def _in_groups(values: Iterable[object]) -> Iterator[tuple[str, list[object]]]:
    every = list(values)
    for start in range(0, len(every), HOST_PARAMETERS):
        some = every[start : start + HOST_PARAMETERS]
        yield ", ".join("?" * len(some)), some
