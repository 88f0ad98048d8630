"""When the next request may go, by what a service's answers say of its limits.

A service that counts requests and tokens tells with each answer how many are left, and
when all will be there again; one that refuses tells how long to wait. Whoever reads that
is refused less often. It is a heart: times are given, in seconds on any one clock.

Source: OpenAI, "Rate limits", section "Rate limits in headers".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# A service that asks for a longer wait than this is asked anyway: its refusal says why.
MOST_HOLD_S = 300.0
# What a clock cannot tell from now.
INSTANT_S = 1e-6

_KINDS = ("requests", "tokens")
_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|d|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


@dataclass(slots=True)
class _Allowance:
    """What is left of one limit, and how it comes back."""

    left: float
    at: float
    limit: float
    full_at: float

    def left_at(self, now: float) -> float:
        if now >= self.full_at:
            return self.limit
        if self.limit == float("inf"):  # how much there is when it is full was not said
            return self.left
        passed = (now - self.at) / (self.full_at - self.at)
        return self.left + (self.limit - self.left) * passed

    def wait_s(self, now: float, amount: float) -> float:
        missing = min(amount, self.limit) - self.left_at(now)
        if missing <= 0:
            return 0.0
        until_full_s = self.full_at - now
        if self.limit == float("inf"):
            return until_full_s
        return until_full_s * missing / (self.limit - self.left_at(now))

    def take(self, now: float, amount: float) -> None:
        self.left, self.at = self.left_at(now) - amount, now


class Pace:
    """The limits of one service as its answers tell them.

    Call :meth:`start` when a request goes and :meth:`answered` when its answer has come.
    """

    def __init__(self) -> None:
        self._allowances: dict[str, _Allowance] = {}
        self._under_way: dict[int, float] = {}
        self._started = 0
        self._held_until = float("-inf")

    def wait_s(self, now: float, tokens: float) -> float:
        """Seconds until a request of so many tokens may go; 0 if it may go now."""
        wait_s = self._held_until - now
        for kind, allowance in self._allowances.items():
            amount = 1.0 if kind == "requests" else tokens
            wait_s = max(wait_s, allowance.wait_s(now, amount))
        return wait_s if INSTANT_S < wait_s <= MOST_HOLD_S else 0.0

    def start(self, now: float, tokens: float) -> int:
        """A request goes. Returns its number."""
        for kind, allowance in self._allowances.items():
            allowance.take(now, 1.0 if kind == "requests" else tokens)
        self._started += 1
        self._under_way[self._started] = tokens
        return self._started

    def ended(self, number: int) -> None:
        """A request is over, with or without an answer."""
        self._under_way.pop(number, None)

    def answered(self, number: int, now: float, headers: Mapping[str, str]) -> None:
        """Read what an answer's headers say; those of other services say nothing."""
        # The service has not counted what went after the request that it answers.
        later = [tokens for n, tokens in self._under_way.items() if n > number]
        for kind in _KINDS:
            left = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
            reset_s = seconds(headers.get(f"x-ratelimit-reset-{kind}"))
            # Services that do not count say -1.
            if left is None or left < 0 or reset_s is None:
                continue
            limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
            left -= len(later) if kind == "requests" else sum(later)
            self._allowances[kind] = _Allowance(
                left=left,
                at=now,
                limit=limit if limit is not None and limit > 0 else float("inf"),
                full_at=now + reset_s,
            )

    def refused(self, now: float, asked_s: float) -> None:
        """The service asked to be left alone for so many seconds."""
        if asked_s <= MOST_HOLD_S:
            self._held_until = max(self._held_until, now + asked_s)


def seconds(text: str | None) -> float | None:
    """A duration such as ``6m0s``, ``20ms`` or ``1.5``; ``None`` if it is none."""
    if text is None:
        return None
    if (plain := _number(text)) is not None:
        return max(0.0, plain)
    if _DURATION.fullmatch(text.strip()) is None:
        return None
    return sum(float(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))


def _number(text: str | None) -> float | None:
    if text is None or re.fullmatch(r"\s*-?\d{1,15}(\.\d{1,15})?\s*", text) is None:
        return None
    return float(text)
