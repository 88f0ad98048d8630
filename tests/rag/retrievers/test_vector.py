"""Asking by meaning: many questions become few calls, and each keeps its own fate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from anabranch.errors import UsageError
from anabranch.rag import (
    Hit,
    OpenAIEmbedder,
    VectorRetriever,
    local_embedder,
    retrieve_many,
)
from anabranch.rag.types import Vectors
from anabranch.testing import run_virtual
from tests.rag.embedders.doubles import KEY, OpenAIDouble, served
from tests.rag.retrievers.fakes import Echo, EchoMany, Fixed, ManyNumbers, OneNumber, hit


def retriever(embedder: OneNumber, store: Echo) -> VectorRetriever:
    # A store of tests can do nothing but search.
    whole: Any = store
    return VectorRetriever(whole, embedder)


def test_questions_at_the_same_time_are_embedded_and_looked_for_together() -> None:
    async def main() -> None:
        embedder, store = ManyNumbers(), EchoMany()
        vector = retriever(embedder, store)
        found = await asyncio.gather(*(vector.retrieve("x" * n) for n in range(1, 31)))
        assert [[hit.key for hit in hits] for hits in found] == [[n] for n in range(1, 31)]
        assert [len(call) for call in embedder.calls] == [30]
        assert store.passes == [30]

    run_virtual(main())


def test_a_question_alone_waits_for_no_other() -> None:
    async def main() -> None:
        embedder = ManyNumbers(takes_s=1)
        vector = retriever(embedder, EchoMany())
        first = asyncio.create_task(vector.retrieve("a"))
        await asyncio.sleep(0.5)
        await vector.retrieve("bb")
        assert asyncio.get_running_loop().time() == 1.5
        await first
        assert embedder.calls == [["a"], ["bb"]]

    run_virtual(main())


def test_while_all_batches_are_under_way_questions_gather_for_the_next() -> None:
    async def main() -> None:
        embedder = ManyNumbers(takes_s=10)
        vector = retriever(embedder, EchoMany())
        tasks = []
        for n in range(1, 11):
            tasks.append(asyncio.create_task(vector.retrieve("x" * n)))
            await asyncio.sleep(1)
        await asyncio.gather(*tasks)
        assert [len(call) for call in embedder.calls] == [1, 1, 1, 1, 6]

    run_virtual(main())


def test_a_batch_has_a_most() -> None:
    async def main() -> None:
        embedder = ManyNumbers()
        many = retriever(embedder, EchoMany())
        found = await asyncio.gather(*(many.retrieve("x" * n) for n in range(1, 151)))
        assert [hits[0].key for hits in found] == list(range(1, 151))
        assert [len(call) for call in embedder.calls] == [64, 64, 22]
        assert asyncio.get_running_loop().time() == 1

    run_virtual(main())


def test_equal_questions_are_embedded_once_and_other_searches_are_their_own() -> None:
    async def main() -> None:
        embedder, store = ManyNumbers(), EchoMany()
        vector = retriever(embedder, store)
        await asyncio.gather(
            vector.retrieve("same", k=3),
            vector.retrieve("same", k=3),
            vector.retrieve("same", k=4),
            vector.retrieve("same", k=3, where="year == 2020"),
            vector.retrieve("same", k=3, where={"year": 2020}),
        )
        assert embedder.calls == [["same"]]
        assert sorted(search[1] for search in store.searches) == [3, 3, 3, 3, 4]
        assert sum(search[2] is None for search in store.searches) == 3

    run_virtual(main())


def test_one_bad_question_fails_alone() -> None:
    async def main() -> None:
        embedder = ManyNumbers()
        vector = retriever(embedder, EchoMany())
        outcomes = await retrieve_many(vector, ["a", "b!", "ccc"], errors="return")
        assert [outcome.ok for outcome in outcomes] == [True, False, True]
        assert isinstance(outcomes[1].error, ValueError)
        assert outcomes[2].result()[0].key == 3
        with pytest.raises(ValueError, match="takes no !"):
            await vector.retrieve("alone!")

    run_virtual(main())


def test_without_batches_of_embedder_and_store_questions_are_asked_one_by_one() -> None:
    async def main() -> None:
        embedder, store = OneNumber(takes_s=0), Echo()
        vector = retriever(embedder, store)
        found = await asyncio.gather(*(vector.retrieve("x" * n) for n in range(1, 20)))
        assert [hits[0].key for hits in found] == list(range(1, 20))
        assert sorted(map(len, embedder.calls)) == [1] * 19

    run_virtual(main())


def test_one_who_is_cancelled_leaves_the_others_alone() -> None:
    async def main() -> None:
        embedder = ManyNumbers(takes_s=2)
        vector = retriever(embedder, EchoMany())
        tasks = [asyncio.create_task(vector.retrieve("x" * n)) for n in (1, 2, 3)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert not isinstance(found[2], BaseException)
        assert found[2][0].key == 3
        assert embedder.cancelled == 0

    run_virtual(main())


def test_when_all_are_cancelled_nothing_of_it_is_left() -> None:
    async def main() -> None:
        embedder = ManyNumbers(takes_s=60)
        vector = retriever(embedder, EchoMany())
        # More than are under way at once, so that some still wait for their batch.
        tasks = []
        for n in range(1, 9):
            tasks.append(asyncio.create_task(vector.retrieve("x" * n)))
            await asyncio.sleep(1)
        for task in reversed(tasks):
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found)
        assert embedder.cancelled == 4
        assert len(asyncio.all_tasks()) == 1
        # And it goes on working.
        assert (await vector.retrieve("four"))[0].key == 4

    run_virtual(main())


def test_a_retriever_may_be_used_in_one_loop_after_another() -> None:
    embedder = ManyNumbers(takes_s=0)
    vector = retriever(embedder, EchoMany())

    async def ask() -> int:
        return (await vector.retrieve("abc"))[0].key

    async def broken_off() -> None:
        asyncio.create_task(vector.retrieve("never"))  # noqa: RUF006  # left alone
        await asyncio.sleep(0)

    assert asyncio.run(ask()) == 3
    asyncio.run(broken_off())
    assert asyncio.run(ask()) == 3


def test_a_loop_that_has_stopped_in_the_middle_holds_up_no_other() -> None:
    embedder = ManyNumbers(takes_s=60)
    vector = retriever(embedder, EchoMany())
    stopped = asyncio.new_event_loop()
    tasks = []
    for n in range(1, 10):
        tasks.append(stopped.create_task(vector.retrieve("x" * n)))
        stopped.run_until_complete(asyncio.sleep(0.001))
    assert len(embedder.calls) == 4  # and the rest waits for these

    async def ask() -> int:
        return (await vector.retrieve("abc"))[0].key

    embedder.takes_s = 0
    assert asyncio.run(ask()) == 3
    for task in tasks:
        task.cancel()
    stopped.run_until_complete(asyncio.wait(tasks))
    assert all(task.cancelled() for task in tasks)
    stopped.close()


def test_a_retriever_may_be_used_in_several_loops_at_the_same_time() -> None:
    vector = retriever(ManyNumbers(takes_s=0), EchoMany())
    all_there = threading.Barrier(4)
    found: list[list[int]] = []

    def ask() -> None:
        async def main() -> None:
            queries = ["x" * n for n in range(1, 101)] * 3
            hits = await retrieve_many(vector, queries, concurrency=16)
            found.append([each[0].key for each in hits])

        all_there.wait()
        asyncio.run(main())

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [[*range(1, 101)] * 3] * 4


def test_many_questions_come_back_in_their_order_and_are_bounded() -> None:
    async def main() -> None:
        slow = Fixed("slow", [1], after=1)
        found = await retrieve_many(slow, (f"q{n}" for n in range(6)), concurrency=2)
        assert [[hit.key for hit in hits] for hits in found] == [[1]] * 6
        assert asyncio.get_running_loop().time() == 3
        assert slow.asked == [f"q{n}" for n in range(6)]
        slow.error = OSError("no route")
        with pytest.raises(OSError, match="no route"):
            await retrieve_many(slow, ["a", "b"])
        assert await retrieve_many(slow, ["a", "b"], errors="skip") == []
        assert await retrieve_many(slow, []) == []

    run_virtual(main())


def test_what_cannot_be_asked_is_refused_before_anything_is() -> None:
    async def main() -> None:
        some = Fixed("some", [1])
        with pytest.raises(TypeError, match="put a single one into a list"):
            await retrieve_many(some, "one question")
        with pytest.raises(UsageError, match="k must be"):
            await retrieve_many(some, ["q"], k=0)
        with pytest.raises(UsageError, match="a value by itself"):
            await retrieve_many(some, ["q"], where="2020")
        assert some.asked == []

    run_virtual(main())


@pytest.mark.parametrize("model", ["static", "minilm"])
def test_a_local_model_gives_questions_together_the_vectors_it_gives_them_alone(
    model: str,
) -> None:
    async def main() -> None:
        embedder = local_embedder(model)
        questions = ["How do I boil eggs?", "tea", "", "a much longer question " * 20]
        together = await embedder.embed_queries(questions)
        alone = [await embedder.embed_query(question) for question in questions]
        assert together.shape == (4, embedder.dimensions)
        # int8 arithmetic of a padded batch differs in the last places.
        np.testing.assert_allclose(together, np.stack(alone), atol=0.02)
        assert (await embedder.embed_queries([])).shape == (0, embedder.dimensions)

    asyncio.run(main())


def test_a_service_is_asked_once_about_many_questions() -> None:
    double = OpenAIDouble()

    async def main() -> None:
        async with (
            served(double.handle) as url,
            OpenAIEmbedder(
                double.model, url=f"{url}/v1", key=KEY, dimensions=double.dimensions
            ) as embedder,
        ):
            any_store: Any = Anything()
            vector = VectorRetriever(any_store, embedder)
            found = await retrieve_many(vector, [f"question {n}" for n in range(20)])
            assert [hits[0].key for hits in found] == [1] * 20

    run_virtual(main())
    assert [len(body["input"]) for body in double.bodies] == [20]


class Anything:
    """A store that finds the same passage for every vector of unit length."""

    async def search(self, vector: Vectors, **options: Any) -> Sequence[Hit]:
        return [hit(round(float(np.linalg.norm(vector))))]
