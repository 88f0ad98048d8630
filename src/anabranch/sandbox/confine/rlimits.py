"""Limits that the kernel counts: memory, processor time, files, processes."""

from __future__ import annotations

import math
import resource
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.sandbox.confine.capabilities import drop_capabilities, empty_bounding_set
from anabranch.sandbox.confine.layers import Layer
from anabranch.sandbox.confine.syscalls import Prepared, call

if TYPE_CHECKING:
    from anabranch.sandbox.limits import Limits

__all__ = ["add_rlimits", "count_apart", "mapped_bytes", "remember_mapped"]

_CLONE_NEWUSER = 0x10000000
_STACK_BYTES = 8 * 2**20

_remembered: int | None = None


def mapped_bytes() -> int:
    """The address space of this process, in bytes.

    Once ``/proc`` is hidden this is what :func:`remember_mapped` saw, here or in the
    process that forked this one.
    """
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
        return int(pages) * resource.getpagesize()
    except OSError:
        if _remembered is None:
            raise
        return _remembered


def remember_mapped() -> None:
    """Keep what :func:`mapped_bytes` is now, for this process and those that it forks."""
    global _remembered
    _remembered = mapped_bytes()


def add_rlimits(calls: Prepared, limits: Limits) -> None:
    """Add the calls that hold a process to *limits*, and whatever it forks with it.

    Memory counts what is mapped beyond what is mapped now; over it, allocations fail.
    Processor time is whole seconds, rounded up: then SIGXCPU, and SIGKILL a second later.
    A write over the size of a file gives EFBIG where SIGXFSZ is ignored, as Python does; it
    counts memfds too, but not what is written through a mapping. Descriptors that are open
    already stay, whatever their number. Where a hard limit is lower already, it stays.

    Processes and threads are counted by user: see :func:`count_apart`. Without ``USER`` all
    processes of the user count, and root's are never refused: then only ``SECCOMP`` keeps
    ``processes=1``.

    Args:
        calls: Where they are added.
        limits: The fields but ``wall_s``, ``output_bytes`` and ``result_bytes``.
    """
    cpu = math.ceil(limits.cpu_s)
    for which, soft, hard in (
        (resource.RLIMIT_AS, mapped_bytes() + limits.memory_bytes, None),
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_FSIZE, limits.file_bytes or 0, None),
        (resource.RLIMIT_NPROC, limits.processes, None),
        (resource.RLIMIT_STACK, _STACK_BYTES, None),
        (resource.RLIMIT_CORE, 0, None),
        (resource.RLIMIT_MEMLOCK, 0, None),
        (resource.RLIMIT_MSGQUEUE, 0, None),
        # Last: nothing can be opened where the limit is below what is open already.
        (resource.RLIMIT_NOFILE, limits.open_files, None),
    ):
        pair = struct.pack("=QQ", *_possible(which, soft, soft if hard is None else hard))
        calls.add("prlimit64", 0, which, pair, None, what="setting a resource limit")


def _possible(which: int, soft: int, hard: int) -> tuple[int, int]:
    most = resource.getrlimit(which)[1]
    if most == resource.RLIM_INFINITY:
        return soft, hard
    return min(soft, most), min(hard, most)


def count_apart(layers: frozenset[Layer]) -> None:
    """Go into a user namespace where only the processes of this one are counted.

    Args:
        layers: Does nothing without ``USER``.
    """
    if Layer.USER not in layers:
        return
    call("unshare", _CLONE_NEWUSER, what="counting the processes of this one apart")
    # The new namespace came with all capabilities within it.
    if Layer.CAPABILITIES in layers:
        empty_bounding_set()
        drop_capabilities()
