"""Passages in a real PostgreSQL with pgvector."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from anabranch.errors import StoreError, UsageError
from anabranch.rag import VectorStore
from anabranch.rag.stores.postgres import PgVectorStore
from anabranch.rag.types import Metadata
from tests.postgres import Server, database, shared_server
from tests.rag.parts import HashEmbedder, vector_of
from tests.rag.stores.conformance import Conformance, add
from tests.rag.stores.places import At, OtherEmbedder


class TestPostgres(Conformance):
    stride = 17

    @asynccontextmanager
    async def up(self, tmp_path: Path) -> AsyncIterator[At]:
        with database() as url:
            yield At("postgres", url)


def run(test: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    with database() as url:
        asyncio.run(test(url))


async def found(store: VectorStore, where: str | None = None) -> list[str]:
    return sorted(h.text for h in await store.search(vector_of("x"), k=999, where=where))


class TestWhoUsesIt:
    def test_many_make_the_tables_at_once_and_two_write_one_source(self) -> None:
        async def test(url: str) -> None:
            async with AsyncExitStack() as stack:
                stores = [PgVectorStore(url, HashEmbedder()) for _ in range(4)]
                for store in await asyncio.gather(
                    *(stack.enter_async_context(store) for store in stores)
                ):
                    assert await store.count() == (0, 0)
                one, two = stores[:2]
                await one.write([add("a", ["one 1"], state="1", is_last=False)])
                await two.write([add("a", ["two 1"], state="2", is_last=False)])
                ends = (("one 2", "1", one), ("two 2", "2", two))
                await asyncio.gather(
                    *(
                        each.write([add("a", [line], state=state)])
                        for line, state, each in ends
                    )
                )
                state = (await one.versions(["a"]))["a"].digest
                assert await found(two) == (
                    ["one 1", "one 2"] if state == "1" else ["two 1", "two 2"]
                )
                # Each in another order: nobody waits for another for ever.
                names = [f"s{number}" for number in range(12)]
                await asyncio.gather(
                    *(
                        each.write([add(name, [name]) for name in chance])
                        for each, chance in zip(
                            stores, (names, names[::-1]) * 2, strict=True
                        )
                    )
                )
                assert await one.count() == (13, 14)

        run(test)

    def test_who_is_swept_away_while_writing_is_told_so(self) -> None:
        async def test(url: str) -> None:
            async with (
                PgVectorStore(url, HashEmbedder()) as one,
                PgVectorStore(url, HashEmbedder()) as two,
            ):
                await one.write([add("a", ["one 1"], is_last=False)])
                await two.sweep()
                with pytest.raises(StoreError, match="another process has swept"):
                    await one.write([add("a", ["one 2"])])
                assert await found(one) == []

        run(test)

    def test_schemas_are_apart(self) -> None:
        async def test(url: str) -> None:
            async with (
                PgVectorStore(url, HashEmbedder(), schema="one") as one,
                PgVectorStore(url, OtherEmbedder(), schema="two") as two,
            ):
                await one.write([add("a", ["x"])])
                assert await two.count() == (0, 0)

        run(test)


class TestSearch:
    def test_a_filter_that_means_few_of_many_finds_them_all(self) -> None:
        """More passages than pgvector looks at before it gives up."""

        async def test(url: str) -> None:
            async with PgVectorStore(f"{url}?options=-c%20hnsw.max_scan_tuples%3D50",
                                     HashEmbedder(), ef_search=5) as store:  # fmt: skip
                lines = [f"line {number}" for number in range(2_000)]
                metadata: list[Metadata] = [{"n": number} for number in range(2_000)]
                await store.write([add("a", lines, metadata=metadata)])
                assert await found(store, "n >= 1990") == lines[1990:]
                assert len(await store.search(vector_of("x"), k=1_500)) == 1_500

        run(test)

    def test_words_are_ranked_as_bm25_ranks_them(self) -> None:
        chance = random.Random(5)
        words = [f"w{number}" for number in range(30)]
        weights = [1 / (1 + number) for number in range(30)]
        texts = [
            " ".join(chance.choices(words, weights, k=chance.randint(5, 60)))
            for _ in range(200)
        ]
        counts = [Counter(text.split()) for text in texts]
        usual = sum(map(len, counts)) / len(counts)
        asked = ["w1", "w9", "w20", "w20"]

        def bm25(place: int, among: Sequence[Counter[str]]) -> float:
            score = 0.0
            for word in asked:
                known = sum(word in each for each in among)
                n = counts[place][word]
                norm = 1.2 * (0.25 + 0.75 * len(counts[place]) / usual)
                rarity = math.log(1 + (len(among) - known + 0.5) / (known + 0.5))
                score += rarity * n * 2.2 / (n + norm)
            return score

        async def test(url: str) -> None:
            async with PgVectorStore(url, HashEmbedder(), text_config="simple") as store:
                await store.write([add("a", texts, metadata={})])
                hits = await store.search_text(" ".join(asked), k=20)
                best = sorted((bm25(n, counts) for n in range(200)), reverse=True)
                scores = [bm25(texts.index(hit.text), counts) for hit in hits]
                # The usual length is of what has one of the words, and counts are nearly so.
                assert scores == pytest.approx(best[:20], rel=0.1)
                assert [hit.score for hit in hits] == pytest.approx(scores, rel=0.15)

        run(test)

    @pytest.mark.exhaustive
    def test_a_server_that_was_started_again_is_found_again(self) -> None:
        async def test(server: Server, url: str) -> None:
            async with PgVectorStore(url, HashEmbedder(), timeout=6) as store:
                await store.write([add("a", ["x"])])
                await asyncio.to_thread(server.restart, immediate=True)
                assert await found(store) == ["x"]
                await store.write([add("b", ["y"])])
                await asyncio.to_thread(server.stop)
                with pytest.raises(
                    StoreError, match=r"127.0.0.1.*see that the server runs"
                ):
                    await found(store)
                await asyncio.to_thread(server.start)
                assert await found(store) == ["x", "y"]

        with Server.started() as server, server.database() as url:
            asyncio.run(test(server, url))


class TestWhatIsRefused:
    @pytest.mark.parametrize("schema", ["", "A", "a b", '"; --', "1a", "a" * 49])
    def test_a_schema_that_can_be_none(self, schema: str) -> None:
        with pytest.raises(UsageError, match="cannot be the schema"):
            PgVectorStore("postgresql://h/d", HashEmbedder(), schema=schema)

    def test_a_url_without_showing_it(self) -> None:
        with pytest.raises(UsageError, match="cannot be read") as refused:
            PgVectorStore("postgresql://u:s3cret" + "@[::1/d", HashEmbedder())
        assert "s3cret" not in str(refused.value)

    def test_a_server_that_is_not_there_or_takes_nobody(self) -> None:
        async def test(url: str) -> None:
            password = url.split(":")[2].split("@", maxsplit=1)[0]
            wrong = url.replace(password, "s3cret")
            for other, said in (
                ("postgresql://u:s3cret" + "@127.0.0.1:1/d", "see that the server runs"),
                (wrong, "authentication failed"),
            ):
                with pytest.raises(StoreError, match=said) as refused:
                    async with PgVectorStore(other, HashEmbedder()):
                        pass
                assert "s3cret" not in str(refused.value)

        run(test)

    def test_a_user_who_may_not(self) -> None:
        async def test(url: str) -> None:
            name = f"guest_{os.getpid()}"
            server = shared_server()
            server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
            guest = re.sub(r"//.*@", f"//{name}:x@", url)
            try:
                with pytest.raises(StoreError, match="CREATE EXTENSION vector"):
                    async with PgVectorStore(guest, HashEmbedder()):
                        pass
                server.execute("CREATE EXTENSION vector", url.rpartition("/")[2])
                with pytest.raises(StoreError, match=r"permission denied.*grant this one"):
                    async with PgVectorStore(guest, HashEmbedder()):
                        pass
            finally:
                server.execute(f"DROP ROLE {name}")

        run(test)

    def test_a_language_that_postgresql_does_not_have(self) -> None:
        async def test(url: str) -> None:
            with pytest.raises(StoreError, match="klingon"):
                async with PgVectorStore(url, HashEmbedder(), text_config="klingon"):
                    pass
            async with PgVectorStore(url, HashEmbedder()) as store:  # nothing is left of it
                assert await store.count() == (0, 0)

        run(test)
