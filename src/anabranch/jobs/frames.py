"""Where a suspended task waits: read from its frames, at no cost to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

# Where asyncio or this library waits is no news; who made it wait is.
UNINTERESTING = (Path(asyncio.__file__).parent, Path(__file__).parent)


def frames_of(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of a suspended task, from the outside in.

    If it waits for another task, that one's follow.
    """
    seen: set[int] = set()
    waiting_for: Any = task
    while hasattr(waiting_for, "get_coro") and id(waiting_for) not in seen:
        seen.add(id(waiting_for))
        awaited = waiting_for.get_coro()
        while (frame := _frame(awaited)) is not None:
            yield frame
            awaited = _inner(awaited)
        waiting_for = getattr(waiting_for, "_fut_waiter", None)


def place_of(task: asyncio.Task[Any]) -> str:
    """The innermost function, file and line outside asyncio and this package."""
    place = "it waits for its turn"
    for frame in frames_of(task):
        where = Path(frame.f_code.co_filename)
        if not any(where.is_relative_to(home) for home in UNINTERESTING):
            place = f"{frame.f_code.co_qualname} ({where}:{frame.f_lineno})"
    return place


def _frame(awaited: Any) -> FrameType | None:
    for name in ("cr_frame", "ag_frame", "gi_frame"):
        frame = getattr(awaited, name, None)
        if isinstance(frame, FrameType):
            return frame
    return None


def _inner(awaited: Any) -> Any:
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if hasattr(awaited, name):
            return getattr(awaited, name)
    return None
