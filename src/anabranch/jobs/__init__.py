"""Many awaitables at once, with a bound, and none of them lost."""

from anabranch.jobs.compat import (
    DEFAULT_NUM_WORKERS,
    asyncio_module,
    batch_gather,
    batched,
    chunks,
    get_asyncio_module,
    run_async_tasks,
    run_jobs,
)
from anabranch.jobs.executors import (
    Executor,
    ProcessExecutor,
    RayExecutor,
    RunsSource,
    ThreadExecutor,
)
from anabranch.jobs.hedge import Hedge
from anabranch.jobs.limits.adaptive import Adaptive
from anabranch.jobs.limits.breaker import Breaker
from anabranch.jobs.limits.limiter import Limiter
from anabranch.jobs.limits.rate import RateLimit
from anabranch.jobs.mapping import amap, map  # noqa: A004  # used as jobs.map
from anabranch.jobs.options import JobOptions, Options
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.pool import Pool, Stats
from anabranch.jobs.portal import asyncio_run
from anabranch.jobs.progress import CallbackProgress, Progress, RichProgress
from anabranch.jobs.status import Status
from anabranch.jobs.stream import Stream, SyncStream, astream, stream
from anabranch.retry import Retry

__all__ = [
    "DEFAULT_NUM_WORKERS",
    "Adaptive",
    "Breaker",
    "CallbackProgress",
    "Errors",
    "Executor",
    "Hedge",
    "JobOptions",
    "Limiter",
    "Options",
    "Outcome",
    "Pool",
    "ProcessExecutor",
    "Progress",
    "RateLimit",
    "RayExecutor",
    "Retry",
    "RichProgress",
    "RunsSource",
    "Stats",
    "Status",
    "Stream",
    "SyncStream",
    "ThreadExecutor",
    "amap",
    "astream",
    "asyncio_module",
    "asyncio_run",
    "batch_gather",
    "batched",
    "chunks",
    "get_asyncio_module",
    "map",
    "run_async_tasks",
    "run_jobs",
    "stream",
]
