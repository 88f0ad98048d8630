"""Fan out, join again, lose nothing: many things at once in RAG and LLM programs.

Each room is a package of its own: :mod:`anabranch.jobs`, :mod:`anabranch.workflow`,
:mod:`anabranch.rag`. The names of jobs are here too, and are imported when they are first
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from anabranch.jobs import (
        DEFAULT_NUM_WORKERS,
        Adaptive,
        Limiter,
        Outcome,
        Pool,
        RateLimit,
        Retry,
        amap,
        astream,
        asyncio_module,
        asyncio_run,
        batch_gather,
        batched,
        chunks,
        get_asyncio_module,
        run_async_tasks,
        run_jobs,
        stream,
    )
    from anabranch.jobs import (
        map as map,  # noqa: A004  # used as anabranch.map, not by a star
    )

__all__ = [
    "DEFAULT_NUM_WORKERS",
    "Adaptive",
    "Limiter",
    "Outcome",
    "Pool",
    "RateLimit",
    "Retry",
    "__version__",
    "amap",
    "astream",
    "asyncio_module",
    "asyncio_run",
    "batch_gather",
    "batched",
    "chunks",
    "get_asyncio_module",
    "run_async_tasks",
    "run_jobs",
    "stream",
]


# `map` is not among those a star gives: it would hide Python's own.
_LAZY = {*__all__, "map"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        import anabranch.jobs

        return getattr(anabranch.jobs, name)
    raise AttributeError(f"module 'anabranch' has no attribute {name!r}")
