"""What is said about other people's exceptions, which need not bear it."""

from __future__ import annotations

import reprlib
from contextlib import suppress
from typing import cast


def note(error: BaseException, text: str) -> None:
    """Add a note to ``error``, unless it refuses: then it is better off without."""
    with suppress(Exception):
        error.add_note(text)


def notes_of(error: BaseException) -> list[str]:
    """Its notes; none if somebody has put something else than a list in their place."""
    notes: object = getattr(error, "__notes__", None)
    if not isinstance(notes, list):
        return []
    given = cast("list[object]", notes)
    return [text if isinstance(text, str) else shown(text) for text in given]


def carry(error: BaseException, partial: object) -> None:
    """Let ``error`` carry as ``partial`` what had finished before it."""
    error.partial = partial  # type: ignore[attr-defined]  # Python's classes declare none


def said(error: BaseException) -> str:
    """The class of ``error`` and what it says, even if its ``__str__`` fails."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        return f"{name}, which cannot be printed"
    return f"{name}: {text}" if text else name


def shown(item: object) -> str:
    """An item in short, even if it cannot be printed."""
    try:
        return reprlib.repr(item)
    except Exception:  # an int of too many digits, or a class of a name that reprlib knows
        return f"an object of type {type(item).__name__}"


def raisable(error: BaseException) -> BaseException:
    """``error``, or what stands for one that would end the loop that it is raised in."""
    if not isinstance(error, StopIteration | StopAsyncIteration | GeneratorExit):
        return error
    stand_in = RuntimeError(f"a job or its source raised {type(error).__name__}")
    stand_in.__cause__ = error
    for text in notes_of(error):
        note(stand_in, text)
    return stand_in
