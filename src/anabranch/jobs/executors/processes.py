"""Jobs in processes of this machine: for work that needs cores, or may crash.

Not ``ProcessPoolExecutor``: it imports the caller's ``__main__`` once more, gives up all
its processes when one dies, and cannot end a job. Here a worker is a process of its own
that runs :mod:`anabranch.jobs.executors.worker` and talks over a socket.

Theory of operation. A worker is *idle*, *lent* to one ``run``, or *gone*; only ``run`` and
``aclose`` take workers from the idle ones, synchronously and in one loop at a time
(:class:`~anabranch.jobs.executors.staff.Office`), so nobody gets the same twice. A
``run`` that ends by a reply gives its worker back; one that ends otherwise kills it, with
its process group, and waits until it is gone. A thread a worker starts the process, waits
for its end, reaps it, and then shuts our end of the socket down: whoever reads from it
wakes up. So neither the loop's child watcher nor its signals are needed, and any loop in
any thread will do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from anabranch.errors import WorkerLost
from anabranch.jobs.check import check_count
from anabranch.jobs.cores import usable_cores
from anabranch.jobs.executors import wire
from anabranch.jobs.executors.protocol import Reply
from anabranch.jobs.executors.staff import Office, Recent, Staff
from anabranch.jobs.executors.waiting import settle

READ_BYTES = 1 << 16

# Joining costs a copy, a call of send costs more than copying this much.
JOIN_BYTES = 1 << 16


class ProcessExecutor:
    """Runs functions, also ``async def`` ones, in worker processes of its own.

    Lambdas, closures and what is defined in ``__main__`` work, with no
    ``if __name__ == "__main__"`` guard. A function travels once to a worker, as it is at
    its first use; an ``async def`` function runs on one loop a worker. Workers start with
    their first use in the folder and with the ``sys.path`` of that moment, share standard
    output and error with this process, ignore Ctrl-C, and end with this process even if
    it is killed. A job that is cancelled is killed with its worker and the process group
    of that: what it has started, unless in a group of its own. A worker that dies
    is replaced. It serves one event loop after the other, and not two at the same time.

    Args:
        workers: How many processes at most. Default: the usable cores.
        chunk: Items sent at once, which a worker runs one after the other. Their results
            come together, when the last is done; more than one pays for jobs shorter
            than a millisecond.

    Raises:
        ImportError: The extra ``process`` is not installed.
    """

    resend = 0

    def __init__(self, workers: int | None = None, *, chunk: int = 1) -> None:
        wire.need_cloudpickle("ProcessExecutor", "process")
        self.slots = usable_cores() if workers is None else workers
        self.chunk = chunk
        check_count("workers", self.slots)
        check_count("chunk", chunk)
        self._office: Office[_Worker] = Office()
        self._numbers = count()
        # By identity, since a callable need not be hashable; held, so that it stays unique.
        self._functions: Recent[int, _Function] = Recent(wire.MOST_FUNCTIONS)

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        staff = self._office.staff()
        with staff.at_work():
            function = self._functions.use(
                id(fn), lambda: _Function(fn, next(self._numbers))
            )
            parcel = wire.Parcel(items, "a worker process")
            replies: list[Reply] = []
            if parcel.sent:
                async with staff.place(self.slots):
                    staff.check_open()
                    try:
                        replies = await self._ask(staff, function, parcel.sent)
                    except _Gone as gone:
                        lost = WorkerLost(_obituary(gone, fn, items))
                        raise staff.blamed(lost) from None
            return parcel.replies(replies)

    async def _ask(
        self, staff: Staff[_Worker], function: _Function, items: list[bytes]
    ) -> list[Reply]:
        worker = _take(staff)
        staff.lent[worker.gone] = worker
        try:
            replies = await worker.ask(function, items)
        except BaseException:
            interrupted = await self._end(worker)
            if interrupted is not None:
                raise interrupted from None
            raise
        finally:
            del staff.lent[worker.gone]
        if staff.closed:  # meanwhile: the answer came just before
            await self._end(worker)
        else:
            staff.idle.append(worker)
        return replies

    async def _end(self, worker: _Worker) -> asyncio.CancelledError | None:
        worker.kill()
        interrupted = await settle([worker.gone])
        worker.close()
        return interrupted

    async def aclose(self) -> None:
        """End the idle workers orderly, for they have exit handlers, and others at once.

        A run that uses it fails with :class:`~anabranch.errors.ExecutorClosed`.
        """
        staff = self._office.dismissed()
        for worker in staff.lent.values():
            worker.kill()  # whoever has it, closes it
        idle = [worker for worker in staff.idle if worker.moves_to(staff.loop)]
        for worker in idle:
            worker.hang_up()
        ends = [*staff.lent, *(worker.gone for worker in idle)]
        interrupted = await settle(ends, timeout_s=wire.EXIT_GRACE_S)
        for worker in idle:
            worker.kill()
        interrupted = await settle(ends) or interrupted
        for worker in idle:
            worker.close()
        if interrupted is not None:
            raise interrupted


def _take(staff: Staff[_Worker]) -> _Worker:
    while staff.idle:
        worker = staff.idle.pop()
        if worker.moves_to(staff.loop):
            return worker
        worker.close()  # it died, perhaps for want of memory, with no job in it
    return _Worker()


class _Function:
    """A function, and what of it travels."""

    def __init__(self, fn: Callable[[Any], Any], number: int) -> None:
        self.fn = fn
        self.number = b"%d" % number
        self.data = wire.dumps_function(fn)


class _Gone(Exception):
    """A worker has ended; not for users."""

    def __init__(self, pid: int, status: int | None) -> None:
        super().__init__(pid, status)
        self.pid = pid
        self.status = status


class _Worker:
    """One process, from here. Make it inside the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        # With the exit status, or with None if nobody knows it.
        self.gone: asyncio.Future[int | None] = self._loop.create_future()
        self._greeted = False
        self._known: Recent[bytes, None] = Recent(wire.MOST_FUNCTIONS)
        self._process: subprocess.Popen[bytes] | None = None
        self._reaped = False
        self._is_unwanted = False
        self._lock = threading.Lock()  # the process's number is ours while it is held
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._life, their_life = socket.socketpair()  # it sees by this that we are alive
        self._thread = threading.Thread(
            target=self._live,
            args=(theirs, their_life),
            name="anabranch-worker",
            daemon=True,
        )
        self._thread.start()

    def moves_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Be used in ``loop`` from now on, unless it has ended; only while it is idle."""
        with self._lock:
            if self._reaped:
                return False
            if self._loop is not loop:
                self._loop = loop
                self.gone = loop.create_future()
            return True

    async def ask(self, function: _Function, items: list[bytes]) -> list[Reply]:
        """The replies of the worker to these items.

        Raises:
            _Gone: It has ended. After this or any other exception it is of no more use.
        """
        await asyncio.shield(self._started)
        data = b"" if function.number in self._known else function.data
        try:
            if not self._greeted:
                await self._send([_greeting()])
                self._greeted = True
            await self._send([function.number, data, *items])
            self._known.use(function.number, lambda: None)
            flags, *parts = await self._receive()
        except (ConnectionError, EOFError):
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.gone), wire.EXIT_GRACE_S)
            status = self.gone.result() if self.gone.done() else None
            assert self._process is not None
            raise _Gone(self._process.pid, status) from None
        return [wire.unpack(bool(ok), part) for ok, part in zip(flags, parts, strict=True)]

    def hang_up(self) -> None:
        """Let it end by itself."""
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End it now, with whatever it has started; ``gone`` follows."""
        with self._lock:
            self._is_unwanted = True
            self._kill()

    def close(self) -> None:
        """Let go of what is left of it, once it is gone."""
        self._ours.close()
        self._life.close()
        self._thread.join()  # it has nothing left to do
        self._started.exception()  # whoever waited for it has it

    def _kill(self) -> None:
        if self._process is not None and not self._reaped:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    # ------------------------------------------------------------ the worker's thread

    def _live(self, *theirs: socket.socket) -> None:
        status = None
        try:
            with theirs[0], theirs[1]:
                process = _start(*theirs)
        except BaseException as error:
            self._tell(self._set_started, error)
        else:
            with self._lock:
                self._process = process
                if self._is_unwanted:
                    self._kill()
            self._tell(self._set_started, None)
            status = self._reap(process)
        self._tell(self._set_gone, status)

    def _reap(self, process: subprocess.Popen[bytes]) -> int | None:
        try:
            if hasattr(os, "waitid"):  # macOS has it since Python 3.13
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            else:
                process.wait()
        except ChildProcessError:
            # The program lets others collect its children, or ignores SIGCHLD: how the
            # worker ended nobody knows, and its number may be somebody else's by now.
            with self._lock:
                self._reaped = True
            process.poll()
            return None
        with self._lock:
            # What the worker has started ends with it. While it is not reaped, nobody
            # else can get its number.
            self._kill()
            status = process.wait()
            self._reaped = True
        return status

    def _tell(self, function: Callable[[Any], None], value: Any) -> None:
        # The loop is closed if its program ended without closing the executor.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, value)

    def _set_started(self, error: BaseException | None) -> None:
        if error is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(error)

    def _set_gone(self, status: int | None) -> None:
        self.gone.set_result(status)
        self.hang_up()  # a process that the worker forked may hold the other end open

    # -------------------------------------------------------------------- the socket

    async def _send(self, parts: list[bytes]) -> None:
        head = wire.head(parts)
        if sum(map(len, parts)) <= JOIN_BYTES:
            await self._loop.sock_sendall(self._ours, b"".join((head, *parts)))
            return
        for part in (head, *parts):
            await self._loop.sock_sendall(self._ours, part)

    async def _receive(self) -> list[memoryview]:
        # Most messages come with the first read as a whole.
        begun = bytearray()
        while len(begun) < wire.HEAD_BYTES:
            begun += await self._read()
        start = wire.HEAD_BYTES + 8 * wire.count_in(begun[: wire.HEAD_BYTES])
        while len(begun) < start:
            begun += await self._read()
        lengths = wire.lengths_in(begun[wire.HEAD_BYTES : start])
        whole = memoryview(bytearray(sum(lengths)))
        filled = len(begun) - start
        whole[:filled] = begun[start:]
        while filled < len(whole):
            count = await self._loop.sock_recv_into(self._ours, whole[filled:])
            if count == 0:
                raise EOFError
            filled += count
        parts: list[memoryview] = []
        for length in lengths:
            parts.append(whole[:length])
            whole = whole[length:]
        return parts

    async def _read(self) -> bytes:
        data = await self._loop.sock_recv(self._ours, READ_BYTES)
        if not data:
            raise EOFError
        return data


def _search_path() -> list[str]:
    entries: list[object] = [*sys.path]  # people put in paths
    return [str(entry) for entry in entries]


def _greeting() -> bytes:
    setup = wire.Setup(
        parent=os.getpid(), path=_search_path(), python_path=os.environ.get("PYTHONPATH")
    )
    return wire.dumps(setup)


def _start(*theirs: socket.socket) -> subprocess.Popen[bytes]:
    fds = [end.fileno() for end in theirs]
    return subprocess.Popen(  # noqa: S603  # our own module
        # -P: the folder it works in is searched only if this process searches it.
        [
            sys.executable,
            "-P",
            "-m",
            "anabranch.jobs.executors.worker",
            *map(str, fds),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=fds,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_search_path())},
        # A group of its own can be killed as a whole, and gets no Ctrl-C.
        process_group=0,
    )


def _obituary(gone: _Gone, fn: Callable[[Any], Any], items: Sequence[Any]) -> str:
    status = gone.status
    if status is None:
        how = "broke off its connection"
    elif status >= 0:
        how = f"exited with status {status}"
    else:
        try:
            name = signal.Signals(-status).name
        except ValueError:  # a real-time signal
            name = f"signal {-status}"
        how = f"was killed by {name}"
        if name == "SIGKILL":
            how += " (often: out of memory)"
    return f"worker process {gone.pid} {how} while it ran {wire.described(fn, items)}"
