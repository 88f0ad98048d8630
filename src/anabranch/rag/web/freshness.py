"""What a private cache may keep of the web, and for how long, by RFC 9111.

Nothing is guessed: a response without a lifetime of its own is asked about each time, and
given again when the server says that it has not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

# Of the stored response, and not of the answer that says it is unchanged.
_OF_THE_BODY = frozenset(
    {"content-encoding", "content-length", "content-range", "transfer-encoding"}
)
# A cache that cannot be asked again is not believed for longer.
MOST_LIFETIME_S: Final = 365 * 24 * 3600.0


def may_store(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a response may, and is worth to, be kept."""
    if status != 200 or headers.get("vary", "").strip() == "*":
        return False
    if "no-store" in directives(headers):
        return False
    return bool(conditions(headers)) or lifetime_s(headers) > 0


def is_fresh(headers: Mapping[str, str], *, stored: float, now: float) -> bool:
    """Whether a stored response may be given without asking.

    Args:
        headers: Of the response.
        stored: When it came, in seconds since the epoch.
        now: The time, in the same.
    """
    if "no-cache" in directives(headers):
        return False
    age = _number(headers.get("age")) or 0.0
    # A clock that went back makes nothing younger than it was.
    return age + max(0.0, now - stored) < lifetime_s(headers) and now >= stored - 1


def lifetime_s(headers: Mapping[str, str]) -> float:
    """How long a response is fresh after it was made, by its own account."""
    known = directives(headers)
    if "max-age" in known:
        return min(_number(known["max-age"]) or 0.0, MOST_LIFETIME_S)
    expires = _instant(headers.get("expires"))
    made = _instant(headers.get("date"))
    if expires is None or made is None:
        return 0.0
    return min(max(0.0, expires - made), MOST_LIFETIME_S)


def conditions(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that ask whether a stored response is still the page."""
    pairs = (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since"))
    return {ask: headers[name] for name, ask in pairs if headers.get(name)}


def refreshed(stored: Mapping[str, str], answer: Mapping[str, str]) -> dict[str, str]:
    """The stored response's headers after an answer that it has not changed.

    Source: RFC 9111, 3.2.
    """
    newer = {name: text for name, text in answer.items() if name not in _OF_THE_BODY}
    # An age that is not repeated is that of the answer: none.
    kept = {name: text for name, text in stored.items() if name != "age"}
    return {**kept, **newer}


def directives(headers: Mapping[str, str]) -> dict[str, str]:
    """The parts of Cache-Control, in lower case, each with its argument or nothing."""
    found: dict[str, str] = {}
    for part in headers.get("cache-control", "").lower().split(","):
        name, _, argument = part.partition("=")
        if name.strip():
            # The first of two that contradict each other: RFC 9111, 4.2.1.
            found.setdefault(name.strip(), argument.strip(' "'))
    return found


def _number(text: str | None) -> float | None:
    return (
        float(text) if text and text.strip().isascii() and text.strip().isdigit() else None
    )


def _instant(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
