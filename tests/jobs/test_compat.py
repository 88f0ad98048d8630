"""The functions that programs for LlamaIndex call."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

import anabranch
from anabranch import jobs
from anabranch.jobs import (
    asyncio_module,
    batch_gather,
    batched,
    chunks,
    get_asyncio_module,
    run_async_tasks,
    run_jobs,
)
from anabranch.testing import run_virtual


async def give(value: Any, after: float = 0) -> Any:
    await asyncio.sleep(after)
    return value


async def fail(error: Exception) -> Any:
    await asyncio.sleep(0)
    raise error


def test_their_call_shapes_are_the_known_ones() -> None:
    shapes = {
        "run_async_tasks": "(tasks, show_progress=False, progress_bar_desc="
        "'Running async tasks')",
        "batch_gather": "(tasks, batch_size=10, verbose=False)",
        "run_jobs": "(jobs, show_progress=False, workers=4, desc=None)",
        "chunks": "(iterable, size)",
        "get_asyncio_module": "(show_progress=False)",
        "asyncio_module": "(show_progress=False)",
        "asyncio_run": "(coro)",
    }
    for name, shape in shapes.items():
        signature = inspect.signature(getattr(jobs, name))
        known = [
            p.replace(annotation=p.empty)
            for p in signature.parameters.values()
            if p.kind is not p.KEYWORD_ONLY
        ]
        assert (
            str(signature.replace(parameters=known, return_annotation=signature.empty))
            == shape
        )
        assert getattr(anabranch, name) is getattr(jobs, name)
    assert anabranch.DEFAULT_NUM_WORKERS == 4


def of_kind(kind: str, coroutines: Sequence[Coroutine[Any, Any, Any]]) -> Any:
    async def generated() -> AsyncIterator[Any]:
        for coroutine in coroutines:
            yield coroutine

    return {
        "list": coroutines,
        "tuple": tuple(coroutines),
        "generator": (coroutine for coroutine in coroutines),
        "async generator": generated(),
    }[kind]


GATHERERS: dict[str, Callable[..., Any]] = {
    "batch_gather": batch_gather,
    "run_jobs": run_jobs,
}
KINDS = ["list", "tuple", "generator", "async generator"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_takes_lists_generators_and_async_generators(kind: str) -> None:
    values = [1, None, "x", None]
    assert run_async_tasks(of_kind(kind, [give(v) for v in values])) == values
    for gathered in (batch_gather, run_jobs):

        async def main(gather: Any = gathered) -> Any:
            return await gather(of_kind(kind, [give(v) for v in values]))

        assert run_virtual(main()) == values


@pytest.mark.parametrize("kind", ["list", "tuple"])
@pytest.mark.parametrize("call", ["run_async_tasks", "batch_gather", "run_jobs"])
def test_a_failure_is_the_same_object_and_leaves_nothing_behind(
    kind: str, call: str
) -> None:
    mine = ValueError("mine")
    alive: list[Any] = []

    async def main() -> None:
        made = [give(0, 100), fail(mine), *(give(i, 100) for i in range(100))]
        with pytest.raises(ValueError, match="mine") as caught:
            await GATHERERS[call](of_kind(kind, made))
        assert caught.value is mine
        alive.extend(asyncio.all_tasks() - {asyncio.current_task()})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if call == "run_async_tasks":
            made = [give(0, 100), fail(mine), *(give(i, 100) for i in range(100))]
            with pytest.raises(ValueError, match="mine") as caught:
                run_async_tasks(of_kind(kind, made))
            assert caught.value is mine
        else:
            run_virtual(main())
        gc.collect()
    assert alive == []
    assert "in job 1" in mine.__notes__[0]


@pytest.mark.parametrize("show_progress", [False, True])
def test_a_runtime_error_of_a_job_is_not_taken_for_a_loop_problem(
    show_progress: bool,
) -> None:
    mine = RuntimeError("mine")
    with pytest.raises(RuntimeError) as caught:
        run_async_tasks([fail(mine)], show_progress=show_progress)
    assert caught.value is mine


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "4", None])
def test_a_limit_that_cannot_be_meant_is_refused_at_the_call(limit: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (run_jobs, batch_gather):
            name = "workers" if call is run_jobs else "batch_size"
            with pytest.raises(ValueError, match=f"{name} must be an integer"):
                run_virtual(call([give(1), give(2)], **{name: limit}))
        gc.collect()
    for grouped in (chunks, batched):
        with pytest.raises(ValueError, match="size must be an integer"):
            grouped([1], limit)


def test_all_tasks_run_at_once_unless_a_limit_is_given() -> None:
    running = most = 0

    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    run_async_tasks([job() for _ in range(300)])
    assert most == 300
    most = 0
    run_async_tasks([job() for _ in range(30)], workers=3)
    assert most == 3


def test_the_next_job_starts_when_one_ends_not_when_all_of_a_batch_have() -> None:
    async def main() -> float:
        slow_first = [give(0, 10), *(give(i, 1) for i in range(20))]
        await batch_gather(slow_first, batch_size=2)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 15


def test_verbose_tells_how_many_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    run_virtual(batch_gather([give(i) for i in range(5)], batch_size=2, verbose=True))
    assert capsys.readouterr().out.splitlines() == [
        "Completed 2 out of 5 tasks",
        "Completed 4 out of 5 tasks",
        "Completed 5 out of 5 tasks",
    ]
    run_virtual(batch_gather((give(i) for i in range(2)), batch_size=2, verbose=True))
    assert capsys.readouterr().out == "Completed 2 tasks\n"


def test_groups_are_filled_up_by_one_function_and_not_by_the_other() -> None:
    assert list(chunks([1, None, 3], 2)) == [(1, None), (3, None)]
    assert list(batched([1, None, 3], 2)) == [(1, None), (3,)]
    assert list(batched([], 2)) == list(chunks([], 2)) == []

    def endless() -> Iterator[int]:
        yield 1
        yield 2
        raise AssertionError("pulled too far")

    assert next(batched(endless(), 2)) == (1, 2)


def test_the_module_of_the_wanted_kind_is_given_and_the_old_name_warns() -> None:
    from tqdm.asyncio import tqdm_asyncio

    assert get_asyncio_module() is asyncio
    assert get_asyncio_module(show_progress=True) is tqdm_asyncio
    with pytest.warns(DeprecationWarning, match="get_asyncio_module"):
        assert asyncio_module() is asyncio


def test_an_outer_timeout_is_felt_with_everything_cleaned_up() -> None:
    cleaned = 0

    async def job() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(100)
        finally:
            cleaned += 1

    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run_jobs([job() for _ in range(20)]), 1)
        assert len(asyncio.all_tasks()) == 1
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 1
    assert cleaned == 4
