"""One zygote, as the parent has it: started, told to fork, listened to, and ended.

All of it is of one event loop. Nothing here waits for a process without the loop but
:meth:`Keeper.abandon`, for when there is no loop any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from anabranch.errors import IsolateDied, IsolateUnavailable, UsageError
from anabranch.sandbox.confine import Found, Layer
from anabranch.sandbox.isolate import speech
from anabranch.sandbox.isolate.peer import Exit, Gone, Peer
from anabranch.sandbox.limits import Grant, Limits, ReadOnly

_BOOT: Final = """
import json, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
order = json.loads(control.recv(1 << 20))
sys.path += [entry for entry in order["path"] if entry not in sys.path]
try:
    from anabranch.sandbox.isolate.zygote import main
except BaseException as error:
    control.send(json.dumps({"failed": "died", "text": repr(error)}).encode())
    raise
main(control, order)
"""
_ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    # A thread in the zygote would be one that its children lack.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
# What the kernel gives each user, as a zygote found it: to try takes half a second.
_known: dict[int, dict[str, Any]] = {}
_LEAVE_S: Final = 2.0  # how long a zygote has to leave by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the zygotes of a sandbox are to be.

    Attributes:
        imports: What they import beside the standard library.
        grants: What of the host their children see.
        full: Whether every layer of confinement must be there.
    """

    imports: tuple[str, ...]
    grants: tuple[Grant, ...]
    full: bool

    def order(self) -> bytes:
        """What a zygote is told when it starts."""
        path = [os.fspath(entry) for entry in sys.path]
        return json.dumps(
            {
                "imports": self.imports,
                "grants": [_written(grant) for grant in self.grants],
                "full": self.full,
                "found": _known.get(os.geteuid()),
                "path": [entry for entry in path if Path(entry).is_absolute()],
            }
        ).encode()


def _written(grant: Grant) -> tuple[str, str | int]:
    if isinstance(grant, ReadOnly):
        return "read_only", os.fspath(grant.path)
    return "scratch", grant.bytes


class Keeper:
    """A zygote.

    Args:
        plan: What it is to be.
        lost: Called once, when the zygote has ended and all its children with it.

    Attributes:
        found: The layers it is confined by, and those that are missing.
        alive: Whether it can be told to fork.
    """

    def __init__(self, plan: Plan, lost: Callable[[Keeper], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._lost = lost
        self._numbers = itertools.count()
        self._coming: dict[int, asyncio.Future[Peer]] = {}
        self._peers: dict[int, Peer] = {}
        self._ready: asyncio.Future[Found] = self._loop.create_future()
        self._ended = asyncio.Event()
        self.found: Found | None = None
        self.alive = False

    @property
    def load(self) -> int:
        """How many children it has, and is about to have."""
        return len(self._peers) + len(self._coming)

    async def start(self) -> None:
        """Start the process, and return when it can fork children.

        Raises:
            IsolateUnavailable: A layer is missing that the plan requires.
            UsageError: Something cannot be imported.
            IsolateDied: It ended before it was ready.
        """
        if sys.platform != "linux":
            raise IsolateUnavailable(
                f"code is contained by Linux, and this is {sys.platform}: run it in a "
                "Linux container or virtual machine",
                missing=("linux",),
            )
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = _spawned(theirs.fileno())
            except BaseException:
                self._control.close()
                raise
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._readable)
        try:
            self._send(self._plan.order())
            self.found = await self._ready
            self.alive = True
        except BaseException:
            self._ready.cancel()
            await self.close()
            raise

    async def fork(self, limits: Limits) -> Peer:
        """A child that is confined and waits for a request.

        Raises:
            IsolateDied: It could not be made, or cannot live within the limits.
        """
        peer = await self._forked(limits)
        try:
            said = await peer.receive()
        except Gone:
            exited = await peer.fate()
            peer.kill()
            raise IsolateDied(
                f"a child for the code ended before it was ready ({told(exited)}): give it "
                "more than these limits, or see what kills processes on this machine"
            ) from None
        except BaseException:
            peer.kill()
            raise
        if said.facts.get("is") != "ready":
            peer.kill()
            raise IsolateDied(
                f"a child for the code cannot start ({said.facts.get('text')}): give it "
                "more than these limits"
            )
        return peer

    async def _forked(self, limits: Limits) -> Peer:
        number = next(self._numbers)
        coming: asyncio.Future[Peer] = self._loop.create_future()
        self._coming[number] = coming
        try:
            self._send(json.dumps({"number": number, "limits": asdict(limits)}).encode())
            return await coming
        except asyncio.CancelledError:
            if coming.done() and not coming.cancelled() and not coming.exception():
                coming.result().kill()
            raise
        finally:
            del self._coming[number]

    async def close(self) -> None:
        """End it with all its children; when this returns the process has been reaped."""
        self._let_go()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._ended.wait()
        except TimeoutError:
            self._process.kill()
            await self._ended.wait()

    def abandon(self) -> None:
        """End it where the loop is closed. This blocks until the process is gone."""
        self.alive = False
        self._control.close()
        for peer in self._peers.values():
            peer.abandon()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            try:
                self._process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _send(self, message: bytes) -> None:
        try:
            self._control.send(message)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError, OSError) as error:
            raise IsolateDied(
                f"the zygote cannot be reached ({error}): try again"
            ) from error

    def _readable(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(
                self._control, speech.ORDER_BYTES, 2
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message, descriptors = b"", []
        if message:
            self._hear(json.loads(message), descriptors)
        else:
            self._let_go()

    def _hear(self, facts: dict[str, Any], descriptors: list[int]) -> None:
        match facts:
            case {"child": number}:
                self._born(number, *descriptors)
            case {"exit": number, "status": status, "cpu_s": cpu_s}:
                if peer := self._peers.pop(number, None):
                    _settle(peer.exited, Exit(status, cpu_s))
            case {"unborn": number, "text": text}:
                if coming := self._coming.get(number):
                    _fail(
                        coming, IsolateDied(f"no child can be forked ({text}): free some")
                    )
            case {"ready": found}:
                _known[os.geteuid()] = found
                _settle(self._ready, _found(found))
            case {"failed": kind, "text": text}:
                _fail(self._ready, self._failure(kind, text))
            case _:
                raise AssertionError(f"a zygote does not say {facts}")

    def _born(self, number: int, connection: int, pidfd: int) -> None:
        peer = self._peers[number] = Peer(socket.socket(fileno=connection), pidfd)
        coming = self._coming.get(number)
        if coming is None or coming.done():
            peer.kill()  # who asked for it has gone
        else:
            coming.set_result(peer)

    def _let_go(self) -> None:
        """The zygote ends when its socket closes, and the kernel ends its children."""
        if self._control.fileno() < 0:
            return
        self._loop.remove_reader(self._control)
        self._control.close()
        self.alive = False
        died = IsolateDied(
            "the zygote, from which children are forked, has ended; a new one is started "
            "for the next run. If it happens again, look at what kills it, such as the "
            "out-of-memory killer"
        )
        _fail(self._ready, died)
        for coming in self._coming.values():
            _fail(coming, died)
        peers, self._peers = self._peers, {}
        for peer in peers.values():
            peer.kill()
            _settle(peer.exited, None)
        self._lost(self)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._process.wait()  # it has ended: this takes its status and returns
        self._let_go()
        self._ended.set()

    def _failure(self, kind: str, text: str) -> Exception:
        if kind == "missing":
            return unavailable(json.loads(text))
        if kind == "import":
            names = ", ".join(map(repr, self._plan.imports))
            return UsageError(
                f"Sandbox(imports=[{names}]): {text}. Install it for {sys.executable}, or "
                "leave it out"
            )
        return IsolateDied(f"the zygote could not start: {text}")


def unavailable(missing: dict[str, str]) -> IsolateUnavailable:
    """The error that names what this machine lacks."""
    listed = "; ".join(f"{layer}: {why}" for layer, why in missing.items())
    return IsolateUnavailable(
        f"this machine cannot confine code fully ({listed}). Provide what is missing, or "
        "accept what there is with Sandbox(require='process')",
        missing=tuple(missing),
    )


def told(exited: Exit | None) -> str:
    """How a process ended, in words."""
    if exited is None:
        return "nobody knows how"
    if os.WIFSIGNALED(exited.status):
        number = os.WTERMSIG(exited.status)
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
        return f"killed by signal {number}"
    return f"exit status {os.waitstatus_to_exitcode(exited.status)}"


def _found(facts: dict[str, Any]) -> Found:
    return Found(
        available=frozenset(map(Layer, facts["available"])),
        missing={Layer(layer): why for layer, why in facts["missing"].items()},
        landlock_abi=facts["landlock_abi"],
    )


def _spawned(control: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _BOOT, str(control)]
    nothing = subprocess.DEVNULL
    return subprocess.Popen(  # noqa: S603  # our own program
        command,
        env=_environment(),
        cwd="/",
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        pass_fds=[control],
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """As little as starts an interpreter; some find their own library by this."""
    path = os.environ.get("LD_LIBRARY_PATH")
    return _ENVIRONMENT if path is None else {**_ENVIRONMENT, "LD_LIBRARY_PATH": path}


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting: then it is no news
