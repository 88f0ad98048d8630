"""One writer a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from anabranch.errors import StoreError, StoreLocked

LOCK: Final = "lock"
# Locks of processes, by the file: a child has its parent's, and in another container
# another process has the number of this one.
_HELD: set[tuple[int, tuple[int, int]]] = set()


def hold_lock(folder: Path) -> Callable[[], None]:
    """Lock the folder for this process until the returned function is called.

    The operating system lets go of the lock when the process dies, however it dies.

    Raises:
        StoreLocked: It is held, by another process or by this one.
        StoreError: The folder cannot be written, or has a file of somebody else in the
            place of the lock.
    """
    import fcntl  # only where a store is written: the rest also works without it

    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}): choose another folder, or "
            "check who may write there"
        ) from error
    status = os.fstat(handle)
    identity = status.st_dev, status.st_ino
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        if (os.getpid(), identity) in _HELD:
            raise StoreLocked(
                f"this process is indexing into {folder} already: write with the store "
                "that is open, or close it first"
            ) from None
        raise StoreLocked(
            f"another process ({holder}) is indexing into {folder}: wait until it has "
            "finished, or stop it"
        ) from None
    except BaseException:
        os.close(handle)
        raise
    if os.pread(handle, 20, 0).strip(b"0123456789"):
        os.close(handle)
        raise StoreError(
            f"{folder / LOCK} is not of an index, and an index needs a file of this name: "
            "choose a folder of its own"
        )
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError:
        pass  # the number only helps a person; a full disk is reported when it matters
    held = os.getpid(), identity
    _HELD.add(held)

    def let_go() -> None:
        _HELD.discard(held)
        os.close(handle)

    return let_go
