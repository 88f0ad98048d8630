"""The program that children are forked from. It runs as a process of its own.

It is started with a clean environment and one descriptor, a socket to the parent. It
leaves the host behind, imports what contained code may use, gives up its powers, and then
does three things until the socket closes: it forks a child when it is told to, and hands
its socket and its pidfd to the parent; it reaps children; it says how each ended.

No stranger's code runs here, ever; and no child has a descriptor of this process.

A child leads a process group that it cannot leave. When it is gone the whole group is
killed before it is reaped, as its number cannot be another's until then. The zygote is
the first process of a pid namespace, or at least adopts orphans: nothing outlives it, and
nothing it has not reaped.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from anabranch.sandbox import wire
from anabranch.sandbox.confine import (
    Found,
    Layer,
    Seal,
    drop_privileges,
    enter,
    hide_file_system,
    probe,
    ruleset,
)
from anabranch.sandbox.isolate import child, speech, standard
from anabranch.sandbox.isolate.runner import Runner
from anabranch.sandbox.limits import Grant, Limits, ReadOnly, Scratch

_PR_SET_CHILD_SUBREAPER: Final = 36
_SEALS: Final = 64  # of how many kinds of limits something is kept


class Refused(Exception):
    """It cannot start: ``args`` are a kind and a sentence."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all children of a zygote have in common.

    Attributes:
        rules: A descriptor of the Landlock rules; None where there is no Landlock, or each
            child has to make its own.
    """

    layers: frozenset[Layer]
    grants: tuple[Grant, ...]
    rules: int | None = None

    @property
    def scratch(self) -> int:
        """How many bytes of scratch each child gets."""
        return sum(grant.bytes for grant in self.grants if isinstance(grant, Scratch))


def main(control: socket.socket, order: Mapping[str, Any]) -> NoReturn:
    """Be a zygote until the parent closes the socket."""
    try:
        setting, found = prepare(order)
    except BaseException as error:  # the parent is told whatever it is
        kind, text = error.args if isinstance(error, Refused) else ("died", repr(error))
        _tell(control, {"failed": kind, "text": text})
        os._exit(1)
    _tell(control, {"ready": found})
    try:
        Zygote(control, setting).work()
    finally:
        os._exit(0)


def prepare(order: Mapping[str, Any]) -> tuple[Setting, dict[str, Any]]:
    """Leave the host, import, and give up everything else.

    Raises:
        Refused: Layers are missing that the order requires, or an import failed.
    """
    found = _found(order["found"]) if order["found"] else probe()
    if order["full"] and found.missing:
        told = json.dumps({str(layer): why for layer, why in found.missing.items()})
        raise Refused("missing", told)
    grants = tuple(_grant(*told) for told in order["grants"])
    setting = Setting(found.available, grants)
    enter(setting.layers)
    _adopt_orphans()
    try:
        standard.load(tuple(order["imports"]))
    except Exception as error:
        raise Refused("import", f"{type(error).__name__}: {error}") from error
    wire.preload()
    _exercise()
    hide_file_system(grants, setting.layers, scratch=bool(setting.scratch))
    drop_privileges(setting.layers, scratch=bool(setting.scratch))
    _forget(grants)
    if Layer.LANDLOCK in setting.layers and not setting.scratch:
        setting = replace(setting, rules=ruleset(grants))
    return setting, {
        "available": sorted(map(str, found.available)),
        "missing": {str(layer): why for layer, why in found.missing.items()},
        "landlock_abi": found.landlock_abi,
    }


def _found(facts: Mapping[str, Any]) -> Found:
    return Found(
        available=frozenset(map(Layer, facts["available"])),
        missing={Layer(layer): why for layer, why in facts["missing"].items()},
        landlock_abi=facts["landlock_abi"],
    )


def _grant(kind: str, value: Any) -> Grant:
    return ReadOnly(value) if kind == "read_only" else Scratch(value)


def _adopt_orphans() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _exercise() -> None:
    for source in standard.exercises():
        Runner().run(source, {}, output_bytes=2**16)
    child.exercise()


def _forget(grants: Sequence[Grant]) -> None:
    """No name of the host stays behind but those that are granted."""
    places = [grant.path for grant in grants if isinstance(grant, ReadOnly)]
    sys.path[:] = [
        entry
        for entry in sys.path
        if any(Path(entry).is_relative_to(place) for place in places)
    ]
    sys.path_importer_cache.clear()
    sys.argv[:] = [""]
    os.environ.clear()
    gc.collect()
    gc.freeze()  # so that a collection in a child does not touch, and copy, every page


class Zygote:
    """Forks, reaps and reports.

    Args:
        control: The socket to the parent.
        setting: What children have in common.
    """

    def __init__(self, control: socket.socket, setting: Setting) -> None:
        self._control = control
        self._setting = setting
        self._children: dict[int, int] = {}  # pid: the number that the parent gave
        self._seals: dict[Limits, Seal] = {}
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def work(self) -> None:
        """Serve the parent until it closes the socket."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _woken)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready:
                order = self._control.recv(speech.ORDER_BYTES)
                if not order:
                    return
                self._fork(**json.loads(order))

    def _fork(self, number: int, limits: dict[str, Any]) -> None:
        here, there = socket.socketpair()
        with here, there:
            try:
                seal = self._seal(Limits(**limits))
                pid = os.fork()
            except Exception as error:  # the other children are to live on
                _tell(self._control, {"unborn": number, "text": str(error)})
                return
            if not pid:
                self._be_child(there, seal)
            self._children[pid] = number
            with contextlib.suppress(OSError):  # it has done so itself, or is dead
                os.setpgid(pid, pid)
            pidfd = os.pidfd_open(pid)
            try:
                message = json.dumps({"child": number}).encode()
                socket.send_fds(self._control, [message], [here.fileno(), pidfd])
            finally:
                os.close(pidfd)

    def _seal(self, limits: Limits) -> Seal:
        """One for all the children that are to be alike."""
        if (seal := self._seals.get(limits)) is None:
            if len(self._seals) > _SEALS:
                self._seals.clear()
            setting = self._setting
            seal = self._seals[limits] = Seal(
                setting.layers,
                setting.grants,
                limits,
                rules=setting.rules,
                scratch=setting.scratch,
            )
        return seal

    def _be_child(self, there: socket.socket, seal: Seal) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            self._control.detach()
            _close_others(there.fileno(), self._setting.rules)
            child.live(there, seal.put_on)
        finally:
            os._exit(speech.BROKEN)

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            number = self._children.pop(ended.si_pid, None)
            if number is not None:
                with contextlib.suppress(OSError):
                    os.killpg(ended.si_pid, signal.SIGKILL)
            _, status, usage = os.wait4(ended.si_pid, 0)
            if number is not None:
                cpu_s = usage.ru_utime + usage.ru_stime
                _tell(self._control, {"exit": number, "status": status, "cpu_s": cpu_s})


def _close_others(*keep: int | None) -> None:
    """Close all descriptors but the standard ones and these."""
    start = 3
    for descriptor in sorted(known for known in keep if known is not None):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, start + 256)


def _woken(number: int, frame: object) -> None:
    """A handler there must be, or nothing is written to the wakeup descriptor."""


def _tell(control: socket.socket, facts: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen by the loop
        control.send(json.dumps(facts).encode())
