"""The functions that programs for LlamaIndex's ``async_utils`` call, over our core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Coroutine, Iterable
from operator import length_hint
from typing import Any, Final, TypeVar

from anabranch.jobs.check import check_count
from anabranch.jobs.mapping import amap

R = TypeVar("R")

DEFAULT_NUM_WORKERS: Final = 4


async def run_jobs(
    jobs: Iterable[Coroutine[Any, Any, R]] | AsyncIterable[Coroutine[Any, Any, R]],
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
        _close_all(jobs)


def _close_all(jobs: Any) -> None:
    """Close the coroutines that exist: a generator's others were never made."""
    close = getattr(jobs, "close", None)
    if close is not None:
        close()
    elif hasattr(jobs, "__iter__") and length_hint(jobs, 0):
        for job in jobs:
            if asyncio.iscoroutine(job):
                job.close()


async def _adopted(job: Coroutine[Any, Any, R]) -> R:
    return await job
