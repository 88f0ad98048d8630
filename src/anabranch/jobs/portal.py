"""Asynchronous work from synchronous code, whatever loop the thread has or has not.

There is one background thread a process with one event loop (uvloop's where installed),
not a loop a call: a client made in one call still works in the next. No global loop
policy or task factory is touched. The loop is born with the first call and ends with the
interpreter; a forked child starts afresh.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

from anabranch.errors import LoopError
from anabranch.jobs.notes import carry

R = TypeVar("R")

# How long the interpreter's exit waits for background work to clean up.
EXIT_GRACE_S = 5.0
LOOK_UP_EVERY_S = 0.05


class _Portal:
    """The thread and its loop."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._ending = False
        self.thread = threading.Thread(
            target=self._serve, name="anabranch-loop", daemon=True
        )
        try:
            self.thread.start()
        except RuntimeError:
            self.loop.close()
            raise
        atexit.register(self.close)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._ending:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # asyncio lets these through from any task. The call that owns the task
                # has the exception; the loop has other calls to serve.
                continue
        self.loop.run_until_complete(_cancel_all())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def close(self) -> None:
        _forget(self)
        self._ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(EXIT_GRACE_S)

    def run(self, awaitable: Awaitable[R]) -> R:
        call = _Call(awaitable)
        self.loop.call_soon_threadsafe(call.start, copy_context())
        try:
            return call.wait()
        except BaseException as error:
            if not call.result.done():  # it was the wait that was interrupted: Ctrl-C
                self.loop.call_soon_threadsafe(call.abandon)
                # The clean-up is awaited; of its outcome only what had finished is news.
                partial = getattr(call.result.exception(), "partial", None)
                if partial is not None:
                    carry(error, partial)
            raise


class _Call(Generic[R]):
    """One awaitable on the loop, and the thread that waits for it."""

    def __init__(self, awaitable: Awaitable[R]) -> None:
        self.result: Future[R] = Future()
        self._awaitable = awaitable
        self._finished = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._abandoned = False
        self.result.add_done_callback(lambda _: self._finished.set())

    def wait(self) -> R:
        """In the thread: the result."""
        # A signal that comes just before the wait begins, or to another thread, does not
        # end the wait: look up now and then.
        while not self._finished.wait(LOOK_UP_EVERY_S):
            pass
        return self.result.result()

    def start(self, context: Context) -> None:
        """On the loop."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._take(), context=context)
        self._task.add_done_callback(self._ended)
        if self._abandoned:
            self._task.cancel()

    def abandon(self) -> None:
        """On the loop: nobody waits any more, unless for the clean-up."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()

    async def _take(self) -> None:
        try:
            value = await self._awaitable
        except BaseException as error:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)

    def _ended(self, _: asyncio.Task[None]) -> None:
        if not self.result.done():  # it was cancelled before it began
            _close(self._awaitable)
            self.result.set_exception(asyncio.CancelledError())


_portal: _Portal | None = None
_birth = threading.Lock()


def asyncio_run(coro: Awaitable[R]) -> R:
    """The result of a coroutine, from synchronous code, in any thread.

    It runs on the process's background loop, in a copy of the caller's context. Its
    exception comes back as the same object. Ctrl-C cancels it, waits for its clean-up and
    raises ``KeyboardInterrupt``, which carries as ``partial`` the results by index that a
    run of jobs inside it had. If the calling thread has a running loop, that loop
    stands still for as long: inside a coroutine, ``await`` instead. There the first
    Ctrl-C only asks ``asyncio.run`` to cancel its task, and the second one interrupts.

    Raises:
        LoopError: Called on the background loop itself, where it would wait for itself.
    """
    try:
        portal = _open()
    except RuntimeError:
        return _run_here(coro)
    if portal.thread is threading.current_thread():
        _close(coro)
        raise LoopError(
            "asyncio_run was called from a coroutine that asyncio_run itself is running: "
            "it would wait for itself. Await the coroutine instead"
        )
    return portal.run(coro)


def _open() -> _Portal:
    global _portal
    with _birth:
        if _portal is None:
            _portal = _Portal()
        return _portal


def _run_here(awaitable: Awaitable[R]) -> R:
    """Where no thread can be had: Python 3.12 starts none while it exits."""

    async def awaited() -> R:
        return await awaitable

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        coro = awaited()
        try:
            return runner.run(coro)
        finally:
            coro.close()
            _close(awaitable)


def _forget(portal: _Portal) -> None:
    """Who calls from now on, at the interpreter's exit say, gets another."""
    global _portal
    with _birth:
        if _portal is portal:
            _portal = None


def _start_afresh() -> None:
    """A forked child has none of its parent's threads."""
    global _portal, _birth
    _portal, _birth = None, threading.Lock()


os.register_at_fork(after_in_child=_start_afresh)


def _close(awaitable: object) -> None:
    """A coroutine that nobody will await is closed."""
    if asyncio.iscoroutine(awaitable):
        awaitable.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop

        for fd in range(3):
            os.fstat(fd)
    except (ModuleNotFoundError, OSError):
        # Where a standard stream is closed, a uvloop would end the process when it ends.
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _cancel_all() -> None:
    tasks: list[asyncio.Task[Any]] = [
        task for task in asyncio.all_tasks() if task is not asyncio.current_task()
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
