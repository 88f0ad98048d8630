"""A filter as a condition in SQL over ``facts``, the metadata as it is compared.

Facts are canonical JSON: truths are 0 and 1, whole reals are written as whole numbers, and
what is missing is left out. Then equality of jsonb is that of Python, for jsonb's numbers
are decimal and exact. Names and values are parameters; the SQL is our own words alone.
Every condition is true or false and never NULL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from anabranch.rag.filters import (
    All,
    Compare,
    Contains,
    Either,
    Filter,
    Metadata,
    Not,
    OneOf,
    Operator,
    Scalar,
)

_ORDERED: Final[Mapping[Operator, str]] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
_HAS: Final = "facts ? %s::text"
_IN: Final = "facts @> %s::jsonb"


def facts(metadata: Metadata) -> str:
    """The metadata as it is compared, as JSON."""
    return json.dumps(
        {name: _compared(value) for name, value in metadata.items() if value is not None},
        ensure_ascii=False,
    )


def condition(tree: Filter) -> tuple[str, list[object]]:
    """SQL that is true of a passage that the filter means, and its parameters."""
    match tree:
        case Compare(name, "==", None):
            return f"NOT {_HAS}", [name]
        case Compare(name, "!=", None):
            return _HAS, [name]
        case Compare(name, "==", value):
            return _IN, [json.dumps({name: _number(value)})]
        case Compare(name, "!=", value):
            return f"NOT {_IN}", [json.dumps({name: _number(value)})]
        case Compare(_, _, None):
            return "false", []
        case Compare(name, op, value):
            return _order(name, op, value)
        case OneOf(name, values):
            return _one_of(name, values)
        case Contains(name, value):
            return _IN, [json.dumps({name: [_number(value)]})]
        case All(parts):
            return _joined(parts, "AND", "true")
        case Either(parts):
            return _joined(parts, "OR", "false")
        case Not(part):
            said, parameters = condition(part)
            return f"NOT ({said})", parameters


def _joined(parts: Sequence[Filter], word: str, empty: str) -> tuple[str, list[object]]:
    if not parts:
        return empty, []
    each = [condition(part) for part in parts]
    said = f" {word} ".join(f"({said})" for said, _ in each)
    return said, [value for _, values in each for value in values]


def _order(name: str, op: Operator, value: Scalar) -> tuple[str, list[object]]:
    # CASE sees to it that a text is not made a number before its kind is known.
    if isinstance(value, str):
        kind, found, other = "string", '(facts ->> %s::text) COLLATE "C"', "%s::text"
    else:
        kind, found, other = "number", "(facts ->> %s::text)::numeric", "%s::text::numeric"
        value = json.dumps(_number(value))
    said = (
        f"CASE WHEN jsonb_typeof(facts -> %s::text) = '{kind}'"
        f" THEN {found} {_ORDERED[op]} {other} ELSE false END"
    )
    return said, [name, name, value]


def _one_of(name: str, values: Sequence[Scalar]) -> tuple[str, list[object]]:
    known = [json.dumps(_number(value)) for value in values if value is not None]
    said = "coalesce((facts -> %s::text) = ANY (%s::text[]::jsonb[]), false)"
    if None in values:
        return f"{said} OR NOT {_HAS}", [name, known, name]
    return said, [name, known]


def _compared(value: Scalar | Sequence[Scalar]) -> object:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return _number(value)
    return [_number(one) for one in value]


def _number(value: Scalar) -> Scalar:
    """A scalar, with one way to write each number."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
