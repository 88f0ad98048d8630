"""A host worth attacking: secrets, sockets and a process that a child may try to reach."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_IPC_CREAT, _IPC_RMID = 0o1000, 0


@contextlib.contextmanager
def host(user: int) -> Iterator[dict[str, Any]]:
    """Facts about a host whose files, sockets and process belong to *user*."""
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: that one only its owner may enter.
        folder = Path(tempfile.mkdtemp(prefix="anabranch-host-"))
        stack.callback(shutil.rmtree, folder)
        facts = _files(folder) | _sockets(stack, folder)
        for path in (folder, *folder.rglob("*")):
            if "root" not in path.name and not path.is_symlink():
                os.chown(path, user, user if os.geteuid() == 0 else -1)
        facts["target"] = target = _target(stack, user)
        maps = Path(f"/proc/{target}/maps").read_text()
        facts["address"] = int(maps.split("-")[0], 16)
        key, libc = int.from_bytes(os.urandom(3)) + 1, ctypes.CDLL(None)
        segment = libc.shmget(key, 4096, _IPC_CREAT | 0o666)
        stack.callback(libc.shmctl, segment, _IPC_RMID, None)
        yield {**facts, "key": key}


def _files(folder: Path) -> dict[str, Any]:
    folder.chmod(0o777)
    for name in ("secret", "own"):
        (folder / name).write_text("a secret of the host")
    (folder / "root_only").write_text("for root")
    (folder / "root_only").chmod(0o600)
    granted = folder / "granted"
    granted.mkdir()
    granted.chmod(0o755)
    (granted / "file").write_text("granted")
    (granted / "link").symlink_to(folder / "secret")
    return {
        "folder": str(folder),
        "secret": str(folder / "secret"),
        "own": str(folder / "own"),
        "root_only": str(folder / "root_only"),
        "granted": str(granted),
        "link": str(granted / "link"),
        "setuid": _privileged_program(folder),
    }


def _privileged_program(folder: Path) -> str:
    program = folder / "root_id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    return str(program)


def _sockets(stack: contextlib.ExitStack, folder: Path) -> dict[str, Any]:
    abstract = f"anabranch-{os.getpid()}"
    tcp, udp, free, stream, datagrams, named = (
        stack.enter_context(socket.socket(family, kind))
        for family, kind in (
            (socket.AF_INET, socket.SOCK_STREAM),
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_INET, socket.SOCK_STREAM),
            (socket.AF_UNIX, socket.SOCK_STREAM),
            (socket.AF_UNIX, socket.SOCK_DGRAM),
            (socket.AF_UNIX, socket.SOCK_STREAM),
        )
    )
    for one in (tcp, udp, free):
        one.bind(("127.0.0.1", 0))
    stream.bind(str(folder / "stream"))
    datagrams.bind(str(folder / "datagrams"))
    named.bind("\0" + abstract)
    for one in (tcp, stream, named):
        one.listen(16)
    number = free.getsockname()[1]
    free.close()
    return {
        "tcp": tcp.getsockname()[1],
        "udp": udp.getsockname()[1],
        "free": number,
        "unix": str(folder / "stream"),
        "datagrams": str(folder / "datagrams"),
        "abstract": abstract,
    }


def _target(stack: contextlib.ExitStack, user: int) -> int:
    become: dict[str, Any] = {}
    if os.geteuid() == 0:
        become = {"user": user, "group": user, "extra_groups": []}
    target = subprocess.Popen(["/bin/sleep", "600"], env={"TOKEN": "secret"}, **become)
    stack.callback(target.wait)
    stack.callback(target.kill)
    return target.pid


def is_alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor a zombie nor about to be one."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return False
