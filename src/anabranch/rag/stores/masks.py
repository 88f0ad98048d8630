"""Which places a filter means, kept for the filters that were asked for last."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.filters import Filter
from anabranch.rag.stores.conditions import condition
from anabranch.rag.stores.table import Table, numbers

# A byte a place each.
MOST_FILTERS: Final = 32


class _Mask(NamedTuple):
    layout: int
    is_meant: NDArray[np.bool_]


class Masks:
    """What filters mean. A passage never changes, so only new ones are asked about."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], _Mask] = OrderedDict()
        self._turn = threading.Lock()

    def of(self, db: sqlite3.Connection, where: Filter, table: Table) -> NDArray[np.bool_]:
        """Whether each place is meant; of dead ones it says anything.

        Args:
            db: In a transaction that reads the state of ``table``.
            where: The filter.
            table: Whose places.
        """
        sql, values = condition(where)
        name = sql, repr(values)  # 1, 1.0 and True are three values
        with self._turn:
            known = self._known.get(name)
        if known is None or known.layout != table.layout:
            known = _Mask(table.layout, np.zeros(0, np.bool_))
        done = len(known.is_meant)
        if done < table.size:
            added = _meant(db, sql, values, table, done)
            known = _Mask(table.layout, np.concatenate([known.is_meant, added]))
        with self._turn:
            self._known[name] = known
            self._known.move_to_end(name)
            while len(self._known) > MOST_FILTERS:
                self._known.popitem(last=False)
        return known.is_meant[: table.size]


def _meant(
    db: sqlite3.Connection, sql: str, values: list[object], table: Table, start: int
) -> NDArray[np.bool_]:
    keys = table.keys[start:]
    if start:
        sql = f"chunk.id IN (SELECT value FROM json_each(?)) AND {sql}"
        values = [json.dumps(keys.tolist()), *values]
    found = numbers(db, f"SELECT group_concat(chunk.id) FROM chunk WHERE {sql}", values)
    return np.isin(keys, found, assume_unique=True)
