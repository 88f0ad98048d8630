"""The embedded store's two searches: what they rank, and that they see what is written."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.rag import Chunk, Hit, SqliteStore
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.stores import Add, Remove, terms
from anabranch.rag.stores.bm25 import sums_of_varints
from anabranch.rag.stores.fulltext import match_any
from anabranch.rag.stores.vectors import BLOCK_ROWS, Rows, largest, perhaps_largest
from anabranch.rag.types import Vectors
from tests.rag.parts import HashEmbedder, vector_of

WORDS = (
    "river rivers delta stream streams running run max_bytes bytes max x.y Überlauf "
    "überlauf naïve naive 日本 3.14 a-b the of oxbow_lake oxbow lake braid's"
).split()
QUESTIONS = [
    "river",
    "rivers delta stream",
    "max_bytes",
    "max_bytes max bytes",
    "the of",
    "ueberlauf überlauf NAIVE",
    "oxbow_lake? braid's",
    "日本 3.14 x.y a-b",
    "running running running delta",
    "nothing here",
    "_ __",
]


def add(uri: str, lines: Sequence[str], *, is_last: bool = True, title: str = "") -> Add:
    return Add(
        Version(uri, "1", "lines/1"),
        [Chunk(uri, line, 0, len(line), {"title": title, "uri": uri}) for line in lines],
        [text_digest(line) for line in lines],
        np.array([vector_of(line) for line in lines], np.float32).reshape(-1, 8),
        is_last,
    )


def lines(chance: random.Random, count: int) -> list[str]:
    return [
        " ".join(chance.choices(WORDS, k=chance.randrange(1, 200))) for _ in range(count)
    ]


def by_fts5(folder: Path, question: str, k: int) -> list[tuple[int, float]]:
    with closing(sqlite3.connect(folder / "index.sqlite")) as db:
        return db.execute(
            "SELECT rowid, -rank FROM passage WHERE passage MATCH ? ORDER BY rank LIMIT ?",
            (match_any(question), k),
        ).fetchall()


def scored(hits: Sequence[Hit]) -> dict[int, float]:
    return {hit.key: hit.score for hit in hits}


@pytest.mark.parametrize("least_bytes", [terms.LEAST_BYTES, 0], ids=["kept", "not kept"])
def test_full_text_ranks_as_fts5_does_whatever_comes_and_goes(
    least_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "LEAST_BYTES", least_bytes)
    chance = random.Random(3)

    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            for turn in range(6):
                uris = [f"{chance.randrange(9)}" for _ in range(4)]
                await store.write(
                    [add(uri, lines(chance, 9), title=f"title {turn}") for uri in uris]
                )
                await store.write([Remove(f"{chance.randrange(9)}")])
                for question in QUESTIONS:
                    hits = await store.search_text(question, k=1_000)
                    truly = by_fts5(tmp_path, question, 1_000)
                    assert scored(hits) == pytest.approx(dict(truly), rel=1e-9)
                    scores = [hit.score for hit in hits]
                    assert scores == sorted(scores, reverse=True)
                    [few] = [await store.search_text(question, k=5)]
                    assert [h.key for h in few] == [h.key for h in hits[:5]]

    asyncio.run(main())


def test_a_source_that_is_written_twice_in_one_write_leaves_nothing_of_the_first(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            await store.write([add("a", ["river"] * 3), add("a", ["delta"])])
            assert by_fts5(tmp_path, "river", 9) == []
            assert len(by_fts5(tmp_path, "delta", 9)) == 1
            assert await store.search_text("river", k=9) == []

    asyncio.run(main())


def test_a_word_counts_as_often_as_the_question_says_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            await store.write([add("a", ["river", "delta", "lake", "stream", "braid"])])
            [first, second] = await store.search_text("delta river river", k=9)
            assert (first.text, second.text) == ("river", "delta")
            assert first.score == pytest.approx(2 * second.score)

    asyncio.run(main())


def test_only_what_can_be_found_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            await store.write([add("a", ["river delta", "lake", "braid", "stream"])])
            before = await store.search_text("river", k=9)
            await store.write([add("b", ["river river"] * 5, is_last=False)])
            await store.write([add("c", ["meander"])])
            await store.write([Remove("c")])
            assert await store.search_text("river", k=9) == before
            await store.write([add("b", [], is_last=True)])
            assert len(await store.search_text("river", k=9)) == 6

    asyncio.run(main())


def test_readers_beside_a_writer_find_what_one_that_has_just_opened_finds(
    tmp_path: Path,
) -> None:
    chance = random.Random(5)
    where = {"uri": ["1", "3", "5"]}

    async def ask(store: SqliteStore) -> list[list[tuple[int, str, float]]]:
        question = vector_of("question")
        rankings = [
            await store.search(question, k=7),
            await store.search(question, k=7, where=where),
            await store.search_text("river delta max_bytes", k=7),
            await store.search_text("river delta max_bytes", k=7, where=where),
        ]
        return [[(h.key, h.text, h.score) for h in hits] for hits in rankings]

    async def main() -> None:
        async with (
            await SqliteStore.create(tmp_path, HashEmbedder()) as writer,
            await SqliteStore.open(tmp_path) as reader,
        ):
            for _ in range(30):
                uri = f"{chance.randrange(7)}"
                match chance.randrange(4):
                    case 0:
                        await writer.write([Remove(uri)])
                    case 1:
                        await writer.write([add(uri, lines(chance, 3), is_last=False)])
                    case _:
                        await writer.write([add(uri, lines(chance, chance.randrange(5)))])
                async with await SqliteStore.open(tmp_path) as fresh:
                    truly = await ask(fresh)
                assert await ask(reader) == truly
                assert await ask(writer) == truly

    asyncio.run(main())


def test_when_most_is_gone_what_is_left_is_found_as_before(tmp_path: Path) -> None:
    many = [f"passage {number}" for number in range(BLOCK_ROWS + 500)]

    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            await store.write([add("few", many[:7]), add("many", many), add("z", ["z"])])
            assert len(await store.search_text("passage", k=9_999)) == len(many) + 7
            await store.write([Remove("many")])
            hits = await store.search(vector_of("z"), k=99)
            assert [hit.text for hit in hits[:1]] == ["z"]
            assert len(hits) == 8
            assert len(await store.search_text("passage", k=99)) == 7
            assert len(await store.search(vector_of("z"), k=99, where={"uri": "few"})) == 7

    asyncio.run(main())


def test_many_vectors_are_answered_as_each_alone(tmp_path: Path) -> None:
    questions = np.array([vector_of(f"question {n}") for n in range(40)], np.float32)

    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            await store.write([add(f"{n}", lines(random.Random(n), 50)) for n in range(9)])
            for where in (None, {"uri": "3"}):
                alone = [await store.search(q, k=6, where=where) for q in questions]
                together = await asyncio.gather(
                    *(store.search(q, k=6, where=where) for q in questions)
                )
                many = await store.search_many(questions, k=6, where=where)
                assert list(many) == together == alone
            assert await store.search_many(questions[:0], k=6) == []

    asyncio.run(main())


def test_one_that_is_refused_or_given_up_does_not_disturb_those_beside_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            await store.write([add("a", ["river", "delta", "lake"])])
            vector = vector_of("river")
            asking = [asyncio.ensure_future(store.search(vector, k=2)) for _ in range(40)]
            short = asyncio.ensure_future(store.search(vector[:3], k=2))
            await asyncio.sleep(0)
            for each in asking[::3]:
                each.cancel()
            found = await asyncio.gather(*asking, short, return_exceptions=True)
            assert isinstance(found.pop(), UsageError)
            for answer in found:
                if not isinstance(answer, asyncio.CancelledError):
                    assert not isinstance(answer, BaseException)
                    assert len(answer) == 2

    asyncio.run(main())


def test_equal_passages_come_by_their_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SqliteStore.create(tmp_path, HashEmbedder()) as store:
            await store.write([add("a", ["river", "lake"] * 200)])
            for hits in (
                await store.search(vector_of("river"), k=50),
                await store.search_text("river", k=50),
            ):
                keys = [hit.key for hit in hits]
                assert keys == sorted(keys)
                assert len(keys) == 50
                assert {hit.text for hit in hits} == {"river"}

    asyncio.run(main())


# -- arithmetic


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 2**20))))
def test_numbers_of_variable_length_are_read_as_sqlite_writes_them(
    pairs: list[tuple[int, int]],
) -> None:
    encoded = b"".join(varint(number) for pair in pairs for number in pair)
    assert sums_of_varints(encoded, each=2).tolist() == [a + b for a, b in pairs]


def varint(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))


@given(
    st.lists(st.integers(0, 2 * BLOCK_ROWS), max_size=4),
    st.integers(0, 20),
    st.integers(0, 40),
)
def test_rows_in_blocks_are_as_rows_in_one(
    parts: list[int], queries: int, start: int
) -> None:
    chance = np.random.default_rng(len(parts))
    rows, whole = Rows(3), np.zeros((0, 3), np.float32)
    for part in parts:
        more: Vectors = chance.standard_normal((part, 3), np.float32)
        rows, whole = rows.extended(more), np.concatenate([whole, more])
    asked = chance.standard_normal((queries, 3), np.float32)
    start = min(start, len(whole))
    found = list(rows.products(asked, start=start))
    assert len(found) == queries
    for query, products in zip(asked, found, strict=True):
        np.testing.assert_allclose(products, whole[start:] @ query, atol=1e-4)
    places = chance.permutation(len(whole))[:50]
    np.testing.assert_array_equal(rows.take(places), whole[places])


@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(1, 50))
def test_the_largest_come_first_and_equal_ones_by_key(few: list[int], k: int) -> None:
    scores = np.array(few, np.float32)
    keys = np.arange(len(few), dtype=np.int64)[::-1]
    best = largest(scores, k, keys)
    ranked = sorted(zip(-scores, keys, strict=True))[:k]
    assert list(zip(-scores[best], keys[best], strict=True)) == ranked
    assert set(best) <= set(perhaps_largest(scores, k, margin=1.0).tolist())
