"""Who is inside a queue, and who waits: what stores keep of it, and the one in memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from anabranch.workflow.queues import TICKET_S, Line, Queue, after, wait_s


class Gates(Protocol):
    """The queues of a store.

    A holder is a text that nobody else has: it names one attempt of one execution. Calls
    that are cut off may have happened; each may be made again. In a queue without
    ``concurrency`` nobody is inside: there is nothing to give back.
    """

    async def enter(self, queue: Queue, holder: str) -> float:
        """Ask to begin.

        Returns:
            0 if the holder is inside, for the queue's lease; else the seconds after which
            to ask again. Until then it has a ticket, which keeps its turn.

        Raises:
            JournalError: The store cannot be read or written.
        """
        ...

    async def stay(self, queue: Queue, holders: Collection[str]) -> None:
        """Prolong the leases of holders; those whose lease has ended are inside again.

        Raises:
            JournalError: The store cannot be read or written.
        """
        ...

    async def leave(self, queue: Queue, holder: str) -> None:
        """Give the place or the ticket back, if the holder has one.

        Raises:
            JournalError: The store cannot be read or written.
        """
        ...


@runtime_checkable
class HasGates(Protocol):
    """A store that keeps queues."""

    @property
    def gates(self) -> Gates:
        """Its queues."""
        ...


@dataclass(slots=True)
class _Gate:
    """One queue: until when holders are inside, and tickets are good, oldest first."""

    inside: dict[str, float] = field(default_factory=dict[str, float])
    tickets: dict[str, float] = field(default_factory=dict[str, float])
    full_at: float = 0.0

    def forget_dead(self, now: float) -> None:
        for held in (self.inside, self.tickets):
            for holder in [holder for holder, until in held.items() if until <= now]:
                del held[holder]

    def ahead_of(self, holder: str) -> int:
        if holder not in self.tickets:
            return len(self.tickets)
        return next(i for i, ticket in enumerate(self.tickets) if ticket == holder)


class MemoryGates:
    """The queues of this process, for any of its threads.

    Args:
        now: Tells the time.
        has_leases: Whether places are free some time after their holder was last seen. In
            a process it is not needed: what holds them gives them back.
    """

    def __init__(self, now: Callable[[], float], *, has_leases: bool = True) -> None:
        self.has_leases = has_leases
        self._now = now
        self._gates: dict[str, _Gate] = {}
        self._lock = threading.Lock()

    def _until(self, queue: Queue) -> float:
        return self._now() + queue.lease if self.has_leases else math.inf

    async def enter(self, queue: Queue, holder: str) -> float:
        with self._lock:
            now = self._now()
            gate = self._gates.setdefault(queue.name, _Gate())
            gate.forget_dead(now)
            if holder in gate.inside:
                gate.inside[holder] = self._until(queue)
                return 0.0
            line = Line(now, len(gate.inside), gate.ahead_of(holder), gate.full_at)
            wait = wait_s(queue, line)
            if wait:
                gate.tickets[holder] = now + TICKET_S
                return wait
            gate.tickets.pop(holder, None)
            gate.full_at = after(queue, line)
            if queue.concurrency is not None:
                gate.inside[holder] = self._until(queue)
            return 0.0

    async def stay(self, queue: Queue, holders: Collection[str]) -> None:
        with self._lock:
            gate = self._gates.setdefault(queue.name, _Gate())
            gate.inside.update(dict.fromkeys(holders, self._until(queue)))

    async def leave(self, queue: Queue, holder: str) -> None:
        with self._lock:
            gate = self._gates.get(queue.name)
            if gate is not None:
                gate.inside.pop(holder, None)
                gate.tickets.pop(holder, None)
