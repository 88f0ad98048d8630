"""A run with a journal: writing what happens, and taking up what was written.

What is told together is written together, in one transaction with what it publishes and how
the run then stands. A write that fails ends the run with its error: nothing goes on that is
not written down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anabranch.errors import (
    ContextSerdeError,
    JournalError,
    UsageError,
)
from anabranch.workflow.codec import Codec, dumps, loads
from anabranch.workflow.events import Event
from anabranch.workflow.facts import Cancelled, Command, Edited, Fact, Publish, Received
from anabranch.workflow.history import Keeping, written_entry, written_state
from anabranch.workflow.standing import Standing, standing
from anabranch.workflow.stores.protocol import Commit, Message, Opened, Store
from anabranch.workflow.versions import Shape

if TYPE_CHECKING:
    from anabranch.workflow.run import Run

logger = logging.getLogger("anabranch.workflow")


class Recorder:
    """The one writer of a run's journal."""

    def __init__(
        self, run: Run, store: Store, codec: Codec, opened: Opened, shape: Shape
    ) -> None:
        self._run = run
        self._store = store
        self._codec = codec
        self._shape = shape
        self._position = opened.info.position
        self._keeping = Keeping()
        self._keeping.add(opened.facts)
        if opened.snapshot is not None:
            self._keeping.last = len(opened.snapshot.state)
            self._keeping.anchors = (opened.snapshot.position,)
        self._facts: list[bytes] = []
        self._commands: list[Command] = []
        self._taken: list[int] = []
        self._known: set[int] = set()
        self._writing: asyncio.Task[None] | None = None
        self.epoch = opened.info.epoch

    # ------------------------------------------------------------------- writing

    def written(self, facts: Sequence[Fact]) -> list[bytes]:
        """Facts that are about to happen, as entries.

        Raises:
            JournalError: One cannot be written.
        """
        try:
            state = self._run.machine.state
            return [written_entry(self._codec, fact, state) for fact in facts]
        except Exception as error:
            raise JournalError(
                f"what happened in run {self._run.id} cannot be written down: {error}"
            ) from error

    def record(self, facts: Sequence[Fact], written: list[bytes]) -> None:
        """Apply facts and write them down, then do what they led to."""
        run = self._run
        commands: list[Command] = []
        for fact in facts:
            commands += run.machine.apply(fact)
            run.edits += isinstance(fact, Edited)
        self._facts += written
        self._commands += commands
        if self._writing is None:
            task = run.loop.create_task(self._write(), name="journal")
            if not task.done():  # it is where tasks are started eagerly
                self._writing = task

    async def _write(self) -> None:
        run = self._run
        try:
            while self._facts:
                commands, self._commands = self._commands, []
                await self._store.commit(run.id, self._commit(commands))
                if run.recorder is self:
                    run.perform(commands)
        except Exception as error:
            self._fail(error)
        except BaseException as error:
            run.break_off(error)
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
        finally:
            self._writing = None
            run.look()

    def _commit(self, commands: list[Command]) -> Commit:
        """All that is to be written now."""
        state, codec, keeping = self._run.state, self._codec, self._keeping
        facts, self._facts = self._facts, []
        taken, self._taken = self._taken, []
        position = self._position
        self._position += len(facts)
        keeping.add(facts)
        snapshot = None
        keep_from = 0
        if keeping.is_due():
            snapshot = dumps(written_state(codec, state, self._shape))
            keep_from = keeping.keep_from(self._position, snapshot)
        published = [c.event for c in commands if isinstance(c, Publish)]
        outcome, stands = state.outcome, self.standing()
        return Commit(
            epoch=self.epoch,
            position=position,
            facts=facts,
            published=[written_event(codec, event) for event in published],
            taken=taken,
            status=stands.status,
            due_at=stands.due_at,
            note=stands.note,
            result=None if outcome is None else written_event(codec, outcome.event),
            snapshot=snapshot,
            keep_from=keep_from,
        )

    def _fail(self, error: Exception) -> None:
        run = self._run
        run.recorder = None
        self._facts.clear()
        self._commands.clear()
        if not isinstance(error, JournalError):
            failure = JournalError(
                f"what happened in run {run.id} cannot be written down ({error}): the run "
                "ends here, and can be taken up where its journal ends"
            )
            failure.__cause__ = error
            error = failure
        run.break_off(error)

    # ------------------------------------------------------------------ messages

    def receive(self, messages: Sequence[Message]) -> None:
        """Tell the run what was sent to it, each message once."""
        run = self._run
        for message in messages:
            if message.number in self._known or run.recorder is not self:
                continue
            self._known.add(message.number)
            self._taken.append(message.number)
            try:
                run.tell(read_message(self._codec, message, run.now()))
            except Exception:
                logger.exception("what was sent to run %s is left out", run.id)

    # ---------------------------------------------------------------------- rest

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be written."""
        return self._writing is not None or bool(self._facts)

    async def give_back(self) -> None:
        """Finish what is being written, and leave the run to others."""
        # One that was cancelled before it began has not said that it is done.
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        await self.release()

    def standing(self) -> Standing:
        """How the run stands, by the machine's clock."""
        stands = standing(self._run.state)
        if not stands.due_at or not self._run.ahead_s:
            return stands
        return stands._replace(due_at=stands.due_at - self._run.ahead_s)

    async def release(self) -> bool:
        """Leave the run to others; false if something was sent that it is to do first."""
        run, store = self._run, self._store
        due_at = self.standing().due_at
        if await store.release(run.id, epoch=self.epoch, due_at=due_at):
            return True
        self.receive(await store.messages(run.id))
        return False


def written_event(codec: Codec, event: Event) -> bytes:
    """An event of a stream."""
    return dumps(codec.to_plain(event))


def read_event(codec: Codec, written: bytes) -> Event:
    """An event of a stream, or the one that ended a run.

    Raises:
        JournalError: It is none.
    """
    event = codec.from_plain(loads(written))
    if not isinstance(event, Event):
        raise JournalError(f"a stream has {event!r} in it, which is no event")
    return event


CANCEL = b"cancel"
"""The message that cancels a run."""


def written_message(codec: Codec, event: Event, step: str | None) -> bytes:
    """An event that is sent to a run.

    Raises:
        UsageError: It is no event.
    """
    given: Any = event
    if not isinstance(given, Event):
        raise UsageError(f"only events can be sent to a run, not {event!r}")
    return dumps({"event": codec.to_plain(event), "step": step})


def read_message(codec: Codec, message: Message, now: float) -> Fact:
    """What a message makes happen.

    Raises:
        JournalError: It cannot be read.
    """
    if message.body == CANCEL:
        return Cancelled(now)
    try:
        plain = loads(message.body)
        try:
            event = codec.from_plain(plain["event"])
        except ContextSerdeError:  # by somebody who did not have the workflow
            event = codec.frame.from_plain(plain["event"])
        step = plain["step"]
    except (ValueError, LookupError, TypeError) as error:
        raise JournalError(
            f"message {message.message_id!r} cannot be read: {error!r}"
        ) from error
    return Received(now, event, step)
