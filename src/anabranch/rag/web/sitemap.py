"""Sitemaps: which pages a site has, and when each has changed.

Source: the protocol of sitemaps.org, 0.9: XML, an index of other sitemaps, or plain text
with an address a line; each may be packed with gzip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from xml.parsers import expat

from anabranch.rag.web.packing import unpacked

MOST_BYTES: Final = 50 * 1024 * 1024
"""Of a sitemap, unpacked: the protocol allows no more."""
MOST_ENTRIES: Final = 50_000
"""In a sitemap: the protocol allows no more."""
MOST_INDEXES: Final = 2
"""One in another: the protocol allows one alone, and some sites have two."""
MOST_SITEMAPS: Final = 10_000
"""Of one crawl: a server can make up more of them than anybody reads."""
_STEP = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a sitemap.

    Attributes:
        url: As it is written.
        lastmod: When the page last changed, as it is written; nothing if it is not said.
    """

    url: str
    lastmod: str = ""


@dataclass(slots=True)
class Sitemap:
    """What a sitemap holds.

    Attributes:
        pages: The pages.
        sitemaps: The sitemaps that an index names.
        fault: What is wrong with it; what came before that is there.
    """

    pages: list[Entry] = field(default_factory=list[Entry])
    sitemaps: list[Entry] = field(default_factory=list[Entry])
    fault: str = ""


def parse(data: bytes) -> Sitemap:
    """What a sitemap holds. Any bytes give something: what is wrong is told in ``fault``.

    Takes a second for the largest: for a thread.
    """
    found = Sitemap()
    try:
        text = unpacked(data, MOST_BYTES)
        if text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            _Elements(found).read(text)
        else:
            _lines(found, text)
    except (ValueError, expat.ExpatError) as error:
        found.fault = f"is not a whole sitemap: {error}"
    return found


def instant(lastmod: str) -> datetime | None:
    """The moment that a ``lastmod`` means, a day as its first; None if it says nothing."""
    try:
        when = datetime.fromisoformat(lastmod.strip())
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def is_older(lastmod: str, since: datetime) -> bool:
    """Whether a page is known not to have changed since then."""
    when = instant(lastmod)
    if when is None:
        return False
    if len(lastmod.strip()) <= len("2024-01-31"):
        # A day is over only at its end.
        return when.date() < since.astimezone(UTC).date()
    return when < since


class _Elements:
    """An XML sitemap, element by element."""

    def __init__(self, found: Sitemap) -> None:
        self._found = found
        self._path: list[str] = []
        self._texts: dict[str, list[str]] = {}
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        # Entities within entities grow without end.
        parser.EntityDeclHandler = self._refuse_entity
        self._parser = parser

    def read(self, data: bytes) -> None:
        for start in range(0, len(data), _STEP):
            self._parser.Parse(data[start : start + _STEP], False)
        self._parser.Parse(b"", True)

    def _start(self, name: str, _attributes: object) -> None:
        if len(self._path) > 20:
            raise ValueError("its elements are nested too deep")
        self._path.append(name.rpartition(" ")[2].lower())

    def _characters(self, text: str) -> None:
        if len(self._path) == 3 and self._path[-1] in ("loc", "lastmod"):
            self._texts.setdefault(self._path[-1], []).append(text)

    def _end(self, _name: str) -> None:
        ended = self._path.pop()
        if len(self._path) != 1 or ended not in ("url", "sitemap"):
            return
        texts = {name: "".join(parts).strip() for name, parts in self._texts.items()}
        self._texts.clear()
        into = self._found.pages if ended == "url" else self._found.sitemaps
        if texts.get("loc"):
            _add(into, Entry(texts["loc"], texts.get("lastmod", "")))

    def _refuse_entity(self, *_: Any) -> None:
        raise ValueError("it declares entities")


def _lines(found: Sitemap, data: bytes) -> None:
    lines = data.decode("utf-8-sig", "replace").split("\n")
    for line in map(str.strip, lines):
        if line.lower().startswith(("http://", "https://")):
            _add(found.pages, Entry(line))
        elif line:
            raise ValueError(f"neither XML nor an address: {line[:80]!r}")


def _add(entries: list[Entry], entry: Entry) -> None:
    if len(entries) >= MOST_ENTRIES:
        raise ValueError(f"it has more than {MOST_ENTRIES:,} entries")
    entries.append(entry)
