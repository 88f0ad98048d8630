"""Results as they come, with back-pressure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, Unpack, overload

from anabranch.errors import LoopError, UsageError
from anabranch.jobs.check import check_call, check_count
from anabranch.jobs.job import Work
from anabranch.jobs.options import JobOptions, Options, takes_options
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.portal import asyncio_run
from anabranch.jobs.run import Run, look_ahead

T = TypeVar("T")
R = TypeVar("R")

# Results that a synchronous consumer takes from the background loop at once, if there are.
FETCH = 1024


class _Window:
    """The results between the workers and the consumer.

    At most ``size`` jobs are started and not yet taken: that bounds memory, is the
    back-pressure, and lets an ordered stream run ahead of one slow item by ``size``. The
    item whose turn it is has always been started, so an ordered stream cannot lock up.
    """

    opened = None

    def __init__(self, size: int, *, ordered: bool) -> None:
        self._room = size
        self._ordered = ordered
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ready: deque[Any] = deque()
        self._early: dict[int, tuple[Any, ...]] = {}
        self._due = 0
        self._bell = asyncio.Event()
        self.is_over = False

    def room(self) -> asyncio.Future[None] | None:
        """Take room for one result; what to await if there is none yet."""
        if self._room > 0:
            self._room -= 1
            return None
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

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
            self.leave()

    def leave(self) -> None:
        """Room that was taken is free again."""
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
        self.leave()
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

    def __init__(self, begin: Callable[[], tuple[Run, _Window]]) -> None:
        self._begin = begin
        self._run: Run | None = None
        self._window: _Window | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        if self._closed:
            raise StopAsyncIteration
        run, window = self._started()
        while True:
            # Fail fast: what had finished but was not taken yet is dropped.
            if run.failure is not None:
                await self._end(run)  # if that is interrupted, the next call goes on here
                raise run.failure
            if (taken := window.take()) is not None:
                return taken[0]  # type: ignore[no-any-return]  # put there by fn
            if window.is_over:
                await self._end(run)
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
        self._started()
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
        if self._run is not None and self._run.owns(asyncio.current_task()):
            raise LoopError(
                "a stream cannot be closed by one of its own jobs: it would wait for "
                "itself. Raise an exception from the job instead"
            )
        self._closed = True
        if self._run is not None and not self._is_of_closed_loop():
            self._check_loop()
            await self._end(self._run)

    async def _end(self, run: Run) -> None:
        run.crew.stop()
        await run.join()
        self._closed = True

    def _is_of_closed_loop(self) -> bool:
        return self._loop is not None and self._loop.is_closed()

    def _check_loop(self) -> None:
        if self._loop is not asyncio.get_running_loop():
            raise LoopError(
                "this stream has begun on another event loop: take its results and close "
                "it there, or make a stream for each loop"
            )

    def _started(self) -> tuple[Run, _Window]:
        if self._run is None or self._window is None:
            self._loop = asyncio.get_running_loop()
            self._run, self._window = self._begin()
        self._check_loop()
        return self._run, self._window

    def __del__(self) -> None:
        run, loop = self._run, self._loop
        if run is None or loop is None or self._closed or loop.is_closed():
            return
        loop.call_soon_threadsafe(_wind_up, run)


# The loop itself keeps its tasks only weakly.
_winding_up: set[asyncio.Task[None]] = set()


def _wind_up(run: Run) -> None:
    """End the run of a stream that nobody holds any more."""
    run.crew.stop()
    task = asyncio.get_running_loop().create_task(run.join())
    _winding_up.add(task)
    task.add_done_callback(_winding_up.discard)


class SyncStream(Generic[R]):
    """The results of :func:`stream`: an iterator and a context manager."""

    def __init__(self, results: Stream[R]) -> None:
        self._results = results
        self._fetched: deque[R] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        if not self._fetched:
            asyncio_run(self._fetch())
        if not self._fetched:
            raise StopIteration
        return self._fetched.popleft()

    async def _fetch(self) -> None:
        # Kept here and not handed back: an interrupt of who waits loses no result.
        self._fetched.extend(await self._results.some(FETCH))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is in flight and return when it has ended. Idempotent."""
        self._fetched.clear()
        asyncio_run(self._results.aclose())


@overload
def astream(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> Stream[Outcome[T, R]]: ...
@overload
def astream(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> Stream[Outcome[T, R]]: ...
@overload
def astream(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> Stream[R]: ...
@overload
def astream(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> Stream[R]: ...
@overload
def astream(
    fn: str,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> Stream[Any]: ...
@takes_options
def astream(
    fn: Work,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> Stream[Any]:
    """``fn`` of every item, at most ``concurrency`` at once, as the results come.

    Items are pulled lazily: at most ``concurrency + buffer`` are started and not yet
    taken, whatever the length of the input, and a slow consumer holds the workers back.
    The first failure under ``errors="raise"`` cancels the other jobs, awaits them, and is
    raised from the next result asked for: the same object, with a note naming the item.
    A generator given as ``items`` is closed at the end.

    Args:
        fn: Called in a copy of the context in which work starts: a job sees that
            context's variables and no other job's. Or source text, where ``executor``
            runs that.
        items: Any iterable or async iterable.
        ordered: Give results in the order of the items. A slow item holds back those
            behind it, but not the work on up to ``buffer`` of them.
        buffer: Finished results that may wait for the consumer; by default
            ``max(8 * concurrency, 1024)``.
        errors: What a failure does: see :class:`Options`.
        **options: See :class:`Options`.

    Raises:
        ValueError: An option cannot be meant; nothing has been started.
    """
    settings = Options.of(errors, options)
    check_call(fn, items, settings.executor)
    return streamed(fn, items, settings, ordered=ordered, buffer=buffer)


def streamed(
    fn: Work,
    items: Iterable[Any] | AsyncIterable[Any],
    options: Options,
    *,
    ordered: bool,
    buffer: int | None,
    start: Callable[..., Run] = Run,
) -> Stream[Any]:
    """A stream whose run ``start`` makes, when the first result is asked for."""
    if buffer is not None:
        check_count("buffer", buffer, least=0)
    if ordered not in (True, False):
        raise UsageError(f"ordered must be True or False, not {ordered!r}")
    if ordered and options.priority is not None:
        raise UsageError("a stream is ordered, or goes by priority=, but not both")
    ahead = look_ahead(options.most) if buffer is None else buffer

    def begin() -> tuple[Run, _Window]:
        window = _Window(options.most + ahead, ordered=ordered)
        return start(fn, items, window, options), window

    return Stream(begin)


@overload
def stream(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> SyncStream[Outcome[T, R]]: ...
@overload
def stream(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> SyncStream[Outcome[T, R]]: ...
@overload
def stream(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> SyncStream[R]: ...
@overload
def stream(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> SyncStream[R]: ...
@overload
def stream(
    fn: str,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> SyncStream[Any]: ...
@takes_options
def stream(
    fn: Work,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    ordered: bool = False,
    buffer: int | None = None,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> SyncStream[Any]:
    """:func:`astream` from synchronous code: a plain iterator, closed by ``with``.

    Jobs run on the process's background loop, ahead of the consumer by up to ``buffer``
    results; see :func:`asyncio_run`.

    Args:
        fn: As for :func:`astream`.
        items: As for :func:`astream`; a synchronous iterator is advanced on the
            background loop's thread, so one that blocks holds up all that runs there.
        ordered: As for :func:`astream`.
        buffer: As for :func:`astream`.
        errors: What a failure does: see :class:`Options`.
        **options: See :class:`Options`.
    """
    settings = Options.of(errors, options)
    check_call(fn, items, settings.executor)
    return SyncStream(streamed(fn, items, settings, ordered=ordered, buffer=buffer))
