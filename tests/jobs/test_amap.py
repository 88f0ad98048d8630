"""Running a function over many items, and getting every result in order."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import JobCancelled
from anabranch.jobs import Outcome, amap, astream
from anabranch.observe import Observer
from anabranch.testing import run_virtual


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


def alive() -> int:
    """Tasks that run beside the caller."""
    return len(asyncio.all_tasks()) - 1


def test_results_come_in_the_order_of_the_items_whatever_order_they_finish_in() -> None:
    async def slow_first(x: int) -> int:
        await asyncio.sleep(10 - x)
        return x

    assert run_virtual(amap(slow_first, range(10), concurrency=10)) == list(range(10))


@given(
    delays=st.lists(st.integers(0, 5), max_size=40),
    failing=st.sets(st.integers(0, 39)),
    concurrency=st.integers(1, 8),
    lazily=st.sampled_from(["list", "generator", "async generator"]),
)
def test_every_item_has_one_outcome_and_the_limit_holds(
    delays: list[int], failing: set[int], concurrency: int, lazily: str
) -> None:
    running = most = 0

    async def job(item: tuple[int, int]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(item[1])
            if item[0] in failing:
                raise ValueError(item[0])
            return item[0]
        finally:
            running -= 1

    async def later() -> AsyncIterator[tuple[int, int]]:
        for item in enumerate(delays):
            await asyncio.sleep(1)
            yield item

    async def main() -> list[Outcome[tuple[int, int], int]]:
        items: Iterable[tuple[int, int]] | AsyncIterable[tuple[int, int]]
        match lazily:
            case "list":
                items = list(enumerate(delays))
            case "generator":
                items = (item for item in enumerate(delays))
            case _:
                items = later()
        outcomes = await amap(job, items, concurrency=concurrency, errors="return")
        assert alive() == 0
        return outcomes

    outcomes = run_virtual(main())
    assert [outcome.item for outcome in outcomes] == list(enumerate(delays))
    for index, outcome in enumerate(outcomes):
        assert outcome.index == index
        assert outcome.ok == (index not in failing)
        assert outcome.value == (None if index in failing else index)
        assert outcome.elapsed_s >= 0
    assert most <= concurrency
    assert running == 0


def test_the_first_failure_ends_the_run_and_nothing_runs_on() -> None:
    finished: list[int] = []
    cleaned: list[int] = []
    boom = ValueError("boom")

    async def job(x: int) -> None:
        if x == 0:
            await asyncio.sleep(1)
            raise boom
        try:
            await asyncio.sleep(x)
            finished.append(x)
        finally:
            await asyncio.sleep(0.1)  # clean-up takes its time, and gets it
            cleaned.append(x)

    async def main() -> None:
        with pytest.raises(ValueError, match="boom") as caught:
            await amap(job, range(1000), concurrency=4)
        assert caught.value is boom
        assert boom.__notes__ == ["in job 0, given 0"]
        assert alive() == 0
        await asyncio.sleep(100)

    run_virtual(main())
    # Job 1 ended in the same instant in which job 0 failed.
    assert finished in ([], [1])
    assert set(cleaned) >= {2, 3}
    assert len(cleaned) <= 4


def test_failed_jobs_can_be_left_out() -> None:
    async def even(x: int) -> int:
        if x % 2:
            raise ValueError
        return x

    assert run_virtual(amap(even, range(6), errors="skip")) == [0, 2, 4]


def test_none_is_a_result_like_any_other() -> None:
    async def nothing(x: int) -> None:
        return None

    assert run_virtual(amap(nothing, range(3), errors="skip")) == [None, None, None]


def test_a_job_sees_its_callers_context_and_no_other_jobs() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def job(x: int) -> str:
        before = variable.get()
        variable.set(f"job {x}")
        await asyncio.sleep(1)
        assert variable.get() == f"job {x}"
        return before

    async def main() -> None:
        variable.set("caller")
        assert await amap(job, range(20), concurrency=3) == ["caller"] * 20
        assert variable.get() == "caller"

    run_virtual(main())


def test_a_cancelled_caller_gets_its_cancellation_after_the_clean_up() -> None:
    cleaned: list[int] = []

    async def job(x: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            cleaned.append(x)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await amap(job, range(10), concurrency=3)
        assert asyncio.get_running_loop().time() == 6
        assert alive() == 0

    run_virtual(main())
    assert sorted(cleaned) == [0, 1, 2]


def test_a_job_that_swallows_its_cancellation_does_not_start_another() -> None:
    started: list[int] = []

    async def job(x: int) -> None:
        started.append(x)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            pass

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await amap(job, range(10), concurrency=3)

    run_virtual(main())
    assert started == [0, 1, 2]


def test_a_job_that_cancels_itself_is_a_failed_job_not_a_cancelled_caller() -> None:
    async def job(x: int) -> int:
        if x == 1:
            raise asyncio.CancelledError
        await asyncio.sleep(1)
        return x

    async def main() -> None:
        with pytest.raises(JobCancelled):
            await amap(job, range(3))
        outcomes = await amap(job, range(3), errors="return")
        assert [outcome.ok for outcome in outcomes] == [True, False, True]

    run_virtual(main())


def test_a_failed_task_group_in_one_job_does_not_reach_the_next() -> None:
    async def fail() -> None:
        raise ValueError

    async def job(x: int) -> int:
        if x == 0:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    group.create_task(asyncio.sleep(1))
            except* ValueError:
                pass
            return x
        async with asyncio.timeout(10):
            await asyncio.sleep(1)
        return x

    assert run_virtual(amap(job, range(5), concurrency=1)) == list(range(5))


def cancel_myself_now() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def cancel_myself_soon() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)


@pytest.mark.parametrize("cancel", [cancel_myself_now, cancel_myself_soon])
@pytest.mark.parametrize("at", [0, 3, 31, 99])
def test_a_cancellation_that_a_job_leaves_behind_loses_no_item(
    cancel: Callable[[], None], at: int
) -> None:
    async def job(x: int) -> int:
        if x == at:
            cancel()
        return x

    async def main() -> None:
        assert await amap(job, range(100), concurrency=1) == [*range(100)]
        streamed = [x async for x in astream(job, range(100), concurrency=1, buffer=0)]
        assert streamed == [*range(100)]

    run_virtual(main())


def test_one_who_cancels_every_task_that_there_is_ends_the_run_with_an_error() -> None:
    callers: asyncio.Task[Any] | None = None

    async def others() -> AsyncIterator[int]:
        yield 0
        yield 1

    async def job(x: int) -> int:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task() and task is not callers:
                task.cancel()
        return x

    async def main() -> None:
        nonlocal callers
        callers = asyncio.current_task()
        with pytest.raises(JobCancelled, match="a worker of the run was cancelled"):
            await amap(job, range(100), concurrency=3)
        with pytest.raises(JobCancelled):
            await amap(job, others(), concurrency=3)
        assert alive() == 0

    run_virtual(main())


def test_a_source_that_raises_cancelled_error_fails_as_any_other_does() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise asyncio.CancelledError

    async def items_later() -> AsyncIterator[int]:
        yield 0
        stopped = asyncio.create_task(asyncio.sleep(1))
        stopped.cancel()
        await stopped

    async def main() -> None:
        for source in (items, items_later):
            for errors in ("raise", "return", "skip"):
                with pytest.raises(JobCancelled, match="the source of the items"):
                    await amap(double, source(), errors=errors, concurrency=2)

    run_virtual(main())


def test_the_first_failure_is_told_and_not_that_the_source_could_not_be_closed() -> None:
    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            raise KeyError("closing")

    async def fail(x: int) -> None:
        raise ValueError(x)

    async def main() -> None:
        with pytest.raises(ValueError, match="0") as caught:
            await amap(fail, items(), concurrency=1)
        assert caught.value.__notes__ == [
            "in job 0, given 0",
            "after it, the source of the items could not be closed: KeyError: 'closing'",
        ]

    run_virtual(main())


def test_results_are_not_lost_to_a_source_that_cannot_be_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Source:
        def __init__(self) -> None:
            self._items = iter(range(3))

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            for item in self._items:
                return item
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise OSError("cannot hang up")

    assert run_virtual(amap(double, Source())) == [0, 2, 4]
    assert "could not be closed: OSError: cannot hang up" in caplog.text


def test_a_file_given_as_items_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("one\ntwo\n")

    async def length(line: str) -> int:
        return len(line)

    with path.open() as lines:
        assert run_virtual(amap(length, lines)) == [4, 4]
        assert not lines.closed


def test_no_job_starts_after_a_failure_even_if_the_source_swallows_its_end() -> None:
    started: list[int] = []

    async def items() -> AsyncIterator[int]:
        yield 0
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            yield 1

    async def fail(x: int) -> None:
        started.append(x)
        await asyncio.sleep(1)
        raise ValueError(x)

    async def main() -> None:
        with pytest.raises(ValueError, match="0"):
            await amap(fail, items(), concurrency=2)
        assert alive() == 0

    run_virtual(main())
    assert started == [0]


@pytest.mark.parametrize("errors", ["raise", "return", "skip"])
def test_a_synchronous_function_is_a_mistake_under_every_policy(errors: Any) -> None:
    with pytest.raises(TypeError, match="await") as caught:
        run_virtual(amap(abs, range(5), errors=errors))
    assert "executor='thread'" in caught.value.__notes__[0]


def test_a_failure_in_the_clean_up_of_another_job_is_noted_on_the_first() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    async def job(x: int) -> None:
        try:
            await asyncio.sleep(x)
        except asyncio.CancelledError:
            raise (KeyError("closing"), Unspeakable())[x - 2] from None
        raise ValueError("first")

    with pytest.raises(ValueError, match="first") as caught:
        run_virtual(amap(job, [1, 2, 3]))
    assert sorted(caught.value.__notes__) == [
        "after it, another job failed too: KeyError: 'closing'",
        "after it, another job failed too: Unspeakable, which cannot be printed",
        "in job 0, given 1",
    ]


def test_an_exception_that_bears_no_note_comes_back_as_it_is() -> None:
    class Frozen(Exception):
        def add_note(self, note: str) -> None:
            raise RuntimeError("no notes")

    async def fail(x: int) -> None:
        raise Frozen

    with pytest.raises(Frozen):
        run_virtual(amap(fail, range(5)))


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "4", None, True])
def test_a_limit_that_cannot_be_meant_is_refused(concurrency: object) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="concurrency must be an integer"):
            await amap(double, [1], concurrency=concurrency)  # type: ignore[call-overload]

    run_virtual(main())


def test_what_cannot_be_iterated_and_unknown_policies_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="not int"):
            await amap(double, 5)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="'raise', 'return' or 'skip'"):
            await amap(double, [1], errors="ignore")  # type: ignore[call-overload]

    run_virtual(main())


def test_items_are_pulled_no_further_than_the_limit() -> None:
    pulled = 0

    def items() -> Iterator[int]:
        nonlocal pulled
        while pulled < 100:
            pulled += 1
            yield pulled

    async def job(x: int) -> None:
        assert pulled - x < 5
        await asyncio.sleep(x % 3)

    run_virtual(amap(job, items(), concurrency=5))
    assert pulled == 100


def test_a_source_that_fails_ends_the_run_and_is_closed() -> None:
    closed: list[bool] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            raise RuntimeError("the source broke")
        finally:
            closed.append(True)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="the source broke"):
            await amap(double, items())
        assert alive() == 0

    run_virtual(main())
    assert closed == [True]


def test_a_generator_is_closed_when_a_job_fails() -> None:
    closed: list[bool] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    async def fail(x: int) -> None:
        raise ValueError(x)

    async def main() -> None:
        with pytest.raises(ValueError, match="0"):
            await amap(fail, items(), concurrency=2)
        assert closed == [True]

    run_virtual(main())


def test_jobs_that_never_wait_let_the_loop_breathe() -> None:
    turns = 0

    async def at_once(x: int) -> int:
        return x

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        counting = asyncio.create_task(count())
        await amap(at_once, range(10_000), concurrency=1)
        counting.cancel()

    run_virtual(main())
    assert turns > 100


def test_any_awaitable_will_do() -> None:
    def future(x: int) -> asyncio.Future[int]:
        made = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, made.set_result, x)
        return made

    assert run_virtual(amap(future, range(3))) == [0, 1, 2]


def test_a_function_that_raises_before_its_coroutine_is_a_failed_job() -> None:
    def refuse(x: int) -> asyncio.Future[int]:
        raise KeyError(x)

    async def main() -> None:
        outcomes = await amap(refuse, range(2), errors="return")
        assert [type(outcome.error) for outcome in outcomes] == [KeyError, KeyError]

    run_virtual(main())


def test_an_observer_is_told_and_may_fail_without_the_work_noticing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    class Telling(Observer):
        def begun(self, total: int | None) -> None:
            told.append(f"begun {total}")

        def finished(self, label: object, error: BaseException | None) -> None:
            told.append(f"{label} {type(error).__name__}")
            if label == 1:
                raise RuntimeError("the observer broke")

        def ended(self) -> None:
            told.append("ended")

    async def job(x: int) -> int:
        if x == 0:
            raise ValueError
        return x

    result = run_virtual(amap(job, range(3), errors="skip", observer=Telling()))
    assert result == [1, 2]
    assert told == ["begun 3", "0 ValueError", "1 NoneType"]
    assert "is dropped" in caplog.text


def test_nothing_is_left_un_awaited_when_a_run_fails() -> None:
    async def fail(x: int) -> None:
        raise ValueError(x)

    async def main() -> None:
        with pytest.raises(ValueError, match="0"):
            await amap(fail, range(100))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_virtual(main())
        gc.collect()


def test_nested_runs_work() -> None:
    async def inner(x: int) -> int:
        return sum(await amap(double, range(x), concurrency=2))

    expected = [sum(2 * y for y in range(x)) for x in range(10)]
    assert run_virtual(amap(inner, range(10), concurrency=3)) == expected
