"""Queues in a PostgreSQL database, for processes on any number of machines.

One asks how the queue stands, decides here, and is let in if nobody else was meanwhile;
else one asks again. So no row is locked while an answer travels, and a statement that is
sent again, because its answer was lost, does no harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import sha256
from typing import Any, Final

from anabranch.workflow.queues import TICKET_S, Line, Queue, after, wait_s
from anabranch.workflow.stores.postgres.arrays import Texts

_ASK: Final = "SELECT * FROM {schema}.gate_ask($1, $2, $3::float8, $4::float8)"
_ADMIT: Final = "SELECT {schema}.gate_admit($1, $2, $3, $4::float8, $5::float8)"
_STAY: Final = "SELECT {schema}.gate_stay($1, $2, $3::float8)"
_LEAVE: Final = "SELECT {schema}.gate_leave($1, $2)"

# An entry of an index is at most 2,704 bytes, the queue's name included.
_MOST_HOLDER_BYTES: Final = 1500


class PostgresGates:
    """The queues of a :class:`~anabranch.workflow.stores.PostgresStore`.

    Args:
        ask: Gives the rows of one statement.
    """

    def __init__(
        self, ask: Callable[[str, Sequence[Any]], Awaitable[list[tuple[Any, ...]]]]
    ) -> None:
        self._ask = ask

    async def enter(self, queue: Queue, holder: str) -> float:
        holder = _short(holder)
        while True:
            ((now, is_in, inside, ahead, full_at, admitted),) = await self._ask(
                _ASK, [queue.name, holder, queue.lease, TICKET_S]
            )
            if is_in:
                return 0.0
            line = Line(now, inside, ahead, full_at)
            if wait := wait_s(queue, line):
                return wait
            lease = None if queue.concurrency is None else queue.lease
            ((is_admitted,),) = await self._ask(
                _ADMIT, [queue.name, holder, admitted, after(queue, line), lease]
            )
            if is_admitted:
                return 0.0

    async def stay(self, queue: Queue, holders: Collection[str]) -> None:
        shorts = Texts(map(_short, holders))
        await self._ask(_STAY, [queue.name, shorts, queue.lease])

    async def leave(self, queue: Queue, holder: str) -> None:
        await self._ask(_LEAVE, [queue.name, _short(holder)])


def _short(holder: str) -> str:
    written = holder.encode()
    return holder if len(written) <= _MOST_HOLDER_BYTES else sha256(written).hexdigest()
