"""What came of a run of contained code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anabranch.errors import CodeFailed

__all__ = ["CodeError", "Result"]


@dataclass(frozen=True, slots=True)
class CodeError:
    """What contained code raised, as data: nothing of its class comes across.

    Attributes:
        type_name: The name of the exception's class.
        message: What it said, cut where it is long.
        line: The line of the source that was at work, from 1, where it is known.
        traceback: The usual text, from the first line of the source on; cut likewise.
    """

    type_name: str
    message: str
    line: int | None
    traceback: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run. All of it is what the code wants us to believe.

    Attributes:
        value: The value of the last statement if that is an expression; else None.
        stdout: What it printed, up to ``Limits.output_bytes``.
        stderr: What it wrote to ``sys.stderr``, likewise.
        error: What it raised, or None.
        wall_s: Seconds from the request to the answer.
        cpu_s: Seconds of processor time.
        memory_bytes: The most memory it had at once, beyond what it began with.
    """

    value: Any
    stdout: str
    stderr: str
    error: CodeError | None
    wall_s: float
    cpu_s: float
    memory_bytes: int

    def unwrap(self) -> Any:
        """The value, if the code did not fail.

        Raises:
            CodeFailed: It raised an exception; the note is its traceback.
        """
        if self.error is None:
            return self.value
        failed = CodeFailed(
            type_name=self.error.type_name,
            message=self.error.message,
            line=self.error.line,
        )
        if self.error.traceback:
            failed.add_note(self.error.traceback.rstrip())
        raise failed
