"""One ranking out of several."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anabranch.rag import reciprocal_rank

RANKINGS = st.dictionaries(
    st.sampled_from(["vector", "full text", "third"]),
    st.lists(st.integers(0, 20), unique=True),
)


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
