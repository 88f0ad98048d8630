"""Further questions by a language model, whatever it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import ChatError, UsageError
from anabranch.rag import FusionRetriever, QueryExpander
from anabranch.rag.answer import Message
from anabranch.rag.retrievers.rewriting import queries_in
from anabranch.testing import run_virtual
from tests.rag.retrievers.fakes import Fixed

QUESTION = "How do I boil eggs?"


class Writes:
    """A chat model that writes a text piece by piece, each after some seconds."""

    def __init__(
        self, answer: str, *, every_s: float = 0, error: Exception | None = None
    ) -> None:
        self.messages: Sequence[Message] = ()
        self.is_closed = False
        self._answer = answer
        self._every_s = every_s
        self._error = error

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        self.messages = messages
        try:
            for start in range(0, len(self._answer), 5):
                await asyncio.sleep(self._every_s)
                yield self._answer[start : start + 5]
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True


@pytest.mark.parametrize(
    "answer",
    [
        "boiling time of eggs\negg cooking methods",
        "1. boiling time of eggs\n2. egg cooking methods\n",
        "Sure! Here are some queries:\n\n- boiling time of eggs\n- *egg cooking methods*",
        '"boiling time of eggs"\n"egg cooking methods"',
        "Query 1: boiling time of eggs\r\nQuery 2: egg cooking methods",
        "(1) boiling time of eggs\n(2) egg cooking methods",
        '["boiling time of eggs", "egg cooking methods"]',
        '```json\n["boiling time of eggs", "egg cooking methods"]\n```',
        '{"queries": ["boiling time of eggs", "egg cooking methods"]}',
        '[{"query": "boiling time of eggs"}, {"query": "egg cooking methods"}]',
        "how do i BOIL eggs\nboiling time of eggs\nBoiling time of eggs.\n---\n"
        + "x" * 500
        + "\negg cooking methods",
    ],
)
def test_queries_are_read_in_whichever_form_a_model_writes_them(answer: str) -> None:
    assert queries_in(answer, QUESTION, 5) == [
        "boiling time of eggs",
        "egg cooking methods",
    ]


@pytest.mark.parametrize(
    "answer",
    ["", "\n\n", "...", "```\n```", "{}", "[]", "[[1], 2, null]", '{"q": 3}', QUESTION],
)
def test_what_holds_no_queries_gives_none(answer: str) -> None:
    assert queries_in(answer, QUESTION, 3) == []


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_answer_gives_few_distinct_short_queries(answer: str) -> None:
    queries = queries_in(answer, QUESTION, 3)
    assert len(queries) <= 3
    assert len(set(queries)) == len(queries)
    assert all(0 < len(query) <= 400 and "\n" not in query for query in queries)


def test_queries_that_begin_with_a_number_keep_it() -> None:
    assert queries_in("3 minute eggs\n2024 egg prices", QUESTION, 3) == [
        "3 minute eggs", "2024 egg prices",
    ]  # fmt: skip


def test_a_model_is_asked_once_and_its_queries_are_searched_for() -> None:
    async def main() -> None:
        model, part = Writes("- one\n- two\n- three\n- four"), Fixed("a", [1])
        expander = QueryExpander(model, count=3)
        fused = await FusionRetriever([part], expand=expander).fuse(QUESTION)
        assert fused.queries == [QUESTION, "one", "two", "three"]
        assert part.asked == list(fused.queries)
        assert fused.failures == {}
        assert "3 other search queries" in model.messages[0].content
        assert model.messages[-1] == Message("user", QUESTION)

    run_virtual(main())


def test_a_model_that_goes_on_and_on_is_stopped() -> None:
    async def main() -> None:
        model = Writes("one more query\n" * 100_000)
        assert await QueryExpander(model).expand("?") == ["one more query"]
        assert model.is_closed

    run_virtual(main())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Writes("slowly written", every_s=2), "wrote no queries within 3 s"),
        (Writes("", error=ChatError("the server answered 500")), "answered 500"),
        (Writes("???"), "the model's answer has no queries"),
    ],
)
def test_a_model_that_gives_no_queries_is_a_failure_that_is_reported(model, reason) -> None:
    async def main() -> None:
        expander = QueryExpander(model, timeout=3)
        fused = await FusionRetriever([Fixed("a", [1])], expand=expander).fuse("?")
        assert [hit.key for hit in fused.hits] == [1]
        assert isinstance(fused.failures["query expansion"], ChatError)
        assert reason in str(fused.failures["query expansion"])
        assert model.is_closed

    run_virtual(main())


def test_arguments_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UsageError, match="count must be"):
        QueryExpander(Writes(""), count=0)
    with pytest.raises(UsageError, match="timeout must be"):
        QueryExpander(Writes(""), timeout=0)
