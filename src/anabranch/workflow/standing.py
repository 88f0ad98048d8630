"""How a run stands, for those who do not drive it: its status, when it is due, a note."""

from __future__ import annotations

from typing import NamedTuple

from anabranch.workflow.state import RunState
from anabranch.workflow.stores.protocol import Status


def rests(state: RunState) -> bool:
    """Whether nothing is at work or could be: all wait for an event or a time."""
    for lane in state.lanes.values():
        if lane.running or lane.queue or lane.woken:
            return False
    return True


class Standing(NamedTuple):
    """How a run stands.

    Attributes:
        status: The word for it.
        due_at: When it wants to be driven: 0 for at once, ``None`` if it waits for no time.
            Its own time-out is not such a time: that counts while the run is driven.
        note: What it waits for, or why it gave no result.
    """

    status: Status
    due_at: float | None
    note: str


def standing(state: RunState) -> Standing:
    """How a run stands."""
    outcome = state.outcome
    if outcome is not None:
        error = outcome.error
        note = "" if error is None else f"{type(error).__name__}: {error}"
        return Standing(outcome.end, None, note)
    if state.began_at is None:
        return Standing("pending", 0.0, "")
    if not rests(state):
        return Standing("running", 0.0, _waited(state))
    times = [e.due_at for e in state.executions.values() if e.status == "backoff"]
    times += [wait.deadline for waits in state.waits.values() for wait in waits.values()]
    due_at = min((time for time in times if time is not None), default=None)
    return Standing("waiting", due_at, _waited(state))


def _waited(state: RunState) -> str:
    if not state.waits:
        return ""
    kinds = sorted({kind.__name__ for kind, waits in state.waits.items() if waits})
    return f"waits for {', '.join(kinds)}"
