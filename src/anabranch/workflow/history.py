"""A journal as data: its entries, its snapshots, and what of it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from anabranch.errors import JournalError, VersionMismatch
from anabranch.workflow.codec import VERSION, Codec, dumps, loads, up_to_date
from anabranch.workflow.events import Event
from anabranch.workflow.facts import (
    Edited,
    Fact,
    Failed,
    Remembered,
    Returned,
    Sent,
    Waited,
    Written,
)
from anabranch.workflow.machine import Machine
from anabranch.workflow.state import RunState
from anabranch.workflow.stores.protocol import History, RunInfo, Snapshot
from anabranch.workflow.versions import Shape, plan_of

# A snapshot is taken after so many facts at the least, and not before they are as large as
# the last one: so all snapshots together cost no more than the facts.
SNAPSHOT_EVERY: Final = 256
# Facts that are kept for looking back, at the least; up to twice as many are.
KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact of a journal.

    Attributes:
        position: Its place, from 0.
        kind: What happened, such as "Returned".
        at: When, in seconds since the epoch.
        execution: The execution it is of; ``None`` for what concerns the whole run.
        step: Its step.
        began_at: When the execution's first attempt began.
        fact: The whole fact as data: its kind, and its fields in their order.
    """

    position: int
    kind: str
    at: float
    execution: int | None
    step: str | None
    began_at: float | None
    fact: list[Any]


def written_entry(codec: Codec, fact: Fact, state: RunState) -> bytes:
    """A fact that is about to be applied to a state, with what names it to a reader."""
    entry: dict[str, Any] = {"fact": codec.write_fact(fact)}
    number = None
    if isinstance(fact, Returned | Failed | Waited | Remembered):
        number = fact.execution
    elif isinstance(fact, Sent | Written | Edited):
        number = fact.by
    execution = None if number is None else state.executions.get(number)
    if execution is not None:
        entry |= {
            "execution": execution.id,
            "step": execution.step,
            "began_at": execution.began_at,
        }
    return dumps(entry)


def read_entry(position: int, written: bytes) -> Entry:
    """An entry, without knowing the workflow.

    Raises:
        JournalError: It is none.
    """
    try:
        plain = loads(written)
        fact = plain["fact"]
        return Entry(
            position,
            fact[0],
            fact[1],
            plain.get("execution"),
            plain.get("step"),
            plain.get("began_at"),
            fact,
        )
    except (ValueError, LookupError, TypeError) as error:
        raise JournalError(
            f"what a journal has at {position} is no fact ({error!r}): the store is damaged"
        ) from error


def begins_at(entries: Sequence[Entry]) -> int:
    """Where in a journal that ends with some fact what was recorded with it begins."""
    last = entries[-1]
    position = last.position
    for entry in reversed(entries[:-1]):
        is_draft = entry.kind in ("Sent", "Written", "Edited")
        if last.execution is None or not is_draft or entry.execution != last.execution:
            break
        position = entry.position
    return position


def written_state(codec: Codec, state: RunState, shape: Shape) -> dict[str, Any]:
    """A state as data, with the plan that it is a state of."""
    return {
        "version": VERSION,
        "shape": shape.written(),
        "machine": codec.write(state),
        "store": codec.to_plain(state.store),
    }


class Reading:
    """A journal as it is read: each fact is applied with the plan that it was written with.

    Attributes:
        shape: That plan, as data.
        machine: The run behind the last fact that was read.
    """

    def __init__(self, codec: Codec, *, workflow: str, run_id: str, shape: Shape) -> None:
        self._codec = codec
        self._workflow = workflow
        self._run_id = run_id
        self._position = 0
        self._start(RunState(run_id), shape)

    def _start(self, state: RunState, shape: Shape) -> None:
        self.shape = shape
        plan = plan_of(shape, self._codec, workflow=self._workflow, run_id=self._run_id)
        self.machine = Machine(plan, state)

    def go_to(self, snapshot: Snapshot) -> None:
        """Begin with a snapshot.

        Raises:
            ContextSerdeError: It is damaged.
            VersionMismatch: Its plan cannot be read any more.
        """
        self._adopt(loads(snapshot.state))
        self._position = snapshot.position

    def _adopt(self, plain: Mapping[str, Any]) -> None:
        data = up_to_date(plain)
        shape = Shape.read(data["shape"])
        plan = plan_of(shape, self._codec, workflow=self._workflow, run_id=self._run_id)
        state = self._codec.read(data["machine"], plan)
        state.run_id = self._run_id  # a fork has another one
        state.store = self._codec.from_plain(data["store"])
        self._start(state, shape)

    def read(self, facts: Sequence[bytes]) -> Iterator[Entry]:
        """Apply facts one after the other; each is given before it is applied.

        Raises:
            VersionMismatch: A fact is of an execution that the plan has not come to.
        """
        for written in facts:
            entry = read_entry(self._position, written)
            yield entry
            self._check(entry)
            if entry.kind == "Adopted":
                self._adopt(loads(entry.fact[2]))
            else:
                self.machine.apply(self._codec.read_fact(entry.fact))
            self._position += 1

    def read_all(self, facts: Sequence[bytes]) -> RunState:
        """The state behind all these facts."""
        for _ in self.read(facts):
            pass
        return self.machine.state

    def _check(self, entry: Entry) -> None:
        if entry.execution is None:
            return
        execution = self.machine.state.executions.get(entry.execution)
        if execution is None or execution.step != entry.step:
            now = "has not begun" if execution is None else f"is of {execution.step!r}"
            raise VersionMismatch(
                f"the journal of run {self._run_id!r} says at {entry.position} that "
                f"execution {entry.execution} of step {entry.step!r} had come to "
                f"{entry.kind!r}, and with these rules this execution {now}",
                run_id=self._run_id,
            )


def written_begin(codec: Codec, start: Event, store: Any = None) -> bytes:
    """What a run begins with: its start event, and the shared state if it has one."""
    return dumps(
        {
            "start": codec.to_plain(start),
            "store": None if store is None else codec.to_plain(store),
        }
    )


def read_begin(codec: Codec, written: bytes) -> tuple[Event, Any]:
    """The start event, and the shared state; ``None`` for a new one."""
    plain = loads(written)
    store = plain["store"]
    start: Event = codec.from_plain(plain["start"])
    return start, None if store is None else codec.from_plain(store)


def written_history(history: History) -> str:
    """A history as JSON, to be kept outside its store."""
    info, snapshot = history.info, history.snapshot
    plain = {
        "format": 1,
        "run_id": info.run_id,
        "workflow": info.workflow,
        "status": info.status,
        "shape": loads(info.shape),
        "begin": None if history.begin is None else loads(history.begin),
        "from": 0 if snapshot is None else snapshot.position,
        "snapshot": None if snapshot is None else loads(snapshot.state),
        "entries": [loads(fact) for fact in history.facts],
    }
    return json.dumps(plain, indent=1)


def history_of(written: str) -> History:
    """A history from its JSON.

    Raises:
        JournalError: It is none.
    """
    try:
        plain = loads(written)
        if plain["format"] != 1:
            raise JournalError(
                f"a history has format {plain['format']}, and this version reads 1: "
                "export it again, or read it with the version that wrote it"
            )
        facts = [dumps(entry) for entry in plain["entries"]]
        first, state = plain["from"], plain["snapshot"]
        shape = plain["shape"]
        info = RunInfo(
            run_id=plain["run_id"],
            workflow=plain["workflow"],
            version=shape["version"],
            shape=dumps(shape),
            status=plain["status"],
            epoch=0,
            position=first + len(facts),
            published=0,
            created_at=0.0,
            updated_at=0.0,
            due_at=None,
            owner="",
            leased_until=0.0,
            note="",
            result=None,
            origin=None,
        )
        snapshot = None if state is None else Snapshot(first, dumps(state))
        begin = None if plain["begin"] is None else dumps(plain["begin"])
        return History(info=info, begin=begin, snapshot=snapshot, facts=facts)
    except (ValueError, LookupError, TypeError) as error:
        raise JournalError(
            f"this is no history of a run ({error!r}): give what Runs.export gave"
        ) from error


@dataclass(slots=True)
class Keeping:
    """When snapshots are taken, and what may be dropped behind them.

    The oldest anchor is where the journal begins; between two anchors are at least
    :data:`KEPT` facts, and there are never more than two.

    Attributes:
        facts: How many there are behind the newest snapshot.
        size: Their bytes.
        last: The bytes of the newest snapshot.
        anchors: Positions of snapshots that are kept for looking back.
    """

    facts: int = 0
    size: int = 0
    last: int = 0
    anchors: tuple[int, ...] = (0,)

    def add(self, facts: Sequence[bytes]) -> None:
        """These were written."""
        self.facts += len(facts)
        self.size += sum(map(len, facts))

    def is_due(self) -> bool:
        """Whether a snapshot pays now."""
        return self.facts >= SNAPSHOT_EVERY and self.size >= self.last

    def keep_from(self, position: int, snapshot: bytes) -> int:
        """A snapshot is taken here: facts before what position may go?"""
        self.facts, self.size, self.last = 0, 0, len(snapshot)
        if position - self.anchors[-1] >= KEPT:
            self.anchors = (*self.anchors, position)[-2:]
        return self.anchors[0]
