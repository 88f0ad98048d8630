"""What contained code is given: time, memory, room for output, files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

from anabranch.errors import UsageError

__all__ = ["Grant", "Limits", "ReadOnly", "Scratch"]

_MOST_S = 10**9
_MOST = 2**60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of each thing a run of contained code is given.

    Args:
        wall_s: Seconds by the clock, waiting included.
        cpu_s: Seconds of processor time; rounded up to whole ones.
        memory_bytes: What it may allocate beyond what the interpreter and the imported
            libraries occupy; each of its processes, if it may be several.
        output_bytes: How much is kept of standard output, and as much of standard error.
            The code may print more: what is over is dropped, and said so.
        result_bytes: How large its value, encoded, may be. It may be made of a sixty-fourth
            as many numbers, texts and so on; an array or a table counts by its bytes alone.
        processes: How many processes and threads it may be at once, itself included.
        open_files: How many descriptors it may hold.
        file_bytes: How large a file it may write, where a grant lets it write any; by
            default as large as that grant's room.

    Raises:
        UsageError: If a limit cannot be meant: seconds are positive and finite, the rest
            are whole numbers.
    """

    wall_s: float = 30.0
    cpu_s: float = 30.0
    memory_bytes: int = 512 * 2**20
    output_bytes: int = 2**20
    result_bytes: int = 64 * 2**20
    processes: int = 1
    open_files: int = 16
    file_bytes: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("wall_s", "cpu_s"):
                possible = isinstance(value, (int, float)) and 0 < value <= _MOST_S
                takes = "a positive number of seconds"
            elif field.name == "file_bytes":
                possible = value is None or (type(value) is int and 0 <= value <= _MOST)
                takes = "a whole number, 0 or more"
            else:
                possible = type(value) is int and 1 <= value <= _MOST
                takes = "a whole number, 1 or more"
            if not possible or isinstance(value, bool):
                raise UsageError(f"Limits({field.name}=...) takes {takes}, not {value!r}")


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A file or folder of this machine that contained code may read, at the same path.

    Raises:
        UsageError: If the path is not absolute.
    """

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", Path(path))
        if not self.path.is_absolute():
            raise UsageError(f"ReadOnly takes an absolute path, not {str(path)!r}")


@dataclass(frozen=True, slots=True)
class Scratch:
    """An empty folder ``/scratch`` that contained code may write to; each run has its own.

    Args:
        bytes: How much it holds. It is memory, not disk.
    """

    bytes: int

    def __post_init__(self) -> None:
        if type(self.bytes) is not int or not 1 <= self.bytes <= _MOST:
            raise UsageError(
                f"Scratch takes a number of bytes, 1 or more, not {self.bytes}"
            )


#: What contained code may be given of files.
Grant: TypeAlias = ReadOnly | Scratch
