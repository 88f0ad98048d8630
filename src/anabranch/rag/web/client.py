"""One request and its answer, within limits of where, how long and how much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anabranch.errors import SourceError
from anabranch.rag.readers.files import MIB, megabytes
from anabranch.rag.web.addresses import Access
from anabranch.rag.web.failures import explain, lasting_cause
from anabranch.rag.web.guard import Guard
from anabranch.rag.web.packing import ACCEPTED, Unpacker
from anabranch.rag.web.urls import host_and_port

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TYPES = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

Check = Callable[[str, Mapping[str, str]], None]
"""Given address and headers of a success, before its body is read: raises SourceError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        url: The address, normalised, that it was the answer of.
        status: Of HTTP.
        headers: Names in lower case; several of one name are joined by commas.
        body: Unpacked.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a body is read, unpacked.

    Attributes:
        most_bytes: The limit.
        is_cut: Whether what is longer is cut there, rather than refused.
    """

    most_bytes: int
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of an answer.

    Attributes:
        uri: The page, as errors name it.
        check: Whether its headers will do.
        size: How much of it is read.
    """

    uri: str
    check: Check | None
    size: Size


class Client:
    """Sends requests for a reader. Open it before, close it after.

    Args:
        who: The reader's name, for errors.
        access: Whom it may connect to.
        user_agent: What it says it is.
        connections: At once.
        timeout: Seconds for each answer.
    """

    def __init__(
        self, who: str, *, access: Access, user_agent: str, connections: int, timeout: float
    ) -> None:
        self.user_agent = user_agent
        self._who = who
        self._connections = connections
        self._timeout = timeout
        self._guard = Guard(access)
        self._session: ClientSession | None = None

    def open(self) -> None:
        """Make the session.

        Raises:
            ImportError: aiohttp is missing; it has the command that installs it.
        """
        try:
            import aiohttp
        except ImportError as error:
            raise ImportError(
                f"{self._who} needs aiohttp: pip install 'anabranch[rag]'"
            ) from error
        self._session = aiohttp.ClientSession(
            connector=self._guard.connector(self._connections),
            headers={
                "User-Agent": self.user_agent,
                "Accept": _TYPES,
                "Accept-Encoding": ACCEPTED,
            },
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            # What one page sets is no other page's business.
            cookie_jar=aiohttp.DummyCookieJar(),
            # Unpacked here, so that no version of the client unpacks a bomb at once.
            auto_decompress=False,
        )

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self,
        wanted: Wanted,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        data: bytes | None = None,
    ) -> Answer:
        """One request to a normalised address, and nothing else.

        Raises:
            SourceError: There is no answer, it is too large, or it is not wanted.
            RuntimeError: The client is not open.
        """
        import aiohttp
        from yarl import URL

        if self._session is None:
            raise RuntimeError(
                f"{self._who} is not open: use it in 'async with {self._who}()'"
            )
        try:
            self._guard.admit(*host_and_port(url))
            async with self._session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=data,
                allow_redirects=False,
            ) as response:
                return await _read(wanted, url, response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # A bare TimeoutError is an OSError; host names too strange for the resolver
            # end as ValueError.
            reason = explain(error, self._timeout)
            raise SourceError(wanted.uri, reason) from lasting_cause(error)


async def _read(wanted: Wanted, url: str, response: ClientResponse) -> Answer:
    status, headers = response.status, _headers(response)
    if wanted.check is not None and 200 <= status < 300:
        wanted.check(url, headers)
    if status in REDIRECTS or status == 304:
        # What they say beside their headers is for people.
        return Answer(url, status, headers, b"")
    return Answer(url, status, headers, await _body(wanted, response, headers))


async def _body(
    wanted: Wanted, response: ClientResponse, headers: Mapping[str, str]
) -> bytes:
    size = wanted.size
    # The announced length is that of the packed page, and may be a lie: a reason to
    # refuse early, never a reason to trust.
    announced = response.content_length or 0
    if announced > size.most_bytes and not size.is_cut:
        raise too_large(wanted, f"is {megabytes(announced)}")
    unpacker = Unpacker(headers.get("content-encoding", ""))
    pieces: list[bytes] = []
    had = paused = 0
    async for packed in response.content.iter_any():
        for piece in unpacker.feed(packed):
            had += len(piece)
            pieces.append(piece)
            if had > size.most_bytes:
                if size.is_cut:
                    return b"".join(pieces)[: size.most_bytes]
                raise too_large(wanted, "is larger than it announced")
            if had - paused >= MIB:
                paused = had
                await asyncio.sleep(0)
    if not unpacker.is_complete:
        raise SourceError(wanted.uri, "the answer broke off: try again")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def too_large(wanted: Wanted, fact: str) -> SourceError:
    """What is said of a body that is larger than is wanted."""
    limit = megabytes(wanted.size.most_bytes)
    return SourceError(wanted.uri, f"{fact}; the limit is {limit}: raise max_bytes")


def _headers(response: ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in response.headers.items():
        lower = name.lower()
        found[lower] = f"{found[lower]}, {text}" if lower in found else text
    if response.reason:
        # As in HTTP/2, what is no header but belongs to them begins with a colon.
        found[":reason"] = response.reason
    return found
