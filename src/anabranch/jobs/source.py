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

from anabranch.jobs.flight import end
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
        self._room = asyncio.Event()
        self._bell = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.size = source.size

    async def pull(self) -> Pair | None:
        """The next item with its index; ``None`` when there is none, and ever after."""
        if isinstance(self._source, SyncSource):
            while len(self._queue) < self._ahead:
                if (pair := next(self._source.pairs, None)) is None:
                    break
                self._push(pair)
            return self._queue.pop() if self._queue else None
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(self._source))
            # What comes without waiting is looked at before the first is chosen.
            await asyncio.sleep(0)
        while not self._queue and not self._reader.done():
            self._bell.clear()
            await self._bell.wait()
        if self._reader.done():
            self._reader.result()  # raises what the source raised
        self._room.set()
        return self._queue.pop() if self._queue else None

    async def _read(self, source: AsyncSource) -> None:
        """Ahead of the workers, who need not wait until there is much to choose from."""
        try:
            while (pair := await source.pull()) is not None:
                self._push(pair)
                self._bell.set()
                while len(self._queue) >= self._ahead:
                    self._room.clear()
                    await self._room.wait()
        finally:
            asyncio.get_running_loop().call_soon(self._bell.set)  # when this task is done

    def _push(self, pair: Pair) -> None:
        self._queue.push(pair, self._priority(pair[1].item))

    async def aclose(self) -> None:
        if self._reader is not None:
            await end((self._reader,))
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
