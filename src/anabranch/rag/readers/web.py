"""Pages and files over HTTP."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urldefrag, urlsplit

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import media
from anabranch.rag.readers._digest import digest
from anabranch.rag.readers.files import MIB, megabytes
from anabranch.rag.readers.parse import MEDIA_TYPES
from anabranch.rag.service import open_session
from anabranch.rag.types import Content

if TYPE_CHECKING:
    from aiohttp import ClientConnectorError, ClientResponse, ClientSession

# Types that say nothing: the name or the bytes tell more.
_VAGUE = frozenset({"", "application/octet-stream", "binary/octet-stream"})

# Above this, hashing would hold up the event loop for longer than a thread costs.
_HASHED_AT_ONCE = MIB // 4


class WebReader:
    """Reads URLs, with one pool of connections for all of them.

    Use it as an async context manager; the connections close when the block ends. Any
    number of reads may run at once. A read holds at most ``max_bytes`` of the page, also
    when the server announces less or the page unpacks to more.

    Args:
        timeout: Seconds for one page, from look-up to last byte.
        max_bytes: The largest page to read, unpacked.
    """

    def __init__(self, timeout: float = 30.0, max_bytes: int = 16 * MIB) -> None:
        if timeout <= 0:
            raise UsageError(f"timeout is {timeout}: it must be above 0 seconds")
        if max_bytes < 1:
            raise UsageError(f"max_bytes is {max_bytes}: it must be at least 1")
        self.timeout = timeout
        self.max_bytes = max_bytes
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = open_session("WebReader", total_s=self.timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def read(self, uri: str) -> Content:
        """The page behind a URL, after redirects.

        The content's ``uri`` is the URL as given, without its fragment; where redirects
        led is ``metadata["url"]``.

        Raises:
            SourceError: It cannot be had, is too large, or is of no readable kind.
            RuntimeError: The reader was not entered with ``async with``.
        """
        if self._session is None:
            raise RuntimeError("WebReader is not open: use it in 'async with WebReader()'")
        url = urldefrag(uri).url
        if not url.lower().startswith(("http://", "https://")):
            raise SourceError(
                uri, "is not a web address: give one with http:// or https://"
            )
        import aiohttp

        try:
            async with self._session.get(url) as response:
                return await self._content(url, response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # A bare TimeoutError is an OSError; URLs and host names too strange for the
            # client end as ValueError.
            raise SourceError(url, self._explain(error)) from error

    async def _content(self, url: str, response: ClientResponse) -> Content:
        if not 200 <= response.status < 300:
            raise SourceError(url, f"the server answered {phrase(response)}")
        declared, charset = content_type(response.headers.get("Content-Type", ""))
        path = urlsplit(url).path
        media_type = kind_of(declared, path)
        if media_type and media_type not in MEDIA_TYPES:
            raise SourceError(url, media.unsupported(media_type))
        data = await self._body(url, response)
        media_type = media_type or media.of_bytes(data)
        if media_type is None:
            raise SourceError(
                url, media.unsupported(declared or "a binary file of unknown type")
            )
        large = len(data) > _HASHED_AT_ONCE
        return Content(
            uri=url,
            media_type=media_type,
            digest=await asyncio.to_thread(digest, data) if large else digest(data),
            data=data,
            charset=charset,
            metadata={"url": str(response.url)},
        )

    async def _body(self, url: str, response: ClientResponse) -> bytes:
        # The announced length is that of the packed page, and may be a lie: a reason to
        # refuse early, never a reason to trust.
        if (response.content_length or 0) > self.max_bytes:
            raise SourceError(
                url, self._too_large(f"is {megabytes(response.content_length or 0)}")
            )
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > self.max_bytes:
                raise SourceError(url, self._too_large("is larger than it announced"))
            pieces.append(piece)
        return b"".join(pieces)

    def _too_large(self, fact: str) -> str:
        return f"{fact}; the limit is {megabytes(self.max_bytes)}: raise max_bytes"

    def _explain(self, error: Exception) -> str:
        import aiohttp

        match error:
            case TimeoutError():
                return f"no complete answer within {self.timeout:g} s: try again later"
            case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
                return no_connection(error)
            case aiohttp.TooManyRedirects():
                return "redirects in a circle: check the address"
            case aiohttp.NonHttpUrlClientError():
                return "leads to an address that is not on the web"
            case aiohttp.InvalidURL() | ValueError():
                return "is not a valid address: check its spelling"
            case aiohttp.ClientPayloadError():
                return "the answer broke off, or could not be unpacked: try again"
            case aiohttp.ClientResponseError():
                return "the server's answer is not HTTP that can be understood"
            case aiohttp.ServerDisconnectedError() | ConnectionError():
                return "the server closed the connection without an answer: try again"
            case _:
                return f"cannot be fetched: {str(error) or type(error).__name__}"


def no_connection(error: ClientConnectorError) -> str:
    """Why there was no connection to a server."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the host name cannot be found: check the address and the network"
        case aiohttp.ClientConnectorCertificateError(certificate_error=reason):
            return f"the server's certificate is not trusted: {reason}"
        case aiohttp.ClientSSLError():
            return "no secure connection: the server may not speak TLS on this port"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "the connection was refused: nothing is listening there"
        case _:
            return f"cannot connect: {error.os_error.strerror or error.os_error}"


def phrase(response: ClientResponse) -> str:
    """The status with its reason, in the standard's words if the server has none."""
    reason = response.reason
    if not reason:
        try:
            reason = HTTPStatus(response.status).phrase
        except ValueError:
            reason = "(no reason given)"
    return f"{response.status} {reason}"


def content_type(header: str) -> tuple[str, str | None]:
    """The media type and the charset of a Content-Type header, both in lower case."""
    media_type, *parameters = header.lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and (charset := value.strip("\"' \t")):
            return media_type.strip(), charset
    return media_type.strip(), None


def kind_of(declared: str, path: str) -> str | None:
    """Our name for what the server declared, or for the suffix when that says more.

    Plain text gives way to a suffix: few servers know a type for Markdown or Python.
    """
    declared = media.ALIASES.get(declared, declared)
    suffixed = media.of_name(path)
    if declared in _VAGUE:
        return suffixed
    if declared == media.TEXT and suffixed not in (None, media.PDF, media.HTML):
        return suffixed
    return declared
