"""Filters of ours in LlamaIndex's words mean what they mean here, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from anabranch.errors import UsageError
from anabranch.rag import as_filter, matches
from anabranch.rag.adapters.llamaindex import from_filters, to_filters
from anabranch.rag.filters import All, Compare, Contains, Filter, OneOf
from tests.rag.filter_trees import OPERATORS, Metadata, joined

# Fields of one kind each: theirs raises where text is compared with a number.
NUMBERS = st.integers(-2, 2) | st.sampled_from([0.5, -0.5])
TEXTS = st.sampled_from(["", "a", "b", "ab"])


def leaves(name: str, values: st.SearchStrategy[object]) -> st.SearchStrategy[Filter]:
    several = st.lists(values, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Compare, st.just(name), st.sampled_from(OPERATORS), values),
        st.builds(OneOf, st.just(name), several),
    )


LEAVES = st.one_of(
    leaves("year", NUMBERS),
    leaves("lang", TEXTS),
    st.builds(Contains, st.just("tags"), TEXTS),
)
METADATA: st.SearchStrategy[Metadata] = st.fixed_dictionaries(
    {}, optional={"year": NUMBERS, "lang": TEXTS, "tags": st.lists(TEXTS, max_size=2)}
)


def means(filters: MetadataFilters, metadata: Metadata) -> bool:
    """What theirs makes of it; nesting, which their function refuses, is done here."""
    nested = [part for part in filters.filters if isinstance(part, MetadataFilters)]
    plain = [part for part in filters.filters if not isinstance(part, MetadataFilters)]
    found = [means(part, metadata) for part in nested]
    found += [
        build_metadata_filter_fn(lambda _: metadata, MetadataFilters(filters=[part]))("n")
        for part in plain
    ]
    match filters.condition:
        case FilterCondition.OR:
            return any(found)
        case FilterCondition.NOT:
            return not any(found)
        case _:
            return all(found)


@given(joined(LEAVES, least=1), METADATA)
def test_a_filter_means_the_same_in_theirs(tree: Filter, metadata: Metadata):
    assert means(to_filters(tree), metadata) == matches(tree, metadata)


@given(joined(LEAVES, least=1), METADATA)
def test_a_filter_there_and_back_means_the_same(tree: Filter, metadata: Metadata):
    assert matches(from_filters(to_filters(tree)), metadata) == matches(tree, metadata)


def test_what_needs_no_nesting_has_none():
    filters = to_filters(as_filter("year >= 2020 and lang in ('en', 'de') and not x == 1"))
    assert filters == MetadataFilters(
        filters=[
            MetadataFilter(key="year", value=2020, operator=FilterOperator.GTE),
            MetadataFilter(key="lang", value=["en", "de"], operator=FilterOperator.IN),
            MetadataFilter(key="x", value=1, operator=FilterOperator.NE),
        ]
    )
    assert to_filters(as_filter({"a": 1})).filters == [MetadataFilter(key="a", value=1)]


@pytest.mark.parametrize(
    "where",
    ["a == None", "a != True", "a in (1, 'b')", "a in ()", "None in a", All(()), {"a": []}],
)
def test_what_theirs_cannot_say_is_refused_with_a_sentence(where):
    with pytest.raises(UsageError, match="LlamaIndex"):
        to_filters(as_filter(where))


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        (FilterOperator.TEXT_MATCH, "a"),
        (FilterOperator.IS_EMPTY, None),
        (FilterOperator.IN, "a"),
        (FilterOperator.EQ, ["a"]),
    ],
)
def test_what_ours_cannot_say_is_refused_with_a_sentence(operator, value):
    theirs = MetadataFilter(key="a", value=value, operator=operator)
    with pytest.raises(UsageError, match=r"a (text_match|is_empty|in|==)"):
        from_filters(MetadataFilters(filters=[theirs]))


def test_any_and_all_are_told_from_each_other():
    def wanted(operator: FilterOperator) -> Filter:
        theirs = MetadataFilter(key="tags", value=["a", "b"], operator=operator)
        return from_filters(MetadataFilters(filters=[theirs]))

    assert matches(wanted(FilterOperator.ANY), {"tags": ["b"]})
    assert not matches(wanted(FilterOperator.ALL), {"tags": ["b"]})
    assert matches(wanted(FilterOperator.ALL), {"tags": ["b", "a"]})
