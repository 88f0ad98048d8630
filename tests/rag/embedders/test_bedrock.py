"""Embedding by AWS Bedrock: Titan and Cohere, signatures, and Bedrock's errors."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from tenacity import wait_none

from anabranch.errors import EmbeddingError, StoreMismatch, UsageError
from anabranch.jobs import Retry
from anabranch.rag import BedrockEmbedder, SqliteStore
from tests.rag.embedders.doubles import (
    BedrockDouble,
    answer,
    aws_error,
    chunks,
    failing,
    reset,
    served,
    signature_check,
    unit,
)

R = TypeVar("R")
TITAN = "amazon.titan-embed-text-v2:0"
LOGIN = "ann:secret" + "@"
COHERE = "cohere.embed-english-v3"
COHERE_V4 = "eu.cohere.embed-v4:0"
ACCESS_KEY, SECRET_KEY, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/EXAMPLE", "session//token=="


def unsigned(url: str, body: bytes) -> Mapping[str, str]:
    return {"Authorization": "AWS4-HMAC-SHA256 of a test"}


def asked(
    double: BedrockDouble,
    model: str,
    use: Callable[[BedrockEmbedder], Awaitable[R]],
    **options: Any,
) -> R:
    """What ``use`` returns.

    In real time, as requests are signed in threads; so the next attempt follows at once.
    """

    async def main() -> R:
        async with served(double.handle) as url:
            at_once = Retry(5, wait=wait_none())
            given = {"sign": unsigned, "url": url, "retry": at_once, **options}
            async with BedrockEmbedder(model, **given) as embedder:
                return await use(embedder)

    return asyncio.run(main())


class TestTitan:
    @pytest.mark.parametrize(
        ("model", "dimensions"), [(TITAN, 1024), ("amazon.titan-embed-text-v1", 1536)]
    )
    def test_each_text_is_a_request_and_many_run_at_once(
        self, model: str, dimensions: int
    ) -> None:
        double = BedrockDouble(gathers=16)
        texts = [f"text {number}" for number in range(40)]
        vectors = asked(double, model, lambda e: e.embed(chunks(*texts)))
        expected = [unit(text, dimensions) for text in texts]
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
        assert len(double.bodies) == 40
        assert double.most_at_once == 16
        assert set(double.models) == {model}

    def test_shorter_vectors_are_asked_for(self) -> None:
        double = BedrockDouble()
        vectors = asked(double, TITAN, lambda e: e.embed(chunks("a")), dimensions=256)
        assert vectors.shape == (1, 256)
        expected = {"inputText": "a", "dimensions": 256, "normalize": True}
        assert double.bodies == [expected]

    def test_what_it_does_not_take_of_a_text_is_cut_off(self) -> None:
        double = BedrockDouble()
        asked(double, TITAN, lambda e: e.embed(chunks("x" * 60_000)))
        assert len(double.bodies[0]["inputText"]) == 50_000

    def test_tokens_are_counted(self) -> None:
        async def use(embedder: BedrockEmbedder) -> tuple[int, int]:
            await embedder.embed(chunks("one two", "three"))
            return embedder.requests, embedder.tokens

        assert asked(BedrockDouble(), TITAN, use) == (2, 3)


class TestCohere:
    @pytest.mark.parametrize(
        ("model", "dimensions"),
        [(COHERE, 1024), ("cohere.embed-multilingual-v3", 1024), (COHERE_V4, 1536)],
    )
    def test_480_texts_are_5_requests_of_96(self, model: str, dimensions: int) -> None:
        double = BedrockDouble()
        texts = [f"text {number}" for number in range(480)]
        vectors = asked(double, model, lambda e: e.embed(chunks(*texts)))
        assert [len(body["texts"]) for body in double.bodies] == [96] * 5
        expected = [unit(f"search_document:{text}", dimensions) for text in texts]
        np.testing.assert_allclose(vectors, expected, atol=1e-6)

    @pytest.mark.parametrize("model", [COHERE, COHERE_V4])
    def test_a_question_is_told_from_a_document(self, model: str) -> None:
        async def both(embedder: BedrockEmbedder) -> None:
            [document] = await embedder.embed(chunks("who"))
            question = await embedder.embed_query("who")
            assert not np.allclose(document, question)
            expected = unit("search_query:who", embedder.dimensions)
            np.testing.assert_allclose(question, expected, atol=1e-6)
            assert (embedder.requests, embedder.tokens) == (2, 2)

        asked(BedrockDouble(), model, both)

    def test_what_v3_does_not_take_of_a_text_is_cut_off(self) -> None:
        double = BedrockDouble()
        asked(double, COHERE, lambda e: e.embed(chunks("x" * 3000)))
        assert double.bodies[0]["texts"] == ["x" * 2048]
        assert double.bodies[0]["truncate"] == "END"

    def test_v4_takes_long_texts_and_shortens_vectors(self) -> None:
        double = BedrockDouble()
        vectors = asked(
            double, COHERE_V4, lambda e: e.embed(chunks("x" * 3000)), dimensions=512
        )
        assert vectors.shape == (1, 512)
        assert double.bodies[0]["texts"] == ["x" * 3000]

    def test_an_inference_profile_says_what_it_is(self) -> None:
        double = BedrockDouble()
        arn = "arn:aws:bedrock:eu-west-1:111122223333:application-inference-profile/a1b2"
        with pytest.raises(UsageError, match="give family="):
            asked(double, arn, lambda e: e.embed_query("a"))
        asked(double, arn, lambda e: e.embed_query("a"), family="cohere.embed-v4")
        assert double.models == [arn]


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "code", "remedy"),
        [
            (400, "ValidationException", "how long the texts are"),
            (400, "ServiceQuotaExceededException", "higher quota"),
            (403, "AccessDeniedException", "allow bedrock:InvokeModel"),
            (403, "ExpiredTokenException", "log in again"),
            (403, "UnrecognizedClientException", "access key is not known"),
            (404, "ResourceNotFoundException", "that the region has it"),
            (424, "ModelErrorException", "ModelErrorException"),
        ],
    )
    def test_what_another_try_will_not_change_is_told_at_once(
        self, status: int, code: str, remedy: str
    ) -> None:
        double = BedrockDouble(next=[failing(lambda: aws_error(status, code, "So it is."))])
        with pytest.raises(EmbeddingError) as caught:
            asked(double, TITAN, lambda e: e.embed_query("a"))
        error = caught.value
        assert (error.status, error.code) == (status, code)
        assert f"answered {status} {code}: So it is." in str(error)
        assert remedy in str(error)
        assert TITAN in str(error)
        assert len(double.bodies) == 1

    @pytest.mark.parametrize(
        "reply",
        [
            failing(lambda: aws_error(429, "ThrottlingException", "Too many requests")),
            failing(lambda: aws_error(429, "ModelNotReadyException", "Not ready")),
            failing(lambda: aws_error(408, "ModelTimeoutException", "Too slow")),
            failing(lambda: aws_error(500, "InternalServerException", "Oh")),
            failing(lambda: aws_error(503, "ServiceUnavailableException", "Busy")),
            reset,
        ],
        ids=["throttled", "not ready", "time-out", "internal", "unavailable", "reset"],
    )
    def test_what_may_pass_is_tried_again(self, reply: Any) -> None:
        double = BedrockDouble(next=[reply, reply])
        vector = asked(double, TITAN, lambda e: e.embed_query("a"))
        np.testing.assert_allclose(vector, unit("a", 1024), atol=1e-6)
        assert len(double.bodies) == 3

    def test_throttling_for_good_is_told_with_a_remedy(self) -> None:
        reply = failing(lambda: aws_error(429, "ThrottlingException", "Too many requests"))
        double = BedrockDouble(next=[reply] * 5)
        with pytest.raises(EmbeddingError, match="a lower concurrency=") as caught:
            asked(double, TITAN, lambda e: e.embed_query("a"))
        assert caught.value.code == "ThrottlingException"
        assert len(double.bodies) == 5

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"embeddings": [[1.0] * 1024]}, "of 2 texts, the service answered with 1"),
            ({"embeddings": {"int8": [[1] * 1024] * 2}}, "answered with 0"),
            ({"embeddings": [[1.0] * 3] * 2}, "of 3 numbers, not of 1024"),
            ({"embeddings": [[1.0] * 1024, [1.0] * 3]}, "of several lengths"),
            ({"embeddings": [[None] * 1024] * 2}, "a NaN"),
            ({"message": "hello"}, "answered with 0"),
        ],
    )
    def test_what_are_no_vectors_is_said_in_a_sentence(
        self, body: object, said: str
    ) -> None:
        double = BedrockDouble(next=[answer(body)])
        with pytest.raises(EmbeddingError, match=said):
            asked(double, COHERE, lambda e: e.embed(chunks("a", "b")))


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"model": "amazon.nova-pro-v1:0"}, "none of the models known here"),
            ({"dimensions": 300}, "1024 or 512 or 256 numbers, not 300"),
            ({"region": None}, "give region="),
            ({"region": "eu-west-1.evil.example/"}, "is not a region"),
            ({"url": f"https://{LOGIN}host"}, "give profile= instead"),
            ({"url": "bedrock"}, "not the address of Bedrock"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_at_once(
        self, arguments: dict[str, Any], said: str
    ) -> None:
        given: dict[str, Any] = {
            "model": TITAN,
            "region": "eu-west-1",
            "sign": unsigned,
            **arguments,
        }
        with pytest.raises(UsageError, match=said):
            BedrockEmbedder(**given)

    def test_without_botocore_the_extra_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "botocore", None)
        monkeypatch.setitem(sys.modules, "botocore.session", None)
        with pytest.raises(ImportError, match=r"pip install 'anabranch\[bedrock\]'"):
            BedrockEmbedder(TITAN, region="eu-west-1")

    def test_the_digest_is_of_region_model_and_dimensions(self) -> None:
        def digest(model: str = TITAN, region: str = "eu-west-1", **options: Any) -> str:
            return BedrockEmbedder(model, region=region, sign=unsigned, **options).digest

        assert digest() == digest(dimensions=1024, concurrency=3)
        others = [digest(COHERE), digest(region="us-east-1"), digest(dimensions=256)]
        assert len({digest(), *others}) == 4

    def test_another_model_is_refused_by_the_index(self, tmp_path: Path) -> None:
        async def main() -> None:
            one = BedrockEmbedder(TITAN, region="eu-west-1", sign=unsigned)
            async with await SqliteStore.create(tmp_path / "index", one):
                pass
            two = BedrockEmbedder(COHERE, region="eu-west-1", sign=unsigned)
            with pytest.raises(StoreMismatch, match="made with the model amazon"):
                await SqliteStore.create(tmp_path / "index", two)

        asyncio.run(main())


@pytest.mark.skipif(find_spec("botocore") is None, reason="botocore is not installed")
class TestSignatures:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name, value in {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.parametrize("model", [TITAN, COHERE, COHERE_V4])
    def test_what_is_sent_is_what_was_signed(self, model: str) -> None:
        double = BedrockDouble(checks=signature_check(ACCESS_KEY, SECRET_KEY, "eu-west-1"))
        texts = ["plain", "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n \N{PARTY POPPER}"]
        vectors = asked(
            double, model, lambda e: e.embed(chunks(*texts)), sign=None, region="eu-west-1"
        )
        assert vectors.shape[0] == 2
        assert double.headers[0]["X-Amz-Security-Token"] == TOKEN
        assert "content-type" not in double.headers[0]["Authorization"]

    def test_a_wrong_secret_is_told_and_nothing_of_it_shown(self) -> None:
        double = BedrockDouble(checks=signature_check(ACCESS_KEY, "another", "eu-west-1"))
        with pytest.raises(EmbeddingError, match="check the secret key") as caught:
            asked(
                double,
                TITAN,
                lambda e: e.embed_query("a"),
                sign=None,
                region="eu-west-1",
            )
        assert caught.value.code == "InvalidSignatureException"
        assert TOKEN not in str(caught.value)
        assert SECRET_KEY not in str(caught.value)
        assert len(double.bodies) == 1

    def test_the_region_may_come_from_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
        embedder = BedrockEmbedder(TITAN)
        expected = f"https://bedrock-runtime.ap-south-1.amazonaws.com ({TITAN})"
        assert expected in repr(embedder)
        assert SECRET_KEY not in repr(embedder)

    def test_no_region_no_credentials_and_no_profile_are_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(UsageError, match="there is no AWS region"):
            BedrockEmbedder(TITAN)
        with pytest.raises(UsageError, match="nobody"):
            BedrockEmbedder(TITAN, region="eu-west-1", profile="nobody")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(UsageError, match="there are no AWS credentials"):
            BedrockEmbedder(TITAN, region="eu-west-1")
