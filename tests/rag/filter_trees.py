"""Filter trees and metadata at random, and the text of a tree."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

from hypothesis import strategies as st

from anabranch.rag import All, Compare, Contains, Either, Filter, Not, OneOf
from anabranch.rag.filters import Operator, Scalar

Metadata: TypeAlias = dict[str, Scalar | Sequence[Scalar]]

OPERATORS: Sequence[Operator] = ("==", "!=", "<", "<=", ">", ">=")

# Plain names, and names that would mean something to SQL or to a path in JSON.
NAMES = "year lang tags größe _x metadata key value class".split()
ODD_NAMES = [
    "",
    " ",
    "$",
    "*",
    "a.b",
    "[0]",
    "$.year",
    'a"b',
    '"year"',
    "it's",
    "x]",
    "\\",
    '\\"',
    "a\nb",
    "?",
    ":key",
    "'); DROP TABLE chunk; --",
    "\N{LATIN SMALL LETTER A}\N{COMBINING DIAERESIS}",
    "\N{ZERO WIDTH SPACE}",
    "\N{GRINNING FACE}",
]
names = st.sampled_from(NAMES + ODD_NAMES)

texts = st.one_of(
    st.sampled_from(["", "a", "b", "A", "1", "true", "null", "[]", "é", *ODD_NAMES]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)
numbers = st.one_of(
    st.sampled_from([0, 1, -1, 0.0, -0.0, 1.0, 0.5, 2**53, 2.0**53, 2**53 + 1, 2.0**63]),
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
scalars: st.SearchStrategy[Scalar] = st.one_of(st.none(), st.booleans(), numbers, texts)

metadatas: st.SearchStrategy[Metadata] = st.dictionaries(
    names, scalars | st.lists(scalars, max_size=3), max_size=6
)


def trees(
    names: st.SearchStrategy[str] = names, values: st.SearchStrategy[Scalar] = scalars
) -> st.SearchStrategy[Filter]:
    leaves = st.one_of(
        st.builds(Compare, names, st.sampled_from(OPERATORS), values),
        st.builds(OneOf, names, st.lists(values, max_size=3).map(tuple)),
        st.builds(Contains, names, values),
    )
    return joined(leaves, least=0)


def joined(leaves: st.SearchStrategy[Filter], *, least: int) -> st.SearchStrategy[Filter]:
    def more(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(parts, min_size=least, max_size=3).map(tuple)
        return st.one_of(
            st.builds(All, several), st.builds(Either, several), st.builds(Not, parts)
        )

    return st.recursive(leaves, more, max_leaves=6)


def about(metadata: Metadata) -> st.SearchStrategy[Filter]:
    """Trees about fields and values that are there, or nearly so."""
    values: list[Scalar] = []
    for found in metadata.values():
        if isinstance(found, str | int | float) or found is None:
            some: Sequence[Scalar] = [found]
        else:
            some = found
        values += some
        values += [x + 1 for x in some if isinstance(x, int) and abs(x) < 2**60]
    near = st.sampled_from(values) | scalars if values else scalars
    return trees(st.sampled_from(sorted(metadata)) | names if metadata else names, near)


def text_of(tree: Filter) -> str:
    """The expression that says what a tree says; ``as_filter`` gives the tree back."""
    match tree:
        case Compare(field, op, value):
            return f"{name_of(field)} {op} {value!r}"
        case OneOf(field, values):
            return f"{name_of(field)} in {list(values)!r}"
        case Contains(field, value):
            return f"{value!r} in {name_of(field)}"
        case All(parts):
            return " and ".join(f"({text_of(part)})" for part in parts)
        case Either(parts):
            return " or ".join(f"({text_of(part)})" for part in parts)
        case Not(part):
            return f"not ({text_of(part)})"


def name_of(field: str) -> str:
    return field if is_plain(field) else f"metadata[{field!r}]"


def is_plain(field: str) -> bool:
    """Whether a field can be written without quotes: Python composes a name it reads."""
    composed = unicodedata.normalize("NFKC", field)
    return field.isidentifier() and not keyword.iskeyword(field) and field == composed
