"""Addresses of pages: one spelling for each, and which of them a crawl may visit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from anabranch.errors import UsageError

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MOST_CHARACTERS: Final = 8_000
"""Longer addresses are refused: no server takes them, and traps make them."""
# Of the last addresses the spelling is remembered: the pages of a site share many links,
# and one address is looked at several times on its way.
REMEMBERED: Final = 4096

_UNRESERVED = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
# What stands for itself in a path or query; everything else is written as %XX.
_PLAIN = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]|]")
_STRIPPED = re.compile(r"[\t\n\r]")
_HOST = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_MOST_HOST = 253


@lru_cache(REMEMBERED)
def normalise(url: str) -> str:
    """The one spelling of an address: equal results mean the same page, by the standard.

    Scheme and host are in lower case, the default port, the fragment, an empty query and
    the dots of a path are gone, hosts are ASCII, and characters are percent-encoded only
    where they must be. The order of a query, and whatever is in it, stays.

    Source: RFC 3986, 6.2.2 and 6.2.3.

    Raises:
        ValueError: It is no address of a page on the web: the message says why.
    """
    text = _STRIPPED.sub("", url.strip())
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"is an address of more than {MOST_CHARACTERS:,} characters")
    parts = _split(text)
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise ValueError("is not a web address: give one with http:// or https://")
    path = _plain(_without_dots(parts.path)) or "/"
    return urlunsplit((scheme, _authority(parts, scheme), path, _plain(parts.query), ""))


def join(base: str, link: str) -> str | None:
    """The page that a link on the page ``base`` leads to, normalised; None if to none.

    A link with a user's name in it leads nowhere: it would sign somebody in.
    """
    try:
        url = normalise(urljoin(base, _STRIPPED.sub("", link.strip())))
    except ValueError:
        return None
    return None if "@" in urlsplit(url).netloc else url


@lru_cache(REMEMBERED)
def authority(url: str) -> str:
    """Host and, unless it is the scheme's own, port: whom a request goes to."""
    return urlsplit(url).netloc.rpartition("@")[2]


def origin(url: str) -> str:
    """Scheme, host and port."""
    return f"{urlsplit(url).scheme}://{authority(url)}"


@lru_cache(REMEMBERED)
def host_and_port(url: str) -> tuple[str, int]:
    """Of a normalised address, the port always a number."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which pages belong to a crawl.

    Attributes:
        within: Authorities (``docs.example.org``, with a port where it is not the usual
            one) and prefixes (``https://example.org/en/``): a page is in one of them.
        include: Patterns as in file names (``*/api/*``), of which the address matches
            one; none for all.
        exclude: Patterns of which it matches none.
    """

    within: Sequence[str]
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("within", "include", "exclude"):
            if isinstance(getattr(self, name), str):
                raise UsageError(f"{name} must be a list of strings, not one string")
        object.__setattr__(self, "within", tuple(map(_limit, self.within)))

    @classmethod
    def around(
        cls,
        seeds: Iterable[str],
        within: Sequence[str] | None,
        include: Sequence[str],
        exclude: Sequence[str],
    ) -> Scope:
        """A scope, by default that of the hosts of normalised addresses."""
        if within is None:
            within = list(dict.fromkeys(map(authority, seeds)))
        return cls(within=within, include=include, exclude=exclude)

    def holds(self, url: str) -> bool:
        """Whether a normalised address is in one of :attr:`within`."""
        host = authority(url)
        return any(
            _is_below(url, limit) if "://" in limit else host == limit
            for limit in self.within
        )

    def wants(self, url: str) -> bool:
        """Whether a normalised address that was found may be visited."""
        return (
            self.holds(url)
            and (not self.include or any(fnmatchcase(url, p) for p in self.include))
            and not any(fnmatchcase(url, pattern) for pattern in self.exclude)
        )


def _is_below(url: str, prefix: str) -> bool:
    """Whether a page is the one of this address, or one under it; not its namesake."""
    rest = url.removeprefix(prefix)
    if len(rest) == len(url):
        return False
    return not rest or prefix.endswith("/") or rest[0] in "/?"


def _limit(text: str) -> str:
    """A prefix normalised, or an authority in lower case."""
    if "://" in text:
        try:
            return normalise(text)
        except ValueError as error:
            raise UsageError(f"within: {text} {error}") from None
    if not text or "/" in text:
        raise UsageError(
            f"within: {text!r} is neither a host (docs.example.org) nor a prefix "
            "(https://example.org/en/)"
        )
    return text.lower()


def _split(text: str) -> SplitResult:
    parts = urlsplit("")
    try:
        parts = urlsplit(text)
        _ = parts.port
        # A backslash is a slash to some, and so makes another host.
        is_valid = "\\" not in parts.netloc
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("is not a valid address: check its spelling")
    return parts


def _authority(parts: SplitResult, scheme: str) -> str:
    host = _ascii(parts.hostname or "")
    port = parts.port
    named = host if port in (None, DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    user, at, _ = parts.netloc.rpartition("@")
    return f"{user}{at}{named}"


def _ascii(host: str) -> str:
    """A host as DNS knows it."""
    if ":" in host:
        # What is between brackets was checked when it was split.
        return f"[{host.lower()}]"
    if not host.isascii():
        try:
            import idna

            host = idna.encode(host, uts46=True).decode("ascii")
        except (ImportError, UnicodeError):
            raise ValueError("is not a valid address: check the host's name") from None
    host = host.lower().removesuffix(".")
    if not _HOST.fullmatch(host) or len(host) > _MOST_HOST:
        raise ValueError("is not a valid address: check the host's name")
    return host


def _without_dots(path: str) -> str:
    """The path without ``.`` and ``..``, percent-encoded or not."""
    if "/." not in path and "%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for number, segment in enumerate(segments):
        plain = segment.replace("%2e", ".").replace("%2E", ".")
        is_last = number == len(segments) - 1
        if plain == "..":
            if len(kept) > 1:
                kept.pop()
            if is_last:
                kept.append("")
        elif plain != "." or is_last:
            kept.append("" if plain == "." else segment)
    return "/".join(kept)


def _plain(text: str) -> str:
    """``text`` with what must be percent-encoded, and nothing else."""
    if text.isalnum() and text.isascii():
        return text
    return _PLAIN.sub(_encoded, text)


def _encoded(match: re.Match[str]) -> str:
    found = match[0]
    if len(found) == 3:
        decoded = chr(int(found[1:], 16))
        return decoded if decoded in _UNRESERVED else found.upper()
    return "".join(f"%{byte:02X}" for byte in found.encode("utf-8", "replace"))
