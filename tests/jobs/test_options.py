"""What the options of a run do to its jobs."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
from collections import Counter
from typing import Any

import anyio
import numpy as np
import pytest

from anabranch.errors import CircuitOpen, RunTimeout, UsageError
from anabranch.jobs import (
    Adaptive,
    Breaker,
    Hedge,
    JobOptions,
    Options,
    RateLimit,
    Retry,
    amap,
    astream,
)
from anabranch.observe import Observer
from anabranch.testing import run_virtual


def clock() -> float:
    return asyncio.get_running_loop().time()


async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


class Throttle(Exception):
    def __init__(self, retry_after: str | None = None) -> None:
        super().__init__("too many requests")
        self.status = 429
        self.headers = {} if retry_after is None else {"Retry-After": retry_after}


class Seen(Observer):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        self.events.append(("retried", label, attempt, type(error).__name__))

    def throttled(self, label: object, delay_s: float) -> None:
        self.events.append(("throttled", label, round(delay_s, 3)))

    def finished(self, label: object, error: BaseException | None) -> None:
        self.events.append(("finished", label, error is None))


# ---------------------------------------------------------------------- retry


def test_a_transient_failure_is_tried_again_and_the_attempts_are_counted() -> None:
    tries: Counter[int] = Counter()
    seen = Seen()

    async def flaky(item: int) -> int:
        tries[item] += 1
        if tries[item] <= item:
            raise ConnectionError
        return item

    outcomes = run_virtual(
        amap(flaky, range(3), retry=3, errors="return", observer=seen, concurrency=1)
    )
    assert [(o.value, o.attempts) for o in outcomes] == [(0, 1), (1, 2), (2, 3)]
    assert seen.events == [
        ("finished", 0, True),
        ("retried", 1, 1, "ConnectionError"),
        ("finished", 1, True),
        ("retried", 2, 1, "ConnectionError"),
        ("retried", 2, 2, "ConnectionError"),
        ("finished", 2, True),
    ]


def test_the_last_failure_is_raised_as_it_is_with_the_attempt_in_a_note() -> None:
    made = ConnectionError("down")

    async def down(item: str) -> int:
        raise made

    with pytest.raises(ConnectionError) as caught:
        run_virtual(amap(down, ["a"], retry=2))
    assert caught.value is made
    assert made.__notes__ == ["at attempt 2", "in job 0, given 'a'"]


def test_a_service_that_names_a_time_is_left_alone_for_so_long() -> None:
    started: list[float] = []

    async def busy(item: int) -> int:
        started.append(clock())
        if len(started) == 1:
            raise Throttle(retry_after="30")
        return item

    run_virtual(amap(busy, [1], retry=2))
    assert 30 <= started[1] - started[0] <= 33


# ------------------------------------------------------------------- time-outs


def test_a_job_that_takes_too_long_is_cancelled_and_the_others_are_not() -> None:
    cleaned: list[float] = []

    async def job(seconds: float) -> float:
        try:
            return await wait(seconds)
        except asyncio.CancelledError:
            cleaned.append(seconds)
            raise

    outcomes = run_virtual(
        amap(job, [1, 5, 2, 9], timeout=3, concurrency=2, errors="return")
    )
    assert [o.value for o in outcomes] == [1, None, 2, None]
    assert isinstance(outcomes[1].error, TimeoutError)
    assert cleaned == [5, 9]


def test_each_attempt_has_the_whole_timeout_and_limits_do_not_use_it_up() -> None:
    calls = 0

    async def slow_once(item: int) -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(10 if calls == 1 else 2)
        return item

    assert run_virtual(amap(slow_once, [7], timeout=3, retry=2)) == [7]

    async def brief(item: int) -> int:
        await asyncio.sleep(2)
        return item

    one_at_a_time = Adaptive(min=1, start=1, max=1)
    assert run_virtual(amap(brief, range(9), timeout=3, adaptive=one_at_a_time))


def test_a_timeout_inside_a_job_and_the_runs_own_do_not_disturb_each_other() -> None:
    async def job(inner_s: float) -> str:
        try:
            async with asyncio.timeout(inner_s):
                await asyncio.sleep(100)
        except TimeoutError:
            return "inner"
        return "none"

    outcomes = run_virtual(amap(job, [1, 50], timeout=10, errors="return"))
    assert outcomes[0].value == "inner"
    assert isinstance(outcomes[1].error, TimeoutError)


def test_a_job_that_has_survived_a_failed_task_group_still_times_out() -> None:
    async def fail() -> None:
        raise ConnectionError

    async def job(item: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(asyncio.sleep(1))
        except* ConnectionError:
            pass
        await asyncio.sleep(60)

    [outcome] = run_virtual(amap(job, [1], timeout=5, retry=3, errors="return"))
    assert isinstance(outcome.error, TimeoutError)
    assert outcome.attempts == 3


def test_many_short_jobs_under_a_long_timeout_are_not_cut_short() -> None:
    assert len(run_virtual(amap(wait, [1.0] * 200, timeout=1.5, concurrency=3))) == 200


def test_a_run_that_takes_too_long_ends_and_keeps_what_had_finished() -> None:
    with pytest.raises(RunTimeout, match="total_timeout of 10 s") as caught:
        run_virtual(amap(wait, [1, 50, 2, 3], total_timeout=10, concurrency=2))
    assert caught.value.partial == {0: 1, 2: 2, 3: 3}


def test_a_stream_has_a_total_timeout_too() -> None:
    async def main() -> list[float]:
        results = astream(wait, [1, 50, 2], total_timeout=10)
        got = [await anext(results), await anext(results)]
        with pytest.raises(TimeoutError):
            await anext(results)
        return got

    assert run_virtual(main()) == [1, 2]


# -------------------------------------------------------------------- adaptive


def server(capacity: int, log: Counter[str]) -> Any:
    """Answers in half a second, and throttles whoever comes above its capacity."""
    in_flight = 0

    async def ask(item: int) -> int:
        nonlocal in_flight
        in_flight += 1
        log["most"] = max(log["most"], in_flight)
        try:
            if in_flight > capacity:
                log["throttled"] += 1
                await asyncio.sleep(0.01)
                raise Throttle(retry_after="1")
            await asyncio.sleep(0.5)
            return item
        finally:
            in_flight -= 1

    return ask


def test_it_finds_a_servers_capacity_and_stays_near_it() -> None:
    log: Counter[str] = Counter()

    async def main() -> float:
        results = await amap(
            server(20, log), range(2000), adaptive=Adaptive(1, 4, 200), retry=Retry(20)
        )
        assert results == list(range(2000))
        return clock()

    ideal_s = 2000 / 20 * 0.5
    assert run_virtual(main()) < 1.4 * ideal_s
    assert log["most"] < 40
    assert log["throttled"] < 40


def test_a_throttle_with_a_time_pauses_all_jobs_for_it() -> None:
    started: list[float] = []

    async def ask(item: int) -> int:
        started.append(clock())
        await asyncio.sleep(0.1)
        if item == 0 and len(started) <= 8:
            raise Throttle(retry_after="60")
        return item

    run_virtual(amap(ask, range(50), adaptive=Adaptive(1, 8, 8), retry=3))
    early = [t for t in started if t < 60]
    assert len(early) <= 16
    assert sum(started) > 0
    assert not [t for t in started if 0.2 < t < 60]


# ---------------------------------------------------------- circuit breaker


def test_an_open_breaker_answers_at_once_and_a_retry_waits_for_it() -> None:
    calls = 0

    async def down(item: int) -> int:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise ConnectionError
        return item

    breaker = Breaker(failures=3, cooldown=10)
    outcomes = run_virtual(
        amap(down, range(6), breaker=breaker, errors="return", concurrency=1)
    )
    assert [type(o.error) for o in outcomes] == [ConnectionError] * 3 + [CircuitOpen] * 3
    assert calls == 3

    async def up(item: int) -> float:
        return clock()

    async def main() -> list[float]:
        return await amap(up, range(3), breaker=breaker, retry=9, concurrency=1)

    assert min(run_virtual(main())) >= 10


def test_an_item_that_is_wrong_does_not_open_a_breaker() -> None:
    async def wrong(item: int) -> int:
        raise ValueError

    breaker = Breaker(failures=1)
    outcomes = run_virtual(amap(wrong, range(4), breaker=breaker, errors="return"))
    assert {type(o.error) for o in outcomes} == {ValueError}


# --------------------------------------------------------------------- hedging


def test_a_job_that_takes_unusually_long_is_started_again_within_the_budget() -> None:
    random.seed(1)
    calls = alive = 0

    async def sometimes_slow(item: int) -> int:
        nonlocal calls, alive
        calls += 1
        alive += 1
        try:
            await asyncio.sleep(10 if random.random() < 0.03 else 0.1)
            return item
        finally:
            alive -= 1

    async def main(hedge: bool) -> float:
        nonlocal calls
        calls = 0
        items = range(1000)
        assert await amap(sometimes_slow, items, hedge=hedge, concurrency=10) == [*items]
        assert alive == 0
        return clock()

    unhedged_s = run_virtual(main(hedge=False))
    assert calls == 1000
    assert run_virtual(main(hedge=True)) < unhedged_s / 1.8
    assert 1000 < calls <= 1050


def test_the_slower_of_two_has_cleaned_up_before_the_result_is_given() -> None:
    calls = 0
    cleaned = False

    async def first_is_slow(item: int) -> int:
        nonlocal calls, cleaned
        calls += 1
        if calls == 1:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(3)
                cleaned = True
        return item

    async def main() -> float:
        await amap(first_is_slow, [1], hedge=Hedge(after=1, budget=1))
        return clock()

    assert run_virtual(main()) == 4
    assert cleaned


def test_neither_of_two_outlives_the_run_however_often_it_is_cancelled() -> None:
    alive = 0

    async def slow_to_clean_up(item: int) -> None:
        nonlocal alive
        alive += 1
        try:
            await asyncio.sleep(100)
        finally:
            try:
                await asyncio.sleep(3)
            finally:
                alive -= 1

    async def main() -> None:
        run = asyncio.create_task(
            amap(slow_to_clean_up, [1], hedge=Hedge(after=1, budget=1), timeout=2)
        )
        await asyncio.sleep(3)
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
        assert alive == 0

    run_virtual(main())


def test_if_both_fail_the_first_ones_error_is_raised() -> None:
    calls = 0

    async def failing(item: int) -> int:
        nonlocal calls
        calls += 1
        mine = calls
        await asyncio.sleep(5)
        raise ValueError(f"attempt {mine}")

    with pytest.raises(ValueError, match="attempt 1"):
        run_virtual(amap(failing, [1], hedge=Hedge(after=1, budget=1)))
    assert calls == 2


def test_nothing_is_hedged_while_the_service_throttles() -> None:
    calls = 0

    async def ask(item: int) -> int:
        nonlocal calls
        calls += 1
        if item == 0:
            raise Throttle
        await asyncio.sleep(5)
        return item

    hedge = Hedge(after=1, budget=1)
    run_virtual(amap(ask, range(4), hedge=hedge, errors="skip", concurrency=2))
    assert calls == 4


# --------------------------------------------------- equal keys, order, identity


def test_items_of_equal_keys_in_flight_are_run_once() -> None:
    calls: list[str] = []

    async def fetch(url: str) -> str:
        calls.append(url)
        await asyncio.sleep(1)
        return url.upper()

    found = run_virtual(amap(fetch, ["a", "b", "a", "a"], key=str))
    assert found == ["A", "B", "A", "A"]
    assert sorted(calls) == ["a", "b"]


def test_one_failure_of_shared_work_is_every_waiters_failure() -> None:
    async def fail(item: int) -> int:
        await asyncio.sleep(1)
        raise ValueError(item)

    outcomes = run_virtual(amap(fail, [1, 1, 1], key=lambda i: i, errors="return"))
    assert len({id(o.error) for o in outcomes}) == 1


def test_higher_priority_is_sooner_and_results_keep_the_order_of_the_items() -> None:
    started: list[int] = []

    async def job(item: int) -> int:
        started.append(item)
        await asyncio.sleep(1)
        return item

    found = run_virtual(amap(job, range(10), priority=lambda item: item % 2, concurrency=1))
    assert found == list(range(10))
    assert started == [1, 3, 5, 7, 9, 0, 2, 4, 6, 8]


def test_an_ordered_stream_by_priority_is_refused() -> None:
    with pytest.raises(UsageError, match="ordered, or goes by priority"):
        astream(wait, [1.0], ordered=True, priority=lambda item: item)


def test_jobs_can_have_a_task_of_their_own() -> None:
    async def job(item: int) -> int:
        await asyncio.sleep(0)
        return id(asyncio.current_task())

    shared = run_virtual(amap(job, range(20), concurrency=2))
    own = run_virtual(amap(job, range(20), concurrency=20, isolation="task"))
    assert len(set(shared)) == 2
    assert len(set(own)) == 20


def test_a_context_variable_that_a_job_leaves_changed_reaches_no_other_job() -> None:
    inherited: contextvars.ContextVar[list[int]] = contextvars.ContextVar("inherited")
    fresh: contextvars.ContextVar[int] = contextvars.ContextVar("fresh")

    async def job(item: int) -> tuple[list[int], int | None]:
        before = inherited.get(), fresh.get(None)
        await asyncio.sleep(item % 3)
        if item % 2:
            fresh.set(item)
        if item % 5 == 0:
            inherited.set([])  # equal to the caller's, but not the same
        await asyncio.sleep(0)
        return before

    async def main() -> None:
        mine: list[int] = []
        inherited.set(mine)
        for seen, other in await amap(job, range(60), concurrency=3):
            assert seen is mine
            assert other is None
        assert fresh.get(None) is None

    run_virtual(main())


def test_timeouts_task_groups_and_anyio_work_inside_a_job() -> None:
    async def job(item: int) -> str:
        assert asyncio.current_task() is not None
        if item % 4 == 0:
            with anyio.move_on_after(1) as scope:
                await anyio.sleep(100)
            return "moved on" if scope.cancelled_caught else "?"
        if item % 4 == 1:
            done: list[int] = []
            async with anyio.create_task_group() as group:
                for i in range(3):
                    group.start_soon(anyio.sleep, i)
                done.append(item)
            return f"{len(done)} group"
        if item % 4 == 2:
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(100)
            except TimeoutError:
                return "timed out"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(wait(100))
                tasks.create_task(failing())
        except ExceptionGroup:
            return "failed group"
        return "?"

    async def failing() -> None:
        raise ValueError

    expected = ["moved on", "1 group", "timed out", "failed group"] * 5
    for isolation in ("context", "task"):
        options: Any = {"isolation": isolation, "timeout": 50, "concurrency": 3}
        assert run_virtual(amap(job, range(20), **options)) == expected
    assert run_virtual(amap(job, range(20), concurrency=3)) == expected


# -------------------------------------------------------------------- the whole


def test_everything_at_once_still_gives_every_result_in_order() -> None:
    rng = random.Random(7)
    seen = Seen()

    async def job(item: int) -> int:
        await asyncio.sleep(rng.random())
        if rng.random() < 0.2:
            raise ConnectionError
        return item

    found = run_virtual(
        amap(
            job,
            range(300),
            retry=Retry(50),
            timeout=5,
            adaptive=Adaptive(1, 4, 40),
            hedge=True,
            key=lambda item: item,
            breaker=Breaker(failures=20, cooldown=1),
            priority=lambda item: item % 3,
            observer=seen,
        )
    )
    assert found == list(range(300))
    assert sum(event[0] == "finished" for event in seen.events) == 300


def test_what_is_waited_for_at_a_limit_is_observed() -> None:
    seen = Seen()
    run_virtual(amap(wait, [1.0, 1.0], rate=RateLimit(requests=1, per=1), observer=seen))
    assert ("throttled", 1, 1.0) in seen.events


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "timeout must be a finite number above 0"),
        ({"total_timeout": -1}, "total_timeout must be"),
        ({"retry": "3"}, "retry must be of type Retry"),
        ({"retry": 0}, "retry must be an integer of at least 1"),
        ({"breaker": 3}, "breaker must be of type Breaker"),
        ({"observer": Observer}, "observer must be an Observer"),
        ({"journal": ":memory:"}, "journal must be the path of a file"),
        ({"journal": ""}, "journal must be the path of a file"),
        ({"journal": 3}, "journal must be the path of a file"),
        ({"rate": RateLimit(tokens=5), "cost": "x"}, "cost must be a finite number"),
        ({"rate": 5}, "rate must be of type Limiter"),
        ({"adaptive": 5}, "adaptive must be of type Adaptive, not 5"),
        ({"hedge": "yes"}, "hedge must be of type Hedge"),
        ({"isolation": "thread"}, "isolation must be 'context' or 'task'"),
        ({"executor": "gpu"}, "executor must be"),
        ({"errors": "ignore"}, "errors must be"),
        ({"total": -1}, "total must be"),
        ({"rate": RateLimit(tokens=5), "cost": -1}, "cost must be at least 0, not -1"),
        ({"journal": "a\0b"}, "journal must be the path of a file"),
        ({"progress": wait}, "progress must be .* a synchronous function"),
        ({"key": "url"}, "key must be a function of an item, not 'url'"),
        ({"priority": 3}, "priority must be a function of an item"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_before_anything_starts(
    options: Any, said: str
) -> None:
    started: list[float] = []

    async def job(item: float) -> None:
        started.append(item)

    with pytest.raises(ValueError, match=said):
        run_virtual(amap(job, [1.0], **options))
    assert not started


@pytest.mark.parametrize("name", ["workers", "max_concurrency", "num_workers", "limit"])
def test_an_option_of_another_library_is_named_as_here(name: str) -> None:
    options: Any = {name: 3}
    with pytest.raises(TypeError, match=rf"no option {name}=: did you mean concurrency=\?"):
        run_virtual(amap(wait, [1], **options))


def test_a_misspelt_option_is_corrected_and_an_unknown_one_is_named() -> None:
    options: Any = {"timout": 3}
    with pytest.raises(TypeError, match=r"no option timout=: did you mean timeout=\?"):
        astream(wait, [1], **options)
    options = {"colour": 3}
    with pytest.raises(TypeError, match=r"no option colour=$"):
        astream(wait, [1], **options)


@pytest.mark.parametrize("value", [None, "3", float("nan")])
def test_what_a_function_gives_in_place_of_a_number_is_told_by_its_option(
    value: Any,
) -> None:
    [outcome] = run_virtual(
        amap(wait, [1], rate=RateLimit(tokens=5), cost=lambda _: value, errors="return")
    )
    assert "cost must be a finite number, or give one" in str(outcome.error)
    with pytest.raises(UsageError, match="priority must be a finite number, or give one"):
        run_virtual(amap(wait, [1], priority=lambda _: value))


def test_a_key_that_is_asynchronous_is_refused() -> None:
    async def key(item: float) -> str:
        return str(item)

    with pytest.raises(UsageError, match="key= must be a synchronous function"):
        run_virtual(amap(wait, [1], key=key))


def test_a_function_that_was_called_already_is_refused() -> None:
    fn: Any = wait(1)
    with pytest.raises(TypeError, match="not coroutine: pass the function itself"):
        run_virtual(amap(fn, [1]))


def test_a_limit_of_numpys_is_a_number_as_well() -> None:
    limit: Any = np.int64(2)
    assert run_virtual(amap(wait, [1, 2], concurrency=limit)) == [1, 2]


def test_one_who_is_asked_to_wait_for_ever_fails_alone() -> None:
    asked = 0

    async def job(item: int) -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Throttle(retry_after="1000000000")
        return item

    async def main() -> None:
        outcomes = await amap(
            job, range(20), adaptive=True, concurrency=4, retry=3, errors="return"
        )
        assert [outcome.ok for outcome in outcomes] == [False] + 19 * [True]
        assert clock() < 10

    run_virtual(main())


def test_the_typed_options_are_the_recorded_ones_and_help_shows_them() -> None:
    recorded = set(inspect.signature(Options).parameters) - {"errors"}
    assert set(JobOptions.__annotations__) == recorded
    shown = inspect.signature(amap).parameters
    assert shown["concurrency"].default == 32
    assert recorded < set(shown)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Hedge, {"percentile": "3"}, "percentile must be a finite number"),
        (Hedge, {"budget": None}, "budget must be a finite number"),
        (Retry, {"max_elapsed": float("nan")}, "max_elapsed must be at least 0"),
        (Retry, {"max_retry_after": float("nan")}, "max_retry_after must be at least 0"),
        (Retry, {"on": 3}, "on must be exception types or a function"),
        (Retry, {"wait": 0.5}, "wait must be a strategy of tenacity"),
    ],
)
def test_a_record_that_cannot_be_meant_is_refused(kind: Any, given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**given)


def test_a_stream_that_is_ordered_by_a_word_is_refused() -> None:
    word: Any = "no"
    with pytest.raises(UsageError, match="ordered must be True or False"):
        astream(wait, [1], ordered=word)


def test_a_priority_that_is_asynchronous_is_refused() -> None:
    priority: Any = wait

    with pytest.raises(UsageError, match="priority must be a synchronous function"):
        run_virtual(amap(wait, [1], priority=priority))


def test_what_a_job_took_is_told_finer_than_uvloop_counts() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def quick(item: int) -> int:
        await asyncio.sleep(0)
        return item

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcomes = runner.run(amap(quick, range(100), errors="return"))
    assert all(outcome.elapsed_s > 0 for outcome in outcomes)
