"""Crawls: from some pages, or a sitemap, to those that they lead to.

One asynchronous generator takes targets from the frontier as hosts become ready, and a
stream of jobs visits them, so that the consumer's pace is the crawl's: what is fetched and
not yet taken is bounded. Everything that decides is in the frontier, in the scope and in
the rules of the sites; it is asked between two awaits, so that no two visits can take the
same page.

A page's name is the address that it calls canonical, if that is within the crawl, else
where it was found after redirects: the same on every run, whichever way led to it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
from typing import Final

from anabranch.errors import SourceError, UsageError
from anabranch.jobs import astream
from anabranch.jobs.check import check_count
from anabranch.rag.web import sitemap
from anabranch.rag.web.client import Size
from anabranch.rag.web.frontier import Duplicate, Frontier, Known, Skipped, Target
from anabranch.rag.web.pages import Pages, UnreadableKind, Visited
from anabranch.rag.web.sitemap import Entry, Sitemap
from anabranch.rag.web.urls import Scope, authority, join, normalise, origin
from anabranch.rag.web.visits import Page, Visitor

# Links that are looked at in one turn of the event loop: some milliseconds.
LOOKED_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far a crawl goes.

    Attributes:
        scope: Which pages belong to it.
        limit: Pages that are fetched at most.
        depth: Links between a page and a start, at most; None for any number.
        since: Pages that a sitemap says have not changed since then are passed over.
    """

    scope: Scope
    limit: int
    depth: int | None = None
    since: datetime | None = None

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
        if self.depth is not None:
            check_count("depth", self.depth, least=0)
        if self.since is not None and self.since.tzinfo is None:
            raise UsageError(f"since must know its time zone, and {self.since} does not")


class OutOfBounds(Exception):
    """A redirect leads to what the crawl does not visit: the cause of a SourceError."""


class Crawl(Pages):
    """The pages of a crawl: what ``crawl`` and ``sitemap`` of a reader give.

    The order is that in which they come.

    Attributes:
        unvisited: Pages that were found and not visited since the limit was reached.
    """

    def __init__(
        self,
        visitor: Visitor,
        starts: Sequence[Target],
        bounds: Bounds,
        *,
        fail_on_error: bool,
        ask_for_sitemaps: bool = False,
    ) -> None:
        super().__init__(fail_on_error=fail_on_error)
        self._visitor = visitor
        self._fetcher = visitor.fetcher
        self._bounds = bounds
        self._starts = starts
        self._ask_for_sitemaps = ask_for_sitemaps
        self._frontier = Frontier(
            limit=bounds.limit,
            depth=bounds.depth,
            per_host=self._fetcher.manners.per_host,
        )
        self._known = Known()
        self._changed = asyncio.Event()

    @property
    def unvisited(self) -> int:
        return self._frontier.unvisited

    @property
    def visited(self) -> int:
        """Pages that were fetched, whatever became of them, so far."""
        return self._frontier.taken

    async def _visits(self) -> AsyncGenerator[Visited]:
        for start in self._starts:
            self._frontier.add(start)
        if self._ask_for_sitemaps:
            await self._add_sitemaps()
        most = self._visitor.concurrency
        async with astream(
            self._visit, self._due(), concurrency=most, buffer=most
        ) as visits:
            async for some in visits:
                for visited in some:
                    yield visited

    async def _due(self) -> AsyncGenerator[Target]:
        """Targets, each when its host may be asked."""
        while (found := self._frontier.take(self._fetcher.wait_s)) is not None:
            if isinstance(found, Target):
                yield found
            else:
                await self._wait(found)

    async def _wait(self, seconds: float) -> None:
        """Until something has changed, or so many seconds have passed."""
        self._changed.clear()
        if seconds == inf:
            await self._changed.wait()
            return
        sleeping = asyncio.ensure_future(self._fetcher.sleep(seconds))
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({sleeping, changing}, return_when="FIRST_COMPLETED")
        finally:
            sleeping.cancel()
            changing.cancel()
            await asyncio.gather(sleeping, changing, return_exceptions=True)

    async def _visit(self, target: Target) -> Sequence[Visited]:
        try:
            if (reason := await self._why_not(target.url)) is not None:
                if not target.is_sitemap:
                    self._frontier.uncount()
                return [Skipped(target.url, reason)]
            if target.is_sitemap:
                return await self._read_sitemap(target)
            return [await self._read_page(target)]
        finally:
            self._frontier.done(target)
            self._changed.set()

    async def _why_not(self, url: str) -> str | None:
        if not self._fetcher.manners.robots:
            return None
        return await self._fetcher.why_not(url)

    async def _admit(self, url: str) -> None:
        """Whether a redirect is followed."""
        reason = (
            await self._why_not(url)
            if self._bounds.scope.holds(url)
            else f"leads out of the crawl, to {url}"
        )
        if reason is not None:
            raise SourceError(url, reason) from OutOfBounds()

    # -- pages

    async def _read_page(self, target: Target) -> Visited:
        try:
            page = await self._visitor.visit(target.url, admit=self._admit)
        except SourceError as error:
            return self._failed(target, error)
        if page.url != target.url and not self._frontier.claim(page.url):
            return Duplicate(target.url, page.url, "redirect")
        name = self._name(page)
        if name != page.url and not self._frontier.claim(name):
            return Duplicate(target.url, name, "canonical")
        same = self._known.judge(target.url, name, page.content.digest)
        if same is not None:
            return same
        await self._follow(target, page)
        if self._fetcher.manners.robots and page.outline.noindex:
            return Skipped(target.url, "asks not to be found (noindex)")
        content = await self._visitor.finish(page, name)
        if target.lastmod:
            metadata = {**content.metadata, "lastmod": target.lastmod}
            content = replace(content, metadata=metadata)
        return content

    def _failed(self, target: Target, error: SourceError) -> Visited:
        """Of what a crawl found by itself, not all is an error that is no page."""
        if isinstance(error.__cause__, OutOfBounds):
            return Skipped(target.url, error.reason)
        if isinstance(error, UnreadableKind) and target.depth:
            return Skipped(target.url, error.reason)
        return error

    def _name(self, page: Page) -> str:
        canonical = page.outline.canonical
        if canonical is not None and self._bounds.scope.holds(canonical):
            return canonical
        return page.url

    async def _follow(self, target: Target, page: Page) -> None:
        if self._fetcher.manners.robots and page.outline.nofollow:
            return
        for number, link in enumerate(page.outline.links, 1):
            if number % LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if self._bounds.scope.wants(link):
                self._frontier.add(Target(link, target.depth + 1))

    # -- sitemaps

    async def _add_sitemaps(self) -> None:
        """Those that the robots.txt of each start's site names."""
        for site in dict.fromkeys(origin(start.url) for start in self._starts):
            rules = await self._fetcher.rules(site + "/")
            for named in rules.sitemaps:
                if (url := join(site, named)) is not None:
                    self._frontier.add(Target(url, is_sitemap=True))

    async def _read_sitemap(self, target: Target) -> Sequence[Visited]:
        size = Size(max(sitemap.MOST_BYTES, self._fetcher.size.most_bytes))
        try:
            answer = await self._fetcher.fetch(target.url, admit=self._admit, size=size)
        except SourceError as error:
            return [self._failed(target, error)]
        if answer.status != 200:
            reason = f"the sitemap cannot be had: the server answered {answer.status}"
            return [SourceError(target.url, reason)]
        found = await asyncio.to_thread(sitemap.parse, answer.body)
        passed = [*self._add_parts(target, found), *await self._add_pages(target, found)]
        if found.fault:
            return [*passed, SourceError(target.url, found.fault)]
        return passed

    async def _add_pages(self, target: Target, found: Sitemap) -> Sequence[Visited]:
        passed: list[Visited] = []
        for number, entry in enumerate(found.pages, 1):
            if number % LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            url = join(target.url, entry.url)
            if url is None:
                passed.append(Skipped(entry.url, "is no address of a page"))
            elif not self._bounds.scope.wants(url):
                passed.append(Skipped(url, "is out of the bounds of the crawl"))
            elif self._is_old(entry):
                passed.append(Skipped(url, f"has not changed since {entry.lastmod}"))
            else:
                self._frontier.add(Target(url, lastmod=entry.lastmod))
        return passed

    def _add_parts(self, target: Target, found: Sitemap) -> Sequence[Visited]:
        """The sitemaps of an index, which are of its own site."""
        if found.sitemaps and target.depth >= sitemap.MOST_INDEXES:
            return [Skipped(target.url, "is a sitemap index within too many others")]
        passed: list[Visited] = []
        for number, entry in enumerate(found.sitemaps):
            if self._frontier.sitemaps >= sitemap.MOST_SITEMAPS:
                left = len(found.sitemaps) - number
                reason = (
                    f"its last {left:,} sitemaps are not read: a crawl reads "
                    f"{sitemap.MOST_SITEMAPS:,} at most"
                )
                return [*passed, Skipped(target.url, reason)]
            url = join(target.url, entry.url)
            if url is None or authority(url) != authority(target.url):
                passed.append(Skipped(entry.url, "is a sitemap of another site"))
            elif self._is_old(entry):
                passed.append(Skipped(url, f"has not changed since {entry.lastmod}"))
            else:
                self._frontier.add(Target(url, target.depth + 1, is_sitemap=True))
        return passed

    def _is_old(self, entry: Entry) -> bool:
        since = self._bounds.since
        return since is not None and sitemap.is_older(entry.lastmod, since)


def targets(urls: Sequence[str], *, is_sitemap: bool = False) -> list[Target]:
    """Where a crawl starts.

    Raises:
        UsageError: An address is none; the sentence says which.
    """
    found: list[Target] = []
    for url in urls:
        try:
            found.append(Target(normalise(url), is_sitemap=is_sitemap))
        except ValueError as error:
            raise UsageError(f"{url} {error}") from None
    return found
