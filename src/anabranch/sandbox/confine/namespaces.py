"""Namespaces: a process that sees no user, process, network or mount of the host.

``enter`` forks as many as two times: a helper that writes the user map where root wants to
be somebody else, and the process that becomes number 1 of the new PID namespace. The one
that was called stays outside and waits; the three of them live and die together.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from anabranch.sandbox.confine.capabilities import NOBODY
from anabranch.sandbox.confine.layers import Layer
from anabranch.sandbox.confine.syscalls import (
    PR_SET_DUMPABLE,
    call,
    die_with_parent,
    gain_no_privileges,
    prctl,
)

__all__ = ["enter"]

_FLAGS = {
    Layer.USER: 0x10000000,
    Layer.MOUNT: 0x00020000,
    Layer.NET: 0x40000000,
    Layer.PID: 0x20000000,
    Layer.IPC: 0x08000000,
    Layer.UTS: 0x04000000,
}
_HOST_NAME = b"sandbox"


def enter(layers: frozenset[Layer]) -> None:
    """Go into new namespaces, and return in the process that is number 1 in them.

    To be called first, in a process with one thread. With ``PID`` the caller itself never
    returns: it closes all its descriptors, waits for the process that does, and ends as
    that one ends. Each dies by SIGKILL with the one that began it: the caller with the
    *thread* that spawned it.

    With ``USER`` root becomes user 65534 of the host, an ordinary user stays himself; both
    are 65534 inside. Root keeps reading files as their owner until
    :func:`~anabranch.sandbox.confine.hide_file_system` or
    :func:`~anabranch.sandbox.confine.drop_privileges`, so that it can import from a folder
    that only root may read; what belongs to another user and is closed to others it cannot.

    Args:
        layers: The namespaces among them are entered; ``NO_NEW_PRIVS`` is set; the rest is
            ignored. Without ``USER`` only root can enter any.

    Raises:
        OSError: If the kernel refuses one.
    """
    die_with_parent()
    if Layer.NO_NEW_PRIVS in layers:
        gain_no_privileges()
    wanted = [layer for layer in _FLAGS if layer in layers]
    if wanted:
        _unshare(wanted)
    if Layer.UTS in layers:
        call("sethostname", _HOST_NAME, len(_HOST_NAME))
    die_with_parent()
    if Layer.PID in layers:
        _become_first()


def _unshare(wanted: list[Layer]) -> None:
    flags = sum(_FLAGS[layer] for layer in wanted)
    what = f"entering namespaces ({', '.join(wanted)}) with one thread"
    if Layer.USER not in wanted:
        call("unshare", flags, what=what)
    elif os.geteuid() == 0:
        os.setgroups([])
        tell, ask = _map_from_outside()
        call("unshare", flags, what=what)
        os.close(tell)
        answer = os.read(ask, 200)
        os.close(ask)
        os.wait()
        if answer:
            raise OSError(f"mapping root to an ordinary user: {answer.decode()}")
    else:
        user, group = os.geteuid(), os.getegid()
        # A process that changed its user may not write its own map before.
        prctl(PR_SET_DUMPABLE, 1)
        call("unshare", flags, what=what)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
        _write("/proc/self/uid_map", f"{NOBODY} {user} 1")


def _map_from_outside() -> tuple[int, int]:
    """A helper that maps this process once it has been told: by closing the first pipe.

    Whom a process becomes outside only a process that stayed there may say.
    """
    awaited, tell = os.pipe()
    ask, answer = os.pipe()
    target = os.getpid()
    user = NOBODY if _is_mapped(NOBODY, "/proc/self/uid_map") else os.geteuid()
    group = NOBODY if _is_mapped(NOBODY, "/proc/self/gid_map") else os.getegid()
    if os.fork() == 0:
        try:
            os.close(tell)
            os.close(ask)
            os.read(awaited, 1)
            _write(f"/proc/{target}/gid_map", f"{NOBODY} {group} 1")
            _write(f"/proc/{target}/uid_map", f"{NOBODY} {user} 1")
        except BaseException as error:
            os.write(answer, str(error).encode()[:200])
        finally:
            os._exit(0)
    os.close(awaited)
    os.close(answer)
    return tell, ask


def _is_mapped(number: int, path: str) -> bool:
    lines = Path(path).read_text().splitlines()
    rows = [[int(word) for word in line.split()] for line in lines]
    return any(first <= number < first + count for first, _, count in rows)


def _write(path: str, text: str) -> None:
    place = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(place, text.encode())
    finally:
        os.close(place)


def _become_first() -> None:
    """Fork; return in the new process, and wait for it in the old one."""
    alive, held = os.pipe()
    inner = os.fork()
    if inner:
        os.dup2(held, 0)
        os.closerange(1, 2**31 - 1)
        _end_like(inner)
    die_with_parent()
    os.close(held)
    # Did the outer process end before we asked to end with it?
    poll = select.poll()
    poll.register(alive, select.POLLHUP)
    if poll.poll(0):
        os._exit(1)
    os.close(alive)


def _end_like(inner: int) -> None:
    """Wait for *inner*, reap what else there is, and end in the same way."""
    while True:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid == inner:
            break
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        prctl(PR_SET_DUMPABLE, 0)  # no core file of a process that did nothing wrong
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
