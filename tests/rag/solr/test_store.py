"""Passages in Solr: what is found, and what is left whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.errors import SolrError, StoreError, StoreMismatch, UsageError
from anabranch.rag import (
    Chunk,
    FullTextRetriever,
    FusionRetriever,
    Hit,
    Pipeline,
    VectorRetriever,
)
from anabranch.rag.filters import Compare, Filter, as_filter, matches
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.solr import SolrClient, SolrStore
from anabranch.rag.stores import Abandon, Add, Remove, Write
from anabranch.rag.stores.storable import is_storable
from anabranch.rag.types import Metadata
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf, vector_of
from tests.rag.solr.double import Double, Planned
from tests.rag.solr.places import AT_ONCE, PLACES, opened
from tests.rag.solr.test_queries import FILTERS, HOSTILE, METADATA, known, plain


def add(
    uri: str,
    lines: Sequence[str],
    *,
    state: str = "1",
    is_last: bool = True,
    metadata: Metadata | None = None,
) -> Add:
    said = {"title": uri} if metadata is None else metadata
    return Add(
        Version(uri, state, "lines/1"),
        [Chunk(uri, line, 0, len(line), said) for line in lines],
        [text_digest(line) for line in lines],
        np.array([vector_of(line) for line in lines], np.float32).reshape(-1, 8),
        is_last,
    )


def replaced(one: Add) -> Add:
    """Its text with the name behind it."""
    [chunk] = one.chunks
    text = f"{chunk.text} {one.version.uri}"
    return replace(one, chunks=[replace(chunk, text=text, end=len(text))])


def is_taken(tree: Filter) -> bool:
    """Whether any store would take such a filter."""
    with suppress(UsageError):
        return bool(as_filter(tree))
    return False


@asynccontextmanager
async def made(place: str, **options: Any) -> AsyncIterator[SolrStore]:
    async with opened(place) as client:
        store = SolrStore(client, HashEmbedder(), **options)
        await store.prepare()
        yield store


@asynccontextmanager
async def double(**options: Any) -> AsyncIterator[tuple[Double, SolrStore]]:
    solr = Double()
    async with solr.serving() as url, SolrClient(url, retry=AT_ONCE) as client:
        store = SolrStore(client, HashEmbedder(), **options)
        await store.prepare()
        solr.requests.clear()
        yield solr, store


def texts(hits: Sequence[Hit]) -> list[str]:
    return sorted(hit.text for hit in hits)


async def everything(store: SolrStore, where: Any = None) -> list[str]:
    return texts(await store.search(vector_of("river"), k=50, where=where))


@pytest.mark.parametrize("place", PLACES)
class TestAgainstEither:
    def test_a_passage_is_found_as_it_was_written(self, place: str) -> None:
        metadata: dict[str, Any] = {
            "title": "Rivers",
            "lang": "en",
            "year": 2020,
            "share": 0.5,
            "whole": 2.0,
            "draft": False,
            "none": None,
            "empty": "",
            "tags": ["a", "b"],
            "mixed": [1, 2.5, "x", None, True],
            "nothing": [],
            'any name: of "mine"': "x",
        }

        async def main() -> None:
            async with made(place) as store:
                await store.write([add("a", ["the river bends"], metadata=metadata)])
                [near] = await store.search(vector_of("the river bends"), k=3)
                [word] = await store.search_text("river?", k=3)
                for hit in (near, word):
                    assert (hit.source, hit.document_id) == ("a", "a")
                    assert (hit.text, hit.start, hit.end) == ("the river bends", 0, 15)
                    assert hit.metadata == metadata
                    assert repr(hit.metadata) == repr(metadata)  # 2.0 is not 2
                assert near.key == word.key
                assert near.score == pytest.approx(1, abs=1e-5)
                assert (near.ranks, word.ranks) == ({"vector": 1}, {"full text": 1})

        asyncio.run(main())

    def test_the_nearest_vectors_come_first(self, place: str) -> None:
        lines = [f"line {number}" for number in range(20)]
        query = vector_of("question")

        async def main() -> None:
            async with made(place) as store:
                await store.write([add("a", lines)])
                hits = await store.search(query, k=5)
                expected = sorted(lines, key=lambda line: -float(vector_of(line) @ query))
                assert [hit.text for hit in hits] == expected[:5]
                for hit in hits:
                    cosine = float(vector_of(hit.text) @ query)
                    assert hit.score == pytest.approx(cosine, abs=1e-5)

        asyncio.run(main())

    def test_a_filter_does_not_make_hits_fewer(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                for number in range(8):
                    kind = {"kind": "odd" if number % 2 else "even"}
                    await store.write([add(str(number), [f"l {number}"], metadata=kind)])
                hits = await store.search(vector_of("l 1"), k=4, where={"kind": "even"})
                assert texts(hits) == ["l 0", "l 2", "l 4", "l 6"]
                hits = await store.search_text("l", k=9, where="kind != 'even'")
                assert texts(hits) == ["l 1", "l 3", "l 5", "l 7"]

        asyncio.run(main())

    def test_a_version_is_found_whole_or_not_at_all(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                await store.write([add("a", ["old"])])
                await store.write([add("a", ["new one"], state="2", is_last=False)])
                assert await everything(store) == ["old"]
                assert (await store.versions(["a"]))["a"].digest == "1"
                await store.write([add("a", ["new two"], state="2")])
                assert await everything(store) == ["new one", "new two"]
                assert (await store.versions(["a", "b"]))["a"].digest == "2"
                assert await store.count() == (1, 2)

        asyncio.run(main())

    def test_what_is_abandoned_is_never_found_and_swept_up(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                await store.write([add("a", ["kept"]), add("b", ["half"], is_last=False)])
                await store.write([Abandon("b"), add("c", ["begun"], is_last=False)])
                assert await everything(store) == ["kept"]
                digests = [text_digest(text) for text in ("kept", "half", "begun", "other")]
                vectors = await store.vectors(digests)
                assert set(vectors) == set(digests[:3])
                assert np.array_equal(vectors[digests[0]], vector_of("kept"))
                await store.sweep()
                assert set(await store.vectors(digests)) == {digests[0], digests[2]}
                await store.write([add("c", ["ended"])])
                assert await everything(store) == ["begun", "ended", "kept"]

        asyncio.run(main())

    def test_what_is_removed_is_gone_and_may_come_again(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                await store.write([add("a", ["x"]), add("b", ["y"])])
                await store.write([Remove("a"), add("b", ["z"]), Remove("b"), Remove("c")])
                assert await everything(store) == []
                assert await store.versions(["a", "b"]) == {}
                await store.write([Remove("a"), add("a", ["again"])])
                assert await everything(store) == ["again"]
                await store.write([Remove("a"), add("a", ["first"], is_last=False)])
                await store.write([add("a", ["second"])])
                assert await everything(store) == ["first", "second"]

        asyncio.run(main())

    def test_words_are_words_and_never_syntax(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                await store.write([add("a", ["one river", "another"])])
                for hostile in HOSTILE:
                    hits = await store.search_text(f"{hostile} river", k=5)
                    assert texts(hits) == ["one river"], hostile
                    assert await store.search_text(hostile.strip("a"), k=5) == [], hostile
                assert await store.search_text("?!", k=5) == []
                many = " ".join(f"w{number}" for number in range(3000))
                assert await store.search_text(many, k=5) == []

        asyncio.run(main())

    def test_hostile_names_and_texts_are_kept_as_they_are(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                held = list(filter(is_storable, HOSTILE))
                writes = [
                    replaced(add(hostile, [str(number)], metadata={"topic": hostile}))
                    for number, hostile in enumerate(held)
                ]
                await store.write(writes)
                versions = await store.versions(HOSTILE)
                assert sorted(versions) == sorted(held)
                for number, hostile in enumerate(held):
                    where = Compare("topic", "==", hostile)
                    [hit] = await store.search(vector_of("x"), k=50, where=where)
                    assert hit.text == f"{number} {hostile}"
                    assert hit.metadata == {"topic": hostile}
                await store.write([Remove(hostile) for hostile in held])
                assert await store.count() == (0, 0)

        asyncio.run(main())

    @settings(max_examples=15)
    @given(
        trees=st.lists(FILTERS, min_size=1, max_size=5),
        metadata=st.lists(METADATA, min_size=1, max_size=4),
    )
    def test_passages_are_found_for_which_the_filter_holds(
        self, place: str, trees: list[Filter], metadata: list[dict[str, Any]]
    ) -> None:
        async def main() -> None:
            async with made(place) as store:
                writes = [
                    add(str(number), [str(number)], metadata=one)
                    for number, one in enumerate(metadata)
                ]
                await store.write(writes)
                for tree in filter(is_taken, trees):
                    expected = [
                        str(number)
                        for number, one in enumerate(metadata)
                        if matches(plain(tree), known(one))
                    ]
                    assert await everything(store, tree) == expected

        asyncio.run(main())

    def test_an_expression_filters(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                for year in (2019, 2020, 2021):
                    said = {"year": year, "tags": ["t", str(year)]}
                    await store.write([add(str(year), [str(year)], metadata=said)])
                where = "year >= 2020 and not '2021' in tags"
                assert await everything(store, where) == ["2020"]
                assert await everything(store, as_filter(where)) == ["2020"]

        asyncio.run(main())

    def test_a_pipeline_fills_it_and_retrievers_ask_it(self, place: str) -> None:
        async def main() -> None:
            async with made(place) as store:
                shelf = Shelf({"a": "one river\ntwo lakes", "b": None, "c": "three weirs"})
                embedder = HashEmbedder()
                pipeline = Pipeline(
                    reader=shelf, splitter=LineSplitter(), embedder=embedder, store=store
                )
                report = await pipeline.run(shelf.names())
                assert (report.new, len(report.broken)) == (2, 1)
                report = await pipeline.run(shelf.names())
                assert (report.unchanged, report.embedded) == (2, 0)
                shelf.texts["a"] = "one river\nfour seas"
                report = await pipeline.run(shelf.names())
                assert (report.changed, report.embedded) == (1, 1)
                await store.sweep()
                assert await store.count() == (2, 3)
                fusion = FusionRetriever(
                    [VectorRetriever(store, embedder), FullTextRetriever(store)]
                )
                [hit] = await fusion.retrieve("four seas", k=1)
                assert hit.text == "four seas"
                assert dict(hit.ranks) == {"vector": 1, "full text": 1}

        asyncio.run(main())

    def test_another_model_is_refused(self, place: str) -> None:
        class Another(HashEmbedder):
            name, digest = "another", "another/1"

        async def main() -> None:
            async with opened(place) as client:
                await SolrStore(client, HashEmbedder()).prepare()
                await SolrStore(client, HashEmbedder()).prepare()
                with pytest.raises(StoreMismatch, match="the model hash-8"):
                    await SolrStore(client, Another()).prepare()

        asyncio.run(main())


class TestWhateverHappens:
    @pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("crash_at", range(6))
    def test_a_crash_at_any_request_leaves_each_source_whole(
        self, crash_at: int, *, is_after: bool
    ) -> None:
        whole = {
            "a": ({"a1", "a2"}, {"A1", "A2"}),
            "b": ({"b1"}, set[str]()),
            "c": (set[str](), {"c1"}),
        }

        async def main() -> None:
            async with double() as (solr, store):
                await store.write([add("a", ["a1", "a2"]), add("b", ["b1"])])
                changes = [add("a", ["A1"], state="2", is_last=False)]
                more: list[Write] = [
                    add("a", ["A2"], state="2"),
                    Remove("b"),
                    add("c", ["c1"]),
                ]
                count = 0
                original = solr.answer

                async def counted(
                    request: web.Request, path: str, body: str
                ) -> dict[str, Any]:
                    nonlocal count
                    count += 1
                    if count - 1 == crash_at:
                        if is_after:
                            await original(request, path, body)
                        solr.answer = failing  # type: ignore[method-assign]
                        raise ConnectionAbortedError
                    return await original(request, path, body)

                async def failing(
                    request: web.Request, path: str, body: str
                ) -> dict[str, Any]:
                    raise ConnectionAbortedError

                solr.answer = counted  # type: ignore[method-assign]
                with suppress(SolrError):
                    await store.write(changes)
                    await store.write(more)
                solr.answer = original  # type: ignore[method-assign]
                solr.commit("soft")  # Solr commits of its own accord
                found = set(await everything(store))
                for uri, (before, after) in whole.items():
                    own = {text for text in found if text.lower().startswith(uri)}
                    assert own in (before, after)

                again = SolrStore(store._client, HashEmbedder())
                await again.prepare()
                await again.write([add("a", ["A1", "A2"], state="2"), Remove("b")])
                await again.write([add("c", ["c1"])])
                await again.sweep()
                assert await everything(again) == ["A1", "A2", "c1"]
                kinds = [doc["rag_kind"] for doc in solr.pending.values()]
                assert sorted(kinds) == ["facts", *["passage"] * 3, *["source"] * 2]

        asyncio.run(main())

    def test_a_commit_at_any_time_shows_no_half_of_a_source(self) -> None:
        async def main() -> None:
            async with double(commit=None) as (solr, store):
                seen = []
                answer = solr.answer

                async def watched(
                    request: web.Request, path: str, body: str
                ) -> dict[str, Any]:
                    result = await answer(request, path, body)
                    if path == "update":
                        solr.commit("soft")
                        live = {
                            doc["rag_version"]
                            for doc in solr.visible.values()
                            if doc["rag_kind"] == "source"
                        }
                        shown = [
                            doc["rag_text"]
                            for doc in solr.visible.values()
                            if doc["rag_kind"] == "passage" and doc["rag_version"] in live
                        ]
                        seen.append(sorted(shown))
                    return result

                solr.answer = watched  # type: ignore[method-assign]
                await store.write([add("a", ["1", "2"])])
                await store.write([add("a", ["3"], state="2", is_last=False)])
                await store.write([add("a", ["4"], state="2")])
                assert set(map(tuple, seen)) == {(), ("1", "2"), ("3", "4")}

        asyncio.run(main())

    def test_what_was_cancelled_can_be_done_again(self) -> None:
        async def main() -> None:
            async with double() as (solr, store):
                solr.planned = [Planned(hangs=True)]
                writing = asyncio.create_task(store.write([add("a", ["x"])]))
                await solr.hanging.wait()
                writing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await writing
                await store.write([add("a", ["x"])])
                assert await everything(store) == ["x"]

        asyncio.run(main())


class TestCommits:
    def test_a_write_ends_with_a_commit_of_the_kind_that_is_wanted(self) -> None:
        async def main() -> None:
            async with double() as (solr, store):
                solr.commits.clear()
                await store.write([add("a", ["x"]), add("b", ["y"])])
                assert solr.commits == ["soft"]
            async with double(commit="hard") as (solr, store):
                solr.commits.clear()
                await store.write([add("a", ["x"])])
                assert solr.commits == ["hard"]

        asyncio.run(main())

    def test_without_one_solr_shows_it_later_and_knows_the_version_at_once(self) -> None:
        async def main() -> None:
            async with double(commit=None, commit_within=2.0) as (solr, store):
                await store.write([add("a", ["x"])])
                assert await everything(store) == []
                assert "a" in await store.versions(["a"])
                solr.pass_time(2.0)
                assert await everything(store) == ["x"]

        asyncio.run(main())


class TestWhatIsRefused:
    def test_a_collection_with_another_unique_key(self) -> None:
        async def main() -> None:
            solr = Double()
            solr.unique_key = "url"
            async with solr.serving() as url, SolrClient(url) as client:
                with pytest.raises(StoreError, match="uniqueKey 'url'"):
                    await SolrStore(client, HashEmbedder()).prepare()

        asyncio.run(main())

    def test_a_collection_whose_vectors_have_another_length(self) -> None:
        class Longer(HashEmbedder):
            dimensions = 16

        async def main() -> None:
            async with double() as (_, store):
                await store._client.delete_by_query("*:*", commit="hard")
                with pytest.raises(StoreError, match="vectors of 8 numbers instead of 16"):
                    await SolrStore(store._client, Longer()).prepare()

        asyncio.run(main())

    def test_a_number_that_is_too_large(self) -> None:
        async def main() -> None:
            async with double() as (_, store):
                with pytest.raises(UsageError, match="64 bits"):
                    await store.write([add("a", ["x"], metadata={"n": 2**70})])

        asyncio.run(main())
