"""Shared memory for what is too large to be sent: made here, sealed, mapped there.

The side that is not trusted never makes one. What it is to read is sealed before it gets
it. What it has written is sealed before we look, which the kernel refuses while anybody
can still write to it.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Sequence
from typing import Any

from anabranch.sandbox import wire


def room(size: int) -> int:
    """A descriptor of so many bytes of memory that can neither grow nor shrink."""
    import fcntl  # Windows has none

    made = os.memfd_create("anabranch", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(made, size)
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(made)
        raise
    return made


def filled(message: wire.Message) -> int:
    """A descriptor of memory that holds the buffers and cannot be changed any more."""
    made = room(message.mapped_bytes)
    try:
        starts, _ = wire.layout(message.sizes)
        for start, pieces in zip(starts, message.parts, strict=True):
            at = start
            for piece in pieces:
                at += _write_all(made, piece, at)
        seal(made)
    except BaseException:
        os.close(made)
        raise
    return made


def _write_all(descriptor: int, piece: bytes | memoryview, at: int) -> int:
    rest = memoryview(piece)
    while rest:
        done = os.pwrite(descriptor, rest, at + len(piece) - len(rest))
        rest = rest[done:]
    return len(piece)


def seal(descriptor: int) -> None:
    """Nobody can write to it any more.

    Raises:
        OSError: Somebody has it mapped to write to it.
    """
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)


def mapped(descriptor: int, sizes: Sequence[int], *, own: bool) -> tuple[memoryview, ...]:
    """The buffers that lie there, without a copy.

    The mapping lasts as long as any of them, or anything built upon them.

    Args:
        descriptor: The memory. It may be closed afterwards.
        sizes: The sizes of the buffers.
        own: Whether the caller may write to what it gets; nobody else sees what it writes.

    Raises:
        ValueError: There is less memory than the sizes say.
    """
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if own else 0)
    # Before Python 3.13 a mapping holds a copy of the descriptor.
    more: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    size = os.fstat(descriptor).st_size
    area = mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, protection, **more)
    return wire.slices(memoryview(area), sizes)


def write(descriptor: int, message: wire.Message) -> None:
    """Fills memory that the other side made. Not by ``write``: that obeys RLIMIT_FSIZE."""
    with mmap.mmap(descriptor, message.mapped_bytes) as area, memoryview(area) as view:
        message.write_into(view)
