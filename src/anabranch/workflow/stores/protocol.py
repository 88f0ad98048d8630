"""Where runs are kept so that they outlive what drives them: the seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Opened:
    """A run as its journal has it.

    Attributes:
        epoch: The number of times it was opened, this one included. Who has opened it
            later has a larger one, and is the only one who may write.
        position: How many facts were ever appended.
        snapshot: The state at some position; ``None`` if none was taken.
        facts: The facts behind that position, in order.
    """

    epoch: int
    position: int
    snapshot: bytes | None
    facts: Sequence[bytes] = field(default=())


@runtime_checkable
class Store(Protocol):
    """Journals of runs.

    A journal is a sequence of facts, numbered from 0, from whose beginning some may have
    been dropped for a snapshot of the state at that position. ``open`` makes the caller its
    only writer. What an ``append`` has returned from is never lost; one that is cut off is
    there whole or not at all.
    """

    async def create(self, run_id: str) -> bool:
        """Begin an empty journal; false, and nothing changes, if there is one."""
        ...

    async def open(self, run_id: str) -> Opened:
        """Become the only writer of a journal, and read it.

        Raises:
            JournalError: There is none.
        """
        ...

    async def append(
        self, run_id: str, *, epoch: int, position: int, facts: Sequence[bytes]
    ) -> int:
        """Append facts, all or none; the new position.

        Args:
            run_id: Whose journal.
            epoch: The writer's.
            position: Where the writer believes the journal to end.
            facts: At least one.

        Raises:
            JournalConflict: Somebody has opened it since, or it ends elsewhere.
        """
        ...

    async def snapshot(
        self, run_id: str, *, epoch: int, position: int, state: bytes
    ) -> None:
        """Put a state in the place of the facts before a position.

        Raises:
            JournalConflict: Somebody has opened it since, or it does not reach as far.
        """
        ...

    async def purge(self, run_id: str) -> None:
        """Forget a journal; nothing happens if there is none."""
        ...
