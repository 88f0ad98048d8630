"""What something took, by the clock and of the processors, children included."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# What is over in a moment is done again, since a moment's time says little.
ENOUGH_S = 1.0
LEAST_PASSES, MOST_PASSES = 3, 15


@dataclass(slots=True)
class Cost:
    """Seconds by the clock, and of all processors."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def taken() -> Iterator[Cost]:
    """What the block takes; it is known after it."""
    cost = Cost()
    gc.collect()
    children, own, began = _children_s(), _own_s(), time.perf_counter()
    yield cost
    cost.wall_s = time.perf_counter() - began
    # In this order, so that looking at the children costs nothing that counts.
    own = _own_s() - own
    cost.cpu_s = own + _children_s() - children


def passes() -> Iterator[int]:
    """A number for each time that it is done, until it is enough."""
    began = time.perf_counter()
    for number in range(MOST_PASSES):
        if number >= LEAST_PASSES and time.perf_counter() - began > ENOUGH_S:
            return
        yield number


def _own_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _children_s() -> float:
    """Of all children, the living and the ended, and of theirs."""
    import psutil

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = usage.ru_utime + usage.ru_stime
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
