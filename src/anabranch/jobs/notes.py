"""What is said about other people's exceptions, which need not bear it."""

from __future__ import annotations

from contextlib import suppress


def note(error: BaseException, text: str) -> None:
    """Add a note to ``error``, unless it refuses: then it is better off without."""
    with suppress(Exception):
        error.add_note(text)


def said(error: BaseException) -> str:
    """The class of ``error`` and what it says, even if its ``__str__`` fails."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        return f"{name}, which cannot be printed"
    return f"{name}: {text}" if text else name
