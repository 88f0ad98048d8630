"""Where runs are kept so that they outlive what drives them: the seam.

A store holds, for each run, one row that says how it stands, and behind it::

    journal    facts, numbered from 0, and snapshots of the state between them
    stream     the events it has published, numbered from 1
    messages   what was sent to it and its driver has not taken yet

Whoever drives a run has *opened* it. Each opening raises the run's epoch, and only who has
the newest one may write: so a driver that was thought dead and comes back writes nothing.
A driver also holds a *lease*, which says that the run needs nobody else for now; it is
advice to those who look for work, and nothing depends on it for safety.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

Status: TypeAlias = Literal[
    "pending", "running", "waiting", "completed", "failed", "cancelled", "timed out"
]
"""How a run stands: not begun; steps are at work or due; it rests until an event or a time
comes; or how it has ended."""

FINAL: Final[frozenset[Status]] = frozenset(
    ("completed", "failed", "cancelled", "timed out")
)
"""Those in which a run has ended: nothing is written to it, unless it is reopened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that is to be.

    Attributes:
        run_id: Its name.
        workflow: That of its workflow.
        version: What the workflow says of itself; empty if nothing.
        shape: The workflow's steps as data, for comparison.
        begin: What it begins with, as data; ``None`` if it has a snapshot.
        snapshot: The state it begins with instead.
        due_at: When it may be driven, in seconds since the epoch; 0 for at once, ``None``
            for not before somebody sends it something.
        origin: The run it was forked from.
    """

    run_id: str
    workflow: str
    version: str = ""
    shape: bytes = b""
    begin: bytes | None = None
    snapshot: bytes | None = None
    due_at: float | None = 0.0
    origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """How a run stands.

    Times are seconds since the epoch.

    Attributes:
        epoch: How often it was opened; more if a run of its name was purged before, so
            that the driver of that one writes nothing to this one.
        position: How many facts its journal has, those included that were dropped.
        published: How many events its stream has.
        due_at: When it wants to be driven, if nobody drives it; ``None`` for not before
            something is sent to it. 0 is at once.
        owner: Who has opened it last; empty for nobody.
        leased_until: Until when that one is believed to be at it.
        note: A sentence: what it waits for, or why it has failed.
        result: What it gave, as data.
    """

    run_id: str
    workflow: str
    version: str
    shape: bytes
    status: Status
    epoch: int
    position: int
    published: int
    created_at: float
    updated_at: float
    due_at: float | None
    owner: str
    leased_until: float
    note: str
    result: bytes | None
    origin: str | None


class Message(NamedTuple):
    """Something that was sent to a run.

    Attributes:
        number: Its own among all messages of the store, to be named when it is taken.
        message_id: The sender's name for it.
        body: What was sent.
    """

    number: int
    message_id: str
    body: bytes


class Published(NamedTuple):
    """An event of a run's stream.

    Attributes:
        number: Its place, from 1.
        body: The event as data.
    """

    number: int
    body: bytes


class Snapshot(NamedTuple):
    """The state of a run behind a number of facts."""

    position: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A run as its new driver finds it.

    Attributes:
        info: How it stands; with the new epoch.
        begin: What it begins with.
        snapshot: The newest one; ``None`` if none was taken.
        facts: Those behind the snapshot, in order.
        messages: Those that were not taken, oldest first.
    """

    info: RunInfo
    begin: bytes | None
    snapshot: Snapshot | None
    facts: Sequence[bytes]
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a driver writes at once: all of it or nothing.

    Attributes:
        epoch: The driver's.
        position: Where the driver believes the journal to end.
        facts: Are appended to it.
        published: Are appended to the stream.
        taken: Numbers of messages that these facts have dealt with: they are not given
            again, and their ids stay known.
        status: How the run stands now.
        due_at: When it wants to be driven, should its driver be gone; ``None`` for not
            before something is sent. If there are messages that were not taken, it is due
            at once; if it has ended, never.
        note: What it waits for, or why it has failed.
        result: What it gave, if it has ended.
        snapshot: The state behind these facts.
        reopens: Whether the run has ended and now goes on; a run that has not ended cannot.
        keep_from: With a snapshot: facts before this position may be dropped, and
            snapshots at earlier ones; but always the newest snapshot stays, and what it
            takes to have the state at this position and at every later one.
    """

    epoch: int
    position: int
    facts: Sequence[bytes] = ()
    published: Sequence[bytes] = ()
    taken: Sequence[int] = ()
    status: Status = "running"
    due_at: float | None = 0.0
    note: str = ""
    result: bytes | None = None
    snapshot: bytes | None = None
    keep_from: int = 0
    reopens: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A run's journal up to some position, as far back as it is kept.

    Attributes:
        info: How the run stands.
        begin: What it begins with.
        snapshot: The state that the facts begin with; ``None`` if they begin at 0.
        facts: In order.
    """

    info: RunInfo
    begin: bytes | None
    snapshot: Snapshot | None
    facts: Sequence[bytes]


@runtime_checkable
class Store(Protocol):
    """Runs and their journals.

    What a call has returned from is never lost; one that is cut off has happened whole or
    not at all. Every method may be called from any task of the loop that first used the
    store, any number at once. A store that cannot be read or written raises
    :class:`~anabranch.JournalError` with a sentence. Leases and due times go by the store's
    own clock.
    """

    # ---------------------------------------------------------------- one driver

    async def create(self, run: NewRun) -> bool:
        """Add a run; false, and nothing changes, if there is one of this name."""
        ...

    async def open(self, run_id: str, *, owner: str, lease: float) -> Opened:
        """Become the only driver of a run, and read it.

        Args:
            run_id: Which run.
            owner: A name for the driver, for people who look.
            lease: Seconds for which nobody else need look after it. A run that has ended
                is not leased, and its epoch stays.

        Raises:
            RunNotFound: There is none.
        """
        ...

    async def commit(self, run_id: str, commit: Commit) -> None:
        """Write what has happened, in one transaction.

        Raises:
            Fenced: Somebody has opened the run since, or it is gone.
            JournalConflict: Its journal ends elsewhere, or it has ended, or not ended and
                is to be reopened.
        """
        ...

    async def release(self, run_id: str, *, epoch: int, due_at: float | None) -> bool:
        """Give a run back: it has no owner then, and is due at this time.

        Returns:
            False, and nothing changes, if there are messages that were not taken and the
            run has not ended. So none is overlooked that came while the driver was about
            to rest.

        Raises:
            Fenced: Somebody has opened the run since, or it is gone.
        """
        ...

    async def renew(self, epochs: Mapping[str, int], *, lease: float) -> set[str]:
        """Prolong the leases of runs, by their ids; those that were lost to another.

        A run that was given back or has ended is neither leased nor lost; one that is gone
        is lost.
        """
        ...

    # -------------------------------------------------------------------- others

    async def claim(
        self, workflows: Collection[str], *, owner: str, lease: float, limit: int
    ) -> list[str]:
        """Lease runs of these workflows that are due and have no driver, oldest due first.

        No two callers are given the same run. It is not opened yet.
        """
        ...

    async def next_due(self, workflows: Collection[str]) -> float | None:
        """Seconds until :meth:`claim` may find something, unless something is sent.

        Of leased runs it is the end of the lease. ``None`` if nothing will be due.
        """
        ...

    async def send(self, run_id: str, message_id: str, body: bytes) -> bool:
        """Send a run something, and make it due; false if it had a message of this id.

        Raises:
            RunNotFound: There is none.
            WorkflowDone: It has ended. A message that it had is no error, though.
        """
        ...

    async def messages(self, run_id: str) -> Sequence[Message]:
        """Those that were not taken, oldest first; none if there is no such run."""
        ...

    def changes(self) -> AsyncIterator[Sequence[str]]:
        """Tell when something may have been sent to runs, or become due otherwise.

        Each item names the runs; an empty one says that it may have been any. The first
        item comes at once and is empty, when nothing will be missed from then on. Some may
        come for nothing, and after a fault some may be missed, though not for long.
        """
        ...

    # ------------------------------------------------------------------- looking

    async def info(self, run_id: str) -> RunInfo | None:
        """How a run stands; ``None`` if there is none."""
        ...

    async def runs(
        self,
        *,
        statuses: Collection[Status] = (),
        workflow: str | None = None,
        updated_before: float | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        """Runs, the latest created first, and by name where they are of one instant.

        Args:
            statuses: Only those that stand so; empty for all.
            workflow: Only those of this one.
            updated_before: Only those to which nothing has happened since.
            after: Begin behind this run.
            limit: The most to give.

        Raises:
            RunNotFound: There is no run ``after``.
        """
        ...

    async def events(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> list[Published]:
        """What a run has published behind a number, in order.

        Raises:
            RunNotFound: There is none.
        """
        ...

    async def history(self, run_id: str, *, upto: int | None = None) -> History:
        """The journal as far back as it is kept, up to a position, whoever drives it.

        The snapshot is the oldest one that is kept, if facts before it were dropped or the
        run has begun with one. If the position is before it, there are no facts.

        Raises:
            RunNotFound: There is none.
        """
        ...

    async def purge(self, run_id: str) -> bool:
        """Forget a run, whatever it does; false if there is none."""
        ...

    async def close(self) -> None:
        """Finish what was asked for, and let go of files and connections."""
        ...
