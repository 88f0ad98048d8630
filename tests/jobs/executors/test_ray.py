"""Functions on a real Ray, which loses actors and nothing else."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch import amap, asyncio_run
from anabranch.errors import ExecutorClosed, UsageError, WorkerLost
from anabranch.jobs.executors import Dispatcher, executor_of
from anabranch.jobs.executors.ray import RayExecutor
from tests.jobs.executors.work import (
    Refused,
    answers,
    double,
    double_later,
    here,
    is_dead,
    killed_by_13,
    refuse_odd,
    refuse_odd_later,
    seen,
    stay,
    stay_later,
    until,
    until_now,
)

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def _users_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False
        )
        yield
        ray.shutdown()


@pytest.mark.parametrize("fn", [double, double_later])
def test_results_come_back_in_the_order_of_the_calls(fn: Any) -> None:
    got = asyncio.run(answers(RayExecutor(actors=2, chunk=50), fn, range(500)))
    assert got == [2 * n for n in range(500)]


@pytest.mark.parametrize("fn", [refuse_odd, refuse_odd_later])
def test_an_exception_keeps_its_type_attributes_and_traceback(fn: Any) -> None:
    got = asyncio.run(answers(RayExecutor(actors=1), fn, range(4)))
    assert got[::2] == [0, 2]
    assert [type(error) for error in got[1::2]] == [Refused] * 2
    assert [error.status for error in got[1::2]] == [401, 403]
    [note] = got[1].__notes__
    assert note.startswith("in Ray actor in process ")
    assert "in refuse_odd\n    raise Refused(" in note


@pytest.mark.parametrize("is_async", [False, True])
def test_the_items_of_a_chunk_run_at_once_up_to_the_limit(is_async: bool) -> None:
    running: list[int] = []
    most: list[int] = []

    def enter(_: object) -> int:
        import time

        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return max(most)

    async def enter_later(_: object) -> int:
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0.01)
        running.pop()
        return max(most)

    fn: Any = enter_later if is_async else enter
    executor = RayExecutor(actors=1, per_actor_concurrency=8)
    assert max(asyncio.run(answers(executor, fn, range(40)))) == 8


def test_a_job_that_cancels_itself_fails_alone() -> None:
    async def give_up(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number

    got = asyncio.run(answers(RayExecutor(actors=1), give_up, range(3)))
    assert got[::2] == [0, 2]
    assert type(got[1]).__name__ == "JobCancelled"


def die_once(marker: str, number: int) -> int:
    if number == 13:
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("chunk", [1, 10])
def test_an_actor_killed_in_the_middle_loses_nothing(tmp_path: Path, chunk: int) -> None:
    fn = functools.partial(die_once, str(tmp_path / "died"))
    got = asyncio.run(answers(RayExecutor(actors=2, chunk=chunk), fn, range(60)))
    assert got == list(range(60))
    assert (tmp_path / "died").exists()


def test_an_item_that_kills_every_actor_is_named_and_the_others_succeed() -> None:
    executor = RayExecutor(actors=2, chunk=10)
    got = asyncio.run(answers(executor, killed_by_13, range(30)))
    lost = got.pop(13)
    assert isinstance(lost, WorkerLost)
    assert "while it ran killed_by_13 on 13" in str(lost)
    assert "pid: " in str(lost)
    assert "lost 4 times" in lost.__notes__[0]
    assert got == [n for n in range(30) if n != 13]


def test_an_actor_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        executor = RayExecutor(actors=1)
        task = asyncio.create_task(executor.run(stay, [str(tmp_path)]))
        [pid] = await until(lambda: seen(tmp_path))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerLost, match=str(pid)):
            await task
        assert await executor.run(double, [2]) == [(True, 4)]
        await executor.aclose()

    asyncio.run(main())


def test_cancelling_cancels_an_async_job_and_keeps_its_actor(tmp_path: Path) -> None:
    async def main() -> None:
        executor = RayExecutor(actors=1)
        dispatch: Dispatcher[Any, Any] = Dispatcher(executor, stay_later)
        task = asyncio.create_task(dispatch(str(tmp_path)))
        [pid] = await until(lambda: seen(tmp_path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await dispatch.aclose()
        assert (tmp_path / "cancelled").exists()
        assert await executor.run(here, [str(tmp_path)]) == [(True, pid)]
        await executor.aclose()

    asyncio.run(main())


def test_cancelling_kills_a_synchronous_job_with_its_actor(tmp_path: Path) -> None:
    async def main() -> None:
        executor = RayExecutor(actors=1)
        task = asyncio.create_task(executor.run(stay, [str(tmp_path)]))
        [pid] = await until(lambda: seen(tmp_path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: is_dead(pid))
        assert await executor.run(double, [2]) == [(True, 4)]
        await executor.aclose()

    asyncio.run(main())


class Odd(BaseException):
    """As the panics of Rust code are."""


def raise_odd(number: int) -> int:
    if number == 1:
        raise Odd("panic")
    if number == 2:
        raise KeyboardInterrupt
    if number == 3:
        sys.exit(7)
    return number


async def raise_odd_later(number: int) -> int:
    return raise_odd(number)


@pytest.mark.parametrize("fn", [raise_odd, raise_odd_later])
def test_whatever_one_item_raises_the_others_succeed(fn: Any) -> None:
    async def main() -> None:
        executor = RayExecutor(actors=1)
        first, odd, interrupt, last = await executor.run(fn, [0, 1, 2, 4])
        assert (first, last) == ((True, 0), (True, 4))
        assert isinstance(odd[1], Odd)
        assert "in raise_odd" in odd[1].__notes__[0]
        assert isinstance(interrupt[1], KeyboardInterrupt)
        with pytest.raises(WorkerLost):
            await executor.run(fn, [3])
        assert await executor.run(fn, [5]) == [(True, 5)]
        await executor.aclose()

    asyncio.run(main())


def test_an_executor_serves_one_loop_after_the_other(tmp_path: Path) -> None:
    executor = RayExecutor(actors=1)
    use = functools.partial(amap, here, [str(tmp_path)] * 3, executor=executor)
    assert len({*asyncio.run(use()), *asyncio_run(use()), *asyncio.run(use())}) == 1
    asyncio.run(executor.aclose())


def test_a_run_whose_executor_is_closed_ends(tmp_path: Path) -> None:
    async def main() -> None:
        executor = RayExecutor(actors=1, chunk=2)
        run = asyncio.create_task(
            amap(stay, [str(tmp_path)] * 8, executor=executor, errors="return")
        )
        [pid] = await until(lambda: seen(tmp_path))
        await executor.aclose()
        assert all(isinstance(one.error, ExecutorClosed) for one in await run)
        assert len(seen(tmp_path)) == 1
        await until(lambda: is_dead(pid))

    asyncio.run(main())
    assert ray.is_initialized()


def test_what_cannot_travel_fails_by_itself() -> None:
    def give(number: int) -> Any:
        import threading

        return threading.Lock() if number == 1 else number

    got = asyncio.run(answers(RayExecutor(actors=1), give, range(3)))
    assert got[::2] == [0, 2]
    assert isinstance(got[1], TypeError)
    assert "Return plain data" in str(got[1])


def test_closing_ends_the_actors_and_leaves_the_users_ray_alone(tmp_path: Path) -> None:
    @ray.remote
    class Users:
        def ping(self) -> str:
            return "alive"

    users: Any = Users
    theirs = users.remote()
    executor = RayExecutor()
    assert executor.slots == 2  # the cluster's CPUs
    for pid in asyncio.run(answers(executor, here, [str(tmp_path)] * 10)):
        until_now(functools.partial(is_dead, pid))
    assert ray.is_initialized()
    assert ray.get(theirs.ping.remote()) == "alive"
    ray.kill(theirs)


def test_it_can_be_named_as_an_executor_and_refuses_what_makes_no_sense() -> None:
    executor = RayExecutor(actors=1)
    assert executor_of(executor, double_later) is executor
    wrong: tuple[dict[str, Any], ...] = (
        {"actors": 0},
        {"chunk": 0},
        {"per_actor_concurrency": 0},
    )
    for options in wrong:
        with pytest.raises(UsageError):
            RayExecutor(**options)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'anabranch\[ray\]'"):
        RayExecutor()


OWN = """
import asyncio, os, threading
import ray
from anabranch.jobs.executors.ray import RayExecutor

class Mine(Exception):
    def __init__(self, *, code):
        super().__init__("mine")
        self.code = code

async def work(number):
    raise Mine(code=number)

async def use(executor):
    [(ok, error)] = await executor.run(work, [7])
    assert type(error) is Mine and error.code == 7, error
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ

def assert_ended():
    assert not ray.is_initialized()
    assert not [t for t in threading.enumerate() if t.name.startswith("anabranch")]
"""

ONE = """
async def main():
    executor = RayExecutor(actors=1)
    await use(executor)
    await executor.aclose()
    assert_ended()
"""

SHARED = """
async def main():
    first, second, third = (RayExecutor(actors=1) for _ in range(3))
    await asyncio.gather(use(first), use(second))
    await first.aclose()
    assert ray.is_initialized()
    await use(second)
    closing = asyncio.create_task(second.aclose())
    await asyncio.sleep(0)  # it is the last, and shuts Ray down
    await use(third)  # which waits for that and starts another
    await closing
    await third.aclose()
    assert_ended()
"""

THEIRS = """
async def main():
    executor = RayExecutor(actors=1)
    await use(executor)
    ray.shutdown()  # though it is not theirs
    await use(executor)
    await executor.aclose()
    assert_ended()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for _ in range(2):  # what the executor had of the first one is gone in the second
        ray.shutdown()
        ray.init(num_cpus=1, include_dashboard=False, logging_level="error")
        assert await executor.run(abs, [-1]) == [(True, 1)]
    await executor.aclose()
    assert ray.is_initialized()
"""


@pytest.mark.parametrize(
    "main",
    [
        pytest.param(ONE, id="by one"),
        pytest.param(SHARED, id="by those who share it"),
        pytest.param(THEIRS, id="by somebody else"),
    ],
)
def test_a_ray_of_its_own_is_started_quietly_and_shut_down(
    tmp_path: Path, main: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(OWN + main + "\nasyncio.run(main())\n")
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        env=env,
        timeout=90,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
