"""The sentences with which every store refuses."""

from __future__ import annotations

from anabranch.errors import Fenced, JournalConflict, RunNotFound, WorkflowDone


def not_found(run_id: str) -> RunNotFound:
    return RunNotFound(
        f"there is no run {run_id!r}: create it first; or it was purged", run_id=run_id
    )


def fenced(run_id: str, epoch: int, found: int | None) -> Fenced:
    """For who has opened a run in ``epoch``; it is in ``found`` now, or gone."""
    now = "is gone" if found is None else f"is in its epoch {found} now"
    return Fenced(
        f"run {run_id!r} was opened in epoch {epoch} and {now}: another worker has taken "
        "it over, or it was purged; stop driving it",
        run_id=run_id,
    )


def conflict(run_id: str, position: int, found: int) -> JournalConflict:
    """For who believes the journal to end at ``position``; it ends at ``found``."""
    return JournalConflict(
        f"the journal of run {run_id!r} has {found} facts, expected {position}: it was "
        "written to twice; open the run anew before you go on",
        run_id=run_id,
    )


def ended(run_id: str, status: str, *, reopens: bool = False) -> JournalConflict:
    """For who adds to a run that has ended, or reopens one that has not."""
    if reopens:
        return JournalConflict(
            f"run {run_id!r} is {status}: only one that has ended is reopened",
            run_id=run_id,
        )
    return JournalConflict(
        f"run {run_id!r} has ended ({status}): nothing can be added to it", run_id=run_id
    )


def done(run_id: str, status: str) -> WorkflowDone:
    """For who sends to a run that has ended."""
    return WorkflowDone(f"run {run_id!r} has ended ({status}): it takes no more messages")
