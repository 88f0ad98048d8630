"""Stops code that runs too long, or makes the process grow too much, from any thread.

One thread looks every few hundredths of a second at what is at work. What is over its
limit gets an exception raised in its own thread, at the next place where the interpreter
looks whether to stop: a call, or the turn of a loop. It is raised again until the code has
left, so a ``finally`` that loops delays it but cannot keep it; and each ``finally`` that is
entered afterwards asks whether to go on, so that many of them cannot either. Code that is
at work does not pay for being watched.

The interpreter offers this as ``PyThreadState_SetAsyncExc``; signals would work in the
main thread only.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from anabranch.errors import LimitExceeded, TimeLimitExceeded
from anabranch.sandbox.objects import Interrupt, Stopped
from anabranch.sandbox.running import alive

__all__ = ["passed", "watched"]

LOOK_EVERY_S: Final = 0.02
LINGER_S: Final = 2.0


class _Work:
    __slots__ = ("deadline", "ended", "fired", "growth", "started_at", "thread")

    def __init__(self, thread: int, deadline: float, growth: int | None) -> None:
        self.thread = thread
        self.deadline = deadline
        self.growth = growth
        # The process's size at the first look: reading it costs what a small eval does.
        self.started_at: int | None = None
        self.fired = ""
        self.ended = False


def watched(call: Callable[[], Any], timeout_s: float, memory_bytes: int | None) -> Any:
    """What *call* gives; stops it after *timeout_s*, or when the process grew too much.

    Raises:
        Stopped: With the error that says which limit was passed.
        BaseException: What *call* raised, if it was not stopped.
    """
    work = _Work(threading.get_ident(), time.monotonic() + timeout_s, memory_bytes)
    around = alive.work, alive.generators
    alive.work, alive.generators = work, set()
    try:
        value, error = _settled(call, work)
    except Interrupt:
        # It landed in the seams of what was to catch it. In these no other one comes.
        value, error = None, None
        _leave(work)
        if not work.fired:
            raise  # it was meant for code around this one
    finally:
        alive.work, alive.generators = around
    try:
        if work.fired:
            raise Stopped(passed(work.fired, timeout_s, work.growth))
        if error is not None:
            raise error
        return value
    finally:
        # Else this frame and the error hold one another, and all of the code's values.
        del error


def _settled(call: Callable[[], Any], work: _Work) -> tuple[Any, BaseException | None]:
    value = error = None
    _watch.begin(work)
    try:
        value = call()
    except BaseException as raised:
        error = raised
    _leave(work)
    try:
        return value, error
    finally:
        del error


def passed(limit: str, timeout_s: float, memory_bytes: int | None) -> LimitExceeded:
    """The error of code that has passed a limit, ``"time"`` or ``"memory"``."""
    if limit == "time":
        return TimeLimitExceeded(
            f"the code ran longer than {timeout_s:g} s and was stopped;"
            " timeout_seconds=... gives it more",
            limit="wall_s",
            allowed=timeout_s,
        )
    assert memory_bytes is not None
    return LimitExceeded(
        f"the process grew by more than {memory_bytes:,} bytes while the code ran;"
        " it was stopped",
        limit="memory_bytes",
        allowed=memory_bytes,
    )


def _leave(work: _Work) -> None:
    """Ends the watching; returns when no interrupt is, or will be, on its way."""
    while True:
        try:
            # An interrupt that arrives in here makes the loop turn once more. `with` takes
            # the lock and enters its block without looking whether to stop in between.
            with _watch.lock:
                work.ended = True
                _watch.at_work.discard(work)
                if work.fired:
                    _interrupt(work.thread, None)
                return
        except Interrupt:
            continue


def _interrupt(thread: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )


def _is_inside(thread: int) -> bool:
    """Whether a thread is in what it was to call, and not in our own seams around it."""
    # There is no other way to see what a thread is at.
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    top = frame
    while frame is not None:
        if frame.f_code is _leave.__code__:
            return False
        if frame.f_code is _settled.__code__:
            return frame is not top
        frame = frame.f_back
    return False


class _Watch:
    def __init__(self) -> None:
        self.begin_anew()
        if hasattr(os, "register_at_fork"):
            # Neither the thread nor who held the lock is in a child.
            os.register_at_fork(after_in_child=self.begin_anew)

    def begin_anew(self) -> None:
        self.lock = threading.Lock()
        self.at_work: set[_Work] = set()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, work: _Work) -> None:
        with self.lock:
            self.at_work.add(work)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="anabranch-watch", daemon=True
                )
                self._thread.start()
        if not self._wanted.is_set():
            self._wanted.set()

    def _look(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            with self.lock:
                if self.at_work:
                    idle_since = now
                    self._fire(now)
                elif now - idle_since > LINGER_S:
                    self._wanted.clear()
            if not self._wanted.is_set():
                self._wanted.wait()
                idle_since = time.monotonic()

    def _fire(self, now: float) -> None:
        limited = any(work.growth is not None for work in self.at_work)
        size = _resident_bytes() if limited else 0
        for work in self.at_work:
            if work.started_at is None:
                work.started_at = size
            if not work.fired and now > work.deadline:
                work.fired = "time"
            elif (
                not work.fired
                and work.growth is not None
                and size - work.started_at > work.growth
            ):
                work.fired = "memory"
            if work.fired and not work.ended and _is_inside(work.thread):
                _interrupt(work.thread, Interrupt)


_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM: Final = Path("/proc/self/statm")


def _resident_bytes() -> int:
    """What the process occupies; 0 where the system does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except OSError:
        return 0


_watch: Final = _Watch()
