"""Every way a command can end badly, as one sentence and an exit status."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import cast

from anabranch.cli._terminal import say
from anabranch.errors import AnabranchError, UsageError

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
TERMINATED = 143
NOBODY_READS = 141  # what a shell reports of a program that a closed pipe ended


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever cleans up after Ctrl-C does the same after this."""


def guarded(
    command: Callable[[argparse.Namespace], int], args: argparse.Namespace, *, debug: bool
) -> int:
    """The command's exit status, whatever it raises."""
    _prepare_streams()
    with _logging_to_stderr(debug=debug), _sigterm_raises():
        try:
            status = command(args)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            return NOBODY_READS
        except KeyboardInterrupt as interrupt:
            return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED
        except Exception as error:
            if debug:
                traceback.print_exception(error)
            return _explain(error)
        finally:
            _discard_what_cannot_be_written()


def _explain(error: Exception) -> int:
    status = FAILED
    for each in _leaves(error):
        say(f"anabranch: {sentence(each)}")
        status = WRONG_USE if isinstance(each, UsageError) else status
    return status


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for part in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaves(part)
    else:
        yield error


def sentence(error: Exception) -> str:
    """What happened and what to do, for a person."""
    match error:
        case AnabranchError():
            return str(error)
        case ModuleNotFoundError(name=str(module)) if "pip install" not in str(error):
            return f"the package {module} is missing: {_remedy(module)}"
        case ImportError():
            return str(error)
        case OSError(strerror=str(reason), filename=str(name)):
            return f"{name}: {reason[:1].lower()}{reason[1:]}"
        case OSError(strerror=str(reason)):
            return f"{reason[:1].lower()}{reason[1:]}"
        case MemoryError():
            return "out of memory: free some, or index in smaller parts"
        case _:
            return (
                f"something unforeseen happened ({type(error).__name__}: {error}). That is "
                "a fault of anabranch: please report it with what --debug shows"
            )


def _remedy(module: str) -> str:
    from anabranch.cli._extras import extra_with

    extra = extra_with(module.partition(".")[0])
    return f"pip install 'anabranch[{extra}]'" if extra else f"pip install {module}"


def _prepare_streams() -> None:
    """Closed ones lead nowhere; what an encoding lacks is shown as an escape."""
    # Python has None for what was closed by the shell: 2>&- is a way to say "be quiet".
    # They stay open for as long as the process lives.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_what_cannot_be_written() -> None:
    """Python flushes at its end, and would complain: by then everything is said."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def _logging_to_stderr(*, debug: bool) -> Generator[None, None, None]:
    logger = logging.getLogger("anabranch")
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(debug=debug))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Formatter):
    """One line a message; tracebacks only for those who ask."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__("anabranch: %(message)s")
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        if self._debug:
            return super().format(record)
        return self.formatMessage(self._with_message(record))

    def _with_message(self, record: logging.LogRecord) -> logging.LogRecord:
        record.message = record.getMessage()
        return record


@contextmanager
def _sigterm_raises() -> Generator[None, None, None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
