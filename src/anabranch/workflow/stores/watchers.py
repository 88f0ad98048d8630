"""Telling those who iterate over the changes of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager


class Watcher:
    """One who waits: what it has not been told yet, each run once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, None] = {}
        self._is_any = False
        self._bell: asyncio.Future[None] | None = None

    def tell(self, run_ids: Iterable[str] | None) -> None:
        """Something happened to these runs; or, with ``None``, to any."""
        if run_ids is None:
            self._is_any = True
        else:
            self._runs.update(dict.fromkeys(run_ids))
        # A loop that was closed has nobody on it to be told.
        if self._bell and not self._bell.done() and not self._loop.is_closed():
            self._bell.set_result(None)

    async def told(self) -> Sequence[str]:
        """What it was told since; empty if it may be any run."""
        while not (self._runs or self._is_any):
            self._bell = self._loop.create_future()
            await self._bell
        runs, self._runs = tuple(self._runs), {}
        is_any, self._is_any = self._is_any, False
        return () if is_any else runs


class Watchers:
    """Those who wait on one loop; :meth:`tell` is called on it too."""

    def __init__(self) -> None:
        self._waiting: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def tell(self, run_ids: Iterable[str] | None) -> None:
        """Something happened to these runs; or, with ``None``, to any."""
        for watcher in tuple(self._waiting):
            watcher.tell(run_ids)

    @contextmanager
    def watch(self) -> Generator[Watcher, None, None]:
        """One more who is told, until it has enough."""
        watcher = Watcher()
        self._waiting.add(watcher)
        try:
            yield watcher
        finally:
            self._waiting.discard(watcher)
