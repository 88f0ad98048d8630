"""What clients of services over HTTP share: addresses, keys, and words for failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from anabranch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import ClientSession

# Of an error's body no more is read, and of what it says no more is shown.
MOST_ERROR_BYTES = 1 << 16
SHOWN_CHARACTERS = 300


def open_session(
    who: str,
    headers: Mapping[str, str] | None = None,
    *,
    connections: int = 100,
    silence_s: float | None = None,
    total_s: float | None = None,
) -> ClientSession:
    """A session for a client of this name, to be made in its event loop.

    Args:
        who: The client's class.
        headers: Sent with each request, so whoever has a key in them follows no redirect.
        connections: At most so many at once.
        silence_s: Seconds to wait for a connection, and for each sign of life.
        total_s: Seconds for a whole request.

    Raises:
        ImportError: aiohttp is missing; it has the command that installs it.
    """
    try:
        import aiohttp
    except ImportError as error:
        raise ImportError(f"{who} needs aiohttp: pip install 'anabranch[rag]'") from error
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        headers={"User-Agent": "anabranch", **(headers or {})},
        timeout=aiohttp.ClientTimeout(
            total=total_s, connect=silence_s, sock_read=silence_s
        ),
    )


def check_address(url: str, of: str, example: str) -> None:
    """Refuse what is not the address of a service.

    Args:
        url: What was given.
        of: Whose address it should be, such as ``"a language model"``.
        example: An address that would do.

    Raises:
        UsageError: It is not one.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError(f"{url} is not the address of {of}: give one such as {example}")


def check_key(key: str | None) -> None:
    """Refuse a key that would break the header it is sent in, without showing it.

    Raises:
        UsageError: It has characters that no key has.
    """
    if key is not None and not (key.isascii() and key.isprintable() and key):
        raise UsageError("the key has characters that no key has: copy it again")


def said(body: str) -> str:
    """What a server says of an error, in whichever of the usual forms."""
    data = json_object(body)
    if data is None:
        return shortened("" if body.lstrip().startswith("<") else body)
    return message(
        data.get("error")
        or data.get("detail")
        or data.get("message")
        or data.get("Message")
        or body
    )


def message(error: object) -> str:
    """The words in the ``error`` of an answer, which may be an object or a string."""
    if isinstance(error, dict):
        found = cast("dict[str, Any]", error)
        error = found.get("message") or found
    return shortened(str(error))


def shortened(text: str) -> str:
    """On one line, not too long, and without what could command a terminal."""
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in " ".join(text.split())
    )
    return line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS] + " …"


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """A JSON object, or ``None`` if it is anything else."""
    # Any: what a server sends may be anything; each access looks before it takes.
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else None


def reason(error: Exception, *, timeout: float, has_begun: bool) -> str:
    """Why a request that aiohttp gave up has failed, and what to do.

    Args:
        error: What aiohttp, or the system, raised.
        timeout: Seconds that were waited for a sign of life.
        has_begun: Whether some of the answer had come.
    """
    import aiohttp

    match error:
        case TimeoutError():
            return f"no sign of life for {timeout:g} s: try again, or wait longer"
        case aiohttp.ClientConnectorDNSError():
            return "the host name cannot be found: check the address and the network"
        case aiohttp.ClientConnectorCertificateError():
            return "the server's certificate is not trusted"
        case aiohttp.ClientSSLError():
            return "no secure connection: the server may not speak TLS on this port"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "the connection was refused: is the server running, and at this address?"
        case aiohttp.ClientConnectorError(os_error=cause):
            return f"cannot connect: {cause.strerror or cause}"
        case aiohttp.InvalidURL():
            return "is not a valid address: check its spelling"
        case _ if has_begun:
            return "the answer broke off before its end"
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return "the server closed the connection without an answer"
        case _:
            return f"cannot be asked: {str(error) or type(error).__name__}"
