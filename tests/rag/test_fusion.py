"""One ranking out of several."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.rag import min_max, reciprocal_rank

NAMES = ["vector", "full text", "third"]
RANKINGS = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.integers(0, 20), unique=True)
)


def scored(
    scores: st.SearchStrategy[float],
) -> st.SearchStrategy[dict[str, list[tuple[int, float]]]]:
    """Rankings with their scores, best first."""
    ranking = st.dictionaries(st.integers(0, 20), scores).map(
        lambda found: sorted(found.items(), key=lambda pair: -pair[1])
    )
    return st.dictionaries(st.sampled_from(NAMES), ranking)


REASONABLE = scored(st.integers(-10_000, 10_000).map(lambda n: n / 8))
ANY = scored(st.floats(allow_nan=True, allow_infinity=True))


# -- places


def test_a_passage_that_two_found_stands_before_one_that_only_one_did() -> None:
    fused = reciprocal_rank({"vector": [1, 2, 3], "full text": [4, 2, 5]})
    assert fused[0] == (2, 2 / 62, {"vector": 2, "full text": 2})


@given(RANKINGS)
def test_every_key_comes_once_with_its_rank_in_each_ranking(
    rankings: dict[str, list[int]],
) -> None:
    fused = reciprocal_rank(rankings)
    assert {key for key, _, _ in fused} == {
        key for keys in rankings.values() for key in keys
    }
    assert len(fused) == len({key for key, _, _ in fused})
    scores = [score for _, score, _ in fused]
    assert scores == sorted(scores, reverse=True)
    for key, _, ranks in fused:
        assert ranks == {
            n: keys.index(key) + 1 for n, keys in rankings.items() if key in keys
        }


@given(st.lists(st.integers(), unique=True))
def test_a_single_ranking_keeps_its_order(keys: list[int]) -> None:
    assert [key for key, _, _ in reciprocal_rank({"only": keys})] == keys


def test_a_repeated_key_counts_once_at_its_best_place() -> None:
    assert reciprocal_rank({"r": ["a", "b", "a"]}) == reciprocal_rank({"r": ["a", "b"]})
    assert min_max({"r": [("a", 2.0), ("b", 1.0), ("a", 0.0)]}) == min_max(
        {"r": [("a", 2.0), ("b", 1.0)]}
    )


def test_a_weight_decides_which_retriever_is_believed() -> None:
    rankings = {"vector": [1, 2], "full text": [2, 1]}
    for weights, first in ({"vector": 2.0}, 1), ({"full text": 2.0}, 2), ({}, 1):
        assert reciprocal_rank(rankings, weights=weights)[0].key == first
    scores = {"vector": [(1, 1.0), (2, 0.0)], "full text": [(2, 9.0), (1, 8.0)]}
    for weights, first in ({"vector": 2.0}, 1), ({"full text": 2.0}, 2), ({}, 1):
        assert min_max(scores, weights=weights)[0].key == first


# -- scores


def test_scores_are_stretched_to_one_range_before_they_are_added() -> None:
    fused = min_max(
        {"vector": [(1, 0.75), (2, 0.5), (3, 0.25)], "full text": [(3, 40.0), (2, 20.0)]}
    )
    assert [(key, round(score, 4)) for key, score, _ in fused] == [
        (3, 0.6667),  # (1/3 + 1) / 2
        (2, 0.5833),  # (2/3 + 1/2) / 2
        (1, 0.5),
    ]
    assert fused[0].ranks == {"vector": 3, "full text": 1}


def test_the_last_of_a_short_ranking_counts_for_more_than_what_was_not_found() -> None:
    fused = min_max({"vector": [(1, 0.9), (2, 0.8), (3, 0.7)], "full text": [(4, 2.0)]})
    assert [key for key, _, _ in fused] == [1, 4, 2, 3]
    assert all(score > 0 for _, score, _ in fused)


def test_without_differences_what_counts_is_who_found_it() -> None:
    same = [(1, 0.5), (2, 0.5)]
    assert [score for _, score, _ in min_max({"vector": same})] == [1.0, 1.0]
    fused = min_max({"vector": same, "full text": [(2, 3.0)]})
    assert [(key, score) for key, score, _ in fused] == [(2, 1.0), (1, 0.5)]


def test_scores_that_are_no_numbers_spoil_nothing() -> None:
    ranking = [("top", math.inf), ("a", 2.0), ("b", 1.0), ("x", math.nan), ("y", -math.inf)]
    fused = min_max({"r": ranking})
    assert [(key, score) for key, score, _ in fused] == [
        ("top", 1.0), ("a", 1.0), ("b", 0.5), ("x", 0.0), ("y", 0.0),
    ]  # fmt: skip
    assert min_max({"r": [("x", math.nan)]})[0].score == 0


def test_the_widest_range_of_a_float_is_no_infinite_distance() -> None:
    fused = min_max({"r": [("a", 1.7e308), ("b", 0.0), ("c", -1.7e308)]})
    assert [round(score, 6) for _, score, _ in fused] == [1.0, 0.666667, 0.333333]


@pytest.mark.parametrize("fuse", [min_max, reciprocal_rank])
def test_nothing_found_is_nothing_fused(fuse) -> None:
    assert fuse({}) == []
    assert fuse({"vector": [], "full text": []}) == []
    assert fuse({"vector": []}, weights={"vector": 0.0}) == []


@given(ANY)
def test_any_scores_give_every_key_once_between_zero_and_one(rankings) -> None:
    fused = min_max(rankings)
    assert sorted(key for key, _, _ in fused) == sorted(
        {key for ranking in rankings.values() for key, _ in ranking}
    )
    assert all(0 <= score <= 1 for _, score, _ in fused)
    assert all(one.score >= two.score for one, two in pairwise(fused))


@given(ANY)
def test_the_order_in_which_retrievers_answered_changes_no_score(rankings) -> None:
    turned = dict(reversed(rankings.items()))
    assert {p.key: p.score for p in min_max(rankings)} == {
        p.key: p.score for p in min_max(turned)
    }
    keys = {name: [key for key, _ in ranking] for name, ranking in rankings.items()}
    assert {p.key: p.score for p in reciprocal_rank(keys)} == {
        p.key: p.score for p in reciprocal_rank(dict(reversed(keys.items())))
    }


def test_a_sum_does_not_hang_on_its_order() -> None:
    weights = {"a": 0.1, "b": 0.2, "c": 0.3}  # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1
    orders = permutations(weights)
    sums = {min_max({n: [(1, 1.0)] for n in o}, weights=weights)[0].score for o in orders}
    assert len(sums) == 1


@given(REASONABLE, st.sampled_from([0.5, 2.0, 1024.0]), st.integers(-64, 64))
def test_the_scale_of_a_retriever_does_not_matter(rankings, factor, shift) -> None:
    moved = {
        name: [(key, score * factor + shift) for key, score in ranking]
        for name, ranking in rankings.items()
    }
    scores = {p.key: p.score for p in min_max(rankings)}
    for placed in min_max(moved):
        assert placed.score == pytest.approx(scores[placed.key], abs=1e-9)


@given(REASONABLE)
def test_whatever_was_found_has_more_than_nothing(rankings) -> None:
    assert all(placed.score > 0 for placed in min_max(rankings))


@given(REASONABLE)
def test_a_single_ranking_keeps_the_order_of_its_scores(rankings) -> None:
    for name, ranking in rankings.items():
        assert [p.key for p in min_max({name: ranking})] == [key for key, _ in ranking]
