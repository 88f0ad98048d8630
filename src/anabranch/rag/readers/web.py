"""Pages and files over HTTP."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Self

from anabranch.clock import Clock, RealClock
from anabranch.errors import UsageError
from anabranch.jobs.check import check_count
from anabranch.rag.readers.files import MIB
from anabranch.rag.types import Content
from anabranch.rag.web.addresses import Access
from anabranch.rag.web.cache import HttpCache
from anabranch.rag.web.client import Client
from anabranch.rag.web.crawl import Bounds, Crawl, targets
from anabranch.rag.web.fetch import Fetcher
from anabranch.rag.web.listed import Listed, Urls
from anabranch.rag.web.loaded import Loaded
from anabranch.rag.web.pace import Manners
from anabranch.rag.web.pages import Pages
from anabranch.rag.web.urls import Scope
from anabranch.rag.web.visits import Visitor
from anabranch.retry import Retry


class WebReader:
    """Reads URLs, with one pool of connections for all of them.

    Use it as an async context manager; the connections close when the block ends. Any
    number of calls may run at once; the limits hold for all of them together. A read holds
    at most ``max_bytes`` of the page, also when the server announces less or the page
    unpacks to more.

    Only addresses of the public internet are connected to, whatever a URL, a redirect or
    the DNS says, unless ``allow_private`` allows others.

    Args:
        timeout: Seconds for one answer, from look-up to last byte.
        max_bytes: The largest page to read, unpacked.
        allow_private: Hosts that may be on this machine or in a private network, with or
            without a port (``["intranet.example", "127.0.0.1:8080"]``); True for all.
        concurrency: Requests at once, to all hosts together.
        manners: How it behaves towards each host.
        retry: Tries in all, or a :class:`~anabranch.jobs.Retry`. By default three, for
            failures that may pass; ``Retry-After`` is obeyed.
        cache: A file, or an :class:`~anabranch.rag.web.HttpCache`, in which pages are
            kept: those that have not changed are not sent again.
        outline: Keep the headings and the first hundred links of each HTML page as
            metadata, ``headings`` and ``links``. Each passage made of the page carries
            them, so an index grows by some kilobytes a passage.
        main_text: Keep only the main text of each HTML page, by trafilatura.
        user_agent: What it says it is; robots.txt knows it by what is before the slash.
        clock: For delays.
    """

    def __init__(
        self,
        timeout: float = 30.0,
        max_bytes: int = 16 * MIB,
        *,
        allow_private: bool | Collection[str] = False,
        concurrency: int = 64,
        manners: Manners | None = None,
        retry: Retry | int | None = 3,
        cache: HttpCache | str | os.PathLike[str] | None = None,
        outline: bool = False,
        main_text: bool = False,
        user_agent: str = "anabranch",
        clock: Clock | None = None,
    ) -> None:
        if timeout <= 0:
            raise UsageError(f"timeout is {timeout}: it must be above 0 seconds")
        if max_bytes < 1:
            raise UsageError(f"max_bytes is {max_bytes}: it must be at least 1")
        check_count("concurrency", concurrency)
        if not user_agent or not user_agent.isascii() or not user_agent.isprintable():
            raise UsageError(f"user_agent must be printable ASCII, not {user_agent!r}")
        access = (
            Access(private=allow_private)
            if isinstance(allow_private, bool)
            else Access(hosts=allow_private)
        )
        if cache is not None and not isinstance(cache, HttpCache):
            cache = HttpCache(cache)
        client = Client(
            type(self).__name__,
            access=access,
            user_agent=user_agent,
            connections=concurrency,
            timeout=timeout,
        )
        fetcher = Fetcher(
            client,
            manners=manners or Manners(),
            concurrency=concurrency,
            max_bytes=max_bytes,
            retry=retry if isinstance(retry, Retry) else Retry(retry or 1),
            cache=cache,
            clock=clock or RealClock(),
        )
        self._visitor = Visitor(
            fetcher, concurrency=concurrency, outline=outline, main_text=main_text
        )

    async def __aenter__(self) -> Self:
        self._visitor.fetcher.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._visitor.aclose()

    async def read(self, uri: str) -> Content:
        """The page behind a URL, after redirects.

        The content's ``uri`` is the URL as given, without its fragment; where redirects
        led is ``metadata["url"]``.

        Raises:
            SourceError: It cannot be had, is too large, or is of no readable kind.
            StoreError: The cache cannot be used.
            RuntimeError: The reader was not entered with ``async with``.
        """
        page = await self._visitor.visit(uri, outlined=False)
        return await self._visitor.finish(page)

    def pages(
        self, urls: Urls, *, dedupe: bool = True, fail_on_error: bool = False
    ) -> Pages:
        """The pages behind some URLs, many at once, in the order of the URLs.

        URLs are taken as they are needed, so there may be any number of them.

        Args:
            urls: Addresses.
            dedupe: Give a page once that is named twice, is led to twice, calls another
                page its canonical address, or has the bytes of another; the others are
                in :attr:`~anabranch.rag.web.Pages.duplicates`.
            fail_on_error: Raise the first error, and end. Otherwise it is a value.

        Raises:
            UsageError: ``urls`` is one string.
        """
        return Listed(self._visitor, urls, dedupe=dedupe, fail_on_error=fail_on_error)

    async def load(
        self, urls: Urls, *, dedupe: bool = True, fail_on_error: bool = False
    ) -> Loaded:
        """The documents behind some URLs, in their order, all in memory.

        What could not be read is in ``errors`` of the list, and what was a duplicate in
        ``duplicates``: nothing is dropped without a word.

        Args:
            urls: Addresses.
            dedupe: As for :meth:`pages`.
            fail_on_error: Raise the first error, and end.

        Raises:
            SourceError: A page cannot be read, under ``fail_on_error``.
            UsageError: ``urls`` is one string.
        """
        pages = self.pages(urls, dedupe=dedupe, fail_on_error=fail_on_error)
        loaded = Loaded()
        async with aclosing(pages.contents()) as contents:
            async for item in contents:
                await loaded.take(item, fail_on_error=fail_on_error)
        loaded.duplicates = pages.duplicates
        return loaded

    def crawl(
        self,
        *starts: str,
        within: Sequence[str] | None = None,
        depth: int | None = None,
        limit: int = 1_000,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        sitemaps: bool = False,
        fail_on_error: bool = False,
    ) -> Crawl:
        """The pages that some pages lead to, link by link, as they come.

        Args:
            starts: Addresses to begin with.
            within: Hosts and prefixes that the crawl stays in; the starts' hosts by
                default. ``http`` and ``https`` of a host are one.
            depth: The most links between a page and a start.
            limit: The most pages to fetch.
            include: Patterns, as of file names, of which a page that is found must match
                one, such as ``"*/docs/*"``. The starts need not.
            exclude: Patterns of which it must match none.
            sitemaps: Begin also with the sitemaps that each start's robots.txt names.
            fail_on_error: Raise the first error, and end. Otherwise it is a value.

        Raises:
            UsageError: An argument cannot be meant.
        """
        if not starts:
            raise UsageError("a crawl needs at least one address to begin with")
        begin = targets(starts)
        scope = Scope.around((start.url for start in begin), within, include, exclude)
        return Crawl(
            self._visitor,
            begin,
            Bounds(scope=scope, limit=limit, depth=depth),
            fail_on_error=fail_on_error,
            ask_for_sitemaps=sitemaps,
        )

    def sitemap(
        self,
        *urls: str,
        since: datetime | None = None,
        within: Sequence[str] | None = None,
        limit: int = 50_000,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        fail_on_error: bool = False,
    ) -> Crawl:
        """The pages of some sitemaps, as they come; no links are followed.

        A sitemap may be an index of others, two deep, may be packed with gzip, and may be
        plain text. At most 10,000 sitemaps are read, in turn with the pages. Of pages
        with a ``lastmod``, the contents have it as metadata.

        Args:
            urls: Addresses of sitemaps.
            since: Pass over pages that say they have not changed since then.
            within: Hosts and prefixes of which pages are taken; the sitemaps' hosts by
                default, as the protocol has it.
            limit: The most pages to fetch.
            include: As for :meth:`crawl`.
            exclude: As for :meth:`crawl`.
            fail_on_error: As for :meth:`crawl`.

        Raises:
            UsageError: An argument cannot be meant.
        """
        if not urls:
            raise UsageError("sitemap needs at least one address of a sitemap")
        begin = targets(urls, is_sitemap=True)
        scope = Scope.around((start.url for start in begin), within, include, exclude)
        return Crawl(
            self._visitor,
            begin,
            Bounds(scope=scope, limit=limit, depth=0, since=since),
            fail_on_error=fail_on_error,
        )
