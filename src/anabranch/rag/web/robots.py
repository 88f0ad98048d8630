"""What a site's ``robots.txt`` allows, by RFC 9309.

An answer that is no success and no failure of the server's (401, 403, 404, 410) means
that there are no rules. A server that fails or cannot be reached means that nothing may be
fetched, as long as that lasts; rules that were read before stay in force instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from protego import Protego

MOST_BYTES: Final = 512 * 1024
"""Of a robots.txt no more is read: RFC 9309, 2.5, asks for at least 500 KiB."""
MOST_REDIRECTS: Final = 5
KEPT_S: Final = 24 * 3600.0
"""For so long rules are used without asking again: RFC 9309, 2.4."""
UNREACHABLE_S: Final = 300.0
"""A site whose rules could not be had is left alone for so long, then asked again."""


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules of one origin.

    Attributes:
        until: When to ask again, in seconds of the caller's clock.
        is_reachable: Whether the site answered; if not, nothing may be fetched.
    """

    until: float
    is_reachable: bool = True
    _rules: Protego | None = None

    def permits(self, url: str, agent: str) -> bool:
        """Whether a page may be fetched by a crawler of this name."""
        if not self.is_reachable:
            return False
        return self._rules is None or self._rules.can_fetch(url, agent)

    def delay_s(self, agent: str) -> float:
        """Seconds that the site wants between two requests."""
        if self._rules is None:
            return 0.0
        delay = self._rules.crawl_delay(agent) or 0.0
        rate = self._rules.request_rate(agent)
        if rate is not None and rate.requests > 0:
            delay = max(delay, rate.seconds / rate.requests)
        return float(delay)

    @property
    def sitemaps(self) -> tuple[str, ...]:
        """The sitemaps that the file names."""
        return () if self._rules is None else tuple(self._rules.sitemaps)


def judge(
    status: int | None, body: bytes, *, now: float, before: Robots | None = None
) -> Robots:
    """The rules that follow from an answer.

    Args:
        status: Of the last answer, after redirects; None if there was no answer. More
            redirects than are followed count as 404.
        body: What was read of it.
        now: The time, in seconds.
        before: The rules that were in force until now.

    Raises:
        ImportError: protego is not installed.
    """
    if status is not None and 200 <= status < 300:
        text = body[:MOST_BYTES].decode("utf-8-sig", "replace")
        return Robots(now + KEPT_S, _rules=_parse(text))
    # 429 is a server that is busy, not one without rules.
    if status is not None and 400 <= status < 500 and status != 429:
        return Robots(now + KEPT_S)
    if before is not None and before.is_reachable:
        return replace(before, until=now + UNREACHABLE_S)
    return Robots(now + UNREACHABLE_S, is_reachable=False)


def agent_of(user_agent: str) -> str:
    """The name by which rules know a crawler: that before the slash."""
    return user_agent.partition("/")[0].partition(" ")[0].strip().lower() or "*"


def _parse(text: str) -> Protego:
    try:
        from protego import Protego
    except ImportError as error:
        raise ImportError(
            "robots.txt needs protego: pip install 'anabranch[rag]'"
        ) from error
    return Protego.parse(text)
