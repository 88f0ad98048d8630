"""What a crawl knows: pages to come, pages that were taken, and which are the same.

Pages of one host are taken in the order in which they were found, so those with fewer
links between them and a start come first; hosts take turns, and so do the pages and the
sitemaps of one: however many sitemaps it names, its pages come. A host that must not be
asked yet, or has all the requests it may have, is passed over. So one slow host holds up
nothing but itself, and no more than its share of the workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

from anabranch.rag.web.urls import authority

# Pages known beside those that are taken: enough to go on when many of them are refused.
KNOWN_PER_PAGE: Final = 10
LEAST_KNOWN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    """Something to fetch.

    Attributes:
        url: Normalised.
        depth: Links between it and a start; of a sitemap, indexes.
        is_sitemap: Whether it is a list of pages rather than a page.
        lastmod: When a sitemap says that it has changed.
    """

    url: str
    depth: int = 0
    is_sitemap: bool = False
    lastmod: str = ""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A page that was not given since it is another one that was.

    Attributes:
        uri: Its address.
        of: The name of the one that was given.
        by: How that is known: they have the same address, one leads to the other, a page
            names its ``canonical`` address, or the bytes are the same.
    """

    uri: str
    of: str
    by: Literal["address", "redirect", "canonical", "content"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A page that was passed over by the rules of the crawl.

    Attributes:
        uri: Its address.
        reason: Which rule, in words.
    """

    uri: str
    reason: str


class Frontier:
    """The pages of one crawl.

    Args:
        limit: Pages that are taken at most; sitemaps do not count.
        depth: The most links between a page and a start; None for any. Sitemaps have
            bounds of their own, which whoever adds them keeps.
        per_host: Pages of one host that are in hand at once.

    Attributes:
        taken: Pages taken so far.
        sitemaps: Sitemaps that were noted so far.
        unvisited: Pages that were found and not visited, since the limit was reached or
            more were known than are kept; of the latter, one linked twice counts twice.
    """

    def __init__(self, *, limit: int, depth: int | None, per_host: int) -> None:
        self.taken = 0
        self.sitemaps = 0
        self.unvisited = 0
        self._limit = limit
        self._depth = inf if depth is None else depth
        self._per_host = per_host
        self._most_known = max(KNOWN_PER_PAGE * limit, LEAST_KNOWN)
        self._known: set[str] = set()
        self._claimed: set[str] = set()
        # Hosts with pages or (True) sitemaps to come, the next in turn first.
        self._queues: dict[tuple[str, bool], deque[Target]] = {}
        self._turns: deque[tuple[str, bool]] = deque()
        self._in_hand: dict[str, int] = {}

    def add(self, target: Target) -> bool:
        """Note something to fetch; False if it is known, or out of bounds."""
        too_deep = not target.is_sitemap and target.depth > self._depth
        if target.url in self._known or too_deep:
            return False
        if len(self._known) >= self._most_known:
            self.unvisited += 1
            return False
        self._known.add(target.url)
        self.sitemaps += target.is_sitemap
        turn = authority(target.url), target.is_sitemap
        if turn not in self._queues:
            self._queues[turn] = deque()
            self._turns.append(turn)
        self._queues[turn].append(target)
        return True

    def take(self, wait_s: Callable[[str], float]) -> Target | float | None:
        """The next thing to fetch: :meth:`done` is called when it is.

        Args:
            wait_s: Seconds until a host may be asked.

        Returns:
            A target; or seconds after which to ask again, infinite when something that
            is in hand must be done first; or None when the crawl is over.
        """
        if self.taken >= self._limit:
            # What is in hand may turn out not to count.
            if self._in_hand:
                return inf
            self._give_up()
        soonest = inf
        for _ in range(len(self._turns)):
            turn = self._turns[0]
            host, _ = turn
            self._turns.rotate(-1)
            if self._in_hand.get(host, 0) >= self._per_host:
                continue
            if (wait := wait_s(host)) > 0:
                soonest = min(soonest, wait)
            elif (target := self._next_of(turn)) is not None:
                return target
        return soonest if self._turns or self._in_hand else None

    def done(self, target: Target) -> None:
        """What was taken has been dealt with."""
        host = authority(target.url)
        self._in_hand[host] -= 1
        if not self._in_hand[host]:
            del self._in_hand[host]

    def uncount(self) -> None:
        """A page that was taken was not fetched after all."""
        self.taken -= 1

    def claim(self, url: str) -> bool:
        """Take a page that was met under another address; False if it is taken."""
        if url in self._claimed:
            return False
        self._known.add(url)
        self._claimed.add(url)
        return True

    def _next_of(self, turn: tuple[str, bool]) -> Target | None:
        queue = self._queues[turn]
        target = None
        while queue and target is None:
            target = queue.popleft()
            if not self.claim(target.url):
                target = None
        if not queue:
            del self._queues[turn]
            self._turns.remove(turn)
        if target is not None:
            host, _ = turn
            self._in_hand[host] = self._in_hand.get(host, 0) + 1
            self.taken += not target.is_sitemap
        return target

    def _give_up(self) -> None:
        left = (t for queue in self._queues.values() for t in queue)
        self.unvisited += sum(1 for target in left if target.url not in self._claimed)
        self._queues.clear()
        self._turns.clear()


class Known:
    """The pages that were given, by name and by content."""

    def __init__(self) -> None:
        self._by_digest: dict[str, str] = {}

    def judge(self, uri: str, name: str, digest: str) -> Duplicate | None:
        """Whether a page is one that was given; if not, it is from now on.

        Args:
            uri: The page.
            name: Under which it would be given.
            digest: Of its bytes.
        """
        if (given := self._by_digest.get(digest)) is not None:
            return Duplicate(uri, given, "content")
        self._by_digest[digest] = name
        return None
