"""Calling objects that may block from a loop that must not, and the other way round."""

from __future__ import annotations

import asyncio
import dis
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import islice
from typing import Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from anabranch.errors import LoopError
from anabranch.jobs import asyncio_run
from anabranch.jobs.check import check_count
from anabranch.jobs.portal import LOOK_UP_EVERY_S

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# Documents taken from a loader in one turn of a thread.
_AT_ONCE: Final = 16
_WAITING: Final = {"GET_AWAITABLE", "GET_AITER", "YIELD_FROM"}


class Calls:
    """Calls of one object of another library: never on the loop, and never too many.

    A thread cannot be stopped: what is cancelled runs to its end, unseen, and has its
    place among the calls until then.

    Args:
        at_once: The most that are under way, of all callers together.
    """

    def __init__(self, at_once: int) -> None:
        check_count("concurrency", at_once)
        self.at_once = at_once
        # Its threads end when it is collected, with the adapter that holds it.
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="anabranch-adapter")
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )

    async def threaded(
        self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The result of a function that blocks, in a thread, in a copy of the context."""
        context = copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: context.run(function, *args, **kwargs)
        )

    async def finished(
        self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As :meth:`threaded`; whoever is cancelled meanwhile learns of it at its end.

        For what writes: nobody may take it for over while it goes on.
        """
        working = asyncio.ensure_future(self.threaded(function, *args, **kwargs))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])
            if not working.cancelled():
                working.exception()
            raise

    async def awaited(
        self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The result of a function that does not block."""
        loop = asyncio.get_running_loop()
        turns = self._turns.setdefault(loop, asyncio.Semaphore(self.at_once))
        async with turns:
            return await function(*args, **kwargs)

    async def some(self, items: Iterator[T]) -> AsyncGenerator[list[T]]:
        """The items of an iterator that blocks, several together.

        When it fails, what it gave before comes first.
        """
        while True:
            taken, error = await self.threaded(_taken, items)
            if taken:
                yield taken
            if error is not None:
                raise error
            if not taken:
                return


def _taken(items: Iterator[T]) -> tuple[list[T], Exception | None]:
    taken: list[T] = []
    try:
        taken.extend(islice(items, _AT_ONCE))  # what came before an error stays in it
    except Exception as error:
        return taken, error
    return taken, None


def overrides(kind: type, base: type, method: str) -> bool:
    """Whether a class has this method from elsewhere than the base class."""
    return getattr(kind, method, None) is not getattr(base, method, None)


def is_async(kind: type, base: type, method: str) -> bool:
    """Whether an asynchronous method is more than a name for the synchronous one.

    The base class's is the library's way round a missing one. And many have ``async def``
    and then call their synchronous twin, which would hold the loop up for all that time:
    such a method awaits nothing.
    """
    own = getattr(kind, method, None)
    if not callable(own) or not overrides(kind, base, method):
        return False
    code = getattr(inspect.unwrap(own), "__code__", None)
    return code is not None and any(
        step.opname in _WAITING for step in dis.get_instructions(code)
    )


class Home:
    """Where our objects run when they are called without ``await``.

    An adapter that is made in a coroutine has that coroutine's event loop for its home,
    since what is open there (connections) works nowhere else. One that is made elsewhere
    has the process's background loop.
    """

    def __init__(self) -> None:
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def run(self, start: Callable[[], Awaitable[R]], instead: str) -> R:
        """The result of a coroutine, which is made only when it can run.

        Args:
            start: Makes it.
            instead: What to write in a coroutine, for the error.

        Raises:
            LoopError: Called in the home loop's own thread, which would wait for itself; or
                that loop does not run any more.
        """

        async def started() -> R:
            return await start()

        if self._loop is None:
            return asyncio_run(started())
        if not self._loop.is_running():
            raise _ended(instead)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise LoopError(
                "a synchronous method of an adapter was called from the event loop that "
                f"would have to serve it: await {instead} instead. Or make the adapter in "
                "a thread (await asyncio.to_thread(...)), which gives it a loop of its "
                "own, if nothing within it is open in this one"
            )
        working = asyncio.run_coroutine_threadsafe(started(), self._loop)
        while True:
            # A loop that ends meanwhile may forget what it was asked: look up now and then.
            wait([working], LOOK_UP_EVERY_S)
            if working.done():
                return working.result()
            if not self._loop.is_running():
                working.cancel()
                raise _ended(instead)


def _ended(instead: str) -> LoopError:
    return LoopError(
        "the event loop that this adapter was made in does not run any more: make the "
        f"adapter anew, or await {instead}"
    )
