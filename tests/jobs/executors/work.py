"""What the tests let other processes do, and how they see it from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anabranch.jobs.executors import Dispatcher, Executor

PATIENCE_S = 30.0


class Refused(Exception):
    """As the errors of many API clients: made from keywords, with facts as attributes."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"refused with status {status}")
        self.status = status


class OwnWords(OSError):
    """The interpreter keeps some of its facts, and its message grows when made again."""

    def __init__(self, what: str) -> None:
        super().__init__(5, f"while {what}")
        self.what = what


def double(number: int) -> int:
    return 2 * number


async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def refuse_odd(number: int) -> int:
    if number % 2:
        raise Refused(status=400 + number)
    return number


async def refuse_odd_later(number: int) -> int:
    await asyncio.sleep(0)
    return refuse_odd(number)


def killed_by_13(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def stay(folder: str) -> None:
    """Says who it is, and does not end by itself."""
    here(folder)
    time.sleep(PATIENCE_S * 10)


async def stay_later(folder: str) -> None:
    here(folder)
    try:
        await asyncio.sleep(PATIENCE_S * 10)
    except asyncio.CancelledError:
        (Path(folder) / "cancelled").touch()
        raise


def here(folder: str) -> int:
    (Path(folder) / f"pid-{os.getpid()}").touch()
    return os.getpid()


def seen(folder: Path) -> list[int]:
    """The processes that have said who they are."""
    return [int(path.name[4:]) for path in folder.glob("pid-*")]


def is_gone(pid: int) -> bool:
    """No process, and no zombie either."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_dead(pid: int) -> bool:
    """Gone, or for init to reap: an orphan may wait for that, on some machines for ever."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return is_gone(pid)


def until_now(condition: Callable[[], Any]) -> Any:
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


async def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
    return value


async def answers(executor: Executor, fn: Any, items: Any) -> list[Any]:
    """What many callers at once get: values, and errors as values. Closes everything."""
    dispatcher: Dispatcher[Any, Any] = Dispatcher(executor, fn)
    try:
        return await asyncio.gather(
            *(dispatcher(item) for item in items), return_exceptions=True
        )
    finally:
        await dispatcher.aclose()
        await executor.aclose()
