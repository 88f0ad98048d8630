"""A filter as a condition in SQL over ``chunk.metadata``.

The SQL is put together of our own words alone. Names of fields and values are parameters;
names are compared with the keys of the JSON object and are never part of a path, so that
no name has a meaning to SQLite. Every condition is true or false and never NULL, so that
NOT is what it is in Python.

SQLite's parser has a stack of a hundred places, and its expressions a depth of a
thousand. So NOT is moved inwards, which costs no place, and what is joined is joined two
by two, the deeper side to the left, where an open bracket costs one place and not three.
With that, whatever :func:`~anabranch.rag.filters.as_filter` lets through fits.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from anabranch.rag.filters import (
    All,
    Compare,
    Contains,
    Either,
    Filter,
    Not,
    OneOf,
    Operator,
)

_FIELD: Final = "SELECT 1 FROM json_each(chunk.metadata) WHERE key = ?"
_MISSING: Final = f"NOT EXISTS ({_FIELD} AND type <> 'null')"
_ITEM: Final = (
    "SELECT 1 FROM json_each(chunk.metadata) AS field, json_each("
    "CASE field.type WHEN 'array' THEN field.value ELSE '[]' END) AS item"
    " WHERE field.key = ?"
)
_ORDERED: Final[dict[Operator, str]] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}


def condition(tree: Filter) -> tuple[str, list[object]]:
    """SQL that is true of a chunk whose metadata the filter means, and its parameters.

    A list or an object has no ``atom``, so it equals nothing. True and false are the atoms
    1 and 0, and SQLite compares integers with reals exactly, as Python does; an integer
    beyond 64 bits in the metadata is taken as the nearest real.
    """
    part = _part(tree, is_denied=False)
    return part.sql, part.values


@dataclass(frozen=True, slots=True, order=True)
class _Part:
    """SQL that can stand behind NOT and between AND and OR, and its parameters.

    Attributes:
        places: How many places its brackets take on the parser's stack.
    """

    places: int
    sql: str = field(compare=False)
    values: list[object] = field(compare=False)


def _part(tree: Filter, *, is_denied: bool) -> _Part:
    match tree:
        case Not(part):
            return _part(part, is_denied=not is_denied)
        case All(parts) | Either(parts):
            # Not all of them: one of them not.
            word = "AND" if isinstance(tree, All) is not is_denied else "OR"
            return _joined((_part(part, is_denied=is_denied) for part in parts), word)
        case _:
            sql, values = _leaf(tree)
            return _Part(0, f"NOT {sql}" if is_denied else sql, values)


def _joined(parts: Iterable[_Part], word: str) -> _Part:
    heap = list(parts)
    if not heap:
        return _Part(0, "1" if word == "AND" else "0", [])
    heapq.heapify(heap)
    while len(heap) > 1:
        right = heapq.heappop(heap)
        left = heap[0]
        joined = _Part(
            max(left.places + 1, right.places + 3),
            f"({left.sql} {word} {right.sql})",
            left.values + right.values,
        )
        heapq.heapreplace(heap, joined)
    return heap[0]


def _leaf(tree: Compare | OneOf | Contains) -> tuple[str, list[object]]:
    match tree:
        case Compare(name, "==", None):
            return _MISSING, [name]
        case Compare(name, "==", value):
            return f"EXISTS ({_FIELD} AND atom = ?)", [name, value]
        case Compare(name, "!=", None):
            return f"NOT {_MISSING}", [name]
        case Compare(name, "!=", value):
            return f"NOT EXISTS ({_FIELD} AND atom = ?)", [name, value]
        case Compare(_, _, None):
            return "0", []
        case Compare(name, op, value):
            # SQLite orders every number before every text; Python orders neither.
            kinds = "'text'" if isinstance(value, str) else "'integer', 'real'"
            kind = f"typeof(atom) IN ({kinds})"
            return f"EXISTS ({_FIELD} AND {kind} AND atom {_ORDERED[op]} ?)", [name, value]
        case Contains(name, None):
            return f"EXISTS ({_ITEM} AND item.type = 'null')", [name]
        case Contains(name, value):
            return f"EXISTS ({_ITEM} AND item.atom = ?)", [name, value]
        case OneOf(name, values):
            # As one parameter, however many there are.
            listed = json.dumps([value for value in values if value is not None])
            found = f"EXISTS ({_FIELD} AND atom IN (SELECT value FROM json_each(?)))"
            if None in values:
                return f"({found} OR {_MISSING})", [name, listed, name]
            return found, [name, listed]
