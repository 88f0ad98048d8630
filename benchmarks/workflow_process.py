"""What ``benchmarks/run workflow`` does in the process of one measurement.

It is told what to measure by JSON in its first argument, and answers with the figures in
JSON on the last line of its output.

CPU is the time of all threads of the process. Everything is done once before, less of it,
so that no engine's first steps count. Memory is resident memory; its growth during a run is
from after that warm-up and a collection to the highest, as the kernel keeps it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from benchmarks import memory
from benchmarks.engines import ENGINES, Idle, Once

Figures: TypeAlias = dict[str, float | None]
Work: TypeAlias = Callable[[int], Awaitable[int]]  # so many units: what came of it

# What is over in a moment is done again, since a moment's time says little.
ENOUGH_S = 1.0
MOST_PASSES = 20


def one_by_one(once: Once) -> Work:
    async def work(count: int) -> int:
        good = 0
        for _ in range(count):
            good += await once()
        return good

    return work


def at_once(once: Once) -> Work:
    async def work(count: int) -> int:
        return sum(await asyncio.gather(*[once() for _ in range(count)]))

    return work


async def measure_work(engine: str, what: str, count: int, warm: int) -> Figures:
    """Runs one after the other or at once, a chain of steps, or a fan of events."""
    made: Any = getattr(ENGINES[engine], what)()
    expected = count
    if what == "run":
        work = one_by_one(made)
    elif what == "many":
        work = at_once(made)
    else:
        work = made
        expected = 0 if what == "chain" else count  # steps that are left, events in all
    await work(warm)
    gc.collect()
    before = memory.restart_peak()
    taken = [await _once(work, count, expected)]
    peak = memory.peak()
    grown = None if before is None or peak is None else max(0, peak - before)
    while len(taken) < MOST_PASSES and sum(wall for wall, _ in taken) < ENOUGH_S:
        gc.collect()
        taken.append(await _once(work, count, expected))
    wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    return {
        "count": count,
        "cpu_us": cpu / count * 1e6,
        "wall_us": wall / count * 1e6,
        "grown_mib": None if grown is None else grown / 2**20,
    }


async def _once(work: Work, count: int, expected: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    came = await work(count)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if came != expected:
        raise RuntimeError(f"{came} came of it, not {expected}")
    return wall, cpu


async def measure_idle(engine: str, what: str, count: int, warm: int) -> Figures:
    """Runs that are started until all of them wait, and then answered."""
    idle: Idle = getattr(ENGINES[engine], what)()
    await _idle(idle, -warm, 0)
    found = await _idle(idle, 0, count)
    return {"count": count, **found}


async def _idle(idle: Idle, first: int, end: int) -> Figures:
    count = end - first
    gc.collect()
    before = memory.resident()
    cpu, wall = time.process_time(), time.perf_counter()
    started = [await idle.start(number) for number in range(first, end)]
    start_cpu, start_wall = time.process_time() - cpu, time.perf_counter() - wall
    await asyncio.sleep(0.1)  # what is still to be tidied up, is
    gc.collect()
    after = memory.resident()
    cpu, wall = time.process_time(), time.perf_counter()
    for number, each in enumerate(started):
        words = f"answer {number}"
        if await idle.answer(each, words) != words:
            raise RuntimeError(f"run {number} got another answer")
    answer_cpu, answer_wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "bytes_a_run": None
        if before is None or after is None
        else (after - before) / count,
        "start_us": start_cpu / count * 1e6,
        "start_wall_us": start_wall / count * 1e6,
        "answer_us": answer_cpu / count * 1e6,
        "answer_wall_us": answer_wall / count * 1e6,
    }


def main(order: dict[str, Any]) -> None:
    """Measures, and prints the figures."""
    measure = measure_idle if order["what"].startswith("idle") else measure_work
    print(json.dumps(asyncio.run(measure(**order))))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
