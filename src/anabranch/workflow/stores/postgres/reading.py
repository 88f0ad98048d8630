"""What is read of runs in PostgreSQL: each in one statement, so of one instant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any, Final

from anabranch.workflow.stores import refusals
from anabranch.workflow.stores.postgres.arrays import Texts
from anabranch.workflow.stores.postgres.session import Rows, Session
from anabranch.workflow.stores.protocol import (
    History,
    Message,
    Opened,
    Published,
    RunInfo,
    Snapshot,
    Status,
)

_FIELDS: Final = tuple(field.name for field in fields(RunInfo))


def _filled(text: str, **parts: str) -> str:
    """A statement with parts that are our own words too."""
    parts["columns"] = ", ".join(_FIELDS)
    parts["nothing"] = ", ".join(["NULL"] * len(_FIELDS))
    parts["runs"] = "{schema}.run JOIN {schema}.birth ON birth.run = run.key"
    for name, part in parts.items():
        text = text.replace(f"<{name}>", part)
    return text


_INFO: Final = _filled("SELECT <columns> FROM <runs> WHERE run_id = $1")

_LIST: Final = """
SELECT <columns> FROM <runs> WHERE <where>
ORDER BY created_at DESC, run_id LIMIT $1"""

# The row that has the first event that is asked for may begin before it.
_EVENTS: Final = """
WITH found AS (SELECT key FROM {schema}.run WHERE run_id = $1)
SELECT NULL AS number, NULL AS bodies FROM found
UNION ALL (
    SELECT stream.number, bodies FROM found JOIN {schema}.stream ON run = key
    WHERE stream.number >= coalesce((
        SELECT max(number) FROM {schema}.stream WHERE run = key AND number <= $2::bigint
    ), 0)
    ORDER BY stream.number LIMIT $3::bigint
)"""

# A run whole: rows of several kinds, as wide as the widest.
_WHOLE: Final = """
WITH found AS (SELECT * FROM <runs> WHERE run_id = $1),
base AS (<base>)
SELECT 'run' AS kind, NULL::bigint AS number, NULL::text AS name, begin AS body,
    NULL::bytea[] AS bodies, <columns> FROM found
UNION ALL
SELECT 'snapshot', position, NULL, state, NULL, <nothing> FROM base
UNION ALL
SELECT 'facts', fact.position, NULL, NULL, fact.bodies, <nothing>
FROM found JOIN {schema}.fact ON fact.run = key WHERE <facts>"""

_OPENED: Final = _filled(
    _WHOLE
    + """
UNION ALL
SELECT 'message', message.number, message_id, body, NULL, <nothing>
FROM found JOIN {schema}.message ON message.run = key WHERE body IS NOT NULL""",
    base="""
SELECT snapshot.* FROM found JOIN {schema}.snapshot ON snapshot.run = key
ORDER BY snapshot.position DESC LIMIT 1""",
    facts="fact.position >= coalesce((SELECT position FROM base), 0)",
)

_HISTORY: Final = _filled(
    _WHOLE,
    base="""
SELECT snapshot.* FROM found
JOIN {schema}.snapshot ON snapshot.run = key AND snapshot.position = found.dropped
WHERE found.dropped > 0 OR begin IS NULL""",
    facts="fact.position >= found.dropped AND fact.position < $2::bigint",
)

_MESSAGES: Final = """
SELECT number, message_id, body FROM {schema}.message
WHERE run = (SELECT key FROM {schema}.run WHERE run_id = $1) AND body IS NOT NULL
ORDER BY number"""

_ENDLESS: Final = 2**62


async def info(session: Session, run_id: str) -> RunInfo | None:
    rows = await session.ask(_INFO, [run_id])
    return _info(rows[0]) if rows else None


async def runs(
    session: Session,
    *,
    statuses: Collection[Status],
    workflow: str | None,
    updated_before: float | None,
    after: str | None,
    limit: int,
) -> list[RunInfo]:
    conditions = ["true"]
    values: list[object] = [max(0, limit)]

    def only(condition: str, *given: object) -> None:
        places = [f"${len(values) + n}" for n in range(1, len(given) + 1)]
        conditions.append(condition.format(*places))
        values.extend(given)

    if statuses:
        only("status = ANY ({})", Texts(statuses))
    if workflow is not None:
        only("workflow = {}", workflow)
    if updated_before is not None:
        only("updated_at < {}", updated_before)
    if after is not None:
        last = await info(session, after)
        if last is None:
            raise refusals.not_found(after)
        at = last.created_at
        only("created_at <= {} AND (created_at < {} OR run_id > {})", at, at, after)
    rows = await session.ask(_filled(_LIST, where=" AND ".join(conditions)), values)
    return [_info(row) for row in rows]


async def events(session: Session, run_id: str, after: int, limit: int) -> list[Published]:
    first = max(0, after) + 1
    limit = max(0, limit)
    rows = await session.ask(_EVENTS, [run_id, first, limit])
    if not rows:
        raise refusals.not_found(run_id)
    published = [
        Published(number, body)
        for begin, bodies in sorted(row for row in rows if row[0] is not None)
        for number, body in enumerate(bodies, begin)
        if number >= first
    ]
    return published[:limit]


async def opened(session: Session, run_id: str) -> Opened:
    """A run with what its driver needs; its epoch may have been raised by another since.

    Raises:
        RunNotFound: There is none.
    """
    whole = _Whole(run_id, await session.ask(_OPENED, [run_id]))
    return Opened(
        info=whole.info,
        begin=whole.begin,
        snapshot=whole.snapshot,
        facts=whole.facts,
        messages=whole.messages,
    )


async def history(session: Session, run_id: str, upto: int | None) -> History:
    end = _ENDLESS if upto is None else upto
    whole = _Whole(run_id, await session.ask(_HISTORY, [run_id, end]))
    return History(
        info=whole.info,
        begin=whole.begin,
        snapshot=whole.snapshot,
        facts=whole.facts[: max(0, end - whole.first)],
    )


async def messages(session: Session, run_id: str) -> Sequence[Message]:
    return [Message(*row) for row in await session.ask(_MESSAGES, [run_id])]


class _Whole:
    """A run out of rows of several kinds."""

    def __init__(self, run_id: str, rows: Rows) -> None:
        kinds: dict[str, list[tuple[int, str, Any, Any]]] = {}
        for kind, *row in rows:
            kinds.setdefault(kind, []).append((row[0], row[1], row[2], row[3]))
            if kind == "run":
                self.info = _info(row[4:])
        if "run" not in kinds:
            raise refusals.not_found(run_id)
        self.begin: bytes | None = kinds["run"][0][2]
        self.snapshot: Snapshot | None = None
        for position, _, state, _ in kinds.get("snapshot", ()):
            self.snapshot = Snapshot(position, state)
        facts = sorted(kinds.get("facts", ()))
        self.first: int = facts[0][0] if facts else 0
        self.facts: list[bytes] = list(chain.from_iterable(row[3] for row in facts))
        self.messages = [Message(*row[:3]) for row in sorted(kinds.get("message", ()))]


def _info(row: Sequence[Any]) -> RunInfo:
    return RunInfo(**dict(zip(_FIELDS, row, strict=True)))
