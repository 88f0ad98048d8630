"""Runs that begin at the times of a cron expression."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from anabranch.errors import UsageError
from anabranch.testing import VirtualClock, run_virtual
from anabranch.workflow import (
    MemoryStore,
    RunInfo,
    Runs,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
)
from anabranch.workflow.schedule import next_time


class Report(Workflow):
    @step
    async def start(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("of"))


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 3 * * *", "UTC", "2026-01-01T03:00+00:00", "2026-01-02T03:00+00:00"),
        ("0 3 * * *", "Europe/Rome", "2026-01-01T00:00+00:00", "2026-01-01T02:00+00:00"),
        ("*/15 * * * 1-5", "UTC", "2026-01-02T23:50+00:00", "2026-01-05T00:00+00:00"),
        # The hour that is left out in spring, and the one that comes twice in autumn.
        ("30 2 * * *", "Europe/Rome", "2026-03-28T12:00+00:00", "2026-03-29T01:00+00:00"),
        ("30 2 * * *", "Europe/Rome", "2026-10-24T12:00+00:00", "2026-10-25T00:30+00:00"),
    ],
)
def test_the_next_time_is_read_in_its_zone(
    cron: str, zone: str, after: str, expected: str
) -> None:
    found = datetime.fromtimestamp(next_time(cron, zone, instant(after)), UTC)
    assert found.timestamp() == instant(expected), found


@pytest.mark.parametrize(
    ("cron", "zone", "said"),
    [
        ("hourly", "UTC", "five fields"),
        ("0 0 31 2 *", "UTC", "says no time"),
        ("99 * * * *", "UTC", "says no time"),
        ("0 3 * * *", "Mars/Olympus", "no time zone"),
    ],
)
def test_what_says_no_time_is_refused(cron: str, zone: str, said: str) -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        with pytest.raises(UsageError, match=said):
            await Runs(store).schedule(Report(durable=store), "r", cron, timezone=zone)

    run_virtual(main())


def test_each_time_is_served_once_whoever_works() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Report(durable=store)
        runs = Runs(store, flow)
        for _ in range(2):
            await runs.schedule(flow, "hourly", "0 * * * *", of="sales")

        async def work(seconds: float) -> None:
            workers = [asyncio.ensure_future(Worker(flow).work()) for _ in range(2)]
            await asyncio.sleep(seconds)
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

        await work(3 * 3600)
        assert [info.run_id for info in await served(runs, flow)] == [
            "hourly@2001-09-09T04:00Z",
            "hourly@2001-09-09T03:00Z",
            "hourly@2001-09-09T02:00Z",
        ]
        assert await runs.result("hourly@2001-09-09T02:00Z") == "sales"
        # Nobody works for some hours: of what was missed, one is made up for.
        await asyncio.sleep(5 * 3600)
        await work(3600)
        names = [info.run_id for info in await served(runs, flow)]
        assert names[:3] == [
            "hourly@2001-09-09T10:00Z",
            "hourly@2001-09-09T05:00Z",
            "hourly@2001-09-09T04:00Z",
        ]
        assert await runs.unschedule("hourly")
        assert not await runs.unschedule("hourly")
        await work(2 * 3600)
        assert len(await served(runs, flow)) == len(names)

    async def served(runs: Runs, flow: Report) -> list[RunInfo]:
        return list(await runs.find(workflow=flow.workflow_name))

    run_virtual(main())


def test_a_schedule_of_the_same_name_is_replaced() -> None:
    async def main() -> None:
        store = MemoryStore(clock=VirtualClock())
        flow = Report(durable=store)
        runs = Runs(store, flow)
        await runs.schedule(flow, "s", "0 * * * *", of="old")
        await runs.schedule(flow, "s", "30 * * * *", of="new")
        worker = asyncio.ensure_future(Worker(flow).work())
        await asyncio.sleep(3600)
        worker.cancel()
        await asyncio.wait([worker])
        [info] = await runs.find(workflow=flow.workflow_name)
        assert info.run_id == "s@2001-09-09T02:30Z"
        assert await runs.result(info.run_id) == "new"

    run_virtual(main())
