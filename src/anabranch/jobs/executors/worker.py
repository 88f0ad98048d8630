"""A worker process: takes a function and items, gives replies, until its socket ends.

Run as ``python -m anabranch.jobs.executors.worker FD LIFE``, its ends of two sockets:
messages go by the first, nothing ever by the second. The first message says how the parent
was started; then each message is ``[number, function, item, ...]``, where the function is
empty if it has come before under its number, and is answered by ``[flags, reply, ...]``, a
byte and a part for each item.

It ends with its parent, whatever happens to that: a thread waits for the socket to be hung
up, and looks once a second whether the parent is still the same, since a process that the
parent has forked may hold the other end open. A job in progress is killed then, with all
processes that it has started. A job that keeps the interpreter's lock, in a regular
expression say, keeps that thread from looking; so on Linux the kernel is asked to kill the
process group when something happens to the second socket during a job, which can only be
the parent's end. Why not to the first: the signal for a message's arrival may come after
the message, and so during its job. Why not ``PR_SET_PDEATHSIG``: it fires when the parent's
*thread* ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, NoReturn, cast

from anabranch.jobs.executors import wire
from anabranch.jobs.executors.protocol import Reply
from anabranch.jobs.executors.staff import Recent

LOOK_UP_EVERY_MS = 1000


class _Worker:
    def __init__(self, connection: socket.socket, life: socket.socket) -> None:
        self._file = connection.makefile("rb")
        self._connection = connection
        self._functions: Recent[bytes, list[Any]] = Recent(wire.MOST_FUNCTIONS)
        self._pid = os.getpid()
        self._runner: asyncio.Runner | None = None
        self._life = life
        self._flags = fcntl.fcntl(life, fcntl.F_GETFL)
        self._hang_up = select.poll()
        self._hang_up.register(life, 0)
        self.busy = False
        if sys.platform == "linux":
            fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)

    def receive(self) -> list[bytes] | None:
        """The next message; ``None`` when there will be no more."""
        beginning = self._file.read(wire.HEAD_BYTES)
        if len(beginning) < wire.HEAD_BYTES:
            return None
        lengths = self._file.read(8 * wire.count_in(beginning))
        parts = [self._file.read(length) for length in wire.lengths_in(lengths)]
        return parts if sum(map(len, parts)) == sum(wire.lengths_in(lengths)) else None

    def serve(self) -> None:
        while (message := self.receive()) is not None:
            self._begin()
            number, function, *items = message
            # As it came, until it is first called: what is wrong with it, the items hear.
            held = self._functions.use(number, partial(_not_loaded, function))
            packed = [self._answer(held, item) for item in items]
            self._flush()
            self._watch(0)
            self._send([bytes(ok for ok, _ in packed), *(data for _, data in packed)])
            self.busy = False
        if self._runner is not None:
            self._runner.close()

    def _begin(self) -> None:
        self.busy = True
        if sys.platform == "linux":
            self._watch(os.O_ASYNC)
            if self._hang_up.poll(0):  # it happened just before
                os.killpg(os.getpgrp(), signal.SIGKILL)

    def _watch(self, flag: int) -> None:
        """Let the kernel act on the parent's end, or not."""
        fcntl.fcntl(self._life, fcntl.F_SETFL, self._flags | flag)

    def _answer(self, held: list[Any], data: bytes) -> tuple[bool, bytes]:
        fn: Any = None
        try:
            fn = _function_in(held)
            value = fn(wire.loads(data))
            reply: Reply = (True, self._awaited(value) if isawaitable(value) else value)
        except SystemExit:
            raise  # the function ends its process: the parent sees with which status
        except BaseException as error:
            where = f"worker process {os.getpid()}"
            reply = (False, wire.with_traceback(error, where, __file__))
        if os.getpid() != self._pid:
            _end_of_fork(reply)
        return wire.pack(fn, reply)

    def _awaited(self, awaitable: Any) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_await(awaitable), context=copy_context())

    def _flush(self) -> None:
        # A worker may be killed at any time, and what jobs have printed is theirs.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOBase):
                with suppress(OSError, ValueError):  # broken or closed: no job's fault
                    stream.flush()

    def _send(self, parts: list[bytes]) -> None:
        self._connection.sendall(wire.head(parts))
        for part in parts:
            self._connection.sendall(part)


def _not_loaded(function: bytes) -> list[Any]:
    return [None, function]


def _function_in(held: list[Any]) -> Callable[[Any], Any]:
    if held[0] is None:
        held[:] = [wire.loads(held[1]), b""]
    return cast("Callable[[Any], Any]", held[0])


def _end_of_fork(reply: Reply) -> NoReturn:
    """A process that a job has forked ends with the job: its parent gives the answer."""
    if not reply[0]:
        traceback.print_exception(reply[1])
        sys.stderr.flush()
    os._exit(0 if reply[0] else 1)


async def _await(awaitable: Any) -> Any:
    return await awaitable


def _end_with_parent(worker: _Worker, connection: socket.socket, parent: int) -> None:
    poll = select.poll()
    poll.register(connection, 0)  # nothing but that it was hung up
    while os.getppid() == parent and not poll.poll(LOOK_UP_EVERY_MS):
        pass
    if not worker.busy:
        time.sleep(wire.EXIT_GRACE_S)
    os.killpg(os.getpid(), signal.SIGKILL)


def main(fd: int, life_fd: int) -> None:
    """Serve until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    connection = socket.socket(fileno=fd)
    worker = _Worker(connection, socket.socket(fileno=life_fd))
    if (first := worker.receive()) is None:
        return
    setup: wire.Setup = wire.loads(first[0])
    sys.path[:] = setup.path
    os.environ.pop("PYTHONPATH", None)
    if setup.python_path is not None:
        os.environ["PYTHONPATH"] = setup.python_path
    threading.Thread(
        target=_end_with_parent, args=(worker, connection, setup.parent), daemon=True
    ).start()
    with suppress(ConnectionError):  # the parent died: there is nobody to tell
        worker.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
