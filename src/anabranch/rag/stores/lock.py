"""One writer a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from anabranch.errors import StoreError, StoreLocked


def hold_lock(folder: Path) -> Callable[[], None]:
    """Lock the folder for this process until the returned function is called.

    The operating system lets go of the lock when the process dies, however it dies.

    Raises:
        StoreLocked: Another process holds it.
    """
    import fcntl  # only where a store is written: the rest also works without it

    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}): choose another folder, or "
            "check who may write there"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise StoreLocked(
            f"another process ({holder}) is indexing into {folder}: wait until it has "
            "finished, or stop it"
        ) from None
    except BaseException:
        os.close(handle)
        raise
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError:
        pass  # the number only helps a person; a full disk is reported when it matters
    return lambda: os.close(handle)
