"""Fetching pages: politely, safely, within limits, and not twice.

A :class:`Fetcher` is what everything that reads the web goes through. One request takes
this way, in this order: the address is normalised and checked; the cache is asked; the
request waits for its host's turn and then for one of the places of all; it is sent through
the guard's connector; the answer is read within the limits, kept or confirmed. Redirects
are followed here, one by one, so that each hop takes the whole way.

Retries are around one hop. A host that says ``Retry-After`` is held for everybody.

Why it is so: docs/decisions/0023-web-reader.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from anabranch.clock import Clock
from anabranch.errors import SourceError
from anabranch.jobs.flight import SingleFlight
from anabranch.rag.readers.files import megabytes
from anabranch.rag.web import freshness, robots
from anabranch.rag.web.cache import HttpCache, Stored
from anabranch.rag.web.client import (
    REDIRECTS,
    Answer,
    Check,
    Client,
    Size,
    Wanted,
    too_large,
)
from anabranch.rag.web.failures import Refused, phrase
from anabranch.rag.web.pace import Manners, Pace
from anabranch.rag.web.robots import Robots
from anabranch.rag.web.urls import authority, join, normalise, origin
from anabranch.retry import TRANSIENT, Retry, is_throttle, retry_after_s

MOST_REDIRECTS: Final = 10
# Headers that must not go where a redirect leads.
_FOR_ONE_SITE = frozenset({"authorization", "cookie"})

Admit = Callable[[str], Awaitable[None]]
"""Given each address that a redirect leads to: raises SourceError if it is not to be."""


class Fetcher:
    """Fetches pages for a reader. Open it before, close it after.

    Args:
        client: What sends requests.
        manners: How it behaves towards hosts.
        concurrency: Requests at once, to all hosts.
        max_bytes: Of each body, unpacked.
        retry: When a failed request is sent again.
        cache: Where responses are kept.
        clock: For delays.
    """

    def __init__(
        self,
        client: Client,
        *,
        manners: Manners,
        concurrency: int,
        max_bytes: int,
        retry: Retry,
        cache: HttpCache | None,
        clock: Clock,
    ) -> None:
        self.size = Size(max_bytes)
        self.manners = manners
        self._client = client
        self._agent = robots.agent_of(client.user_agent)
        self._concurrency = concurrency
        self._retry = retry
        self._cache = cache
        self._clock = clock
        self._pace = Pace(manners.delay)
        self._places = asyncio.Semaphore(concurrency)
        # A host's own places live as long as somebody waits for one or has one.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._robots: dict[str, Robots] = {}
        self._asking: SingleFlight[Robots] = SingleFlight()

    def open(self) -> None:
        """Make the session.

        Raises:
            ImportError: aiohttp is missing; it has the command that installs it.
        """
        self._client.open()
        # Of the loop that runs now: a reader may be entered again in another.
        self._places = asyncio.Semaphore(self._concurrency)
        self._turns.clear()

    async def aclose(self) -> None:
        """Close the connections and the cache. Idempotent."""
        try:
            await self._client.aclose()
        finally:
            if self._cache is not None:
                await self._cache.aclose()

    # -- pages

    async def fetch(
        self,
        url: str,
        *,
        check: Check | None = None,
        admit: Admit | None = None,
        size: Size | None = None,
        most_redirects: int = MOST_REDIRECTS,
    ) -> Answer:
        """The answer at an address, after redirects, whatever its status.

        Raises:
            SourceError: There is none, it is too large, or ``check`` or ``admit`` say no.
        """
        try:
            here = normalise(url)
        except ValueError as error:
            raise SourceError(url, str(error)) from error
        met = [here]
        wanted = Wanted(url, check, size or self.size)
        while True:
            answer = await self._persistently(wanted, here)
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or location is None:
                return answer
            here = _next(url, here, location, met, most_redirects)
            if admit is not None:
                await admit(here)

    async def _persistently(self, wanted: Wanted, url: str) -> Answer:
        """One hop, tried again as often as it is worth it."""
        began, attempt = self._clock.monotonic(), 1
        while True:
            try:
                return await self._remembering(wanted, url)
            except SourceError as error:
                now = self._clock.now()
                if is_throttle(error) and (asked_s := retry_after_s(error, now)):
                    self._pace.hold(authority(url), self._clock.monotonic(), asked_s)
                elapsed_s = self._clock.monotonic() - began
                delay_s = self._retry.delay(attempt, error, elapsed_s, now)
                if delay_s is None:
                    raise
            await self._clock.sleep(delay_s)
            attempt += 1

    async def _remembering(self, wanted: Wanted, url: str) -> Answer:
        """One request, unless the cache knows the answer."""
        if self._cache is None:
            return await self._politely(wanted, url, {})
        stored = await self._cache.get(url, self._client.user_agent)
        if stored is None:
            answer = await self._politely(wanted, url, {})
            await self._keep(wanted, answer)
            return answer
        if len(stored.body) > wanted.size.most_bytes:
            raise too_large(wanted, f"is {megabytes(len(stored.body))}")
        known = Answer(url, 200, stored.headers, stored.body)
        if freshness.is_fresh(stored.headers, stored=stored.stored, now=self._clock.now()):
            return known
        asking = freshness.conditions(stored.headers)
        answer = await self._politely(wanted, url, asking)
        if answer.status == 304 and asking:
            return await self._confirmed(known, answer)
        await self._keep(wanted, answer, replacing=True)
        return answer

    async def _keep(
        self, wanted: Wanted, answer: Answer, *, replacing: bool = False
    ) -> None:
        assert self._cache is not None
        # What may have been cut is not the page.
        is_whole = not wanted.size.is_cut or len(answer.body) < wanted.size.most_bytes
        if is_whole and freshness.may_store(answer.status, answer.headers):
            response = Stored(answer.headers, answer.body, self._clock.now())
            await self._cache.put(answer.url, self._client.user_agent, response)
        elif replacing:
            await self._cache.drop(answer.url, self._client.user_agent)

    async def _confirmed(self, known: Answer, answer: Answer) -> Answer:
        assert self._cache is not None
        headers = freshness.refreshed(known.headers, answer.headers)
        if freshness.may_store(200, headers):
            await self._cache.confirm(
                known.url, self._client.user_agent, headers, self._clock.now()
            )
        else:
            await self._cache.drop(known.url, self._client.user_agent)
        return Answer(known.url, 200, headers, known.body)

    async def _politely(
        self, wanted: Wanted, url: str, headers: Mapping[str, str]
    ) -> Answer:
        async with self.turn(wanted.uri, url):
            answer = await self._client.request(wanted, url, headers=headers)
        if answer.status in TRANSIENT:
            said = phrase(answer.status, answer.headers.get(":reason"))
            raise SourceError(wanted.uri, f"the server answered {said}") from Refused(
                answer.status, answer.headers
            )
        return answer

    @asynccontextmanager
    async def turn(self, uri: str, url: str) -> AsyncGenerator[None]:
        """A place among the requests to a host, and then among all.

        Raises:
            SourceError: The host wants no requests for longer than anybody waits.
        """
        host = authority(url)
        turns = self._turns.setdefault(host, asyncio.Semaphore(self.manners.per_host))
        async with turns:
            while (wait_s := self.wait_s(host)) > 0:
                if wait_s > max(self._retry.max_retry_after, self.manners.most_delay):
                    raise SourceError(
                        uri,
                        f"the server asked for no requests for {wait_s:,.0f} s more: try "
                        "again after that",
                    )
                await self._clock.sleep(wait_s)
            self._pace.started(host, self._clock.monotonic())
            async with self._places:
                yield

    def wait_s(self, host: str) -> float:
        """Seconds until a host may be asked."""
        return self._pace.wait_s(host, self._clock.monotonic())

    async def exchange(
        self, url: str, *, method: str, headers: Mapping[str, str], data: bytes | None
    ) -> Answer:
        """One request of a browser's, after redirects: in its turn, without retries.

        Raises:
            SourceError: There is no answer, or it is too large.
        """
        wanted = Wanted(url, None, self.size)
        try:
            here = normalise(url)
        except ValueError as error:
            raise SourceError(url, str(error)) from error
        met = [here]
        while True:
            async with self.turn(url, here):
                answer = await self._client.request(
                    wanted, here, method=method, headers=headers, data=data
                )
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or location is None:
                return answer
            there = _next(url, here, location, met, MOST_REDIRECTS)
            if answer.status in (301, 302, 303) and method != "HEAD":
                method, data = "GET", None
            if origin(there) != origin(here):
                headers = {n: t for n, t in headers.items() if n not in _FOR_ONE_SITE}
            here = there

    async def sleep(self, seconds: float) -> None:
        """Wait, by the reader's clock."""
        await self._clock.sleep(seconds)

    # -- rules of sites

    async def rules(self, url: str) -> Robots:
        """The rules of the site that a page is of, asked for at most once a day."""
        site = origin(url)
        found = self._robots.get(site)
        if found is None or found.until <= self._clock.monotonic():
            found = await self._asking.do(site, lambda: self._ask_rules(site))
            delay_s = found.delay_s(self._agent)
            self._pace.slow_down(authority(url), self._clock.monotonic(), delay_s)
        return found

    async def why_not(self, url: str) -> str | None:
        """Why a crawl may not fetch a page, or None if it may."""
        rules = await self.rules(url)
        if not rules.is_reachable:
            return "its site's robots.txt cannot be had, so nothing may be fetched"
        if not rules.permits(url, self._agent):
            return "robots.txt forbids it"
        if (delay_s := rules.delay_s(self._agent)) > self.manners.most_delay:
            return (
                f"robots.txt asks for {delay_s:,.0f} s between pages, above the "
                f"{self.manners.most_delay:g} s of most_delay"
            )
        return None

    async def _ask_rules(self, site: str) -> Robots:
        status: int | None
        try:
            answer = await self.fetch(
                f"{site}/robots.txt",
                size=Size(robots.MOST_BYTES, is_cut=True),
                most_redirects=robots.MOST_REDIRECTS,
            )
            status, body = answer.status, answer.body
        except TooManyRedirects:
            status, body = 404, b""
        except SourceError as error:
            cause = error.__cause__
            status, body = cause.status if isinstance(cause, Refused) else None, b""
        found = robots.judge(
            status,
            body,
            now=self._clock.monotonic(),
            before=self._robots.get(site),
        )
        self._robots[site] = found
        return found


class TooManyRedirects(SourceError):
    """An address leads to another, and so on, for too long."""


def _next(uri: str, here: str, location: str, met: list[str], most: int) -> str:
    """Where a redirect leads; it is noted among those that were met."""
    there = join(here, location)
    if there is None:
        raise SourceError(uri, "leads to an address that is not on the web")
    if there in met:
        raise TooManyRedirects(uri, "redirects in a circle: check the address")
    if len(met) > most:
        raise TooManyRedirects(
            uri, f"redirects more than {most} times: give the address it leads to"
        )
    met.append(there)
    return there
