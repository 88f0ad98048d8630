"""One shared iterator of numbered items that several workers pull from.

A synchronous ``next()`` never awaits, so no two workers can take the same item. An
asynchronous source is pulled by one worker at a time. A generator, or an asynchronous
iterator that can be closed, is closed when the run ends: nobody else knows when.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
)
from itertools import count
from types import GeneratorType
from typing import Any, TypeAlias

from anabranch.jobs.limits.queue import AgeingQueue

Pair: TypeAlias = tuple[int, Any]
Wrap: TypeAlias = Callable[[int, Any], Any]


class SyncSource:
    """Pulls without awaiting; ``wrap`` makes what jobs are given of an index and item."""

    def __init__(self, items: Iterable[Any], wrap: Wrap | None = None) -> None:
        self._iterator = iter(items)
        self.size = _size(items)
        self.pairs: Iterator[Pair] = (
            enumerate(self._iterator)
            if wrap is None
            else enumerate(map(wrap, count(), self._iterator))
        )

    async def aclose(self) -> None:
        iterator: object = self._iterator
        if isinstance(iterator, GeneratorType):  # a file, say, is its owner's to close
            iterator.close()


class AsyncSource:
    """Pulls one at a time, in the order in which workers asked."""

    def __init__(self, items: AsyncIterable[Any], wrap: Wrap | None = None) -> None:
        self._iterator: AsyncIterator[Any] = aiter(items)
        self._wrap = wrap
        self._turn = asyncio.Lock()
        self._ended = False
        self._pulled = 0
        self.size = _size(items)

    async def pull(self) -> Pair | None:
        """The next item with its index; ``None`` when there is none, and ever after."""
        async with self._turn:
            if self._ended:
                return None
            try:
                item = await anext(self._iterator)
            except BaseException as error:
                self._ended = True
                if isinstance(error, StopAsyncIteration):
                    return None
                raise
            index = self._pulled
            self._pulled += 1
            return index, item if self._wrap is None else self._wrap(index, item)

    async def aclose(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


class PrioritySource:
    """Looks ``ahead`` items ahead, and gives the one whose turn is by priority and age."""

    def __init__(
        self,
        source: SyncSource | AsyncSource,
        priority: Callable[[Any], float],
        ahead: int,
    ) -> None:
        self._source = source
        self._priority = priority
        self._ahead = ahead
        self._queue: AgeingQueue[Pair] = AgeingQueue()
        self._ended = False
        self._turn = asyncio.Lock()
        self.size = source.size

    async def pull(self) -> Pair | None:
        """The next item with its index; ``None`` when there is none, and ever after."""
        async with self._turn:
            while not self._ended and len(self._queue) < self._ahead:
                pair = await self._next()
                if pair is None:
                    self._ended = True
                else:
                    self._queue.push(pair, self._priority(pair[1].item))
        return self._queue.pop() if self._queue else None

    async def _next(self) -> Pair | None:
        if isinstance(self._source, AsyncSource):
            return await self._source.pull()
        return next(self._source.pairs, None)

    async def aclose(self) -> None:
        await self._source.aclose()


Source: TypeAlias = SyncSource | AsyncSource | PrioritySource


def source_of(
    items: Iterable[Any] | AsyncIterable[Any], wrap: Wrap | None = None
) -> SyncSource | AsyncSource:
    """The source for ``items``."""
    if isinstance(items, AsyncIterable):
        return AsyncSource(items, wrap)
    return SyncSource(items, wrap)


def _size(items: object) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]  # asking is the point
    except TypeError:
        return None
