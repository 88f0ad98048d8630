"""Waiting for what must end before anything else may go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def settle(
    futures: Iterable[asyncio.Future[Any]], *, timeout_s: float | None = None
) -> asyncio.CancelledError | None:
    """Wait until all are done, or time is up, even if the waiter is cancelled meanwhile.

    Nothing is retrieved from them and nothing is cancelled.

    Returns:
        The last cancellation of the waiter, which is the caller's to raise once it has
        cleaned up.
    """
    futures = list(futures)
    now = asyncio.get_running_loop().time
    deadline = None if timeout_s is None else now() + timeout_s
    interrupted = None
    while pending := [future for future in futures if not future.done()]:
        left = None if deadline is None else deadline - now()
        if left is not None and left <= 0:
            break
        try:
            await asyncio.wait(pending, timeout=left)
        except asyncio.CancelledError as error:
            interrupted = error
    return interrupted
