"""Many awaitables at once, with a bound, and none of them lost."""

from anabranch.jobs.compat import DEFAULT_NUM_WORKERS, run_jobs
from anabranch.jobs.mapping import amap
from anabranch.jobs.outcome import Errors, Outcome
from anabranch.jobs.portal import asyncio_run
from anabranch.jobs.progress import Progress
from anabranch.jobs.stream import Stream, astream

__all__ = [
    "DEFAULT_NUM_WORKERS",
    "Errors",
    "Outcome",
    "Progress",
    "Stream",
    "amap",
    "astream",
    "asyncio_run",
    "run_jobs",
]
