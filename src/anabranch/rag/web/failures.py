"""Words for what goes wrong on the web, and whether it is worth another try."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from anabranch.rag.service import shortened
from anabranch.rag.web.guard import AddressRefused

if TYPE_CHECKING:
    from aiohttp import ClientConnectorError


class Refused(Exception):
    """A server answered that it will not, for now: the cause of a SourceError.

    Attributes:
        status: Of HTTP.
        headers: With ``retry-after``, if it said when.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers


def lasting_cause(error: Exception) -> BaseException:
    """What an error is raised from, so that only what may pass looks as if it may.

    The client's classes for connections that cannot be made are all alike; a certificate
    that is not trusted, or an address that is refused, will be so again.
    """
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=reason):
            return reason
        case aiohttp.ClientConnectorError(os_error=AddressRefused() as refused):
            return refused
        case _:
            return error


def explain(error: Exception, timeout: float) -> str:
    """Why a request came to nothing, for a person."""
    import aiohttp

    match error:
        case TimeoutError():
            return f"no complete answer within {timeout:g} s: try again later"
        case AddressRefused() | aiohttp.ClientConnectorError(os_error=AddressRefused()):
            return str(lasting_cause(error))
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return no_connection(error)
        case aiohttp.InvalidURL():
            return "is not a valid address: check its spelling"
        case aiohttp.ClientPayloadError():
            return "the answer broke off, or could not be unpacked: try again"
        case aiohttp.ClientResponseError():
            return "the server's answer is not HTTP that can be understood"
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return "the server closed the connection without an answer: try again"
        case UnicodeError():
            return "is not a valid address: check its spelling"
        case ValueError():
            return shortened(f"the answer {error}")
        case _:
            return f"cannot be fetched: {shortened(str(error)) or type(error).__name__}"


def no_connection(error: ClientConnectorError) -> str:
    """Why there was no connection to a server."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the host name cannot be found: check the address and the network"
        case aiohttp.ClientConnectorCertificateError(certificate_error=reason):
            return f"the server's certificate is not trusted: {shortened(str(reason))}"
        case aiohttp.ClientSSLError():
            return "no secure connection: the server may not speak TLS on this port"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "the connection was refused: nothing is listening there"
        case _:
            return f"cannot connect: {error.os_error.strerror or error.os_error}"


def phrase(status: int, reason: str | None) -> str:
    """The status with its reason, in the standard's words if the server has none."""
    reason = shortened(reason or "")
    if not reason:
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:
            reason = "(no reason given)"
    return f"{status} {reason}"
