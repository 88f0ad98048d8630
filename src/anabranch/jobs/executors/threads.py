"""Jobs in threads of this process: for functions that block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from inspect import iscoroutine
from typing import Any

from anabranch.jobs.check import check_count
from anabranch.jobs.cores import usable_cores
from anabranch.jobs.executors.protocol import Reply
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
        self._pool: ThreadPoolExecutor | None = None
        self._running: set[asyncio.Future[list[Reply]]] = set()

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="anabranch")
        submitted: Future[list[Reply]] = self._pool.submit(
            copy_context().run, _run, fn, items
        )
        running = asyncio.wrap_future(submitted)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            submitted.cancel()  # helps if no thread had taken it
            await settle([running])
            raise

    async def aclose(self) -> None:
        interrupted = await settle(list(self._running))
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()  # its threads are idle: they end within a moment
        if interrupted is not None:
            raise interrupted


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
