"""Beginning a run in a store, or taking it up where its journal ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from anabranch.errors import JournalError, VersionMismatch
from anabranch.workflow.codec import Codec, dumps, loads
from anabranch.workflow.desk import Desk, desk_of
from anabranch.workflow.events import Event
from anabranch.workflow.facts import Adopted, Ended, Publish
from anabranch.workflow.history import (
    Reading,
    read_begin,
    written_begin,
    written_state,
)
from anabranch.workflow.machine import Machine
from anabranch.workflow.recorder import Recorder
from anabranch.workflow.run import Run
from anabranch.workflow.state import RunState
from anabranch.workflow.stores.protocol import NewRun, Opened, Store
from anabranch.workflow.versions import Shape, adopt, migrate, migration_of

if TYPE_CHECKING:
    from anabranch.workflow.engine import Engine


def new_run(
    engine: Engine,
    run_id: str,
    start: Event,
    *,
    store: Any = None,
    due_at: float | None,
) -> NewRun:
    """A run that is to be put into a store.

    Raises:
        ContextSerdeError: Its start event or state cannot be written.
    """
    shape = engine.shape
    return NewRun(
        run_id=run_id,
        workflow=engine.name,
        version=shape.version,
        shape=dumps(shape.written()),
        begin=written_begin(engine.codec, start, store),
        due_at=due_at,
    )


async def begin_or_take_up(run: Run, store: Store) -> None:
    """Let a run of this name begin, or go on; if it is over, give its result."""
    try:
        desk = desk_of(store)
        # Whoever looks for work leaves it to us until we had time to open it.
        due_at = run.now() + desk.lease
        await store.create(_as_new(run, due_at))
        await take_up(run, desk)
    except Exception as error:
        run.break_off(error)


def _as_new(run: Run, due_at: float) -> NewRun:
    """A run as it is before it begins, or as a context has written it down."""
    engine, state, shape = run.engine, run.state, run.engine.shape
    if run.start is not None:
        return new_run(engine, run.id, run.start, store=state.store, due_at=due_at)
    return NewRun(
        run_id=run.id,
        workflow=engine.name,
        version=shape.version,
        shape=dumps(shape.written()),
        snapshot=dumps(written_state(engine.codec, state, shape)),
        due_at=due_at,
    )


async def take_up(run: Run, desk: Desk) -> None:
    """Let a run that is in the store begin, or go on; if it is over, give its result.

    Raises:
        RunNotFound: It is not there.
        VersionMismatch: It cannot go on with the code as it is.
    """
    store, engine = desk.store, run.engine
    codec, shape = engine.codec, engine.shape
    opened = await store.open(run.id, owner=desk.owner, lease=desk.lease)
    if opened.info.workflow != engine.name:
        raise VersionMismatch(
            f"run {run.id!r} is of workflow {opened.info.workflow}, not of {engine.name}: "
            "go on with that one, or give this run another run_id",
            run_id=run.id,
        )
    reading, state = read_back(opened, codec, engine.name)
    old = reading.shape
    if state.outcome is not None:
        run.machine = Machine(engine.plan, state)
        run.begun = True
        run.perform([Publish(state.outcome.event), Ended(state.outcome)])
        return
    versions = engine.settings.versions
    migration = migration_of(old, shape, versions, workflow=engine.name, run_id=run.id)
    if migration is None:
        adopt(state, engine.plan, workflow=engine.name)
    else:
        migrate(state, migration, engine.plan, workflow=engine.name)
    if run.outcome is not None:  # it was cancelled meanwhile
        return
    _begin(run, state, opened, codec)
    run.recorder = recorder = Recorder(run, store, codec, opened, shape)
    if old != shape:
        # What comes is of other rules, so the journal says from where on.
        snapshot = json.dumps(written_state(codec, state, shape))
        run.tell(Adopted(run.now(), snapshot))
    desk.add(run)
    run.begin()
    recorder.receive(opened.messages)


def _begin(run: Run, state: RunState, opened: Opened, codec: Codec) -> None:
    run.machine = Machine(run.engine.plan, state)
    if state.began_at is not None:
        run.start = None
    elif opened.begin is not None:
        run.start, state.store = read_begin(codec, opened.begin)
    else:
        raise JournalError(
            f"run {run.id!r} has neither a beginning nor a journal: purge it, and start it "
            "again"
        )


def read_back(opened: Opened, codec: Codec, workflow: str) -> tuple[Reading, RunState]:
    """The state of a run as its journal has it.

    Raises:
        VersionMismatch: The journal cannot be read with the code as it is.
    """
    info = opened.info
    shape = Shape.read(loads(info.shape))
    reading = Reading(codec, workflow=workflow, run_id=info.run_id, shape=shape)
    if opened.snapshot is not None:
        reading.go_to(opened.snapshot)
    return reading, reading.read_all(opened.facts)
