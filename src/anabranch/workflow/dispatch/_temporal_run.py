"""What Temporal itself runs for one of our runs: drive it, rest, drive it again.

It decides by what Temporal has recorded only, so that any worker can go on with it; it
knows no rule of ours. All that it carries from one history to the next is when to drive.

Executions that are under way are gone on with by newer versions of this module. If one is
to ask Temporal for other things, or in another order, it must tell old histories from new
ones by ``workflow.patched``. A test replays an old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from math import inf
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
)

# A drive makes 6 events, a ring 4. Temporal advises against more than some thousands, and
# a worker that takes over reads them all.
LONG_HISTORY: Final = 1_000
# Temporal takes 10,000 signals an execution, and ends it at 50,000 events.
MANY_RINGS: Final = 5_000
# A clock of the store's that is behind Temporal's must not make a run spin.
SHORTEST_REST_S: Final = 0.1
# It must have an end; what looks after a drive are its heartbeats.
LONGEST_DRIVE: Final = timedelta(days=3650)
# After a time-out, when nobody says how long to wait. It grows slowly: a drive that goes on
# for weeks meets many deployments, and each counts.
RETRY: Final = RetryPolicy(
    initial_interval=timedelta(seconds=0.2), maximum_interval=timedelta(seconds=5)
)


@dataclass(frozen=True)
class Errand:
    """What is to be done, for as long as it takes.

    Attributes:
        run_id: Which run to drive.
        heartbeat: Seconds without a sign of life, until a drive is given to another worker.
        recheck: Seconds of rest, until a run is driven though no doorbell was heard.
        not_before: Rest until this time first, in seconds since the epoch.
    """

    run_id: str
    heartbeat: float
    recheck: float
    not_before: float = 0.0


@dataclass(frozen=True)
class Report:
    """How a drive has ended: with the run's status, or it rests.

    Attributes:
        status: How the run has ended; ``None`` if it has not.
        until: When it wants to be driven again, in seconds since the epoch.
    """

    status: str | None = None
    until: float | None = None


@workflow.defn(dynamic=True, sandboxed=False)
class RunOnTemporal:
    """One run, under the name of its workflow.

    It needs no sandbox: there is no code of a user's in it.
    """

    def __init__(self) -> None:
        self._due = inf  # when to drive, in seconds since the epoch
        self._rings = 0
        self._drive: workflow.ActivityHandle[Any] | None = None

    @workflow.signal
    def drive_at(self, at: float) -> None:
        """Drive the run at this time at the latest, though it may rest or be at its end."""
        self._due = min(self._due, at)
        self._rings += 1
        if self._rings >= MANY_RINGS and self._drive is not None:
            self._drive.cancel()  # let go, for a new history

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> str:
        """Drive the run until it has ended.

        Returns:
            Its status.
        """
        errand = workflow.payload_converter().from_payload(args[0].payload, Errand)
        self._due = min(self._due, errand.not_before)  # a signal may have come first
        while True:
            self._begin_anew_if_long(errand)
            try:
                await self._rest()
                report = await self._driven(errand)
            except asyncio.CancelledError:
                self._due = 0.0  # it was cancelled while it rested
            except ActivityError as error:
                # If it was not given up, it was let go: for a new history, or cancelled.
                if isinstance(error.cause, ApplicationError) and error.cause.non_retryable:
                    raise
                self._due = 0.0
            else:
                if report.status is None:
                    self._due = min(self._due, _next_drive(report.until, errand.recheck))
                elif self._due == inf:  # nobody has asked for it since the drive began
                    return _end(report.status)

    def _begin_anew_if_long(self, errand: Errand) -> None:
        is_long = workflow.info().get_current_history_length() > LONG_HISTORY
        if is_long and not _is_cancelled():  # which the next execution would not know
            workflow.continue_as_new(replace(errand, not_before=self._due))

    async def _rest(self) -> None:
        """Rest until it is time; a signal may change when that is."""
        while (rest_s := self._due - workflow.time()) > 0:
            try:
                await workflow.wait_condition(
                    partial(self._is_due_before, self._due), timeout=rest_s
                )
            except TimeoutError:
                return

    def _is_due_before(self, at: float) -> bool:
        return self._due < at

    async def _driven(self, errand: Errand) -> Report:
        self._due = inf  # but for signals that come from here on
        self._drive = workflow.start_activity(
            "drive",
            args=[errand.run_id, _is_cancelled()],
            result_type=Report,
            start_to_close_timeout=LONGEST_DRIVE,
            heartbeat_timeout=timedelta(seconds=errand.heartbeat),
            retry_policy=RETRY,
            # A run is let go, or ends, before it is driven again.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        report: Report = await self._drive
        return report


def _is_cancelled() -> bool:
    """Whether this execution of Temporal's was cancelled; then so is our run."""
    return workflow.cancellation_reason() is not None


def _next_drive(until: float | None, recheck: float) -> float:
    """When to drive a run that rests, if no doorbell is heard."""
    now = workflow.time()
    recheck_at = now + recheck
    if until is None:
        return recheck_at
    return max(now + SHORTEST_REST_S, min(until, recheck_at))


def _end(status: str) -> str:
    """End Temporal's execution as the run has ended."""
    if status == "completed":
        return status
    if status == "cancelled":
        if not _is_cancelled():
            return status  # Temporal shows as cancelled only what was cancelled there
        raise asyncio.CancelledError(status)
    raise ApplicationError(
        f"the run has ended as {status}; its journal says why",
        type=status,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )
