"""What contained code is given: time, memory, room for output, files."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

from anabranch.errors import UsageError

__all__ = ["Grant", "Limits", "ReadOnly", "Scratch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of each thing a run of contained code is given.

    Args:
        wall_s: Seconds by the clock, waiting included.
        cpu_s: Seconds of processor time; rounded up to whole ones.
        memory_bytes: What it may allocate beyond what the interpreter and the imported
            libraries occupy.
        output_bytes: How much is kept of standard output, and as much of standard error.
            The code may print more: what is over is dropped, and said so.
        result_bytes: How large its value, encoded, may be.
        processes: How many processes and threads it may be at once, itself included.
        open_files: How many descriptors it may hold.
        file_bytes: How large a file it may write, where a grant lets it write any; by
            default as large as that grant's room.

    Raises:
        UsageError: If a limit is not a positive number (``file_bytes`` may be 0).
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
            if field.name == "file_bytes" and value is None:
                continue
            least = 0 if field.name == "file_bytes" else 1e-9
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not numeric or math.isnan(value) or value < least:
                raise UsageError(
                    f"Limits({field.name}=...) takes a positive number, not {value!r}"
                )


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
        if self.bytes <= 0:
            raise UsageError(f"Scratch takes a positive number of bytes, not {self.bytes}")


#: What contained code may be given of files.
Grant: TypeAlias = ReadOnly | Scratch
