"""Solr over HTTP, with the words that Solr's users know.

Everything is sent by POST with a JSON body: a vector in an address would be longer than
Solr's server takes. Parameters are never expanded as macros (``${...}``), which Solr
otherwise does in the whole text of a request before it reads it, users' words included.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from anabranch.errors import SolrError, UsageError
from anabranch.rag.service import MOST_ERROR_BYTES, check_address, open_session, reason
from anabranch.rag.solr.replies import answer, entry, refusal
from anabranch.retry import Retry

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

Json: TypeAlias = Mapping[str, Any]
Commit: TypeAlias = Literal["hard", "soft"] | None
"""When what is written can be found: ``"hard"`` and ``"soft"`` at once, and a hard commit
is also safe from a loss of power; ``None`` whenever Solr commits of its own accord."""

MOST_BATCH_BYTES: Final = 4 << 20
# Above this, JSON is read and written in a thread.
_MOST_LOOP_BYTES: Final = 1 << 16

# Solr would send every vector that it is asked about back with the answer.
_ANSWER: Final = {"wt": "json", "echoParams": "none"}
_SENT_NOTHING: Final = frozenset({429, 503})
_IN_BETWEEN: Final = frozenset({502, 504})


class SolrClient:
    """A core or a collection of an Apache Solr, 9.1 or later.

    Use it as an async context manager; its connections close when the block ends. Any
    number of calls may run at once. A call that is cancelled closes its connection.

    Tried again are connections that could not be made, 429 and 503, which Solr answers
    before it does anything, after the time that ``Retry-After`` asks for; and, of calls
    that may safely happen twice, connections that broke, 502 and 504. Reading may, and so
    may adding whole documents and deleting; an atomic update or one with ``_version_``
    may not. What took too long is never tried again.

    Args:
        url: Such as ``http://localhost:8983/solr/NAME``.
        auth: User and password, for Solr's basic authentication.
        timeout: Seconds that one answer may take, and each further try.
        retry: How many tries in all, or when and how.
        connections: At most so many at once; further calls wait for one.
        max_answer_bytes: An answer larger than this is an error.

    Raises:
        UsageError: An argument cannot be meant.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: tuple[str, str] | None = None,
        timeout: float = 30.0,
        retry: int | Retry = 3,
        connections: int = 16,
        max_answer_bytes: int = 64 << 20,
    ) -> None:
        check_address(url, "a Solr", "http://localhost:8983/solr/NAME")
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(
                "Solr's address is given without a user and without '?' and '#': the user "
                "and the password go into auth="
            )
        if timeout <= 0 or connections < 1 or max_answer_bytes < 1:
            raise UsageError("timeout, connections and max_answer_bytes must be above 0")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._headers = {} if auth is None else {"Authorization": _basic(*auth)}
        self._retry = retry if isinstance(retry, Retry) else Retry(retry)
        self._connections = connections
        self._max_answer_bytes = max_answer_bytes
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = open_session(
            "SolrClient", self._headers, connections=self._connections
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- reading

    async def select(
        self,
        q: str = "*:*",
        *,
        fq: Sequence[str] = (),
        fl: Sequence[str] = (),
        rows: int | None = None,
        start: int | None = None,
        sort: str | None = None,
        handler: str = "/select",
        params: Json | None = None,
    ) -> Json:
        """Solr's whole answer to a query: ``answer["response"]["docs"]`` is what it found.

        A query is a program in Solr's language: build it with
        :mod:`anabranch.rag.solr.queries`, or hand over what users wrote as a parameter
        that the query refers to, ``q="{!edismax v=$words}", params={"words": words}``.

        Args:
            q: The query.
            fq: Filters, all of which must hold.
            fl: The fields to return; all stored ones by default.
            rows: How many documents at most; 10 if nobody says otherwise.
            start: How many to skip; use ``cursorMark`` to go deep.
            sort: Such as ``"score desc, id asc"``.
            handler: The path of the request handler.
            params: Any other parameters of Solr's.

        Raises:
            SolrError: Solr cannot be reached, refuses, or takes too long.
        """
        body: dict[str, Any] = {"query": q, "params": {**_ANSWER, **(params or {})}}
        if fq:
            body["filter"] = list(fq)
        if fl:
            body["fields"] = list(fl)
        counts = {"limit": rows, "offset": start, "sort": sort}
        body |= {name: value for name, value in counts.items() if value is not None}
        # Macros are expanded in the body's text: where no ${ is, there is nothing to do,
        # even if the handler's configuration insists on expanding.
        text = json.dumps(body).replace("$", "\\u0024")
        return await self._call("POST", handler, text, {"expandMacros": "false"})

    async def get(self, ids: Sequence[str], *, fl: Sequence[str] = ()) -> Sequence[Json]:
        """The documents with these ids, committed or not, in no promised order."""
        if not ids:
            return []
        form = [("id", one) for one in ids] + [("expandMacros", "false"), ("wt", "json")]
        if fl:
            form.append(("fl", ",".join(fl)))
        found = await self._call("POST", "/get", form)
        if "response" in found:
            docs: Sequence[Json] = entry(found["response"], "docs") or []
            return docs
        return [found["doc"]] if found.get("doc") else []

    async def ping(self) -> None:
        """Nothing, if Solr is there and the collection answers.

        Raises:
            SolrError: It does not.
        """
        found = await self._call("GET", "/admin/ping", None, {"wt": "json"})
        if found.get("status") != "OK":
            raise SolrError(f"{self.url}: the ping says {found.get('status')!r}, not 'OK'")

    # -- writing

    async def add(
        self,
        docs: Sequence[Json],
        *,
        commit: Commit = None,
        commit_within: float | None = None,
        overwrite: bool = True,
    ) -> None:
        """Add documents, or change some by atomic updates such as ``{"inc": 1}``.

        They are sent in their order, some megabytes at a time. A request fails as a whole
        at its first bad document, but what came before that one stays.

        Args:
            docs: Fields and values. One with ``_version_`` is only written if the stored
                version is this one; 1: if there is one; -1: if there is none.
            commit: See :data:`Commit`. It takes place after the last.
            commit_within: Seconds after which they can be found, at the latest.
            overwrite: Replace what has the same id; without, ids may occur twice.

        Raises:
            SolrError: Solr refuses; with ``status`` 409 another version is stored.
        """
        can_repeat = overwrite and not any(map(_is_conditional, docs))
        params = _commit_within(commit_within)
        if not overwrite:
            params["overwrite"] = "false"
        for body in await asyncio.to_thread(lambda: list(_batches(docs))):
            await self._call("POST", "/update", body, params, can_repeat=can_repeat)
        await self._commit(commit)

    async def delete_by_id(
        self,
        ids: Sequence[str],
        *,
        commit: Commit = None,
        commit_within: float | None = None,
    ) -> None:
        """Delete the documents with these ids, as far as there are any."""
        if ids:
            await self.update(
                [("delete", list(ids))], commit=commit, commit_within=commit_within
            )

    async def delete_by_query(self, query: str, *, commit: Commit = None) -> None:
        """Delete every document that a query finds.

        Solr knows no ``commitWithin`` here: the deletion shows at the next commit.
        """
        await self.update([("delete", {"query": query})], commit=commit)

    async def update(
        self,
        commands: Sequence[tuple[str, Any]],
        *,
        commit: Commit = None,
        commit_within: float | None = None,
    ) -> None:
        """Several commands in one request and in this order.

        Args:
            commands: Such as ``("add", {"doc": {...}})``, ``("delete", ["id"])``.
            commit: See :data:`Commit`.
            commit_within: Seconds; not heeded by a deletion by query.
        """
        can_repeat = not any(
            name == "add" and _is_conditional(body.get("doc", {}))
            for name, body in commands
        )
        # One object with repeated keys, which is how Solr is given a sequence.
        text = ",".join(f"{json.dumps(name)}:{json.dumps(body)}" for name, body in commands)
        params = _commit_within(commit_within)
        await self._call("POST", "/update", f"{{{text}}}", params, can_repeat=can_repeat)
        await self._commit(commit)

    async def commit(self, *, soft: bool = False) -> None:
        """Let everything that was written be found; durably, unless ``soft``."""
        await self._commit("soft" if soft else "hard")

    async def _commit(self, commit: Commit) -> None:
        if commit is not None:
            options = {"softCommit": commit == "soft", "waitSearcher": True}
            await self._call("POST", "/update", json.dumps({"commit": options}))

    # -- the schema

    async def schema(self) -> Json:
        """The collection's schema: ``fields``, ``dynamicFields``, ``fieldTypes``, ..."""
        found = await self._call("GET", "/schema", None, {"wt": "json"})
        schema: Json = found.get("schema") or {}
        return schema

    async def change_schema(self, commands: Sequence[tuple[str, Json]]) -> None:
        """Change the schema, with all of the commands or none.

        Args:
            commands: Such as ``("add-field", {"name": "year", "type": "pint"})``,
                ``("add-field-type", {"name": "vector_384", "class":
                "solr.DenseVectorField", "vectorDimension": 384})``, ``("replace-field",
                ...)``, ``("delete-field", ...)``, ``("add-dynamic-field", ...)``.

        Raises:
            SolrError: Solr refuses; its ``msg`` names each command that failed.
        """
        if commands:
            text = ",".join(
                f"{json.dumps(name)}:{json.dumps(body)}" for name, body in commands
            )
            await self._call("POST", "/schema", f"{{{text}}}", can_repeat=False)

    # -- requests

    async def _call(
        self,
        method: str,
        path: str,
        body: str | Sequence[tuple[str, str]] | None,
        params: Mapping[str, str] | None = None,
        *,
        can_repeat: bool = True,
    ) -> dict[str, Any]:
        """The answer to a request that is sent until it is answered or given up."""
        session = self._session
        if session is None:
            raise RuntimeError(
                "SolrClient is not open: use it in 'async with SolrClient(...)'"
            )
        began = time.monotonic()
        attempt = 1
        while True:
            try:
                return await self._once(session, method, path, body, params)
            except SolrError as error:
                if not _may_repeat(error, can_repeat=can_repeat):
                    raise
                delay_s = self._retry.delay(
                    attempt, error, time.monotonic() - began, time.time()
                )
                if delay_s is None:
                    raise
            attempt += 1
            await asyncio.sleep(delay_s)

    async def _once(
        self,
        session: ClientSession,
        method: str,
        path: str,
        body: str | Sequence[tuple[str, str]] | None,
        params: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        import aiohttp

        url = self.url + path
        content: dict[str, Any] = {}
        if isinstance(body, str):
            data = body.encode()
            content = {
                # aiohttp sends what it is given as bytes in one go, and a file by pieces.
                "data": data if len(data) < _MOST_LOOP_BYTES else io.BytesIO(data),
                "headers": {"Content-Type": "application/json"},
            }
        elif body is not None:
            content = {"data": body}
        has_begun = False
        try:
            async with (
                asyncio.timeout(self.timeout),
                session.request(
                    method, url, params=params, allow_redirects=False, **content
                ) as response,
            ):
                has_begun = True
                return await self._read(url, response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, TimeoutError):
                why = f"no answer within {self.timeout:g} s: try again, or wait longer"
            else:
                why = reason(error, timeout=self.timeout, has_begun=has_begun)
            raise SolrError(f"{url}: {why}") from error

    async def _read(self, url: str, response: ClientResponse) -> dict[str, Any]:
        if response.status != HTTPStatus.OK:
            said = await response.content.read(MOST_ERROR_BYTES)
            raise refusal(
                url,
                response.status,
                response.reason or "",
                said,
                response.headers.get("Retry-After"),
            )
        body = bytearray()
        async for packet in response.content.iter_any():
            body += packet
            if len(body) > self._max_answer_bytes:
                response.close()  # what is left of it is not read
                raise SolrError(
                    f"{url}: the answer is larger than {self._max_answer_bytes} bytes: ask "
                    "for fewer rows or fields, or allow more with max_answer_bytes"
                )
        whole = bytes(body)
        if len(whole) < _MOST_LOOP_BYTES:
            return answer(url, whole)
        return await asyncio.to_thread(answer, url, whole)


def _basic(user: str, password: str) -> str:
    if ":" in user:
        raise UsageError(
            f"the user {user!r} has a colon, which basic authentication ends at"
        )
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _may_repeat(error: SolrError, *, can_repeat: bool) -> bool:
    """Whether the request certainly did nothing, or may happen twice."""
    import aiohttp

    if error.status is not None:
        return error.status in _SENT_NOTHING or (can_repeat and error.status in _IN_BETWEEN)
    if isinstance(error.__cause__, aiohttp.ClientConnectorError):
        return True
    # asyncio's time-out is an OSError too, and is the caller's own limit.
    return (
        can_repeat
        and isinstance(error.__cause__, aiohttp.ClientError | OSError)
        and not isinstance(error.__cause__, TimeoutError)
    )


def _is_conditional(doc: Json) -> bool:
    """Whether adding it twice is another thing than adding it once."""
    return "_version_" in doc or any(isinstance(value, Mapping) for value in doc.values())


def _batches(docs: Sequence[Json]) -> Iterator[str]:
    """JSON arrays of some megabytes."""
    batch: list[str] = []
    size = 0
    for doc in docs:
        text = json.dumps(doc)
        if batch and size + len(text) > MOST_BATCH_BYTES:
            yield f"[{','.join(batch)}]"
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield f"[{','.join(batch)}]"


def _commit_within(seconds: float | None) -> dict[str, str]:
    if seconds is None:
        return {}
    if seconds <= 0:
        raise UsageError(f"commit_within is {seconds}: it must be above 0 seconds")
    return {"commitWithin": str(max(1, round(seconds * 1000)))}
