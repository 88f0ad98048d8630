"""The functions that programs for LlamaIndex's ``async_utils`` call, over our core."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterable, Coroutine, Iterable, Iterator
from itertools import islice, zip_longest
from operator import length_hint
from typing import Any, Final, TypeAlias, TypeVar

from anabranch.jobs.check import check_count
from anabranch.jobs.mapping import amap
from anabranch.jobs.portal import asyncio_run
from anabranch.observe import Observer

T = TypeVar("T")
R = TypeVar("R")

Coroutines: TypeAlias = (
    Iterable[Coroutine[Any, Any, R]] | AsyncIterable[Coroutine[Any, Any, R]]
)

DEFAULT_NUM_WORKERS: Final = 4
ALL_AT_ONCE: Final = 2**31


async def run_jobs(
    jobs: Coroutines[R],
    show_progress: bool = False,
    workers: int = DEFAULT_NUM_WORKERS,
    desc: str | None = None,
) -> list[R]:
    """Await every coroutine, at most ``workers`` at once: results in their order.

    The first failure cancels the other jobs and awaits them, and is raised as it is, with
    a note naming the job. Every coroutine that was not started is closed.

    Args:
        jobs: Coroutines: a list, a generator, or an async generator of them.
        show_progress: Show a bar.
        workers: Jobs in flight at most.
        desc: The bar's title.

    Raises:
        ValueError: ``workers`` is not a positive integer.
    """
    progress = (desc or True) if show_progress else False
    try:
        check_count("workers", workers)
        return await amap(_adopted, jobs, concurrency=workers, progress=progress)
    finally:
        await _close_all(jobs)


def run_async_tasks(
    tasks: Coroutines[R],
    show_progress: bool = False,
    progress_bar_desc: str = "Running async tasks",
    *,
    workers: int | None = None,
) -> list[R]:
    """The results of coroutines, in their order, from synchronous code.

    See :func:`run_jobs` for what a failure does and :func:`asyncio_run` for where they
    run. After Ctrl-C the ``KeyboardInterrupt`` carries what had finished, by index, as
    ``error.partial``.

    Args:
        tasks: Coroutines: a list, a generator, or an async generator of them.
        show_progress: Show a bar.
        progress_bar_desc: The bar's title.
        workers: Jobs in flight at most; by default all of them.
    """
    limit = ALL_AT_ONCE if workers is None else workers
    return asyncio_run(run_jobs(tasks, show_progress, limit, progress_bar_desc))


async def batch_gather(
    tasks: Coroutines[R], batch_size: int = 10, verbose: bool = False
) -> list[R]:
    """Await every coroutine, at most ``batch_size`` at once: results in their order.

    There are no batches that wait for their slowest: the next job starts when one ends.
    See :func:`run_jobs` for what a failure does.

    Args:
        tasks: Coroutines: a list, a generator, or an async generator of them.
        batch_size: Jobs in flight at most.
        verbose: Print how many are done, each time so many more are.

    Raises:
        ValueError: ``batch_size`` is not a positive integer.
    """
    try:
        check_count("batch_size", batch_size)
        observer = _Printed(batch_size) if verbose else None
        return await amap(_adopted, tasks, concurrency=batch_size, observer=observer)
    finally:
        await _close_all(tasks)


def chunks(iterable: Iterable[T], size: int) -> Iterable[tuple[T | None, ...]]:
    """Groups of ``size``, the last one filled up with ``None``.

    :func:`batched` does not fill, so it also suits items that may be ``None``.

    Raises:
        ValueError: ``size`` is not a positive integer.
    """
    check_count("size", size)
    return zip_longest(*[iter(iterable)] * size)


def batched(iterable: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Groups of ``size``, pulled lazily; the last one may be shorter.

    Raises:
        ValueError: ``size`` is not a positive integer.
    """
    check_count("size", size)
    iterator = iter(iterable)
    return iter(lambda: tuple(islice(iterator, size)), ())


def get_asyncio_module(show_progress: bool = False) -> Any:
    """:mod:`asyncio`, or for ``show_progress`` the class ``tqdm.asyncio.tqdm_asyncio``.

    The class has ``gather`` and ``as_completed`` and nothing else of the module.
    """
    if not show_progress:
        return asyncio
    from tqdm.asyncio import tqdm_asyncio

    return tqdm_asyncio


def asyncio_module(show_progress: bool = False) -> Any:
    """The former name of :func:`get_asyncio_module`."""
    warnings.warn(
        "asyncio_module is deprecated: use get_asyncio_module", DeprecationWarning, 2
    )
    return get_asyncio_module(show_progress)


class _Printed(Observer):
    def __init__(self, every: int) -> None:
        self._every = every
        self._done = 0
        self._of = ""

    def begun(self, total: int | None) -> None:
        self._of = "" if total is None else f" out of {total}"

    def finished(self, label: object, error: BaseException | None) -> None:
        self._done += 1
        if self._done % self._every == 0:
            self._print()

    def ended(self) -> None:
        if self._done % self._every:
            self._print()

    def _print(self) -> None:
        print(f"Completed {self._done}{self._of} tasks")


async def _close_all(jobs: Any) -> None:
    """Close the coroutines that exist: a generator's others were never made."""
    for name in ("close", "aclose"):
        if (close := getattr(jobs, name, None)) is not None:
            if asyncio.iscoroutine(closing := close()) or hasattr(closing, "__await__"):
                await closing
            return
    if hasattr(jobs, "__iter__") and length_hint(jobs, 0):
        for job in jobs:
            if asyncio.iscoroutine(job):
                job.close()


async def _adopted(job: Coroutine[Any, Any, R]) -> R:
    return await job
