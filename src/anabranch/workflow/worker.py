"""Workers: processes that drive runs which are in a store."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final
from uuid import uuid4

from anabranch.errors import Fenced, RunNotFound, UsageError, VersionMismatch
from anabranch.workflow.desk import LEASE_S, desk_of
from anabranch.workflow.dispatch.local import LocalDispatcher
from anabranch.workflow.dispatch.protocol import (
    Dispatcher,
    Done,
    Driven,
    Elsewhere,
    Waiting,
)
from anabranch.workflow.engine import engine_of
from anabranch.workflow.opening import take_up
from anabranch.workflow.recorder import CANCEL
from anabranch.workflow.run import Run
from anabranch.workflow.schedule import Schedule
from anabranch.workflow.standing import rests, standing
from anabranch.workflow.stores.protocol import FINAL, Store
from anabranch.workflow.workflow import Workflow

__all__ = ["Worker"]

KEEP_S: Final = 1.0


class Worker:
    """Drives the runs of workflows, beside any number of other workers.

    A run that waits for an event or a time is put back: it holds no memory here. When it
    is due, some worker takes it up where its journal ends.

    ::

        worker = Worker(Invoice(durable="runs.db"), Letter(durable="runs.db"))
        await worker.work()  # until it is cancelled

    Args:
        *workflows: Whose runs; all with the same ``durable``.
        dispatcher: Brings the runs; by default they are claimed from the store.
        keep: Seconds: a run whose next time comes so soon is not put back before.
        lease: Seconds after which others take over the runs of a worker that is gone.
    """

    def __init__(
        self,
        *workflows: Workflow,
        dispatcher: Dispatcher | None = None,
        keep: float = KEEP_S,
        lease: float = LEASE_S,
    ) -> None:
        engines = [engine_of(workflow) for workflow in workflows]
        self._engines = {engine.name: engine for engine in engines}
        stores = {id(engine.settings.store): engine.settings.store for engine in engines}
        store = next(iter(stores.values()), None)
        if store is None or len(stores) != 1:
            raise UsageError(
                "a worker needs workflows that have one store, the same for all: make each "
                "with Workflow(durable=...)"
            )
        if len(self._engines) < len(engines):
            raise UsageError(
                "two of a worker's workflows have the same name: give one of them another "
                "with workflow_name=..."
            )
        for engine in engines:
            engine.check_once()
        self.store: Store = store
        self.dispatcher: Dispatcher = dispatcher or LocalDispatcher(store, lease=lease)
        for workflow in workflows:
            schedule = engine_of(Schedule(workflow, store, dispatcher))
            self._engines[schedule.name] = schedule
        self._keep_s = keep
        self._lease_s = lease

    @property
    def workflows(self) -> Collection[str]:
        """The names of its workflows."""
        return self._engines.keys()

    async def work(self) -> None:
        """Drive runs until this is cancelled; those under way are then let go.

        Raises:
            JournalError: Runs cannot be found any more.
        """
        await self.dispatcher.work(self)

    async def cancel(self, run_id: str) -> None:
        """Note that a run is to be cancelled; it ends when it is driven the next time."""
        await self.store.send(run_id, f"cancel {uuid4().hex}", CANCEL)

    async def drive(self, run_id: str) -> Driven:
        """Drive a run until it ends or rests.

        Raises:
            RunNotFound: The store has none of this name.
            JournalError: The store fails: to be called again later.
        """
        while True:
            # To the end also if this is cancelled: who has opened a run must let it go.
            taking = asyncio.ensure_future(self._take(run_id))
            try:
                taken = await asyncio.shield(taking)
            except asyncio.CancelledError:
                await asyncio.wait([taking])
                if not taking.cancelled() and not taking.exception():
                    taken = taking.result()
                    if isinstance(taken, Run):
                        await taken.let_go()
                raise
            if not isinstance(taken, Run):
                return taken
            driven = await self._drive(taken)
            if driven is not None:
                return driven

    async def _take(self, run_id: str) -> Run | Driven:
        """Take a run up; or why not."""
        info = await self.store.info(run_id)
        if info is None:
            raise RunNotFound(
                f"there is no run {run_id!r} in the store: it was purged, or never created",
                run_id=run_id,
            )
        if info.status in FINAL:
            return Done(info.status)
        engine = self._engines.get(info.workflow)
        if engine is None:
            return Elsewhere(f"it is of workflow {info.workflow}, which is not served here")
        run = engine.stored(run_id)
        run.rested = asyncio.Event()
        try:
            await take_up(run, desk_of(self.store, lease=self._lease_s))
        except (VersionMismatch, Fenced) as error:
            await run.let_go()
            return Elsewhere(str(error))
        except BaseException:
            await run.let_go()
            raise
        return run

    async def _drive(self, run: Run) -> Driven | None:
        """Drive it until it ends or rests; ``None`` if it was sent something then."""
        assert run.rested is not None
        try:
            return await self._until_rest(run, run.rested)
        except Fenced as error:
            return Elsewhere(str(error))
        finally:
            if not run.done:
                await run.let_go()

    async def _until_rest(self, run: Run, rested: asyncio.Event) -> Driven | None:
        ended = asyncio.ensure_future(run.settled())
        resting = asyncio.ensure_future(rested.wait())
        try:
            while True:
                await asyncio.wait((ended, resting), return_when="FIRST_COMPLETED")
                if ended.done():
                    return _ended(run)
                rested.clear()
                if (recorder := run.recorder) is not None and self._may_rest(run):
                    due_at, epoch = recorder.standing().due_at, recorder.epoch
                    # From here on it does nothing more, so nothing can come in between.
                    run.break_off(asyncio.CancelledError("the run rests"))
                    await run.settled()
                    is_free = await self.store.release(run.id, epoch=epoch, due_at=due_at)
                    return Waiting(due_at) if is_free else None
                resting = asyncio.ensure_future(rested.wait())
        finally:
            ended.cancel()
            resting.cancel()

    def _may_rest(self, run: Run) -> bool:
        recorder = run.recorder
        if recorder is None or recorder.is_busy or not rests(run.state):
            return False
        due_at = standing(run.state).due_at
        return due_at is None or due_at - run.now() > self._keep_s


def _ended(run: Run) -> Driven:
    if run.broken is not None:
        raise run.broken
    run.error()  # it is in the store, so it counts as looked at
    assert run.outcome is not None
    return Done(run.outcome.end)
