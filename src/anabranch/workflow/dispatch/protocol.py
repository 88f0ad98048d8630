"""Who drives runs, and where: the seam.

A dispatcher knows runs by their ids only, and no rule of theirs: everything that must not
be lost is in the store. All it has to do is to see to it that a run that wants to be driven
*is* driven, by some worker, at least once. Driving one that another worker drives already
is no harm beyond the work: the store lets only one of them write.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from anabranch.workflow.stores.protocol import Status


@dataclass(frozen=True, slots=True)
class Done:
    """A run has ended.

    Attributes:
        status: How.
    """

    status: Status


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run rests: it needs no worker until it is woken, or a time has come.

    Attributes:
        until: The time, in seconds since the epoch; ``None`` if it waits for none.
    """

    until: float | None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A run is not for this worker: another one drives it, or it is of unknown code."""

    reason: str


Driven: TypeAlias = Done | Waiting | Elsewhere
"""How a run stands when a worker has let go of it."""


class Driver(Protocol):
    """What a worker can do with a run; given to a dispatcher by us.

    Attributes:
        workflows: The names of the workflows whose runs it can drive.
    """

    @property
    def workflows(self) -> Collection[str]: ...

    async def drive(self, run_id: str) -> Driven:
        """Drive a run until it ends or rests.

        If this is cancelled, the run is let go at once, and another worker can drive it:
        nothing that was written is lost, and steps under way are begun anew.

        Raises:
            RunNotFound: The store has no such run any more.
            JournalError: The store fails: to be called again later.
        """
        ...

    async def cancel(self, run_id: str) -> None:
        """Note that a run is to be cancelled; it ends when it is driven the next time."""
        ...


@runtime_checkable
class Dispatcher(Protocol):
    """Brings runs to workers."""

    async def start(
        self, run_id: str, *, workflow: str, not_before: float | None = None
    ) -> None:
        """See to it that a run is driven, once if it is asked for twice.

        Args:
            run_id: Which run; it is in the store.
            workflow: The workflow's name, for people who look.
            not_before: Seconds since the epoch.
        """
        ...

    async def wake(self, run_id: str) -> None:
        """Ring a doorbell: something was sent to the run.

        It may be lost. A run that is driven reads what was sent to it before it rests.
        """
        ...

    async def cancel(self, run_id: str) -> None:
        """See to it that a run whose cancellation is in the store is driven soon."""
        ...

    async def work(self, driver: Driver) -> None:
        """Have runs driven by this process, until this is cancelled.

        Raises:
            JournalError: Runs cannot be found any more, and trying again was no help.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
