"""How many cores this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores the scheduler gives this process, which containers and taskset limit."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
