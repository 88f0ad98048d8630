"""All results in a list, in the order of the items."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final, Literal, TypeVar, overload

from anabranch.jobs.check import check_count, check_errors, check_items
from anabranch.jobs.crew import Crew
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.progress import watcher
from anabranch.jobs.source import source_of
from anabranch.observe import Observer

T = TypeVar("T")
R = TypeVar("R")

_ABSENT: Final = object()


class _Results:
    """A list that grows as jobs start: its length is the number of items pulled."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def room(self) -> None:
        return None

    def opened(self, index: int) -> None:
        self.values.append(_ABSENT)

    def put(self, index: int, value: Any) -> None:
        self.values[index] = value

    def skipped(self, index: int) -> None:
        pass

    def ended(self) -> None:
        pass


@overload
async def amap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 32,
    errors: Literal["raise", "skip"] = "raise",
    progress: bool | str = False,
    total: int | None = None,
    observer: Observer | None = None,
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 32,
    errors: Literal["return"],
    progress: bool | str = False,
    total: int | None = None,
    observer: Observer | None = None,
) -> list[Outcome[T, R]]: ...
async def amap(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 32,
    errors: Errors = "raise",
    progress: bool | str = False,
    total: int | None = None,
    observer: Observer | None = None,
) -> list[R] | list[Outcome[T, R]]:
    """``fn`` of every item, at most ``concurrency`` at once: a list in their order.

    Items are pulled lazily, so at most ``concurrency`` are in memory beside the results.
    When the call ends, however it ends, nothing of it is left running: the first failure
    under ``errors="raise"``, or a cancellation of the caller, cancels the jobs in flight
    and awaits them. A generator given as ``items`` is closed at the end.

    Args:
        fn: Called in a copy of the caller's context, one copy a job: a job sees its
            caller's context variables and no other job's.
        items: Any iterable or async iterable.
        concurrency: Jobs in flight at most.
        errors: ``"raise"``: the first failure, the same object with a note naming the
            item. ``"return"``: an :class:`Outcome` for every item. ``"skip"``: only the
            values of those that succeeded.
        progress: Show a bar; a string is its title.
        total: The number of items, for the bar, where the input does not know it.
        observer: Told what happens.

    Raises:
        ValueError: ``concurrency`` is not a positive integer, or ``errors`` is none of
            the three.
    """
    check_count("concurrency", concurrency)
    check_errors(errors)
    check_items(items)
    results = _Results()
    crew = Crew(
        fn,
        source_of(items),
        results,
        concurrency=concurrency,
        errors=errors,
        observer=watcher(progress, total, observer),
    )
    await crew.join()
    if crew.failure is not None:
        raise crew.failure
    if errors == "skip":
        return [value for value in results.values if value is not _ABSENT]
    return results.values
