"""One shared iterator that several workers pull from.

A synchronous ``next()`` never awaits, so no two workers can take the same item. An
asynchronous source is pulled by one worker at a time. Whichever it is, an iterator that
can be closed is closed when the run ends, since nobody else knows how far it was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class Exhausted:
    """The type of :data:`END`."""


END: Final = Exhausted()
"""What a source gives when it has no more items; every later pull gives it too."""


class SyncSource(Generic[T]):
    """Pulls without awaiting."""

    def __init__(self, items: Iterable[T]) -> None:
        self.iterator: Iterator[T] = iter(items)
        self.size = _size(items)

    async def aclose(self) -> None:
        close = getattr(self.iterator, "close", None)
        if close is not None:
            close()


class AsyncSource(Generic[T]):
    """Pulls one at a time, in the order in which workers asked."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._iterator: AsyncIterator[T] = aiter(items)
        self._turn = asyncio.Lock()
        self._ended = False
        self.size = _size(items)
        self.pulled = 0

    async def pull(self) -> tuple[int, T | Exhausted]:
        """The next item and its index."""
        async with self._turn:
            if self._ended:
                return self.pulled, END
            try:
                item = await anext(self._iterator)
            except StopAsyncIteration:
                self._ended = True
                return self.pulled, END
            index = self.pulled
            self.pulled += 1
            return index, item

    async def aclose(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


def source_of(items: Iterable[T] | AsyncIterable[T]) -> SyncSource[T] | AsyncSource[T]:
    """The source for ``items``."""
    if isinstance(items, AsyncIterable):
        return AsyncSource(items)
    return SyncSource(items)


def _size(items: object) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]  # asking is the point
    except TypeError:
        return None
