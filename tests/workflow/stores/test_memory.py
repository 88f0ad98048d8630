"""Runs in memory."""

from __future__ import annotations

from anabranch.testing.stores import ManualClock, StoreContract
from anabranch.workflow.stores import MemoryStore, Store


class TestMemoryStore(StoreContract):
    async def make(self) -> Store:
        self.clock = ManualClock()
        return MemoryStore(clock=self.clock)

    async def pass_time(self, store: Store, seconds: float) -> None:
        self.clock.time += seconds
