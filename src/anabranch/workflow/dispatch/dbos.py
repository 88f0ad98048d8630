"""Runs whose number and pace are governed by a queue of DBOS on PostgreSQL.

Theory of operation. The store says which runs want to be driven; the queue says when, and
how many at once over all workers.

* Every worker looks into the store for runs that are due and that nobody drives: new ones,
  those that were sent something, those whose time has come, and those whose worker has
  died, as their lease has ended. For each it puts a *ticket* into the queue.
* DBOS gives a ticket to a worker with a free slot, as the limits of the queue allow. The
  worker drives the run until it ends or rests, and the ticket has ended. So a run that
  waits holds no slot and no memory.
* The queue is kept short: it holds what one worker could take at once. All others stay in
  the store, where they cost nothing.
* DBOS by itself does nothing about the tickets of a worker that died (that is the business
  of DBOS Conductor, or of a private call). Nor need it: when the lease of the run ends, a
  new ticket is made, and the dead one is cancelled, so that it takes up no slot.

DBOS runs in threads of its own. What is driven is driven on the loop that called
``work``, outside of DBOS's context.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import copy_context
from os import PathLike
from typing import Any, Final

from anabranch.errors import JournalError, UsageError
from anabranch.workflow.dispatch._dbos_tickets import Tickets
from anabranch.workflow.dispatch.local import LOOK_EVERY_S, RETRY_S
from anabranch.workflow.dispatch.protocol import Done, Driven, Driver, Elsewhere, Waiting
from anabranch.workflow.stores.places import store_at
from anabranch.workflow.stores.protocol import RunInfo, Store

# Who has leased a run that a ticket was made for: nobody drives it yet.
QUEUE: Final = "queue"

logger = logging.getLogger("anabranch.workflow")


class DBOSDispatcher:
    """Lets a queue of DBOS say how many runs are driven at once; the extra ``dbos``.

    Only workers need it: a run that is in the store is found there, so whoever starts,
    answers or cancels runs has nothing to do with DBOS. While no worker is up, nothing is
    put into the queue.

    A run whose worker dies is put into the queue when its lease has ended: with a worker's
    lease of 30 s, half a minute later at most. If the dead one held the last slot of
    ``concurrency``, that is free ``lease`` seconds later still. A run whose worker is told
    to stop is put into the queue at once.

    In DBOS, each drive is a workflow ``anabranch.drive`` whose id is
    ``queue/run_id/epoch/...``; it is deleted a day after it was made. To cancel it there
    does not cancel the run: one that waits for its turn is put into the queue again, one
    that is driven goes on. Cancel the run instead.

    DBOS can be launched once in a process, so one dispatcher works in each, and none where
    DBOS is used for something else.

    Args:
        database_url: PostgreSQL database for DBOS's tables, which are made if they are not
            there. It may be the store's.
        store: Where the runs are: as for ``Workflow(durable=...)``.
        queue: Name of the queue. Workers of one queue must have the same store and the
            same workflows.
        slots: The most runs that one worker drives at the same time.
        concurrency: The most that all workers of the queue drive.
        rate: ``(10, 60.0)`` for at most ten drives begun in any 60 seconds. A run is
            driven once when it is new, and again whenever it is woken.
        poll: Seconds between two looks of a worker into the queue.
        lease: Seconds after which a run is put into the queue again if its ticket was lost
            before anybody drove it.

    The limits are the queue's: those of the worker that began last hold for all.

    Raises:
        UsageError: A number is not positive, or the database is none of PostgreSQL's.
    """

    def __init__(
        self,
        database_url: str,
        store: str | PathLike[str] | Store,
        *,
        queue: str = "anabranch",
        slots: int = 100,
        concurrency: int | None = None,
        rate: tuple[int, float] | None = None,
        poll: float = 0.5,
        lease: float = 10.0,
    ) -> None:
        for name, value in (
            ("slots", slots),
            ("concurrency", concurrency),
            ("rate", None if rate is None else min(rate)),
            ("poll", poll),
            ("lease", lease),
        ):
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be more than 0, not {value!r}")
        if not database_url.startswith(("postgresql://", "postgres://")):
            raise UsageError(
                "DBOS shares queues between processes on PostgreSQL only: give a URL that "
                f"begins with postgresql://, not {database_url.partition('://')[0]}://"
            )
        self.store = store_at(store)
        self._lease = lease
        self._slots = slots
        self._tickets = Tickets(
            database_url,
            queue,
            slots=slots,
            concurrency=concurrency,
            rate=rate,
            poll=poll,
        )

    async def start(
        self, run_id: str, *, workflow: str, not_before: float | None = None
    ) -> None:
        """Nothing: that it is in the store is enough."""

    async def wake(self, run_id: str) -> None:
        """Nothing: what was sent has rung already."""

    async def cancel(self, run_id: str) -> None:
        """Nothing: what was sent has rung already."""

    async def close(self) -> None:
        """Nothing: the store is not ours."""

    async def work(self, driver: Driver) -> None:
        """Have runs driven by this process, until this is cancelled.

        Then its runs are let go, and DBOS is stopped in this process: its threads and
        connections are gone when this returns.

        Raises:
            JournalError: DBOS's database cannot be reached at the beginning. Later, it is
                tried again.
            UsageError: DBOS is in use in this process.
        """
        await _to_its_end(self._work(driver))

    async def _work(self, driver: Driver) -> None:
        shift = _Shift(driver, self.store)
        opening = asyncio.create_task(asyncio.to_thread(self._tickets.open, shift.take))
        try:
            await asyncio.wait([opening])
            opening.result()
            await self._look(driver, shift)
        finally:
            await asyncio.wait([opening])  # it goes on, whoever waits for it
            if opening.exception() is None:
                shift.is_over = True
                closing = asyncio.create_task(asyncio.to_thread(self._tickets.close))
                await shift.let_go()
                await closing

    async def _look(self, driver: Driver, shift: _Shift) -> None:
        """Put tickets for runs that are due into the queue."""
        listening = asyncio.create_task(self._listen(shift.bell), name="changes")
        loop = asyncio.get_running_loop()
        tidied_at = float("-inf")
        try:
            while True:
                shift.bell.clear()
                pause_s = min(LOOK_EVERY_S, self._lease)
                try:
                    if loop.time() - tidied_at >= self._lease:
                        tidied_at = loop.time()
                        await self._tickets.tidy(self._is_driven, lease=self._lease)
                    if room := self._slots - await self._tickets.queued():
                        await self._put(driver, room)
                        due_s = await self.store.next_due(driver.workflows)
                        pause_s = min(pause_s, pause_s if due_s is None else due_s)
                except JournalError as error:
                    logger.warning("runs that are due cannot be queued: %s", error)
                    pause_s = RETRY_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await shift.bell.wait()
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    async def _put(self, driver: Driver, limit: int) -> None:
        claimed = await self.store.claim(
            driver.workflows, owner=QUEUE, lease=self._lease, limit=limit
        )
        infos = [await self.store.info(run_id) for run_id in claimed]
        await self._tickets.put([(info.run_id, info.epoch) for info in infos if info])

    async def _is_driven(self, run_id: str) -> bool:
        info = await self.store.info(run_id)
        return info is not None and info.owner != QUEUE and _is_leased(info)

    async def _listen(self, bell: asyncio.Event) -> None:
        while True:
            try:
                async for _ in self.store.changes():
                    bell.set()
            except JournalError as error:
                logger.warning("changes of runs cannot be seen: %s", error)
            await asyncio.sleep(RETRY_S)


class _Shift:
    """What one call of ``work`` drives.

    Attributes:
        bell: Rung when tickets may be missing in the queue.
        drives: Those under way.
        is_over: Tickets that come now are left alone.
    """

    def __init__(self, driver: Driver, store: Store) -> None:
        self.bell = asyncio.Event()
        self.drives: set[asyncio.Task[Driven]] = set()
        self.is_over = False
        self._driver = driver
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()

    async def take(self, run_id: str, epoch: int) -> str:
        """Called by DBOS on a loop of its own: drive a run here, in our context."""
        drive = self._drive(run_id, epoch)
        context = self._context.copy()
        future = context.run(asyncio.run_coroutine_threadsafe, drive, self._loop)
        return await asyncio.wrap_future(future)

    async def let_go(self) -> None:
        """Cancel what is under way, and wait for its end."""
        for drive in self.drives:
            drive.cancel()
        if self.drives:
            await asyncio.wait(self.drives)

    async def _drive(self, run_id: str, epoch: int) -> str:
        """Drive a run, if nobody has since the ticket was made; how that has ended.

        It raises nothing: for DBOS, the ticket has done its work.
        """
        try:
            info = await self._store.info(run_id)
            if self.is_over or info is None or info.epoch != epoch:
                return "left alone"
            drive = asyncio.create_task(self._driver.drive(run_id))
            self.drives.add(drive)
            drive.add_done_callback(self.drives.discard)
            self.bell.set()
            await asyncio.wait([drive])
            return "let go" if drive.cancelled() else _in_words(run_id, drive.result())
        except JournalError as error:
            # It is put into the queue again when its lease has ended.
            logger.warning("run %s cannot be driven now: %s", run_id, error)
            return f"failed: {error}"
        except Exception as error:
            logger.exception("run %s could not be driven", run_id)
            return f"failed: {error!r}"
        finally:
            self.bell.set()


def _in_words(run_id: str, driven: Driven) -> str:
    match driven:
        case Done(status):
            return status
        case Waiting():
            return "waiting"
        case Elsewhere(reason):
            logger.warning("run %s is not driven here: %s", run_id, reason)
            return f"not driven here: {reason}"


def _is_leased(info: RunInfo) -> bool:
    # By this machine's clock. If that is wrong, tickets of the living may be cancelled, for
    # which their runs go on, though the queue counts too few.
    return info.leased_until > time.time()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Run this in a task, which is cancelled once and then waited for.

    A second cancellation would interrupt its tidying up.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    finally:
        task.cancel()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
