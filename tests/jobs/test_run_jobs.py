"""The call that programs for LlamaIndex make."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest

from anabranch.jobs import DEFAULT_NUM_WORKERS, run_jobs
from anabranch.testing import run_virtual


async def value(x: int) -> int:
    await asyncio.sleep(1)
    return x


async def fail() -> int:
    await asyncio.sleep(0)
    raise ValueError("no")


def test_lists_generators_and_async_generators_of_coroutines_are_taken() -> None:
    async def later() -> AsyncIterator[Coroutine[Any, Any, int]]:
        for x in range(10):
            yield value(x)

    for jobs in ([value(x) for x in range(10)], (value(x) for x in range(10)), later()):
        assert run_virtual(run_jobs(jobs)) == list(range(10))


def test_four_run_at_once_by_default() -> None:
    async def main() -> float:
        await run_jobs([value(x) for x in range(12)])
        return asyncio.get_running_loop().time()

    assert DEFAULT_NUM_WORKERS == 4
    assert run_virtual(main()) == 3


@pytest.mark.parametrize("kind", ["list", "generator", "iterator"])
@pytest.mark.parametrize("workers", [2, 0])
def test_after_a_failure_no_coroutine_is_left_un_awaited(kind: str, workers: int) -> None:
    def make() -> Iterator[Coroutine[Any, Any, int]]:
        yield fail()
        for x in range(100):
            yield value(x)

    async def main() -> None:
        kinds = {"list": list(make()), "generator": make(), "iterator": iter(list(make()))}
        for other in set(kinds) - {kind}:
            for job in kinds[other]:
                job.close()
        with pytest.raises(ValueError, match="no" if workers else "workers"):
            await run_jobs(kinds[kind], workers=workers)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_virtual(main())
        gc.collect()


def test_progress_is_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    run_virtual(run_jobs([value(x) for x in range(3)], show_progress=True, desc="fetching"))
    shown = capsys.readouterr()
    assert "fetching" in shown.err
    assert "3 of 3" in shown.err
    assert shown.out == ""
