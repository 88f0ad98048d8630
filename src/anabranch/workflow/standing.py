"""How a run stands, for those who do not drive it: its status, when it is due, a note."""

from __future__ import annotations

from anabranch.workflow.state import RunState
from anabranch.workflow.stores.protocol import Status


def rests(state: RunState) -> bool:
    """Whether nothing is at work or could be: all wait for an event or a time."""
    return all(
        not lane.running and not lane.queue and not lane.woken
        for lane in state.lanes.values()
    )


def status(state: RunState) -> Status:
    """The word for it."""
    if state.outcome is not None:
        return state.outcome.end
    if state.began_at is None:
        return "pending"
    return "waiting" if rests(state) else "running"


def due_at(state: RunState) -> float | None:
    """When the run wants to be driven: 0 for at once, ``None`` if it waits for no time.

    Its own time-out is not such a time: it counts while the run is driven.
    """
    if state.outcome is not None:
        return None
    if not rests(state):
        return 0.0
    times = [e.due_at for e in state.executions.values() if e.status == "backoff"]
    times += [wait.deadline for waits in state.waits.values() for wait in waits.values()]
    return min((time for time in times if time is not None), default=None)


def note(state: RunState) -> str:
    """What the run waits for, or why it gave no result."""
    if state.outcome is not None:
        error = state.outcome.error
        return "" if error is None else f"{type(error).__name__}: {error}"
    waited = sorted({kind.__name__ for kind, waits in state.waits.items() if waits})
    return f"waits for {', '.join(waited)}" if waited else ""
