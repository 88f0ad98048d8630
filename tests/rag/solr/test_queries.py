"""What is built for Solr means what is meant, whatever the values are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.rag.filters import (
    All,
    Compare,
    Contains,
    Either,
    Filter,
    Not,
    OneOf,
    as_filter,
    matches,
)
from anabranch.rag.solr import queries
from tests.rag.solr.double import Double
from tests.rag.solr.lucene import local_params, tokens

HOSTILE = [
    "war and peace) OR (*:*",
    '") OR *:* OR ("',
    'a" TO *] OR *:* OR x:["',
    "x\\",
    'x\\" OR *:*',
    "{!lucene}*:*",
    "{!xmlparser v='<!DOCTYPE a SYSTEM \"http://x\"><a></a>'}",
    '_query_:"{!func}1"',
    "*",
    "*:*",
    "a*b?",
    "/.*/",
    "AND",
    "OR",
    "NOT",
    "TO",
    "&& ||",
    "-x +y !z",
    "a~2^9",
    "${q}",
    "${x:*:*}",
    "$live",
    "\\u0022",
    " ",
    "\n\t\u3000",
    "\0",
    "😀 é ß",
    "\ud800",
    "' v=$q",
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet="ab \\\"'(){}[]*?:^~+-!&|/$#,\n\0é😀ORANDTu0", max_size=6),
)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from(
        [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 0.5, -0.0, 1e300]
    ),
    st.floats(allow_nan=False),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
NAMES = st.sampled_from(["a", "b", "year_l", "_c"])
BOUNDS = st.one_of(
    SCALARS, st.sampled_from([2**64, -(2**64), 10**400, math.nan, math.inf, -math.inf])
)
METADATA = st.dictionaries(
    NAMES, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=4
)
OPS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Compare, NAMES, OPS, BOUNDS),
    st.builds(OneOf, NAMES, st.lists(BOUNDS, max_size=3).map(tuple)),
    st.builds(Contains, NAMES, BOUNDS),
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Either, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)


def solr_of(*metadata: dict[str, Any]) -> Double:
    """A Solr with a document for each."""
    solr = Double()
    solr.fields["rag_fields"] = {"name": "rag_fields", "type": "strings"}
    for number, one in enumerate(metadata):
        solr.add({"id": str(number), **queries.index_fields(one)})
    solr.commit("hard")
    return solr


def found(solr: Double, clause: str) -> list[int]:
    test = solr.query(clause, {})
    return [int(key) for key, doc in solr.visible.items() if test(doc)]


@given(tree=FILTERS, metadata=st.lists(METADATA, min_size=1, max_size=4))
@example(tree=Not(Compare("a", "==", "x")), metadata=[{}, {"a": "x"}, {"a": ["x"]}])
@example(tree=Compare("a", "<", 2**53 + 1), metadata=[{"a": 2.0**53}, {"a": 2**53 + 1}])
@example(tree=Compare("a", "==", True), metadata=[{"a": 1}, {"a": 1.0}, {"a": True}])
@example(tree=Compare("a", "==", ""), metadata=[{"a": ""}, {}, {"a": None}])
@example(tree=Contains("a", None), metadata=[{"a": [None]}, {"a": None}, {"a": []}])
def test_solr_finds_what_the_filter_means(
    tree: Filter, metadata: list[dict[str, Any]]
) -> None:
    solr = solr_of(*metadata)
    expected = [n for n, one in enumerate(metadata) if matches(plain(tree), known(one))]
    assert found(solr, queries.where_clause(tree)) == expected


def known(metadata: dict[str, Any]) -> dict[str, Any]:
    """Half characters and NUL are stored as others: they equal what they became."""
    return {
        name: [text(one) for one in value] if isinstance(value, list) else text(value)
        for name, value in metadata.items()
    }


def text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.replace("\ud800", "\ufffd") or "\0"


def plain(tree: Filter) -> Filter:
    match tree:
        case Compare(field, op, value):
            return Compare(field, op, text(value))
        case OneOf(field, values):
            return OneOf(field, tuple(map(text, values)))
        case Contains(field, value):
            return Contains(field, text(value))
        case All(parts):
            return All(tuple(map(plain, parts)))
        case Either(parts):
            return Either(tuple(map(plain, parts)))
        case Not(part):
            return Not(plain(part))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("op", ["==", "!=", "<", ">="])
def test_a_hostile_value_finds_no_more_than_itself(hostile: str, op: Any) -> None:
    metadata = [{"topic": "rivers"}, {"topic": hostile}, {"topic": "zebras", "x": "x"}]
    tree = Compare("topic", op, hostile)
    expected = [n for n, one in enumerate(metadata) if matches(plain(tree), known(one))]
    assert found(solr_of(*metadata), queries.where_clause(tree)) == expected


def test_the_double_is_broken_out_of_by_a_value_that_is_not_escaped() -> None:
    """It would not show anything otherwise."""
    solr = solr_of({"topic": "rivers"}, {"topic": "secret"})
    hostile = "war and peace) OR (*:*"
    assert found(solr, f"((topic_s:{hostile}))") == [0, 1]
    assert found(solr, f"(topic_s:{queries.escape(hostile)})") == []


@given(value=st.one_of(TEXTS, st.text(min_size=1)).filter(bool))
def test_an_escaped_value_is_one_term(value: str) -> None:
    kinds = [token.kind for token in tokens(f"f:{queries.escape(value)}")]
    assert kinds == ["TERM", "COLON", "TERM", "EOF"]


@given(value=TEXTS)
def test_a_phrase_is_one_phrase(value: str) -> None:
    kinds = [token.kind for token in tokens(f"f:{queries.phrase(value)}")]
    assert kinds == ["TERM", "COLON", "QUOTED", "EOF"]


@given(value=TEXTS.filter(lambda value: not value.startswith("$")))
def test_a_local_parameter_is_read_back_as_it_was(value: str) -> None:
    query = queries.local_params("edismax", "words", v=value, qf="a")
    assert local_params(query, {}) == ({"type": "edismax", "v": value, "qf": "a"}, value)


def test_a_local_parameter_may_refer_to_another_parameter() -> None:
    query = queries.local_params("edismax", v="$words")
    assert query == "{!edismax v=$words}"
    said = local_params(query, {"words": "}*:*"})
    assert said == ({"type": "edismax", "v": "}*:*"}, "}*:*")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "1a", "a)", "a-b", "é", "a\n", "{!x}"])
def test_what_is_no_field_name_is_refused_and_as_metadata_told_by_a_digest(
    name: str,
) -> None:
    with pytest.raises(UsageError, match="cannot be a field of Solr"):
        queries.field_name(name)
    own = queries.index_name(name)
    assert queries.field_name(own) == own
    assert queries.index_name(own) != own  # which so is no other's
    assert queries.index_fields({name: 1}) == {f"{own}_l": 1, queries.NAMES: [own]}
    tree = Compare(name, "==", 1)
    assert found(solr_of({name: 1}, {own: 1}), queries.where_clause(tree)) == [0]


def test_purely_negative_clauses_are_written_so_that_they_find_something() -> None:
    assert queries.where_clause(Not(Compare("a", "==", "x"))) == "(*:* -a_s:x)"


def test_an_expression_becomes_a_clause() -> None:
    tree = as_filter("year >= 2020 and lang in ('en', 'de')")
    assert queries.where_clause(tree) == (
        "(+(year_l:[2020 TO *] OR year_d:[2020\\u002e0 TO *]) +(lang_s:en OR lang_s:de))"
    )


def test_too_many_values_are_refused_before_solr_refuses_them() -> None:
    with pytest.raises(UsageError, match="301 values for 'a'"):
        queries.where_clause(OneOf("a", tuple(range(301))))


def test_a_number_that_solr_cannot_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="64 bits"):
        queries.index_fields({"a": 2**63})


def test_a_long_text_still_equals_itself() -> None:
    long = "é" * 20_000
    solr = solr_of({"a": long + "x"}, {"a": long + "y"})
    assert found(solr, queries.where_clause(Compare("a", "==", long + "y"))) == [1]


def test_a_vector_is_written_with_the_digits_of_its_floats() -> None:
    vector = np.array([0.1, -1 / 3, 1e-9], np.float32)
    query = queries.knn("v", vector, 5)
    assert query == "{!knn f=v topK=5}[0.100000001,-0.333333343,9.99999972e-10]"
    numbers = query.partition("}")[2].strip("[]").split(",")
    assert np.array_equal(np.array(numbers, np.float32), vector)


def test_ids_in_a_list_cannot_hold_a_separator() -> None:
    assert queries.terms("id", ["a1", "b-2"]) == "{!terms f=id}a1,b-2"
    with pytest.raises(UsageError, match="'a,b' is no id"):
        queries.terms("id", ["a,b"])
