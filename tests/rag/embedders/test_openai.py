"""Embedding behind OpenAI's API: batches, order, refusals, rates and secrets."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest

from anabranch import Retry
from anabranch.errors import EmbeddingError, StoreMismatch, UsageError
from anabranch.jobs import RateLimit
from anabranch.observe import Observer
from anabranch.rag import (
    Embedder,
    OpenAIEmbedder,
    Pipeline,
    RequestLimits,
    SqliteStore,
    VectorRetriever,
)
from anabranch.testing import run_virtual
from tests.rag.embedders.doubles import (
    KEY,
    Handler,
    OpenAIDouble,
    answer,
    chunks,
    cut,
    failing,
    late,
    openai_error,
    reset,
    served,
    unit,
)
from tests.rag.parts import LineSplitter, Shelf

R = TypeVar("R")
LOGIN = "ann:s%40t" + "@"
SMALL = RequestLimits(texts=3, tokens=1000, text_tokens=100)


def asked(
    double: OpenAIDouble,
    use: Callable[[OpenAIEmbedder], Awaitable[R]],
    **options: Any,
) -> R:
    """What ``use`` returns, with an embedder of ``double``, in virtual time."""

    async def main() -> R:
        async with served(double.handle) as url:
            given = {"key": KEY, "dimensions": double.dimensions, **options}
            model = given.pop("model", double.model)
            async with OpenAIEmbedder(model, url=f"{url}/v1", **given) as embedder:
                return await use(embedder)

    return run_virtual(main())


def refusal(double: OpenAIDouble, **options: Any) -> EmbeddingError:
    with pytest.raises(EmbeddingError) as caught:
        asked(double, lambda embedder: embedder.embed(chunks("a")), **options)
    return caught.value


class TestVectors:
    @pytest.mark.parametrize("encoding", ["base64", "float", None])
    def test_they_are_of_unit_length_and_in_the_order_of_the_chunks(
        self, encoding: Any
    ) -> None:
        double = OpenAIDouble(is_shuffled=True)
        texts = [f"text {number}" for number in range(10)]
        vectors = asked(
            double, lambda e: e.embed(chunks(*texts)), limits=SMALL, encoding=encoding
        )
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, [unit(text, 8) for text in texts], atol=1e-6)
        assert [len(body["input"]) for body in double.bodies] == [3, 3, 3, 1]

    def test_a_service_that_answers_in_decimals_when_asked_for_base64_is_understood(
        self,
    ) -> None:
        double = OpenAIDouble(ignores_encoding=True)
        vectors = asked(double, lambda e: e.embed(chunks("a")))
        np.testing.assert_allclose(vectors[0], unit("a", 8), atol=1e-6)

    def test_a_repeated_text_is_sent_once_and_a_blank_one_not_at_all(self) -> None:
        double = OpenAIDouble()
        vectors = asked(double, lambda e: e.embed(chunks("a", " ", "b", "a", "")))
        assert [body["input"] for body in double.bodies] == [["a", "b"]]
        zeros = np.zeros(8, np.float32)
        expected = [unit("a", 8), zeros, unit("b", 8), unit("a", 8), zeros]
        np.testing.assert_allclose(vectors, expected, atol=1e-6)

    def test_no_chunks_are_no_request(self) -> None:
        double = OpenAIDouble()
        vectors = asked(double, lambda e: e.embed([]))
        assert vectors.shape == (0, 8)
        assert double.bodies == []

    def test_a_request_holds_no_more_tokens_than_allowed(self) -> None:
        double = OpenAIDouble()
        limits = RequestLimits(texts=100, tokens=10, text_tokens=100)
        texts = ["x" * 16, "y" * 16, "z" * 400, "w"]  # of 5, 5, 101 and 1 tokens
        asked(double, lambda e: e.embed(chunks(*texts)), limits=limits)
        assert sorted(len(body["input"]) for body in double.bodies) == [1, 1, 2]

    def test_several_requests_are_under_way_and_no_more_than_asked_for(self) -> None:
        double = OpenAIDouble(gathers=4)
        texts = [str(number) for number in range(36)]

        async def twice(embedder: OpenAIEmbedder) -> None:
            await asyncio.gather(
                embedder.embed(chunks(*texts)), embedder.embed_query("and a question")
            )

        asked(double, twice, limits=SMALL, concurrency=4)
        assert double.most_at_once == 4

    def test_what_the_service_does_not_take_of_a_text_is_cut_off(self) -> None:
        double = OpenAIDouble()
        limits = RequestLimits(texts=9, tokens=1000, text_tokens=9, characters=4)
        asked(double, lambda e: e.embed(chunks("abcdefg")), limits=limits)
        assert double.bodies[0]["input"] == ["abcd"]

    def test_equal_questions_at_the_same_time_are_sent_once(self) -> None:
        double = OpenAIDouble(pause_s=1.0)

        async def ask(embedder: OpenAIEmbedder) -> None:
            one, two, _ = await asyncio.gather(
                *(embedder.embed_query(text) for text in ("who", "who", "when"))
            )
            one[:] = 0  # each has its own
            np.testing.assert_allclose(two, unit("who", 8), atol=1e-6)
            await embedder.embed_query("who")

        asked(double, ask)
        assert sorted(body["input"][0] for body in double.bodies) == ["when", "who", "who"]

    def test_documents_and_questions_are_told_apart_where_the_service_does(self) -> None:
        double = OpenAIDouble()

        async def both(embedder: OpenAIEmbedder) -> None:
            await embedder.embed(chunks("a"))
            await embedder.embed_query("b")

        asked(double, both, input_types=("search_document", "search_query"))
        kinds = [body["input_type"] for body in double.bodies]
        assert kinds == ["search_document", "search_query"]

    def test_heroku_is_known_by_its_address(self) -> None:
        embedder = OpenAIEmbedder(
            "cohere-embed-multilingual", url="https://us.inference.heroku.com/v1"
        )
        assert (embedder.limits.texts, embedder.limits.characters) == (96, 2048)

    def test_what_was_used_is_told(self) -> None:
        class Told(Observer):
            def __init__(self) -> None:
                self.counts: list[tuple[str, int]] = []

            def counted(self, what: str, count: int) -> None:
                self.counts.append((what, count))

        told = Told()

        async def use(embedder: OpenAIEmbedder) -> tuple[int, int]:
            await embedder.embed(chunks("one two", "three"))
            await embedder.embed_query("four")
            return embedder.requests, embedder.tokens

        assert asked(OpenAIDouble(), use, observer=told) == (2, 4)
        assert told.counts == [("tokens", 3), ("tokens", 4)]


class TestDimensions:
    def test_they_are_learnt_when_opened(self) -> None:
        double = OpenAIDouble(model="nomic-embed-text", dimensions=12)

        async def look(embedder: OpenAIEmbedder) -> int:
            assert len(double.bodies) == 1
            assert embedder.digest
            return embedder.dimensions

        assert asked(double, look, dimensions=None) == 12
        assert "dimensions" not in double.bodies[0]

    def test_before_that_they_are_not_known(self) -> None:
        embedder = OpenAIEmbedder("nomic-embed-text", url="http://localhost:11434/v1")
        with pytest.raises(UsageError, match="not known before it is asked"):
            embedder.dimensions  # noqa: B018
        with pytest.raises(UsageError, match="give dimensions="):
            embedder.digest  # noqa: B018

    def test_those_of_openais_models_are_known(self) -> None:
        assert OpenAIEmbedder("text-embedding-3-large").dimensions == 3072

    def test_shorter_ones_are_asked_for(self) -> None:
        double = OpenAIDouble()
        vectors = asked(double, lambda e: e.embed(chunks("a")), dimensions=4)
        assert vectors.shape == (1, 4)
        assert double.bodies[0]["dimensions"] == 4

    def test_an_answer_of_others_is_refused(self) -> None:
        double = OpenAIDouble()
        double.next = [answer({"data": [{"index": 0, "embedding": [1.0, 2.0]}]})]
        assert "vectors of 2 numbers, not of 8" in str(refusal(double))


class TestAnswers:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"data": []}, "of 1 texts, the service answered with 0"),
            ({}, "of 1 texts, the service answered with 0"),
            ({"data": [{"index": 0, "embedding": [1] * 8}] * 2}, "answered with 2"),
            ({"data": [{"index": 5, "embedding": [1] * 8}]}, "answered with 0"),
            ({"data": [{"index": 0}]}, "has no vectors"),
            ({"data": [{"index": 0, "embedding": None}]}, "has no vectors"),
            ({"data": [{"index": 0, "embedding": []}]}, "has no vectors"),
            ({"data": [{"index": 0, "embedding": "%%%"}]}, "has no vectors"),
            ({"data": [{"index": 0, "embedding": [[1.0]]}]}, "has no vectors"),
            ({"data": ["x"]}, "has no vectors"),
            ({"data": [{"index": 0, "embedding": [float("nan")] * 8}]}, "a NaN"),
            ({"data": [{"index": 0, "embedding": [1e300] * 8}]}, "infinite number"),
            ({"error": {"message": "out of memory"}}, "the model failed: out of memory"),
            (b'{"data": [{"embedding": [0.1, ', "not that of an embedding model"),
            (b"<html>hello</html>", "not that of an embedding model"),
            (b"[1, 2]", "not that of an embedding model"),
            (b"", "not that of an embedding model"),
        ],
    )
    def test_what_are_no_vectors_is_said_in_a_sentence(
        self, body: object, said: str
    ) -> None:
        double = OpenAIDouble(next=[answer(body)])
        error = refusal(double)
        assert said in str(error)
        assert "text-embedding-3-small" in str(error)
        assert len(double.bodies) == 1  # it would be so again

    def test_two_vectors_for_one_text_and_none_for_another_are_noticed(self) -> None:
        item = {"index": 0, "embedding": [1.0] * 8}
        double = OpenAIDouble(next=[answer({"data": [item, item]})])
        with pytest.raises(EmbeddingError, match="of 2 texts, the service answered with 1"):
            asked(double, lambda e: e.embed(chunks("a", "b")))


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "code", "remedy"),
        [
            (400, None, "how long its texts may be"),
            (400, "max_tokens_per_request", "give limits="),
            (401, "invalid_api_key", "give a valid key"),
            (403, None, "may not use this model"),
            (404, "model_not_found", "often ends in /v1"),
            (413, None, "give limits="),
            (429, "insufficient_quota", "look at your plan"),
        ],
    )
    def test_what_another_try_will_not_change_is_told_at_once(
        self, status: int, code: str | None, remedy: str
    ) -> None:
        reply = failing(lambda: openai_error(status, "So it is.", code=code))
        double = OpenAIDouble(next=[reply])
        error = refusal(double)
        assert (error.status, error.code) == (status, code)
        assert "So it is." in str(error)
        assert remedy in str(error)
        assert len(double.bodies) == 1

    @pytest.mark.parametrize(
        "reply",
        [
            failing(lambda: openai_error(429, "Slow down.", code="rate_limit_exceeded")),
            failing(lambda: openai_error(500, "The server had an error.")),
            answer(b"<html>Bad Gateway</html>", status=502),
            answer(b"", status=503),
            reset,
            cut,
            late(1000, answer({})),
        ],
        ids=["429", "500", "502", "503", "reset", "cut", "late"],
    )
    def test_what_may_pass_is_tried_again(self, reply: Handler) -> None:
        double = OpenAIDouble(next=[reply, reply])
        vectors = asked(double, lambda e: e.embed(chunks("a")))
        np.testing.assert_allclose(vectors[0], unit("a", 8), atol=1e-6)
        assert len(double.bodies) == 3

    def test_not_for_ever(self) -> None:
        reply = answer(b"", status=503)
        double = OpenAIDouble(next=[reply] * 9)
        error = refusal(double, retry=3)
        assert error.status == 503
        assert "try again later" in str(error)
        assert len(double.bodies) == 3

    @pytest.mark.parametrize(
        ("headers", "waited_s"),
        [({"Retry-After": "20"}, 20.0), ({"retry-after-ms": "1500"}, 1.5)],
    )
    def test_it_waits_as_long_as_the_service_asks(
        self, headers: dict[str, str], waited_s: float
    ) -> None:
        reply = failing(lambda: openai_error(429, "Slow down.", headers=headers))
        double = OpenAIDouble(next=[reply])
        asked(double, lambda e: e.embed(chunks("a")))
        assert waited_s <= double.at[1] - double.at[0] <= 1.2 * waited_s

    def test_others_wait_too_when_one_is_asked_to(self) -> None:
        reply = failing(
            lambda: openai_error(429, "Slow down.", headers={"Retry-After": "20"})
        )
        double = OpenAIDouble(next=[reply])

        async def use(embedder: OpenAIEmbedder) -> None:
            first = asyncio.create_task(embedder.embed(chunks("a")))
            await asyncio.sleep(5)
            await embedder.embed(chunks("b"))
            await first

        asked(double, use)
        assert min(double.at[1:]) >= double.at[0] + 20

    def test_a_failure_of_one_request_is_that_of_the_call(self) -> None:
        replies = [failing(lambda: openai_error(400, "No."))]
        double = OpenAIDouble(next=replies)
        with pytest.raises(EmbeddingError, match=r"No\."):
            asked(double, lambda e: e.embed(chunks(*"abcdefg")), limits=SMALL)

    def test_nobody_listening_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        async def main() -> None:
            url = f"http://127.0.0.1:{port}/v1"
            async with OpenAIEmbedder("m", url=url, dimensions=3) as embedder:
                await embedder.embed_query("a")

        with pytest.raises(EmbeddingError, match="connection was refused"):
            run_virtual(main())


class TestRates:
    def test_headers_slow_it_down_before_it_is_refused(self) -> None:
        double = OpenAIDouble(a_minute=6)
        limits = RequestLimits(texts=1, tokens=100, text_tokens=100)
        texts = [str(number) for number in range(20)]
        asked(double, lambda e: e.embed(chunks(*texts)), limits=limits, concurrency=4)
        assert double.refused == 0
        assert len(double.bodies) == 20

    def test_a_service_that_says_nothing_of_limits_is_not_waited_for(self) -> None:
        headers = {
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-reset-tokens": "60",
            "x-ratelimit-limit-tokens": "-1",
            "x-ratelimit-remaining-requests": "soon",
        }
        data = {"data": [{"index": 0, "embedding": [1.0] * 8}]}
        double = OpenAIDouble(next=[answer(data, headers=headers)])

        async def use(embedder: OpenAIEmbedder) -> None:
            await embedder.embed(chunks("a"))
            await embedder.embed(chunks("b"))

        asked(double, use)
        assert double.at[1] == pytest.approx(double.at[0])

    def test_a_rate_of_ones_own_holds(self) -> None:
        double = OpenAIDouble()
        limits = RequestLimits(texts=1, tokens=100, text_tokens=100)
        asked(
            double,
            lambda e: e.embed(chunks("a", "b", "c")),
            limits=limits,
            rate=RateLimit(requests=1, per=10.0),
        )
        assert double.at[-1] >= 20.0

    def test_tokens_that_the_service_counts_correct_what_was_guessed(self) -> None:
        double = OpenAIDouble()  # it counts one token where 101 are guessed
        limits = RequestLimits(texts=1, tokens=1000, text_tokens=100)

        async def use(embedder: OpenAIEmbedder) -> None:
            for letter in "abc":
                await embedder.embed(chunks(letter * 400))

        asked(double, use, limits=limits, rate=RateLimit(tokens=110, per=1000.0))
        assert double.at[-1] < 100.0


class TestSecrets:
    def test_a_wrong_key_is_in_no_error_and_no_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        wrong = "sk-barley-is-not-it"
        error = refusal(OpenAIDouble(), key=wrong)
        assert error.status == 401
        assert "Incorrect API key provided: [the key]" in str(error)
        assert wrong not in "".join(traceback.format_exception(error))
        assert wrong not in caplog.text

    def test_an_answer_that_is_no_http_does_not_show_it(self) -> None:
        async def garbage(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.read(100)
            writer.write(b"\x00\x01 garbage\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            server = await asyncio.start_server(garbage, "127.0.0.1", 0)
            async with server:
                url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
                async with OpenAIEmbedder(
                    "m", url=url, key=KEY, dimensions=3, retry=1
                ) as embedder:
                    await embedder.embed_query("a")

        with pytest.raises(EmbeddingError) as caught:
            run_virtual(main())
        link: BaseException | None = caught.value
        while link is not None:
            assert KEY not in repr(link) + str(link)
            link = link.__cause__ or link.__context__

    def test_it_does_not_follow_a_redirect(self) -> None:
        other = OpenAIDouble()
        double = OpenAIDouble()

        async def main() -> None:
            async with served(other.handle) as there, served(double.handle) as url:
                target = there.replace("127.0.0.1", "localhost") + "/v1/embeddings"
                double.next = [answer(b"", status=307, headers={"Location": target})]
                async with OpenAIEmbedder(
                    double.model, url=f"{url}/v1", key=KEY, dimensions=8
                ) as embedder:
                    await embedder.embed_query("a")

        with pytest.raises(EmbeddingError, match="points to http://localhost"):
            run_virtual(main())
        assert other.headers == []

    def test_its_repr_shows_model_and_address_alone(self) -> None:
        embedder = OpenAIEmbedder(
            "m", url=f"https://{LOGIN}example.org/v1?sig=hidden", dimensions=3
        )
        assert repr(embedder) == ("<OpenAIEmbedder https://example.org/v1/embeddings (m)>")

    def test_a_login_in_the_address_is_sent_and_not_part_of_the_digest(self) -> None:
        double = OpenAIDouble(key=None)

        async def main() -> None:
            async with served(double.handle) as url:
                plain = OpenAIEmbedder(double.model, url=f"{url}/v1", dimensions=8)
                secret = url.replace("http://", f"http://{LOGIN}") + "/v1"
                async with OpenAIEmbedder(
                    double.model, url=secret, dimensions=8
                ) as embedder:
                    await embedder.embed_query("a")
                    assert embedder.digest == plain.digest

        run_virtual(main())
        assert double.headers[0]["Authorization"] == "Basic YW5uOnNAdA=="


class TestIdentity:
    URL = "http://localhost:8080/v1"

    def test_the_digest_is_of_address_model_dimensions_and_what_else_decides(self) -> None:
        def digest(model: str = "m", url: str = self.URL, **options: Any) -> str:
            return OpenAIEmbedder(model, url=url, **{"dimensions": 3, **options}).digest

        assert digest() == digest(url=self.URL + "/embeddings", key="k", concurrency=2)
        others = [
            digest("n"),
            digest(url="http://localhost:9090/v1"),
            digest(dimensions=4),
            digest(input_types=("passage", "query")),
            digest(limits=RequestLimits(texts=1, tokens=9, text_tokens=9, characters=5)),
        ]
        assert len({digest(), *others}) == 6

    def test_it_can_be_told_that_the_model_has_moved(self) -> None:
        old = OpenAIEmbedder("m", url=self.URL, dimensions=3)
        new = OpenAIEmbedder("m", url="http://elsewhere:8080/v1", dimensions=3)
        new.digest = old.digest
        assert new.digest == old.digest

    def test_it_must_be_opened(self) -> None:
        embedder: Embedder = OpenAIEmbedder("m", url=self.URL, dimensions=3)
        with pytest.raises(RuntimeError, match="'async with OpenAIEmbedder"):
            asyncio.run(embedder.embed_query("a"))

    def test_it_can_be_opened_again(self) -> None:
        double = OpenAIDouble()

        async def main() -> None:
            async with served(double.handle) as url:
                embedder = OpenAIEmbedder(
                    double.model, url=f"{url}/v1", key=KEY, dimensions=8
                )
                for _ in range(2):
                    async with embedder:
                        await embedder.embed_query("a")

        run_virtual(main())
        assert len(double.bodies) == 2

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"url": "localhost:11434/v1"}, "not the address of an embedding service"),
            ({"url": "http://[::1/v1"}, "not the address of an embedding service"),
            ({"model": ""}, "the model's name is empty"),
            ({"key": "a\r\nX-Evil: 1"}, "characters that no key has"),
            ({"url": f"http://{LOGIN}host/v1", "key": "k"}, "and key= too"),
            ({"timeout": 0.0}, "timeout"),
            ({"concurrency": 0}, "concurrency"),
            ({"dimensions": 0}, "dimensions"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_at_once(
        self, arguments: dict[str, Any], said: str
    ) -> None:
        given: dict[str, Any] = {"model": "m", "url": self.URL, **arguments}
        with pytest.raises(UsageError, match=said):
            OpenAIEmbedder(**given)


class TestPipeline:
    TEXTS: ClassVar = {"a": "one\ntwo\nthree", "b": "two\nfour"}

    def test_an_index_is_made_and_asked_and_embeds_no_text_twice(
        self, tmp_path: Path
    ) -> None:
        double = OpenAIDouble()

        async def main() -> None:
            async with (
                served(double.handle) as url,
                OpenAIEmbedder(
                    double.model, url=f"{url}/v1", key=KEY, dimensions=8
                ) as embedder,
                await SqliteStore.create(tmp_path / "index", embedder) as store,
            ):
                for texts in (self.TEXTS, {**self.TEXTS, "c": "three\nfive"}):
                    shelf = Shelf(texts)
                    pipeline = Pipeline(
                        reader=shelf,
                        splitter=LineSplitter(),
                        embedder=embedder,
                        store=store,
                    )
                    await pipeline.run(shelf.names())
                [hit] = await VectorRetriever(store, embedder).retrieve("four", k=1)
                assert (hit.source, hit.text) == ("b", "four")

        asyncio.run(main())
        sent = [text for body in double.bodies[:-1] for text in body["input"]]
        assert sorted(sent) == ["five", "four", "one", "three", "two"]

    def test_another_model_is_refused_by_the_index(self, tmp_path: Path) -> None:
        url = "http://localhost:8080/v1"
        folder = tmp_path / "index"

        async def main() -> None:
            one = OpenAIEmbedder("one", url=url, dimensions=8)
            async with await SqliteStore.create(folder, one):
                pass
            two = OpenAIEmbedder("two", url=url, dimensions=8)
            with pytest.raises(StoreMismatch, match="made with the model one"):
                await SqliteStore.create(folder, two)
            unknown = OpenAIEmbedder("three", url=url)
            with pytest.raises(UsageError, match="open the embedder first"):
                await SqliteStore.create(tmp_path / "other", unknown)

        asyncio.run(main())


def test_a_retry_of_ones_own_decides() -> None:
    double = OpenAIDouble(next=[failing(lambda: openai_error(400, "No."))])
    retry = Retry(2, on=EmbeddingError, wait=lambda state: 1.0)
    asked(double, lambda e: e.embed(chunks("a")), retry=retry)
    assert len(double.bodies) == 2
