"""Whatever the mix of results, failures, delays, limits and cancellations."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import AnabranchError
from anabranch.jobs import (
    Adaptive,
    Breaker,
    Hedge,
    Limiter,
    Pool,
    RateLimit,
    Retry,
    amap,
    astream,
    run_jobs,
)
from anabranch.testing import run_virtual


@pytest.fixture(autouse=True, scope="module")
def _only_what_is_new_is_collected() -> Iterator[None]:
    """A collection after each example costs no more for what other tests have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass(frozen=True)
class Plan:
    """What one job does at each of its attempts: how long it takes, and how it ends."""

    name: int
    attempts: tuple[tuple[float, str], ...]


ENDS = ["value", "none", "transient", "wrong", "cancels itself", "swallows"]
delays = st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0, 20.0])
plans = st.lists(
    st.lists(st.tuples(delays, st.sampled_from(ENDS)), min_size=1, max_size=3), max_size=25
).map(lambda all_: [Plan(i, tuple(attempts)) for i, attempts in enumerate(all_)])
options = st.fixed_dictionaries(
    {"concurrency": st.integers(1, 6)},
    optional={
        "retry": st.sampled_from([2, Retry(3, on=ConnectionError)]),
        "timeout": st.sampled_from([0.7, 2.0, 10.0]),
        "total_timeout": st.sampled_from([1.0, 15.0, 300.0]),
        "adaptive": st.just(Adaptive(1, 2, 6)),
        "hedge": st.sampled_from([True, Hedge(after=0.5, budget=1)]),
        "key": st.sampled_from([lambda plan: plan.name, lambda plan: plan.name % 3]),
        "priority": st.just(lambda plan: plan.name % 2),
        "isolation": st.sampled_from(["context", "task"]),
        "stall_after": st.just(5.0),
    },
)
makers = st.sampled_from(
    [
        dict[str, Any],
        lambda: {"rate": RateLimit(requests=5, per=1)},
        lambda: {"rate": Limiter(RateLimit(requests=9, tokens=9, per=3)), "cost": 2},
        lambda: {"breaker": Breaker(failures=3, cooldown=2)},
    ]
)


class World:
    """Runs plans and sees how many do so at once."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.calls: Counter[int] = Counter()

    async def job(self, plan: Plan) -> int | None:
        attempt = min(self.calls[plan.name], len(plan.attempts) - 1)
        self.calls[plan.name] += 1
        seconds, end = plan.attempts[attempt]
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if seconds:
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if end != "swallows":
                raise
        finally:
            self.running -= 1
        match end:
            case "transient":
                raise ConnectionError(plan.name)
            case "wrong":
                raise ValueError(plan.name)
            case "cancels itself":
                raise asyncio.CancelledError
            case "none":
                return None
        return plan.name


async def generated(plan: list[Plan]) -> AsyncIterator[Plan]:
    for one in plan:
        yield one


def left_over() -> set[asyncio.Task[Any]]:
    return {t for t in asyncio.all_tasks() if t is not asyncio.current_task()}


@given(
    plan=plans,
    chosen=options,
    made=makers,
    errors=st.sampled_from(["raise", "return", "skip"]),
    lazily=st.booleans(),
    cancel_after=st.none() | st.sampled_from([0.0, 0.6, 4.0]),
)
def test_every_item_has_one_outcome_in_order_and_nothing_is_left(
    plan: list[Plan],
    chosen: dict[str, Any],
    made: Any,
    errors: Any,
    lazily: bool,
    cancel_after: float | None,
) -> None:
    world = World()

    async def main() -> Any:
        items = generated(plan) if lazily else plan
        run = asyncio.ensure_future(
            amap(world.job, items, errors=errors, **chosen, **made())
        )
        if cancel_after is not None:
            asyncio.get_running_loop().call_later(cancel_after, run.cancel)
        try:
            return await run
        except (asyncio.CancelledError, Exception) as error:
            return error
        finally:
            assert left_over() == set()
            assert world.running == 0

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run_virtual(main())
        gc.collect()
    assert world.most <= chosen["concurrency"] * (2 if "hedge" in chosen else 1) or (
        "adaptive" in chosen and world.most <= 12
    )
    if "key" in chosen:
        return  # equal keys share an outcome, which is tested by itself
    if isinstance(found, BaseException):
        assert errors == "raise" or cancel_after is not None or "total_timeout" in chosen
        assert isinstance(
            found, asyncio.CancelledError | AnabranchError | OSError | ValueError
        )
    elif errors == "return":
        assert [(o.index, o.item) for o in found] == list(enumerate(plan))
        for outcome in found:
            if outcome.ok:
                assert outcome.value in (outcome.item.name, None)
            assert outcome.elapsed_s >= 0
    elif errors == "skip":
        names = [value for value in found if value is not None]
        assert names == sorted(set(names))
    else:
        assert len(found) == len(plan)
        assert all(v in (None, p.name) for v, p in zip(found, plan, strict=True))


@given(
    plan=plans,
    chosen=options,
    made=makers,
    ordered=st.booleans(),
    buffer=st.none() | st.integers(0, 5),
    take=st.none() | st.integers(0, 20),
)
def test_a_stream_gives_each_outcome_once_and_can_be_left_at_any_point(
    plan: list[Plan],
    chosen: dict[str, Any],
    made: Any,
    ordered: bool,
    buffer: int | None,
    take: int | None,
) -> None:
    world = World()
    ordered = ordered and "priority" not in chosen

    async def main() -> list[Any]:
        results = astream(
            world.job,
            generated(plan),
            errors="return",
            ordered=ordered,
            buffer=buffer,
            **chosen,
            **made(),
        )
        found: list[Any] = []
        try:
            async with results:
                async for outcome in results:
                    found.append(outcome)
                    if len(found) == take:
                        break
        except TimeoutError:
            assert "total_timeout" in chosen
        assert left_over() == set()
        assert world.running == 0
        return found

    found = run_virtual(main())
    indices = [outcome.index for outcome in found]
    assert len(set(indices)) == len(indices)
    if ordered:
        assert indices == list(range(len(indices)))
    if take is None and "total_timeout" not in chosen:
        assert sorted(indices) == list(range(len(plan)))


@given(
    first=plans,
    second=plans,
    limit=st.integers(1, 4),
    changes=st.lists(st.integers(1, 4), max_size=3),
)
def test_a_pools_limit_is_never_exceeded_whoever_uses_it(
    first: list[Plan], second: list[Plan], limit: int, changes: list[int]
) -> None:
    world = World()

    async def main() -> None:
        async with Pool(concurrency=limit) as pool:
            runs = [
                asyncio.ensure_future(pool.map(world.job, first, errors="return")),
                asyncio.ensure_future(pool.map(world.job, second, errors="return")),
                *(pool.submit(world.job, plan) for plan in first),
            ]
            for change in changes:
                await asyncio.sleep(1)
                pool.limit = change
            await asyncio.gather(*runs, return_exceptions=True)
            assert pool.stats().in_flight == 0
        assert left_over() == set()

    run_virtual(main())
    assert world.most <= max([limit, *changes])


@given(plan=plans, workers=st.integers(1, 6), cancel_after=st.sampled_from([0, 0.6, 99]))
def test_coroutines_are_all_awaited_or_closed(
    plan: list[Plan], workers: int, cancel_after: float
) -> None:
    world = World()

    async def main() -> None:
        jobs = [world.job(one) for one in plan]
        run = asyncio.ensure_future(run_jobs(jobs, workers=workers))
        asyncio.get_running_loop().call_later(cancel_after, run.cancel)
        await asyncio.wait([run])
        if not run.cancelled():
            run.exception()
        assert left_over() == set()
        assert all(inspect.getcoroutinestate(job) == "CORO_CLOSED" for job in jobs), (
            "each has ended"
        )

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_virtual(main())
        gc.collect()
    assert world.most <= workers
