"""The rules of indexing, without any I/O."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.rag.plan import Verdict, Version, is_known_gone, judge, text_digest, to_embed

FOUND = Version("a.md", "digest", "tokens/1")


@pytest.mark.parametrize(
    ("stored", "verdict"),
    [
        (None, Verdict.NEW),
        (FOUND, Verdict.UNCHANGED),
        (Version("a.md", "other", "tokens/1"), Verdict.CHANGED),
        (Version("a.md", "digest", "tokens/2"), Verdict.CHANGED),
    ],
)
def test_only_the_same_bytes_cut_the_same_way_are_unchanged(
    stored: Version | None, verdict: Verdict
) -> None:
    assert judge(stored, FOUND) is verdict


def test_only_what_was_asked_about_can_be_gone() -> None:
    asked = {"named": ["/docs", "/notes/a.md"], "folders": ["/docs"], "unlisted": []}
    assert is_known_gone("/docs/b.md", **asked)
    assert is_known_gone("/docs/deep/er/b.md", **asked)
    assert is_known_gone("/notes/a.md", **asked)
    assert not is_known_gone("/notes/b.md", **asked)
    assert not is_known_gone("/docs2/b.md", **asked)


def test_what_lies_in_a_folder_that_cannot_be_listed_is_not_known_to_be_gone() -> None:
    asked = {"named": ["/docs"], "folders": ["/docs"], "unlisted": ["/docs/locked"]}
    assert not is_known_gone("/docs/locked/in/b.md", **asked)
    assert is_known_gone("/docs/open/b.md", **asked)


def test_what_lies_in_a_named_folder_that_is_not_there_is_not_known_to_be_gone() -> None:
    assert not is_known_gone("/disk/a.md", named=["/disk"], folders=[], unlisted=[])


@given(st.lists(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_each_unknown_text_is_embedded_once(digests: list[int], stored: set[int]) -> None:
    places = to_embed(digests, dict.fromkeys(stored))
    embedded = [digests[place] for place in places]
    assert len(set(embedded)) == len(embedded)
    assert set(embedded) == set(digests) - stored


@given(st.text(), st.text())
def test_different_texts_have_different_digests(one: str, other: str) -> None:
    assert (text_digest(one) == text_digest(other)) == (one == other)
