r"""Solr's query language, built and never pasted.

Solr reads a query as a program: whoever can put an unescaped value into it can ask for
everything. So nothing here takes a piece of a query from outside. A value is written with
``\uXXXX`` for every character that is no ASCII letter or digit, which Solr's parser
undoes when no sign can have a meaning any more; a field's name must have the form of a
name, or it is refused.

Source: Solr, QueryParser.jj. A quoted end of a range cannot be used: its grammar takes
``\\"`` for an escaped quote, so that a value that ends in a backslash runs on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from anabranch.errors import UsageError
from anabranch.rag.filters import All, Compare, Contains, Either, Filter, Not, OneOf, Scalar
from anabranch.rag.types import Vectors

__all__ = [
    "all_of",
    "any_of",
    "escape",
    "field_name",
    "index_fields",
    "index_name",
    "is_in",
    "knn",
    "local_params",
    "none_of",
    "phrase",
    "terms",
    "where_clause",
]

EVERYTHING: Final = "*:*"
NOTHING: Final = "(*:* -*:*)"

# Solr's maxBooleanClauses is 1,024, and a value may need three of them.
MOST_VALUES: Final = 300
# Lucene refuses terms of more than 32,766 bytes.
_MOST_TERM_BYTES: Final = 32_000
_KEPT_CHARACTERS: Final = 7_000
_LEAST_LONG, _MOST_LONG = -(2**63), 2**63 - 1

# Before the digest of a name that no field can have.
_DIGESTED: Final = "_x_"
_MOST_NAME: Final = 100

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLAIN = re.compile(r"[A-Za-z0-9]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_OPERATORS = frozenset({"AND", "OR", "NOT", "TO"})


def escape(value: str) -> str:
    """A value as a term, or the end of a range, that means itself and nothing else.

    Raises:
        UsageError: It is empty, which no term can be.
    """
    if not value:
        raise UsageError("an empty text cannot be a term of Solr: use phrase()")
    if value in _OPERATORS:
        return _unit(value[0]) + value[1:]
    return "".join(one if _PLAIN.match(one) else _unit(one) for one in sendable(value))


def phrase(value: str) -> str:
    """A value in quotes, to be analysed as the field's text is."""
    return (
        '"'
        + "".join(
            one if _PLAIN.match(one) or one == " " else _unit(one)
            for one in sendable(value)
        )
        + '"'
    )


def field_name(name: str) -> str:
    """The name, if it is one.

    Raises:
        UsageError: It has other characters than ASCII letters, digits and ``_``, or
            begins with a digit.
    """
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be a field of Solr: use ASCII letters, digits and _ only, "
            "and no digit at first"
        )
    return name


def local_params(kind: str, /, text: str = "", **params: str | float) -> str:
    """``{!kind name=value ...}text``.

    A value that is ``$name`` refers to a parameter of the request; any other is quoted.
    The text is the query parser's own and not escaped: refer to it with ``v="$name"``
    if it comes from elsewhere.
    """
    said = "".join(
        f" {field_name(key)}={_local_value(value)}" for key, value in params.items()
    )
    return f"{{!{field_name(kind)}{said}}}{text}"


def knn(field: str, vector: Vectors, top_k: int, **params: str | float) -> str:
    """The query for the ``top_k`` vectors nearest to this one.

    As the main query it heeds every ``fq`` before it searches, so that as many are found
    as there are.
    """
    numbers = ",".join(f"{number:.9g}" for number in vector.tolist())
    return local_params(
        "knn", f"[{numbers}]", f=field_name(field), topK=int(top_k), **params
    )


def terms(field: str, values: Iterable[str]) -> str:
    """Documents with any of some ids; the ids are hexadecimal or the like.

    Raises:
        UsageError: One has other characters than ASCII letters, digits, ``-`` and ``_``.
    """
    some = list(values)
    for value in some:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
            raise UsageError(f"{value!r} is no id that can stand in a list of Solr")
    return local_params("terms", ",".join(some), f=field_name(field))


def all_of(parts: Sequence[str]) -> str:
    """Every clause holds."""
    return f"({' '.join(f'+{part}' for part in parts)})" if parts else EVERYTHING


def any_of(parts: Sequence[str]) -> str:
    """At least one clause holds. OR is written out: a handler may have q.op=AND."""
    return f"({' OR '.join(parts)})" if parts else NOTHING


def none_of(part: str) -> str:
    """The clause does not hold. Lucene finds nothing where all is negative."""
    return f"(*:* -{part})"


def is_in(field: str, values: Sequence[str]) -> str:
    """The field has one of some terms."""
    name = field_name(field)
    return any_of([f"{name}:{escape(value)}" for value in values])


def sendable(text: str) -> str:
    """Half a character, which no UTF-8 has, becomes U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


# -- metadata

NAMES: Final = "rag_fields"
"""The field that lists which metadata a passage has."""


def where_clause(tree: Filter) -> str:
    """The filter as one clause for ``fq``, over the fields that :func:`index_fields` gives.

    Raises:
        UsageError: Too many values are named.
    """
    match tree:
        case Compare(field, "!=", value):
            return none_of(_equals(index_name(field), value))
        case Compare(field, "==", value):
            return _equals(index_name(field), value)
        case Compare(field, op, value):
            return _ordered(index_name(field), op, value)
        case OneOf(field, values):
            if len(values) > MOST_VALUES:
                raise UsageError(
                    f"{len(values)} values for {field!r} are more than Solr takes in one "
                    f"query: name at most {MOST_VALUES}, or ask several times"
                )
            return any_of([_equals(index_name(field), value) for value in values])
        case Contains(field, value):
            return _equals(index_name(field), value, many="s")
        case All(parts):
            return all_of([where_clause(part) for part in parts])
        case Either(parts):
            return any_of([where_clause(part) for part in parts])
        case Not(part):
            return none_of(where_clause(part))


def index_name(name: str) -> str:
    """What a metadata field of any name is called in Solr, but for its suffix.

    Its own name, where that can be a field's; else a digest of it.
    """
    if _NAME.match(name) and len(name) <= _MOST_NAME and not name.startswith(_DIGESTED):
        return name
    return _DIGESTED + blake2b(name.encode(), digest_size=12).hexdigest()


def index_fields(metadata: Mapping[str, Scalar | Sequence[Scalar]]) -> dict[str, object]:
    """The fields by which a passage's metadata can be filtered.

    Names are those of Solr's usual dynamic fields: ``lang_s``, ``year_l``, ``price_d``,
    ``draft_b``, and with a further ``s`` for lists; for other names see :func:`index_name`.
    What is found is read back from the JSON that is stored beside.
    """
    fields: dict[str, object] = {}
    names: list[str] = []
    for given, value in metadata.items():
        if value is None:
            continue
        name = index_name(given)
        names.append(name)
        if isinstance(value, str | int | float):
            if (found := _typed(value)) is not None:
                fields[name + found[0]] = found[1]
            continue
        if None in value:
            names.append(_with_null(name))
        many: dict[str, list[object]] = {}
        for one in value:
            if one is not None and (found := _typed(one)) is not None:
                many.setdefault(f"{name}{found[0]}s", []).append(found[1])
        fields.update(many)
    return {**fields, NAMES: names} if names else fields


def _typed(value: str | float) -> tuple[str, object] | None:
    """The suffix of the field that holds such a value, and the value in it."""
    match value:
        case bool():
            return "_b", value
        case str():
            return "_s", _term(value)
        case int():
            if _LEAST_LONG <= value <= _MOST_LONG:
                return "_l", value
            raise UsageError(
                f"the number {value} has more than the 64 bits of a Solr number: write it "
                "as text, or leave it out of the metadata"
            )
        case float():
            # JSON has no infinities, and Solr takes numbers from texts.
            return None if math.isnan(value) else ("_d", _double(value))
    return None


def _equals(name: str, value: Scalar, many: str = "") -> str:
    """The field has this value, in whichever of its types: 1, 1.0 and true are equal."""
    if value is None:
        return f"{NAMES}:{escape(_with_null(name))}" if many else none_of(_has(name))
    if isinstance(value, str):
        return f"{name}_s{many}:{escape(_term(value))}"
    if isinstance(value, float) and not math.isfinite(value):
        return NOTHING if math.isnan(value) else f"{name}_d{many}:{escape(_double(value))}"
    clauses = [f"{name}_b{many}:{_bool(value == 1)}"] if value in (0, 1) else []
    whole = int(value)
    if whole == value and _LEAST_LONG <= whole <= _MOST_LONG:
        clauses.append(f"{name}_l{many}:{escape(str(whole))}")
    near = _nearest_double(value)
    if near == value:
        clauses.append(f"{name}_d{many}:{escape(_double(near))}")
    return any_of(clauses)


def _ordered(name: str, op: str, value: Scalar) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, str):
        return f"{name}_s:{_range(op, escape(_term(value)))}"
    truths = [one for one in (False, True) if _holds(one, op, value)]
    return any_of(
        [f"{name}_b:{_bool(one)}" for one in truths]
        + _long_range(name, op, value)
        + _double_range(name, op, value)
    )


def _long_range(name: str, op: str, value: float) -> list[str]:
    """The whole numbers that are less or greater, with an end that is among them."""
    if value in (math.inf, -math.inf):
        return [f"{name}_l:[* TO *]"] if (value > 0) == (op in ("<", "<=")) else []
    if op in ("<", "<="):
        most = math.ceil(value) - 1 if op == "<" else math.floor(value)
        if most < _LEAST_LONG:
            return []
        return [f"{name}_l:[* TO {_long(most)}]"]
    least = math.floor(value) + 1 if op == ">" else math.ceil(value)
    return [] if least > _MOST_LONG else [f"{name}_l:[{_long(least)} TO *]"]


def _double_range(name: str, op: str, value: float) -> list[str]:
    """The doubles that are less or greater; a long whole number may lie between two."""
    near = _nearest_double(value)
    if near > value:
        op = "<" if op in ("<", "<=") else ">="
    elif near < value:
        op = "<=" if op in ("<", "<=") else ">"
    return [f"{name}_d:{_range(op, escape(_double(near)))}"]


def _range(op: str, end: str) -> str:
    match op:
        case "<":
            return f"[* TO {end}}}"
        case "<=":
            return f"[* TO {end}]"
        case ">":
            return f"{{{end} TO *]"
        case _:
            return f"[{end} TO *]"


def _holds(one: int, op: str, value: float) -> bool:
    match op:
        case "<":
            return one < value
        case "<=":
            return one <= value
        case ">":
            return one > value
        case _:
            return one >= value


def _has(name: str) -> str:
    return f"{NAMES}:{escape(name)}"


def _with_null(name: str) -> str:
    """What the list of names says of a list with a null in it. No name has a colon."""
    return f"{name}:null"


def _term(value: str) -> str:
    """The term of a text: its own, where Solr can hold it.

    Solr's usual configuration drops empty values, so the empty text is the least other
    one. A text that is too long for a term is told by its beginning and its digest: still
    equal to itself alone, and in order but for others with the same beginning.
    """
    text = sendable(value) or "\0"
    data = text.encode()
    if len(data) <= _MOST_TERM_BYTES:
        return text
    return text[:_KEPT_CHARACTERS] + blake2b(data, digest_size=16).hexdigest()


def _double(value: float) -> str:
    """A double as Java reads it; zero has no sign, since the two are equal."""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value + 0.0)


def _nearest_double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _long(value: int) -> str:
    return escape(str(max(_LEAST_LONG, min(_MOST_LONG, value))))


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _local_value(value: str | float) -> str:
    if not isinstance(value, str):
        return str(value)
    if value.startswith("$") and _NAME.match(value[1:]):
        return value
    if _NAME.match(value):
        return value
    # Inside quotes a backslash escapes, and $ and } mean nothing.
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _unit(character: str) -> str:
    data = character.encode("utf-16-be")
    return "".join(
        f"\\u{data[place]:02x}{data[place + 1]:02x}" for place in range(0, len(data), 2)
    )
