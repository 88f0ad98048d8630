"""Runs carried from machine to machine by Temporal.

Theory of operation. Each run is one workflow execution of Temporal's, and all that happens
in it is that an activity drives the run, or that it rests (see ``_temporal_run``). What
the run does is in our store, not in Temporal's history, which so has a few events a drive,
however many steps there are.

* An activity beats its heart while it drives. If the beats stop to come, since the worker
  or its machine died or was cut off, Temporal gives the run to another worker. The first
  one, should it live, is told so with its next beat, and cannot write before: the store
  lets only the one that has opened the run last.
* What ends a drive early (worker told to stop, store out of order, run not for this
  worker) is a failed attempt of the activity for Temporal, which gives it to some worker
  again after the time we name. Attempts leave no events.
* Signals are counted, so that none that comes during a drive is overlooked.
* Cancelling the execution cancels our run: a drive under way is let go, and the next one
  notes in the store, before anything else, that the run is to be cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Final

try:
    from temporalio import activity
except ModuleNotFoundError as error:
    raise ImportError(
        "TemporalDispatcher needs temporalio: pip install 'anabranch[temporal]'"
    ) from error
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from anabranch.errors import JournalError, RunNotFound, UsageError, WorkflowDone
from anabranch.workflow.dispatch._temporal_run import Errand, Report, RunOnTemporal
from anabranch.workflow.dispatch.protocol import Done, Driver, Elsewhere, Waiting

logger = logging.getLogger("anabranch.workflow")

AT_ONCE_S: Final = 0.001  # 0 would mean that nothing is said
BEATS: Final = 3  # in the time without any after which a worker counts as dead
FIRST_DELAY_S: Final = 0.2
LONGEST_DELAY_S: Final = 30.0
# Temporal prefers the worker that has a run's history in memory. For so long it waits for
# one that may be dead; any other reads the history, which is short.
STICKY_TIMEOUT: Final = timedelta(seconds=1)
GRACE_S: Final = 2.0
# A doorbell that takes longer is lost: who rings it has other things to do.
LONGEST_RING_S: Final = 5.0
# So many workers must have found that the store has no such run. It takes minutes, for one
# that looks into the wrong store must not end the runs of all others.
ATTEMPTS_TO_FIND: Final = 20
# What people see as the workflow of a run that was cancelled before Temporal knew it.
NOT_THERE: Final = "cancelled"


class TemporalDispatcher:
    """Lets Temporal carry runs from worker to worker; the extra ``temporal``.

    A run whose worker dies is driven by another one that has a free slot, within
    ``heartbeat`` and about a second; one whose worker is told to stop, within a second.
    While Temporal itself cannot be reached, runs are let go, some seconds after
    ``heartbeat``, and they go on when it is back. Its timers are up to a second late.

    In Temporal, a run is a workflow execution whose type is the name of its workflow, and
    whose id is ``queue/run_id``. It ends as the run ends; its result is the run's status
    only. To cancel it there cancels the run; a step under way hears of it with the next
    beat. To terminate it there leaves the run undriven until it is started again.

    Args:
        target: ``host:port`` of a Temporal server, connected to at first use; or a client,
            for TLS, keys and metrics.
        queue: Name of the task queue. Workers of one queue must have the same store.
        namespace: Of Temporal's. A client has its own.
        heartbeat: Seconds without a sign of life after which a worker counts as dead: it
            must not block its event loop for so long. For each run under way three beats
            are sent in that time. It is settled when a run is started.
        recheck: Seconds after which a run that rests is driven though no doorbell was
            heard, in case one was lost.
        slots: The most runs that one worker drives at the same time.

    Raises:
        UsageError: A number is not positive.
    """

    def __init__(
        self,
        target: str | Client,
        *,
        queue: str = "anabranch",
        namespace: str = "default",
        heartbeat: float = 10.0,
        recheck: float = 3600.0,
        slots: int = 100,
    ) -> None:
        for name, value in (
            ("heartbeat", heartbeat),
            ("recheck", recheck),
            ("slots", slots),
        ):
            if not value > 0:
                raise UsageError(f"{name} must be more than 0, not {value!r}")
        self._target = target
        self._client = None if isinstance(target, str) else target
        self._connecting = asyncio.Lock()
        self._queue = queue
        self._namespace = namespace if isinstance(target, str) else target.namespace
        self._heartbeat = heartbeat
        self._recheck = recheck
        self._slots = slots

    async def start(
        self, run_id: str, *, workflow: str, not_before: float | None = None
    ) -> None:
        """See to it that a run is driven, once if it is asked for twice.

        Asked for again it is driven once more than needed, which does nothing if there is
        nothing to do. So a run that is tried again just as it ends is not overlooked.

        Raises:
            JournalError: Temporal cannot be reached, or refuses.
        """
        at = not_before or 0.0
        client = await self._connected()
        with self._reaching():
            # A new execution, or a signal to the one under way, in one transaction.
            await client.start_workflow(
                workflow,
                Errand(run_id, self._heartbeat, self._recheck, at),
                start_signal="drive_at",
                start_signal_args=[at],
                id=self._id(run_id),
                task_queue=self._queue,
                # The store knows whether a run has ended; Temporal's word may be older.
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                memo={"workflow": workflow, "run_id": run_id},
                static_summary=f"{workflow}: {run_id}",
            )

    async def wake(self, run_id: str) -> None:
        """Ring a run's doorbell. It raises nothing: a ring may be lost."""
        try:
            async with asyncio.timeout(LONGEST_RING_S):
                handle = await self._handle(run_id)
                await handle.signal(RunOnTemporal.drive_at, 0.0)
        except (JournalError, RPCError, TimeoutError) as error:
            logger.debug("the doorbell of run %r was not heard: %r", run_id, error)

    async def cancel(self, run_id: str) -> None:
        """See to it that a run whose cancellation is in the store is driven soon.

        Raises:
            JournalError: Temporal cannot be reached, or refuses.
        """
        handle = await self._handle(run_id)
        with self._reaching():
            if await _is_under_way(handle):  # else the request would get no answer
                await handle.cancel()
            else:
                await self.start(run_id, workflow=NOT_THERE)

    async def work(self, driver: Driver) -> None:
        """Have runs driven by this process, until this is cancelled.

        Then its runs are let go, and given to other workers at once.

        Raises:
            JournalError: Temporal cannot be reached, or refuses.
        """
        activities = _Activities(driver)
        client = await self._connected()
        with self._reaching():
            # A worker whose namespace is not there stays registered, and beats in vain.
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace)
            )
            worker = Worker(
                client,
                task_queue=self._queue,
                workflows=[RunOnTemporal],
                activities=[activities.drive],
                max_concurrent_activities=self._slots,
                # Else most of the time between two beats' being due would have to pass.
                max_heartbeat_throttle_interval=timedelta(seconds=self._heartbeat / BEATS),
                sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            )
            running = asyncio.create_task(worker.run())
            try:
                await asyncio.shield(running)
            finally:
                # Not by cancelling it, which it does not take well while it starts.
                stopping = asyncio.create_task(worker.shutdown())
                await _end_of(running)
                stopping.cancel()
                await _end_of(stopping)

    async def close(self) -> None:
        """Let go of the connection; a client that was given is its owner's."""
        if isinstance(self._target, str):
            self._client = None

    def _id(self, run_id: str) -> str:
        return f"{self._queue}/{run_id}"

    async def _handle(self, run_id: str) -> WorkflowHandle[RunOnTemporal, str]:
        client = await self._connected()
        return client.get_workflow_handle_for(RunOnTemporal.run, self._id(run_id))

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None:
                assert isinstance(self._target, str)
                with self._reaching():
                    self._client = await Client.connect(
                        self._target, namespace=self._namespace
                    )
            return self._client

    @contextmanager
    def _reaching(self) -> Generator[None]:
        """Say in our words that Temporal cannot be reached, or refuses."""
        try:
            yield
        except (RPCError, RuntimeError) as error:
            where = self._target if isinstance(self._target, str) else "the given client"
            said = " ".join(str(error).partition("Stack backtrace")[0].split())
            raise JournalError(
                f"Temporal ({where}, namespace {self._namespace!r}) cannot be reached, or "
                f"refuses: {said.rstrip('.')}. See that it is up, and try again"
            ) from error


class _Activities:
    """What Temporal has a worker do."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @activity.defn
    async def drive(self, run_id: str, is_cancelled: bool) -> Report:
        """Drive a run until it ends or rests; fail, if it is to be given away."""
        try:
            async with _heart_beating():
                if is_cancelled:
                    with suppress(RunNotFound, WorkflowDone):
                        await self._driver.cancel(run_id)
                driven = await self._driver.drive(run_id)
        except asyncio.CancelledError:
            why = activity.cancellation_details()
            if why is not None and why.cancel_requested:
                raise
            raise _again("the worker has let go of it", delay_s=AT_ONCE_S) from None
        except Exception as error:
            attempt = activity.info().attempt
            is_gone = isinstance(error, RunNotFound) and attempt >= ATTEMPTS_TO_FIND
            raise ApplicationError(
                str(error),
                type=type(error).__name__,
                non_retryable=is_gone,
                next_retry_delay=timedelta(seconds=_delay_s(attempt)),
            ) from error
        match driven:
            case Done(status):
                return Report(status=status)
            case Waiting(until):
                return Report(until=until)
            case Elsewhere(reason):
                raise _again(reason, delay_s=_delay_s(activity.info().attempt))


@asynccontextmanager
async def _heart_beating() -> AsyncGenerator[None]:
    timeout = activity.info().heartbeat_timeout
    assert timeout is not None

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(timeout.total_seconds() / BEATS)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await _end_of(beating)


async def _end_of(task: asyncio.Task[None]) -> None:
    """Wait for a task's end, even if the wait is cancelled meanwhile.

    A loop that closes cancels all tasks at once, so also those by which a worker ends in
    good order: it would wait for them for ever, and is cancelled once more.
    """
    while not task.done():
        with suppress(asyncio.CancelledError):
            if task.cancelling():
                await asyncio.wait([task], timeout=GRACE_S)
                task.cancel()
            else:
                await asyncio.wait([task])


async def _is_under_way(handle: WorkflowHandle[RunOnTemporal, str]) -> bool:
    try:
        shown = await handle.describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return shown.status == WorkflowExecutionStatus.RUNNING


def _again(reason: str, *, delay_s: float) -> ApplicationError:
    """Have Temporal give the run to a worker again; nothing is wrong with it."""
    return ApplicationError(
        reason,
        type="Elsewhere",
        next_retry_delay=timedelta(seconds=delay_s),
        category=ApplicationErrorCategory.BENIGN,
    )


def _delay_s(attempt: int) -> float:
    """Seconds until the next attempt: more and more, and not all runs at once."""
    longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 30))
    return longest_s * random.uniform(0.5, 1.0)
