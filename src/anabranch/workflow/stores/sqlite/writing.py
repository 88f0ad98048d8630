"""What changes runs, each in a transaction that is open.

What is refused raises one of our errors before anything is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Final

from anabranch.workflow.stores import refusals
from anabranch.workflow.stores.protocol import FINAL, Commit, NewRun, Opened
from anabranch.workflow.stores.sqlite import reading

_REOPEN: Final = """
UPDATE runs SET status = 'running'
WHERE run_id = ? AND epoch = ? AND position = ?
    AND status IN ('completed', 'failed', 'cancelled', 'timed out')"""

# Nearly always a run is due as it was: then the index of due runs is left alone.
_ADVANCE: Final = """
UPDATE runs SET position = position + ?, published = published + ?, status = ?,
    note = ?, result = ?, updated_at = ?
WHERE run_id = ? AND epoch = ? AND position = ? AND due_at = ?"""

_ADVANCE_DUE: Final = """
UPDATE runs SET position = position + ?, published = published + ?, status = ?,
    note = ?, result = ?, updated_at = ?, due_at = ?
WHERE run_id = ? AND epoch = ? AND position = ?
    AND status NOT IN ('completed', 'failed', 'cancelled', 'timed out')"""

_PUBLISH: Final = """
INSERT INTO stream
SELECT run_id, published - ?, ? FROM runs WHERE run_id = ?"""

_UNTAKEN: Final = "SELECT 1 FROM messages WHERE run_id = ? AND body IS NOT NULL LIMIT 1"


def create(db: sqlite3.Connection, run: NewRun, now: float) -> bool:
    made = db.execute(
        "INSERT OR IGNORE INTO runs (run_id, workflow, status, epoch, created_at, "
        "updated_at, due_at) SELECT ?, ?, 'pending', value, ?, ?, ? FROM meta "
        "WHERE name = 'first_epoch'",
        (run.run_id, run.workflow, now, now, run.due_at),
    )
    if not made.rowcount:
        return False
    db.execute(
        "INSERT INTO births VALUES (?, ?, ?, ?, ?)",
        (run.run_id, run.version, run.origin, run.shape, run.begin),
    )
    if run.snapshot is not None:
        db.execute("INSERT INTO snapshots VALUES (?, 0, ?)", (run.run_id, run.snapshot))
    _stir(db)
    return True


def open_run(
    db: sqlite3.Connection, run_id: str, owner: str, leased_until: float
) -> Opened:
    db.execute(
        "UPDATE runs SET epoch = epoch + 1, owner = ?, leased_until = ? WHERE run_id = ? "
        "AND status NOT IN ('completed', 'failed', 'cancelled', 'timed out')",
        (owner, leased_until, run_id),
    )
    return reading.opened(db, run_id)


def commit(db: sqlite3.Connection, run_id: str, commit: Commit, now: float) -> bool:
    """Whether others are to be told."""
    is_over = commit.status in FINAL
    facts, published = commit.facts, commit.published
    what = (len(facts), len(published), commit.status, commit.note, commit.result, now)
    which = (run_id, commit.epoch, commit.position)
    due_at = None if is_over else commit.due_at
    if commit.reopens:
        if not db.execute(_REOPEN, which).rowcount:
            _refuse(db, run_id, commit)
        _stir(db)
    if not db.execute(_ADVANCE, (*what, *which, due_at)).rowcount:
        if not db.execute(_ADVANCE_DUE, (*what, due_at, *which)).rowcount:
            _refuse(db, run_id, commit)
        if is_over:
            db.execute("UPDATE runs SET leased_until = 0 WHERE run_id = ?", (run_id,))
    for number, fact in enumerate(facts, commit.position):
        db.execute("INSERT INTO facts VALUES (?, ?, ?)", (run_id, number, fact))
    for behind, body in zip(range(len(published) - 1, -1, -1), published, strict=True):
        db.execute(_PUBLISH, (behind, body, run_id))
    for number in commit.taken:
        db.execute(
            "UPDATE messages SET body = NULL WHERE number = ? AND run_id = ?",
            (number, run_id),
        )
    if due_at != 0.0 and not is_over and db.execute(_UNTAKEN, (run_id,)).fetchone():
        # What came meanwhile is not overlooked, should the driver be gone now.
        db.execute("UPDATE runs SET due_at = 0 WHERE run_id = ?", (run_id,))
    if commit.snapshot is not None:
        position = commit.position + len(facts)
        db.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)",
            (run_id, position, commit.snapshot),
        )
        if commit.keep_from > 0:
            _drop(db, run_id, commit.keep_from)
    return commit.reopens


def _drop(db: sqlite3.Connection, run_id: str, keep_from: int) -> None:
    """Drop what is not needed for this position and later ones."""
    row = db.execute(
        "SELECT max(position) FROM snapshots WHERE run_id = ? AND position <= ?",
        (run_id, keep_from),
    ).fetchone()
    first: int | None = row[0]
    if first is not None:
        db.execute("DELETE FROM facts WHERE run_id = ? AND number < ?", (run_id, first))
        db.execute(
            "DELETE FROM snapshots WHERE run_id = ? AND position < ?", (run_id, first)
        )
        db.execute("UPDATE runs SET dropped = ? WHERE run_id = ?", (first, run_id))


def release(db: sqlite3.Connection, run_id: str, epoch: int, due_at: float | None) -> bool:
    found = _place(db, run_id)
    if found is None or found[0] != epoch:
        raise refusals.fenced(run_id, epoch, None if found is None else found[0])
    if found[2] in FINAL:
        db.execute("UPDATE runs SET owner = '' WHERE run_id = ?", (run_id,))
        return True
    if db.execute(_UNTAKEN, (run_id,)).fetchone():
        return False
    db.execute(
        "UPDATE runs SET owner = '', leased_until = 0, due_at = ? WHERE run_id = ?",
        (due_at, run_id),
    )
    _stir(db)
    return True


def renew(
    db: sqlite3.Connection, epochs: Mapping[str, int], leased_until: float
) -> set[str]:
    lost: set[str] = set()
    for run_id, epoch in epochs.items():
        # It may have been given back, or have ended: then it is not leased any more.
        renewed = db.execute(
            "UPDATE runs SET leased_until = CASE WHEN owner = '' OR status IN "
            "('completed', 'failed', 'cancelled', 'timed out') THEN leased_until ELSE ? "
            "END WHERE run_id = ? AND epoch = ?",
            (leased_until, run_id, epoch),
        )
        if not renewed.rowcount:
            lost.add(run_id)
    return lost


def claim(
    db: sqlite3.Connection,
    workflows: Collection[str],
    *,
    owner: str,
    now: float,
    leased_until: float,
    limit: int,
) -> list[str]:
    due: list[tuple[float, float, str]] = []
    for workflow in workflows:
        # One after the other, so that the index gives each in order.
        due += db.execute(
            "SELECT due_at, created_at, run_id FROM runs WHERE workflow = ? "
            "AND due_at <= ? AND leased_until <= ? ORDER BY due_at LIMIT ?",
            (workflow, now, now, max(0, limit)),
        )
    claimed = [run_id for _, _, run_id in sorted(due)[: max(0, limit)]]
    db.executemany(
        "UPDATE runs SET owner = ?, leased_until = ? WHERE run_id = ?",
        [(owner, leased_until, run_id) for run_id in claimed],
    )
    return claimed


def send(
    db: sqlite3.Connection, run_id: str, message_id: str, body: bytes, now: float
) -> bool:
    found = _place(db, run_id)
    if found is None:
        raise refusals.not_found(run_id)
    known = db.execute(
        "SELECT 1 FROM messages WHERE run_id = ? AND message_id = ?", (run_id, message_id)
    )
    if known.fetchone():
        return False
    if found[2] in FINAL:
        raise refusals.done(run_id, found[2])
    db.execute(
        "INSERT INTO messages (run_id, message_id, body) VALUES (?, ?, ?)",
        (run_id, message_id, body),
    )
    db.execute("UPDATE runs SET due_at = 0, updated_at = ? WHERE run_id = ?", (now, run_id))
    return True


def purge(db: sqlite3.Connection, run_id: str) -> bool:
    found = _place(db, run_id)
    if found is None:
        return False
    # No run begins in an epoch in which a purged one was driven: were it of the same name,
    # the old driver would be taken for the new one's.
    db.execute(
        "UPDATE meta SET value = max(value, ?) WHERE name = 'first_epoch'",
        (found[0] + 1,),
    )
    for table in ("messages", "stream", "facts", "snapshots", "births", "runs"):
        db.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608  # our own word
    return True


def _stir(db: sqlite3.Connection) -> None:
    """Tell other processes that a run may have become due; messages tell by themselves."""
    db.execute("UPDATE meta SET value = value + 1 WHERE name = 'stirred'")


def _place(db: sqlite3.Connection, run_id: str) -> tuple[int, int, str] | None:
    """The epoch, position and status of a run."""
    found: tuple[int, int, str] | None = db.execute(
        "SELECT epoch, position, status FROM runs WHERE run_id = ?", (run_id,)
    ).fetchone()
    return found


def _refuse(db: sqlite3.Connection, run_id: str, commit: Commit) -> None:
    found = _place(db, run_id)
    if found is None or found[0] != commit.epoch:
        raise refusals.fenced(run_id, commit.epoch, None if found is None else found[0])
    if (found[2] in FINAL) is not commit.reopens:
        raise refusals.ended(run_id, found[2], reopens=commit.reopens)
    raise refusals.conflict(run_id, commit.position, found[1])
