"""A second copy is asked when the first is slow."""

from __future__ import annotations

import asyncio

import pytest

from anabranch.errors import UsageError
from anabranch.jobs import Hedge
from anabranch.rag import FusionRetriever, HedgedRetriever
from anabranch.testing import run_virtual
from tests.rag.retrievers.fakes import Fixed


class Throttled(Exception):
    status = 429


def test_the_faster_of_two_answers_is_taken_and_the_other_question_ends() -> None:
    async def main() -> None:
        slow, quick = Fixed("index", [1], after=60), Fixed("replica", [2], after=1)
        hedged = HedgedRetriever(slow, quick, hedge=Hedge(after=2, budget=1))
        assert [hit.key for hit in await hedged.retrieve("?")] == [2]
        assert asyncio.get_running_loop().time() == 3
        assert slow.cancelled == 1
        assert hedged.name == "index"
        assert (await FusionRetriever([hedged]).retrieve("?"))[0].ranks == {"index": 1}

    run_virtual(main())


def test_a_first_copy_that_is_quick_is_the_only_one_asked() -> None:
    async def main() -> None:
        first, second = Fixed("a", [1], after=1), Fixed("b", [2])
        hedged = HedgedRetriever(first, second, hedge=Hedge(after=2))
        assert [hit.key for hit in await hedged.retrieve("?")] == [1]
        assert second.asked == []

    run_virtual(main())


def test_few_are_asked_twice_by_default() -> None:
    async def main() -> None:
        slow, quick = Fixed("a", [1], after=60), Fixed("b", [2])
        hedged = HedgedRetriever(slow, quick, hedge=Hedge(after=1))
        for _ in range(3):
            await hedged.retrieve("?")
        assert len(quick.asked) == 1

    run_virtual(main())


def test_a_copy_that_fails_is_stood_in_for() -> None:
    async def main() -> None:
        broken = Fixed("a", error=ConnectionError("no route"))
        hedged = HedgedRetriever(broken, Fixed("b", [2]))
        assert [hit.key for hit in await hedged.retrieve("?")] == [2]

    run_virtual(main())


def test_when_both_fail_it_is_the_error_of_the_first() -> None:
    async def main() -> None:
        one, two = Fixed("a", error=OSError("one")), Fixed("b", error=OSError("two"))
        with pytest.raises(OSError, match="one") as caught:
            await HedgedRetriever(one, two).retrieve("?")
        assert caught.value.__notes__ == ["b failed too: two"]

    run_virtual(main())


@pytest.mark.parametrize("error", [Throttled("slow down"), UsageError("no such field")])
def test_what_another_copy_would_refuse_too_is_not_asked_of_it(error: Exception) -> None:
    async def main() -> None:
        second = Fixed("b", [2])
        with pytest.raises(type(error)):
            await HedgedRetriever(Fixed("a", error=error), second).retrieve("?")
        assert second.asked == []

    run_virtual(main())


def test_a_cancelled_question_ends_both() -> None:
    async def main() -> None:
        parts = Fixed("a", [1], after=60), Fixed("b", [2], after=60)
        hedged = HedgedRetriever(*parts, hedge=Hedge(after=1, budget=1))
        task = asyncio.create_task(hedged.retrieve("?"))
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [part.cancelled for part in parts] == [1, 1]

    run_virtual(main())
