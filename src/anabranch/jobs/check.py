"""What can be refused at the call is refused at the call."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

from anabranch.errors import UsageError


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Refuse whatever is not an integer of at least ``least``.

    Raises:
        UsageError: A :class:`ValueError` that names the argument and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be an integer of at least {least}, not {value!r}")


def check_errors(value: object) -> None:
    """Refuse an error policy that does not exist."""
    if value not in ("raise", "return", "skip"):
        raise UsageError(f"errors must be 'raise', 'return' or 'skip', not {value!r}")


def check_items(value: object) -> None:
    """Refuse what cannot be iterated.

    Raises:
        TypeError: As from any other function over items.
    """
    if not isinstance(value, Iterable | AsyncIterable):
        raise TypeError(
            f"items must be an iterable or async iterable, not {type(value).__name__}"
        )


def check_positive(name: str, value: object) -> None:
    """Refuse whatever is not a finite number above zero."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value < float("inf")
    ):
        raise UsageError(f"{name} must be a finite number above 0, not {value!r}")
