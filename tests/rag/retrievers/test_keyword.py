"""Passages that have the very words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.rag import Hit, KeywordRetriever, SqliteStore, index
from anabranch.rag.retrievers.words import Keywords, words_of
from tests.rag.retrievers.fakes import hit

TEXTS = {
    "guide.md": "# Guide\n\nCall connect() before you send. ERR_2041 means a time-out.",
    "errors.md": "# Errors\n\nERR_2042 is another error; errors like it are connected.",
    "essay.md": "# Essay\n\nTo be, or not to be: that is the question of the day.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = tmp_path_factory.mktemp("documents")
    for name, text in TEXTS.items():
        (documents / name).write_text(text)
    asyncio.run(index([documents], into=documents / "index", model="static"))
    return documents / "index"


def found(folder: Path, query: str, **options: Any) -> list[str]:
    async def main() -> Sequence[Hit]:
        async with await SqliteStore.open(folder) as store:
            return await KeywordRetriever(store, **options).retrieve(query)

    return [Path(each.source).name for each in asyncio.run(main())]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("ERR_2041", ["guide.md"]),
        ("err_2041 err_2042", ["guide.md", "errors.md"]),
        # As written: a stemmed search would find "connected" and "errors" too.
        ("connect", ["guide.md"]),
        ("what does connect() mean in the guide?", ["guide.md"]),  # a title counts
        ('"not to be"', ["essay.md"]),
        ('"be not to"', []),
        ('"time-out"', ["guide.md"]),
        ("time-out", ["guide.md"]),
        ("error question -essay", ["errors.md"]),
        ("means error", ["guide.md", "errors.md"]),
        ("+means error", ["guide.md"]),
        ("-error", []),
        ("to be", ["essay.md"]),  # nothing but stop words
        ("?!", []),
        ('" "', []),
        ("nowhere", []),
    ],
)
def test_a_passage_is_found_by_the_words_it_has(folder: Path, query, names) -> None:
    assert sorted(found(folder, query)) == sorted(names)


def test_the_more_keywords_a_passage_has_the_better(folder: Path) -> None:
    assert found(folder, "error errors question connect")[0] == "errors.md"
    assert found(folder, "error question day")[0] == "essay.md"


def test_all_keywords_may_be_wanted(folder: Path) -> None:
    assert found(folder, "err_2042 connected", match="all") == ["errors.md"]
    assert found(folder, "err_2042 connect", match="all") == []
    with pytest.raises(UsageError, match="match must be 'any' or 'all'"):
        found(folder, "x", match="some")


def test_a_filter_and_a_number_are_kept_to(folder: Path) -> None:
    async def main() -> None:
        async with await SqliteStore.open(folder) as store:
            keyword = KeywordRetriever(store)
            assert len(await keyword.retrieve("error be connect", k=1)) == 1
            hits = await keyword.retrieve("error be connect", where="title == 'Errors'")
            assert [each.ranks for each in hits] == [{"keyword": 1}]

    asyncio.run(main())


class Shelf:
    """A store that finds all its passages for every question, with a given BM25."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._hits = hits

    async def search_text(self, query: str, **options: Any) -> Sequence[Hit]:
        return self._hits[: options["k"]]


def test_a_higher_bm25_decides_among_equals_only() -> None:
    shelf: Any = Shelf(
        [hit(1, "one", score=900.0), hit(2, "one two", score=1.0), hit(3, "two", score=-5)]
    )
    hits = asyncio.run(KeywordRetriever(shelf).retrieve("one two"))
    assert [each.key for each in hits] == [2, 1, 3]
    scores = [each.score for each in hits]
    assert scores == sorted(scores, reverse=True)
    assert [int(score) for score in scores] == [2, 1, 1]


@given(st.text())
def test_any_question_can_be_taken_apart(query: str) -> None:
    keywords = Keywords.of(query)
    assert all(phrase and all(phrase) for phrase in keywords.wanted)


@given(st.lists(st.sampled_from(["to", "Be", "or", "not", "é"]), min_size=1))
def test_a_phrase_is_found_in_what_it_was_taken_from(words: list[str]) -> None:
    text = " ".join(words)
    assert Keywords.of(f'"{text}"').count(f"before, {text}. After") == 1
    assert Keywords((), (words_of(text),), ()).count(" ".join(words[1:])) in (0, 1)
