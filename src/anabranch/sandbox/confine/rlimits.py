"""Limits that the kernel counts: memory, processor time, files, processes."""

from __future__ import annotations

import math
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.sandbox.confine.capabilities import drop_capabilities, empty_bounding_set
from anabranch.sandbox.confine.layers import Layer
from anabranch.sandbox.confine.syscalls import call

if TYPE_CHECKING:
    from anabranch.sandbox.limits import Limits

__all__ = ["mapped_bytes", "remember_mapped", "set_rlimits"]

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


def set_rlimits(limits: Limits, layers: frozenset[Layer]) -> None:
    """Hold this process to *limits*, and whatever it forks with it.

    Memory counts what is mapped beyond what is mapped now; over it, allocations fail.
    Processor time is whole seconds, rounded up: then SIGXCPU, and SIGKILL a second later.
    A write over the size of a file gives EFBIG where SIGXFSZ is ignored, as Python does; it
    counts memfds too, but not what is written through a mapping. Descriptors that are open
    already stay, whatever their number.

    Processes and threads are counted by user. With ``USER`` and more than one allowed, this
    process goes into a user namespace of its own, so that only its own are counted. Without
    ``USER`` all processes of the user count, and root's are never refused: then only
    ``SECCOMP`` keeps ``processes=1``.

    Args:
        limits: The fields but ``wall_s``, ``output_bytes`` and ``result_bytes``.
        layers: Does nothing without ``RLIMITS``.

    Raises:
        OSError: If the kernel refuses, or a hard limit is lower already.
    """
    if Layer.RLIMITS not in layers:
        return
    if limits.processes > 1 and Layer.USER in layers:
        _count_apart(layers)
    cpu = math.ceil(limits.cpu_s)
    _limit(resource.RLIMIT_AS, mapped_bytes() + limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, cpu, cpu + 1)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes or 0)
    _limit(resource.RLIMIT_NPROC, limits.processes)
    _limit(resource.RLIMIT_STACK, _STACK_BYTES)
    for none in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        _limit(none, 0)
    # Last: nothing can be opened where the limit is below what is open already.
    _limit(resource.RLIMIT_NOFILE, limits.open_files)


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, or leave it where the hard one is lower already."""
    most = resource.getrlimit(which)[1]
    wanted = soft if hard is None else hard
    if most != resource.RLIM_INFINITY:
        soft, wanted = min(soft, most), min(wanted, most)
    resource.setrlimit(which, (soft, wanted))


def _count_apart(layers: frozenset[Layer]) -> None:
    call("unshare", _CLONE_NEWUSER, what="counting the processes of this one apart")
    # The new namespace came with all capabilities within it.
    if Layer.CAPABILITIES in layers:
        empty_bounding_set()
        drop_capabilities()
