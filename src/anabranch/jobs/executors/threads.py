"""Jobs in threads of this process: for functions that block."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from inspect import iscoroutine
from typing import Any

from anabranch.errors import ExecutorClosed
from anabranch.jobs.check import check_count
from anabranch.jobs.cores import usable_cores
from anabranch.jobs.executors.protocol import Reply
from anabranch.jobs.executors.staff import CLOSED
from anabranch.jobs.executors.waiting import settle

# As in concurrent.futures: enough to wait in, few enough for a machine with many cores.
SPARE_THREADS = 4
MOST_THREADS = 32


class ThreadExecutor:
    """Runs synchronous functions in threads, each in a copy of its caller's context.

    Values are handed over as they are and exceptions come back as the same object. A
    thread cannot be stopped: a cancelled call waits until the function returns, and what
    it returned is dropped.

    Args:
        threads: How many at most. Default: four more than the usable cores, at most 32.
    """

    chunk = 1
    resend = 0

    def __init__(self, threads: int | None = None) -> None:
        if threads is None:
            threads = min(MOST_THREADS, usable_cores() + SPARE_THREADS)
        check_count("threads", threads)
        self.slots = threads
        self._lock = threading.Lock()
        self._threads: _Threads | None = None

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        with self._lock:
            # A forked child has none of its parent's threads.
            if self._threads is None or self._threads.pid != os.getpid():
                self._threads = _Threads(self.slots)
            threads = self._threads
            submitted = threads.submit(copy_context().run, _run, fn, items)
        running = asyncio.wrap_future(submitted)
        try:
            replies = await asyncio.shield(running)
        except asyncio.CancelledError:
            submitted.cancel()  # helps if no thread had taken it
            await settle([running])
            raise
        if threads.closed:
            raise ExecutorClosed(CLOSED)
        return replies

    async def aclose(self) -> None:
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None and threads.pid == os.getpid():
            await threads.aclose()


class _Threads:
    """The threads between two closings of an executor, in one process.

    Attributes:
        closed: The executor was closed: who still waits for them is told so.
        pid: The process that they are in.
    """

    def __init__(self, number: int) -> None:
        self.closed = False
        self.pid = os.getpid()
        self._pool = ThreadPoolExecutor(number, thread_name_prefix="anabranch")
        self._places = threading.Semaphore(number)  # of threads outside of the pool
        self._running: set[Future[list[Reply]]] = set()

    def submit(self, *call: Any) -> Future[list[Reply]]:
        try:
            submitted: Future[list[Reply]] = self._pool.submit(*call)
        except RuntimeError as error:
            # The main thread has ended: pools take no more work. In other cases, such as
            # for want of threads, the pool has taken it nevertheless.
            if "after interpreter shutdown" not in str(error):
                raise
            submitted = _in_new_thread(self._places, *call)
        self._running.add(submitted)
        submitted.add_done_callback(self._running.discard)
        return submitted

    async def aclose(self) -> None:
        """Return when they have ended, whichever loops wait for them."""
        self.closed = True
        interrupted = await settle(
            [asyncio.wrap_future(submitted) for submitted in tuple(self._running)]
        )
        self._pool.shutdown()  # they are idle: they end within a moment
        if interrupted is not None:
            raise interrupted


def _in_new_thread(
    places: threading.Semaphore, call: Callable[..., list[Reply]], *args: Any
) -> Future[list[Reply]]:
    """As a pool would run it, when there are no pools any more."""
    future: Future[list[Reply]] = Future()

    def run() -> None:
        with places:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args))
            except BaseException as error:
                future.set_exception(error)

    try:
        # A daemon: a program that only daemons keep at work could never end otherwise.
        threading.Thread(target=run, name="anabranch", daemon=True).start()
    except RuntimeError:  # nor are there threads: nobody minds that the loop stands still
        run()
    return future


def _run(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
    return [_attempt(fn, item) for item in items]


def _attempt(fn: Callable[[Any], Any], item: Any) -> Reply:
    try:
        return True, plain(fn(item))
    except BaseException as error:  # the caller's to judge, as if it had called itself
        return False, error


def plain(value: Any) -> Any:
    """The value, unless it is work that a thread cannot do.

    Raises:
        TypeError: It is a coroutine, which wants an event loop.
    """
    if iscoroutine(value):
        value.close()
        raise TypeError(
            "the function returned a coroutine, which cannot run in a thread: give a "
            "synchronous function, or the `async def` function itself to an executor "
            "that runs those"
        )
    return value
