"""Runs one source text in a namespace, and tells what came of it as plain data.

It is at work inside a child, where the code that it runs can reach all of it. So nothing
here protects anything; it is only to be right for code that means well.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import inspect
import io
import linecache
import sys
import traceback
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

FILE_NAME: Final = "<sandbox>"
NOTE_BYTES: Final = 200  # what is said of dropped output takes less
MESSAGE_CHARS: Final = 4_000
TRACEBACK_CHARS: Final = 16_000
_VALUE: Final = "__value_of_the_last_line__"


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as data."""

    type_name: str
    message: str
    line: int | None
    traceback: str
    out_of_memory: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one source text: a value, or what it raised; and what it printed."""

    value: object
    error: Raised | None
    stdout: bytes
    stderr: bytes


class Kept(io.RawIOBase):
    """Takes any number of bytes, and keeps the first ``most`` of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.begin(0)

    def begin(self, most: int) -> None:
        """Forget everything, and keep so many bytes from now on."""
        self._most = most
        self._kept = bytearray()
        self._dropped = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:  # the base class: any buffer
        view = memoryview(data).cast("B")
        room = self._most - len(self._kept)
        self._kept += view[: max(room, 0)]
        self._dropped += max(len(view) - room, 0)
        return len(view)

    def content(self) -> bytes:
        """What was kept, with a last line that says how much was not."""
        if not self._dropped:
            return bytes(self._kept)
        told = f"\n[{self._dropped} more bytes were dropped: output_bytes={self._most}]\n"
        return bytes(self._kept) + told.encode()


class Printed:
    """What ``sys.stdout`` or ``sys.stderr`` is, for all runs of a process.

    One for all: what has been printed through an object of an earlier run counts as well.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._kept = Kept()
        self._stream: TextIO = io.TextIOWrapper(  # type: ignore[type-var]  # a raw stream will do
            self._kept,  # pyright: ignore[reportArgumentType]
            encoding="utf-8",
            errors="backslashreplace",
            newline="\n",
            write_through=True,
        )

    def stream(self, most: int) -> TextIO:
        """The stream for a run, of which so many bytes are kept."""
        try:
            closed = self._stream.closed
        except ValueError:  # the code took it apart
            closed = True
        if closed:
            self._begin()
        self._kept.begin(most)
        return self._stream

    def content(self) -> bytes:
        """What the run has printed."""
        return self._kept.content()


class Runner:
    """Runs sources one after another in the same namespace."""

    def __init__(self) -> None:
        self._main = types.ModuleType("__main__")
        self._main.__dict__["__builtins__"] = builtins
        self._loop: asyncio.Runner | None = None
        self._count = 0
        self._out, self._err = Printed(), Printed()

    def run(self, source: str, values: Mapping[str, object], *, output_bytes: int) -> Ran:
        """Run a source; what it raises is in the answer, whatever it is."""
        self._count += 1
        name = FILE_NAME if self._count == 1 else f"<sandbox {self._count}>"
        value, error = None, None
        before = sys.modules["__main__"], sys.stdin, sys.stdout, sys.stderr
        sys.modules["__main__"] = self._main
        sys.stdin = io.StringIO("")
        sys.stdout = self._out.stream(output_bytes)
        sys.stderr = self._err.stream(output_bytes)
        try:
            self._main.__dict__.update(values)
            value = self._execute(source, name)
        except BaseException as raised:  # SystemExit is data as well
            error = _told(raised, name)
        finally:
            _flush()
            sys.modules["__main__"], sys.stdin, sys.stdout, sys.stderr = before
        return Ran(value, error, self._out.content(), self._err.content())

    def _execute(self, source: str, name: str) -> object:
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)
        code, asked = _compiled(source, name)
        namespace = self._main.__dict__
        ran = eval(code, namespace)  # noqa: S307  # it is what this process is for
        if code.co_flags & inspect.CO_COROUTINE:
            if self._loop is None:
                self._loop = asyncio.Runner()
            ran = self._loop.run(ran)
        return namespace.pop(_VALUE) if asked else ran


def _compiled(source: str, name: str) -> tuple[types.CodeType, bool]:
    """The code, and whether it puts its value under a name instead of giving it."""
    if "\n" not in source:
        # An expression alone needs no tree, which costs more than all the rest.
        with contextlib.suppress(SyntaxError):
            code = compile(
                source, name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            return code, False
    tree = ast.parse(source, name)
    asked = _keep_last_value(tree)
    code = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code, asked


def _keep_last_value(tree: ast.Module) -> bool:
    """Makes ``expression`` at the end ``name = expression``; False if there is none."""
    if not tree.body or not isinstance(last := tree.body[-1], ast.Expr):
        return False
    place: Any = {
        "lineno": last.lineno,
        "col_offset": last.col_offset,
        "end_lineno": last.end_lineno,
        "end_col_offset": last.end_col_offset,
    }
    target = ast.Name(_VALUE, ast.Store(), **place)
    tree.body[-1] = ast.Assign([target], last.value, **place)
    return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # the code may have put anything there
            stream.flush()


def _told(error: BaseException, name: str) -> Raised:
    out_of_memory = isinstance(error, MemoryError)
    type_name = type(error).__name__
    try:
        message, line = _message(error), _line(error, name)
        text = "".join(traceback.format_exception(_without_us(error)))
    except BaseException as failed:  # its own methods may raise anything
        message = f"(it cannot be shown: {type(failed).__name__})"
        line, text = None, ""
    if len(text) > TRACEBACK_CHARS:
        text = "[...]\n" + text[-TRACEBACK_CHARS:]
    return Raised(type_name, message[:MESSAGE_CHARS], line, text, out_of_memory)


def _message(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error}. Only what Sandbox(imports=[...]) names can be imported"
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _line(error: BaseException, name: str) -> int | None:
    """The line of the source that was at work: the innermost one if there are several."""
    line = None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == name:
            line = number
    if line is None and isinstance(error, SyntaxError) and error.filename == name:
        line = error.lineno
    return line


def _without_us(error: BaseException) -> BaseException:
    """The exception, its traceback beginning with the first line of the code."""
    entry = error.__traceback__
    while entry and not entry.tb_frame.f_code.co_filename.startswith("<sandbox"):
        entry = entry.tb_next
    return error.with_traceback(entry)
