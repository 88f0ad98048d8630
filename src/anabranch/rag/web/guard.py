"""Connections only to where a reader may connect.

Two gates, since each sees what the other does not. The resolver knows the host's name: it
passes on the addresses that are allowed for it, and those are the ones that are connected
to, so a name that means something else a moment later helps nobody. The socket factory
sees the very address of every connection, also of hosts that are addresses themselves and
so are never looked up: it refuses whatever is not allowed for everybody and was not passed
by the resolver or by :meth:`Guard.admit`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from anabranch.rag.web.addresses import Access, is_public

if TYPE_CHECKING:
    from aiohttp import TCPConnector
    from aiohttp.abc import AbstractResolver, ResolveResult

_REMEDY = "allow its host with allow_private=[...] if that is meant"


class AddressRefused(OSError):
    """A host is not on the public internet, and is not allowed."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"leads to the private address {address}: {_REMEDY}")


class Guard:
    """The gates of one reader."""

    def __init__(self, access: Access) -> None:
        self.access = access
        # Addresses and ports of hosts that are allowed by name.
        self._admitted: set[tuple[str, int]] = set()

    def admit(self, host: str, port: int) -> None:
        """A request to a host that is an address will follow.

        Raises:
            AddressRefused: It may not.
        """
        if self.access.names(host, port):
            self._admitted.add((host, port))
        elif _is_literal(host) and not is_public(host):
            raise AddressRefused(host)

    def connector(self, connections: int) -> TCPConnector:
        """A connector whose every connection passes the gates."""
        import aiohttp

        return aiohttp.TCPConnector(
            limit=connections, resolver=self._resolver(), socket_factory=self._socket
        )

    def _passed(self, host: str, port: int, found: list[ResolveResult]) -> Any:
        allowed = [
            result for result in found if self.access.permits(host, port, result["host"])
        ]
        if not allowed and found:
            raise AddressRefused(found[0]["host"])
        for result in allowed:
            if not is_public(result["host"]):
                self._admitted.add((result["host"], port))
        return allowed

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = address
        if not is_public(where[0]) and (where[0], where[1]) not in self._admitted:
            raise AddressRefused(where[0])
        return socket.socket(family, kind, protocol)

    def _resolver(self) -> AbstractResolver:
        from aiohttp.resolver import ThreadedResolver

        passed = self._passed

        class Resolver(ThreadedResolver):
            async def resolve(
                self,
                host: str,
                port: int = 0,
                family: socket.AddressFamily = socket.AF_INET,
            ) -> list[ResolveResult]:
                found = await super().resolve(host, port, family)
                passing: list[ResolveResult] = passed(host, port, found)
                return passing

        return Resolver()


def _is_literal(host: str) -> bool:
    """Whether a host is, or may be taken for, an address: no name ends in a number.

    Source: WHATWG, "URL", "ends in a number".
    """
    last = host.rpartition(".")[2]
    return ":" in host or last.isdigit() or last.startswith("0x")
