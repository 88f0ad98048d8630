"""The queue in DBOS: each ticket in it is leave to drive one run once.

A ticket is a workflow of DBOS's without any steps. It is for one epoch of its run, so that
for what a run wants now there is one ticket at most, and one that comes too late does
nothing. DBOS gives each to one worker, once: nothing here asks it to take a ticket over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, TypeAlias
from uuid import uuid4

try:
    from dbos import DBOS, DBOSClient, DBOSConfig, WorkflowSerializationFormat
    from dbos import WorkflowStatus as Ticket
    from dbos import error as refusals
except ModuleNotFoundError as error:
    raise ImportError("DBOSDispatcher needs dbos: pip install 'anabranch[dbos]'") from error
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from anabranch.errors import JournalError, UsageError
from anabranch.workflow.dispatch.local import RETRY_S

Take: TypeAlias = Callable[[str, int], Awaitable[str]]
"""Drives a run, if it still is in this epoch, and says in words how that has ended."""

TICKET: Final = "anabranch.drive"
APPLICATION: Final = "anabranch"
# DBOS would take a hash of code, and keep tickets of one from workers of another. Whether
# code and run go together is known to the store; so this is the same for ever.
VERSION: Final = "anabranch"
# DBOS keeps what has ended until somebody deletes it.
KEEP: Final = timedelta(days=1)
MOST_DELETED: Final = 1_000
# So long DBOS may take to note that tickets have ended, when it is to stop.
DRAIN_S: Final = 5

_opened: Tickets | None = None


async def drive(run_id: str, epoch: int) -> str:
    """The ticket itself: DBOS calls this, on a loop in a thread of its own."""
    return "nobody works here" if _opened is None else await _opened.taken(run_id, epoch)


@cache
def _register() -> None:
    # Not when this is imported: DBOS hashes all that is registered into the version of a
    # program's own workflows.
    DBOS.workflow(name=TICKET)(drive)


class Tickets:
    """The queue as one worker has it. Open and close it in a thread: both block.

    Args:
        url: Of DBOS's system database.
        queue: The queue's name.
        slots: The most tickets that one worker has at the same time.
        concurrency: The most that all workers have.
        rate: So many begin in so many seconds.
        poll: Seconds between two looks of a worker into the queue.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        slots: int,
        concurrency: int | None,
        rate: tuple[int, float] | None,
        poll: float,
    ) -> None:
        self._url = url
        self._queue = queue
        self._slots = slots
        self._concurrency = concurrency
        self._rate = rate
        self._poll = poll
        # Those of a rate's last seconds are counted by DBOS.
        self._keep = max(KEEP, timedelta(seconds=0.0 if rate is None else rate[1]))
        self._executor = ""
        self._client: DBOSClient | None = None
        self._take: Take | None = None
        self._under_way: set[str | None] = set()
        self._is_launched = False

    # ---------------------------------------------------------- opening and closing

    def open(self, take: Take) -> None:
        """Launch DBOS in this process, and have this called for each ticket.

        Raises:
            UsageError: Somebody else in this process has done so.
            JournalError: DBOS's database cannot be reached, or DBOS refuses.
        """
        global _opened
        if _opened is not None:
            raise UsageError(
                "a DBOSDispatcher works in this process already, and DBOS can be launched "
                "once in each: give one worker all workflows, or begin another process"
            )
        _opened, self._take = self, take
        # Nobody had this name before, so DBOS finds nothing to recover: it would do so past
        # the queue and its limits.
        self._executor = f"anabranch-{uuid4().hex}"
        try:
            with self._reaching():
                self._launch()
        except BaseException:
            self.close()
            raise

    def _launch(self) -> None:
        _register()
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": self._url,
            "application_version": VERSION,
            "executor_id": self._executor,
            "log_level": "WARNING",
        }
        DBOS(config=config)
        if DBOS.executor_id != self._executor:  # this was given the one that is there
            raise UsageError(
                "this process uses DBOS for something else, and DBOS can be launched once "
                "in each: work in a process of its own"
            )
        self._is_launched = True
        DBOS.migrate(self._url)
        # It raises when the database is away. DBOS itself waits until it is back.
        self._client = DBOSClient(
            system_database_url=self._url,
            application_name=APPLICATION,
            retry_connection_errors=False,
        )
        # Before the launch: else DBOS finds the queue a second later.
        self._client.register_queue(
            self._queue,
            worker_concurrency=min(self._slots, self._concurrency or self._slots),
            global_concurrency=self._concurrency,
            limiter=(
                {"limit": self._rate[0], "period": self._rate[1]} if self._rate else None
            ),
            polling_interval_sec=self._poll,
        )
        DBOS.listen_queues([self._queue])
        DBOS.launch()

    def close(self) -> None:
        """Stop DBOS: no ticket is taken any more, and no thread of DBOS's is left.

        It takes a second, in which DBOS notes that the tickets under way have ended.
        """
        global _opened
        if self._is_launched:
            DBOS.destroy(workflow_completion_timeout_sec=DRAIN_S)
            self._is_launched = False
            _join_threads()
        if self._client is not None:
            self._client.destroy()
            self._client = None
        _opened = None

    # ------------------------------------------------------------------- the queue

    async def taken(self, run_id: str, epoch: int) -> str:
        """Called by DBOS when this worker has got a ticket: what has become of it."""
        assert self._take is not None
        ticket_id = DBOS.workflow_id
        self._under_way.add(ticket_id)
        try:
            said = await self._take(run_id, epoch)
            await self._reachable()
            return said
        finally:
            self._under_way.discard(ticket_id)

    async def _reachable(self) -> None:
        """Wait while DBOS's database is away.

        DBOS would do so in a thread that cannot be stopped, to note how the ticket ended.
        """
        while True:
            try:
                await self._connected.check_connection_async()
            except SQLAlchemyError:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def queued(self) -> int:
        """How many tickets nobody has taken yet; counted up to ``slots``."""
        return len(await self._in_queue("ENQUEUED", limit=self._slots))

    async def put(self, runs: Sequence[tuple[str, int]]) -> None:
        """Put a ticket for each run and epoch into the queue, unless there is one.

        Raises:
            JournalError: DBOS's database cannot be reached, or DBOS refuses.
        """
        with self._reaching():
            await asyncio.to_thread(self._put, runs)

    def _put(self, runs: Sequence[tuple[str, int]]) -> None:
        for run_id, epoch in runs:
            self._connected.enqueue(
                {
                    "workflow_name": TICKET,
                    "queue_name": self._queue,
                    "workflow_id": f"{self._queue}/{run_id}/{epoch}/{uuid4().hex[:8]}",
                    "app_version": VERSION,
                    "deduplication_id": f"{run_id}/{epoch}",
                    "duplication_policy": "return-existing",
                    "serialization_type": WorkflowSerializationFormat.PORTABLE,
                },
                run_id,
                epoch,
            )

    async def tidy(
        self, is_driven: Callable[[str], Awaitable[bool]], *, lease: float
    ) -> None:
        """Cancel tickets that nobody has any more, and forget those that ended long ago.

        DBOS does not know that a worker is dead: its tickets would count against the
        queue's limits for ever, and keep new ones for the same epochs out.

        Args:
            is_driven: Whether somebody holds the lease of a run.
            lease: A ticket that was taken less than so many seconds ago may be alive,
                though the run is not driven yet.

        Raises:
            JournalError: DBOS's database cannot be reached, or DBOS refuses.
        """
        lost = await self._lost(is_driven, before=time.time() - lease)
        with self._reaching():
            if lost:
                await self._connected.cancel_workflows_async(lost)
            old = await self._connected.list_workflows_async(
                name=TICKET,
                workflow_id_prefix=f"{self._queue}/",
                status=["SUCCESS", "ERROR", "CANCELLED"],
                end_time=(datetime.now(UTC) - self._keep).isoformat(),
                limit=MOST_DELETED,
                load_input=False,
                load_output=False,
            )
            if old:
                await self._connected.delete_workflows_async([t.workflow_id for t in old])

    async def _lost(
        self, is_driven: Callable[[str], Awaitable[bool]], *, before: float
    ) -> list[str]:
        taken = await self._in_queue("PENDING")
        taken.sort(key=_taken_at, reverse=True)
        lost: list[str] = []
        runs: set[str] = set()
        alive: set[str | None] = set()
        for ticket in taken:
            run_id = self._run_id(ticket)
            is_followed = run_id in runs  # by a ticket for a later epoch
            runs.add(run_id)
            if _taken_at(ticket) >= before:
                continue
            if ticket.executor_id == self._executor:
                is_alive = ticket.workflow_id in self._under_way
            elif is_followed:
                is_alive = False
            else:
                # One sign of life is enough, as each worker looks after its own.
                is_alive = ticket.executor_id in alive or await is_driven(run_id)
                if is_alive:
                    alive.add(ticket.executor_id)
            if not is_alive:
                lost.append(ticket.workflow_id)
        return lost

    async def _in_queue(self, status: str, limit: int | None = None) -> list[Ticket]:
        with self._reaching():
            return await self._connected.list_workflows_async(
                queue_name=self._queue,
                status=status,
                limit=limit,
                load_input=False,
                load_output=False,
            )

    def _run_id(self, ticket: Ticket) -> str:
        return ticket.workflow_id[len(self._queue) + 1 :].rsplit("/", 2)[0]

    @property
    def _connected(self) -> DBOSClient:
        assert self._client is not None
        return self._client

    @contextmanager
    def _reaching(self) -> Generator[None]:
        """Say in our words that DBOS's database cannot be reached, or DBOS refuses."""
        try:
            yield
        except (refusals.DBOSException, SQLAlchemyError) as error:
            where = make_url(self._url).render_as_string(hide_password=True)
            raise JournalError(
                f"the queue {self._queue!r} of DBOS at {where} cannot be reached, or DBOS "
                f"refuses: {error}. See that PostgreSQL is up, and try again"
            ) from error


def _join_threads() -> None:
    """Wait for the threads that DBOS has told to end."""
    for thread in threading.enumerate():
        if thread.name.startswith("dbos-executor-"):
            thread.join(timeout=DRAIN_S)


def _taken_at(ticket: Ticket) -> float:
    return (ticket.dequeued_at or 0) / 1000
