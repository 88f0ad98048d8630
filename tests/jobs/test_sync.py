"""Running jobs from synchronous code."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import anabranch
from anabranch import jobs
from anabranch.jobs import Outcome


async def double(item: int) -> int:
    await asyncio.sleep(0)
    return 2 * item


def test_map_and_stream_give_what_their_asynchronous_twins_give() -> None:
    assert jobs.map(double, range(100), concurrency=7) == [*range(0, 200, 2)]
    assert list(jobs.stream(double, range(100), ordered=True)) == [*range(0, 200, 2)]
    assert sorted(jobs.stream(double, range(100))) == [*range(0, 200, 2)]
    (outcome,) = jobs.map(double, [4], errors="return")
    assert isinstance(outcome, Outcome)
    assert outcome.value == 8


def test_they_work_in_threads_and_inside_a_running_loop() -> None:
    found: list[list[int]] = []

    def work() -> None:
        found.append(jobs.map(double, range(50)))
        found.append(list(jobs.stream(double, range(50), ordered=True)))

    async def main() -> None:
        work()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(main())
    for thread in threads:
        thread.join(20)
    assert found == [[*range(0, 100, 2)]] * 10


def test_a_stream_is_lazy_and_can_be_left_early() -> None:
    pulled = 0

    def items() -> object:
        nonlocal pulled
        try:
            while True:
                pulled += 1
                yield pulled
        finally:
            closed.set()

    closed = threading.Event()
    with jobs.stream(double, items(), concurrency=2, buffer=3) as results:  # type: ignore[call-overload]
        first = next(results)
    assert first % 2 == 0
    assert closed.wait(5)
    assert pulled <= 1200
    assert list(results) == []


def test_synchronous_functions_run_in_threads_and_processes() -> None:
    assert jobs.map(abs, [-1, 2, -3], executor="thread") == [1, 2, 3]
    assert jobs.map(abs, [-1, 2, -3], executor="process", concurrency=2) == [1, 2, 3]


def test_a_synchronous_function_without_an_executor_is_told_of_it() -> None:
    with pytest.raises(TypeError) as caught:
        jobs.map(abs, [-1])
    assert any("executor='thread'" in note for note in caught.value.__notes__)


def test_a_client_made_in_one_call_still_works_in_the_next() -> None:
    made: list[asyncio.Queue[int]] = []

    async def make(item: int) -> None:
        made.append(asyncio.Queue())

    async def use(item: int) -> int:
        queue = made[0]
        taking = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.put_nowait(item)
        return await taking

    jobs.map(make, [0])
    for item in range(6):
        assert jobs.map(use, [item]) == [item]


def test_a_running_loop_of_uvloop_is_no_obstacle() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> list[int]:
        inside = jobs.map(double, range(20))
        assert await anabranch.amap(double, range(20), timeout=5, retry=2) == inside
        return inside

    assert uvloop.run(main()) == [*range(0, 40, 2)]


PROGRAM = textwrap.dedent(
    """
    import asyncio, signal, sys, time
    from anabranch import jobs
    from anabranch.jobs import run_async_tasks, asyncio_run, amap

    # What a shell runs in the background ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    cleaned = []

    async def job(item):
        try:
            await asyncio.sleep(0 if item < 3 else 60)
        finally:
            cleaned.append(item)
        return item

    def consume():
        return list(jobs.stream(job, range(6)))

    calls = {
        "map": lambda: jobs.map(job, range(6)),
        "run_async_tasks": lambda: run_async_tasks([job(i) for i in range(6)]),
        "asyncio_run": lambda: asyncio_run(amap(job, range(6))),
        "stream": consume,
    }
    print("ready", flush=True)
    try:
        calls[sys.argv[1]]()
    except KeyboardInterrupt as error:
        print(getattr(error, "partial", None), sorted(cleaned), flush=True)
    print(jobs.map(job, range(3)), flush=True)
    """
)


@pytest.mark.parametrize("call", ["map", "run_async_tasks", "asyncio_run", "stream"])
def test_ctrl_c_is_felt_at_once_and_carries_what_was_finished(
    call: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, program, call], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.4)  # real time: a signal to a real process that waits
        os.kill(process.pid, signal.SIGINT)
        began = time.monotonic()
        said = process.stdout.readline()
        felt_s = time.monotonic() - began
        again = process.stdout.readline()
        assert process.wait(10) == 0
    partial = "None" if call == "stream" else "{0: 0, 1: 1, 2: 2}"
    assert said.startswith(partial), said
    if call != "stream":
        assert said.endswith("[0, 1, 2, 3, 4, 5]\n")
    assert again == "[0, 1, 2]\n"
    assert felt_s < 5  # far from the minute that the jobs would take
