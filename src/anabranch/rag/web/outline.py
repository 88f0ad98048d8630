"""What a page says beside its text: headings, links, and what it asks of crawlers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anabranch.rag.readers import html
from anabranch.rag.types import Content
from anabranch.rag.web.urls import join

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

MOST_LINKS: Final = 100_000
MOST_HEADINGS: Final = 200
_HEADING_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Outline:
    """What was found in a page of HTML.

    Attributes:
        title: Of the page; nothing where it has none.
        headings: Their texts, in order; of the first 200, 200 characters each.
        links: Where they lead, each once, in order, normalised; of the first 100,000.
        canonical: The address that the page calls its own.
        noindex: Whether it asks not to be given in searches.
        nofollow: Whether it asks that its links are not followed.
    """

    title: str = ""
    headings: Sequence[str] = ()
    links: Sequence[str] = ()
    canonical: str | None = None
    noindex: bool = False
    nofollow: bool = False


def outline(
    content: Content, url: str | None = None, headers: Mapping[str, str] | None = None
) -> Outline:
    """What a page of HTML says beside its text.

    Pure computation: a page of some hundred kilobytes is for a thread.

    Args:
        content: The page.
        url: Its address, if that is not the content's URI.
        headers: What came with it, names in lower case: ``link`` and ``x-robots-tag``.

    Raises:
        ImportError: selectolax is not installed.
        SourceError: It is nested deeper than any page.
    """
    tree = html.parsed(content)
    url = url or content.uri
    headers = headers or {}
    base = url
    if (node := tree.css_first("base[href]")) is not None:
        base = join(url, _attribute(node, "href")) or url
    asked = {word for text in _robots(tree, headers) for word in text}
    title = tree.css_first("title")
    return Outline(
        title="" if title is None else html.squeeze(title.text()),
        headings=list(_headings(tree)),
        links=list(_links(tree, base)),
        canonical=_canonical(tree, base, headers),
        noindex=bool(asked & {"noindex", "none"}),
        nofollow=bool(asked & {"nofollow", "none"}),
    )


def _headings(tree: LexborHTMLParser) -> Iterator[str]:
    for node in tree.css("h1, h2, h3, h4, h5, h6")[:MOST_HEADINGS]:
        if text := html.squeeze(node.text()).rstrip(" ¶"):
            yield text[:_HEADING_CHARACTERS]


def _links(tree: LexborHTMLParser, base: str) -> Iterator[str]:
    seen: set[str] = set()
    for node in tree.css("a[href], area[href]")[:MOST_LINKS]:
        link = _attribute(node, "href")
        # Most links of most pages that lead nowhere.
        if link.startswith(("#", "javascript:", "mailto:", "data:")):
            continue
        url = join(base, link)
        if url is not None and url not in seen:
            seen.add(url)
            yield url


def _canonical(tree: LexborHTMLParser, base: str, headers: Mapping[str, str]) -> str | None:
    for node in tree.css("link[rel][href]"):
        if "canonical" in _attribute(node, "rel").lower().split():
            return join(base, _attribute(node, "href"))
    for part in headers.get("link", "").split(","):
        target, _, parameters = part.strip().partition(">")
        if "canonical" in parameters.lower() and target.startswith("<"):
            return join(base, target[1:])
    return None


def _robots(tree: LexborHTMLParser, headers: Mapping[str, str]) -> Iterator[Sequence[str]]:
    yield _words(headers.get("x-robots-tag", ""))
    for node in tree.css("meta[name][content]"):
        if _attribute(node, "name").strip().lower() == "robots":
            yield _words(_attribute(node, "content"))


def _words(text: str) -> Sequence[str]:
    return [word.strip() for word in text.lower().split(",")]


def _attribute(node: LexborNode, name: str) -> str:
    return node.attributes.get(name) or ""
