"""Another run that begins as one was at some point of its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.errors import UsageError
from anabranch.workflow.codec import Codec, dumps, loads
from anabranch.workflow.context.paths import edited
from anabranch.workflow.events import Event
from anabranch.workflow.facts import Began
from anabranch.workflow.history import (
    Entry,
    Reading,
    begins_at,
    read_entry,
    written_begin,
    written_state,
)
from anabranch.workflow.standing import standing
from anabranch.workflow.state import RunState
from anabranch.workflow.stores.protocol import History, NewRun
from anabranch.workflow.versions import Shape


def forked(
    history: History,
    codec: Codec,
    *,
    at: int,
    new_id: str,
    event: Event | None,
    state: Mapping[str, Any],
) -> NewRun:
    """A run that begins as this one was just before an entry of its history.

    Args:
        history: Up to that entry.
        codec: The workflow's.
        at: The entry's position.
        new_id: The new run's name.
        event: What the step of that entry is called with instead.
        state: Changes of the shared state: values by paths.

    Raises:
        UsageError: There is no such entry, or no step that could take the event.
        VersionMismatch: The journal cannot be read with the code as it is.
    """
    info = history.info
    first = 0 if history.snapshot is None else history.snapshot.position
    if not first <= at < first + len(history.facts):
        raise UsageError(
            f"the journal of run {info.run_id!r} has no entry {at}: it has those from "
            f"{first} to {info.position - 1}"
        )
    shape = Shape.read(loads(info.shape))
    reading = Reading(codec, workflow=info.workflow, run_id=info.run_id, shape=shape)
    if history.snapshot is not None:
        reading.go_to(history.snapshot)
    entries = [read_entry(first + n, fact) for n, fact in enumerate(history.facts)]
    entry = entries[-1]
    fork = reading.read_all(history.facts[: begins_at(entries) - first])
    begins = entry.kind == "Began"
    start: Event | None = None
    if begins:
        start, fork.store = _beginning(entry, codec)
    if event is not None and begins:
        start = event
    elif event is not None:
        _call_with(event, entry, fork)
    for path, value in state.items():
        fork.store = edited(fork.store, path, value)
    fork.run_id = new_id
    return NewRun(
        run_id=new_id,
        workflow=info.workflow,
        version=reading.shape.version,
        shape=dumps(reading.shape.written()),
        begin=None if start is None else written_begin(codec, start, fork.store),
        snapshot=None if begins else dumps(written_state(codec, fork, reading.shape)),
        due_at=0.0 if begins else standing(fork).due_at,
        origin=info.run_id,
    )


def _beginning(entry: Entry, codec: Codec) -> tuple[Event, Any]:
    """What the run has begun with, and its shared state then."""
    began = codec.read_fact(entry.fact)
    assert isinstance(began, Began)
    return began.event, began.store


def _call_with(event: Event, entry: Entry, fork: RunState) -> None:
    execution = fork.executions.get(entry.execution or 0)
    if execution is None or len(execution.events) != 1:
        raise UsageError(
            f"entry {entry.position} is {entry.kind!r}, and no step was called with one "
            "event there: leave the event out, or choose the entry where a step ended"
        )
    execution.events = [event]
