"""Runs in an SQLite file."""

from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.testing.stores import ManualClock, StoreContract
from anabranch.workflow.stores import Store
from anabranch.workflow.stores.sqlite import SQLiteStore


class TestSQLiteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "runs.db"

    async def make(self) -> Store:
        self.clock = ManualClock()
        return SQLiteStore(self.path, clock=self.clock)

    async def another(self, store: Store) -> Store:
        return SQLiteStore(self.path, clock=self.clock)

    async def pass_time(self, store: Store, seconds: float) -> None:
        self.clock.time += seconds
