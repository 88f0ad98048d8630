"""Results as they come, with back-pressure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

from anabranch.errors import LoopError
from anabranch.jobs.check import check_count, check_errors, check_items
from anabranch.jobs.crew import Crew
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.progress import watcher
from anabranch.jobs.source import source_of
from anabranch.observe import Observer

T = TypeVar("T")
R = TypeVar("R")


class _Window:
    """The results between the workers and the consumer.

    At most ``size`` jobs are started and not yet taken: that bounds memory, is the
    back-pressure, and lets an ordered stream run ahead of one slow item by ``size``. The
    item whose turn it is has always been started, so an ordered stream cannot lock up.
    """

    def __init__(self, size: int, *, ordered: bool) -> None:
        self._room = size
        self._ordered = ordered
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ready: deque[Any] = deque()
        self._early: dict[int, tuple[Any, ...]] = {}
        self._due = 0
        self._bell = asyncio.Event()
        self.is_over = False

    def room(self) -> Awaitable[None] | None:
        if self._room > 0:
            self._room -= 1
            return None
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def opened(self, index: int) -> None:
        pass

    def put(self, index: int, value: Any) -> None:
        self._settle(index, (value,))

    def skipped(self, index: int) -> None:
        self._settle(index, ())

    def ended(self) -> None:
        self.is_over = True
        self._bell.set()

    def _settle(self, index: int, result: tuple[Any, ...]) -> None:
        if self._ordered and index != self._due:
            self._early[index] = result
            return
        self._emit(result)
        if self._ordered:
            self._due += 1
            while (held := self._early.pop(self._due, None)) is not None:
                self._emit(held)
                self._due += 1

    def _emit(self, result: tuple[Any, ...]) -> None:
        if result:
            self._ready.append(result[0])
            self._bell.set()
        else:
            self._leave()

    def _leave(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)  # the room goes from hand to hand
                return
        self._room += 1

    def take(self) -> tuple[Any] | None:
        """A result, in a tuple since it may be ``None``; or ``None`` if none is ready."""
        if not self._ready:
            return None
        self._leave()
        return (self._ready.popleft(),)

    async def wait_ready(self) -> None:
        """Return when there may be something to take, or nothing will come any more."""
        if not self._ready and not self.is_over:
            self._bell.clear()
            await self._bell.wait()


class Stream(Generic[R]):
    """The results of :func:`astream`: an async iterator and an async context manager.

    Work starts with the first result asked for, or on entering the context. It holds no
    task group or cancel scope across a yield (PEP 789): the workers belong to the stream
    and end with it, by exhaustion, a failure, ``aclose()``, leaving the context, or when
    the last reference to the stream goes.
    """

    def __init__(self, start: Callable[[], tuple[Crew[Any, Any], _Window]]) -> None:
        self._start = start
        self._crew: Crew[Any, Any] | None = None
        self._window: _Window | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        if self._closed:
            raise StopAsyncIteration
        crew, window = self._begin()
        while True:
            # Fail fast: what had finished but was not taken yet is dropped.
            if crew.failure is not None:
                await self.aclose()
                raise crew.failure
            if (taken := window.take()) is not None:
                return taken[0]  # type: ignore[no-any-return]  # put there by fn
            if window.is_over:
                await self.aclose()
                raise StopAsyncIteration
            await window.wait_ready()

    async def some(self, most: int) -> list[R]:
        """The results that are ready, at least one and at most ``most``; none at the end.

        For a consumer that does better with several at a time.
        """
        check_count("most", most)
        try:
            results = [await anext(self)]
        except StopAsyncIteration:
            return []
        if self._window is not None:
            while len(results) < most and (taken := self._window.take()) is not None:
                results.append(taken[0])
        return results

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is in flight and return when it has ended. Idempotent.

        Raises:
            LoopError: Called from one of the stream's own jobs, which would wait for
                itself.
        """
        if self._crew is not None and self._crew.is_worker(asyncio.current_task()):
            raise LoopError(
                "a stream cannot be closed by one of its own jobs: it would wait for "
                "itself. Raise an exception from the job instead"
            )
        self._closed = True
        if self._crew is not None:
            self._crew.stop()
            await self._crew.join()

    def _begin(self) -> tuple[Crew[Any, Any], _Window]:
        if self._crew is None or self._window is None:
            self._loop = asyncio.get_running_loop()
            self._crew, self._window = self._start()
        return self._crew, self._window

    def __del__(self) -> None:
        crew, loop = self._crew, self._loop
        if crew is None or loop is None or self._closed or loop.is_closed():
            return
        loop.call_soon_threadsafe(crew.stop)


@overload
def astream(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 32,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
    progress: bool | str = False,
    total: int | None = None,
    observer: Observer | None = None,
) -> Stream[R]: ...
@overload
def astream(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 32,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["return"],
    progress: bool | str = False,
    total: int | None = None,
    observer: Observer | None = None,
) -> Stream[Outcome[T, R]]: ...
def astream(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 32,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Errors = "raise",
    progress: bool | str = False,
    total: int | None = None,
    observer: Observer | None = None,
) -> Stream[R] | Stream[Outcome[T, R]]:
    """``fn`` of every item, at most ``concurrency`` at once, as the results come.

    Items are pulled lazily: at most ``concurrency + buffer`` are started and not yet
    taken, whatever the length of the input, and a slow consumer holds the workers back.
    The first failure under ``errors="raise"`` cancels the other jobs, awaits them, and is
    raised from the next result asked for: the same object, with a note naming the item.
    A generator given as ``items`` is closed at the end.

    Args:
        fn: Called in a copy of the context in which work starts, one copy a job.
        items: Any iterable or async iterable.
        concurrency: Jobs in flight at most.
        ordered: Give results in the order of the items. A slow item holds back those
            behind it, but not the work on up to ``buffer`` of them.
        buffer: Finished results that may wait for the consumer; by default
            ``max(8 * concurrency, 1024)``.
        errors: ``"raise"``, ``"return"`` (every result is an :class:`Outcome`) or
            ``"skip"``.
        progress: Show a bar; a string is its title.
        total: The number of items, for the bar, where the input does not know it.
        observer: Told what happens.

    Raises:
        ValueError: A count is not a positive integer, or ``errors`` is none of the three.
    """
    check_count("concurrency", concurrency)
    if buffer is not None:
        check_count("buffer", buffer, least=0)
    check_errors(errors)
    check_items(items)
    ahead = max(8 * concurrency, 1024) if buffer is None else buffer

    def start() -> tuple[Crew[T, R], _Window]:
        window = _Window(concurrency + ahead, ordered=ordered)
        crew = Crew(
            fn,
            source_of(items),
            window,
            concurrency=concurrency,
            errors=errors,
            observer=watcher(progress, total, observer),
        )
        return crew, window

    return Stream(start)
