"""Saying what is waiting, and where, when nothing finishes any more."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from anabranch.errors import RunTimeout
from anabranch.jobs import Pool, amap
from anabranch.observe import Observer
from anabranch.testing import run_virtual


class Reports(Observer):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def stalled(self, message: str) -> None:
        self.messages.append(message)


async def inner_wait() -> None:
    await asyncio.Event().wait()


async def stuck_on_three(item: int) -> int:
    if item == 3:
        await inner_wait()
    return item


def test_it_names_the_item_the_time_and_the_line(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports()
    with pytest.raises(RunTimeout), caplog.at_level(logging.WARNING, "anabranch"):
        run_virtual(
            amap(
                stuck_on_three, range(6), stall_after=10, total_timeout=60, observer=reports
            )
        )
    (message,) = reports.messages
    assert message in caplog.text
    assert "nothing has finished for 10.0 s" in message
    assert "job 3, given 3" in message
    line = inner_wait.__code__.co_firstlineno + 1
    assert re.search(rf"inner_wait \(.*test_watchdog.py:{line}\)", message)


def test_slow_jobs_that_do_finish_are_no_stall() -> None:
    reports = Reports()

    async def slow(item: int) -> int:
        await asyncio.sleep(9)
        return item

    run_virtual(amap(slow, range(50), concurrency=2, stall_after=10, observer=reports))
    assert reports.messages == []


def test_each_stall_is_reported_once() -> None:
    reports = Reports()

    async def slow(item: int) -> int:
        await asyncio.sleep(100)
        return item

    run_virtual(amap(slow, range(3), concurrency=1, stall_after=10, observer=reports))
    assert len(reports.messages) == 3


def test_a_pool_whose_jobs_wait_for_the_same_pool_is_named() -> None:
    reports = Reports()

    async def main() -> None:
        pool = Pool(concurrency=2, observer=reports)

        async def inner(item: int) -> int:
            return item

        async def outer(item: int) -> list[int]:
            return await pool.map(inner, [item])

        await pool.map(outer, range(4), stall_after=5, total_timeout=20)

    with pytest.raises(RunTimeout):
        run_virtual(main())
    assert "all 2 places of the pool are kept while 2 wait" in reports.messages[0]
    assert "Use a second pool" in reports.messages[0]


def test_a_job_in_a_task_of_its_own_is_found_too() -> None:
    reports = Reports()
    with pytest.raises(RunTimeout):
        run_virtual(
            amap(
                stuck_on_three,
                range(6),
                isolation="task",
                timeout=100,
                retry=2,
                stall_after=10,
                total_timeout=60,
                observer=reports,
            )
        )
    assert "inner_wait" in reports.messages[0]


def test_submitted_jobs_that_wait_for_their_own_pool_are_named_too() -> None:
    reports = Reports()

    async def main() -> None:
        async with Pool(concurrency=1, observer=reports, stall_after=5) as pool:

            async def inner() -> int:
                return 1

            async def outer() -> int:
                return await pool.submit(inner)

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.submit(outer), 20)

    run_virtual(main())
    (message,) = reports.messages
    assert "outer (" in message
    assert "all 1 places of the pool are kept while 1 wait" in message
