"""So many a period, as a theoretical arrival time: one number instead of a bucket.

A bucket that holds ``capacity`` units and gains one every ``period / capacity`` seconds is
kept as the instant at which it will be full again (its *theoretical arrival time*). Taking
units moves the instant on; nothing happens as time passes, so nothing needs a timer but
whoever waits at the head of the queue.

Source: ITU-T I.371, "generic cell rate algorithm", virtual scheduling form.
"""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.errors import UsageError
from anabranch.jobs.check import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """Requests and tokens a period, together.

    A full allowance may go at once, after which it comes back evenly: so do the services
    that publish such limits. A request that costs more tokens than the whole allowance
    waits for a full one and leaves it in debt.

    Attributes:
        requests: How many may start in ``per`` seconds; ``None`` for any number.
        tokens: How many tokens they may cost in ``per`` seconds; ``None`` for any number.
        per: Seconds.
    """

    requests: float | None = None
    tokens: float | None = None
    per: float = 60.0

    def __post_init__(self) -> None:
        for name in ("requests", "tokens", "per"):
            if (value := getattr(self, name)) is not None:
                check_positive(name, value)
        if self.requests is None and self.tokens is None:
            raise UsageError("RateLimit needs requests=, tokens= or both")


class Bucket:
    """One allowance. Times are seconds on any one clock.

    Args:
        capacity: How much it holds.
        per: Seconds in which so much comes back.
        full_at: When it will be full again, as an earlier one has said.
    """

    def __init__(self, capacity: float, per: float, full_at: float = float("-inf")) -> None:
        self._capacity = capacity
        self._interval = per / capacity
        self._full_at = full_at

    @property
    def full_at(self) -> float:
        """When it will be full again: all that there is to remember of it."""
        return self._full_at

    def wait_s(self, now: float, amount: float) -> float:
        """Seconds from ``now`` until ``amount`` may be taken; 0 or less if it may."""
        missing = self._capacity - min(amount, self._capacity)
        return self._full_at - missing * self._interval - now

    def take(self, now: float, amount: float) -> None:
        """Take it, whether there is so much or not."""
        self._full_at = max(self._full_at, now) + amount * self._interval

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used; a negative amount was used on top."""
        self._full_at -= amount * self._interval


class Allowance:
    """The buckets of one :class:`RateLimit`, taken from together or not at all."""

    def __init__(self, limit: RateLimit) -> None:
        self._requests = _bucket(limit.requests, limit.per)
        self._tokens = _bucket(limit.tokens, limit.per)

    def wait_s(self, now: float, tokens: float) -> float:
        """Seconds from ``now`` until a request of so many tokens may start; at least 0."""
        wait_s = 0.0
        if self._requests is not None:
            wait_s = max(wait_s, self._requests.wait_s(now, 1))
        if self._tokens is not None and tokens > 0:
            wait_s = max(wait_s, self._tokens.wait_s(now, tokens))
        return wait_s

    def take(self, now: float, tokens: float) -> None:
        """One request of so many tokens starts."""
        if self._requests is not None:
            self._requests.take(now, 1)
        if self._tokens is not None:
            self._tokens.take(now, tokens)

    def give_back(self, *, requests: float = 0, tokens: float = 0) -> None:
        """Return what was not used; negative amounts were used on top."""
        if self._requests is not None:
            self._requests.give_back(requests)
        if self._tokens is not None:
            self._tokens.give_back(tokens)


def _bucket(capacity: float | None, per: float) -> Bucket | None:
    return None if capacity is None else Bucket(capacity, per)
