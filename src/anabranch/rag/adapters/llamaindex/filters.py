"""Our filters in LlamaIndex's words, and theirs in ours.

What their stores make of a missing field is taken from the one that
``llama_index.core.vector_stores.utils`` has: it differs from every value, and is
neither less nor greater than any. That is what it is here, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from anabranch.errors import UsageError
from anabranch.rag.filters import (
    All,
    Compare,
    Contains,
    Either,
    Filter,
    Not,
    OneOf,
    Operator,
    Scalar,
    as_filter,
)

Theirs: TypeAlias = MetadataFilter | MetadataFilters

_OPERATORS: Final[dict[Operator, FilterOperator]] = {
    "==": FilterOperator.EQ,
    "!=": FilterOperator.NE,
    "<": FilterOperator.LT,
    "<=": FilterOperator.LTE,
    ">": FilterOperator.GT,
    ">=": FilterOperator.GTE,
}
_OURS: Final[dict[FilterOperator, Operator]] = {
    theirs: ours for ours, theirs in _OPERATORS.items()
}


def to_filters(tree: Filter) -> MetadataFilters:
    """A filter of ours as theirs, nested no deeper than need be: not every store nests.

    Raises:
        UsageError: Theirs has no words for it: ``None``, ``True`` and ``False``, or an
            ``in`` with text and numbers.
    """
    said = _to(tree)
    return said if isinstance(said, MetadataFilters) else MetadataFilters(filters=[said])


def _to(tree: Filter) -> Theirs:
    match tree:
        case Compare(field, op, value):
            key = _sayable(field, value)
            return MetadataFilter(key=field, value=key, operator=_OPERATORS[op])
        case OneOf(field, values):
            return _member(field, values, FilterOperator.IN)
        case Contains(field, value):
            value = _sayable(field, value)
            return MetadataFilter(key=field, value=value, operator=FilterOperator.CONTAINS)
        case All(parts):
            return _joined(parts, FilterCondition.AND)
        case Either(parts):
            return _joined(parts, FilterCondition.OR)
        case Not(part):
            return _negated(part)


def _negated(part: Filter) -> Theirs:
    match part:
        case Not(inner):
            return _to(inner)
        case OneOf(field, values):
            return _member(field, values, FilterOperator.NIN)
        case Compare(field, "==", value):
            return _to(Compare(field, "!=", value))
        case Compare(field, "!=", value):
            return _to(Compare(field, "==", value))
        case Either(parts):
            # Their NOT means that none of its parts holds.
            return _joined(parts, FilterCondition.NOT)
        case _:
            return MetadataFilters(filters=[_to(part)], condition=FilterCondition.NOT)


def _joined(parts: Sequence[Filter], condition: FilterCondition) -> Theirs:
    said: list[Theirs] = []
    for part in parts:
        theirs = _to(part)
        if (
            isinstance(theirs, MetadataFilters)
            and theirs.condition == condition
            and condition is not FilterCondition.NOT
        ):
            said += theirs.filters
        else:
            said.append(theirs)
    if not said:
        # Theirs takes an empty list, whatever its condition, for "everything".
        raise UsageError(
            "a filter that joins nothing cannot be said in LlamaIndex: give it a part, or "
            "give no filter"
        )
    if len(said) == 1 and condition is not FilterCondition.NOT:
        return said[0]
    return MetadataFilters(filters=said, condition=condition)


def _member(field: str, values: Sequence[Scalar], op: FilterOperator) -> MetadataFilter:
    known = [_sayable(field, value) for value in values]
    texts = [value for value in known if isinstance(value, str)]
    numbers = [value for value in known if not isinstance(value, str)]
    if not known:
        raise UsageError(
            f"the filter asks for none of the values of {field!r}, which LlamaIndex has no "
            "words for: name a value"
        )
    if texts and numbers:
        raise UsageError(
            f"the filter names text and numbers for {field!r}, which a list of "
            "LlamaIndex's cannot hold: join two lists by 'or'"
        )
    if texts:
        return MetadataFilter(key=field, value=texts, operator=op)
    whole = [value for value in numbers if isinstance(value, int)]
    if len(whole) == len(numbers):
        return MetadataFilter(key=field, value=whole, operator=op)
    return MetadataFilter(key=field, value=list(map(float, numbers)), operator=op)


def _sayable(field: str, value: Scalar) -> str | int | float:
    if value is None or isinstance(value, bool):
        raise UsageError(
            f"the filter compares {field!r} with {value}, which LlamaIndex's filters "
            "cannot hold: store text or a number, and compare with that"
        )
    return value


def from_filters(theirs: MetadataFilters) -> Filter:
    """A filter of theirs as ours.

    Raises:
        UsageError: Ours has no words for it (``text_match``, ``is_empty``), or the
            value is not what the operator needs.
    """
    return as_filter(_from(theirs))


def _from(theirs: Theirs) -> Filter:
    if isinstance(theirs, MetadataFilter):
        return _one(theirs)
    parts = tuple(_from(part) for part in theirs.filters)
    match theirs.condition:
        case FilterCondition.OR if parts:
            return Either(parts)
        case FilterCondition.NOT if parts:
            return Not(Either(parts))
        case _:
            return All(parts)


def _one(theirs: MetadataFilter) -> Filter:
    field, value = theirs.key, theirs.value
    match theirs.operator:
        case FilterOperator.IN:
            return OneOf(field, _values(theirs))
        case FilterOperator.NIN:
            return Not(OneOf(field, _values(theirs)))
        case FilterOperator.ANY:
            return Either(tuple(Contains(field, each) for each in _values(theirs)))
        case FilterOperator.ALL:
            return All(tuple(Contains(field, each) for each in _values(theirs)))
        case FilterOperator.CONTAINS if not isinstance(value, list):
            return Contains(field, value)
        case op if op in _OURS and not isinstance(value, list):
            return Compare(field, _OURS[op], value)
        case op:
            raise UsageError(
                f"the filter {field} {op.value} {value!r} cannot be said here: use one of "
                f"{', '.join(each.value for each in _OURS)}, in, nin, any, all, contains, "
                "with a list only where the operator takes one"
            )


def _values(theirs: MetadataFilter) -> tuple[Scalar, ...]:
    if not isinstance(theirs.value, list):
        raise UsageError(
            f"the filter {theirs.key} {theirs.operator.value} needs a list of values, not "
            f"{theirs.value!r}"
        )
    return tuple(theirs.value)
