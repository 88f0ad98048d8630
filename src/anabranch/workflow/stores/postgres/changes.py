"""Hearing of what happens to runs in PostgreSQL, whoever does it.

The server notifies; and now and then one looks, on the same connection. So one learns what
a pooler between here and there may swallow, and that a connection is dead which nobody has
closed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from time import monotonic
from typing import Final

import psycopg

from anabranch.workflow.stores.postgres.place import Connection, is_passing
from anabranch.workflow.stores.postgres.session import Session

LOOK_EVERY_S: Final = 1.0
MOST_NAMES: Final = 1000

_LISTEN: Final = "LISTEN {channel_name}"

# Whose messages were not taken, with the last one's number; and who was made of late.
_LOOK: Final = """
(SELECT run_id, last_sent FROM {schema}.run WHERE unread > 0
    ORDER BY last_sent DESC LIMIT $1)
UNION ALL
(SELECT run_id, 0 FROM {schema}.run ORDER BY created_at DESC, run_id LIMIT 50)"""


async def changes(session: Session) -> AsyncGenerator[Sequence[str], None]:
    """What a store's ``changes`` gives.

    Raises:
        JournalError: The server cannot be reached, and waiting was no help.
    """
    while True:
        ear = await session.persist(lambda: _Ear.listening(session))
        try:
            yield ()
            while True:
                yield await ear.heard()
        except psycopg.Error as error:
            if not is_passing(error):
                raise session.place.sentence(error) from error
        finally:
            await session.let_go(ear.connection)


class _Ear:
    """One connection that listens."""

    def __init__(self, session: Session, connection: Connection) -> None:
        self._session = session
        self.connection = connection
        self._seen: set[tuple[str, int]] = set()
        self._looks_at = 0.0

    @classmethod
    async def listening(cls, session: Session) -> _Ear:
        """Nothing that happens after this is missed."""
        ear = cls(session, await session.connect())
        try:
            await session.run(ear.connection, _LISTEN)
            await ear._look()
        except BaseException:
            await session.let_go(ear.connection)
            raise
        return ear

    async def heard(self) -> Sequence[str]:
        """The runs to which something happened; none if it may have been any."""
        run_ids: set[str] = set()
        while not run_ids:
            if monotonic() >= self._looks_at:
                run_ids = await self._look()
                continue
            notices = self.connection.notifies(
                timeout=self._looks_at - monotonic(), stop_after=1
            )
            async with aclosing(notices):
                run_ids = {notice.payload async for notice in notices}
        return () if "" in run_ids or len(run_ids) >= MOST_NAMES else tuple(run_ids)

    async def _look(self) -> set[str]:
        """The runs to which something happened since the last time."""
        self._looks_at = monotonic() + LOOK_EVERY_S
        rows = await self._session.run(self.connection, _LOOK, [MOST_NAMES])
        seen = {(run_id, last_sent) for run_id, last_sent in rows}
        new, self._seen = seen - self._seen, seen
        return {run_id for run_id, _ in new}
