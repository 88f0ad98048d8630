"""A process that brings the graph of neighbours of an index up to date.

    python -m anabranch.rag.stores.building FOLDER

It ends when that is done, or when its standard input does: with whoever started it. It
may be killed at any moment. Of several, one works and the others wait for it. A process,
since what is done to a graph as a whole (to read and to write it) keeps Python's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from anabranch.rag.stores import ann
from anabranch.rag.stores.ann import Keys, Stamp
from anabranch.rag.stores.sqlite import FILE
from anabranch.rag.stores.table import numbers, snapshot
from anabranch.rag.types import Vectors

_AT_ONCE: Final = 1024
_LIVING: Final = (
    "SELECT group_concat(chunk.id) FROM chunk JOIN source ON source.id = chunk.source"
    " WHERE source.state = 'complete'"
)


def build(folder: Path) -> None:
    """Bring the file up to date.

    Raises:
        OSError: The folder cannot be written.
        sqlite3.Error: The index cannot be read.
    """
    with (folder / f"{ann.FILE}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        database = (folder / FILE).absolute().as_uri()
        with contextlib.closing(
            sqlite3.connect(f"{database}?mode=ro", uri=True, isolation_level=None)
        ) as db:
            _renew(folder / ann.FILE, db)


def _renew(path: Path, db: sqlite3.Connection) -> None:
    old = ann.read(path, db)
    with snapshot(db):
        now = Stamp.of(db)
        listed = ann.marks(db)
        living = np.sort(numbers(db, _LIVING))
    missing = living if old is None else np.setdiff1d(living, old.keys)
    if old is not None and not ann.is_outdated(old, len(missing), len(living)):
        return
    graph = ann.new_graph(now.dimensions)
    held = listed[:0]
    if old is None or ann.is_overgrown(old, len(missing), len(living)):
        missing = living
    else:
        graph.load(bytes(old.data))
        held = old.listed
    added = [np.zeros(0, np.int64)]
    for keys, vectors in _vectors(db, missing, now.dimensions):
        graph.add(keys, vectors, threads=1)
        added.append(keys)
    held = np.concatenate([held, listed[np.isin(listed["key"], np.concatenate(added))]])
    ann.write(path, now, held[np.argsort(held["key"])], graph.save())


def _vectors(
    db: sqlite3.Connection, keys: Keys, dimensions: int
) -> Iterator[tuple[Keys, Vectors]]:
    # Each group in a state of its own: one for all would keep the log from being reused.
    for start in range(0, len(keys), _AT_ONCE):
        rows = db.execute(
            "SELECT id, vector FROM chunk WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(keys[start : start + _AT_ONCE].tolist()),),
        ).fetchall()
        found = np.frombuffer(b"".join(row[1] for row in rows), "<f4")
        yield np.array([row[0] for row in rows], np.int64), found.reshape(-1, dimensions)


def _end_with_the_parent() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock the interpreter wants when it ends
    os._exit(1)


def main(folder: str) -> None:
    """Build, behind everybody else who wants the processor."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    os.nice(10)
    build(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
