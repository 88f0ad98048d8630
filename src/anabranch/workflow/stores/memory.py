"""Runs in this process's memory: they outlive their drivers, and not the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from anabranch.clock import Clock, RealClock
from anabranch.errors import Fenced
from anabranch.workflow.stores import refusals
from anabranch.workflow.stores.due import DueQueue
from anabranch.workflow.stores.gates import MemoryGates
from anabranch.workflow.stores.protocol import (
    FINAL,
    Commit,
    History,
    Message,
    NewRun,
    Opened,
    Published,
    RunInfo,
    Snapshot,
    Status,
)
from anabranch.workflow.stores.watchers import Watchers


@dataclass(slots=True, eq=False)
class _Run:
    """A run's row, and what is behind it."""

    serial: int
    new: NewRun
    epoch: int
    created_at: float
    updated_at: float
    due_at: float | None
    leased_until: float = 0.0
    owner: str = ""
    status: Status = "pending"
    note: str = ""
    result: bytes | None = None
    dropped: int = 0
    facts: list[bytes] = field(default_factory=list[bytes])
    snapshots: dict[int, bytes] = field(default_factory=dict[int, bytes])
    stream: list[bytes] = field(default_factory=list[bytes])
    known: set[str] = field(default_factory=set[str])
    untaken: dict[int, Message] = field(default_factory=dict[int, Message])

    @property
    def end(self) -> int:
        return self.dropped + len(self.facts)

    @property
    def is_over(self) -> bool:
        return self.status in FINAL

    def info(self) -> RunInfo:
        new = self.new
        return RunInfo(
            run_id=new.run_id,
            workflow=new.workflow,
            version=new.version,
            shape=new.shape,
            status=self.status,
            epoch=self.epoch,
            position=self.end,
            published=len(self.stream),
            created_at=self.created_at,
            updated_at=self.updated_at,
            due_at=self.due_at,
            owner=self.owner,
            leased_until=self.leased_until,
            note=self.note,
            result=self.result,
            origin=new.origin,
        )

    def drop_before(self, position: int) -> None:
        """Drop what is not needed for this position and later ones."""
        held = (at for at in self.snapshots if at <= position)
        first = max(held, default=self.dropped)
        del self.facts[: first - self.dropped]
        self.dropped = first
        self.snapshots = {at: held for at, held in self.snapshots.items() if at >= first}

    def first_snapshot(self) -> Snapshot | None:
        """What the facts that are kept begin with, if not with the beginning."""
        if self.dropped == 0 and self.new.snapshot is None:
            return None
        return Snapshot(self.dropped, self.snapshots[self.dropped])


class MemoryStore:
    """A :class:`~anabranch.workflow.Store` for tests, and for what need not last.

    It may be used on several loops, one after the other.

    Args:
        clock: Tells the time; the machine's own by default.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = RealClock() if clock is None else clock
        self._runs: dict[str, _Run] = {}
        self._queues: defaultdict[str, DueQueue] = defaultdict(DueQueue)
        self._watchers = Watchers()
        self.gates = MemoryGates(self._clock.now)
        self._serial = 0
        self._number = 0
        # No run begins in an epoch in which a purged one was driven: were it of the same
        # name, the old driver would be taken for the new one's.
        self._first_epoch = 0

    # ---------------------------------------------------------------- one driver

    async def create(self, run: NewRun) -> bool:
        if run.run_id in self._runs:
            return False
        now = self._clock.now()
        self._serial += 1
        made = _Run(self._serial, run, self._first_epoch, now, now, run.due_at)
        if run.snapshot is not None:
            made.snapshots[0] = run.snapshot
        self._runs[run.run_id] = made
        self._stir(made)
        return True

    async def open(self, run_id: str, *, owner: str, lease: float) -> Opened:
        run = self._found(run_id)
        if not run.is_over:
            run.epoch += 1
            self._lease(run, owner, lease)
        position = max(run.snapshots, default=None)
        snapshot = None if position is None else Snapshot(position, run.snapshots[position])
        return Opened(
            info=run.info(),
            begin=run.new.begin,
            snapshot=snapshot,
            facts=tuple(run.facts[(position or 0) - run.dropped :]),
            messages=tuple(run.untaken.values()),
        )

    async def commit(self, run_id: str, commit: Commit) -> None:
        run = self._owned(run_id, commit.epoch)
        if run.is_over is not commit.reopens:
            raise refusals.ended(run_id, run.status, reopens=commit.reopens)
        if commit.position != run.end:
            raise refusals.conflict(run_id, commit.position, run.end)
        run.facts.extend(commit.facts)
        run.stream.extend(commit.published)
        for number in commit.taken:
            run.untaken.pop(number, None)
        run.status, run.note, run.result = commit.status, commit.note, commit.result
        run.updated_at = self._clock.now()
        if run.is_over:
            run.due_at, run.leased_until = None, 0.0
        else:
            # What came meanwhile is not overlooked, should the driver be gone now.
            self._set_due(run, 0.0 if run.untaken else commit.due_at)
        if commit.snapshot is not None:
            run.snapshots[run.end] = commit.snapshot
            run.drop_before(commit.keep_from)
        if commit.reopens:
            self._stir(run)

    async def release(self, run_id: str, *, epoch: int, due_at: float | None) -> bool:
        run = self._owned(run_id, epoch)
        if run.is_over:
            run.owner = ""
            return True
        if run.untaken:
            return False
        run.owner, run.leased_until, run.due_at = "", 0.0, due_at
        self._stir(run)
        return True

    async def renew(self, epochs: Mapping[str, int], *, lease: float) -> set[str]:
        lost: set[str] = set()
        for run_id, epoch in epochs.items():
            try:
                run = self._owned(run_id, epoch)
            except Fenced:
                lost.add(run_id)
                continue
            if run.owner and not run.is_over:  # nor was it given back
                self._lease(run, run.owner, lease)
        return lost

    # -------------------------------------------------------------------- others

    async def claim(
        self, workflows: Collection[str], *, owner: str, lease: float, limit: int
    ) -> list[str]:
        now = self._clock.now()
        claimed: list[str] = []
        while len(claimed) < limit:
            due = [cast("_Run", run) for run in self._firsts(workflows, now)]
            if not due:
                break
            run = min(due, key=lambda run: (run.due_at, run.serial))
            if run.new.run_id in claimed:
                break  # its lease is over already
            self._lease(run, owner, lease)
            claimed.append(run.new.run_id)
        return claimed

    async def next_due(self, workflows: Collection[str]) -> float | None:
        now = self._clock.now()
        found = (self._queues[name].next_at(now) for name in workflows)
        times = [time for time in found if time is not None]
        return max(0.0, min(times) - now) if times else None

    async def send(self, run_id: str, message_id: str, body: bytes) -> bool:
        run = self._found(run_id)
        if message_id in run.known:
            return False
        if run.is_over:
            raise refusals.done(run_id, run.status)
        self._number += 1
        run.known.add(message_id)
        run.untaken[self._number] = Message(self._number, message_id, body)
        run.updated_at, run.due_at = self._clock.now(), 0.0
        self._stir(run)
        return True

    async def messages(self, run_id: str) -> Sequence[Message]:
        run = self._runs.get(run_id)
        return () if run is None else tuple(run.untaken.values())

    async def changes(self) -> AsyncGenerator[Sequence[str], None]:
        with self._watchers.watch() as watcher:
            yield ()
            while True:
                yield await watcher.told()

    # ------------------------------------------------------------------- looking

    async def info(self, run_id: str) -> RunInfo | None:
        run = self._runs.get(run_id)
        return None if run is None else run.info()

    async def runs(
        self,
        *,
        statuses: Collection[Status] = (),
        workflow: str | None = None,
        updated_before: float | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        behind = None if after is None else _place(self._found(after))
        found = [
            run
            for run in self._runs.values()
            if (not statuses or run.status in statuses)
            and (workflow is None or run.new.workflow == workflow)
            and (updated_before is None or run.updated_at < updated_before)
            and (behind is None or _place(run) > behind)
        ]
        return [run.info() for run in sorted(found, key=_place)[: max(0, limit)]]

    async def events(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> list[Published]:
        stream = self._found(run_id).stream[max(0, after) :][: max(0, limit)]
        return [Published(n, body) for n, body in enumerate(stream, max(0, after) + 1)]

    async def history(self, run_id: str, *, upto: int | None = None) -> History:
        run = self._found(run_id)
        end = run.end if upto is None else upto
        return History(
            info=run.info(),
            begin=run.new.begin,
            snapshot=run.first_snapshot(),
            facts=tuple(run.facts[: max(0, end - run.dropped)]),
        )

    async def purge(self, run_id: str) -> bool:
        run = self._runs.pop(run_id, None)
        if run is None:
            return False
        self._first_epoch = max(self._first_epoch, run.epoch + 1)
        run.due_at = None
        return True

    async def close(self) -> None:
        pass

    # ------------------------------------------------------------------- private

    def _found(self, run_id: str) -> _Run:
        try:
            return self._runs[run_id]
        except KeyError:
            raise refusals.not_found(run_id) from None

    def _owned(self, run_id: str, epoch: int) -> _Run:
        run = self._runs.get(run_id)
        if run is None or run.epoch != epoch:
            raise refusals.fenced(run_id, epoch, None if run is None else run.epoch)
        return run

    def _lease(self, run: _Run, owner: str, lease: float) -> None:
        run.owner, run.leased_until = owner, self._clock.now() + lease
        self._queues[run.new.workflow].push(run)

    def _set_due(self, run: _Run, due_at: float | None) -> None:
        if due_at != run.due_at:
            run.due_at = due_at
            self._queues[run.new.workflow].push(run)

    def _stir(self, run: _Run) -> None:
        self._queues[run.new.workflow].push(run)
        self._watchers.tell((run.new.run_id,))

    def _firsts(self, workflows: Collection[str], now: float) -> Iterator[object]:
        for name in workflows:
            run = self._queues[name].first(now)
            if run is not None:
                yield run


def _place(run: _Run) -> tuple[float, str]:
    """Where a run stands in a list: the latest first."""
    return -run.created_at, run.new.run_id
