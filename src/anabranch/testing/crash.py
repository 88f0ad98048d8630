"""Dying at the worst moment, on purpose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Crash(BaseException):
    """The process is gone: not an ``Exception``, so that nothing recovers from it."""


def crash_at(
    call: Callable[P, Awaitable[R]], number: int, *, done: bool
) -> Callable[P, Awaitable[R]]:
    """``call``, but its invocation of this number crashes, and so do all after it.

    Args:
        call: Something that writes.
        number: Which invocation, from 0.
        done: Whether that invocation takes effect before the crash.
    """
    calls = 0

    async def crashing(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal calls
        calls += 1
        if calls <= number:
            return await call(*args, **kwargs)
        if calls == number + 1 and done:
            await call(*args, **kwargs)
        raise Crash

    return crashing
