"""A filter as a bound: whatever is meant is let through, and little else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.rag import All, Compare, Contains, Either, Filter, Not, OneOf, matches
from anabranch.rag.stores.facets import (
    Bound,
    Every,
    Has,
    InRange,
    Some,
    bound,
    facts,
    numbers,
)
from anabranch.rag.types import Metadata
from tests.rag.filter_trees import about, metadatas


def holds(where: Bound, metadata: Metadata) -> bool:
    match where:
        case Has(found, is_denied):
            return set(facts(metadata)).isdisjoint(found) is is_denied
        case InRange(field, op, value):
            number = numbers(metadata).get(field)
            if number is None:
                return False
            return number <= value if op == "<=" else number >= value
        case Every(parts):
            return all(holds(part, metadata) for part in parts)
        case Some(parts):
            return any(holds(part, metadata) for part in parts)


def is_exact(tree: Filter) -> bool:
    """Whether the bound lets nothing else through: no order is asked for."""
    match tree:
        case Compare(_, op, _):
            return op in ("==", "!=")
        case OneOf() | Contains():
            return True
        case All(parts) | Either(parts):
            return all(map(is_exact, parts))
        case Not(part):
            return is_exact(part)


@settings(max_examples=40)
@given(metadatas.flatmap(lambda one: st.tuples(st.just(one), about(one))))
def test_what_is_meant_is_let_through_and_what_is_not_only_where_order_is_asked_for(
    drawn: tuple[Metadata, Filter],
) -> None:
    metadata, tree = drawn
    coarse = holds(bound(tree), metadata)
    if is_exact(tree):
        assert coarse == matches(tree, metadata)
    else:
        assert coarse or not matches(tree, metadata)


@settings(max_examples=40)
@given(metadatas.flatmap(lambda one: st.tuples(st.just(one), about(one))))
def test_a_list_of_too_many_values_is_only_looser(drawn: tuple[Metadata, Filter]) -> None:
    metadata, tree = drawn
    assert holds(bound(tree, most=1), metadata) or not matches(tree, metadata)


@pytest.mark.parametrize("op", ["<", "<=", ">", ">="])
def test_numbers_that_no_double_tells_apart_are_let_through(op: str) -> None:
    for value in (2**53, 2**53 + 1, -(2**63), 10**400, -(10**400), 0.1):
        for least in (-1, 0, 1):
            tree = Compare("n", op, 2**53 + least)  # type: ignore[arg-type]
            assert holds(bound(tree), {"n": value}) or not matches(tree, {"n": value})


def test_nothing_of_a_name_or_a_value_is_in_a_fact() -> None:
    found = facts({"naïve'; --": "secret", "list": ["$eq", None], "none": None})
    assert all(fact.isascii() and fact.isalnum() for fact in found)
    assert facts({"n": 1}) == facts({"n": 1.0}) == facts({"n": True})
    assert facts({"n": "1"}) != facts({"n": 1})
