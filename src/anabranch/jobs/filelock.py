"""A file that one user at a time has, in all processes of a machine.

SQLite's own lock is the process's, not the connection's: it is gone when anything in the
process opens the file and closes it again, a copy being made for instance (*How To
Corrupt An SQLite Database File*, sqlite.org, section 2.2). The lock here belongs to an
open file of its own. It goes when that is closed, or the process ends in whatever way;
forked children close their copies at once.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress

_File = tuple[int, int]  # device and inode


class FileLock:
    """Takes the lock on a file, which is made if it is not there.

    Raises:
        BlockingIOError: Somebody has it, here or in another process.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        with _lock:
            # In the same process not even an attempt may open and close the file.
            with suppress(FileNotFoundError):
                if _file(os.stat(path)) in _held:
                    raise BlockingIOError(path)
            self._fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._fd)
                raise
            self._file = _file(os.fstat(self._fd))
            _held[self._file] = self._fd

    def release(self) -> None:
        """Let others have it. Idempotent."""
        with _lock:
            if _held.get(self._file) == self._fd:
                del _held[self._file]
                os.close(self._fd)


_held: dict[_File, int] = {}
_lock = threading.Lock()


def _file(status: os.stat_result) -> _File:
    return status.st_dev, status.st_ino


def _leave_to_parent() -> None:
    global _lock
    _lock = threading.Lock()
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_leave_to_parent)
