"""The functions that programs for LlamaIndex's ``async_utils`` call, over our core."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterable, Coroutine, Iterable, Iterator
from itertools import islice, zip_longest
from operator import length_hint
from typing import Any, Final, TypeAlias, TypeVar

from anabranch.errors import LoopError
from anabranch.jobs.check import check_count, check_items
from anabranch.jobs.mapping import Results, collect, interrupt_carries, results_of
from anabranch.jobs.options import Options
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
    return await _run(jobs, ("workers", workers), progress=progress)


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
    progress = (progress_bar_desc or True) if show_progress else False
    results = results_of(Options())
    try:
        with interrupt_carries(results):
            return asyncio_run(_run(tasks, ("workers", limit), results, progress=progress))
    except LoopError:
        _close_made(tasks)
        raise


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
    observer = _Printed(batch_size) if verbose else None
    return await _run(tasks, ("batch_size", batch_size), observer=observer)


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


async def _run(
    jobs: Coroutines[R],
    limit: tuple[str, int],
    into: Results | None = None,
    *,
    progress: bool | str = False,
    observer: Observer | None = None,
) -> list[R]:
    """The results of coroutines; its limit is a named argument of the caller's."""
    try:
        name, concurrency = limit
        check_count(name, concurrency)
        check_items(jobs)
        options = Options(concurrency=concurrency, progress=progress, observer=observer)
        return await collect(_adopted, jobs, options, into=into)
    finally:
        if (aclose := getattr(jobs, "aclose", None)) is not None:
            await aclose()
        _close_made(jobs)


def _close_made(jobs: Any) -> None:
    """Close the coroutines that exist: a generator's others were never made."""
    if (close := getattr(jobs, "close", None)) is not None:
        close()
    elif hasattr(jobs, "__iter__") and length_hint(jobs, 0):
        for job in jobs:
            if asyncio.iscoroutine(job):
                job.close()


async def _adopted(job: Coroutine[Any, Any, R]) -> R:
    return await job
