"""The connections of a PostgreSQL store on one event loop.

Nothing runs in the background. Connections are made when they are needed, and each is
lent to one caller at a time. One that fails is closed, and the others with it, since what
ended it has ended them: a server that was restarted costs one failure, not one for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from anabranch.workflow.stores.postgres.place import Connection, Place, is_passing
from anabranch.workflow.stores.postgres.schema import make_ready

R = TypeVar("R")
Rows: TypeAlias = list[tuple[Any, ...]]

IDLE = psycopg.pq.TransactionStatus.IDLE


class Session:
    """What a store has on one loop.

    Args:
        place: Where the store is.
        connections: The most that are lent at once.
        patience: Seconds for which a server that is not there is waited for.
    """

    def __init__(self, place: Place, *, connections: int, patience: float) -> None:
        self.place = place
        self._patience = patience
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._written: dict[str, bytes] = {}
        self._is_ready = False
        self._is_closed = False

    async def ask(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        """The rows of one statement, which is a transaction of its own.

        It is run again if its connection is lost, when it may have been carried out:
        so it must be one that does no harm, and gives the same answer, the second time.

        Raises:
            JournalError: It cannot be carried out.
        """

        async def once() -> Rows:
            async with self.connection() as connection:
                return await self.run(connection, statement, values)

        return await self.persist(once)

    async def persist(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """Try until it succeeds, or fails for good, or one has waited too long.

        Raises:
            JournalError: It has failed.
        """
        try:
            return await attempt()
        except psycopg.Error as error:
            if not is_passing(error):
                raise self.place.sentence(error) from error

        async def once_more() -> R:
            return await attempt()

        again = AsyncRetrying(
            retry=retry_if_exception(_is_worth_it),
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(multiplier=0.05, max=2.0),
            reraise=True,
        )
        try:
            return await again(once_more)
        except psycopg.Error as error:
            if is_passing(error):
                raise self.place.gave_up(error, self._patience) from error
            raise self.place.sentence(error) from error

    async def run(
        self, connection: Connection, statement: str, values: Sequence[Any] = ()
    ) -> Rows:
        """The rows that a statement gives on this connection."""
        written = self._written.get(statement)
        if written is None:
            written = self._written[statement] = self.place.statement(statement)
        cursor = connection.cursor(binary=True)
        await cursor.execute(written, values)
        return await cursor.fetchall() if cursor.description is not None else []

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        """One that nobody else uses meanwhile."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else await self.connect()
            is_lost = False
            try:
                yield connection
            except psycopg.Error as error:
                is_lost = is_passing(error)
                if is_lost:
                    await self._drop_idle()
                raise
            finally:
                is_lost |= self._is_closed
                if is_lost or connection.info.transaction_status != IDLE:
                    await self.let_go(connection)
                else:
                    self._idle.append(connection)

    async def connect(self) -> Connection:
        """A new one, for who asks to let go of; the tables are there then."""
        connection = await self.place.connect()
        self._open.add(connection)
        if not self._is_ready:
            try:
                await make_ready(self.place, connection)
            except BaseException:
                await self.let_go(connection)
                raise
            self._is_ready = True
        return connection

    async def let_go(self, connection: Connection) -> None:
        """Close one of :meth:`connect`."""
        self._open.discard(connection)
        await connection.close()

    async def close(self) -> None:
        """Close what is idle, and the rest when it is given back."""
        self._is_closed = True
        await self._drop_idle()

    async def _drop_idle(self) -> None:
        while self._idle:
            await self.let_go(self._idle.pop())

    def abandon(self) -> None:
        """Close everything, on a loop that does not run any more."""
        self._is_closed = True
        for connection in self._open:
            connection.pgconn.finish()


def _is_worth_it(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and is_passing(error)
