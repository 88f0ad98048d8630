"""A reranker behind a network, in the form that most services share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast

from anabranch.errors import RerankError, UsageError
from anabranch.jobs import Retry, amap
from anabranch.jobs.check import check_count, check_positive
from anabranch.rag.service import (
    MOST_ERROR_BYTES,
    check_address,
    check_key,
    open_session,
    reason,
    said,
    shortened,
)

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

RerankStyle: TypeAlias = Literal["documents", "texts"]
"""What a service calls the texts: ``"documents"`` to Cohere, Jina, Voyage and vLLM,
``"texts"`` to Text Embeddings Inference."""

# Of an answer no more is read: some repeat the texts.
MOST_ANSWER_BYTES = 1 << 26
ATTEMPTS = 3

_REMEDIES = {
    400: "check the model's name, and how many and how long texts it takes",
    401: "give a valid key",
    403: "the key may not use this model",
    404: "check the address, which often ends in /v1 or /v2, and the model's name",
    413: "give a smaller batch=",
    422: "check style=, and give a smaller batch=",
    429: "wait a while and try again, or look at your quota",
}


class HttpReranker:
    """A :class:`~anabranch.rag.Reranker` that asks a service's ``/rerank``.

    Use it as an async context manager; its connections close when the block ends. Any
    number of calls may run at once.

    Args:
        url: The service's base, such as ``https://api.jina.ai/v1``.
        model: Its name there; ``None`` where a service has only one.
        key: Sent as a bearer token, and never followed elsewhere by a redirect.
        style: What the service calls the texts.
        batch: Texts in one request. Models that look at all texts of a request together
            give scores that are comparable within one only.
        concurrency: Requests at once of one call.
        retry: Tries in all, or a :class:`~anabranch.jobs.Retry`, for throttles, failures
            of the service and broken connections.
        timeout: Seconds to wait for a connection, and for each next sign of life.

    Raises:
        UsageError: An argument cannot be meant.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        key: str | None = None,
        style: RerankStyle = "documents",
        batch: int | None = None,
        concurrency: int = 4,
        retry: Retry | int = ATTEMPTS,
        timeout: float = 30.0,
        name: str = "rerank",
    ) -> None:
        check_address(url, "a reranker", "https://api.jina.ai/v1")
        check_key(key)
        if style not in ("documents", "texts"):
            raise UsageError(f"style must be 'documents' or 'texts', not {style!r}")
        # What Text Embeddings Inference takes unless it is told otherwise.
        batch = (32 if style == "texts" else 100) if batch is None else batch
        check_count("batch", batch)
        check_count("concurrency", concurrency)
        check_positive("timeout", timeout)
        self.name = name
        self.url = url.rstrip("/").removesuffix("/rerank") + "/rerank"
        self.model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._style: RerankStyle = style
        self._batch = batch
        self._concurrency = concurrency
        self._retry = retry
        self._timeout = timeout
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = open_session("HttpReranker", self._headers, silence_s=self._timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """How well each text answers, in their order, as the service says.

        Raises:
            RerankError: The service fails, refuses, or does not answer with scores.
            RuntimeError: It was not entered with ``async with``.
        """
        if self._session is None:
            raise RuntimeError(
                "HttpReranker is not open: use it in 'async with HttpReranker(...)'"
            )

        async def ask(some: Sequence[str]) -> Sequence[float]:
            return scores_in(await self._sent(query, some), len(some), self.url)

        parts = await amap(
            ask,
            (texts[n : n + self._batch] for n in range(0, len(texts), self._batch)),
            concurrency=self._concurrency,
            retry=self._retry,
        )
        return [score for part in parts for score in part]

    async def _sent(self, query: str, texts: Sequence[str]) -> bytes:
        """What the service answers."""
        import aiohttp

        assert self._session is not None
        body: dict[str, object] = {"query": query, self._style: list(texts)}
        if self.model is not None:
            body["model"] = self.model
        if self._style == "texts":
            body["truncate"] = True  # it refuses what is too long otherwise
        response: ClientResponse | None = None
        try:
            async with self._session.post(
                self.url, json=body, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise await self._refusal(response)
                return await _read(response, MOST_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            why = reason(error, timeout=self._timeout, has_begun=response is not None)
            # Such an error holds the request with its headers, and so with the key.
            is_telling = isinstance(error, aiohttp.ClientResponseError)
            raise RerankError(f"{self.url}: {why}") from (None if is_telling else error)

    async def _refusal(self, response: ClientResponse) -> RerankError:
        status = response.status
        if location := response.headers.get("Location"):
            return RerankError(
                f"{self.url}: the server answered {status} and points to "
                f"{shortened(location)}: give that address",
                status=status,
            )
        words = said((await _read(response, MOST_ERROR_BYTES)).decode("utf-8", "replace"))
        remedy = _REMEDIES.get(status, "try again later" if status >= 500 else "")
        parts = [
            f"the server answered {status} {shortened(response.reason or '')}".rstrip(),
            words,
        ]
        sentence = ": ".join(part for part in parts if part)
        known = ("retry-after", "retry-after-ms")
        return RerankError(
            f"{self.url}: {sentence}" + (f" ({remedy})" if remedy else ""),
            status=status,
            headers={n: response.headers[n] for n in known if n in response.headers},
        )


def scores_in(body: bytes, count: int, where: str) -> Sequence[float]:
    """The score of each text in an answer, by the index that stands beside it.

    The answer is a list of objects, or has one as ``results`` or ``data``; a score is
    ``relevance_score`` or ``score``.

    Raises:
        RerankError: It is no such answer, or does not have each text once.
    """
    try:
        data: object = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        named = cast("Mapping[str, object]", data)
        data = named.get("results", named.get("data"))
    items = cast("list[object]", data) if isinstance(data, list) else []
    pairs = [_pair(item) for item in items]
    if not pairs or any(pair is None for pair in pairs):
        shown = shortened(body[:MOST_ERROR_BYTES].decode("utf-8", "replace"))
        raise RerankError(
            f"{where}: the answer is not that of a reranker: {shown!r}; check the address"
        )
    scores = dict(pair for pair in pairs if pair is not None)
    if len(pairs) != count or set(scores) != set(range(count)):
        raise RerankError(
            f"{where}: asked about {count} texts, the service gave {len(pairs)} scores, "
            f"of {len(scores)} texts: if it takes fewer at once, give a smaller batch="
        )
    return [scores[place] for place in range(count)]


def _pair(item: object) -> tuple[int, float] | None:
    # Any: what a server sends may be anything.
    found = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    index, score = found.get("index"), found.get("relevance_score", found.get("score"))
    if isinstance(index, bool) or not isinstance(index, int):
        return None
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    try:
        number = float(score)
    except OverflowError:
        return None
    # JSON has no NaN and no infinity, and no ranking has a place for them.
    return (index, number) if math.isfinite(number) else None


async def _read(response: ClientResponse, most_bytes: int) -> bytes:
    """A body, or so much of it."""
    whole = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        whole += part
        if len(whole) >= most_bytes:
            break
    return bytes(whole)
