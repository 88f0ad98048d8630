"""What ``benchmarks/run durable`` does in the process of one measurement.

It is told what to measure by JSON in its first argument, and answers with the figures in
JSON on the last line of its output.

CPU is the time of all threads of the process; the database server's is that of all its
processes, whatever it does then. Everything is done once before, less of it, so that no
engine's first steps count.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from benchmarks import memory
from benchmarks.durable_engines import AT_ONCE, ROWS, Bodies, Engine

Figures: TypeAlias = dict[str, float | None]

SERVER = "ANABRANCH_BENCHMARK_SERVER"
"""The variable that says in JSON which server of PostgreSQL to use: its URL and its pid."""

# What is over in a moment is done again, since a moment's time says little.
ENOUGH_S = 1.0
MOST_PASSES = 15
_numbers = itertools.count()
DIES_AT = 10  # steps before the end
# So long somebody thinks before the next answer; what the last one led to is over then.
PAUSE_S = 0.005


def _step(left: int) -> int:
    return left - 1


def _told(_: float) -> None:
    raise RuntimeError("nothing has been asked")


# ------------------------------------------------------------------------------ where it is


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are kept.

    Attributes:
        name: The path of a file, or the URL of a database.
        size: Its bytes now, but for what an empty one has.
        server_s: CPU time of its server, in seconds; 0 if there is none.
    """

    name: str
    size: Callable[[], int]
    server_s: Callable[[], float]


@contextmanager
def a_place(label: str) -> Iterator[Place]:
    """A new one for a row."""
    with _a_database() if ROWS[label].on_postgres else _a_file() as place:
        yield place


@contextmanager
def _a_file() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        # With the log and whatever else is beside it.
        files = Path(folder)
        yield Place(
            str(files / "runs.db"),
            lambda: sum(each.stat().st_size for each in files.iterdir()),
            lambda: 0.0,
        )


@contextmanager
def _a_database() -> Iterator[Place]:
    import psycopg

    server = json.loads(os.environ[SERVER])
    name = f"runs_{os.getpid()}_{next(_numbers)}"
    url = f"{server['url'].rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(server["url"], autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())

        def size() -> int:
            row = admin.execute("SELECT pg_database_size(%s)", (name,)).fetchone()
            assert row is not None
            found: int = row[0]
            return found

        empty = size()
        try:
            yield Place(url, lambda: size() - empty, lambda: _cpu_of(server["pid"]))
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _cpu_of(pid: int) -> float:
    """CPU time of a process and all its children, those that have ended too."""
    import psutil

    process = psutil.Process(pid)
    times = [process.cpu_times()]
    found = times[0].children_user + times[0].children_system
    for child in process.children(recursive=True):
        try:
            times.append(child.cpu_times())
        except psutil.NoSuchProcess:
            continue
    return found + sum(each.user + each.system for each in times)


# --------------------------------------------------------------------- steps and their cost


async def measure_steps(
    label: str, place: Place, *, runs: int, count: int, passes: int
) -> Figures:
    """So many runs at once, each a chain of so many steps.

    A disk is now faster and now slower, so that only what was done in turn compares: one
    run in turn with the row's floor, many in turn with one.
    """
    async with AsyncExitStack() as exits:
        engine = other = await exits.enter_async_context(_opened(label, place.name))
        floor = ROWS[label].floor
        if runs == 1 and floor != label:
            name = exits.enter_context(a_place(floor)).name
            other = await exits.enter_async_context(_opened(floor, name))
        await _pass(engine, place, "warm", runs, max(2, count // 10))
        await _pass(other, place, "warm other", 1, count)
        taken: list[Pass] = []
        others: list[Pass] = []
        while len(taken) < passes or (
            len(taken) < MOST_PASSES and sum(each.wall_s for each in taken) < ENOUGH_S
        ):
            name = f"pass {len(taken)}"
            taken.append(await _pass(engine, place, name, runs, count))
            others.append(await _pass(other, place, f"other {name}", 1, count))
    wall_s = statistics.median(each.wall_s for each in taken) / count / runs
    multiple = statistics.median(
        own.wall_s / runs / else_.wall_s for own, else_ in zip(taken, others, strict=True)
    )
    served_s = sum(each.server_s for each in taken) / len(taken) / count / runs
    return {
        "runs": runs,
        "steps": count,
        "wall_ms": wall_s * 1e3,
        "cpu_ms": statistics.median(each.cpu_s for each in taken) / count / runs * 1e3,
        # The server's clock is too coarse for one pass.
        "server_ms": served_s * 1e3 if ROWS[label].on_postgres else None,
        "steps_per_s": 1 / wall_s,
        "of_floor": multiple if runs == 1 else None,
        "of_one": None if runs == 1 else 1 / multiple,
    }


@asynccontextmanager
async def _opened(label: str, name: str) -> AsyncIterator[Engine]:
    async with ROWS[label].made(name, Bodies(_step, _told)) as engine:
        await engine.open()
        yield engine


class Pass(NamedTuple):
    """What some steps took."""

    wall_s: float
    cpu_s: float
    server_s: float


async def _pass(engine: Engine, place: Place, name: str, runs: int, count: int) -> Pass:
    # Names of one length, in no order.
    named = [
        f"{name} {random.Random(number).getrandbits(64):020}" for number in range(runs)
    ]
    gc.collect()
    served, cpu, wall = place.server_s(), time.process_time(), time.perf_counter()
    left = await asyncio.gather(*[engine.chain(each, count) for each in named])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if any(left):
        raise RuntimeError(f"there are steps left: {left}")
    return Pass(wall, cpu, place.server_s() - served)


# --------------------------------------------------------------------------- being taken up


async def die(label: str, name: str, *, count: int) -> None:
    """Run a chain, and die shortly before its end; when both was, is printed."""

    def step(left: int) -> int:
        if left in (count, DIES_AT):
            print(time.monotonic(), flush=True)
        if left == DIES_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return left - 1

    async with ROWS[label].made(name, Bodies(step, _told)) as engine:
        await engine.open()
        await engine.chain("long", count)


async def measure_resume(label: str, place: Place, *, count: int) -> Figures:
    """How soon a run that was killed has its next step."""
    order = {"what": "die", "label": label, "place": place.name, "count": count}
    dying = await _ended(order)
    if dying.returncode != -signal.SIGKILL:
        raise RuntimeError(f"who was to be killed has ended: {dying.stderr}")
    began_at, died_at = map(float, dying.stdout.split())
    size = place.size()
    begun: list[float] = []

    def step(left: int) -> int:
        begun.append(time.perf_counter())
        return left - 1

    engine = ROWS[label].made(place.name, Bodies(step, _told))
    engine.age()
    async with engine:
        asked = time.perf_counter()
        await engine.open()
        if await engine.take_up("long"):
            raise RuntimeError("there are steps left")
    return {
        "steps": count,
        "total_s": died_at - began_at,
        "resume_ms": (begun[0] - asked) * 1e3,
        "again": len(begun) - DIES_AT,
        "mib": size / 2**20,
        "bytes": size / count,
    }


async def _ended(order: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.durable_process", json.dumps(order)]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )


# --------------------------------------------------------------------- waiting for somebody


async def measure_waiting(
    label: str, place: Place, *, runs: int, answered: int, elsewhere: int
) -> Figures:
    """Runs that wait for an answer; some get one, from here and from another process."""
    told: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(sent_at: float) -> None:
        took_s = time.monotonic() - sent_at
        loop.call_soon_threadsafe(told.put_nowait, took_s)

    async with ROWS[label].made(place.name, Bodies(_step, tell)) as engine:
        await engine.open()
        await engine.serve()
        await engine.ask("warm")
        await engine.all_wait(1)
        await engine.answer("warm", time.monotonic())
        await told.get()
        gc.collect()
        before = memory.resident()
        begun = time.perf_counter()
        names = [f"run {number}" for number in range(runs)]
        await _at_once(engine.ask, names)
        await engine.all_wait(runs + 1)
        wall = time.perf_counter() - begun
        gc.collect()
        after = memory.resident()
        chosen = random.Random(7).sample(names, answered + elsewhere)

        async def here(run: str) -> None:
            await engine.answer(run, time.monotonic())

        took = {"here": await _answered(here, told, chosen[:answered])}
        if elsewhere:
            async with _another_process(label, place.name) as there:
                took["there"] = await _answered(there, told, chosen[answered:])
    return {
        "runs": runs,
        "start_ms": wall / runs * 1e3,
        "before_mib": None if before is None else before / 2**20,
        "after_mib": None if after is None else after / 2**20,
        "bytes": None if before is None or after is None else (after - before) / runs,
        **_percentiles("here", took["here"]),
        **_percentiles("there", took.get("there")),
    }


async def _at_once(start: Callable[[str], Awaitable[None]], names: Sequence[str]) -> None:
    pending = iter(names)

    async def work() -> None:
        for name in pending:
            await start(name)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def _answered(
    answer: Callable[[str], Awaitable[None]],
    told: asyncio.Queue[float],
    runs: Sequence[str],
) -> list[float]:
    """Each run is answered when the one before it has its answer: how long that took."""
    took: list[float] = []
    for run in runs:
        await answer(run)
        took.append(await told.get())
        await asyncio.sleep(PAUSE_S)
    return took


@asynccontextmanager
async def _another_process(
    label: str, name: str
) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Another process, which answers runs."""
    order = json.dumps({"what": "answer", "label": label, "place": name})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.durable_process", order),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin = process.stdin
    await process.stdout.readline()

    async def answer(run: str) -> None:
        stdin.write(f"{run}\n".encode())
        await stdin.drain()

    try:
        yield answer
    finally:
        stdin.close()
        await process.wait()


async def answer(label: str, name: str) -> None:
    """Answer the runs whose names come in, in a process where nothing else is done."""
    async with ROWS[label].made(name, Bodies(_step, _told)) as engine:
        send = await engine.outside()
        print("ready", flush=True)
        while run := (await asyncio.to_thread(sys.stdin.readline)).strip():
            # This clock is the machine's, so another process may subtract it.
            await send(run, time.monotonic())


def _percentiles(which: str, took: Sequence[float] | None) -> Figures:
    if not took:
        return {f"{which}_p50_ms": None, f"{which}_p95_ms": None}
    cuts = statistics.quantiles(took, n=20, method="inclusive")
    return {f"{which}_p50_ms": cuts[9] * 1e3, f"{which}_p95_ms": cuts[18] * 1e3}


# -------------------------------------------------------------------------------- the order


async def carry_out(order: dict[str, Any]) -> None:
    """Measure, and print the figures; or do what another process cannot do itself."""
    what, label = order.pop("what"), order.pop("label")
    if what == "die":
        await die(label, order["place"], count=order["count"])
    elif what == "answer":
        await answer(label, order["place"])
    else:
        measure = {
            "steps": measure_steps,
            "resume": measure_resume,
            "waiting": measure_waiting,
        }[what]
        with a_place(label) as place:
            print(json.dumps(await measure(label, place, **order)))


if __name__ == "__main__":
    asyncio.run(carry_out(json.loads(sys.argv[1])))
