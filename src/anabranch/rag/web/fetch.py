"""Fetching pages: politely, safely, within limits, and not twice.

A :class:`Fetcher` is what everything that reads the web goes through. One request takes
this way, in this order: the address is normalised and checked; the cache is asked; the
request waits for its host's turn and then for one of the places of all; it is sent through
the guard's connector; the answer is read within the limits, kept or confirmed. Redirects
are followed here, one by one, so that each hop takes the whole way.

Retries are around one hop. A host that says ``Retry-After`` is held for everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from anabranch.clock import Clock
from anabranch.errors import SourceError
from anabranch.jobs.flight import SingleFlight
from anabranch.rag.readers.files import MIB, megabytes
from anabranch.rag.web import freshness, robots
from anabranch.rag.web.addresses import Access
from anabranch.rag.web.cache import HttpCache, Stored
from anabranch.rag.web.failures import Refused, explain, lasting_cause, phrase
from anabranch.rag.web.guard import Guard
from anabranch.rag.web.pace import Manners, Pace
from anabranch.rag.web.packing import ACCEPTED, Unpacker
from anabranch.rag.web.robots import Robots
from anabranch.rag.web.urls import authority, host_and_port, join, normalise, origin
from anabranch.retry import TRANSIENT, Retry, is_throttle, retry_after_s

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

MOST_REDIRECTS: Final = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Headers that must not go where a redirect leads.
_FOR_ONE_SITE = frozenset({"authorization", "cookie"})
_TYPES = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

Check = Callable[[str, Mapping[str, str]], None]
"""Given address and headers of a success, before its body is read: raises SourceError."""
Admit = Callable[[str], Awaitable[None]]
"""Given each address that a redirect leads to: raises SourceError if it is not to be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        url: The address, normalised, that it was the answer of.
        status: Of HTTP.
        headers: Names in lower case; several of one name are joined by commas.
        body: Unpacked.
        is_stored: Whether the body is the cache's.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    is_stored: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a body is read, unpacked.

    Attributes:
        most_bytes: The limit.
        is_cut: Whether what is longer is cut there, rather than refused.
    """

    most_bytes: int
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of an answer.

    Attributes:
        uri: The page, as errors name it.
        check: Whether its headers will do.
        size: How much of it is read.
    """

    uri: str
    check: Check | None
    size: Size


class Fetcher:
    """Fetches pages for a reader. Open it before, close it after.

    Args:
        who: The reader's name, for errors.
        access: Whom it may connect to.
        manners: How it behaves towards hosts.
        user_agent: What it says it is.
        concurrency: Requests at once, to all hosts.
        timeout: Seconds for each answer.
        max_bytes: Of each body, unpacked.
        retry: When a failed request is sent again.
        cache: Where responses are kept.
        clock: For delays.
    """

    def __init__(
        self,
        who: str,
        *,
        access: Access,
        manners: Manners,
        user_agent: str,
        concurrency: int,
        timeout: float,
        max_bytes: int,
        retry: Retry,
        cache: HttpCache | None,
        clock: Clock,
    ) -> None:
        self.size = Size(max_bytes)
        self.manners = manners
        self._who = who
        self._agent = robots.agent_of(user_agent)
        self._user_agent = user_agent
        self._concurrency = concurrency
        self._timeout = timeout
        self._retry = retry
        self._cache = cache
        self._clock = clock
        self._guard = Guard(access)
        self._pace = Pace(manners.delay)
        self._places = asyncio.Semaphore(concurrency)
        # A host's own places live as long as somebody waits for one or has one.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._robots: dict[str, Robots] = {}
        self._asking: SingleFlight[Robots] = SingleFlight()
        self._session: ClientSession | None = None

    def open(self) -> None:
        """Make the session.

        Raises:
            ImportError: aiohttp is missing; it has the command that installs it.
        """
        try:
            import aiohttp
        except ImportError as error:
            raise ImportError(
                f"{self._who} needs aiohttp: pip install 'anabranch[rag]'"
            ) from error
        self._session = aiohttp.ClientSession(
            connector=self._guard.connector(self._concurrency),
            headers={
                "User-Agent": self._user_agent,
                "Accept": _TYPES,
                "Accept-Encoding": ACCEPTED,
            },
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            # What one page sets is no other page's business.
            cookie_jar=aiohttp.DummyCookieJar(),
            # Unpacked here, so that no version of the client unpacks a bomb at once.
            auto_decompress=False,
        )

    async def aclose(self) -> None:
        """Close the connections and the cache. Idempotent."""
        session, self._session = self._session, None
        try:
            if session is not None:
                await session.close()
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
        if self._session is None:
            raise RuntimeError(
                f"{self._who} is not open: use it in 'async with {self._who}()'"
            )
        try:
            here = normalise(url)
        except ValueError as error:
            raise SourceError(url, str(error)) from error
        met = [here]
        wanted = Wanted(url, check, size or self.size)
        while True:
            answer = await self._persistently(wanted, here)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None:
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
        stored = await self._cache.get(url, self._user_agent)
        if stored is None:
            answer = await self._politely(wanted, url, {})
            await self._keep(wanted, answer)
            return answer
        if len(stored.body) > wanted.size.most_bytes:
            raise _too_large(wanted, f"is {megabytes(len(stored.body))}")
        known = Answer(url, 200, stored.headers, stored.body, is_stored=True)
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
            await self._cache.put(answer.url, self._user_agent, response)
        elif replacing:
            await self._cache.drop(answer.url, self._user_agent)

    async def _confirmed(self, known: Answer, answer: Answer) -> Answer:
        assert self._cache is not None
        headers = freshness.refreshed(known.headers, answer.headers)
        if freshness.may_store(200, headers):
            await self._cache.confirm(
                known.url, self._user_agent, headers, self._clock.now()
            )
        else:
            await self._cache.drop(known.url, self._user_agent)
        return Answer(known.url, 200, headers, known.body, is_stored=True)

    async def _politely(
        self, wanted: Wanted, url: str, headers: Mapping[str, str]
    ) -> Answer:
        async with self.turn(wanted.uri, url):
            answer = await self.request(wanted, url, headers=headers)
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
                answer = await self.request(
                    wanted, here, method=method, headers=headers, data=data
                )
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None:
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

    async def request(
        self,
        wanted: Wanted,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        data: bytes | None = None,
    ) -> Answer:
        """One request to a normalised address, now, without retries, cache or redirects.

        Raises:
            SourceError: There is no answer, it is too large, or it is not wanted.
        """
        import aiohttp
        from yarl import URL

        assert self._session is not None
        try:
            self._guard.admit(*host_and_port(url))
            async with self._session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=data,
                allow_redirects=False,
            ) as response:
                return await _read(wanted, url, response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # A bare TimeoutError is an OSError; host names too strange for the resolver
            # end as ValueError.
            reason = explain(error, self._timeout)
            raise SourceError(wanted.uri, reason) from lasting_cause(error)

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


async def _read(wanted: Wanted, url: str, response: ClientResponse) -> Answer:
    status, headers = response.status, _headers(response)
    if wanted.check is not None and 200 <= status < 300:
        wanted.check(url, headers)
    if status in _REDIRECTS or status == 304:
        # What they say beside their headers is for people.
        return Answer(url, status, headers, b"")
    return Answer(url, status, headers, await _body(wanted, response, headers))


async def _body(
    wanted: Wanted, response: ClientResponse, headers: Mapping[str, str]
) -> bytes:
    size = wanted.size
    # The announced length is that of the packed page, and may be a lie: a reason to
    # refuse early, never a reason to trust.
    announced = response.content_length or 0
    if announced > size.most_bytes and not size.is_cut:
        raise _too_large(wanted, f"is {megabytes(announced)}")
    unpacker = Unpacker(headers.get("content-encoding", ""))
    pieces: list[bytes] = []
    had = paused = 0
    async for packed in response.content.iter_any():
        for piece in unpacker.feed(packed):
            had += len(piece)
            pieces.append(piece)
            if had > size.most_bytes:
                if size.is_cut:
                    return b"".join(pieces)[: size.most_bytes]
                raise _too_large(wanted, "is larger than it announced")
            if had - paused >= MIB:
                paused = had
                await asyncio.sleep(0)
    if not unpacker.is_complete:
        raise SourceError(wanted.uri, "the answer broke off: try again")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(wanted: Wanted, fact: str) -> SourceError:
    limit = megabytes(wanted.size.most_bytes)
    return SourceError(wanted.uri, f"{fact}; the limit is {limit}: raise max_bytes")


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


def _headers(response: ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in response.headers.items():
        lower = name.lower()
        found[lower] = f"{found[lower]}, {text}" if lower in found else text
    if response.reason:
        # As in HTTP/2, what is no header but belongs to them begins with a colon.
        found[":reason"] = response.reason
    return found
