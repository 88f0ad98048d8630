"""What reads runs, each in a transaction that is open."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any, Final

from anabranch.workflow.stores import refusals
from anabranch.workflow.stores.protocol import (
    History,
    Message,
    Opened,
    Published,
    RunInfo,
    Snapshot,
    Status,
)

_INFO: Final = """
SELECT run_id, workflow, version, shape, status, epoch, position, published, created_at,
    updated_at, due_at, owner, leased_until, note, result, origin
FROM runs JOIN births USING (run_id)"""


def info(db: sqlite3.Connection, run_id: str) -> RunInfo | None:
    row = db.execute(f"{_INFO} WHERE run_id = ?", (run_id,)).fetchone()
    return None if row is None else _info(row)


def runs(
    db: sqlite3.Connection,
    *,
    statuses: Collection[Status],
    workflow: str | None,
    updated_before: float | None,
    after: str | None,
    limit: int,
) -> list[RunInfo]:
    conditions: list[tuple[str, tuple[object, ...]]] = [("1", ())]
    if statuses:
        marks = ", ".join("?" * len(statuses))
        conditions.append((f"status IN ({marks})", tuple(statuses)))
    if workflow is not None:
        conditions.append(("workflow = ?", (workflow,)))
    if updated_before is not None:
        conditions.append(("updated_at < ?", (updated_before,)))
    if after is not None:
        last = _found(db, after).created_at
        behind = "created_at <= ? AND (created_at < ? OR run_id > ?)"
        conditions.append((behind, (last, last, after)))
    where = " AND ".join(condition for condition, _ in conditions)
    values = [value for _, values in conditions for value in values]
    rows = db.execute(
        f"{_INFO} WHERE {where} ORDER BY created_at DESC, run_id LIMIT ?",
        (*values, max(0, limit)),
    )
    return [_info(row) for row in rows]


def opened(db: sqlite3.Connection, run_id: str) -> Opened:
    """A run for its new driver, who has opened it in the same transaction."""
    info = _found(db, run_id)
    snapshot = _snapshot(db, run_id, "DESC LIMIT 1")
    first = 0 if snapshot is None else snapshot.position
    return Opened(
        info=info,
        begin=_begin(db, run_id),
        snapshot=snapshot,
        facts=_facts(db, run_id, first, info.position),
        messages=messages(db, run_id),
    )


def history(db: sqlite3.Connection, run_id: str, upto: int | None) -> History:
    info = _found(db, run_id)
    begin = _begin(db, run_id)
    (first,) = db.execute("SELECT dropped FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    snapshot = None
    if first > 0 or begin is None:
        snapshot = _snapshot(db, run_id, "LIMIT 1")
    end = info.position if upto is None else upto
    return History(
        info=info,
        begin=begin,
        snapshot=snapshot,
        facts=_facts(db, run_id, first, end),
    )


def messages(db: sqlite3.Connection, run_id: str) -> list[Message]:
    rows = db.execute(
        "SELECT number, message_id, body FROM messages "
        "WHERE run_id = ? AND body IS NOT NULL ORDER BY number",
        (run_id,),
    )
    return [Message(*row) for row in rows]


def events(db: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Published]:
    if not db.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone():
        raise refusals.not_found(run_id)
    rows = db.execute(
        "SELECT number, body FROM stream WHERE run_id = ? AND number > ? "
        "ORDER BY number LIMIT ?",
        (run_id, after, max(0, limit)),
    )
    return [Published(*row) for row in rows]


def next_due(
    db: sqlite3.Connection, workflows: Collection[str], now: float
) -> float | None:
    found = [_next_due(db, workflow, now) for workflow in workflows]
    times = [time for time in found if time is not None]
    return max(0.0, min(times) - now) if times else None


def _next_due(db: sqlite3.Connection, workflow: str, now: float) -> float | None:
    # Looked for before anything is compared: many may be due.
    due = db.execute(
        "SELECT 1 FROM runs WHERE workflow = ? AND due_at <= ? AND leased_until <= ? "
        "LIMIT 1",
        (workflow, now, now),
    )
    if due.fetchone():
        return now
    times: list[float | None] = [
        *db.execute(
            "SELECT min(leased_until) FROM runs WHERE workflow = ? AND due_at <= ?",
            (workflow, now),
        ).fetchone(),
        *db.execute(
            "SELECT min(due_at) FROM runs WHERE workflow = ? AND due_at > ?",
            (workflow, now),
        ).fetchone(),
    ]
    return min((time for time in times if time is not None), default=None)


def _found(db: sqlite3.Connection, run_id: str) -> RunInfo:
    found = info(db, run_id)
    if found is None:
        raise refusals.not_found(run_id)
    return found


def _info(row: tuple[Any, ...]) -> RunInfo:
    (
        run_id,
        workflow,
        version,
        shape,
        status,
        epoch,
        position,
        published,
        created_at,
        updated_at,
        due_at,
        owner,
        leased_until,
        note,
        result,
        origin,
    ) = row
    return RunInfo(
        run_id=run_id,
        workflow=workflow,
        version=version,
        shape=shape,
        status=status,
        epoch=epoch,
        position=position,
        published=published,
        created_at=created_at,
        updated_at=updated_at,
        due_at=due_at,
        owner=owner,
        leased_until=leased_until,
        note=note,
        result=result,
        origin=origin,
    )


def _begin(db: sqlite3.Connection, run_id: str) -> bytes | None:
    row = db.execute("SELECT begin FROM births WHERE run_id = ?", (run_id,)).fetchone()
    begin: bytes | None = row[0]
    return begin


def _snapshot(db: sqlite3.Connection, run_id: str, order: str) -> Snapshot | None:
    row = db.execute(
        f"SELECT position, state FROM snapshots WHERE run_id = ? ORDER BY position {order}",  # noqa: S608  # our own word
        (run_id,),
    ).fetchone()
    return None if row is None else Snapshot(*row)


def _facts(db: sqlite3.Connection, run_id: str, first: int, end: int) -> list[bytes]:
    rows = db.execute(
        "SELECT body FROM facts WHERE run_id = ? AND number >= ? AND number < ? "
        "ORDER BY number",
        (run_id, first, end),
    )
    return [body for (body,) in rows]
