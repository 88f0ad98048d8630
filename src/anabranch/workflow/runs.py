"""Runs in a store, seen and steered from any process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from os import PathLike
from typing import Any, Final
from uuid import uuid4

from anabranch.clock import wall_time
from anabranch.errors import (
    Fenced,
    JournalConflict,
    RunNotFound,
    UsageError,
    WorkflowCancelledByUser,
    WorkflowDone,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
)
from anabranch.workflow.codec import Codec, dumps
from anabranch.workflow.context.context import checked_run_id
from anabranch.workflow.context.serializers import JsonSerializer
from anabranch.workflow.dispatch.protocol import Dispatcher
from anabranch.workflow.engine import Engine, engine_of
from anabranch.workflow.events import (
    Event,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
)
from anabranch.workflow.facts import Cancelled, Retried
from anabranch.workflow.forking import forked
from anabranch.workflow.history import (
    Entry,
    read_entry,
    written_begin,
    written_history,
)
from anabranch.workflow.marks import IsWorkflow
from anabranch.workflow.opening import new_run
from anabranch.workflow.recorder import CANCEL, read_event, written_event, written_message
from anabranch.workflow.schedule import PREFIX, Schedule, planned
from anabranch.workflow.stores.places import store_at
from anabranch.workflow.stores.protocol import (
    FINAL,
    Commit,
    RunInfo,
    Status,
    Store,
)
from anabranch.workflow.workflow import Workflow

__all__ = ["Runs"]

LOOK_EVERY_S: Final = 0.05


class Runs:
    """The runs of a store: to start, watch, answer, cancel, repeat and forget them.

    Nothing is driven here: that is done by a :class:`~anabranch.workflow.Worker`, or by
    ``Workflow.run(run_id=...)``, in this process or another. What a method has returned
    from is in the store.

    Args:
        store: The path of an SQLite file, the URL of a PostgreSQL database, or a store.
        *workflows: Those whose runs are started or forked here, or whose events need a
            serializer of their own.
        dispatcher: The workers', if they do not claim runs from the store.
    """

    def __init__(
        self,
        store: str | PathLike[str] | Store,
        *workflows: IsWorkflow,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.store = store_at(store)
        self._engines = {engine.name: engine for engine in map(engine_of, workflows)}
        self._dispatcher = dispatcher

    # ------------------------------------------------------------------ beginning

    async def start(
        self,
        workflow: IsWorkflow,
        start_event: Any = None,
        *,
        run_id: str | None = None,
        at: datetime | None = None,
        delay: float = 0.0,
        **kwargs: Any,
    ) -> str:
        """Have a run driven by workers; its name.

        Asked for twice with one ``run_id``, there is one run, which begins as it was asked
        for first.

        Args:
            workflow: Whose run.
            start_event: What it begins with; default one made of the other arguments.
            run_id: Its name; default a new one.
            at: When it begins.
            delay: Seconds after which it begins.
            **kwargs: The fields of the start event.

        Raises:
            WorkflowValidationError: The workflow is not well-formed.
            WorkflowRuntimeError: The start event cannot be made.
            ContextSerdeError: It cannot be written.
        """
        engine = engine_of(workflow)
        engine.check_once()
        self._engines.setdefault(engine.name, engine)
        event = engine.start_event(start_event, kwargs)
        name = checked_run_id(run_id)
        due = _due(at, delay)
        await self.store.create(new_run(engine, name, event, due_at=due))
        await self._dispatch(name, engine.name, due)
        return name

    async def _dispatch(self, run_id: str, workflow: str, due: float | None) -> None:
        if self._dispatcher is not None:
            not_before = due or None
            await self._dispatcher.start(run_id, workflow=workflow, not_before=not_before)

    async def schedule(
        self,
        workflow: Workflow,
        name: str,
        cron: str,
        start_event: Any = None,
        *,
        timezone: str = "UTC",
        **kwargs: Any,
    ) -> None:
        """Have runs of a workflow started at times, by its workers.

        Each run is named after the schedule and its time, and no time is served twice. A
        time at which no worker was there is served when there is one; of several, the
        first. A schedule of this name that is there is replaced, unless it is the same.

        Args:
            workflow: Whose runs.
            name: The schedule's.
            cron: Five fields: minute, hour, day, month, day of the week.
            start_event: What the runs begin with; default one made of the other arguments.
            timezone: Where the fields are read.
            **kwargs: The fields of the start event.

        Raises:
            UsageError: The fields say no time.
            ImportError: The extra ``schedule`` is not installed.
        """
        event = engine_of(workflow).start_event(start_event, kwargs)
        plan = planned(name, cron, timezone, event)
        scheduling = Schedule(workflow, self.store)
        run_id = PREFIX + name
        info = await self.store.info(run_id)
        if info is not None:
            new = written_begin(engine_of(scheduling).codec, plan)
            begin = (await self.store.history(run_id)).begin
            if info.status not in FINAL and begin == new:
                return
            await self.store.purge(run_id)
        await self.start(scheduling, plan, run_id=run_id)

    async def unschedule(self, name: str) -> bool:
        """End a schedule; runs that it has started go on. False if there is none."""
        return await self.store.purge(PREFIX + name)

    # -------------------------------------------------------------------- looking

    async def get(self, run_id: str) -> RunInfo:
        """How a run stands.

        Raises:
            RunNotFound: There is none of this name.
        """
        info = await self.store.info(run_id)
        if info is None:
            raise RunNotFound(
                f"there is no run {run_id!r} in the store: see which there are with "
                "`anabranch runs list`",
                run_id=run_id,
            )
        return info

    async def find(
        self,
        *,
        statuses: Collection[Status] = (),
        workflow: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        """Runs, the latest first; ``after`` is the last one of the page before."""
        return await self.store.runs(
            statuses=statuses, workflow=workflow, after=after, limit=limit
        )

    async def result(self, run_id: str) -> Any:
        """What a run gives, as soon as it has ended.

        Raises:
            RunNotFound: There is none of this name.
            WorkflowCancelledByUser: It was cancelled.
            WorkflowTimeoutError: It took longer than its workflow's ``timeout``.
            Exception: Why it has failed.
        """
        async for _ in self.events(run_id):
            pass
        info = await self.get(run_id)
        assert info.result is not None
        event = read_event(self._codec(info.workflow), info.result)
        match info.status:
            case "cancelled":
                raise WorkflowCancelledByUser(f"run {run_id} was cancelled")
            case "timed out":
                raise WorkflowTimeoutError(
                    f"run {run_id} took longer than its workflow's timeout"
                )
            case "failed":
                error = event.exception if isinstance(event, WorkflowFailedEvent) else None
                raise error or WorkflowRuntimeError(f"run {run_id} failed: {info.note}")
            case _:
                return event.result if type(event) is StopEvent else event

    async def events(
        self, run_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncIterator[tuple[int, Event]]:
        """What a run publishes, each event once and with its number, from 1.

        Args:
            run_id: Which run.
            after: Begin behind the event of this number.
            follow: Whether to go on until the run has ended, or to stop with what is there.

        Raises:
            RunNotFound: There is none of this name.
        """
        codec = self._codec((await self.get(run_id)).workflow)
        while True:
            info = await self.get(run_id)
            for number, written in await self.store.events(run_id, after=after):
                after = number
                yield number, read_event(codec, written)
            if after < info.published:
                continue
            if not follow or info.status in FINAL:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def history(self, run_id: str) -> list[Entry]:
        """What has happened in a run, as far back as it is kept.

        Raises:
            RunNotFound: There is none of this name.
        """
        history = await self.store.history(run_id)
        first = 0 if history.snapshot is None else history.snapshot.position
        return [read_entry(first + n, fact) for n, fact in enumerate(history.facts)]

    async def export(self, run_id: str) -> str:
        """The history of a run as JSON, for :func:`anabranch.workflow.testing.replay`.

        Raises:
            RunNotFound: There is none of this name.
        """
        return written_history(await self.store.history(run_id))

    # ------------------------------------------------------------------- steering

    async def send(
        self,
        run_id: str,
        event: Event,
        *,
        step: str | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Send an event into a run, whether anybody drives it now or not.

        It goes to all steps that take it and all who wait for it. If nobody does yet, it is
        kept for the first who asks for it.

        Args:
            run_id: Which run.
            event: What to send.
            step: Only for this step.
            message_id: A name for it: sent twice by mistake, it counts once.

        Returns:
            Whether it counts; false if there was a message of this id.

        Raises:
            RunNotFound: There is no run of this name.
            WorkflowDone: It has ended.
        """
        info = await self.get(run_id)
        body = written_message(self._codec(info.workflow), event, step)
        counts = await self.store.send(run_id, message_id or uuid4().hex, body)
        if self._dispatcher is not None:
            await self._dispatcher.wake(run_id)
        return counts

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run; whether it has ended when this returns.

        One that is driven by another process ends when that has seen it, which takes an
        instant; one whose process has died, when it is taken up again.

        Raises:
            RunNotFound: There is none of this name.
        """
        try:
            await self.store.send(run_id, f"cancel {uuid4().hex}", CANCEL)
        except WorkflowDone:
            return True
        if self._dispatcher is not None:
            await self._dispatcher.cancel(run_id)
            return False
        info = await self.get(run_id)
        if info.leased_until > wall_time() and info.owner:
            return False
        return await self._end(run_id)

    async def _end(self, run_id: str) -> bool:
        """End a run that nobody drives, which needs none of its code."""
        opened = await self.store.open(run_id, owner="cancel", lease=5.0)
        if opened.info.status in FINAL:
            return True
        event = WorkflowCancelledEvent()
        codec = self._codec(opened.info.workflow)
        commit = Commit(
            epoch=opened.info.epoch,
            position=opened.info.position,
            facts=[_bare(codec, Cancelled(wall_time()))],
            published=[written_event(codec, event)],
            taken=[message.number for message in opened.messages],
            status="cancelled",
            due_at=None,
            result=written_event(codec, event),
        )
        try:
            await self.store.commit(run_id, commit)
        except Fenced:
            return False
        return True

    async def retry(self, run_id: str) -> None:
        """Let a run that has ended without a result go on where it was.

        What had failed is tried again, once at least; what was under way is begun anew; its
        time begins anew.

        Raises:
            RunNotFound: There is none of this name.
            UsageError: It goes on, or has given a result.
        """
        info = await self.get(run_id)
        if info.status not in FINAL or info.status == "completed":
            raise UsageError(
                f"run {run_id!r} is {info.status}: only one that failed, was cancelled or "
                "timed out can be retried; to repeat a part of another, fork it"
            )
        commit = Commit(
            epoch=info.epoch,
            position=info.position,
            facts=[_bare(self._codec(info.workflow), Retried(wall_time()))],
            reopens=True,
        )
        try:
            await self.store.commit(run_id, commit)
        except JournalConflict:
            return  # somebody else has done the same
        await self._dispatch(run_id, info.workflow, None)

    async def fork(
        self,
        run_id: str,
        *,
        at: int,
        new_id: str | None = None,
        event: Event | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> str:
        """Begin another run from a point of this one; its name.

        The new run is as the old one was just before that point. What was under way then is
        begun anew; what had ended is not. The old run is not touched.

        Args:
            run_id: The run to fork; it may go on, or have ended.
            at: The position of an entry of its :meth:`history`. If a step ended there, the
                new run begins with that step.
            new_id: A name for the new run.
            event: What the step at ``at`` is called with, in the place of what it was.
            state: Changes of the shared state: values by dotted paths.

        Raises:
            RunNotFound: There is no run of this name.
            UsageError: There is no such point, or no step that could take the event.
            VersionMismatch: The journal cannot be read with the code as it is.
        """
        history = await self.store.history(run_id, upto=at + 1)
        workflow = history.info.workflow
        codec = self._engine(workflow).codec
        name = checked_run_id(new_id)
        new = forked(history, codec, at=at, new_id=name, event=event, state=state or {})
        created = await self.store.create(new)
        if not created:
            raise UsageError(f"there is a run {name!r} already: give the fork another name")
        await self._dispatch(name, workflow, None)
        return name

    async def purge(
        self,
        run_id: str | None = None,
        *,
        older_than: float | None = None,
        statuses: Collection[Status] = FINAL,
    ) -> int:
        """Forget a run, or all that ended before some time; how many were forgotten.

        Args:
            run_id: Which run, whatever it does.
            older_than: In the place of a run: seconds since anything happened to them.
            statuses: In the place of a run: only those that stand so.

        Raises:
            UsageError: Neither or both were given.
        """
        if (run_id is None) == (older_than is None):
            raise UsageError("purge needs a run_id, or older_than=seconds, and not both")
        if run_id is not None:
            return int(await self.store.purge(run_id))
        before = wall_time() - (older_than or 0.0)
        purged = 0
        while found := await self.store.runs(
            statuses=statuses, updated_before=before, limit=200
        ):
            for info in found:
                purged += await self.store.purge(info.run_id)
        return purged

    # ------------------------------------------------------------------- helpers

    def _engine(self, workflow: str) -> Engine:
        engine = self._engines.get(workflow)
        if engine is None:
            known = ", ".join(self._engines) or "none"
            raise UsageError(
                f"this needs workflow {workflow}, and Runs was given {known}: pass it as "
                "Runs(store, TheWorkflow())"
            )
        return engine

    def _codec(self, workflow: str) -> Codec:
        engine = self._engines.get(workflow)
        return Codec(JsonSerializer()) if engine is None else engine.codec


def _bare(codec: Codec, fact: Cancelled | Retried) -> bytes:
    """An entry that concerns the whole run."""
    return dumps({"fact": codec.write_fact(fact)})


def _due(at: datetime | None, delay: float) -> float:
    if at is None:
        return wall_time() + delay if delay > 0 else 0.0
    if delay:
        raise UsageError("a run begins at a time or after a delay: give one of them")
    if at.tzinfo is None:
        raise UsageError(
            f"{at} has no time zone, so it may be any instant of a day: give one, for "
            "example datetime.now(UTC) + timedelta(hours=1)"
        )
    return at.timestamp()
