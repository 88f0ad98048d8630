"""Rerankers behind a network, over real sockets.

Sources: Cohere, "Rerank (v2)"; Jina AI, "Reranker API"; vLLM, "OpenAI-Compatible Server,
Re-rank API"; Hugging Face, "Text Embeddings Inference", POST /rerank.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from anabranch.errors import RerankError, UsageError
from anabranch.jobs import Retry
from anabranch.rag import FusionRetriever, HttpReranker
from anabranch.rag.retrievers.http_reranker import scores_in
from anabranch.testing import run_virtual
from tests.rag.embedders.doubles import Handler, answer, cut, reset, served
from tests.rag.retrievers.fakes import Fixed, hit

KEY = "sk-sesame-opens-this"
TEXTS = [f"text of {n} words{' more' * n}" for n in range(70)]


class Service:
    """A text is as relevant as it is long. Results come best first, as they all do.

    Args:
        style: ``"documents"`` as Cohere, Jina and vLLM; ``"texts"`` as TEI.
        most: Texts in one request; more are refused as TEI refuses them.
    """

    def __init__(self, style: str = "documents", *, most: int = 1000) -> None:
        self.style = style
        self.most = most
        self.first: list[Handler] = []
        self.requests: list[dict[str, Any]] = []
        self.at_once = 0
        self.most_at_once = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        if self.first:
            return await self.first.pop(0)(request)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        return await self._answer(request, body)

    async def _answer(
        self, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        tei = self.style == "texts"
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"message": "invalid api token"}, status=401)
        if not request.path.endswith("/rerank") or request.method != "POST":
            return web.Response(status=404)
        if self.style not in body:
            detail = f"missing field `{self.style}`"
            return web.Response(text=f"Failed to deserialize: {detail}", status=422)
        texts = body[self.style]
        if len(texts) > self.most:
            error = f"batch size {len(texts)} > maximum allowed batch size {self.most}"
            return web.json_response(
                {"error": error, "error_type": "Validation"}, status=413
            )
        if not tei and body.get("model") != "rerank-v3.5":
            return web.json_response({"message": "model not found"}, status=404)
        score = "score" if tei else "relevance_score"
        rows = [{"index": n, score: len(text) / 1000} for n, text in enumerate(texts)]
        rows.sort(key=lambda row: -row[score])
        return web.json_response(rows if tei else {"id": "x", "results": rows})


def asked(
    service: Service,
    ask: Callable[[HttpReranker], Awaitable[Any]],
    path: str = "/v2",
    **options: Any,
) -> Any:
    """What ``ask`` gives, of a reranker that asks the service."""

    async def main() -> Any:
        async with served(service.handle) as url:
            given = {"key": KEY, "model": "rerank-v3.5", **options}
            async with HttpReranker(url + path, **given) as reranker:
                return await ask(reranker)

    return run_virtual(main())


def scores(texts: list[str]) -> Callable[[HttpReranker], Awaitable[Any]]:
    return lambda reranker: reranker.scores("a question", texts)


@pytest.mark.parametrize("path", ["/v2", "/v1/rerank", "/rerank/", ""])
def test_each_text_gets_its_score_in_its_place(path: str) -> None:
    service = Service()
    found = asked(service, scores(TEXTS), path)
    assert found == [len(text) / 1000 for text in TEXTS]
    [request] = service.requests
    assert request == {
        "query": "a question", "documents": TEXTS, "model": "rerank-v3.5",
    }  # fmt: skip


def test_text_embeddings_inference_is_asked_in_batches_that_it_takes() -> None:
    service = Service("texts", most=32)
    found = asked(service, scores(TEXTS), "", style="texts", model=None)
    assert found == [len(text) / 1000 for text in TEXTS]
    assert [len(request["texts"]) for request in service.requests] == [32, 32, 6]
    assert all(request["truncate"] is True for request in service.requests)
    assert not any("model" in request for request in service.requests)
    assert service.most_at_once == 3


def test_requests_at_once_are_bounded_and_none_is_sent_for_nothing() -> None:
    service = Service()
    asked(service, scores(TEXTS), batch=5, concurrency=2)
    assert len(service.requests) == 14
    assert service.most_at_once == 2
    assert asked(service, scores([])) == []
    assert len(service.requests) == 14


@pytest.mark.parametrize(
    "first",
    [
        answer({"message": "slow down"}, 429, {"Retry-After": "7"}),
        answer(b"<html>Bad gateway</html>", 502),
        reset,
        cut,
    ],
)
def test_what_may_pass_is_tried_again(first: Handler) -> None:
    service = Service()
    service.first = [first]
    assert asked(service, scores(["one"])) == [0.003]
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"key": "wrong"},
            "answered 401 Unauthorized: invalid api token (give a valid key)",
        ),
        ({"model": "other"}, "answered 404 Not Found: model not found (check the address"),
        ({"style": "texts"}, "answered 422 Unprocessable Entity: Failed to deserialize"),
    ],
)
def test_a_refusal_is_said_at_once_in_the_services_words(options, sentence) -> None:
    service = Service()
    with pytest.raises(RerankError) as caught:
        asked(service, scores(["one"]), **options)
    assert sentence in str(caught.value)
    assert len(service.requests) == 1
    assert caught.value.status in (401, 404, 422)
    assert KEY not in str(caught.value)


def test_a_batch_that_is_too_large_is_refused_with_what_to_do() -> None:
    with pytest.raises(RerankError, match=r"batch size 4 \(give a smaller"):
        asked(Service("texts", most=4), scores(TEXTS), style="texts")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[" * 100_000,
        json.dumps({"results": []}).encode(),
        json.dumps({"results": "many"}).encode(),
        json.dumps({"results": [{"index": "0", "relevance_score": 1}]}).encode(),
        json.dumps({"results": [{"index": 0, "relevance_score": "high"}]}).encode(),
        json.dumps({"results": [{"index": 0, "relevance_score": True}]}).encode(),
        json.dumps([0.5, 0.25]).encode(),
        b'[{"index": 0, "score": NaN}]',
        b'[{"index": 0, "score": 1e999}]',
        b'[{"index": 0, "score": 1%s}]' % (b"0" * 400),
    ],
)
def test_what_is_no_reranking_is_refused(body: bytes) -> None:
    with pytest.raises(RerankError, match="the answer is not that of a reranker"):
        scores_in(body, 1, "http://host/rerank")


@pytest.mark.parametrize("indices", [[0], [0, 0], [0, 2], [0, 1, 2], [-1, 0]])
def test_texts_without_a_score_and_scores_without_a_text_are_refused(indices) -> None:
    rows = [{"index": index, "score": 0.5} for index in indices]
    with pytest.raises(RerankError, match="asked about 2 texts, the service gave"):
        scores_in(json.dumps({"data": rows}).encode(), 2, "http://host/rerank")


def test_a_service_that_does_not_answer_costs_the_order_and_no_more() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    async def ask(reranker: HttpReranker) -> None:
        parts = [Fixed("a", [hit(1, "short"), hit(2, "much longer")])]
        fusion = FusionRetriever(parts, rerank=reranker, timeout=5)
        fused = await fusion.fuse("a question")
        assert [each.key for each in fused.hits] == [1, 2]
        assert str(fused.failures["rerank"]) == "no answer within 5 s"
        assert [each.key for each in await fusion.retrieve("a question")] == [2, 1]

    service = Service()
    service.first = [silent]
    asked(service, ask)


def test_a_silence_is_an_error_with_its_length() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    service = Service()
    service.first = [silent]
    with pytest.raises(RerankError, match="no sign of life for 3 s"):
        asked(service, scores(["one"]), timeout=3.0, retry=Retry(1))


def test_a_redirect_is_not_followed_with_the_key() -> None:
    service = Service()
    service.first = [answer({}, 307, {"Location": "http://elsewhere/rerank"})]
    with pytest.raises(RerankError, match="points to http://elsewhere/rerank: give that"):
        asked(service, scores(["one"]))


def test_it_is_used_open_and_with_arguments_that_can_be_meant() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        asyncio.run(HttpReranker("http://host").scores("q", ["t"]))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"url": "host"}, "is not the address of a reranker"),
        ({"style": "words"}, "style must be 'documents' or 'texts'"),
        ({"batch": 0}, "batch must be"),
        ({"key": "a\nb"}, "characters that no key has"),
        ({"timeout": 0}, "timeout must be"),
    ]
    for options, message in refused:
        given: Any = {"url": "http://host", **options}
        with pytest.raises(UsageError, match=message):
            HttpReranker(given.pop("url"), **given)
