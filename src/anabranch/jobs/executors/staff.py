"""The workers of an executor, as one event loop has them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from anabranch.errors import ExecutorClosed, LoopError, WorkerLost

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")

CLOSED: Final = "the executor was closed while a run used it: close it after the run"


class Staff(Generic[W]):
    """The workers between two closings of an executor, in one loop of one process.

    Attributes:
        idle: Those that nobody has.
        lent: Those that a ``run`` has, by a future that is done when they are free or gone.
        closed: The executor was closed, or serves another loop now.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: list[W]) -> None:
        self.idle = idle
        self.lent: dict[asyncio.Future[Any], W] = {}
        self.closed = False
        self.runs = 0
        self.loop = loop
        self.pid = os.getpid()
        self._free: asyncio.Semaphore | None = None

    @contextmanager
    def at_work(self) -> Generator[None]:
        """A ``run`` goes on."""
        self.runs += 1
        try:
            yield
        finally:
            self.runs -= 1

    def place(self, slots: int) -> asyncio.Semaphore:
        """To hold while one of ``slots`` workers is lent; always the same number."""
        if self._free is None:
            self._free = asyncio.Semaphore(slots)
        return self._free

    def check_open(self) -> None:
        """Refuse to start anything for an executor that was closed meanwhile."""
        if self.closed:
            raise ExecutorClosed(CLOSED)

    def blamed(self, lost: WorkerLost) -> WorkerLost | ExecutorClosed:
        """Why a worker is gone: of its own accord, or since the executor was closed."""
        return ExecutorClosed(CLOSED) if self.closed else lost


class Office(Generic[W]):
    """Where an executor has its staff: workers follow it from one event loop to the next.

    They are left behind in a forked child, whose parent they belong to, and while a loop
    that uses them runs they are not to be had in another.
    """

    def __init__(self) -> None:
        self._staff: Staff[W] | None = None
        self._lock = threading.Lock()

    def staff(self) -> Staff[W]:
        """The staff for the running loop.

        Raises:
            LoopError: The executor is in use on another.
        """
        with self._lock:
            self._staff = self._here()
            return self._staff

    def dismissed(self) -> Staff[W]:
        """The staff for the running loop, which is closed now."""
        with self._lock:
            staff = self._here()
            self._staff = None
            staff.closed = True
            return staff

    def _here(self) -> Staff[W]:
        loop, last = asyncio.get_running_loop(), self._staff
        if last is None or last.pid != os.getpid():
            return Staff(loop, [])
        if last.loop is loop:
            return last
        if last.runs and last.loop.is_running():
            raise LoopError(
                "this executor is in use on another event loop: make one for each loop "
                "that runs at the same time"
            )
        last.closed = True
        return Staff(loop, last.idle)


class Recent(Generic[K, V]):
    """The entries used lately, ``most`` at most: the one not used for longest goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def use(self, key: K, make: Callable[[], V]) -> V:
        """The entry for ``key``, made if there is none."""
        if key not in self._entries:
            self._entries[key] = make()
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)
        return self._entries[key]

    def clear(self) -> None:
        """Forget them all."""
        self._entries.clear()
