"""A thread that has one connection and does what event loops ask for.

Whatever waits when a transaction begins goes into it together (*group commit*), and its
results go back together: a loop is woken once a transaction. So the cost of both is
divided by the number of those who ask at once.

The thread is a daemon, so that the interpreter does not wait for its next request; but
before the interpreter ends, those that were made are done.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from sqlite3 import Connection
from typing import Any, Final, TypeVar

from anabranch.errors import JournalError
from anabranch.workflow.stores.sqlite.connection import Connected, Outcome, Request
from anabranch.workflow.stores.watchers import Watchers

R = TypeVar("R")

MOST: Final = 500
"""Requests in one transaction: the first of them are not kept waiting by the last."""


class DatabaseThread:
    """Does requests in order, some at a time.

    The thread begins with the first request, and after :meth:`close` with the next.

    Args:
        name: For people who look at threads.
        connect: Makes the connection, on the thread. Where it fails, so do the requests
            that wait; the next one tries again.
        watchers: Those who are told what happens to runs, by their loops.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connected],
        watchers: dict[asyncio.AbstractEventLoop, Watchers],
    ) -> None:
        self._name = name
        self._connect = connect
        self._watchers = watchers
        self._lock = threading.Lock()  # nothing is asked of a thread that ends
        self._life: _Life | None = None

    def ask(
        self, work: Callable[[Connection], R], ring: str | None = None
    ) -> asyncio.Future[R]:
        """Have something done; see :class:`Request`.

        Raises:
            JournalError: The store was taken along into a forked process.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        with self._lock:
            life = self._life
            if life is None:
                life = self._life = _Life(self._name, self._connect, self._watchers)
            if life.pid != os.getpid():
                raise JournalError(
                    f"a store that process {life.pid} has opened cannot be used by process "
                    f"{os.getpid()}, which was forked from it: make a store there, and "
                    "start processes with 'spawn' or 'forkserver'"
                )
            life.requests.put((work, future, ring))
        return future

    async def close(self) -> None:
        """Do what was asked for, and close the connection."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.stop(ended):
            await ended

    def stop(self, ended: asyncio.Future[None] | None = None) -> bool:
        """Have the thread end soon; false if there is none."""
        with self._lock:
            life, self._life = self._life, None
            if life is None or life.pid != os.getpid():
                return False
            life.requests.put(ended)
        return True


class _Life:
    """The thread from its beginning to its end: its last request is to end."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connected],
        watchers: dict[asyncio.AbstractEventLoop, Watchers],
    ) -> None:
        self.pid = os.getpid()
        self.requests: SimpleQueue[Request | asyncio.Future[None] | None] = SimpleQueue()
        self._connect = connect
        self._connected: Connected | None = None
        self._watchers = watchers
        self._has_to_end = False
        self._ended: asyncio.Future[None] | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        _living.add(self)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self._has_to_end:
                self._turn(self._next())
        finally:
            if self._connected is not None:
                self._connected.close()
            _living.discard(self)
            if self._ended is not None:
                ended: Outcome = (None, None)
                _post(self._ended.get_loop(), [(self._ended, ended)], None, ())

    def _next(self) -> list[Request]:
        """What waits, or comes before it is time to look what others have done."""
        found: list[Request] = []
        timeout = None if self._connected is None else self._connected.patience_s()
        with suppress(Empty):
            request = self.requests.get(timeout=timeout)
            while isinstance(request, tuple):
                found.append(request)
                if len(found) == MOST:
                    return found
                request = self.requests.get_nowait()
            self._has_to_end, self._ended = True, request
        return found

    def _turn(self, requests: Sequence[Request]) -> None:
        outcomes: Sequence[Outcome] = ()
        told: list[Sequence[str] | None] = []
        try:
            if self._connected is None:
                self._connected = self._connect()
            if requests:
                outcomes = self._connected.outcomes(requests)
            told = self._connected.changes()
        except Exception as error:
            is_ours = isinstance(error, JournalError)
            outcomes = [
                (None, JournalError(str(error)) if is_ours else error) for _ in requests
            ]
        settled: defaultdict[asyncio.AbstractEventLoop, list[_Settled]] = defaultdict(list)
        rung: list[str] = []
        for (_, future, ring), outcome in zip(requests, outcomes, strict=True):
            settled[future.get_loop()].append((future, outcome))
            if ring is not None and outcome[0]:
                rung.append(ring)
        if rung:
            told.append(rung)
        watchers = self._watchers.copy() if told else {}
        for loop in {*settled, *watchers}:
            _post(loop, settled.get(loop, ()), watchers.get(loop), told)


_Settled = tuple[asyncio.Future[Any], Outcome]

_living: Final[set[_Life]] = set()


@atexit.register
def _end_all() -> None:
    for life in tuple(_living):
        life.requests.put(None)
        life.thread.join()


def _post(
    loop: asyncio.AbstractEventLoop,
    settled: Sequence[_Settled],
    watchers: Watchers | None,
    told: Sequence[Sequence[str] | None],
) -> None:
    with suppress(RuntimeError):  # it was closed: nobody waits there
        loop.call_soon_threadsafe(_settle, settled, watchers, told)


def _settle(
    settled: Sequence[_Settled],
    watchers: Watchers | None,
    told: Sequence[Sequence[str] | None],
) -> None:
    for future, (value, error) in settled:
        if future.done():  # whoever waited was cancelled
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
    if watchers is not None:
        for run_ids in told:
            watchers.tell(run_ids)
