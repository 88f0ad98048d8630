"""What ``benchmarks/run jobs`` does in the process of one measurement.

It is told what to measure by JSON in its first argument, and answers in JSON on the last
line of its output: the figures, or ``absent`` with the reason where this anabranch does not
have what is measured.

CPU is the time of all threads of the process. Growth of resident memory is from after a
warm-up of the same runner and a collection to the highest during the work, as the kernel
keeps it: what a runner frees before its end counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import itertools
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import memory
from benchmarks.runners import RUNNERS, Job, Run

Figures = dict[str, float | None]

LIMITER_RATE = 400  # admissions a second
LIMITER_WAITERS = 400
JOURNAL_ITEMS = 20_000
JOURNAL_CONCURRENCY = 64
WARM_JOBS = 1_000
# What is over in a moment is run again, since a moment's time says little.
ENOUGH_S = 0.25
MOST_PASSES = 5


# -------------------------------------------------------------------------------- the work


async def noop(item: Any) -> Any:
    return item


async def turn(item: Any) -> Any:
    await asyncio.sleep(0)
    return item


async def sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs of one kind: what runs, over which items, and the least time that it takes."""

    job: Job
    items: Callable[[int], Iterable[Any]]
    ideal_s: Callable[[int, int], float] | None = None


def _uneven(count: int) -> list[float]:
    """One job in ten takes 20 ms and the others 1 ms, in an order that never changes."""
    long = count // 10
    durations = [0.020] * long + [0.001] * (count - long)
    random.Random(10).shuffle(durations)
    return durations


def greedy_s(durations: Sequence[float], workers: int) -> float:
    """The time of jobs that are started in order as soon as a worker is free.

    Source: R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", 1969.
    """
    free_at = [0.0] * workers
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


LOADS = {
    "noop": Load(noop, range),
    "turn": Load(turn, range),
    "even": Load(
        sleep,
        lambda count: [0.001] * count,
        lambda count, workers: greedy_s([0.001] * count, workers),
    ),
    "uneven": Load(
        sleep, _uneven, lambda count, workers: greedy_s(_uneven(count), workers)
    ),
    "lazy": Load(turn, lambda count: (number for number in range(count))),
}


# ----------------------------------------------------------------------------- the runners


def measure_runner(label: str, load: str, jobs: int, workers: int) -> Figures:
    """A runner with a load."""
    runner = RUNNERS[label]
    if runner.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    else:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as loop:
        return loop.run(_measured(runner.run, LOADS[load], jobs, workers))


async def _measured(run: Run, load: Load, jobs: int, workers: int) -> Figures:
    await run(load.job, load.items(max(1, min(WARM_JOBS, jobs // 10))), workers)
    gc.collect()
    before = memory.restart_peak()
    taken = [await _once(run, load, jobs, workers)]
    peak = memory.peak()
    grown = None if before is None or peak is None else max(0, peak - before)
    while len(taken) < MOST_PASSES and sum(wall for wall, _ in taken) < ENOUGH_S:
        gc.collect()
        taken.append(await _once(run, load, jobs, workers))
    wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    return {
        "jobs": jobs,
        "cpu_us": cpu / jobs * 1e6,
        "wall_us": wall / jobs * 1e6,
        "of_ideal": wall / load.ideal_s(jobs, workers) if load.ideal_s else None,
        "grown_mib": None if grown is None else grown / 2**20,
        "grown_bytes": None if grown is None else grown / jobs,
    }


async def _once(run: Run, load: Load, jobs: int, workers: int) -> tuple[float, float]:
    items = load.items(jobs)
    cpu, wall = time.process_time(), time.perf_counter()
    done = await run(load.job, items, workers)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs were run")
    return wall, cpu


# ---------------------------------------------------------------------------- the limiters


class _CountingLoop(asyncio.SelectorEventLoop):
    """Counts the callbacks that it runs: steps of tasks, timers, futures' callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks = 0

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon(self._count, callback, *args, context=context)

    def call_at(self, when: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_at(when, self._count, callback, *args, context=context)

    def _count(self, callback: Callable[..., object], *args: Any) -> None:
        self.callbacks += 1
        callback(*args)


def _free() -> tuple[Callable[[], Awaitable[object]], int]:
    return lambda: noop(None), 0


def _ours() -> tuple[Callable[[], Awaitable[object]], int]:
    from anabranch.jobs import Limiter, RateLimit

    return Limiter(RateLimit(requests=LIMITER_RATE, per=1.0)).acquire, LIMITER_RATE


def _aiolimiter() -> tuple[Callable[[], Awaitable[object]], int]:
    from aiolimiter import AsyncLimiter

    return AsyncLimiter(LIMITER_RATE, 1.0).acquire, LIMITER_RATE


def _llamaindex() -> tuple[Callable[[], Awaitable[object]], int]:
    from llama_index.core.rate_limiter import TokenBucketRateLimiter

    limiter = TokenBucketRateLimiter(requests_per_minute=LIMITER_RATE * 60)
    return limiter.async_acquire, LIMITER_RATE * 60


# What admits one more, and how many it lets through before it begins to limit.
LIMITERS = {
    "aiolimiter": _aiolimiter,
    "LlamaIndex TokenBucket": _llamaindex,
    "Limiter": _ours,
}


def measure_limiter(label: str) -> Figures:
    """Many waiters at once, the burst being spent.

    A *wake-up* is a callback of the event loop, above those of as many tasks that are
    admitted at once: a timer that goes off, a step of a task that waited.
    """
    free = _admitted(_free)
    found = _admitted(LIMITERS[label])
    wakeups = (found["callbacks"] or 0) - (free["callbacks"] or 0)
    return {
        "waiters": LIMITER_WAITERS,
        "wakeups": wakeups / LIMITER_WAITERS,
        "cpu_us": found["cpu_us"],
        "wall_s": found["wall_s"],
        "overtaken": found["overtaken"],
    }


def _admitted(make: Callable[[], tuple[Callable[[], Awaitable[object]], int]]) -> Figures:
    loop = _CountingLoop()

    async def work() -> Figures:
        acquire, burst = make()
        began, spent, allowed = time.perf_counter(), 0, burst
        while spent < allowed:
            await acquire()
            spent += 1
            # What comes back meanwhile is spent as well.
            allowed = burst + int((time.perf_counter() - began) * LIMITER_RATE)
        order: list[int] = []

        async def wait(number: int) -> None:
            await acquire()
            order.append(number)

        loop.callbacks = 0
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*[wait(number) for number in range(LIMITER_WAITERS)])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        pairs = itertools.pairwise(order)
        return {
            "callbacks": loop.callbacks,
            "cpu_us": cpu / LIMITER_WAITERS * 1e6,
            "wall_s": wall,
            "overtaken": sum(after < before for before, after in pairs),
        }

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work())


# ----------------------------------------------------------------------------- the journal


def measure_journal() -> Figures:
    """Results written down as they come, then taken from the finished file."""
    from anabranch import amap

    async def journaled(items: list[str], path: Path) -> float:
        began = time.perf_counter()
        results = await amap(echo, items, journal=path, concurrency=JOURNAL_CONCURRENCY)
        taken = time.perf_counter() - began
        if results != items:
            raise RuntimeError("the journal gave other results")
        return taken

    calls = 0

    async def echo(item: str) -> str:
        nonlocal calls
        calls += 1
        return item

    async def work(folder: Path) -> tuple[float, float, float]:
        items = [f"item {number}" for number in range(JOURNAL_ITEMS)]
        await journaled(items[:WARM_JOBS], folder / "warm")
        cpu = time.process_time()
        first = await journaled(items, folder / "journal")
        cpu = time.process_time() - cpu
        before = calls
        again = await journaled(items, folder / "journal")
        if calls != before:
            raise RuntimeError(f"{calls - before} finished items were run again")
        return first, again, cpu

    with tempfile.TemporaryDirectory() as name:
        first, again, cpu = asyncio.run(work(Path(name)))
        bare = _bare_s(Path(name) / "journal", Path(name) / "bare")
    return {
        "items": JOURNAL_ITEMS,
        "items_per_s": JOURNAL_ITEMS / first,
        "cpu_us": cpu / JOURNAL_ITEMS * 1e6,
        "resumed_per_s": JOURNAL_ITEMS / again,
        "bare_per_s": JOURNAL_ITEMS / bare,
    }


def _bare_s(journal: Path, path: Path) -> float:
    """The time that SQLite needs for the same rows, in one transaction."""
    with contextlib.closing(sqlite3.connect(journal)) as source:
        rows = source.execute("SELECT key, value FROM done").fetchall()
    if len(rows) < JOURNAL_ITEMS:
        raise RuntimeError(f"the journal has {len(rows)} rows")
    with contextlib.closing(sqlite3.connect(path)) as target:
        target.execute("PRAGMA journal_mode = WAL")
        target.execute("PRAGMA synchronous = NORMAL")
        target.execute("CREATE TABLE done (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        began = time.perf_counter()
        with target:
            target.executemany("INSERT INTO done VALUES (?, ?)", rows)
        return time.perf_counter() - began


# ------------------------------------------------------------------------------------ main


@contextlib.contextmanager
def _what_is_missing(absent: dict[str, str]) -> Iterator[None]:
    """Take note of an option or a name that this anabranch does not have."""
    try:
        yield
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        absent["absent"] = str(error)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) or error.name != "anabranch.jobs":
            raise
        absent["absent"] = str(error).partition(" (")[0]


def main(order: dict[str, Any]) -> None:
    """Measures, and prints the figures."""
    kinds = {
        "runner": measure_runner,
        "limiter": measure_limiter,
        "journal": measure_journal,
    }
    absent: dict[str, str] = {}
    figures: Figures = {}
    with _what_is_missing(absent):
        figures = kinds[order.pop("kind")](**order)
    print(json.dumps(absent or figures))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
