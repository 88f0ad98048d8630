"""Equal work that is asked for at the same time is done once.

Whoever asks first does it, the others wait for the same result. Nobody is cancelled on
account of another: one who waits and is cancelled leaves the rest alone, and if the one
who does the work is cancelled, the next in line does it anew. A failure is shared among
those of one run: who asked with other options, for retries say, tries for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar

R = TypeVar("R")

# What a follower is told: the value, or the error and whose it is, or nothing.
_News: TypeAlias = tuple[R] | tuple[BaseException, object] | None


class SingleFlight(Generic[R]):
    """What is under way, by key. Of one event loop."""

    def __init__(self) -> None:
        self._followers: dict[Hashable, list[asyncio.Future[_News[R]]]] = {}

    async def do(
        self, key: Hashable, work: Callable[[], Awaitable[R]], run: object = None
    ) -> R:
        """The result of ``work()``, or of what is under way for ``key``.

        Args:
            key: What tells work apart.
            work: What is done if nobody does it.
            run: Whose failure it is if it fails.
        """
        while (followers := self._followers.get(key)) is not None:
            future: asyncio.Future[_News[R]] = asyncio.get_running_loop().create_future()
            followers.append(future)
            news = await future
            if news is None:
                continue
            if len(news) == 1:
                return news[0]
            error, whose = news
            if whose is run:
                raise error
        self._followers[key] = []
        told: _News[R] = None
        try:
            value = await work()
            told = (value,)
        except Exception as error:
            told = (error, run)
            raise
        finally:
            for future in self._followers.pop(key):
                if not future.done():
                    future.set_result(told)
        return value


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when all have ended, whatever comes in the meantime.

    A cancellation of the caller is raised again afterwards.
    """
    interrupted: asyncio.CancelledError | None = None
    left = {task for task in tasks if not task.done()}
    for task in left:
        task.cancel()
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError as error:
            interrupted = error
            for task in left:
                task.cancel()
    if interrupted is not None:
        raise interrupted
