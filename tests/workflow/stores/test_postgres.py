"""Runs in a real PostgreSQL server."""

from __future__ import annotations

import pytest

from anabranch.testing.stores import StoreContract
from anabranch.workflow.stores import Store
from anabranch.workflow.stores.postgres import PostgresStore
from tests.postgres import database, shared_server


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self):
        with database() as url:
            self.url = url
            yield

    async def make(self) -> Store:
        return PostgresStore(self.url)

    async def another(self, store: Store) -> Store:
        return PostgresStore(self.url)

    async def pass_time(self, store: Store, seconds: float) -> None:
        shared_server().execute(
            f"""UPDATE anabranch.run SET
                created_at = created_at - {seconds}, updated_at = updated_at - {seconds},
                due_at = CASE WHEN due_at > 0 THEN due_at - {seconds} ELSE due_at END,
                leased_until = CASE WHEN leased_until > 0 THEN leased_until - {seconds}
                    ELSE 0 END""",
            dbname=self.url.rpartition("/")[2],
        )
