"""Which network addresses a reader may connect to.

A program that fetches what strangers name must not be made to ask its own machine, its
network, or its cloud's metadata service. So only addresses of the public internet are
allowed, and by what they are rather than by a list of what is bad: of IPv6, global
unicast; of IPv4, what the registry calls global. An address that carries an IPv4 address
is judged by that.

Sources: IANA's special-purpose address registries for IPv4 and IPv6; RFC 6890.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from anabranch.errors import UsageError
from anabranch.rag.web.urls import host_and_port, normalise

# Global by the registry or by older Pythons, and yet not the internet.
_NOT_PUBLIC_4 = tuple(
    map(
        ip_network,
        (
            "100.64.0.0/10",  # carriers; Alibaba's metadata
            "168.63.129.16/32",  # Azure's agent for its virtual machines
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "192.88.99.0/24",  # 6to4 relays
            "198.18.0.0/15",  # benchmarks
            "224.0.0.0/3",  # multicast and reserved
        ),
    )
)
_GLOBAL_6 = ip_network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        ip_network,
        (
            "2001::/23",  # protocol assignments; Teredo
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which leads to any IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = ip_network("64:ff9b::/96")
_LOW_32 = (1 << 32) - 1


def is_public(address: str) -> bool:
    """Whether an address, in its usual spelling, is one of the public internet.

    Whatever is not an address in that spelling is not: ``127.1`` and ``0x7f000001``
    would be read by somebody else as another address.
    """
    try:
        # Addresses with a zone are link-local, and not public either.
        found = ip_address(address)
    except ValueError:
        return False
    return _is_public_4(found) if isinstance(found, IPv4Address) else _is_public_6(found)


def _is_public_4(address: IPv4Address) -> bool:
    return address.is_global and not any(address in net for net in _NOT_PUBLIC_4)


def _is_public_6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    if (mapped := address.ipv4_mapped) is not None:
        return _is_public_4(mapped)
    if address in _NAT64:
        return _is_public_4(IPv4Address(int(address) & _LOW_32))
    return address in _GLOBAL_6 and not any(address in net for net in _NOT_PUBLIC_6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Whom a reader may connect to beside the public internet.

    Attributes:
        private: Anybody.
        hosts: These hosts, wherever their names lead: ``"intranet.example"`` at any port,
            ``"127.0.0.1:8080"`` or ``"[::1]:8080"`` at that one.
    """

    private: bool = False
    hosts: Collection[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.hosts, str):
            raise UsageError(
                f"hosts must be a list of hosts, not the string {self.hosts!r}"
            )
        object.__setattr__(self, "hosts", frozenset(map(_host, self.hosts)))

    def names(self, host: str, port: int) -> bool:
        """Whether a host, without brackets, may be connected to wherever it is."""
        shown = f"[{host}]" if ":" in host else host
        return self.private or shown in self.hosts or f"{shown}:{port}" in self.hosts

    def permits(self, host: str, port: int, address: str) -> bool:
        """Whether the host of this name may be connected to at this address."""
        return self.names(host, port) or is_public(address)


def _host(text: str) -> str:
    """An entry as :meth:`Access.names` looks for it."""
    if "/" in text or "@" in text:
        raise UsageError(f"hosts: {text!r} holds more than a host and a port")
    try:
        host, port = host_and_port(normalise(f"http://{text}/"))
    except ValueError as error:
        raise UsageError(f"hosts: {text!r} {error}") from None
    shown = f"[{host}]" if ":" in host else host
    # Behind the bracket of an IPv6 address; port 80 may be meant as well as any other.
    has_port = ":" in text.rpartition("]")[2]
    return f"{shown}:{port}" if has_port else shown
