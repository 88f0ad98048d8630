"""Runs driven by any processes that share a store: no server but the store's own."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from anabranch.errors import JournalError, UsageError
from anabranch.workflow.dispatch.protocol import Driver, Elsewhere
from anabranch.workflow.stores.protocol import Store

# How long runs that are due may go unnoticed if every other sign of them is lost.
LOOK_EVERY_S: Final = 5.0
RETRY_S: Final = 1.0

logger = logging.getLogger("anabranch.workflow")


class LocalDispatcher:
    """Lets this process claim runs that are due from the store, beside any others.

    Runs whose worker has died are claimed when its lease has ended.

    Args:
        store: Where the runs are.
        slots: How many runs to drive at once.
        lease: Seconds after which the runs of a process that died are claimed by others.
    """

    def __init__(self, store: Store, *, slots: int = 100, lease: float = 30.0) -> None:
        if slots < 1 or not lease > 0:
            raise UsageError(
                f"slots must be at least 1 and lease more than 0 s, not {slots!r} and "
                f"{lease!r}"
            )
        self.store = store
        self.slots = slots
        self.lease = lease

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
        bell = asyncio.Event()
        running: set[asyncio.Task[None]] = set()
        listening = asyncio.create_task(self._listen(bell), name="changes")

        def ended(task: asyncio.Task[None]) -> None:
            running.discard(task)
            bell.set()

        try:
            while True:
                bell.clear()
                pause_s = LOOK_EVERY_S
                try:
                    free = self.slots - len(running)
                    for run_id in await self._claim(driver, free) if free else ():
                        task = asyncio.create_task(self._drive(driver, run_id))
                        running.add(task)
                        task.add_done_callback(ended)
                    if len(running) < self.slots:
                        due_s = await self.store.next_due(driver.workflows)
                        pause_s = min(pause_s, pause_s if due_s is None else due_s)
                except JournalError as error:
                    logger.warning("runs that are due cannot be found: %s", error)
                    pause_s = RETRY_S
                await _wait(bell, pause_s)
        finally:
            for task in (listening, *running):
                task.cancel()
            await asyncio.wait([listening, *running])

    async def _claim(self, driver: Driver, limit: int) -> list[str]:
        return await self.store.claim(
            driver.workflows, owner="claimed", lease=self.lease, limit=limit
        )

    async def _drive(self, driver: Driver, run_id: str) -> None:
        try:
            driven = await driver.drive(run_id)
        except JournalError as error:
            # It is claimed again when its lease has ended.
            logger.warning("run %s cannot be driven now: %s", run_id, error)
        except Exception:
            logger.exception("run %s could not be driven", run_id)
        else:
            if isinstance(driven, Elsewhere):
                logger.warning("run %s is not driven here: %s", run_id, driven.reason)

    async def _listen(self, bell: asyncio.Event) -> None:
        while True:
            try:
                async for _ in self.store.changes():
                    bell.set()
            except JournalError as error:
                logger.warning("changes of runs cannot be seen: %s", error)
            await asyncio.sleep(RETRY_S)


async def _wait(bell: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        pass
