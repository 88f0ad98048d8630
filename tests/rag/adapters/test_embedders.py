"""Models of LlamaIndex and LangChain as embedders of ours, and ours as theirs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from llama_index.core.embeddings import MockEmbedding

from anabranch.errors import EmbeddingError, LoopError, UsageError
from anabranch.rag import Chunk
from anabranch.rag.adapters import langchain, llamaindex
from tests.rag.adapters.llama_parts import DIMENSIONS, Blocking, Fixed, Native, vector_of
from tests.rag.parts import HashEmbedder
from tests.rag.parts import vector_of as hash_of

TEXTS = [f"{'word ' * (n % 4)}{n}" for n in range(25)]


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk("d", text, 0, len(text)) for text in texts]


def unit(vector: list[float]) -> Any:
    return np.array(vector) / np.linalg.norm(vector)


@pytest.mark.parametrize("kind", [Blocking, Native])
def test_vectors_are_unit_and_in_order_whichever_way_the_model_is_asked(kind):
    async def main() -> None:
        adapted = await llamaindex.embedder(kind(embed_batch_size=4), concurrency=3)
        vectors = await adapted.embed(chunks(*TEXTS))
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(
            vectors, [unit(vector_of(text)) for text in TEXTS], atol=1e-6
        )
        np.testing.assert_allclose(
            await adapted.embed_query("why"), unit(vector_of("why")), atol=1e-6
        )
        assert (await adapted.embed([])).shape == (0, DIMENSIONS)

    asyncio.run(main())


def test_a_synchronous_model_is_never_asked_on_the_loop_even_under_an_async_name():
    theirs = Blocking(embed_batch_size=4)

    async def main() -> None:
        adapted = await llamaindex.embedder(theirs)
        await adapted.embed(chunks(*TEXTS))
        await adapted.embed_query("why")

    asyncio.run(main())
    assert threading.get_ident() not in theirs.threads
    # One at a time by default: it may not be made for several threads.
    assert len({*theirs.threads}) == 1


def test_a_batch_is_one_request_where_only_the_synchronous_way_has_batches():
    class HalfNative(Blocking):
        async def _aget_text_embedding(self, text: str) -> list[float]:
            await asyncio.sleep(0)
            return self._get_text_embedding(text)

    theirs = HalfNative(embed_batch_size=10)

    async def main() -> None:
        adapted = await llamaindex.embedder(theirs, dimensions=DIMENSIONS)
        await adapted.embed(chunks(*TEXTS))

    asyncio.run(main())
    assert [len(batch) for batch in theirs.batches] == [10, 10, 5]


def test_requests_at_once_are_bounded_for_all_callers_together():
    theirs = Native(embed_batch_size=2)

    async def main() -> None:
        adapted = await llamaindex.embedder(theirs, concurrency=3)
        await asyncio.gather(*(adapted.embed(chunks(*TEXTS)) for _ in range(3)))

    asyncio.run(main())
    assert theirs.most == 3


def test_an_adapted_embedder_outlives_the_loop_it_was_made_in():
    adapted = asyncio.run(llamaindex.embedder(Native(embed_batch_size=1), concurrency=1))
    for _ in range(2):
        assert len(asyncio.run(adapted.embed(chunks("a", "b")))) == 2


def test_the_first_failure_cancels_the_other_batches_and_is_one_of_ours():
    class Failing(Native):
        async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            if texts == ["bad"]:
                raise ConnectionError("refused")
            try:
                await asyncio.sleep(3600)
            finally:
                self.ended += texts
            return []

    theirs = Failing(model_name="m", embed_batch_size=1)

    async def main() -> None:
        adapted = await llamaindex.embedder(theirs, dimensions=3, concurrency=2)
        await adapted.embed(chunks("slow", "bad", "later"))

    with pytest.raises(EmbeddingError, match=r"Failing \(m\) failed: ConnectionError: ref"):
        asyncio.run(main())
    assert theirs.ended == ["slow"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([1.0, 2.0], r"answered with 1 × 2 numbers, not 1 × 3"),
        ([1.0, float("nan"), 0.0], r"a NaN or an infinity in vector 1 of 1"),
        (["a", "b", "c"], r"should be a valid number"),  # theirs checks too
        ([], r"answered with 1 × 0 numbers"),
        (ValueError("no quota"), r"ValueError: no quota"),
    ],
)
def test_what_is_no_vector_is_refused_with_a_sentence(answer: Any, sentence: str):
    async def main(ask: bool) -> None:
        theirs = Fixed(answer=answer, model_name="m")
        adapted = await llamaindex.embedder(theirs, dimensions=3)
        await (adapted.embed_query("q") if ask else adapted.embed(chunks("t")))

    for ask in (True, False):
        with pytest.raises(EmbeddingError, match=sentence) as caught:
            asyncio.run(main(ask))
        assert "Fixed (m)" in str(caught.value)


def test_vectors_of_different_lengths_are_refused():
    class Ragged(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] * (place + 1) for place in range(len(texts))]

        def embed_query(self, text: str) -> list[float]:
            return [1.0]

    async def main() -> None:
        await (await langchain.embedder(Ragged())).embed(chunks("a", "b"))

    with pytest.raises(EmbeddingError, match=r"Ragged \(Ragged\) gave what are no vectors"):
        asyncio.run(main())


def test_a_status_of_their_error_is_kept():
    class Refused(Exception):
        status_code = 429

    async def main() -> None:
        await llamaindex.embedder(Fixed(answer=Refused("slow down")))

    with pytest.raises(EmbeddingError, match="slow down") as caught:
        asyncio.run(main())
    assert caught.value.status == 429
    assert isinstance(caught.value.__cause__, Refused)


def test_a_vector_of_zeros_stays_one():
    async def main() -> None:
        adapted = await llamaindex.embedder(Fixed(answer=[0.0, 0.0]))
        assert (await adapted.embed(chunks("", " "))).tolist() == [[0, 0], [0, 0]]

    asyncio.run(main())


def test_the_digest_tells_models_apart_and_is_the_same_for_the_same_model():
    class Keyed(Blocking):
        instruction: str = ""
        api_key: str = "k"
        timeout: float = 1.0

    async def digest(theirs: Blocking, **options: Any) -> str:
        return (await llamaindex.embedder(theirs, **options)).digest

    async def main() -> None:
        one = await digest(Keyed(model_name="m"))
        assert one == await digest(Keyed(model_name="m"))
        assert one == await digest(Keyed(model_name="m", api_key="other", timeout=9))
        assert one != await digest(Keyed(model_name="n"))
        assert one != await digest(Keyed(model_name="m", instruction="query: "))
        assert one != await digest(Blocking(model_name="m"))
        assert await digest(Keyed(), digest="mine") == "mine"

    asyncio.run(main())


def test_arguments_that_cannot_be_meant_are_refused():
    async def main(**options: Any) -> None:
        await llamaindex.embedder(MockEmbedding(embed_dim=3), **options)

    for name in ("concurrency", "dimensions", "max_tokens"):
        with pytest.raises(UsageError, match=name):
            asyncio.run(main(**{name: 0}))


# -- LangChain


def test_embeddings_of_langchain_are_asked_in_threads_unless_asynchronous():
    class Threaded(Embeddings):
        def __init__(self) -> None:
            self.model = "wörter-1"
            self.threads: list[int] = []
            self.batches: list[int] = []

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            self.threads.append(threading.get_ident())
            self.batches.append(len(texts))
            return [vector_of(text) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    class Async(Threaded):
        async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
            await asyncio.sleep(0)
            return self.embed_documents(texts)

        async def aembed_query(self, text: str) -> list[float]:
            return (await self.aembed_documents([text]))[0]

    async def main(theirs: Threaded) -> None:
        adapted = await langchain.embedder(theirs, batch=10)
        assert adapted.name == "wörter-1"
        vectors = await adapted.embed(chunks(*TEXTS))
        expected = [unit(vector_of(text)) for text in TEXTS]
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
        await adapted.embed_query("why")

    threaded, native = Threaded(), Async()
    asyncio.run(main(threaded))
    asyncio.run(main(native))
    assert threading.get_ident() not in threaded.threads
    assert {*native.threads} == {threading.get_ident()}
    assert threaded.batches == native.batches == [1, 10, 10, 5, 1]


# -- ours as theirs


def test_an_embedder_of_ours_is_an_embedding_of_both_awaited_or_not():
    ours = HashEmbedder()
    llama, lang = llamaindex.to_embedding(ours), langchain.to_embeddings(ours)
    expected = [hash_of("a").tolist(), hash_of("b").tolist()]
    assert llama.model_name == "hash-8"
    assert llama.get_text_embedding_batch(["a", "b"]) == expected
    assert llama.get_text_embedding("a") == llama.get_query_embedding("a") == expected[0]
    assert lang.embed_documents(["a", "b"]) == expected
    assert lang.embed_query("a") == expected[0]

    async def main() -> None:
        assert await llama.aget_text_embedding_batch(["a", "b"]) == expected
        assert await llama.aget_query_embedding("b") == expected[1]
        assert await lang.aembed_documents(["a", "b"]) == expected
        assert await lang.aembed_query("b") == expected[1]

    asyncio.run(main())


class BoundToALoop(HashEmbedder):
    """Fails on any loop but the one it was opened in, as what has connections does."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()

    async def embed_query(self, text: str):
        assert asyncio.get_running_loop() is self.loop
        return await super().embed_query(text)


def test_a_synchronous_call_from_a_thread_runs_on_the_loop_the_adapter_was_made_in():
    async def main() -> None:
        for theirs, ask in (
            (langchain.to_embeddings(BoundToALoop()), "embed_query"),
            (llamaindex.to_embedding(BoundToALoop()), "get_query_embedding"),
        ):
            found = await asyncio.to_thread(getattr(theirs, ask), "a")
            assert found == hash_of("a").tolist()

    asyncio.run(main())


def test_a_synchronous_call_that_would_wait_for_itself_is_an_error_and_no_hang():
    async def main() -> Embeddings:
        theirs = langchain.to_embeddings(HashEmbedder())
        with pytest.raises(LoopError, match=r"await aembed_query\(\.\.\.\) instead"):
            theirs.embed_query("a")
        return theirs

    theirs = asyncio.run(main())
    with pytest.raises(LoopError, match="does not run any more"):
        theirs.embed_query("a")


def test_a_loop_that_ends_leaves_no_thread_waiting():
    loop = asyncio.new_event_loop()

    class Stopping(HashEmbedder):
        async def embed_query(self, text: str):
            loop.stop()
            return await loop.create_future()  # never done

    async def make() -> Embeddings:
        return langchain.to_embeddings(Stopping())

    theirs = loop.run_until_complete(make())
    runs = threading.Event()
    loop.call_soon(runs.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert runs.wait(60)
    with pytest.raises(LoopError, match="does not run any more"):
        theirs.embed_query("a")
    thread.join()
    for _ in range(2):
        loop.run_until_complete(asyncio.sleep(0))  # what was asked is cancelled
    loop.close()


def test_an_adapter_made_in_a_thread_has_a_loop_of_its_own():
    async def main() -> None:
        theirs = await asyncio.to_thread(langchain.to_embeddings, HashEmbedder())
        assert theirs.embed_query("a") == hash_of("a").tolist()

    asyncio.run(main())


def test_there_and_back_again_is_the_same_embedder():
    async def main() -> None:
        ours = HashEmbedder()
        for back in (
            await llamaindex.embedder(llamaindex.to_embedding(ours)),
            await langchain.embedder(langchain.to_embeddings(ours)),
        ):
            assert back.dimensions == ours.dimensions
            vectors = await back.embed(chunks("a", "b"))
            np.testing.assert_allclose(vectors, [hash_of("a"), hash_of("b")], atol=1e-6)

    asyncio.run(main())


def test_their_own_fakes_work():
    async def main() -> None:
        mock = await llamaindex.embedder(MockEmbedding(embed_dim=4))
        assert (await mock.embed(chunks("a"))).tolist() == [[0.5] * 4]
        fake = await langchain.embedder(DeterministicFakeEmbedding(size=6))
        [same, other] = await fake.embed(chunks("a", "b"))
        assert same @ await fake.embed_query("a") == pytest.approx(1)
        assert same @ other < 0.99

    asyncio.run(main())
