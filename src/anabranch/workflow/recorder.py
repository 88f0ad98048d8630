"""A run with a journal: writing what happens, and taking up what was written.

A write that fails ends the run with its error: nothing goes on that is not written down.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from anabranch.errors import JournalError
from anabranch.workflow.codec import VERSION, Codec, up_to_date
from anabranch.workflow.facts import Command, Ended, Fact, Publish
from anabranch.workflow.machine import Machine
from anabranch.workflow.plan import Plan
from anabranch.workflow.state import RunState
from anabranch.workflow.stores.protocol import Opened, Store

if TYPE_CHECKING:
    from anabranch.workflow.run import Run

# A snapshot costs as much as the state is large, so it is taken after as many facts as pay
# for it, and at least so many.
SNAPSHOT_EVERY: Final = 256


class Recorder:
    """The one writer of a run's journal."""

    def __init__(self, run: Run, store: Store, codec: Codec, opened: Opened) -> None:
        self._run = run
        self._store = store
        self._codec = codec
        self._epoch = opened.epoch
        self._position = opened.position
        self._since = len(opened.facts)
        self._pending: list[tuple[bytes, list[Command]]] = []
        self._writing: asyncio.Task[None] | None = None

    def record(self, fact: Fact, commands: list[Command]) -> None:
        """Write a fact down, then do what it led to."""
        try:
            written = json.dumps(self._codec.write_fact(fact)).encode()
        except Exception as error:
            self._fail(error)
            return
        self._pending.append((written, commands))
        if self._writing is None:
            run = self._run
            self._writing = run.loop.create_task(self._write(), name="journal")

    async def _write(self) -> None:
        run = self._run
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                self._position = await self._store.append(
                    run.id,
                    epoch=self._epoch,
                    position=self._position,
                    facts=[fact for fact, _ in batch],
                )
                self._since += len(batch)
                for _, commands in batch:
                    run.perform(commands)
                if self._is_due():
                    await self._store.snapshot(
                        run.id,
                        epoch=self._epoch,
                        position=self._position,
                        state=written_state(self._codec, run.state),
                    )
                    self._since = 0
        except Exception as error:
            self._fail(error)
        except BaseException as error:
            run.break_off(error)
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
        finally:
            self._writing = None

    def _is_due(self) -> bool:
        # Facts that are not written yet have changed the state already.
        state = self._run.state
        size = len(state.executions) + len(state.scopes)
        return not self._pending and self._since >= max(SNAPSHOT_EVERY, size)

    def _fail(self, error: Exception) -> None:
        run = self._run
        run.recorder = None
        self._pending.clear()
        if not isinstance(error, JournalError):
            failure = JournalError(
                f"what happened in run {run.id} cannot be written down ({error}): the run "
                "ends here, and can be taken up where its journal ends"
            )
            failure.__cause__ = error
            error = failure
        run.break_off(error)


def written_state(codec: Codec, state: RunState) -> bytes:
    """A state as a snapshot."""
    plain = {
        "version": VERSION,
        "machine": codec.write(state),
        "store": codec.to_plain(state.store),
    }
    return json.dumps(plain).encode()


def read_back(opened: Opened, codec: Codec, plan: Plan, run_id: str) -> RunState:
    """The state of a run as its journal has it: the snapshot, and the facts behind it."""
    if opened.snapshot is None:
        state = RunState(run_id)
    else:
        data: dict[str, Any] = up_to_date(json.loads(opened.snapshot))
        state = codec.read(data["machine"], plan)
        state.store = codec.from_plain(data["store"])
    machine = Machine(plan, state)
    for fact in opened.facts:
        machine.apply(codec.read_fact(json.loads(fact)))
    return state


async def take_up(run: Run, store: Store, codec: Codec) -> None:
    """Let a run begin, or go on where its journal ends; if it is over, give its result."""
    try:
        await store.create(run.id)
        opened = await store.open(run.id)
        plan = run.machine.plan
        state = read_back(opened, codec, plan, run.id)
        if state.store is None:
            state.store = run.state.store
    except Exception as error:
        run.break_off(error)
        return
    run.machine = Machine(plan, state)
    if state.outcome is not None:
        run.begun = True
        run.perform([Publish(state.outcome.event), Ended(state.outcome)])
        return
    run.recorder = Recorder(run, store, codec, opened)
    if state.began_at is not None:
        run.start = None
    run.begin()
