"""How often each host may be asked: delays, and servers that ask for patience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from anabranch.errors import UsageError
from anabranch.jobs.check import check_count, checked_number

# Hosts whose state says nothing any more are forgotten when there are more than this.
MOST_HOSTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a reader behaves towards hosts.

    Attributes:
        per_host: Requests to one host at once.
        delay: Seconds between the starts of two requests to one host.
        robots: Whether crawls obey ``robots.txt`` and the page's own ``noindex`` and
            ``nofollow``. Pages that are named one by one are not asked about: who names
            them is no crawler.
        most_delay: A site whose ``robots.txt`` wants more seconds between two requests
            than this is not crawled.
    """

    per_host: int = 4
    delay: float = 0.0
    robots: bool = True
    most_delay: float = 60.0

    def __post_init__(self) -> None:
        check_count("per_host", self.per_host)
        for name in ("delay", "most_delay"):
            checked_number(name, getattr(self, name), 0.0)
        if self.robots not in (True, False):
            raise UsageError(f"robots must be True or False, not {self.robots!r}")


@dataclass(slots=True)
class _Host:
    """One host: when the next request may start, and until when it wants none."""

    next_s: float = 0.0
    held_s: float = 0.0
    delay_s: float = 0.0


class Pace:
    """When each host may be asked next. Times are seconds of one clock of the caller's."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._hosts: dict[str, _Host] = {}

    def wait_s(self, host: str, now: float) -> float:
        """Seconds until a request to the host may start; 0 for at once."""
        known = self._hosts.get(host)
        return 0.0 if known is None else max(0.0, max(known.next_s, known.held_s) - now)

    def started(self, host: str, now: float) -> None:
        """A request to the host starts."""
        known = self._known(host, now)
        known.next_s = now + max(self._delay_s, known.delay_s)

    def hold(self, host: str, now: float, seconds: float) -> None:
        """The host wants no request for so long."""
        known = self._known(host, now)
        known.held_s = max(known.held_s, now + seconds)

    def slow_down(self, host: str, now: float, delay_s: float) -> None:
        """The host wants so many seconds between two requests."""
        self._known(host, now).delay_s = delay_s

    def _known(self, host: str, now: float) -> _Host:
        if len(self._hosts) > MOST_HOSTS:
            self._hosts = {
                name: state
                for name, state in self._hosts.items()
                if state.delay_s or max(state.next_s, state.held_s) > now
            }
        return self._hosts.setdefault(host, _Host())
