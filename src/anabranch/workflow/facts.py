"""What happens to a run (facts), and what is then to be done (commands).

A fact carries whatever depends on clock, chance or user code: its time, a step's results,
the delay that a retry policy drew. So applying the same facts again decides nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from anabranch.workflow.context.paths import Path
from anabranch.workflow.events import Event, StepState
from anabranch.workflow.state import Execution, Outcome, TimerKey

# ------------------------------------------------------------------------ facts


@dataclass(slots=True)
class Began:
    """The run began, with this event and, if it has been made, this shared state."""

    at: float
    event: Event
    timeout: float | None
    store: Any = None


@dataclass(slots=True)
class Resumed:
    """Somebody took the run up where it was left, ``away_s`` after its last fact.

    Meanwhile waits and pauses before retries went on, or ``stood_still`` as the run did.
    """

    at: float
    away_s: float
    stood_still: bool = True


@dataclass(slots=True)
class Adopted:
    """From here on the workflow has another plan: the run goes on from this snapshot."""

    at: float
    snapshot: str


@dataclass(slots=True)
class Retried:
    """The run had ended without a result, and is to go on where it was."""

    at: float


@dataclass(slots=True)
class Returned:
    """An attempt returned these events, ``fans_out`` if as a list."""

    at: float
    execution: int
    attempt: int
    events: Sequence[Event]
    fans_out: bool = False


@dataclass(slots=True)
class Failed:
    """An attempt raised an error; it is to be tried again ``retry_s`` later, if at all."""

    at: float
    execution: int
    attempt: int
    error: BaseException
    retry_s: float | None


@dataclass(slots=True)
class Sent:
    """An event was sent, to one step or all, by an execution or from outside.

    One that was ``drafted`` is known to be new; another is compared with what was sent.
    """

    at: float
    event: Event
    step: str | None
    by: int | None
    drafted: bool = False


@dataclass(slots=True)
class Received:
    """An event came from outside; if nobody takes it, it is kept for who asks later."""

    at: float
    event: Event
    step: str | None


@dataclass(slots=True)
class Remembered:
    """An execution has a value that it need not find out again.

    Up to here its body has ``done`` so many things of each kind.
    """

    at: float
    execution: int
    key: str
    value: Any
    done: Mapping[str, int] | None = None


@dataclass(slots=True)
class Written:
    """An event was written to the stream, by an execution or from outside."""

    at: float
    event: Event
    by: int | None = None


@dataclass(slots=True)
class Collected:
    """An execution offers its event to a buffer, and asks for all that are expected."""

    at: float
    execution: int
    buffer: str
    event: Event
    expected: Sequence[type[Event]]


@dataclass(slots=True)
class Waited:
    """An execution waits for an event; ``asks`` is to be streamed, the first time.

    Up to here its body has ``done`` so many things of each kind. Where it works ``besides``
    it keeps its worker.
    """

    at: float
    execution: int
    key: str
    kind: type[Event]
    requirements: Mapping[str, Any]
    timeout: float | None
    asks: Event | None
    done: Mapping[str, int] | None = None
    besides: bool = False


@dataclass(slots=True)
class Edited:
    """The shared state was changed: ``path`` is now ``value``, or all of it if empty.

    Or, if it is ``gone``, there is nothing any more.
    """

    at: float
    path: Path
    value: Any
    by: int | None = None
    gone: bool = False


@dataclass(slots=True)
class Fired:
    """A timer rang."""

    at: float
    key: TimerKey


@dataclass(slots=True)
class Cancelled:
    """The run was to be cancelled."""

    at: float


Fact: TypeAlias = (
    Began
    | Resumed
    | Adopted
    | Retried
    | Returned
    | Failed
    | Sent
    | Received
    | Written
    | Remembered
    | Collected
    | Waited
    | Edited
    | Fired
    | Cancelled
)

# --------------------------------------------------------------------- commands


@dataclass(slots=True)
class Start:
    """Call the step."""

    execution: Execution


@dataclass(slots=True)
class Wake:
    """Let the execution go on: its wait of this key has ended."""

    execution: Execution
    key: str


@dataclass(slots=True)
class Interrupt:
    """End the attempt, which is out of time."""

    execution: Execution


@dataclass(slots=True)
class SetTimer:
    """Ring at this time."""

    key: TimerKey
    at: float


@dataclass(slots=True)
class DropTimer:
    """Do not ring after all."""

    key: TimerKey


@dataclass(slots=True)
class Publish:
    """Add an event to the stream."""

    event: Event


@dataclass(slots=True)
class Changed:
    """Tell who watches that an execution changed its state."""

    execution: Execution
    state: StepState
    output: Event | None = None


@dataclass(slots=True)
class Unhandled:
    """Tell who watches that nobody took an event."""

    event: Event
    step: str | None
    idle: bool


@dataclass(slots=True)
class Idle:
    """Tell who watches that nothing will happen by itself."""


@dataclass(slots=True)
class Ended:
    """End everything: the run is over."""

    outcome: Outcome


Command: TypeAlias = (
    Start
    | Wake
    | Interrupt
    | SetTimer
    | DropTimer
    | Publish
    | Changed
    | Unhandled
    | Idle
    | Ended
)
