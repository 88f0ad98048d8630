"""Chroma's HTTP interface, version 2: as much of it as a store needs.

Every request may happen twice, for records have ids of ours; so what fails on the way is
sent again.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from anabranch.errors import StoreError, UsageError
from anabranch.rag.service import (
    MOST_ERROR_BYTES,
    check_address,
    check_key,
    json_object,
    open_session,
    reason,
    said,
)
from anabranch.retry import Retry

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

# Above this, JSON is read and written in a thread.
_MOST_LOOP_BYTES: Final = 1 << 16
_PASSING: Final = frozenset({429, 502, 503, 504})


class ChromaRefused(StoreError):
    """Chroma refuses or cannot be reached.

    Attributes:
        status: The HTTP status, if there was an answer.
        headers: ``Retry-After``, if it was sent.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if retry_after is None else {"Retry-After": retry_after}


class ChromaClient:
    """A Chroma server of 1.0 or later. Open it before it is used.

    Args:
        url: Such as ``http://localhost:8000``.
        token: Sent as ``X-Chroma-Token``.
        tenant: Whose databases these are.
        database: In which collections are made.
        timeout: Seconds that one answer may take.
        retry: How many tries in all, or when and how.
        connections: At most so many at once; further calls wait for one.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        tenant: str = "default_tenant",
        database: str = "default_database",
        timeout: float = 60.0,
        retry: int | Retry = 3,
        connections: int = 16,
    ) -> None:
        check_address(url, "a Chroma server", "http://localhost:8000")
        check_key(token)
        if "@" in urlsplit(url).netloc:
            raise UsageError("Chroma's address is given without a user: use token=")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._headers = {} if token is None else {"X-Chroma-Token": token}
        self._base = (
            f"{self.url}/api/v2/tenants/{quote(tenant, safe='')}"
            f"/databases/{quote(database, safe='')}/collections"
        )
        self._retry = retry if isinstance(retry, Retry) else Retry(retry, on=_is_passing)
        self._connections = connections
        self._session: ClientSession | None = None

    def open(self) -> None:
        """Ready for requests, on the running loop."""
        self._session = open_session(
            "ChromaStore", self._headers, connections=self._connections
        )

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def collection(self, name: str, *, space: str) -> str:
        """The id of the collection of this name, which is made where there is none."""
        configuration = {"hnsw": {"space": space}}
        body = {"name": name, "get_or_create": True, "configuration": configuration}
        return str((await self._call("", body))["id"])

    async def upsert(
        self,
        collection: str,
        ids: Sequence[str],
        embeddings: Sequence[Any],
        *,
        metadatas: Sequence[Mapping[str, Any]],
        documents: Sequence[str] | None = None,
    ) -> None:
        """Put records, in the place of those of the same ids."""
        body: dict[str, Any] = {
            "ids": list(ids),
            "embeddings": list(embeddings),
            "metadatas": list(metadatas),
        }
        if documents is not None:
            body["documents"] = list(documents)
        await self._call(f"/{collection}/upsert", body)

    async def get(self, collection: str, **asked: Any) -> dict[str, Any]:
        """Records by ``ids``, ``where``, ``limit`` and ``offset``; see ``include``."""
        return await self._call(f"/{collection}/get", asked)

    async def query(self, collection: str, **asked: Any) -> dict[str, Any]:
        """The records nearest to some vectors."""
        return await self._call(f"/{collection}/query", asked)

    async def delete(self, collection: str, **which: Any) -> None:
        """Delete records by ``ids`` or by ``where``."""
        await self._call(f"/{collection}/delete", which)

    async def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request that is sent until it is answered or given up."""
        session = self._session
        if session is None:
            raise RuntimeError(
                "ChromaStore is not open: use it in 'async with ChromaStore(...)'"
            )
        data = await asyncio.to_thread(lambda: json.dumps(body).encode())
        began = time.monotonic()
        attempt = 1
        while True:
            try:
                return await self._once(session, path, data)
            except ChromaRefused as error:
                elapsed_s = time.monotonic() - began
                delay_s = self._retry.delay(attempt, error, elapsed_s, time.time())
                if delay_s is None:
                    raise
            attempt += 1
            await asyncio.sleep(delay_s)

    async def _once(self, session: ClientSession, path: str, data: bytes) -> dict[str, Any]:
        import aiohttp

        has_begun = False
        try:
            async with (
                asyncio.timeout(self.timeout),
                session.post(
                    self._base + path,
                    # aiohttp sends bytes in one go, and a file by pieces.
                    data=data if len(data) < _MOST_LOOP_BYTES else io.BytesIO(data),
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response,
            ):
                has_begun = True
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, TimeoutError):
                why = f"no answer within {self.timeout:g} s: try again, or wait longer"
            else:
                why = reason(error, timeout=self.timeout, has_begun=has_begun)
            raise ChromaRefused(f"Chroma at {self.url}: {why}") from error

    async def _read(self, response: ClientResponse) -> dict[str, Any]:
        if response.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
            body = await response.content.read(MOST_ERROR_BYTES)
            raise ChromaRefused(
                f"Chroma at {self.url} refuses ({response.status}): "
                f"{said(body.decode('utf-8', 'replace'))}",
                status=response.status,
                retry_after=response.headers.get("Retry-After"),
            )
        body = await response.read()
        if len(body) < _MOST_LOOP_BYTES:
            return self._object(body)
        return await asyncio.to_thread(self._object, body)

    def _object(self, body: bytes) -> dict[str, Any]:
        found = json_object(body)
        if found is None:
            raise ChromaRefused(
                f"{self.url} does not answer as a Chroma server of 1.0 or later does: "
                "check the address",
                status=HTTPStatus.OK,  # an answer, and asking again gives no other
            )
        return found


def _is_passing(error: BaseException) -> bool:
    if not isinstance(error, ChromaRefused):
        return False
    if error.status is not None:
        return error.status in _PASSING
    # asyncio's time-out is an OSError too, and is the caller's own limit.
    return not isinstance(error.__cause__, TimeoutError)
