"""Pages that were named one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import TypeAlias
from urllib.parse import urldefrag

from anabranch.errors import SourceError, UsageError
from anabranch.jobs import astream
from anabranch.rag.web.frontier import Duplicate, Known
from anabranch.rag.web.pages import Pages, Visited
from anabranch.rag.web.urls import normalise
from anabranch.rag.web.visits import Page, Visitor

Urls: TypeAlias = Iterable[str] | AsyncIterable[str]


class Listed(Pages):
    """Some pages, in their order: what :meth:`~anabranch.rag.WebReader.pages` gives."""

    def __init__(
        self, visitor: Visitor, urls: Urls, *, dedupe: bool, fail_on_error: bool
    ) -> None:
        if isinstance(urls, str | bytes):
            raise UsageError(f"urls must be a list of addresses, not one: give [{urls!r}]")
        super().__init__(fail_on_error=fail_on_error)
        self._visitor = visitor
        self._urls = urls
        self._dedupe = dedupe
        # Normalised addresses, and the name of the page that each stands for.
        self._addresses: dict[str, str] = {}
        self._known = Known()

    async def _visits(self) -> AsyncGenerator[Visited]:
        most = self._visitor.concurrency
        async with astream(
            self._visit, self._asked(), concurrency=most, ordered=True, buffer=most
        ) as visits:
            async for visited in visits:
                if not isinstance(visited, Page):
                    yield visited
                elif (same := self._judge(visited)) is not None:
                    yield same
                else:
                    yield await self._visitor.finish(visited)

    async def _asked(self) -> AsyncGenerator[str | Duplicate]:
        async with aclosing(_each(self._urls)) as urls:
            async for url in urls:
                yield self._again(url) or url

    def _again(self, url: str) -> Duplicate | None:
        """Whether an address was asked for before."""
        if not self._dedupe:
            return None
        try:
            address = normalise(url)
        except ValueError:
            # What is wrong with it is told when it is read.
            return None
        if (first := self._addresses.get(address)) is not None:
            return Duplicate(url, first, "address")
        self._addresses[address] = urldefrag(url).url
        return None

    async def _visit(self, asked: str | Duplicate) -> Page | SourceError | Duplicate:
        if isinstance(asked, Duplicate):
            return asked
        try:
            return await self._visitor.visit(asked, outlined=self._dedupe)
        except SourceError as error:
            return error

    def _judge(self, page: Page) -> Duplicate | None:
        """Called in the order of the list, so the first of several is the one given."""
        if not self._dedupe:
            return None
        name = page.content.uri
        of = self._addresses.setdefault(page.url, name)
        if of != name:
            return Duplicate(name, of, "redirect")
        canonical = page.outline.canonical
        if canonical is not None:
            of = self._addresses.setdefault(canonical, name)
            if of != name:
                return Duplicate(name, of, "canonical")
        return self._known.judge(name, name, page.content.digest)


async def _each(urls: Urls) -> AsyncGenerator[str]:
    if isinstance(urls, AsyncIterable):
        async for url in urls:
            yield url
    else:
        for url in urls:
            yield url
