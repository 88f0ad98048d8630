"""Which passages are meant, by their metadata: one tree that every store understands.

A filter is written as an expression, ``"year >= 2020 and lang in ('en', 'de')"``, as a
mapping of fields to values, or as a tree of the records here. What it means is what Python
would say of the expression, but that a field that is missing is ``None``; values of kinds
that cannot be ordered are neither less nor greater; and ``in`` looks into lists, never
into text. Nothing but the forms below can be said, and nothing is ever evaluated: the
text is parsed, and every part of it must be one that is known here.

==========================================  ===============================================
``year >= 2020``, ``2020 <= year < 2024``   a field and a value, with ``== != < <= > >=``
``lang in ('en', 'de')``, ``not in``        one of several values
``'rivers' in tags``, ``not in``            a field that holds a list
``and``, ``or``, ``not``, ``( )``           several of them
``metadata["any name"]``                    a field whose name is no Python name
``'text'``, ``2020``, ``-0.5``, ``True``,   values
``False``, ``None``
==========================================  ===============================================
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from anabranch.errors import UsageError

__all__ = [
    "All",
    "Compare",
    "Contains",
    "Either",
    "Filter",
    "Metadata",
    "Not",
    "OneOf",
    "Operator",
    "Scalar",
    "Where",
    "as_filter",
    "matches",
]

Scalar: TypeAlias = str | int | float | bool | None
Metadata: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]
Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]

MOST_CHARACTERS: Final = 4_000
MOST_LEVELS: Final = 20
# Each is a few parameters of a statement, and SQLite allows 32,766.
MOST_PARTS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Compare:
    """``field op value``. A field that holds a list equals no value."""

    field: str
    op: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """``field in values``."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """``value in field``, where the field holds a list; text contains nothing."""

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
Where: TypeAlias = str | Mapping[str, Scalar | Sequence[Scalar]] | Filter
"""A metadata filter: an expression, fields with a value or a list of them, or a tree."""

_EXAMPLE: Final = "year >= 2020 and lang in ('en', 'de')"
_VALUES: Final = "a value is text in quotes, a number, True, False or None"
_FIELD: Final = 'a field of any name is metadata["the name"]'

_COMPARISONS: Final[Mapping[type[ast.cmpop], Operator]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MIRRORED: Final[Mapping[Operator, Operator]] = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}
# Any: whoever calls one has seen that both sides are text, or both numbers.
_ORDERINGS: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTRUCTS: Final[Mapping[type[ast.AST], tuple[str, str]]] = {
    ast.Name: ("a field by itself", "say what it equals, as in draft == True"),
    ast.Constant: ("a value by itself", f"compare a field with it, as in {_EXAMPLE}"),
    ast.Call: ("a call", f"compare fields with values, as in {_EXAMPLE}"),
    ast.Attribute: ("an attribute", _FIELD),
    ast.Subscript: ("a subscript", _FIELD),
    ast.Set: ("a set", "put the values into brackets, as in lang in ('en', 'de')"),
    ast.Dict: ("a dictionary", "put the values into brackets, as in lang in ('en', 'de')"),
    ast.List: ("a list", "write FIELD in [VALUES] or VALUE in FIELD"),
    ast.Tuple: ("a tuple", "write FIELD in (VALUES) or VALUE in FIELD"),
    ast.BinOp: ("a calculation", "write its result"),
    ast.UnaryOp: ("a calculation", "write its result; 'not' stands before a comparison"),
    ast.JoinedStr: ("an f-string", _VALUES),
    ast.NamedExpr: ("an assignment", "compare with =="),
    ast.IfExp: ("a choice", "join comparisons by and, or, not"),
    ast.Lambda: ("a function", f"compare fields with values, as in {_EXAMPLE}"),
}


def as_filter(where: Where) -> Filter:
    """The tree of a filter, whichever way it is written.

    Args:
        where: An expression of at most 4,000 characters; a mapping, of which every field
            equals its value or one of its list of values; or a tree.

    Raises:
        UsageError: It says something that a filter cannot say, a number beyond 64 bits, or
            too much. The sentence names the part and what may be written instead.
    """
    match where:
        case str():
            tree = _Expression(where).tree()
        case Compare() | OneOf() | Contains() | All() | Either() | Not():
            tree = where
        case Mapping():
            tree = All(tuple(_of_field(name, wanted) for name, wanted in where.items()))
        case _:
            raise UsageError(
                f"a filter is an expression such as {_EXAMPLE!r}, a mapping or a tree of "
                f"anabranch.rag.filters, not {_shown(where)}"
            )
    _check(tree)
    return tree


def matches(filter: Filter, metadata: Metadata) -> bool:  # noqa: A002  # what it is
    """Whether a passage with this metadata is meant: what every store must agree with."""
    match filter:
        case Compare(field, op, value):
            return _compares(metadata.get(field), op, value)
        case OneOf(field, values):
            found = metadata.get(field)
            return any(found == value for value in values)
        case Contains(field, value):
            found = metadata.get(field)
            return (
                isinstance(found, Sequence)
                and not isinstance(found, str)
                and any(item == value for item in found)
            )
        case All(parts):
            return all(matches(part, metadata) for part in parts)
        case Either(parts):
            return any(matches(part, metadata) for part in parts)
        case Not(part):
            return not matches(part, metadata)


def _compares(found: Scalar | Sequence[Scalar], op: Operator, value: Scalar) -> bool:
    if op == "==":
        return found == value
    if op == "!=":
        return found != value
    for kind in (str, (int, float)):
        if isinstance(found, kind) and isinstance(value, kind):
            return _ORDERINGS[op](found, value)
    return False


def _of_field(name: str, wanted: Scalar | Sequence[Scalar]) -> Filter:
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes | bytearray):
        return OneOf(name, tuple(wanted))
    return Compare(name, "==", cast("Scalar", wanted))


class _Expression:
    """A text on its way to a tree: a closed grammar over what Python's parser says."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()

    def tree(self) -> Filter:
        text = self._text
        if not text:
            raise UsageError(f"the filter is empty: write one such as {_EXAMPLE}")
        if len(text) > MOST_CHARACTERS:
            raise UsageError(
                f"the filter has {len(text):,} characters, and at most "
                f"{MOST_CHARACTERS:,} are read: give many values as a mapping, FIELD: LIST"
            )
        try:
            parsed = ast.parse(text, "<filter>", "eval")
        except (MemoryError, RecursionError):
            raise _too_deep() from None
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else error
            raise UsageError(
                f"the filter {_cut(text)} cannot be read ({reason}): write one such as "
                f"{_EXAMPLE}; {_FIELD}"
            ) from None
        return self._condition(parsed.body, 1)

    def _condition(self, node: ast.expr, level: int) -> Filter:
        if level > MOST_LEVELS:
            raise _too_deep()
        match node:
            case ast.BoolOp(op=ast.And(), values=nodes):
                return All(tuple(self._condition(each, level + 1) for each in nodes))
            case ast.BoolOp(values=nodes):
                return Either(tuple(self._condition(each, level + 1) for each in nodes))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Not(self._condition(operand, level + 1))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = zip([left, *comparators], ops, comparators, strict=False)
                pairs = tuple(self._pair(node, *each) for each in sides)
                return pairs[0] if len(pairs) == 1 else All(pairs)
            case _:
                raise self._refused(node, *_construct(node))

    def _pair(
        self, whole: ast.expr, left: ast.expr, op: ast.cmpop, right: ast.expr
    ) -> Filter:
        match op:
            case ast.In():
                return self._membership(left, right)
            case ast.NotIn():
                return Not(self._membership(left, right))
            case ast.Is() | ast.IsNot():
                raise self._refused(whole, "a test of identity", "write == or !=")
            case _:
                symbol = _COMPARISONS[type(op)]
        field, other = self._field(left), self._field(right)
        if field is not None and other is not None:
            remedy = f"compare a field with a value; {_VALUES}"
            raise self._refused(whole, "a comparison of two fields", remedy)
        if field is not None:
            return Compare(field, symbol, self._value(right))
        if other is not None:
            return Compare(other, _MIRRORED[symbol], self._value(left))
        self._value(left)
        self._value(right)
        remedy = f"compare a field with a value; {_FIELD}"
        raise self._refused(whole, "a comparison of two values", remedy)

    def _membership(self, left: ast.expr, right: ast.expr) -> Filter:
        field = self._field(left)
        match right:
            case ast.List(elts=nodes) | ast.Tuple(elts=nodes):
                if field is not None:
                    return OneOf(field, tuple(self._value(each) for each in nodes))
                self._value(left)
                raise self._refused(left, "a value, where a field belongs", _FIELD)
            case ast.Constant():
                remedy = "put the values into brackets, as in lang in ('en', 'de')"
                raise self._refused(right, "a single value behind 'in'", remedy)
            case _:
                pass
        container = self._field(right)
        if container is None:
            raise self._refused(right, *_construct(right))
        if field is not None:
            remedy = f"write VALUE in FIELD or FIELD in (VALUES); {_VALUES}"
            raise self._refused(left, "a field, where a value belongs", remedy)
        return Contains(container, self._value(left))

    def _field(self, node: ast.expr) -> str | None:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Subscript(
                value=ast.Name(id="metadata"), slice=ast.Constant(value=str(name))
            ):
                return name
            case _:
                return None

    def _value(self, node: ast.expr) -> Scalar:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(
                op=ast.USub(), operand=ast.Constant(value=int() | float() as number)
            ) if not isinstance(number, bool):
                return -number
            case ast.Constant():
                raise self._refused(node, "a value of another kind", _VALUES)
            case ast.Name():
                raise self._refused(node, "a field, where a value belongs", _VALUES)
            case _:
                raise self._refused(node, *_construct(node))

    def _refused(self, node: ast.expr, construct: str, remedy: str) -> UsageError:
        said = ast.get_source_segment(self._text, node) or self._text
        return UsageError(
            f"{_cut(said)} is {construct}, which a filter cannot hold: {remedy}"
        )


def _check(tree: Filter) -> None:
    """Refuse a tree that is too large to walk, or holds what no store could compare."""
    level: list[Filter] = [tree]
    parts = 0
    for _ in range(MOST_LEVELS + 1):
        parts += len(level)
        if parts > MOST_PARTS:
            raise UsageError(
                f"the filter has more than {MOST_PARTS:,} parts: use 'in' with a list for "
                "many values of one field"
            )
        level = [part for each in level for part in _checked_parts(each)]
        if not level:
            return
    raise _too_deep()


def _checked_parts(tree: Filter) -> Sequence[Filter]:
    match tree:
        case All(parts) | Either(parts):
            return parts
        case Not(part):
            return (part,)
        case Compare(field, op, value):
            if op not in get_args(Operator):
                raise UsageError(
                    f"{op!r} compares nothing: use one of {' '.join(get_args(Operator))}"
                )
            _check_names_and_values(field, (value,))
        case OneOf(field, values):
            _check_names_and_values(field, values)
        case Contains(field, value):
            _check_names_and_values(field, (value,))
        case _:
            raise UsageError(f"{_shown(tree)} is no part of a filter: see as_filter")
    return ()


def _check_names_and_values(field: object, values: Sequence[object]) -> None:
    if not isinstance(field, str) or not _is_storable(field):
        raise UsageError(
            f"a field of a filter cannot be {_shown(field)}: its name is text without NUL "
            "characters and lone surrogates"
        )
    for value in values:
        if not _is_storable(value):
            raise UsageError(
                f"the filter compares {field!r} with {_shown(value)}, which metadata "
                "cannot hold: give text without NUL characters, a finite number of at most "
                "64 bits, True, False or None"
            )


def _is_storable(value: object) -> bool:
    match value:
        case None:
            return True
        case str():
            return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case _:
            return False


def _construct(node: ast.expr) -> tuple[str, str]:
    """What a part is called, and what to write in its place."""
    other = (
        "an expression of another kind",
        f"compare fields with values, as in {_EXAMPLE}",
    )
    return _CONSTRUCTS.get(type(node), other)


def _too_deep() -> UsageError:
    return UsageError(
        f"the filter is nested deeper than {MOST_LEVELS} levels: join its parts by 'and' "
        "or 'or' side by side"
    )


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:60] + "…")


def _shown(value: object) -> str:
    """A value of any kind, in few characters."""
    if isinstance(value, int) and not isinstance(value, bool):
        # Python refuses to write very long ones in decimal.
        return (
            f"a number of {value.bit_length()} bits"
            if value.bit_length() > 63
            else str(value)
        )
    said = repr(value) if isinstance(value, str | float) else f"a {type(value).__name__}"
    return said if len(said) <= 60 else said[:60] + "…"
