"""Which passages are meant, by their metadata: one tree that every store understands.

A filter is written as an expression, ``"year >= 2020 and lang in ('en', 'de')"``, as a
mapping of fields to values, or as a tree of the records here. What it means is what Python
would say of the expression, with three differences: a field that is missing is ``None``;
values of kinds that cannot be ordered are not less and not greater; and nothing but the
forms below can be said, so nothing is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["All", "Compare", "Contains", "Either", "Filter", "Not", "OneOf"]

Scalar: TypeAlias = str | int | float | bool | None
Metadata: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]


@dataclass(frozen=True, slots=True)
class Compare:
    """``field op value``. A field that holds a list equals nothing."""

    field: str
    op: Literal["==", "!=", "<", "<=", ">", ">="]
    value: Scalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """``field in values``."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """``value in field``, where the field holds a list."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class All:
    """Each part holds; with no parts, everything is meant."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part holds; with no parts, nothing is meant."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter: TypeAlias = Compare | OneOf | Contains | All | Either | Not
