"""All results in a list, in the order of the items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, TypeVar, Unpack, overload

from anabranch.errors import RunTimeout
from anabranch.jobs.check import check_call
from anabranch.jobs.crew import ABSENT
from anabranch.jobs.job import Work
from anabranch.jobs.notes import carry
from anabranch.jobs.options import JobOptions, Options, takes_options
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.portal import asyncio_run
from anabranch.jobs.run import Run

T = TypeVar("T")
R = TypeVar("R")


class _Always:
    """Where results are kept until all are there; there is always room."""

    room = None
    opened: Callable[[object], object] | None = None

    def leave(self) -> None:
        pass

    def skipped(self, index: int) -> None:
        pass

    def ended(self) -> None:
        pass


class _InOrder(_Always):
    """A list that grows as jobs start: its length is the number of items pulled."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self.opened = self._values.append
        self.put = self._values.__setitem__

    def finished(self) -> dict[int, Any]:
        """What there is, by index."""
        return {i: value for i, value in enumerate(self._values) if value is not ABSENT}

    def present(self) -> list[Any]:
        """The results of those that did not fail."""
        return [value for value in self._values if value is not ABSENT]

    def all(self) -> list[Any]:
        """The results of a run in which none failed."""
        return self._values


class _AnyOrder(_Always):
    """For jobs that start in another order than the items have."""

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}
        self.put = self._values.__setitem__

    def finished(self) -> dict[int, Any]:
        """What there is, by index."""
        return dict(sorted(self._values.items()))

    def present(self) -> list[Any]:
        """The results of those that did not fail."""
        return list(self.finished().values())

    all = present


Results: TypeAlias = _InOrder | _AnyOrder


def results_of(options: Options) -> Results:
    """Where a run with these options puts its results."""
    return _InOrder() if options.priority is None else _AnyOrder()


@overload
async def amap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> list[Outcome[T, R]]: ...
@overload
async def amap(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> list[Outcome[T, R]]: ...
@overload
async def amap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: str,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> list[Any]: ...
@takes_options
async def amap(
    fn: Work,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> list[Any]:
    """``fn`` of every item, at most ``concurrency`` at once: a list in their order.

    Items are pulled lazily, so at most ``concurrency`` are in memory beside the results.
    When the call ends, however it ends, nothing of it is left running: the first failure
    under ``errors="raise"``, or a cancellation of the caller, cancels the jobs in flight
    and awaits them. A generator given as ``items`` is closed at the end. What ends the
    call from outside carries what had finished, by index, as ``error.partial``:
    ``KeyboardInterrupt``, ``CancelledError``, ``RunTimeout``.

    Args:
        fn: Called in a copy of the caller's context: a job sees its caller's context
            variables and no other job's. Or source text, where ``executor`` runs that.
        items: Any iterable or async iterable.
        errors: What a failure does: see :class:`Options`.
        **options: See :class:`Options`.

    Raises:
        ValueError: An option cannot be meant; nothing has been started.
    """
    settings = Options.of(errors, options)
    check_call(fn, items, settings.executor)
    return await collect(fn, items, settings)


async def collect(
    fn: Work,
    items: Iterable[Any] | AsyncIterable[Any],
    options: Options,
    *,
    start: Callable[..., Run] = Run,
    into: Results | None = None,
) -> list[Any]:
    """The results of a run that ``start`` makes, in the order of the items."""
    results = into or results_of(options)
    run = start(fn, items, results, options)
    try:
        await run.join()
    except asyncio.CancelledError as error:
        carry(error, results.finished())
        raise
    if isinstance(run.failure, RunTimeout):
        run.failure.partial = results.finished()
    if run.failure is not None:
        raise run.failure
    if options.errors == "skip":
        return results.present()
    return results.all()


@overload
def map(  # noqa: A001  # the name says it best, and is used with its module
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> list[Outcome[T, R]]: ...
@overload
def map(  # noqa: A001
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["return"],
    **options: Unpack[JobOptions],
) -> list[Outcome[T, R]]: ...
@overload
def map(  # noqa: A001
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> list[R]: ...
@overload
def map(  # noqa: A001
    fn: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    errors: Literal["raise", "skip"] = "raise",
    **options: Unpack[JobOptions],
) -> list[R]: ...
@overload
def map(  # noqa: A001
    fn: str,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> list[Any]: ...
@takes_options
def map(  # noqa: A001
    fn: Work,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    errors: Errors = "raise",
    **options: Unpack[JobOptions],
) -> list[Any]:
    """:func:`amap` from synchronous code, in any thread, whatever loop it has or has not.

    Jobs run on the process's background loop; see :func:`asyncio_run`. After Ctrl-C the
    ``KeyboardInterrupt`` carries what had finished, by index, as ``error.partial``.

    Args:
        fn: As for :func:`amap`.
        items: As for :func:`amap`; a synchronous iterator is advanced on the background
            loop's thread, so one that blocks holds up all that runs there.
        errors: What a failure does: see :class:`Options`.
        **options: See :class:`Options`.
    """
    settings = Options.of(errors, options)
    check_call(fn, items, settings.executor)
    results = results_of(settings)
    with interrupt_carries(results):
        return asyncio_run(collect(fn, items, settings, into=results))


@contextmanager
def interrupt_carries(results: Results) -> Generator[None]:
    """A ``KeyboardInterrupt`` from here has as ``partial`` the results that there are."""
    try:
        yield
    except KeyboardInterrupt as error:
        # The run has ended by now, perhaps well and just before.
        carry(error, results.finished())
        raise
