"""Runs in a real PostgreSQL server do what runs in every store do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.testing.stores import StoreContract
from anabranch.workflow.stores import Store
from anabranch.workflow.stores.postgres import PostgresStore
from tests.postgres import NEWEST, VERSIONS, shared_server


class TestPostgresStore(StoreContract):
    version = NEWEST
    is_pooled = False

    @pytest.fixture(autouse=True)
    def _database(self) -> Iterator[None]:
        server = shared_server(self.version)
        self.execute = server.execute
        self.made = 0
        with server.database() as url:
            self.url = url
            yield

    def store(self) -> Store:
        return PostgresStore(self.url, schema=f"s{self.made}", pooled=self.is_pooled)

    async def make(self) -> Store:
        self.made += 1
        return self.store()

    async def another(self, store: Store) -> Store:
        return self.store()

    async def pass_time(self, store: Store, seconds: float) -> None:
        self.execute(
            f"""UPDATE s{self.made}.run SET
                created_at = created_at - {seconds}, updated_at = updated_at - {seconds},
                due_at = CASE WHEN due_at > 0 THEN due_at - {seconds} ELSE due_at END,
                leased_until = CASE WHEN leased_until > 0 THEN leased_until - {seconds}
                    ELSE 0 END""",
            dbname=self.url.rpartition("/")[2],
        )


@pytest.mark.exhaustive
class TestBehindAPooler(TestPostgresStore):
    is_pooled = True


@pytest.mark.exhaustive
class TestOnAnOldServer(TestPostgresStore):
    version = min(VERSIONS)
