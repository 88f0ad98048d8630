"""Runs that begin at times: a schedule is itself a durable run, which starts others.

So it needs nothing of its own: its next time is a wait, it is taken over when its worker
dies, it is cancelled and listed like any run. A run that it starts has a name made of the
schedule's and the time, and a name is given once: so no time is served twice, whoever
drives the schedule and however often a start is tried again.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anabranch.clock import wall_time
from anabranch.errors import UsageError
from anabranch.workflow.context import Context
from anabranch.workflow.decorators import step
from anabranch.workflow.engine import engine_of
from anabranch.workflow.events import Event, StartEvent, StopEvent
from anabranch.workflow.workflow import Workflow

if TYPE_CHECKING:
    from anabranch.workflow.dispatch.protocol import Dispatcher
    from anabranch.workflow.stores.protocol import Store

PREFIX = "schedule/"


def next_time(cron: str, timezone: str, after: float) -> float:
    """The first time of a cron expression behind an instant, in seconds since the epoch.

    Args:
        cron: Five fields: minute, hour, day, month, day of the week.
        timezone: The name of the time zone that they are read in. A time that a change of
            the clocks leaves out is served right after it; one that comes twice, once.
        after: Seconds since the epoch.

    Raises:
        UsageError: The expression or the zone is none, or no time will ever come.
    """
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError as error:
        raise ImportError(
            "schedules need cronsim: pip install 'anabranch[schedule]'"
        ) from error
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(
            f"there is no time zone {timezone!r}: give one such as Europe/Rome"
        ) from error
    try:
        times = CronSim(cron, datetime.fromtimestamp(after, zone))
        return next(times).timestamp()
    except (CronSimError, StopIteration) as error:
        raise UsageError(
            f"{cron!r} says no time ({error}): give five fields - minute, hour, day, "
            "month, day of the week - such as '0 3 * * 1-5'"
        ) from error


class Planned(StartEvent):
    """A schedule.

    Attributes:
        event: What the runs begin with.
    """

    name: str
    cron: str
    timezone: str
    event: StartEvent


class Tick(Event):
    """The next time, in seconds since the epoch."""

    at: float


class Started(Event):
    """A time was served."""

    at: float


class NextTime(Event):
    """Never comes: who waits for it waits for a time."""


class Schedule(Workflow):
    """Starts runs of another workflow at the times of a cron expression."""

    def __init__(
        self, target: Workflow, store: Store, dispatcher: Dispatcher | None = None
    ) -> None:
        name = schedule_of(engine_of(target).name)
        super().__init__(timeout=None, durable=store, workflow_name=name, version="1")
        self._target = target
        self._store = store
        self._dispatcher = dispatcher

    @step
    async def plan(self, ctx: Context, ev: Planned) -> Tick:
        await ctx.store.set("plan", ev)
        return Tick(at=next_time(ev.cron, ev.timezone, wall_time()))

    @step
    async def start(self, ctx: Context, ev: Tick) -> Started:
        from anabranch.workflow.runs import Runs

        with suppress(TimeoutError):
            await ctx.wait_for_event(NextTime, timeout=max(0.0, ev.at - wall_time()))
        plan: Planned = await ctx.store.get("plan")
        at = datetime.fromtimestamp(ev.at, UTC)
        runs = Runs(self._store, dispatcher=self._dispatcher)
        run_id = f"{plan.name}@{at:%Y-%m-%dT%H:%MZ}"
        await runs.start(self._target, plan.event, run_id=run_id)
        return Started(at=ev.at)

    @step
    async def go_on(self, ctx: Context, ev: Started) -> Tick | StopEvent:
        plan: Planned = await ctx.store.get("plan")
        # Times that nobody was there for are left out, but for the first of them.
        return Tick(at=next_time(plan.cron, plan.timezone, max(ev.at, wall_time())))


def schedule_of(workflow: str) -> str:
    """The name of the workflow that starts runs of this one."""
    return f"schedule of {workflow}"


def planned(name: str, cron: str, timezone: str, event: Any) -> Planned:
    """A schedule, checked.

    Raises:
        UsageError: It says no time.
    """
    next_time(cron, timezone, 0.0)
    if not name:
        raise UsageError("a schedule needs a name")
    return Planned(name=name, cron=cron, timezone=timezone, event=event)
