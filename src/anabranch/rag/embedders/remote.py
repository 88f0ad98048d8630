"""Models behind a network: requests of many texts, several at once, in order.

What all services share is here: texts in requests within the service's limits, a pool of
jobs that sends them, the pace that answers ask for, retries, and the checks of what comes
back. A service is a subclass that knows its request, its answer and its codes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np

from anabranch.clock import wall_time
from anabranch.errors import EmbeddingError, UsageError
from anabranch.jobs import Limiter, Pool, RateLimit, Retry
from anabranch.jobs.check import check_count, check_positive
from anabranch.jobs.flight import SingleFlight
from anabranch.observe import Observer, Observers
from anabranch.rag.embedders.checked import unit_vectors
from anabranch.rag.embedders.pace import Pace
from anabranch.rag.service import (
    MOST_ERROR_BYTES,
    json_object,
    message,
    open_session,
    reason,
    said,
    shortened,
)
from anabranch.rag.types import Chunk, Vectors
from anabranch.retry import USED_UP, is_transient, retry_after_s

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

Kind: TypeAlias = Literal["document", "query"]
"""What a text is to the search: some models give the two other vectors."""

# Times in all; with the default back-off the last one starts some 8 s after the first.
ATTEMPTS = 5
# Of an answer no more is read: the vectors of 2,048 texts in decimals are 130 MB.
MOST_ANSWER_BYTES = 1 << 28
_READ_BYTES = 1 << 16
# The usual length of a chunk, for guessing how many fill a request.
_CHUNK_TOKENS = 256
# What is sent to learn how long vectors are.
_PROBE = "dimensions"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a service takes.

    Attributes:
        texts: In one request, at most.
        tokens: In one request, at most: those of a chunk where they are counted, else
            a quarter of its UTF-8 bytes.
        text_tokens: What the model reads of one text.
        characters: What is sent of one text; the rest is cut off. ``None`` for all of it.
    """

    texts: int
    tokens: int
    text_tokens: int
    characters: int | None = None

    def __post_init__(self) -> None:
        for name in ("texts", "tokens", "text_tokens"):
            check_count(name, getattr(self, name))
        if self.characters is not None:
            check_count("characters", self.characters)


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of one request."""

    texts: Sequence[str] = field(repr=False)
    tokens: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost. ``total_tokens`` corrects what a rate limit was charged."""

    total_tokens: int | None


@dataclass(frozen=True, slots=True)
class _Answer:
    vectors: Vectors = field(repr=False)
    usage: Usage


class RemoteEmbedder(ABC):
    """An :class:`~anabranch.rag.Embedder` that asks a service.

    Use it as an async context manager: its connections close when the block ends. Any
    number of calls may run at once; the limits hold for all of them together. Questions
    that are equal and asked at the same time are sent once. Nothing is kept beyond that:
    a pipeline looks vectors up in its store before it asks for them.

    Attributes:
        name: The model.
        limits: What a request may hold.
        max_tokens: What the model reads of one text.
        batch_tokens: Tokens for twice as many requests as may run at once.
        requests: How many requests were answered with vectors.
        tokens: How many tokens the service says it has read.
    """

    _remedies: ClassVar[Mapping[int | str, str]] = {}

    def __init__(
        self,
        model: str,
        *,
        url: str,
        shown_url: str,
        dimensions: int | None,
        limits: RequestLimits,
        identity: Sequence[object],
        concurrency: int,
        rate: RateLimit | Limiter | None,
        retry: Retry | int | None,
        timeout: float,
        observer: Observer | None,
    ) -> None:
        if not model:
            raise UsageError("the model's name is empty")
        check_count("concurrency", concurrency)
        check_positive("timeout", timeout)
        self.name = model
        self.limits = limits
        self.max_tokens = limits.text_tokens
        filled = min(limits.tokens, limits.texts * _CHUNK_TOKENS)
        self.batch_tokens = 2 * concurrency * filled
        self.requests = 0
        self.tokens = 0
        self._url = url
        self._where = f"{shown_url} ({model})"
        self._dimensions = dimensions
        self._identity = (*identity, model, limits.characters)
        self._digest: str | None = None
        self._timeout = timeout
        self._concurrency = concurrency
        self._rate = Limiter(rate) if isinstance(rate, RateLimit) else rate
        self._retry = Retry(ATTEMPTS, on=is_worth_another_try) if retry is None else retry
        self._observer = Observers(*filter(None, [observer]))
        self._pace = Pace()
        self._flights: SingleFlight[Vectors] = SingleFlight()
        self._session: ClientSession | None = None
        self._pool: Pool | None = None
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}>"

    @property
    def dimensions(self) -> int:
        """Length of a vector.

        Raises:
            UsageError: It is neither given nor known yet: the model has not been asked.
        """
        if self._dimensions is None:
            raise UsageError(
                f"how long the vectors of {self.name} are is not known before it is "
                "asked: give dimensions=, or open the embedder first with 'async with'"
            )
        return self._dimensions

    @property
    def digest(self) -> str:
        """Of the service's address, the model, and what else decides a vector.

        Set it, to that of an index, when the same model has moved to another address.

        Raises:
            UsageError: The dimensions are not known yet.
        """
        if self._digest is not None:
            return self._digest
        facts = json.dumps([*self._identity, self.dimensions])
        return f"remote-{blake2b(facts.encode(), digest_size=16).hexdigest()}"

    @digest.setter
    def digest(self, known: str) -> None:
        self._digest = known

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self._session = await opening.enter_async_context(
                open_session(
                    type(self).__name__,
                    {"Accept": "application/json"},
                    connections=self._concurrency,
                    silence_s=self._timeout,
                )
            )
            pool = Pool(concurrency=self._concurrency, retry=self._retry, rate=self._rate)
            self._pool = await opening.enter_async_context(pool)
            if self._dimensions is None:
                await self._embed([_PROBE], [1], "query")
            self._stack = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, trace)
        finally:
            self._session = self._pool = None

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        """One unit vector a chunk, in their order; a blank text has a row of zeros.

        Raises:
            EmbeddingError: The service fails, refuses, or does not answer with vectors.
            RuntimeError: It was not entered with ``async with``.
        """
        texts = [chunk.text for chunk in chunks]
        return await self._embed(texts, [_tokens(chunk) for chunk in chunks], "document")

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The unit vectors of several questions, in as few requests as they fit in.

        Raises:
            EmbeddingError: As for :meth:`embed`.
            RuntimeError: It was not entered with ``async with``.
        """
        return await self._embed(texts, [_guessed(text) for text in texts], "query")

    async def embed_query(self, text: str) -> Vectors:
        """The unit vector of a question.

        Raises:
            EmbeddingError: As for :meth:`embed`.
            RuntimeError: It was not entered with ``async with``.
        """

        async def ask() -> Vectors:
            return await self._embed([text], [_guessed(text)], "query")

        vectors = await self._flights.do(text, ask)
        vector: Vectors = vectors[0].copy()
        return vector

    async def _embed(
        self, texts: Sequence[str], tokens: Sequence[int], kind: Kind
    ) -> Vectors:
        if self._pool is None:
            name = type(self).__name__
            raise RuntimeError(f"{name} is not open: use it in 'async with {name}(...)'")
        sent = [text[: self.limits.characters] for text in texts]
        # No service takes an empty text, and each is paid for once.
        first: dict[str, int] = {}
        for place, text in enumerate(sent):
            if text.strip():
                first.setdefault(text, place)
        if not first and self._dimensions is None:
            first[_PROBE] = 0
        batches = grouped(list(first), [tokens[n] for n in first.values()], self.limits)
        asked = (Batch(group, cost, kind) for group, cost in batches)
        cost = None if self._rate is None else _cost
        answers = await self._pool.map(self._ask, asked, cost=cost)
        rows = np.zeros((len(first) + 1, self.dimensions), np.float32)
        if answers:
            np.concatenate([answer.vectors for answer in answers], out=rows[:-1])
        row_of = {text: row for row, text in enumerate(first)}
        # The last row is that of blank texts.
        vectors: Vectors = rows[[row_of.get(text, -1) for text in sent]]
        return vectors

    async def _ask(self, batch: Batch) -> _Answer:
        # What it waits for is time, and other answers may move it: nothing to be woken by.
        while (wait_s := self._pace.wait_s(_now(), batch.tokens)) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait_s)
        number = self._pace.start(_now(), batch.tokens)
        try:
            data, headers = await self._sent(batch, number)
        finally:
            self._pace.ended(number)
        used = self._usage(data, headers)
        vectors = self._checked(self._rows(data, len(batch.texts)), batch.texts)
        self.requests += 1
        self.tokens += used or 0
        self._observer.counted("tokens", self.tokens)
        return _Answer(vectors, Usage(used))

    async def _sent(
        self, batch: Batch, number: int
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """What the service answers to a request."""
        import aiohttp
        from yarl import URL

        assert self._session is not None
        body = json.dumps(self._body(batch.texts, batch.kind)).encode()
        headers = await self._headers(body)
        response: ClientResponse | None = None
        failure: Exception
        try:
            async with self._session.post(
                # As it was signed, and not tidied up.
                URL(self._url, encoded=True),
                data=body,
                headers={**headers, "Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                self._pace.answered(number, _now(), response.headers)
                if response.status != HTTPStatus.OK:
                    raise await self._refusal(response)
                answer = await _read(response, MOST_ANSWER_BYTES)
                return self._object(answer), response.headers
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            failure = error
        why = reason(failure, timeout=self._timeout, has_begun=response is not None)
        # Such an error holds the request with its headers, and so with the key.
        is_telling = isinstance(failure, aiohttp.ClientResponseError)
        raise EmbeddingError(f"{self._where}: {why}") from (None if is_telling else failure)

    async def _refusal(self, response: ClientResponse) -> EmbeddingError:
        status = response.status
        if location := response.headers.get("Location"):
            return EmbeddingError(
                f"{self._where}: the server answered {status} and points to "
                f"{shortened(location)}: give that address",
                status=status,
            )
        body = (await _read(response, MOST_ERROR_BYTES)).decode("utf-8", "replace")
        code = self._code(body, response.headers)
        words = self._scrubbed(said(body))
        remedy = self._remedies.get(code or "") or self._remedies.get(status)
        if remedy is None and status >= 500:
            remedy = "try again later"
        named = shortened(code if code and code not in words else response.reason or "")
        parts = [f"the server answered {status} {named}".rstrip(), words]
        sentence = ": ".join(part for part in parts if part)
        known = ("retry-after", "retry-after-ms")
        headers = {n: response.headers[n] for n in known if n in response.headers}
        error = EmbeddingError(
            f"{self._where}: {sentence}" + (f" ({remedy})" if remedy else ""),
            status=status,
            code=code,
            headers=headers,
        )
        if (asked_s := retry_after_s(error, wall_time())) is not None:
            self._pace.refused(_now(), asked_s)
        return error

    def _object(self, body: bytes) -> dict[str, Any]:
        data = json_object(body)
        if data is None:
            shown = self._scrubbed(said(body.decode("utf-8", "replace")))
            raise EmbeddingError(
                f"{self._where}: the answer is not that of an embedding model: {shown!r}; "
                "check the address"
            )
        if error := data.get("error"):
            raise EmbeddingError(
                f"{self._where}: the model failed: {self._scrubbed(message(error))}"
            )
        return data

    def _checked(self, rows: Sequence[object], texts: Sequence[str]) -> Vectors:
        """The vectors of an answer, of unit length."""
        if len(rows) != len(texts):
            raise EmbeddingError(
                f"{self._where}: asked for the vectors of {len(texts)} texts, the service "
                f"answered with {len(rows)}: it may take fewer texts in one request"
            )
        vectors = _table(rows)
        if vectors is None:
            raise EmbeddingError(
                f"{self._where}: the answer has no vectors, or they are of several lengths"
            )
        length = len(vectors[0])
        if self._dimensions is None:
            self._dimensions = length
        if length != self.dimensions:
            raise EmbeddingError(
                f"{self._where}: the answer has vectors of {length} numbers, not of "
                f"{self.dimensions}: give dimensions={length}, or another model"
            )
        return unit_vectors(vectors, texts, dimensions=length, of=self._where)

    @abstractmethod
    def _body(self, texts: Sequence[str], kind: Kind) -> Mapping[str, object]:
        """The request for some texts."""

    @abstractmethod
    async def _headers(self, body: bytes) -> Mapping[str, str]:
        """What says who asks."""

    @abstractmethod
    def _rows(self, data: Mapping[str, Any], count: int) -> Sequence[object]:
        """The vectors in an answer, in the order of the texts, unchecked."""

    @abstractmethod
    def _usage(self, data: Mapping[str, Any], headers: Mapping[str, str]) -> int | None:
        """How many tokens the service has read."""

    @abstractmethod
    def _code(self, body: str, headers: Mapping[str, str]) -> str | None:
        """The service's own word for a refusal."""

    @abstractmethod
    def _scrubbed(self, words: str) -> str:
        """What a service said, without what is nobody's business."""


def is_worth_another_try(error: BaseException) -> bool:
    """Whether the same request may well succeed later; not if a quota is used up."""
    return getattr(error, "code", None) not in USED_UP and is_transient(error)


def grouped(
    texts: Sequence[str], tokens: Sequence[int], limits: RequestLimits
) -> Iterator[tuple[Sequence[str], int]]:
    """Consecutive texts with their tokens, as many as a request may hold.

    A text of more tokens than that is alone.
    """
    group: list[str] = []
    cost = 0
    for text, more in zip(texts, tokens, strict=True):
        if group and (len(group) == limits.texts or cost + more > limits.tokens):
            yield group, cost
            group, cost = [], 0
        group.append(text)
        cost += more
    if group:
        yield group, cost


async def _read(response: ClientResponse, most_bytes: int) -> bytes:
    """A body, or so much of it."""
    whole = bytearray()
    async for part in response.content.iter_chunked(_READ_BYTES):
        whole += part
        if len(whole) >= most_bytes:
            break
    return bytes(whole)


def _cost(batch: Batch) -> int:
    return batch.tokens


def _now() -> float:
    return asyncio.get_running_loop().time()


def _table(rows: Sequence[object]) -> Vectors | None:
    """The rows of an answer as numbers, if they are such, of one length."""
    try:
        with np.errstate(over="ignore"):
            table: Vectors = np.array([_numbers(row) for row in rows], np.float32)
    except (ValueError, TypeError, OverflowError):
        return None
    return table if table.ndim == 2 and table.size else None


def _numbers(row: object) -> object:
    """A vector as numbers: base64 of little-endian float32 is read, a list left."""
    if not isinstance(row, str):
        return row
    try:
        data = base64.b64decode(row, validate=True)
    except binascii.Error as error:
        raise ValueError("is not base64") from error
    return np.frombuffer(data, "<f4")


def _tokens(chunk: Chunk) -> int:
    return _guessed(chunk.text) if chunk.tokens is None else len(chunk.tokens)


def _guessed(text: str) -> int:
    # Bytes and not characters: a language of three bytes a character has more tokens too.
    return len(text.encode("utf-8", "surrogatepass")) // 4 + 1
