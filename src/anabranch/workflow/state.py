"""What is known of a run: plain records, which only the machine changes.

An execution is one call of a step that must come to an end, whatever it takes::

    queued ──▶ running ──▶ (returned: it is gone)
      ▲         │ ▲  │
      │         │ │  └─ failed, to be tried again ──▶ backoff ──▶ queued
      │         │ └─ woken ◀── the event has come ── waiting
      │         └─ waits for an event ──────────────▶ waiting
      └── an event has come

It holds one of its step's workers while it is running, and at no other time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from anabranch.workflow.events import Event, StopEvent

Status: TypeAlias = Literal["queued", "running", "waiting", "woken", "backoff"]
End: TypeAlias = Literal["completed", "failed", "cancelled", "timed out"]
TimerKey: TypeAlias = tuple[Any, ...]

NO_RECOVERIES: Final[Mapping[str, int]] = {}


@dataclass(slots=True, eq=False)
class Execution:
    """One call of a step.

    Attributes:
        id: Counts the executions of a run, from 1.
        step: Its step's name.
        events: What the step is called with: one event, one for each parameter, or a list.
        scope: The fan-out it belongs to; 0 for none.
        cause: The execution whose event it was called for; 0 for one from outside.
        recoveries: How often each handler was called in the line of events up to here.
        attempt: How many attempts have begun.
        began_at: When the first one did; as all times, seconds since the epoch.
        error: What the last attempt raised.
        failed_at: When.
        due_at: When the next attempt begins.
        sent: What it has sent, with the step it was for. Another attempt sends it again.
        unmatched: What earlier attempts had sent, and this one has not yet.
        taken: What it has collected, by buffer; another attempt gets the same.
        given: The buffers that have its event.
        answers: The events it has waited for, by the key of the wait; ``None`` where it
            waited in vain.
        pending: How many it waits for.
        memos: What it need not find out again, by key.
        done: How many things of each kind it has recorded, which another attempt does not
            do again.
    """

    id: int
    step: str
    events: list[Event]
    scope: int
    cause: int
    recoveries: Mapping[str, int]
    status: Status = "queued"
    attempt: int = 0
    began_at: float | None = None
    error: BaseException | None = None
    failed_at: float | None = None
    due_at: float | None = None
    sent: list[tuple[Event, str | None]] | None = None
    unmatched: list[tuple[Event, str | None]] | None = None
    taken: dict[str, list[Event]] | None = None
    given: set[str] | None = None
    answers: dict[str, Event | None] | None = None
    pending: int = 0
    memos: dict[str, Any] | None = None
    done: Mapping[str, int] | None = None


@dataclass(slots=True)
class Lane:
    """A step's workers, and what waits for one.

    Attributes:
        running: How many are taken.
        queue: Executions that have not begun, or begin anew; made when there is one.
        woken: Executions that have what they waited for, with the key of the wait.
    """

    running: int = 0
    queue: deque[int] | None = None
    woken: deque[tuple[int, str]] | None = None


@dataclass(slots=True)
class Scope:
    """A fan-out: a list of events, and all that they lead to.

    Attributes:
        step: The step that returned the list.
        outer: The scope that it was in itself; 0 for none.
        cause: The execution that returned it.
        recoveries: Those of that execution.
        open: How many executions and scopes in it have not ended.
        joined: The events that have come so far, by the step that collects them.
        released: The steps that have been called already, with the events they wanted.
    """

    step: str
    outer: int
    cause: int
    recoveries: Mapping[str, int]
    open: int = 0
    joined: dict[str, list[Event]] = field(default_factory=dict[str, list[Event]])
    released: set[str] = field(default_factory=set[str])


@dataclass(slots=True)
class Wait:
    """An execution that waits for an event.

    Attributes:
        kind: The event's type.
        subclasses: Whether one of a subclass will do.
        requirements: What its attributes must be.
        deadline: When to wait no longer.
    """

    execution: int
    key: str
    kind: type[Event]
    subclasses: bool
    requirements: Mapping[str, Any]
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        event: The last event of its stream.
        error: Why it failed.
    """

    end: End
    event: StopEvent
    error: BaseException | None = None


@dataclass(slots=True)
class RunState:
    """A run.

    Attributes:
        now: When the last fact happened.
        began_at: When the run did; ``None`` before.
        deadline: When it is out of time.
        timeout: How long it may take.
        last_id: The last number given to an execution or scope.
        active: How many executions are not waiting for an event.
        idle: Whether nothing will happen by itself.
        lanes: By the step's name.
        executions: Those that have not ended, by id, in the order in which they came.
        scopes: Those that have not ended, by id.
        waits: By the event's type, then by execution and key.
        buffers: Of ``collect_events``: events by type, by step and buffer.
        joins: Events that wait for those of the other parameters, by step and scope.
        mail: Events from outside that nobody has taken, with the step they are for.
        store: The state that the user's steps share.
        outcome: How the run ended; ``None`` before.
    """

    run_id: str
    store: Any = None
    now: float = 0.0
    began_at: float | None = None
    deadline: float | None = None
    timeout: float | None = None
    last_id: int = 0
    active: int = 0
    idle: bool = False
    lanes: dict[str, Lane] = field(default_factory=dict[str, Lane])
    executions: dict[int, Execution] = field(default_factory=dict[int, Execution])
    scopes: dict[int, Scope] = field(default_factory=dict[int, Scope])
    waits: dict[type[Event], dict[tuple[int, str], Wait]] = field(
        default_factory=dict[type[Event], dict[tuple[int, str], Wait]]
    )
    buffers: dict[tuple[str, str], dict[type[Event], deque[Event]]] = field(
        default_factory=dict[tuple[str, str], dict[type[Event], deque[Event]]]
    )
    joins: dict[tuple[str, int], list[deque[Event]]] = field(
        default_factory=dict[tuple[str, int], list[deque[Event]]]
    )
    mail: list[tuple[Event, str | None]] | None = None
    outcome: Outcome | None = None
