"""From answers to contents, and the results of many pages as they come."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from anabranch.errors import SourceError
from anabranch.rag.readers import media
from anabranch.rag.readers._digest import digest
from anabranch.rag.readers.files import MIB
from anabranch.rag.readers.parse import MEDIA_TYPES
from anabranch.rag.service import shortened
from anabranch.rag.types import Content, Metadata
from anabranch.rag.web.client import Answer
from anabranch.rag.web.failures import phrase
from anabranch.rag.web.frontier import Duplicate, Skipped
from anabranch.rag.web.outline import Outline, outline

# Types that say nothing: the name or the bytes tell more.
_VAGUE = frozenset({"", "application/octet-stream", "binary/octet-stream"})
# Above this, hashing would hold up the event loop for longer than a thread costs.
_HASHED_AT_ONCE: Final = MIB // 4
# Pages of more bytes or tags are parsed in a thread. The parser's time grows with the
# square of the depth, which cannot be more than the number of tags.
_PARSED_AT_ONCE: Final = 32 * 1024
_TAGS_AT_ONCE: Final = 1_000

Visited: TypeAlias = Content | SourceError | Duplicate | Skipped
"""What became of one page."""


def check_kind(uri: str, url: str, headers: Mapping[str, str]) -> None:
    """Refuse what cannot be read before it is fetched.

    Raises:
        SourceError: It is of no readable kind.
    """
    declared, _ = content_type(headers.get("content-type", ""))
    kind = kind_of(declared, urlsplit(url).path)
    if kind and kind not in MEDIA_TYPES:
        raise UnreadableKind(uri, media.unsupported(shortened(kind)))


class UnreadableKind(SourceError):
    """A page is of a kind that cannot be read."""


async def content_of(uri: str, answer: Answer, metadata: Metadata) -> Content:
    """The content of a page.

    Raises:
        SourceError: The answer is no success, or of no readable kind.
    """
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        said = phrase(answer.status, answer.headers.get(":reason"))
        raise SourceError(uri, f"the server answered {said}")
    check_kind(uri, answer.url, answer.headers)
    declared, charset = content_type(answer.headers.get("content-type", ""))
    data = answer.body
    media_type = kind_of(declared, urlsplit(answer.url).path) or media.of_bytes(data)
    if media_type is None:
        kind = shortened(declared) or "a binary file of unknown type"
        raise UnreadableKind(uri, media.unsupported(kind))
    large = len(data) > _HASHED_AT_ONCE
    return Content(
        uri=uri,
        media_type=media_type,
        digest=await asyncio.to_thread(digest, data) if large else digest(data),
        data=data,
        charset=charset,
        metadata=metadata,
    )


async def outline_of(content: Content, answer: Answer) -> Outline:
    """What a page says beside its text; nothing if it is not HTML.

    Raises:
        SourceError: It is nested deeper than any page.
    """
    if content.media_type != media.HTML:
        return Outline()
    data = answer.body
    if len(data) <= _PARSED_AT_ONCE and data.count(b"<") <= _TAGS_AT_ONCE:
        return outline(content, answer.url, answer.headers)
    return await asyncio.to_thread(outline, content, answer.url, answer.headers)


class Pages(ABC):
    """Many pages as they come: iterate it once, in one of two ways.

    :meth:`contents` gives contents. Iterating the object itself gives their URIs, and
    :meth:`read` the content behind each: so it is source and reader of a pipeline. In both,
    a page that cannot be read is a :class:`~anabranch.errors.SourceError` among the others,
    as a value.

    Attributes:
        given: Contents given so far.
        broken: Errors given so far.
        duplicates: Pages that are others that were given, so far.
        skipped: Pages that rules passed over, so far.
    """

    def __init__(self, *, fail_on_error: bool) -> None:
        self.given = 0
        self.broken = 0
        self.duplicates: list[Duplicate] = []
        self.skipped: list[Skipped] = []
        self._fail_on_error = fail_on_error
        self._has_begun = False
        self._held: dict[str, Content] = {}

    @abstractmethod
    def _visits(self) -> AsyncGenerator[Visited]:
        """What becomes of each page."""

    async def contents(self) -> AsyncGenerator[Content | SourceError]:
        """The pages: contents, and errors for those that cannot be read.

        Raises:
            SourceError: A page cannot be read, under ``fail_on_error``.
            RuntimeError: They are being iterated, or have been.
        """
        if self._has_begun:
            raise RuntimeError("pages are iterated once: ask the reader for them again")
        self._has_begun = True
        async with aclosing(self._visits()) as visits:
            async for visited in visits:
                match visited:
                    case Duplicate():
                        self.duplicates.append(visited)
                    case Skipped():
                        self.skipped.append(visited)
                    case SourceError():
                        self.broken += 1
                        if self._fail_on_error:
                            raise visited
                        yield visited
                    case Content():
                        self.given += 1
                        yield visited

    async def __aiter__(self) -> AsyncGenerator[str | SourceError]:
        """The URI of each page, whose content waits for :meth:`read`."""
        async with aclosing(self.contents()) as contents:
            async for item in contents:
                if isinstance(item, Content):
                    self._held[item.uri] = item
                    yield item.uri
                else:
                    yield item

    async def read(self, uri: str) -> Content:
        """The content of a page that was given by iterating; once.

        Raises:
            SourceError: No page of this name is waiting to be read.
        """
        if (content := self._held.pop(uri, None)) is None:
            raise SourceError(uri, "is not one of the pages that wait to be read")
        return content


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
