"""What is searched, as arrays in memory, brought up to date by what has changed.

Every passage of a complete source has a *place*: its row in all arrays. A complete
source never changes: it comes whole and goes whole, and the keys of sources and passages
are never given twice. So two states of the index differ by sets of sources, whoever wrote
them: what is gone is marked, what has come is read and added behind the rest. When a
fifth of the places is dead, the living move together into new arrays.

A passage takes ``4 * dimensions + 44`` bytes; at most a fifth of that, and 4,096 rows,
are dead, and while the living move, what they leave stays as long as a search uses it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.stores.bm25 import sums_of_varints
from anabranch.rag.stores.reading import check_lengths
from anabranch.rag.stores.vectors import BLOCK_ROWS, Rows

# Columns of the full-text table, whose lengths are stored together.
COLUMNS: Final = 2
_AT_ONCE: Final = 1024

Keys = NDArray[np.int64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Every passage that can be found, as of one generation of the index.

    Attributes:
        last: All keys of passages up to here had been given.
        layout: Counts how often places were given anew.
        sources: Of complete sources, ascending.
        keys: Of passages, by place; so are owners (sources), lengths (tokens) and rows.
        living: The places of what can be found, by ascending key.
        known: Their keys.
    """

    generation: int
    last: int
    layout: int
    sources: Keys
    keys: Keys
    owners: Keys
    lengths: NDArray[np.int32]
    rows: Rows
    living: Places
    known: Keys

    @classmethod
    def empty(cls, dimensions: int) -> Table:
        """Older than any generation."""
        none = np.zeros(0, np.int64)
        return cls(
            generation=-1,
            last=0,
            layout=0,
            sources=none,
            keys=none,
            owners=none,
            lengths=np.zeros(0, np.int32),
            rows=Rows(dimensions),
            living=np.zeros(0, np.intp),
            known=none,
        )

    def __len__(self) -> int:
        return len(self.living)

    @property
    def size(self) -> int:
        """How many places there are, of the living and the dead."""
        return len(self.keys)

    def is_living(self) -> NDArray[np.bool_]:
        """By place."""
        found = np.zeros(self.size, np.bool_)
        found[self.living] = True
        return found

    def places(self, keys: Keys) -> tuple[Places, NDArray[np.bool_]]:
        """The places of the living among these passages, and which of them live."""
        if len(self.living) == 0:
            return np.zeros(0, np.intp), np.zeros(len(keys), np.bool_)
        found = np.searchsorted(self.known, keys)
        found[found == len(self.known)] = 0
        lives = self.known[found] == keys
        return self.living[found[lives]], lives


class Tables:
    """The table of an index, shared by all who search in it, in whichever thread."""

    def __init__(self) -> None:
        self._table: Table | None = None
        self._turn = threading.Lock()

    @contextmanager
    def current(self, db: sqlite3.Connection) -> Generator[Table]:
        """The table of the state that ``db`` reads until the end of the block."""
        while True:
            with snapshot(db):
                generation = _number(db, "generation")
                table = self._table
                if table is None or table.generation < generation:
                    table = self._refreshed(db, generation)
                if table.generation == generation:
                    yield table
                    return
            # Another thread has gone on to a state that came after this one.

    def _refreshed(self, db: sqlite3.Connection, generation: int) -> Table:
        with self._turn:
            table = self._table or Table.empty(_number(db, "dimensions"))
            if table.generation < generation:
                table = self._table = refreshed(table, db, generation)
            return table


@contextmanager
def snapshot(db: sqlite3.Connection) -> Generator[None]:
    """Several reads of one state."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def refreshed(table: Table, db: sqlite3.Connection, generation: int) -> Table:
    """The table with what has changed since, in the state that ``db`` reads."""
    complete = np.sort(
        numbers(db, "SELECT group_concat(id) FROM source WHERE state = 'complete'")
    )
    gone = np.setdiff1d(table.sources, complete, assume_unique=True)
    came = np.setdiff1d(complete, table.sources, assume_unique=True)
    living = table.living
    if len(gone):
        living = living[~np.isin(table.owners[living], gone)]
    table = replace(table, generation=generation, sources=complete, living=living)
    if table.size - len(living) > max(BLOCK_ROWS, len(living) // 4):
        table = _moved_together(table)
    table = _extended(table, db, came)
    ((last,),) = db.execute("SELECT coalesce(max(id), 0) FROM chunk")
    return replace(table, last=last, known=table.keys[table.living])


def numbers(
    db: sqlite3.Connection, sql: str, values: Sequence[object] = ()
) -> NDArray[np.int64]:
    """Whole numbers that a statement gives as one text, with commas between them.

    As rows they would cost ten times as much, and hand Python's lock to and fro for each.
    """
    ((text,),) = db.execute(sql, values)
    return np.fromstring(text or "", np.int64, sep=",")


def _moved_together(table: Table) -> Table:
    living = table.living
    rows = Rows(table.rows.dimensions)
    for start in range(0, len(living), BLOCK_ROWS):
        rows = rows.extended(table.rows.take(living[start : start + BLOCK_ROWS]))
    return replace(
        table,
        layout=table.layout + 1,
        keys=table.keys[living],
        owners=table.owners[living],
        lengths=table.lengths[living],
        rows=rows,
        living=np.arange(len(living)),
    )


def _extended(table: Table, db: sqlite3.Connection, sources: Keys) -> Table:
    found = db.execute(
        "SELECT chunk.id, chunk.source, vector, sz FROM chunk"
        " JOIN passage_docsize ON passage_docsize.id = chunk.id"
        " WHERE chunk.source IN (SELECT value FROM json_each(?))",
        (json.dumps(sources.tolist()),),
    )
    rows = table.rows
    # Arrays from the start: a long list takes long to become one, under Python's lock.
    keys, owners, lengths = [table.keys], [table.owners], [table.lengths]
    while some := found.fetchmany(_AT_ONCE):
        more_keys, more_owners, blobs, sizes = zip(*some, strict=True)
        check_lengths(blobs, rows.dimensions)
        rows = rows.extended(
            np.frombuffer(b"".join(blobs), "<f4").reshape(-1, rows.dimensions)
        )
        keys.append(np.array(more_keys, np.int64))
        owners.append(np.array(more_owners, np.int64))
        lengths.append(sums_of_varints(b"".join(sizes), each=COLUMNS))
    every = np.concatenate(keys)
    living = np.concatenate([table.living, np.arange(table.size, len(every))])
    return replace(
        table,
        keys=every,
        owners=np.concatenate(owners),
        lengths=np.concatenate(lengths),
        rows=rows,
        living=living[np.argsort(every[living], kind="stable")],
    )


def _number(db: sqlite3.Connection, fact: str) -> int:
    ((value,),) = db.execute("SELECT value FROM meta WHERE key = ?", (fact,))
    return int(value)
