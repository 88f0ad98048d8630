"""Runs in an SQLite file: they outlive the process, and processes may share them.

One thread of the store writes and one reads, so that no event loop waits for the disk. The
commits of all runs that wait at one time are one transaction.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Literal

from anabranch.clock import Clock, RealClock
from anabranch.workflow.stores.protocol import (
    Commit,
    History,
    Message,
    NewRun,
    Opened,
    Published,
    RunInfo,
    Status,
)
from anabranch.workflow.stores.sqlite import reading, writing
from anabranch.workflow.stores.sqlite.connection import Reader, Writer
from anabranch.workflow.stores.sqlite.file import DatabaseFile
from anabranch.workflow.stores.sqlite.gates import SQLiteGates
from anabranch.workflow.stores.sqlite.thread import DatabaseThread
from anabranch.workflow.stores.watchers import Watchers


class SQLiteStore:
    """A :class:`~anabranch.workflow.Store` in one file, for one machine.

    Any number of processes of the machine may use the file at once, and any number of event
    loops the store, though none after a fork. The file is made by the first request, and
    its name with ``-wal`` and ``-shm`` behind it belongs to it. A store that was closed
    opens again when it is used.

    A request whose task is cancelled may be done nevertheless.

    Args:
        path: The file, on a disk of this machine; its folder must be there.
        durability: What has been committed survives the death of the process with
            ``"process"``. With ``"power"`` also the loss of power: each transaction waits
            for the disk then.
        clock: Tells the time; the machine's own by default.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        durability: Literal["process", "power"] = "process",
        clock: Clock | None = None,
    ) -> None:
        self.path = str(Path(fspath(path)).absolute())  # wherever the program goes
        self._clock = RealClock() if clock is None else clock
        self._watchers: dict[asyncio.AbstractEventLoop, Watchers] = {}
        file = DatabaseFile(self.path, durability)
        self._writer = DatabaseThread(
            "anabranch-store-writer", partial(Writer, file, self._watchers), self._watchers
        )
        self._reader = DatabaseThread("anabranch-store-reader", partial(Reader, file), {})
        self.gates = SQLiteGates(self._writer, self._clock)
        for thread in (self._writer, self._reader):
            weakref.finalize(self, thread.stop).atexit = False

    # ---------------------------------------------------------------- one driver

    async def create(self, run: NewRun) -> bool:
        now = self._clock.now()
        return await self._writer.ask(
            lambda db: writing.create(db, run, now), ring=run.run_id
        )

    async def open(self, run_id: str, *, owner: str, lease: float) -> Opened:
        until = self._clock.now() + lease
        return await self._writer.ask(lambda db: writing.open_run(db, run_id, owner, until))

    async def commit(self, run_id: str, commit: Commit) -> None:
        now = self._clock.now()
        await self._writer.ask(
            lambda db: writing.commit(db, run_id, commit, now), ring=run_id
        )

    async def release(self, run_id: str, *, epoch: int, due_at: float | None) -> bool:
        return await self._writer.ask(
            lambda db: writing.release(db, run_id, epoch, due_at), ring=run_id
        )

    async def renew(self, epochs: Mapping[str, int], *, lease: float) -> set[str]:
        until = self._clock.now() + lease
        epochs = dict(epochs)
        return await self._writer.ask(lambda db: writing.renew(db, epochs, until))

    # -------------------------------------------------------------------- others

    async def claim(
        self, workflows: Collection[str], *, owner: str, lease: float, limit: int
    ) -> list[str]:
        now = self._clock.now()
        workflows = tuple(dict.fromkeys(workflows))
        return await self._writer.ask(
            lambda db: writing.claim(
                db,
                workflows,
                owner=owner,
                now=now,
                leased_until=now + lease,
                limit=limit,
            )
        )

    async def next_due(self, workflows: Collection[str]) -> float | None:
        now = self._clock.now()
        workflows = tuple(workflows)
        return await self._reader.ask(lambda db: reading.next_due(db, workflows, now))

    async def send(self, run_id: str, message_id: str, body: bytes) -> bool:
        now = self._clock.now()
        return await self._writer.ask(
            lambda db: writing.send(db, run_id, message_id, body, now), ring=run_id
        )

    async def messages(self, run_id: str) -> Sequence[Message]:
        return await self._reader.ask(lambda db: reading.messages(db, run_id))

    async def changes(self) -> AsyncGenerator[Sequence[str], None]:
        loop = asyncio.get_running_loop()
        watchers = self._watchers.setdefault(loop, Watchers())
        try:
            with watchers.watch() as watcher:
                # From the next transaction on the writer knows what has come.
                await self._writer.ask(lambda _: None)
                yield ()
                while True:
                    yield await watcher.told()
        finally:
            if not watchers:
                self._watchers.pop(loop, None)

    # ------------------------------------------------------------------- looking

    async def info(self, run_id: str) -> RunInfo | None:
        return await self._reader.ask(lambda db: reading.info(db, run_id))

    async def runs(
        self,
        *,
        statuses: Collection[Status] = (),
        workflow: str | None = None,
        updated_before: float | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        statuses = tuple(statuses)
        return await self._reader.ask(
            lambda db: reading.runs(
                db,
                statuses=statuses,
                workflow=workflow,
                updated_before=updated_before,
                after=after,
                limit=limit,
            )
        )

    async def events(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> list[Published]:
        return await self._reader.ask(lambda db: reading.events(db, run_id, after, limit))

    async def history(self, run_id: str, *, upto: int | None = None) -> History:
        return await self._reader.ask(lambda db: reading.history(db, run_id, upto))

    async def purge(self, run_id: str) -> bool:
        return await self._writer.ask(lambda db: writing.purge(db, run_id))

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.close()
