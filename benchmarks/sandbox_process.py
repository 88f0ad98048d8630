"""What ``benchmarks/run sandbox`` does in the process of one measurement.

It is told what to measure by JSON in its first argument, and answers with the figures in
JSON on the last line of its output.

CPU is the time of all threads of the process and of all its children, those that have
ended too. Everything is done once before, less of it, so that nobody's first call counts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from benchmarks import sandbox_isolates
from benchmarks.sandbox_cost import Cost, passes, taken
from benchmarks.sandbox_peers import FLOOR, PEERS, Allowance, Peer

Figures: TypeAlias = dict[str, float | None]

SMALL = "sum([x * x for x in range(100)])"
SMALL_VALUE = 328_350
TINY = "price * count + fee"
TINY_NAMES = {"price": 3, "count": 5, "fee": 2}
TINY_VALUE = 17
LOOPS = {
    "for": "result = 0\nfor turn in range({turns}):\n    result += 1\n",
    "while": "result = 0\nwhile result < {turns}:\n    result += 1\n",
}


# -------------------------------------------------------------------------- in this process


def measure_expression(label: str, *, what: str, count: int) -> Figures:
    """An expression, each time one not seen before; and one again and again."""
    source, names, value = {
        "small": (SMALL, {}, SMALL_VALUE),
        "tiny": (TINY, TINY_NAMES, TINY_VALUE),
    }[what]
    peer = PEERS[label](Allowance())
    numbers = itertools.count(1)

    def unseen() -> None:
        number = next(numbers)
        if peer.evaluate(f"{source} + {number}", names) != value + number:
            raise RuntimeError("another value than that of plain Python")

    try:
        again = peer.prepared(source, names)
        if again() != value:
            raise RuntimeError("another value than that of plain Python")
        first = [_each(unseen, count) for _ in passes()]
        once_more = [_each(again, count) for _ in passes()]
    finally:
        peer.close()
    return {**_in_us("first", first, count), **_in_us("again", once_more, count)}


def _each(call: Callable[[], object], count: int) -> Cost:
    for _ in range(max(2, count // 10)):
        call()
    with taken() as cost:
        for _ in range(count):
            call()
    return cost


def _in_us(name: str, costs: Sequence[Cost], count: int) -> Figures:
    return {
        f"{name}_us": statistics.median(cost.wall_s for cost in costs) / count * 1e6,
        f"{name}_cpu_us": statistics.median(cost.cpu_s for cost in costs) / count * 1e6,
    }


def measure_loop(label: str, *, turns: int) -> Figures:
    """Loops of so many turns, as what a million of them would take.

    Plain Python has the same loop in turn with it, since a processor is now faster and
    now slower.
    """
    found: Figures = {"turns": turns}
    for name, loop in LOOPS.items():
        peer, plain = PEERS[label](Allowance()), PEERS[FLOOR](Allowance())
        source = loop.format(turns=turns)
        costs: list[Cost] = []
        multiples: list[float] = []
        try:
            peer.execute(loop.format(turns=turns // 10), {})
            for _ in passes():
                costs.append(_loop(peer, source, turns))
                multiples.append(costs[-1].wall_s / _loop(plain, source, turns).wall_s)
        finally:
            peer.close()
        # Of nanoseconds a turn there are as many as milliseconds of a million turns.
        wall_s = statistics.median(cost.wall_s for cost in costs)
        found[f"{name}_ms"] = wall_s / turns * 1e9
        cpu_s = statistics.median(cost.cpu_s for cost in costs)
        found[f"{name}_cpu_ms"] = cpu_s / turns * 1e9
        found[f"{name}_of_floor"] = statistics.median(multiples)
    return found


def _loop(peer: Peer, source: str, turns: int) -> Cost:
    with taken() as cost:
        result = peer.execute(source, {})
    if result != turns:
        raise RuntimeError("not as many turns as there were to be")
    return cost


# --------------------------------------------------------------------------------- isolated

Run: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[Any]]


async def _answer(run: Run, number: int) -> float:
    """The seconds that a run takes."""
    began = time.perf_counter()
    value = await run("sum([x * x for x in values])", {"values": [number, 2, 3]})
    took_s = time.perf_counter() - began
    if value not in (number * number + 13, None):
        raise RuntimeError(f"{value!r} is not the value")
    return took_s


async def measure_spaced(label: str, *, count: int, pause_s: float) -> Figures:
    """Runs one after the other, each a while after the one before."""
    async with sandbox_isolates.ONE_BY_ONE[label](1) as run:
        for number in range(count // 10):
            await _answer(run, number)
            await asyncio.sleep(pause_s)
        took: list[float] = []
        with taken() as cost:
            for number in range(count):
                took.append(await _answer(run, number))
                await asyncio.sleep(pause_s)
    return {"runs": count, **_percentiles(took), "cpu_ms": cost.cpu_s / count * 1e3}


async def measure_session(label: str, *, count: int) -> Figures:
    """Runs one after the other in a process that is kept."""
    async with sandbox_isolates.SESSIONS[label]() as run:
        for number in range(count // 10):
            await _answer(run, number)
        with taken() as cost:
            took = [await _answer(run, number) for number in range(count)]
    found = {name: value * 1e3 for name, value in _percentiles(took).items()}
    return {
        "runs": count,
        "p50_us": found["p50_ms"],
        "p99_us": found["p99_ms"],
        "cpu_us": cost.cpu_s / count * 1e6,
    }


async def measure_throughput(label: str, *, seconds: float) -> Figures:
    """Runs by twice as many tasks as there are processors, for so long."""
    tasks = 2 * (os.cpu_count() or 1)
    async with sandbox_isolates.AT_ONCE[label](tasks) as run:

        async def keep_on(until: float) -> int:
            done = 0
            while time.perf_counter() < until:
                await _answer(run, done)
                done += 1
            return done

        async def all_of_them(seconds: float) -> int:
            until = time.perf_counter() + seconds
            return sum(await asyncio.gather(*(keep_on(until) for _ in range(tasks))))

        await all_of_them(seconds / 4)
        with taken() as cost:
            done = await all_of_them(seconds)
    return {
        "tasks": tasks,
        "runs_per_s": done / cost.wall_s,
        "cpu_ms": cost.cpu_s / done * 1e3,
    }


def _percentiles(took: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


# -------------------------------------------------------------------------------- the order


def carry_out(order: dict[str, Any]) -> Figures:
    """Measure what an order says."""
    measure = order.pop("measure")
    match measure:
        case "expression":
            return measure_expression(**order)
        case "loop":
            return measure_loop(**order)
        case "spaced":
            return asyncio.run(measure_spaced(**order))
        case "session":
            return asyncio.run(measure_session(**order))
        case "throughput":
            return asyncio.run(measure_throughput(**order))
        case "frame":
            from benchmarks import sandbox_frames

            return asyncio.run(sandbox_frames.measure(**order))
        case "suite":
            from benchmarks import sandbox_suite

            return sandbox_suite.measure(**order)
    raise ValueError(f"no measure {measure!r}")


if __name__ == "__main__":
    print(json.dumps(carry_out(json.loads(sys.argv[1]))), flush=True)
    os._exit(0)  # the threads of Monty abort a process that ends now and then
