"""Whole runs on executors: the same order, errors, retries, journal and progress."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch import jobs
from anabranch.errors import WorkerLost
from anabranch.jobs import Executor, Retry, amap
from anabranch.jobs.executors import ProcessExecutor, RayExecutor
from anabranch.observe import Observer


def square(item: int) -> int:
    return item * item


async def square_later(item: int) -> int:
    await asyncio.sleep(0.001)
    return item * item


def die_once(work: tuple[str, int]) -> int:
    """Kills its process at item 7, unless that has happened before."""
    mark, item = work
    if item == 7 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die(item: int) -> int:
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def logged(work: tuple[str, int]) -> int:
    """Leaves a line for each time that it runs."""
    log, item = work
    with Path(log).open("a") as file:
        file.write(f"{item}\n")
    time.sleep(0.002)
    return item


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False
        )
        yield
        ray.shutdown()


@pytest.fixture(params=["process", "ray"])
def executor(request: pytest.FixtureRequest) -> Callable[[], Executor]:
    if request.param == "process":
        return lambda: ProcessExecutor(2)
    request.getfixturevalue("cluster")
    return lambda: RayExecutor(actors=2, chunk=20)


def run(make: Callable[[], Executor], fn: Any, items: Any, **options: Any) -> Any:
    async def main() -> Any:
        executor = make()
        try:
            return await amap(fn, items, executor=executor, **options)
        finally:
            await executor.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize("fn", [square, square_later])
def test_results_come_in_the_order_of_the_items(
    executor: Callable[[], Executor], fn: Any
) -> None:
    squares = [i * i for i in range(300)]
    assert run(executor, fn, iter(range(300)), concurrency=60) == squares


def test_a_dead_worker_is_reported_with_its_item_and_the_others_go_on(
    executor: Callable[[], Executor],
) -> None:
    outcomes = run(executor, die, range(20), concurrency=10, errors="return")
    assert [o.value for o in outcomes if o.ok] == [i for i in range(20) if i != 7]
    (lost,) = [o for o in outcomes if not o.ok]
    assert lost.item == 7
    assert isinstance(lost.error, WorkerLost)


def test_what_a_dead_worker_had_is_tried_again_where_asked(
    executor: Callable[[], Executor], tmp_path: Path
) -> None:
    class Retries(Observer):
        seen: list[object] = []  # noqa: RUF012  # one run a test

        def retried(self, label: object, *rest: object) -> None:
            self.seen.append(label)

    work = [(str(tmp_path / "mark"), i) for i in range(20)]
    fast = Retry(3, wait=lambda state: 0.0)
    assert run(executor, die_once, work, retry=fast, observer=Retries()) == [*range(20)]


def test_a_time_limit_ends_a_job_for_good(executor: Callable[[], Executor]) -> None:
    began = time.monotonic()
    outcomes = run(
        executor, nap, [0.0, 60.0, 0.0], timeout=3, errors="return", concurrency=2
    )
    assert [o.value for o in outcomes] == [0, None, 0]
    assert isinstance(outcomes[1].error, TimeoutError)
    assert time.monotonic() - began < 40


def test_a_run_is_resumed_from_its_journal(
    executor: Callable[[], Executor], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    for count in (30, 50):
        work = [(str(log), i) for i in range(count)]
        found = run(executor, logged, work, journal=tmp_path / "j", concurrency=40)
        assert found == [*range(count)]
    assert sorted(map(int, log.read_text().split())) == [*range(50)]


PROGRAM = textwrap.dedent(
    """
    import sys
    from anabranch import jobs
    from anabranch.jobs.executors import ProcessExecutor, RayExecutor
    from tests.jobs.executors.test_runs import logged

    log, journal, kind = sys.argv[1:]
    executor = ProcessExecutor(2) if kind == "process" else RayExecutor(actors=2, chunk=5)
    work = [(log, i) for i in range(400)]
    print("started", flush=True)
    found = jobs.map(logged, work, journal=journal, executor=executor, concurrency=20)
    assert found == list(range(400))
    print("complete", flush=True)
    """
)


@pytest.mark.parametrize(
    "kind", ["process", pytest.param("ray", marks=pytest.mark.exhaustive)]
)
def test_a_driver_that_is_killed_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "log"), str(tmp_path / "j")]
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(Path.cwd()),
    }
    log = tmp_path / "log"
    kills = 0
    for _ in range(4):
        before = log.read_text().count("\n") if log.exists() else 0
        with subprocess.Popen(
            [*arguments, kind], stdout=subprocess.PIPE, text=True, env=environment
        ) as driver:
            while driver.poll() is None:
                time.sleep(0.01)  # real time: of a real process
                now = log.read_text().count("\n") if log.exists() else 0
                if now - before > 60:
                    driver.kill()
                    kills += 1
                    break
    last = subprocess.run(
        [*arguments, kind], capture_output=True, text=True, env=environment, check=True
    )
    assert "complete" in last.stdout
    assert kills >= 2
    ran = [int(line) for line in log.read_text().split() if line]
    assert set(ran) == set(range(400))
    assert len(ran) - 400 <= kills * 40, "only what was in flight"


def test_waiting_for_a_free_worker_uses_up_no_time_limit() -> None:
    napping = run(lambda: ProcessExecutor(1), nap, [0.6] * 4, timeout=2, errors="return")
    assert all(outcome.ok for outcome in napping)
    assert len(jobs.map(nap, [0.4] * 40, executor="thread", timeout=2)) == 40


def test_threads_keep_order_and_context_too() -> None:
    assert jobs.map(square, range(50), executor="thread") == [i * i for i in range(50)]
