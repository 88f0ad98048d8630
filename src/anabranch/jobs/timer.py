"""Time-outs that cost no timer a job.

A timer is set once and left alone: when it rings too early, because the job it was set
for has ended and another runs, it is set again for the rest. A stream of short jobs under
a long time-out sets one timer for each length of the time-out, not one for each job.
"""

from __future__ import annotations

import asyncio


class JobTimer:
    """Cancels the current task when a job in it takes too long. For one job at a time."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._deadline = 0.0
        self._has_rung = False

    def start(self) -> None:
        """A job starts in the current task."""
        self._task = asyncio.current_task()
        self._deadline = self._loop.time() + self._timeout
        self._has_rung = False
        if self._handle is None:
            self._handle = self._loop.call_at(self._deadline, self._ring)

    def stop(self) -> bool:
        """The job has ended; whether this timer has cancelled it.

        The cancellation is taken back, so that only those from elsewhere still count.
        """
        task, self._task = self._task, None
        if not self._has_rung or task is None:
            return False
        task.uncancel()
        return True

    def close(self) -> None:
        """Leave no timer behind."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        if self._task is None:
            return
        if self._loop.time() < self._deadline:
            self._handle = self._loop.call_at(self._deadline, self._ring)
            return
        self._has_rung = True
        self._task.cancel()
