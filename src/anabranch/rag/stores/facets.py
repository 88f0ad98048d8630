"""Metadata as plain facts, for stores that can compare little, and filters as bounds.

What such a store can say of a passage is that it has a fact, and that a number lies in a
range. A filter becomes the tightest condition of these that holds for *every* passage that
is meant; what it lets through beside them is told apart by
:func:`~anabranch.rag.filters.matches`. Nothing of a name or a value is in it but digests
and numbers, so nothing in it is ever syntax.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

from anabranch.rag.filters import (
    All,
    Compare,
    Contains,
    Either,
    Filter,
    Metadata,
    Not,
    OneOf,
    Scalar,
)

_BOUNDS: Final[Mapping[str, Literal["<=", ">="]]] = {
    "<": "<=",
    "<=": "<=",
    ">": ">=",
    ">=": ">=",
}
_OPPOSITE: Final[Mapping[str, Literal["<=", ">="]]] = {
    "<": ">=",
    "<=": ">=",
    ">": "<=",
    ">=": "<=",
}


@dataclass(frozen=True, slots=True)
class Has:
    """The passage has one of these facts; or none of them, if it is denied."""

    facts: tuple[str, ...]
    is_denied: bool = False


@dataclass(frozen=True, slots=True)
class InRange:
    """The number of a field is at most, or at least, this one."""

    number: str
    op: Literal["<=", ">="]
    value: float


@dataclass(frozen=True, slots=True)
class Every:
    """Each part holds; with no parts, always."""

    parts: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds; with no parts, never."""

    parts: tuple[Bound, ...] = ()


Bound: TypeAlias = Has | InRange | Every | Some


def facts(metadata: Metadata) -> list[str]:
    """What a passage with this metadata has, each once."""
    found: dict[str, None] = {}
    for name, value in metadata.items():
        if value is None:
            continue
        found[_fact("has", name)] = None
        if isinstance(value, str | int | float):
            kind = "text" if isinstance(value, str) else "number"
            found[_fact(kind, name)] = None
            found[_fact("is", name, value)] = None
        else:
            found.update((_fact("in", name, one), None) for one in value)
    return list(found)


def numbers(metadata: Metadata) -> dict[str, float]:
    """The numbers of a passage by field, as the nearest doubles."""
    return {
        _fact("n", name): _double(value)
        for name, value in metadata.items()
        if isinstance(value, int | float)
    }


def bound(tree: Filter, *, most: int = 1_000_000) -> Bound:
    """What holds for every passage that the filter means.

    Args:
        tree: The filter.
        most: A list of more values than these is not looked at.
    """
    return _bound(tree, most, is_denied=False)


def _bound(tree: Filter, most: int, *, is_denied: bool) -> Bound:
    match tree:
        case Not(part):
            return _bound(part, most, is_denied=not is_denied)
        case All(parts) | Either(parts):
            each = tuple(_bound(part, most, is_denied=is_denied) for part in parts)
            # Not all of them: one of them not.
            return Every(each) if isinstance(tree, All) is not is_denied else Some(each)
        case Compare(name, "==", value):
            return _equal(name, value, is_denied=is_denied)
        case Compare(name, "!=", value):
            return _equal(name, value, is_denied=not is_denied)
        case Compare(name, op, value):
            return _ordered(name, op, value, is_denied=is_denied)
        case OneOf(name, values):
            return _one_of(name, values, most, is_denied=is_denied)
        case Contains(name, value):
            return Has((_fact("in", name, value),), is_denied)


def _equal(name: str, value: Scalar, *, is_denied: bool) -> Bound:
    if value is None:
        return Has((_fact("has", name),), not is_denied)
    return Has((_fact("is", name, value),), is_denied)


def _ordered(name: str, op: str, value: Scalar, *, is_denied: bool) -> Bound:
    if value is None:
        return Every() if is_denied else Some()
    if isinstance(value, str):
        # Order among texts is beyond such a store.
        return Every() if is_denied else Has((_fact("text", name),))
    near = _double(value)
    if not is_denied:
        # Rounding keeps order, but may make two numbers one.
        return InRange(_fact("n", name), _BOUNDS[op], near)
    return Some(
        (
            Has((_fact("number", name),), is_denied=True),
            InRange(_fact("n", name), _OPPOSITE[op], near),
        )
    )


def _one_of(name: str, values: Sequence[Scalar], most: int, *, is_denied: bool) -> Bound:
    missing = Has((_fact("has", name),), not is_denied)
    known = tuple(_fact("is", name, value) for value in values if value is not None)
    if len(known) <= most:
        listed: Bound = Has(known, is_denied)
    else:
        listed = Every() if is_denied else Has((_fact("has", name),))
    if None not in values:
        return listed
    return Every((missing, listed)) if is_denied else Some((missing, listed))


def _fact(kind: str, name: str, value: Scalar = None) -> str:
    """A short name for what is said of a field; numbers that are equal have one."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    told = json.dumps([kind, name, value]).encode()
    return blake2b(told, digest_size=12).hexdigest()


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -sys.float_info.max
