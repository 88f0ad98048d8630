"""What the stored runs that one process drives have in common.

Their leases are renewed together, and what is sent to them is brought to them. Both go on
for as long as there is a run. A process that cannot renew its leases stops its runs when
they end, since others may drive them from then on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from anabranch.errors import Fenced, JournalError
from anabranch.workflow.stores.protocol import Store

if TYPE_CHECKING:
    from anabranch.workflow.run import Run

LEASE_S: Final = 30.0

logger = logging.getLogger("anabranch.workflow")
_desks: WeakKeyDictionary[Store, Desk] = WeakKeyDictionary()


class Desk:
    """The runs of one store that are driven on one event loop.

    Attributes:
        owner: A name for who drives them.
        lease: Seconds that each renewal of their leases lasts.
    """

    def __init__(self, store: Store) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.lease = LEASE_S
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self._runs: dict[str, Run] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, run: Run) -> None:
        """Look after a run that was opened, until it ends."""
        earlier = self._runs.get(run.id)
        self._runs[run.id] = run
        run.desk = self
        if earlier is not None:
            earlier.break_off(_taken_over(run.id))
        if not self._tasks:
            self._tasks = [
                self.loop.create_task(self._renew(), name="leases"),
                self.loop.create_task(self._listen(), name="messages"),
            ]

    @property
    def is_ending(self) -> bool:
        """Whether somebody cancels every task of the loop, as ``asyncio.run`` does."""
        return any(task.cancelling() for task in self._tasks)

    def leave(self, run: Run) -> None:
        """A run has ended, or is driven here no longer."""
        if self._runs.get(run.id) is run:
            del self._runs[run.id]
        if not self._runs:
            for task in self._tasks:
                task.cancel()
            self._tasks = []

    async def _renew(self) -> None:
        renewed_at = self.loop.time()
        while True:
            await asyncio.sleep(self.lease / 3)
            epochs = {
                run_id: run.recorder.epoch
                for run_id, run in self._runs.items()
                if run.recorder is not None
            }
            asked_at = self.loop.time()
            try:
                lost = await self.store.renew(epochs, lease=self.lease)
            except JournalError as error:
                logger.warning("the leases of runs cannot be renewed: %s", error)
                if self.loop.time() - renewed_at >= self.lease:
                    self._stop(set(epochs), error)
                continue
            renewed_at = asked_at
            self._stop(lost, None)

    def _stop(self, run_ids: set[str], error: Exception | None) -> None:
        for run_id in run_ids:
            run = self._runs.get(run_id)
            if run is not None:
                run.break_off(error or _taken_over(run_id))

    async def _listen(self) -> None:
        while True:
            try:
                async for named in self.store.changes():
                    for run_id in named or tuple(self._runs):
                        await self._bring(run_id)
            except JournalError as error:
                logger.warning("what is sent to runs cannot be read: %s", error)
            await asyncio.sleep(1.0)

    async def _bring(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        recorder = None if run is None else run.recorder
        if recorder is not None:
            recorder.receive(await self.store.messages(run_id))


def desk_of(store: Store, *, lease: float | None = None) -> Desk:
    """Where runs of a store are looked after on the running loop.

    Args:
        store: Which store.
        lease: Seconds that each renewal lasts, from now on.
    """
    desk = _desks.get(store)
    if desk is None or desk.loop is not asyncio.get_running_loop():
        desk = _desks[store] = Desk(store)
    if lease is not None:
        desk.lease = lease
    return desk


def _taken_over(run_id: str) -> Fenced:
    return Fenced(
        f"run {run_id!r} is driven by another worker now, which has opened its journal: "
        "follow it there, or open it again to take it back",
        run_id=run_id,
    )
