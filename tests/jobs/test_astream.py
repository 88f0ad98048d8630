"""Results as they come, with a consumer that may be slow or leave."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import LoopError
from anabranch.jobs import Adaptive, astream
from anabranch.testing import run_virtual


async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def alive() -> int:
    return len(asyncio.all_tasks()) - 1


def test_results_come_as_they_finish() -> None:
    async def main() -> list[float]:
        return [x async for x in astream(wait, [3, 1, 2])]

    assert run_virtual(main()) == [1, 2, 3]


@given(
    delays=st.lists(st.integers(0, 9), max_size=50),
    concurrency=st.integers(1, 6),
    buffer=st.integers(0, 6),
    pause=st.integers(0, 3),
    ordered=st.booleans(),
)
def test_nothing_is_lost_and_no_more_is_in_hand_than_was_asked_for(
    delays: list[int], concurrency: int, buffer: int, pause: int, *, ordered: bool
) -> None:
    taken = pulled = 0

    def items() -> Iterator[tuple[int, int]]:
        nonlocal pulled
        for item in enumerate(delays):
            pulled += 1
            assert pulled - taken <= concurrency + buffer
            yield item

    async def job(item: tuple[int, int]) -> int:
        await asyncio.sleep(item[1])
        return item[0]

    async def main() -> list[int]:
        nonlocal taken
        results: list[int] = []
        async with astream(
            job, items(), concurrency=concurrency, buffer=buffer, ordered=ordered
        ) as stream:
            async for result in stream:
                taken += 1
                results.append(result)
                await asyncio.sleep(pause)
        assert alive() == 0
        return results

    results = run_virtual(main())
    assert sorted(results) == list(range(len(delays)))
    if ordered:
        assert results == sorted(results)


def test_an_ordered_stream_does_not_stall_behind_one_slow_item() -> None:
    delays = [100.0] + [1.0] * 300

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async for _ in astream(wait, delays, concurrency=4, ordered=True):
            pass
        return loop.time()

    # The other three workers do the 300 s of work while the first waits.
    assert run_virtual(main()) == 100


def test_skipped_items_do_not_hold_up_an_ordered_stream() -> None:
    async def odd(x: int) -> int:
        await asyncio.sleep(5 - x)
        if x % 2 == 0:
            raise ValueError
        return x

    async def main() -> list[int]:
        stream = astream(odd, range(5), ordered=True, errors="skip", buffer=0)
        return [x async for x in stream]

    assert run_virtual(main()) == [1, 3]


def test_a_failure_is_raised_once_and_ends_the_stream() -> None:
    boom = ValueError("boom")

    async def job(x: int) -> int:
        await asyncio.sleep(x)
        if x == 2:
            raise boom
        return x

    async def main() -> None:
        got: list[int] = []
        stream = astream(job, range(100), concurrency=10)
        with pytest.raises(ValueError, match="boom") as caught:
            async for x in stream:
                got.append(x)  # noqa: PERF401  # it must keep what came before the failure
        assert caught.value is boom
        assert got == [0, 1]
        assert alive() == 0
        assert [x async for x in stream] == []

    run_virtual(main())


def test_leaving_the_context_cancels_what_is_in_flight_and_awaits_it() -> None:
    cleaned: list[int] = []

    async def job(x: int) -> int:
        try:
            await asyncio.sleep(x)
        finally:
            if x:
                await asyncio.sleep(0.5)
                cleaned.append(x)
        return x

    async def main() -> None:
        async with astream(job, range(0, 1000, 10), concurrency=3) as stream:
            async for _ in stream:
                break
        assert alive() == 0

    run_virtual(main())
    assert sorted(cleaned) == [10, 20, 30]


def test_a_stream_that_nobody_holds_any_more_stops() -> None:
    async def main() -> None:
        async for _ in astream(wait, range(1000), concurrency=3):
            break
        gc.collect()
        await asyncio.sleep(0.5)
        assert alive() == 0

    run_virtual(main())


def test_a_consumer_that_is_cancelled_can_go_on() -> None:
    async def main() -> list[float]:
        stream = astream(wait, [5, 6])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(stream)
        return [x async for x in stream]

    assert run_virtual(main()) == [5, 6]


def test_two_consumers_share_a_stream() -> None:
    async def main() -> list[float]:
        stream = astream(wait, [1, 2, 3, 4, 5], concurrency=2)

        async def consume() -> list[float]:
            return [x async for x in stream]

        first, second = await asyncio.gather(consume(), consume())
        return sorted(first + second)

    assert run_virtual(main()) == [1, 2, 3, 4, 5]


def test_bad_arguments_are_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="buffer must be an integer of at least 0"):
        astream(wait, [1], buffer=-1)
    with pytest.raises(ValueError, match="concurrency"):
        astream(wait, [1], concurrency=0)
    with pytest.raises(TypeError, match="items must be"):
        astream(wait, None)  # type: ignore[call-overload]


def test_several_results_can_be_taken_at_a_time() -> None:
    async def main() -> list[list[float]]:
        stream = astream(wait, [1, 1, 1, 5, 6], concurrency=5)
        groups: list[list[float]] = []
        while some := await stream.some(2):
            groups.append(some)
        assert await stream.some(2) == []
        return groups

    groups = run_virtual(main())
    assert sorted(x for group in groups for x in group) == [1, 1, 1, 5, 6]
    assert max(map(len, groups)) == 2


def test_a_job_that_raises_stop_async_iteration_does_not_end_the_stream_unseen() -> None:
    async def job(x: int) -> int:
        if x == 5:
            raise StopAsyncIteration
        return x

    async def main() -> None:
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration") as caught:
            async for _ in astream(job, range(100), concurrency=2, ordered=True):
                pass
        assert caught.value.__notes__ == ["in job 5, given 5"]

    run_virtual(main())


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("adaptive", [False, Adaptive(start=40, max=40)])
def test_a_stream_ends_however_few_results_may_wait(
    ordered: bool, adaptive: Adaptive | bool
) -> None:
    async def main() -> None:
        stream = astream(
            wait, range(100), concurrency=3, adaptive=adaptive, ordered=ordered, buffer=0
        )
        results = [result async for result in stream]
        assert sorted(results) == [*range(100)]
        assert alive() == 0

    run_virtual(main())


@pytest.mark.parametrize("isolation", ["context", "task"])
def test_a_job_that_closes_its_own_stream_is_told_so(isolation: Any) -> None:
    async def main() -> None:
        async def job(x: int) -> None:
            await stream.aclose()

        stream = astream(job, range(5), isolation=isolation)
        with pytest.raises(LoopError, match="by one of its own jobs"):
            async for _ in stream:
                pass
        assert alive() == 0

    run_virtual(main())


def fails_on_one_and_two_cleans_up(cleaned: list[int]) -> Callable[[int], Awaitable[int]]:
    async def job(item: int) -> int:
        if item == 1:
            await asyncio.sleep(1)
            raise ValueError("one")
        if item == 2:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(10)
                cleaned.append(item)
        return item

    return job


def test_a_failure_whose_raising_was_interrupted_is_raised_by_the_next_call() -> None:
    async def main() -> list[int]:
        got: list[int] = []
        job = fails_on_one_and_two_cleans_up([])
        async with astream(job, range(9), concurrency=3, ordered=True) as results:
            got.append(await anext(results))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(results), 5)
            with pytest.raises(ValueError, match="one"):
                await anext(results)
            with pytest.raises(StopAsyncIteration):
                await anext(results)
        return got

    assert run_virtual(main()) == [0]


def test_a_consumer_that_is_busy_while_a_job_fails_cuts_no_clean_up_off() -> None:
    cleaned: list[int] = []

    async def main() -> None:
        with pytest.raises(ValueError, match="one"):
            job = fails_on_one_and_two_cleans_up(cleaned)
            async with astream(job, range(3), concurrency=3) as results:
                async for _ in results:
                    await asyncio.sleep(5)

    run_virtual(main())
    assert cleaned == [2]


def test_a_stream_is_of_one_event_loop() -> None:
    results = astream(wait, [0, 0, 0], concurrency=1)

    async def first() -> None:
        await anext(results)
        await asyncio.to_thread(asyncio.run, second())
        await results.aclose()

    async def second() -> None:
        with pytest.raises(LoopError, match="another event loop"):
            await anext(results)
        with pytest.raises(LoopError, match="another event loop"):
            await results.aclose()

    asyncio.run(first())


@pytest.mark.parametrize(
    "item", [10**5000, type("array", (), {})()], ids=["digits", "name"]
)
def test_an_item_that_cannot_be_printed_takes_no_exceptions_place(item: Any) -> None:
    async def fail(item: Any) -> None:
        raise ConnectionError

    async def main() -> None:
        with pytest.raises(ConnectionError):
            await anext(astream(fail, [item]))

    run_virtual(main())


def test_by_priority_work_starts_with_what_a_slow_source_has_given() -> None:
    async def source() -> AsyncIterator[int]:
        for item in range(20):
            yield item
            await asyncio.sleep(1)

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def same(item: int) -> int:
            return item

        async with astream(same, source(), priority=lambda item: item) as results:
            return await anext(results), loop.time() - began

    assert run_virtual(main()) == (0, 0.0)


def test_by_priority_what_a_slow_source_raises_ends_the_run() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(1)
        raise OSError("the source")

    async def main() -> None:
        with pytest.raises(OSError, match="the source"):
            async for _ in astream(wait, source(), priority=lambda item: item):
                pass
        assert alive() == 0

    run_virtual(main())
