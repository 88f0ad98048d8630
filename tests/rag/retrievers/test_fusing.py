"""Several retrievers as one: deadlines, weights, further questions, reranking."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anabranch.errors import RerankError, RetrievalError, UsageError
from anabranch.rag import FusionRetriever, Hit
from anabranch.testing import run_virtual
from tests.rag.retrievers.fakes import ByQuery, Fixed, hit


class Other:
    """Gives the same further questions, after some seconds, or fails."""

    def __init__(
        self, queries: Sequence[str], *, after: float = 0, error: Exception | None = None
    ) -> None:
        self.name = "query expansion"
        self._queries = queries
        self._after = after
        self._error = error

    async def expand(self, query: str) -> Sequence[str]:
        await asyncio.sleep(self._after)
        if self._error is not None:
            raise self._error
        return self._queries


class Longest:
    """Finds long texts good, after some seconds, or gives the scores it is told."""

    def __init__(self, *, after: float = 0, scores: Any = None) -> None:
        self.name = "rerank"
        self.asked: list[tuple[str, Sequence[str]]] = []
        self._after = after
        self._scores = scores

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        self.asked.append((query, texts))
        await asyncio.sleep(self._after)
        return [len(text) for text in texts] if self._scores is None else self._scores


def with_(**fields: Any) -> Hit:
    """A hit whose fields may be anything."""
    return replace(hit(1), **fields)


def keys(hits) -> list[int]:
    return [each.key for each in hits]


# -- deadlines


def test_each_retriever_has_its_own_deadline_and_all_have_one_together() -> None:
    async def main() -> None:
        parts = [Fixed("a", [1]), Fixed("b", [2], after=3), Fixed("c", [3], after=30)]
        fused = await FusionRetriever(parts, timeout={"b": 2}).fuse("?")
        assert str(fused.failures["b"]) == "no answer within 2 s"
        assert str(fused.failures["c"]) == "no answer within 10 s"
        assert asyncio.get_running_loop().time() == 10
        fused = await FusionRetriever(parts, timeout=20, total_timeout=5).fuse("?")
        assert asyncio.get_running_loop().time() == 15
        assert keys(fused.hits) == [1, 2]
        assert str(fused.failures["c"]) == "no answer within 5 s"
        assert parts[2].cancelled == 2
        assert fused.elapsed_s == {"a": 0, "b": 3, "c": 5}

    run_virtual(main())


def test_a_retrievers_own_time_out_is_not_taken_for_a_deadline() -> None:
    async def main() -> None:
        own = TimeoutError()
        fused = await FusionRetriever([Fixed("a", [1]), Fixed("b", error=own)]).fuse("?")
        assert fused.failures == {"b": own}

    run_virtual(main())


def test_a_cancelled_question_ends_what_it_began() -> None:
    async def main() -> None:
        parts = [Fixed("a", [1], after=60), Fixed("b", [2], after=60)]
        task = asyncio.create_task(FusionRetriever(parts).retrieve("?"))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [part.cancelled for part in parts] == [1, 1]

    run_virtual(main())


# -- rankings


def test_scores_decide_by_default_and_places_if_wanted() -> None:
    async def main() -> None:
        # What both place second is far below what each places first.
        a = Fixed("a", [hit(1, score=0.9), hit(2, score=0.2), hit(4, score=0.1)])
        b = Fixed("b", [hit(3, score=30.0), hit(2, score=5.0), hit(5, score=4.0)])
        assert keys(await FusionRetriever([a, b]).retrieve("?", k=3)) == [1, 3, 2]
        by_places = FusionRetriever([a, b], by="reciprocal-rank")
        assert keys(await by_places.retrieve("?", k=1)) == [2]
        weighted = FusionRetriever([a, b], weights={"b": 2})
        assert keys(await weighted.retrieve("?", k=3)) == [3, 2, 1]

    run_virtual(main())


def test_the_hits_of_retrievers_are_not_changed() -> None:
    async def main() -> None:
        given = [hit(1, "long text", score=0.5), hit(2, "text", score=math.nan)]
        before = copy.deepcopy(given)
        fusion = FusionRetriever([Fixed("a", given), Fixed("b", given)], rerank=Longest())
        found = await fusion.retrieve("?")
        assert keys(found) == [1, 2]
        assert found[0].ranks == {"a": 1, "b": 1}
        assert str(given) == str(before)
        assert all(one is not two for one in given for two in found)

    run_virtual(main())


def test_passages_of_two_stores_with_one_number_are_two() -> None:
    async def main() -> None:
        a, b = Fixed("a", [hit(1, "one")]), Fixed("b", [hit(1, "two", source="t")])
        found = await FusionRetriever([a, b]).retrieve("?")
        assert [each.text for each in found] == ["one", "two"]

    run_virtual(main())


@pytest.mark.parametrize(
    "found",
    [
        None,
        5,
        ["a"],
        [None],
        [with_(score="x")],
        [with_(score=None)],
        [with_(text=None)],
        [with_(source=1)],
        [with_(end=None)],
        [with_(key=[])],
    ],
)
def test_a_retriever_that_gives_what_are_no_hits_has_failed(found: Any) -> None:
    class Lies:
        name = "lies"

        async def retrieve(self, query, *, k=5, where=None):
            return found

    async def main() -> None:
        broken: Any = Lies()
        fused = await FusionRetriever([Fixed("a", [1]), broken]).fuse("?")
        assert keys(fused.hits) == [1]
        assert isinstance(fused.failures["lies"], TypeError)

    run_virtual(main())


def test_scores_and_places_may_be_numbers_of_numpy() -> None:
    async def main() -> None:
        found = with_(score=np.float32(0.5), start=np.int64(0))
        assert keys(await FusionRetriever([Fixed("a", [found])]).retrieve("?")) == [1]

    run_virtual(main())


@pytest.mark.parametrize("more", [None, "a question", [1], [None]])
def test_an_expander_that_gives_no_questions_has_failed(more: Any) -> None:
    async def main() -> None:
        fusion = FusionRetriever([Fixed("a", [1])], expand=Other(more))
        fused = await fusion.fuse("?")
        assert keys(fused.hits) == [1]
        assert isinstance(fused.failures["query expansion"], TypeError)

    run_virtual(main())


@pytest.mark.parametrize("query", ["", " \n", None, 5])
def test_a_question_that_asks_nothing_is_refused(query: Any) -> None:
    async def main() -> None:
        some = Fixed("some", [1])
        with pytest.raises(UsageError, match="the question"):
            await FusionRetriever([some]).retrieve(query)
        assert some.asked == []

    run_virtual(main())


@pytest.mark.parametrize("k", [0, 1_000_001, 2**63, 10**30, 1.5])
def test_a_number_of_passages_that_cannot_be_meant_is_refused(k: Any) -> None:
    async def main() -> None:
        some = Fixed("some", [1])
        with pytest.raises(UsageError, match="k must be"):
            await FusionRetriever([some]).retrieve("?", k=k)
        with pytest.raises(UsageError, match="depth must be"):
            FusionRetriever([some], depth=k)
        assert some.asked == []

    run_virtual(main())


def test_who_wants_no_deadline_says_none() -> None:
    async def main() -> None:
        slow, slower = Fixed("slow", [1], after=99), Fixed("slower", [2], after=999)
        assert len(await FusionRetriever([slow], timeout=None).retrieve("?")) == 1
        by_name = FusionRetriever([slow, slower], timeout={"slower": None})
        assert list((await by_name.fuse("?")).failures) == ["slow"]
        both = FusionRetriever([slow, slower], timeout=None, total_timeout=100)
        assert list((await both.fuse("?")).failures) == ["slower"]

    run_virtual(main())


def test_no_passages_are_an_answer_too() -> None:
    async def main() -> None:
        fusion = FusionRetriever([Fixed("a"), Fixed("b")], rerank=Longest())
        assert (await fusion.fuse("?")).hits == []

    run_virtual(main())


# -- repetitions


def test_the_same_text_is_given_once() -> None:
    async def main() -> None:
        found = [hit(1, "same text"), hit(2, "same\n text", source="t"), hit(3, "other")]
        assert keys(await FusionRetriever([Fixed("a", found)]).retrieve("?", k=2)) == [1, 3]
        every = FusionRetriever([Fixed("a", found)], duplicates="keep")
        assert keys(await every.retrieve("?", k=2)) == [1, 2]

    run_virtual(main())


def test_passages_that_overlap_are_merged_if_wanted() -> None:
    text = "one two three four five six"

    def piece(key: int, start: int, end: int, document: str = "d"):
        return hit(key, text[start:end], start=start, document=document, score=9 - key)

    async def main() -> None:
        found = [
            piece(1, 14, 23),  # "four five"
            piece(2, 4, 7, "other document"),
            piece(3, 0, 8),  # "one two "
            piece(4, 4, 18),  # "two three four" closes the gap
            piece(5, 19, 27),
        ]
        fusion = FusionRetriever([Fixed("a", found)], duplicates="merge")
        best, other = await fusion.retrieve("?", k=3)
        assert (best.key, best.text) == (1, text)
        assert (best.start, best.end) == (0, len(text))
        assert best.ranks == {"a": 1}
        assert other.key == 2

    run_virtual(main())


@pytest.mark.parametrize(
    "second",
    [
        hit(2, "def", start=3),  # they touch
        hit(2, "cdX", start=2, document="e"),  # of another document
        hit(2, "XdX", start=2),  # the text says otherwise
        replace(hit(2, "cde", start=2), end=99),  # and it is no piece of a text
    ],
)
def test_what_does_not_overlap_is_not_merged(second) -> None:
    async def main() -> None:
        fusion = FusionRetriever(
            [Fixed("a", [hit(1, "abc", start=0), second])], duplicates="merge"
        )
        assert len(await fusion.retrieve("?")) == 2

    run_virtual(main())


# -- further questions


def test_further_questions_are_asked_when_they_come_and_the_first_at_once() -> None:
    async def main() -> None:
        parts = [Fixed("a", [1], after=2), Fixed("b", [2], after=2)]
        fusion = FusionRetriever(parts, expand=Other(["one", "two", "one", "?"], after=1))
        fused = await fusion.fuse("?")
        assert fused.queries == ["?", "one", "two"]
        assert parts[0].asked == ["?", "one", "two"]
        assert asyncio.get_running_loop().time() == 3
        assert fused.hits[0].ranks == {"a": 1}

    run_virtual(main())


def test_further_questions_count_together_as_much_as_the_question_itself() -> None:
    async def main() -> None:
        part = ByQuery("a", {"?": [1, 2], "x": [2, 3], "y": [3, 2], "z": [3, 9]})
        fusion = FusionRetriever([part], expand=Other(["x", "y", "z"]))
        fused = await fusion.fuse("?")
        # By (1 + mean of the further ones) / 2: 2 has 1/2 + (1 + 1/2)/3, 3 has 5/6.
        assert [(each.key, round(each.score, 4)) for each in fused.hits] == [
            (1, 0.5), (2, 0.5), (3, 0.4167), (9, 0.0833),
        ]  # fmt: skip
        assert fused.hits[1].ranks == {"a": 1}

    run_virtual(main())


@pytest.mark.parametrize(
    ("expander", "reason"),
    [
        (Other([], error=ConnectionError("no route")), "no route"),
        (Other(["late"], after=99), "no answer within 10 s"),
    ],
)
def test_without_further_questions_the_first_is_answered(expander, reason) -> None:
    async def main() -> None:
        part = Fixed("a", [1])
        fused = await FusionRetriever([part], expand=expander).fuse("?")
        assert keys(fused.hits) == [1]
        assert str(fused.failures["query expansion"]) == reason
        assert part.asked == ["?"]

    run_virtual(main())


def test_what_fails_for_a_further_question_is_reported_with_it() -> None:
    async def main() -> None:
        part = ByQuery("a", {"?": [1]})
        fused = await FusionRetriever([part], expand=Other(["unknown"])).fuse("?")
        assert keys(fused.hits) == [1]
        assert set(fused.failures) == {"a: unknown"}

    run_virtual(main())


def test_when_retrievers_fail_for_every_question_that_is_an_error() -> None:
    async def main() -> None:
        fusion = FusionRetriever([Fixed("a", error=OSError("x"))], expand=Other(["more"]))
        with pytest.raises(RetrievalError, match="a: x; a: more: x"):
            await fusion.retrieve("?")

    run_virtual(main())


# -- reranking


def test_a_reranker_decides_on_the_order_of_the_best() -> None:
    async def main() -> None:
        reranker = Longest()
        found = [hit(1, "a"), hit(2, "bbb"), hit(3, "cc"), hit(4, "dddd")]
        fusion = FusionRetriever([Fixed("a", found)], rerank=reranker, candidates=3)
        hits = await fusion.retrieve("?", k=2)
        assert [(each.key, each.score) for each in hits] == [(2, 3), (3, 2)]
        assert reranker.asked == [("?", ["a", "bbb", "cc"])]
        assert keys(await fusion.retrieve("?", k=4)) == [4, 2, 3, 1]

    run_virtual(main())


@pytest.mark.parametrize(
    ("reranker", "error"),
    [
        (Longest(after=99), TimeoutError),
        (Longest(scores=[1.0]), RerankError),
        (Longest(scores=[1.0, 2.0, 3.0]), RerankError),
        (Longest(scores=[0.5, math.nan]), RerankError),
        (Longest(scores=[0.5, math.inf]), RerankError),
        (Longest(scores=[0.5, -math.inf]), RerankError),
        (Longest(scores=[0.5, 10**400]), RerankError),
        (Longest(scores=[0.5, "1"]), RerankError),
    ],
)
def test_without_a_reranker_the_order_stays_and_its_failure_is_reported(
    reranker, error, caplog
) -> None:
    async def main() -> None:
        fusion = FusionRetriever([Fixed("a", [1, 2])], rerank=reranker, timeout=5)
        fused = await fusion.fuse("?")
        assert keys(fused.hits) == [1, 2]
        assert isinstance(fused.failures["rerank"], error)
        await fusion.retrieve("?")

    run_virtual(main())
    assert "'rerank' is left out" in caplog.text


# -- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "magic"}, "by must be 'min-max' or 'reciprocal-rank', not 'magic'"),
        ({"duplicates": "hide"}, "duplicates must be 'keep' or 'drop' or 'merge'"),
        ({"weights": {"c": 1.0}}, "weights names 'c': there are 'a', 'b'"),
        ({"weights": {"a": -1.0}}, "the weight of 'a' must be at least 0"),
        ({"weights": {"a": math.nan}}, "the weight of 'a' must be a finite number"),
        ({"timeout": 0}, "the timeout of 'a' must be a finite number above 0"),
        ({"timeout": {"c": 1}}, "timeout names 'c'"),
        ({"total_timeout": -1}, "total_timeout must be"),
        ({"depth": 0}, "depth must be"),
        ({"candidates": 0}, "candidates must be"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message) -> None:
    with pytest.raises(UsageError, match=message):
        FusionRetriever([Fixed("a"), Fixed("b")], **options)


def test_many_questions_are_fused_at_once() -> None:
    async def main() -> None:
        fusion = FusionRetriever([Fixed("a", [1], after=1), Fixed("b", [2])])
        found = await fusion.retrieve_many(["x", "y", "z"], k=1, concurrency=3)
        assert [keys(hits) for hits in found] == [[1]] * 3
        assert asyncio.get_running_loop().time() == 1
        [outcome] = await fusion.retrieve_many(["x"], errors="return")
        assert outcome.item == "x"
        assert keys(outcome.result()) == [1, 2]

    run_virtual(main())
