"""Any service that speaks OpenAI's embeddings API."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from anabranch.errors import UsageError
from anabranch.jobs import Limiter, RateLimit, Retry
from anabranch.jobs.check import check_count
from anabranch.observe import Observer
from anabranch.rag.embedders.remote import Kind, RemoteEmbedder, RequestLimits
from anabranch.rag.service import check_address, check_key, json_object

OPENAI_URL = "https://api.openai.com/v1"

# Source: OpenAI, "Create embeddings": 2,048 texts and 300,000 tokens a request, 8,192
# tokens a text. Tokens are guessed, and smaller requests run at once: so a sixth of it.
OPENAI = RequestLimits(texts=2048, tokens=50_000, text_tokens=8192)
# Source: Heroku, "Managed Inference and Agents API /v1/embeddings".
HEROKU = RequestLimits(texts=96, tokens=50_000, text_tokens=512, characters=2048)
# Text Embeddings Inference takes 32 texts unless told otherwise; others take more.
OTHERS = RequestLimits(texts=32, tokens=16_384, text_tokens=8192)

_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}


class OpenAIEmbedder(RemoteEmbedder):
    """A model behind ``/v1/embeddings``: OpenAI, Heroku, vLLM, Ollama, TEI and others.

    Texts go in requests of as many as ``limits`` allow, ``concurrency`` of them at once.
    A request that is refused for the time being (429, 5xx) or whose connection breaks is
    sent again, after as long as the service asks for. What a service's headers
    say is left of its rate limits holds requests back before they are refused.

    Use it as an async context manager. Where the length of the vectors is neither given
    nor known, opening it asks for one.

    Args:
        model: The model's name there.
        url: The service's base, such as ``http://localhost:11434/v1``.
        key: Sent as a bearer token. It is in no error and no log, and does not follow a
            redirect.
        dimensions: How long vectors shall be, for models that can shorten them. By default
            as long as the model makes them.
        limits: What a request may hold. Known for OpenAI (2,048 texts, 50,000 tokens) and
            Heroku (96 texts of 2,048 characters); for others, 32 texts and 16,384 tokens.
        input_types: What the service's ``input_type`` is of a document and of a question,
            for models that tell them apart: ``("search_document", "search_query")`` at
            Heroku, where it is the default.
        encoding: How vectors are sent: ``"base64"`` is a quarter as long and read at once;
            ``None`` leaves it to the service.
        concurrency: Requests at once.
        rate: What the service allows: tokens are guessed, and corrected by its answers.
        retry: Tries in all, or a :class:`~anabranch.jobs.Retry`; by default five.
        timeout: Seconds to wait for a connection, and for each next sign of life.
        observer: Told how many tokens were used so far.

    Raises:
        UsageError: An argument cannot be meant.
    """

    _remedies: ClassVar[Mapping[int | str, str]] = {
        400: "check the model's name, and how long its texts may be",
        401: "give a valid key",
        403: "the key may not use this model",
        404: "check the address, which often ends in /v1, and the model's name",
        413: "the service takes less in one request: give limits=",
        422: "the service may take less in one request: give limits=",
        429: "wait a while, give rate= or a lower concurrency=, or look at your quota",
        "insufficient_quota": "the quota is used up: look at your plan",
        "max_tokens_per_request": "the service takes less in one request: give limits=",
    }

    def __init__(
        self,
        model: str,
        *,
        url: str = OPENAI_URL,
        key: str | None = None,
        dimensions: int | None = None,
        limits: RequestLimits | None = None,
        input_types: tuple[str, str] | None = None,
        encoding: Literal["base64", "float"] | None = "base64",
        concurrency: int = 8,
        rate: RateLimit | Limiter | None = None,
        retry: Retry | int | None = None,
        timeout: float = 60.0,
        observer: Observer | None = None,
    ) -> None:
        address, shown, host, login = _parts(url)
        check_key(key)
        if key is not None and login is not None:
            raise UsageError(
                f"{shown} has a name and password in its address, and key= too"
            )
        if dimensions is not None:
            check_count("dimensions", dimensions)
        is_heroku = host.endswith("inference.heroku.com")
        if limits is None:
            known = {"api.openai.com": OPENAI}
            limits = HEROKU if is_heroku else known.get(host, OTHERS)
        if input_types is None and is_heroku:
            input_types = ("search_document", "search_query")
        self._secret = key or login
        self._authorization = (
            {"Authorization": f"Bearer {key}"}
            if key
            else {"Authorization": f"Basic {login}"}
            if login
            else {}
        )
        self._shortened = dimensions
        self._input_types = input_types
        self._encoding = encoding
        super().__init__(
            model,
            url=address,
            shown_url=shown,
            dimensions=dimensions or _DIMENSIONS.get(model),
            limits=limits,
            identity=("openai", shown, input_types),
            concurrency=concurrency,
            rate=rate,
            retry=retry,
            timeout=timeout,
            observer=observer,
        )

    def _body(self, texts: Sequence[str], kind: Kind) -> Mapping[str, object]:
        body: dict[str, object] = {"model": self.name, "input": list(texts)}
        if self._encoding is not None:
            body["encoding_format"] = self._encoding
        if self._shortened is not None:
            body["dimensions"] = self._shortened
        if self._input_types is not None:
            body["input_type"] = self._input_types[kind == "query"]
        return body

    async def _headers(self, body: bytes) -> Mapping[str, str]:
        return self._authorization

    def _rows(self, data: Mapping[str, Any], count: int) -> Sequence[object]:
        given = data.get("data")
        items = cast("list[object]", given) if isinstance(given, list) else []
        rows: dict[int, object] = {}
        for place, item in enumerate(items):
            found = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
            index = found.get("index", place)
            if isinstance(index, int) and 0 <= index < count:
                rows.setdefault(index, found.get("embedding"))
        # Of two with one index, one is missing.
        return [rows[index] for index in sorted(rows)] if len(items) == count else items

    def _usage(self, data: Mapping[str, Any], headers: Mapping[str, str]) -> int | None:
        usage = data.get("usage")
        found = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
        for name in ("total_tokens", "prompt_tokens"):
            value = found.get(name)
            if isinstance(value, int) and value >= 0:
                return value
        return None

    def _code(self, body: str, headers: Mapping[str, str]) -> str | None:
        error = (json_object(body) or {}).get("error")
        found = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
        code = found.get("code")
        return code if isinstance(code, str) else None

    def _scrubbed(self, words: str) -> str:
        return words.replace(self._secret, "[the key]") if self._secret else words


def _parts(url: str) -> tuple[str, str, str, str | None]:
    """Where requests go, what is shown of it, its host, and a login it held, encoded."""
    check_address(url, "an embedding service", "http://localhost:11434/v1")
    parts = urlsplit(url)
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = b64encode(pair.encode()).decode()
    path = parts.path.rstrip("/").removesuffix("/embeddings") + "/embeddings"
    place = parts.netloc.rpartition("@")[2].lower()
    shown = urlunsplit((parts.scheme, place, path, "", ""))
    address = urlunsplit((parts.scheme, place, path, parts.query, ""))
    return address, shown, parts.hostname or "", login
