"""The layers of confinement by name, and which of them a machine has."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["ALL", "Found", "Layer"]


class Layer(StrEnum):
    """One mechanism of the kernel. Each holds by itself, whichever others are off.

    ``USER``: root becomes nobody outside, and no process outside can be traced.
    ``MOUNT``: nothing of the host's file system is left but what is granted.
    ``NET``: no network interface. ``PID``: no process outside can be named.
    ``IPC``, ``UTS``: no System V objects and no host name of the host.
    ``LANDLOCK``: no file, TCP port, abstract socket or signal outside what is granted.
    ``SECCOMP``: no system call but those of a list.
    ``CAPABILITIES``: none of root's powers, nor a way back to them.
    ``NO_NEW_PRIVS``: no program gives privileges. ``RLIMITS``: memory, time, files.
    """

    USER = "user"
    MOUNT = "mount"
    NET = "net"
    PID = "pid"
    IPC = "ipc"
    UTS = "uts"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    CAPABILITIES = "capabilities"
    NO_NEW_PRIVS = "no_new_privs"
    RLIMITS = "rlimits"


ALL: frozenset[Layer] = frozenset(Layer)


class Found:
    """Which layers this kernel gives this user.

    Attributes:
        available: The layers that held when they were tried.
        missing: The others, each with what went wrong.
        landlock_abi: The version of Landlock, or 0 without it. From 4 on it covers TCP,
            from 6 on signals and abstract sockets.
    """

    __slots__ = ("available", "landlock_abi", "missing")

    def __init__(
        self,
        *,
        available: frozenset[Layer],
        missing: Mapping[Layer, str],
        landlock_abi: int = 0,
    ) -> None:
        self.available = available
        self.missing = dict(missing)
        self.landlock_abi = landlock_abi

    def __repr__(self) -> str:
        return (
            f"Found(available={sorted(self.available)}, missing={self.missing}, "
            f"landlock_abi={self.landlock_abi})"
        )
