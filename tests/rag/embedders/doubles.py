"""Embedding services on this machine, as their documentation describes them.

They speak over real sockets, in the loop of the test, so that virtual time passes for both
sides. Each refuses what the service is documented to refuse, in its words. A test may put
replies in front of what comes next.

Sources: OpenAI, "Create embeddings", "Error codes" and "Rate limits"; Heroku, "Managed
Inference and Agents API /v1/embeddings"; Amazon Bedrock, "InvokeModel", "Amazon Titan
Embeddings Text", "Cohere Embed v3" and "v4"; AWS, "Signature Version 4".
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib import import_module
from typing import Any
from urllib.parse import unquote

import numpy as np
from aiohttp import web

from anabranch.rag import Chunk
from anabranch.rag.types import Vectors

KEY = "sk-sesame-opens-this"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def vector_of(text: str, dimensions: int) -> Vectors:
    """What every model here makes of a text: not of unit length."""
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    eighths = np.random.default_rng(seed).integers(-999, 999, dimensions)
    return (eighths / 8).astype(np.float32)  # short in decimals


def unit(text: str, dimensions: int) -> Vectors:
    vector = vector_of(text, dimensions)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk("d", text, 0, len(text)) for text in texts]


@asynccontextmanager
async def served(handler: Handler) -> AsyncGenerator[str]:
    """The address of a server on a free port of the loopback interface."""
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    try:
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answer(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Handler:
    """A reply that a test wants: bytes as they are, anything else as JSON."""

    async def reply(request: web.Request) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        return web.Response(body=data, status=status, headers={**kind, **(headers or {})})

    return reply


async def reset(request: web.Request) -> web.StreamResponse:
    """The connection is reset instead of an answer."""
    assert request.transport is not None
    raw: socket.socket = request.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """An answer that ends before the length that it announces."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"data": [{"embedding": [0.1, ')
    assert request.transport is not None
    request.transport.close()
    return response


def late(seconds: float, then: Handler) -> Handler:
    async def reply(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(request)

    return reply


@dataclass
class Double:
    """What a double was asked, and what it answers next.

    Until ``gathers`` requests were under way at once, none is answered.
    """

    next: list[Handler] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    pause_s: float = 0.0
    gathers: int = 0
    gathered: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.most_at_once >= self.gathers:
            self.gathered.set()
        try:
            self.at.append(asyncio.get_running_loop().time())
            self.headers.append(dict(request.headers))
            data = await request.read()
            body = json.loads(data)
            self.bodies.append(body)
            if self.next:
                return await self.next.pop(0)(request)
            await self.gathered.wait()
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            return await self.answer(request, body, data)
        finally:
            self.at_once -= 1

    async def answer(
        self, request: web.Request, body: dict[str, Any], data: bytes
    ) -> web.StreamResponse:
        raise NotImplementedError


@dataclass
class OpenAIDouble(Double):
    """OpenAI's ``POST /v1/embeddings``.

    ``a_minute`` is the limit of requests, which come back evenly; headers tell of it.
    """

    key: str | None = KEY
    model: str = "text-embedding-3-small"
    dimensions: int = 8
    most_texts: int = 2048
    a_minute: int | None = None
    encodings: Sequence[str] = ("float", "base64")
    ignores_encoding: bool = False
    is_shuffled: bool = False
    full_at: float = 0.0
    refused: int = 0

    async def answer(
        self, request: web.Request, body: dict[str, Any], data: bytes
    ) -> web.StreamResponse:
        if request.path != "/v1/embeddings" or request.method != "POST":
            return openai_error(404, f"Invalid URL ({request.method} {request.path})")
        sent = request.headers.get("Authorization", "")
        if self.key is not None and sent != f"Bearer {self.key}":
            # The real one shortens the key; a careless one would not.
            shown = sent.removeprefix("Bearer ")
            return openai_error(
                401, f"Incorrect API key provided: {shown}.", code="invalid_api_key"
            )
        if body["model"] != self.model:
            return openai_error(
                404,
                f"The model `{body['model']}` does not exist or you do not have access to it.",
                code="model_not_found",
            )
        texts = body["input"]
        if len(texts) > self.most_texts or not all(texts):
            return openai_error(
                400, "'$.input' is invalid. Please check the API reference."
            )
        encoding = body.get("encoding_format", self.encodings[0])
        if encoding not in self.encodings:
            return openai_error(400, f"encoding_format: {encoding}")
        limits = self._counted()
        if limits is None:
            return openai_error(
                429,
                "Rate limit reached for requests. Please try again later.",
                code="rate_limit_exceeded",
                headers={"retry-after": str(60 // (self.a_minute or 1) + 1)},
            )
        length = body.get("dimensions", self.dimensions)
        as_base64 = encoding == "base64" and not self.ignores_encoding
        items = [
            {
                "object": "embedding",
                "index": index,
                "embedding": in_base64(vector) if as_base64 else vector.tolist(),
            }
            for index, vector in enumerate(vector_of(text, length) for text in texts)
        ]
        if self.is_shuffled:
            items.reverse()
        tokens = sum(len(text.split()) for text in texts)
        return web.json_response(
            {
                "object": "list",
                "data": items,
                "model": self.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            },
            headers=limits,
        )

    def _counted(self) -> Mapping[str, str] | None:
        """The headers of a request that is let through; ``None`` for one that is not."""
        if self.a_minute is None:
            return {}
        now = asyncio.get_running_loop().time()
        each_s = 60 / self.a_minute
        full_at = max(self.full_at, now) + each_s
        if full_at - now > 60 + 1e-6:
            self.refused += 1
            return None
        self.full_at = full_at
        return {
            "x-ratelimit-limit-requests": str(self.a_minute),
            "x-ratelimit-remaining-requests": str(int((60 - (full_at - now)) / each_s)),
            "x-ratelimit-reset-requests": f"{full_at - now:.3f}s",
        }


def in_base64(vector: Vectors) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def openai_error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    kind = "invalid_request_error" if status < 429 else "requests"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


@dataclass
class BedrockDouble(Double):
    """Bedrock's ``POST /model/{id}/invoke`` for the embedding models of Titan and Cohere.

    ``checks`` is given every request and its body, and says why its signature is not
    good, if so.
    """

    checks: Callable[[web.Request, bytes], str | None] = lambda request, data: None
    models: list[str] = field(default_factory=list)

    async def answer(
        self, request: web.Request, body: dict[str, Any], data: bytes
    ) -> web.StreamResponse:
        if (wrong := self.checks(request, data)) is not None:
            return aws_error(403, "InvalidSignatureException", wrong)
        _, start, quoted, end = request.raw_path.split("/")
        assert (start, end) == ("model", "invoke")
        assert ":" not in quoted
        model = unquote(quoted)
        self.models.append(model)
        if "titan-embed-text" in model:
            return self._titan(body, is_v2="-v2" in model)
        # Profiles here are all of that model.
        if "cohere.embed-v4" in model or "inference-profile" in model:
            return self._cohere_v4(body)
        if "cohere.embed" in model:
            return self._cohere_v3(body)
        return aws_error(
            400, "ValidationException", "The provided model identifier is invalid."
        )

    def _titan(self, body: dict[str, Any], *, is_v2: bool) -> web.Response:
        known = {"inputText", "dimensions", "normalize", "embeddingTypes"}
        if (wrong := malformed(body, known if is_v2 else {"inputText"})) is not None:
            return wrong
        text = body["inputText"]
        if len(text) > 50_000:
            return too_long("inputText", 50_000, len(text))
        length = body.get("dimensions", 1024) if is_v2 else 1536
        vector = vector_of(text, length).tolist()
        tokens = len(text.split())
        found: dict[str, Any] = {"embedding": vector, "inputTextTokenCount": tokens}
        if is_v2:
            found["embeddingsByType"] = {"float": vector}
        return web.json_response(found)

    def _cohere_v3(self, body: dict[str, Any]) -> web.Response:
        known = {"texts", "input_type", "truncate", "embedding_types"}
        if (wrong := malformed(body, known) or cohere_wrong(body, 2048)) is not None:
            return wrong
        assert body["truncate"] in ("NONE", "START", "END")
        return cohere_answer(
            body, [f"{body['input_type']}:{t}" for t in body["texts"]], 1024
        )

    def _cohere_v4(self, body: dict[str, Any]) -> web.Response:
        known = {
            "texts",
            "input_type",
            "truncate",
            "embedding_types",
            "output_dimension",
            "max_tokens",
        }
        if (wrong := malformed(body, known) or cohere_wrong(body, None)) is not None:
            return wrong
        assert body["truncate"] in ("NONE", "LEFT", "RIGHT")
        length = body.get("output_dimension", 1536)
        return cohere_answer(
            body, [f"{body['input_type']}:{t}" for t in body["texts"]], length
        )


def malformed(body: dict[str, Any], known: set[str]) -> web.Response | None:
    for name in body:
        if name not in known:
            return aws_error(
                400,
                "ValidationException",
                f"Malformed input request: #: extraneous key [{name}] is not permitted, "
                "please reformat your input and try again.",
            )
    return None


def too_long(name: str, most: int, length: int) -> web.Response:
    return aws_error(
        400,
        "ValidationException",
        f"Malformed input request: #/{name}: expected maxLength: {most}, actual: {length}, "
        "please reformat your input and try again.",
    )


def cohere_wrong(body: dict[str, Any], most: int | None) -> web.Response | None:
    if body.get("input_type") not in ("search_document", "search_query"):
        return aws_error(400, "ValidationException", "invalid input_type")
    if len(body["texts"]) > 96:
        return aws_error(
            400,
            "ValidationException",
            "Malformed input request: #/texts: expected maximum item count: 96, found: "
            f"{len(body['texts'])}, please reformat your input and try again.",
        )
    for place, text in enumerate(body["texts"]):
        if most is not None and len(text) > most:
            return too_long(f"texts/{place}", most, len(text))
    return None


def cohere_answer(body: dict[str, Any], texts: Sequence[str], length: int) -> web.Response:
    vectors = [vector_of(text, length).tolist() for text in texts]
    tokens = sum(len(text.split()) for text in body["texts"])
    is_typed = "embedding_types" in body
    return web.json_response(
        {
            "id": "d2a1",
            "embeddings": {"float": vectors} if is_typed else vectors,
            "response_type": "embeddings_by_type" if is_typed else "embeddings_floats",
            "texts": body["texts"],
        },
        headers={"x-amzn-bedrock-input-token-count": str(tokens)},
    )


def aws_error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    kind = f"{code}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    return web.json_response(
        {"message": message},
        status=status,
        headers={"x-amzn-ErrorType": kind, **(headers or {})},
    )


def failing(response: Callable[[], web.Response]) -> Handler:
    """A reply of one of the errors above."""

    async def reply(request: web.Request) -> web.StreamResponse:
        return response()

    return reply


def signature_check(
    access_key: str, secret_key: str, region: str
) -> Callable[[web.Request, bytes], str | None]:
    """What AWS does with a signed request, by botocore's own arithmetic."""
    # Any: it has no types, and is not installed everywhere.
    auth_of: Any = import_module("botocore.auth").SigV4Auth
    request_of: Any = import_module("botocore.awsrequest").AWSRequest
    credentials_of: Any = import_module("botocore.credentials").Credentials

    def check(request: web.Request, data: bytes) -> str | None:
        sent = request.headers["Authorization"]
        parts = dict(
            part.strip().split("=", 1) for part in sent.partition(" ")[2].split(",")
        )
        names = parts["SignedHeaders"].split(";")
        date = request.headers["X-Amz-Date"]
        scope = f"{access_key}/{date[:8]}/{region}/bedrock/aws4_request"
        if parts["Credential"] != scope:
            return f"Credential should be scoped to {scope}"
        rebuilt = request_of(
            "POST",
            f"http://{request.host}{request.raw_path}",
            data=data,
            headers={name: request.headers[name] for name in names if name != "host"},
        )
        rebuilt.context["timestamp"] = date
        auth = auth_of(credentials_of(access_key, secret_key), "bedrock", region)
        words = auth.string_to_sign(rebuilt, auth.canonical_request(rebuilt))
        if auth.signature(words, rebuilt) == parts["Signature"]:
            return None
        return (
            "The request signature we calculated does not match the signature you "
            "provided.\n\nThe Canonical String for this request should have been\n"
            f"'{auth.canonical_request(rebuilt)}'"
        )

    return check
