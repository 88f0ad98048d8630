"""One item on its way, and the shape of every layer that it goes through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from anabranch.jobs.notes import shown


class Job:
    """One item on its way.

    Attributes:
        index: The item's place in the input, from 0.
        item: What the function is given.
        key: What tells it apart; empty if nobody asks.
        attempts: How often it was started.
    """

    __slots__ = ("attempts", "index", "item", "key")

    def __init__(self, index: int, item: Any) -> None:
        self.index = index
        self.item = item
        self.key = b""
        self.attempts = 1

    def __repr__(self) -> str:
        return shown(self.item)


Work: TypeAlias = Callable[[Any], Any] | str
"""What is done with each item: a function, or source text for an executor that runs it."""

Step: TypeAlias = Callable[[Job], Awaitable[Any]]


def coroutine_of(inner: Step, job: Job) -> Coroutine[Any, Any, Any]:
    """A coroutine for what may be any awaitable; nothing happens until it is awaited."""

    async def run() -> Any:
        return await inner(job)

    return run()
