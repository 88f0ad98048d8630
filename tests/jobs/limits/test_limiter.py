"""One rate limit for many calls, loops and threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from anabranch import jobs
from anabranch.errors import UsageError
from anabranch.jobs import Limiter, RateLimit, amap
from anabranch.testing import run_virtual


async def waits(limiter: Limiter, costs: list[float]) -> list[float]:
    """How long each of several requests made at once has waited."""
    return await asyncio.gather(*(limiter.acquire(cost) for cost in costs))


def test_who_comes_first_goes_first_even_if_a_later_one_is_smaller() -> None:
    limiter = Limiter(RateLimit(tokens=10, per=10))
    assert run_virtual(waits(limiter, [10, 8, 1])) == pytest.approx([0, 8, 9])


def test_a_request_larger_than_the_allowance_is_let_through() -> None:
    limiter = Limiter(RateLimit(tokens=10, per=10))
    assert run_virtual(waits(limiter, [25, 1])) == pytest.approx([0, 16])


def test_calls_that_share_a_limiter_share_the_rate() -> None:
    async def main() -> float:
        limiter = Limiter(RateLimit(requests=2, per=1))
        loop = asyncio.get_running_loop()

        async def job(item: int) -> int:
            return item

        await asyncio.gather(*(amap(job, range(5), rate=limiter) for _ in range(4)))
        return loop.time()

    assert run_virtual(main()) == pytest.approx(9)


def test_one_who_is_cancelled_gives_way_to_the_next() -> None:
    async def main() -> tuple[float, float]:
        limiter = Limiter(RateLimit(requests=1, per=10))
        await limiter.acquire()
        head = asyncio.create_task(limiter.acquire())
        middle = asyncio.create_task(limiter.acquire())
        last = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(1)
        head.cancel()
        middle.cancel()
        return await last, asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx((10, 10))


def test_an_admission_that_is_cancelled_in_the_same_turn_is_not_used_up() -> None:
    async def main() -> float:
        limiter = Limiter(RateLimit(requests=1, per=10))
        await limiter.acquire()
        loop = asyncio.get_running_loop()
        head = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        loop.call_later(10, head.cancel)
        await asyncio.wait([head])
        assert head.cancelled()
        return await limiter.acquire()

    assert run_virtual(main()) == 0


def test_tokens_used_are_read_from_results_and_corrected() -> None:
    async def timed(used: int) -> float:
        async def ask(prompt: int) -> dict[str, dict[str, int]]:
            return {"usage": {"total_tokens": used}}

        await amap(ask, range(3), concurrency=1, cost=10, rate=RateLimit(tokens=10, per=10))
        return asyncio.get_running_loop().time()

    assert run_virtual(timed(used=10)) == pytest.approx(20)
    assert run_virtual(timed(used=1)) == pytest.approx(2)
    assert run_virtual(timed(used=20)) == pytest.approx(40)


def test_an_admission_takes_one_timer_and_one_wake_up() -> None:
    rung = 0

    class Counting(Limiter):
        def _admit(self, loop: asyncio.AbstractEventLoop) -> None:
            nonlocal rung
            rung += 1
            super()._admit(loop)

    async def main() -> None:
        limiter = Counting(RateLimit(requests=1, per=1))
        await asyncio.gather(*(limiter.acquire() for _ in range(400)))

    run_virtual(main())
    assert rung <= 400


def test_loops_in_several_threads_share_one_rate() -> None:
    limiter = Limiter(RateLimit(requests=20, per=0.2))
    admitted: list[float] = []

    async def work() -> None:
        for _ in range(20):
            await limiter.acquire()
            admitted.append(time.monotonic())

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(admitted) == 60
    assert max(admitted) - began >= 0.39


@pytest.mark.parametrize("tokens", [-1, float("nan"), float("inf")])
def test_a_cost_that_cannot_be_meant_is_refused(tokens: float) -> None:
    with pytest.raises(UsageError):
        run_virtual(waits(Limiter(RateLimit(tokens=1)), [tokens]))


def test_a_cost_without_a_rate_is_refused() -> None:
    async def job(item: int) -> int:
        return item

    with pytest.raises(UsageError, match="rate=, which is missing"):
        run_virtual(amap(job, [1], cost=3))


@pytest.mark.parametrize("used", [float("nan"), float("inf"), -5, True, "many"])
def test_a_use_that_cannot_be_meant_corrects_nothing(used: object) -> None:
    async def ask(item: int) -> dict[str, object]:
        return {"usage": {"total_tokens": used}}

    async def main() -> float:
        await amap(ask, range(6), rate=RateLimit(tokens=10, per=10), cost=5)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 20


def test_a_result_that_does_not_bear_to_be_asked_is_a_good_result() -> None:
    class Shy:
        @property
        def usage(self) -> object:
            raise RuntimeError("no")

    async def ask(item: int) -> Shy:
        return Shy()

    assert len(run_virtual(amap(ask, range(3), rate=RateLimit(tokens=10)))) == 3


def test_one_who_waits_on_a_loop_that_stands_still_holds_up_nobody_else() -> None:
    limiter = Limiter(RateLimit(requests=1, per=0.1))
    stopped = asyncio.new_event_loop()

    async def leave_one_waiting() -> asyncio.Task[float]:
        await limiter.acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        return waiting

    waiting = stopped.run_until_complete(leave_one_waiting())
    asyncio.run(asyncio.wait_for(limiter.acquire(), 10))
    assert not waiting.done()
    stopped.run_until_complete(asyncio.wait_for(waiting, 10))
    stopped.close()


def test_one_who_waits_on_a_loop_that_a_synchronous_call_blocks_holds_up_nobody() -> None:
    async def same(item: int) -> int:
        return item

    async def main() -> tuple[list[int], list[int]]:
        limiter = Limiter(RateLimit(requests=50, per=1))
        behind = asyncio.create_task(amap(same, range(4), rate=limiter))
        await asyncio.sleep(0.01)
        blocking = jobs.map(same, range(3), rate=limiter)
        return blocking, await behind

    assert asyncio.run(asyncio.wait_for(main(), 20)) == ([0, 1, 2], [0, 1, 2, 3])
