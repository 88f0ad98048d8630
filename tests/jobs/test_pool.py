"""One limit for everything that goes through it."""

from __future__ import annotations

import asyncio
import contextvars
from pathlib import Path
from typing import Any

import pytest

from anabranch.errors import LoopError, UsageError
from anabranch.jobs import Adaptive, Pool, RateLimit, Retry, Stats
from anabranch.observe import Observer
from anabranch.testing import run_virtual


class Load:
    """A job that counts how many of it run at once."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def __call__(self, seconds: float = 1) -> float:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1
        return seconds


def clock() -> float:
    return asyncio.get_running_loop().time()


def test_maps_streams_and_submitted_jobs_share_one_limit() -> None:
    load = Load()

    async def main() -> None:
        async with Pool(concurrency=3) as pool:
            submitted = [pool.submit(load, 2) for _ in range(5)]
            mapped, streamed = await asyncio.gather(
                pool.map(load, [1, 2, 3, 4]),
                collect(pool.stream(load, [5, 6], ordered=True)),
            )
            assert mapped == [1, 2, 3, 4]
            assert streamed == [5, 6]
            assert await asyncio.gather(*submitted) == [2] * 5

    async def collect(stream: Any) -> list[float]:
        return [value async for value in stream]

    run_virtual(main())
    assert load.most == 3
    assert load.running == 0


def test_leaving_waits_for_what_was_submitted() -> None:
    load = Load()

    async def main() -> list[bool]:
        async with Pool(concurrency=1) as pool:
            tasks = [pool.submit(load, 1) for _ in range(4)]
        return [task.done() for task in tasks]

    assert run_virtual(main()) == [True] * 4


def test_leaving_by_an_exception_cancels_what_was_submitted() -> None:
    load = Load()

    async def main() -> None:
        with pytest.raises(ValueError, match="enough"):
            async with Pool(concurrency=2) as pool:
                tasks = [pool.submit(load, 100) for _ in range(4)]
                await asyncio.sleep(1)
                raise ValueError("enough")
        assert all(task.cancelled() for task in tasks)
        assert load.running == 0
        assert clock() == 1

    run_virtual(main())


def test_a_submitted_job_fails_alone_and_sees_its_callers_context() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    async def greet(greeting: str, *, mark: str) -> str:
        if mark == "?":
            raise ValueError("unsure")
        return greeting + name.get() + mark

    async def main() -> None:
        async with Pool(concurrency=2) as pool:
            name.set("Ada")
            good = pool.submit(greet, "hello ", mark="!")
            bad = pool.submit(greet, "hello ", mark="?")
            assert await good == "hello Ada!"
            with pytest.raises(ValueError, match="unsure"):
                await bad

    run_virtual(main())


def test_the_limit_can_be_changed_while_jobs_run() -> None:
    load = Load()

    async def main() -> None:
        async with Pool(concurrency=1) as pool:
            run = asyncio.create_task(pool.map(load, [1.0] * 20))
            await asyncio.sleep(1.5)
            assert load.running == 1
            pool.limit = 5
            await asyncio.sleep(1)
            assert load.running == 5
            pool.limit = 2
            await asyncio.sleep(2)
            assert load.running == 2
            await run

    run_virtual(main())


def test_a_stream_ends_though_the_limit_was_raised_above_what_may_wait() -> None:
    async def main() -> None:
        async with Pool(concurrency=2) as pool:
            results: list[float] = []
            async for result in pool.stream(Load(), [1.0] * 60, buffer=0):
                results.append(result)
                pool.limit = 20
            assert len(results) == 60

    run_virtual(main())


@pytest.mark.parametrize("isolation", ["context", "task"])
def test_a_job_that_closes_its_own_pool_is_told_so(isolation: Any) -> None:
    async def main() -> None:
        pool = Pool(concurrency=2, isolation=isolation)

        async def job(x: int) -> None:
            await pool.aclose()

        with pytest.raises(LoopError, match="by one of its own jobs"):
            await pool.submit(job, 1)
        with pytest.raises(LoopError, match="by one of its own jobs"):
            await pool.map(job, [1])
        await pool.aclose()

    run_virtual(main())


@pytest.mark.parametrize("isolation", ["context", "task"])
def test_a_submitted_job_that_is_cancelled_is_so_and_one_that_times_out_is_retried(
    isolation: Any,
) -> None:
    tries = 0

    async def stay() -> None:
        nonlocal tries
        tries += 1
        await asyncio.sleep(60)

    async def main() -> None:
        async with Pool(timeout=5, retry=3, isolation=isolation) as pool:
            job = pool.submit(stay)
            await asyncio.sleep(1)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            assert tries == 1
            with pytest.raises(TimeoutError):
                await pool.submit(stay)
            assert tries == 4

    run_virtual(main())


def test_another_thread_is_told_how_to_hand_a_job_over() -> None:
    with pytest.raises(LoopError, match="run_coroutine_threadsafe"):
        Pool().submit(Load())


def test_what_a_pool_is_doing_can_be_seen() -> None:
    async def sometimes(item: int) -> int:
        await asyncio.sleep(1)
        if item == 3:
            raise ValueError(item)
        return item

    async def main() -> Stats:
        async with Pool(concurrency=2, retry=Retry(2, on=ValueError)) as pool:
            run = asyncio.create_task(pool.map(sometimes, range(6), errors="skip"))
            await asyncio.sleep(0.5)
            early = pool.stats()
            assert (early.in_flight, early.limit, early.done) == (2, 2, 0)
            assert early.p50_s is None
            await run
            return pool.stats()

    stats = run_virtual(main())
    assert (stats.in_flight, stats.queued, stats.done, stats.failed) == (0, 0, 5, 1)
    assert stats.retried == 1
    assert stats.p50_s == pytest.approx(1, rel=0.1)


def test_rate_and_adaptive_limits_hold_for_the_pool_as_a_whole() -> None:
    load = Load()

    async def main() -> None:
        async with Pool(rate=RateLimit(requests=2, per=1)) as pool:
            await asyncio.gather(*(pool.map(load, [0.0] * 5) for _ in range(2)))
            assert clock() == pytest.approx(4)
        async with Pool(adaptive=Adaptive(1, 2, 4)) as pool:
            await asyncio.gather(*(pool.map(load, [1.0] * 20) for _ in range(3)))
            with pytest.raises(UsageError, match="finds its limit itself"):
                pool.limit = 3

    run_virtual(main())
    assert load.most == 4


def test_equal_keys_are_run_once_across_the_calls_of_a_pool() -> None:
    calls: list[str] = []

    async def fetch(url: str) -> str:
        calls.append(url)
        await asyncio.sleep(1)
        return url

    async def main() -> None:
        async with Pool(concurrency=9, key=str) as pool:
            await asyncio.gather(*(pool.map(fetch, ["a", "b"]) for _ in range(3)))

    run_virtual(main())
    assert sorted(calls) == ["a", "b"]


def test_a_cancelled_run_hands_its_shared_work_to_the_next() -> None:
    calls: list[str] = []

    async def fetch(url: str) -> str:
        calls.append(url)
        await asyncio.sleep(5)
        return url

    async def main() -> None:
        async with Pool(concurrency=9, key=str) as pool:
            first = asyncio.create_task(pool.map(fetch, ["a"]))
            second = asyncio.create_task(pool.map(fetch, ["a"]))
            await asyncio.sleep(1)
            first.cancel()
            assert await second == ["a"]
            assert clock() == 6

    run_virtual(main())
    assert calls == ["a", "a"]


def test_a_synchronous_function_can_be_submitted_to_threads() -> None:
    async def main() -> None:
        async with Pool(concurrency=2, executor="thread") as pool:
            assert await pool.submit(pow, 2, 5) == 32
            assert await pool.map(abs, [-1, 2]) == [1, 2]
            with pytest.raises(UsageError, match="async def"):
                pool.submit(Load())

    asyncio.run(main())


def test_what_belongs_elsewhere_is_refused_with_the_place() -> None:
    with pytest.raises(UsageError, match="journal= belongs to one call"):
        Pool(journal="x")

    async def main() -> None:
        pool = Pool()
        with pytest.raises(UsageError, match="rate= belongs to the pool"):
            await pool.map(Load(), [1.0], rate=RateLimit(requests=1))
        await pool.aclose()
        await pool.aclose()
        with pytest.raises(UsageError, match="closed"):
            await pool.map(Load(), [1.0])

    run_virtual(main())


def test_a_pool_belongs_to_one_loop() -> None:
    pool = Pool()

    async def use() -> list[float]:
        return await pool.map(Load(), [0.0])

    asyncio.run(use())
    with pytest.raises(LoopError, match="another event loop"):
        asyncio.run(use())


def test_a_place_given_to_one_who_is_cancelled_in_the_same_turn_is_not_lost() -> None:
    load = Load()
    waiting: list[asyncio.Task[float]] = []

    class Cancels(Observer):
        def finished(self, label: object, error: BaseException | None) -> None:
            if waiting:  # the place of the one that finished has just been given to it
                waiting.pop().cancel()

    async def main() -> None:
        async with Pool(concurrency=1, observer=Cancels()) as pool:
            pool.submit(load, 5)
            unlucky = pool.submit(load, 5)
            waiting.append(unlucky)
            await asyncio.sleep(6)
            assert unlucky.cancelled()
            assert await pool.submit(load, 1) == 1

    run_virtual(main())


def test_a_submitted_synchronous_function_is_a_mistake_and_no_cancellation() -> None:
    async def main() -> None:
        async with Pool() as pool:
            with pytest.raises(TypeError) as caught:
                await pool.submit(len, "abc")
            assert "executor='thread'" in "".join(caught.value.__notes__)

    run_virtual(main())


def test_leaving_waits_for_maps_in_other_tasks_even_while_the_service_throttles() -> None:
    class Throttled(Exception):
        status_code = 429
        retry_after = 5.0

    throttles = [Throttled()]

    async def job(item: int) -> int:
        if throttles:
            raise throttles.pop()
        return item

    async def main() -> list[int]:
        async with Pool(adaptive=True) as pool:
            under_way = asyncio.create_task(pool.map(job, range(3), retry=5, concurrency=1))
            await asyncio.sleep(0.1)
        assert under_way.done()
        return await under_way

    assert run_virtual(main()) == [0, 1, 2]


async def sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def test_closing_ends_maps_and_streams_that_are_under_way() -> None:
    async def main() -> None:
        pool = Pool(concurrency=2)
        under_way = asyncio.create_task(pool.map(sleep, [100] * 9))
        results = pool.stream(sleep, [1] * 9)
        await anext(results)
        await pool.aclose()
        with pytest.raises(UsageError, match="the pool was closed"):
            await under_way
        with pytest.raises(UsageError, match="the pool was closed"):
            await anext(results)
        await results.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_who_waits_and_is_cancelled_is_not_queued_any_more() -> None:
    async def main() -> int:
        async with Pool(concurrency=1) as pool:
            holder = pool.submit(sleep, 5)
            waiting = [pool.submit(sleep, 1) for _ in range(10)]
            await asyncio.sleep(1)
            assert pool.stats().queued == 10
            for task in waiting:
                task.cancel()
            await asyncio.sleep(1)
            queued = pool.stats().queued
            await holder
            return queued

    assert run_virtual(main()) == 0


def test_calls_share_results_under_way_but_neither_failures_nor_journals(
    tmp_path: Path,
) -> None:
    calls: list[int] = []

    async def job(item: int) -> int:
        calls.append(item)
        await asyncio.sleep(0.04)
        if len(calls) == 1:
            raise ConnectionError
        return item

    def key(item: int) -> int:
        return item

    async def main() -> None:
        async with Pool(key=key) as pool:
            leader = asyncio.create_task(pool.map(job, [1]))
            await asyncio.sleep(0.02)
            assert await pool.map(job, [1], retry=3) == [1]
            with pytest.raises(ConnectionError):
                await leader
            plain = asyncio.create_task(pool.map(job, [2]))
            await asyncio.sleep(0.02)
            assert await pool.map(job, [2], journal=tmp_path / "j") == [2]
            assert await plain == [2]
        calls.clear()
        async with Pool(key=key) as pool:
            assert await pool.map(job, [2], journal=tmp_path / "j") == [2]

    asyncio.run(asyncio.wait_for(main(), 30))
    assert calls == []
