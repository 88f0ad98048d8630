"""What type checkers know of jobs: read by mypy and pyright, and run as well."""

from __future__ import annotations

import asyncio
from typing import assert_type

from anabranch import amap, astream, jobs
from anabranch.jobs import Outcome, Pool, Stream, SyncStream, batched, chunks, run_jobs


async def length(text: str) -> int:
    return len(text)


def length_now(text: str) -> int:
    return len(text)


async def main() -> None:
    texts = ["a", "bb"]
    assert_type(await amap(length, texts), list[int])
    assert_type(await amap(length, texts, errors="skip", retry=2), list[int])
    assert_type(await amap(length, texts, errors="return"), list[Outcome[str, int]])
    assert_type(await amap(length_now, texts, executor="thread"), list[int])
    assert_type(astream(length, texts), Stream[int])
    assert_type(astream(length, texts, errors="return"), Stream[Outcome[str, int]])
    assert_type(await run_jobs([length("a")]), list[int])
    async with Pool(concurrency=2) as pool:
        assert_type(await pool.map(length, texts), list[int])
        assert_type(pool.stream(length, texts), Stream[int])
        assert_type(pool.submit(length, "a"), asyncio.Task[int])


def test_results_have_the_types_that_functions_give() -> None:
    asyncio.run(main())
    texts = ["a", "bb"]
    assert_type(jobs.map(length, texts), list[int])
    assert_type(jobs.map(length, texts, errors="return"), list[Outcome[str, int]])
    assert_type(jobs.stream(length, texts), SyncStream[int])
    assert_type([*chunks([1], 2)], list[tuple[int | None, ...]])
    assert_type([*batched([1], 2)], list[tuple[int, ...]])
