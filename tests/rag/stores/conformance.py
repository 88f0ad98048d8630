"""What every store does: a class of tests, of which each store's tests are a subclass.

A subclass gives ``up``, an async context manager that gives an empty store's address and
keeps what serves it running on the test's event loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from anabranch.errors import StoreMismatch, UsageError
from anabranch.rag import (
    Chunk,
    FullTextRetriever,
    FusionRetriever,
    Pipeline,
    VectorRetriever,
    VectorStore,
    matches,
)
from anabranch.rag.filters import Where
from anabranch.rag.plan import Version, text_digest
from anabranch.rag.stores import Abandon, Add, Passage, Remove, Write
from anabranch.rag.types import Metadata
from tests.rag import filter_trees
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf, vector_of
from tests.rag.stores.places import At, OtherEmbedder

R = TypeVar("R")

ROOT = Path(__file__).parents[3]
KILLED = "tests.rag.stores.killed"
QUERY = vector_of("question")
HOSTILE = [
    "' OR 1=1 --",
    '" OR 1=1 --',
    "'); DROP TABLE passage; --",
    "x' UNION SELECT 1 --",
    "$.lang",
    '$."lang"',
    "a.b[]",
    "a[0]",
    "%s %(x)s {schema}",
    "a) OR (*:*",
    "{!knn f=rag_vector topK=99}[1]",
    "${x}",
    "$eq",
    "#document",
    "*",
    "?1",
    "\\",
    '\\"',
    "",
    " ",
    "\n",
    "ein Fluß ist é\N{GRINNING FACE}",
    "\N{RIGHT-TO-LEFT OVERRIDE}abc",
]


def add(
    uri: str,
    lines: Sequence[str],
    *,
    state: str = "1",
    is_last: bool = True,
    metadata: Metadata | Sequence[Metadata] | None = None,
) -> Add:
    """Some lines of a source, each with its own metadata or all with the same."""
    said = {"title": uri} if metadata is None else metadata
    each = [said] * len(lines) if isinstance(said, Mapping) else said
    held = [line.encode("utf-8", "replace").decode() for line in lines]
    return Add(
        Version(uri, state, "lines/1"),
        [Chunk(uri, one, 0, len(one), m) for one, m in zip(lines, each, strict=True)],
        [text_digest(line) for line in lines],
        np.array([vector_of(line) for line in held], np.float32).reshape(-1, 8),
        is_last,
    )


async def texts(store: VectorStore, where: Where | None = None) -> list[str]:
    return sorted(hit.text for hit in await store.search(QUERY, k=999, where=where))


async def lines(store: VectorStore, where: Where | None = None) -> list[str]:
    return sorted([one.chunk.text async for one in store.passages(where)])


async def by_source(store: VectorStore) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for hit in await store.search(QUERY, k=999):
        found.setdefault(hit.source, []).append(hit.text)
    return {uri: sorted(some) for uri, some in found.items()}


class Conformance:
    """The tests.

    Attributes:
        has_words: The store has full text.
        most_values: A list in a filter may have so many; more are refused.
        stride: Every which step of a killed writer is tried in the default run.
        examples: How many random ones of each property.
    """

    has_words = True
    most_values = 5_000
    stride = 5
    examples = 8

    def up(self, tmp_path: Path) -> AbstractAsyncContextManager[At]:
        raise NotImplementedError

    def run(self, tmp_path: Path, test: Any) -> None:
        async def main() -> None:
            async with self.up(tmp_path) as at, at.writer() as store:
                await test(store)

        asyncio.run(main())

    async def text_of(
        self, store: VectorStore, query: str, where: Where | None = None
    ) -> list[str]:
        """What full text finds, or what vectors do where there is none."""
        if not self.has_words:
            return await texts(store, where)
        return sorted(
            hit.text for hit in await store.search_text(query, k=999, where=where)
        )

    # -- what is found

    def test_a_passage_is_found_as_it_was_written(self, tmp_path: Path) -> None:
        metadata: dict[str, Any] = {
            "title": "Rivers",
            "year": 2020,
            "share": 0.1,
            "whole": 2.0,
            "large": 1e23,
            "long": 2**63 - 1,
            "draft": False,
            "none": None,
            "empty": "",
            "tags": ["a", "b"],
            "mixed": [1, 2.5, "x", None, True],
            "nothing": [],
            'any name: of "mine"': "é\N{GRINNING FACE}\n\t",
            "": "the name is empty",
        }
        chunk = Chunk("a#2", "the river bends", 1_000, 1_015, metadata)
        one = replace(add("a", [chunk.text]), chunks=[chunk])

        async def test(store: VectorStore) -> None:
            await store.write([one])
            hits = list(await store.search(vector_of(chunk.text), k=3))
            assert hits[0].score == pytest.approx(1, abs=1e-5)
            assert hits[0].ranks == {"vector": 1}
            if self.has_words:
                hits += await store.search_text("river?", k=3, name="words")
                assert hits[1].ranks == {"words": 1}
                assert hits[1].score > 0
            for hit in hits:
                assert (hit.source, hit.document_id) == ("a", "a#2")
                assert (hit.text, hit.start, hit.end) == (chunk.text, 1_000, 1_015)
                assert hit.metadata == metadata
                same = {name: hit.metadata[name] for name in metadata}
                assert repr(same) == repr(metadata)  # 2.0 is not 2
            [passage] = [each async for each in store.passages()]
            assert {hit.key for hit in hits} == {passage.key}
            assert passage.source == "a"
            assert passage.chunk == chunk
            assert passage.digest == text_digest(chunk.text)
            np.testing.assert_array_equal(passage.vector, vector_of(chunk.text))
            stored = await store.vectors([passage.digest, b"another digest .."])
            assert set(stored) == {passage.digest}
            np.testing.assert_array_equal(stored[passage.digest], vector_of(chunk.text))

        self.run(tmp_path, test)

    def test_the_nearest_come_first_and_no_more_than_there_are(
        self, tmp_path: Path
    ) -> None:
        some = [f"line {number}" for number in range(30)]
        expected = sorted(some, key=lambda line: -float(vector_of(line) @ QUERY))

        async def test(store: VectorStore) -> None:
            await store.write([add("a", some)])
            for k in (1, 7, 29, 30, 31, 5_000):
                hits = await store.search(QUERY, k=k)
                assert [hit.text for hit in hits] == expected[:k]
                for rank, hit in enumerate(hits, start=1):
                    cosine = float(vector_of(hit.text) @ QUERY)
                    assert hit.score == pytest.approx(cosine, abs=1e-5)
                    assert hit.ranks == {"vector": rank}

        self.run(tmp_path, test)

    def test_the_more_telling_words_a_passage_has_the_better(self, tmp_path: Path) -> None:
        some = ["delta delta oxbow", "delta river", "river bank", "the river delta"]

        async def test(store: VectorStore) -> None:
            await store.write([add("a", some), add("b", ["the"] * 4)])
            if not self.has_words:
                with pytest.raises(UsageError, match="full text"):
                    await store.search_text("delta", k=5)
                return
            hits = await store.search_text("oxbow delta?", k=9)
            assert hits[0].text == "delta delta oxbow"
            assert {hit.text for hit in hits} == {some[0], some[1], some[3]}
            assert [hit.score for hit in hits] == sorted(
                (hit.score for hit in hits), reverse=True
            )
            assert len(await store.search_text("delta", k=2)) == 2
            for nothing in ("", "?!", "elsewhere", "\0", "\ud800"):
                assert await store.search_text(nothing, k=5) == []
            many = " ".join(f"w{number}" for number in range(3_000))
            assert await store.search_text(f"{many}", k=5) == []

        self.run(tmp_path, test)

    def test_an_empty_store_answers(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            assert await texts(store) == []
            assert await self.text_of(store, "river") == []
            assert await lines(store) == []
            assert [each async for each in store.sources()] == []
            assert await store.count() == (0, 0)
            assert await store.versions([]) == {}
            assert await store.versions(["a"]) == {}
            assert await store.vectors([]) == {}
            assert await store.delete("year == 1") == []
            await store.write([])
            await store.sweep()
            await store.write([Remove("a"), Abandon("b")])
            assert await store.count() == (0, 0)

        self.run(tmp_path, test)

    def test_a_source_may_have_no_passages_and_a_passage_no_text(
        self, tmp_path: Path
    ) -> None:
        async def test(store: VectorStore) -> None:
            await store.write([add("none", []), add("empty", [""], metadata={})])
            assert await store.count() == (2, 1)
            [hit] = await store.search(QUERY, k=5)
            assert (hit.source, hit.text, hit.metadata) == ("empty", "", {})
            assert set(await store.versions(["none", "empty"])) == {"none", "empty"}
            assert {each.uri async for each in store.sources()} == {"none", "empty"}
            assert await lines(store) == [""]

        self.run(tmp_path, test)

    def test_a_vector_of_another_length_is_refused(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            await store.write([add("a", ["x"])])
            with pytest.raises(ValueError, match=r"\d"):
                await store.search(np.ones(3, np.float32), k=1)
            assert await texts(store) == ["x"]

        self.run(tmp_path, test)

    def test_what_no_store_can_answer_is_refused_with_a_sentence(
        self, tmp_path: Path
    ) -> None:
        async def test(store: VectorStore) -> None:
            await store.write([add("a", ["x"])])
            for k in (0, 1_000_001, 2**63):
                with pytest.raises(UsageError, match="k must be"):
                    await store.search(QUERY, k=k)
                with pytest.raises(UsageError, match="k must be"):
                    await store.search_text("x", k=k)
            with pytest.raises(UsageError, match="NaN or an infinite number"):
                await store.search(QUERY * np.float32(np.nan), k=1)
            assert len(await store.search(QUERY, k=1_000_000)) == 1

        self.run(tmp_path, test)

    def test_another_model_is_refused_with_a_sentence(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with self.up(tmp_path) as at:
                async with at.writer() as store:
                    await store.write([add("a", ["x"])])
                for open_it in (at.writer, at.reader):
                    with pytest.raises(
                        StoreMismatch, match=r"hash-8.*other-8.*use the same"
                    ):
                        async with open_it(OtherEmbedder()):
                            pass
                async with at.reader() as store:
                    assert await texts(store) == ["x"]

        asyncio.run(main())

    # -- versions

    def test_a_version_is_found_whole_or_not_at_all(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            await store.write([add("a", ["old"])])
            await store.write([add("a", ["new one"], state="2", is_last=False)])
            assert await texts(store) == await self.text_of(store, "old new") == ["old"]
            assert (await store.versions(["a"]))["a"].digest == "1"
            await store.write([add("a", ["new two"], state="2")])
            assert await texts(store) == await self.text_of(store, "old new")
            assert await texts(store) == await lines(store) == ["new one", "new two"]
            assert await store.versions(["a", "b"]) == {"a": Version("a", "2", "lines/1")}
            assert await store.count() == (1, 2)
            assert [each async for each in store.sources()] == [
                Version("a", "2", "lines/1")
            ]

        self.run(tmp_path, test)

    def test_what_is_abandoned_is_never_found_and_swept_up(self, tmp_path: Path) -> None:
        digests = [text_digest(text) for text in ("kept", "half", "begun", "other")]

        async def test(store: VectorStore) -> None:
            await store.write([add("a", ["kept"]), add("b", ["half"], is_last=False)])
            await store.write([Abandon("b"), add("c", ["begun"], is_last=False)])
            assert await texts(store) == await lines(store) == ["kept"]
            assert set(await store.vectors(digests)) == set(digests[:3])
            await store.sweep()
            assert set(await store.vectors(digests)) == {digests[0], digests[2]}
            await store.write([add("c", ["ended"])])
            assert await texts(store) == ["begun", "ended", "kept"]

        self.run(tmp_path, test)

    def test_what_is_removed_is_gone_and_may_come_again(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            await store.write([add("a", ["x"]), add("b", ["y"])])
            await store.write([Remove("a"), add("b", ["z"]), Remove("b"), Remove("c")])
            assert await texts(store) == await lines(store) == []
            assert await store.versions(["a", "b"]) == {}
            await store.write([Remove("a"), add("a", ["again"])])
            assert await texts(store) == ["again"]
            await store.write([Remove("a"), add("a", ["first"], is_last=False)])
            await store.write([add("a", ["second"])])
            assert await texts(store) == ["first", "second"]
            await store.write([add("a", ["one"], state="2"), add("a", ["2"], state="3")])
            assert await texts(store) == ["2"]

        self.run(tmp_path, test)

    def test_whatever_is_written_a_dictionary_would_hold_it(self, tmp_path: Path) -> None:
        uris = st.sampled_from(["a", "b", "c"])
        some = st.lists(st.sampled_from(["river", "delta", "oxbow", ""]), max_size=3)
        adds = st.tuples(st.just("add"), uris, some, st.booleans())
        others = st.tuples(st.sampled_from(["abandon", "remove"]), uris)
        writes = st.lists(st.lists(adds | others, max_size=3) | st.none(), max_size=6)

        async def check(store: VectorStore, history: Any) -> None:
            complete: dict[str, list[str]] = {}
            writing: dict[str, list[str]] = {}
            await store.write([Remove(uri) for uri in "abc"])
            for step in history:
                if step is None:
                    await store.sweep()
                    continue
                made: list[Write] = []
                for what, uri, *rest in step:
                    if what == "add":
                        made.append(add(uri, rest[0], is_last=rest[1]))
                        writing.setdefault(uri, []).extend(rest[0])
                        if rest[1]:
                            complete[uri] = writing.pop(uri)
                        continue
                    writing.pop(uri, None)
                    made.append(Abandon(uri) if what == "abandon" else Remove(uri))
                    if what == "remove":
                        complete.pop(uri, None)
                await store.write(made)
                expected = {uri: sorted(rows) for uri, rows in complete.items() if rows}
                assert await by_source(store) == expected
                counts = (len(complete), sum(map(len, complete.values())))
                assert await store.count() == counts
                assert set(await store.versions(["a", "b", "c"])) == set(complete)
                assert await lines(store) == sorted(chain(*complete.values()))

        self.for_all(tmp_path, writes, check)

    # -- what is stored

    def test_what_some_store_could_not_hold_is_the_same_in_all(
        self, tmp_path: Path
    ) -> None:
        metadata: Metadata = {
            "n\0ul": "a\0b",
            "half": "\ud800",
            "few": ["\0", float("inf"), 1.5],
            "nan": float("nan"),
        }
        held = {
            "n\ufffdul": "a\ufffdb",
            "half": "\ufffd",
            "few": ["\ufffd", None, 1.5],
            "nan": None,
        }

        async def test(store: VectorStore) -> None:
            odd = add("a", ["one\0 two \udfff"], metadata=metadata)
            await store.write([odd, add("b", ["plain"], metadata={})])
            for where in (
                "nan == None and metadata['half'] == '\ufffd'",
                {"n\ufffdul": "a\ufffdb"},
                "None in few and '\ufffd' in few and 1.5 in few",
            ):
                [hit] = await store.search(QUERY, k=9, where=where)
                assert hit.text == "one\ufffd two \ufffd"
                assert hit.metadata == held
            assert await self.text_of(store, "two", {"half": "\ufffd"}) == [hit.text]
            assert set(await store.vectors(odd.digests)) == set(odd.digests)
            for uri in ("a\0", "\ud800"):
                for write in (add(uri, ["x"]), Remove(uri), Abandon(uri)):
                    with pytest.raises(UsageError, match=r"cannot be stored.*another name"):
                        await store.write([add("c", ["y"]), write])
                assert await store.versions([uri]) == {}
            assert await store.count() == (2, 2)

        self.run(tmp_path, test)

    def test_texts_and_metadata_may_be_huge(self, tmp_path: Path) -> None:
        long = "oxbow " + "é" * 200_000
        metadata: Metadata = {
            "long": long,
            "many": [f"item {number}" for number in range(2_000)],
            **{f"field {number}": number for number in range(300)},
        }
        words = " ".join(f"word{number}" for number in range(150_000))
        uri = "u" * 10_000

        async def test(store: VectorStore) -> None:
            await store.write([add(uri, [words], metadata=metadata), add("b", ["x"])])
            for where in (
                {"long": long},
                "'item 1999' in many",
                {"field 299": 299},
                f"long > {'oxbow é' * 100!r} and long < 'p'",
            ):
                [hit] = await store.search(QUERY, k=5, where=where)
                assert (hit.source, hit.text) == (uri, words)
                assert hit.metadata == metadata
            assert await texts(store, {"long": long + "e"}) == []
            assert await self.text_of(store, "word7", {"field 1": 1}) == [words]
            assert set(await store.versions([uri])) == {uri}
            assert await store.delete("'item 5' in many") == [uri]
            assert await store.count() == (1, 1)

        self.run(tmp_path, test)

    # -- filters

    def test_a_filter_means_what_it_means_everywhere(self, tmp_path: Path) -> None:
        rows = st.lists(filter_trees.metadatas, min_size=1, max_size=8)

        async def check(store: VectorStore, drawn: Any) -> None:
            metadata, trees = drawn
            names = [f"river {number}" for number in range(len(metadata))]
            await store.write([add("a", names, metadata=metadata)])
            for tree in trees:
                expected = [
                    name
                    for name, row in zip(names, metadata, strict=True)
                    if matches(tree, row)
                ]
                assert await texts(store, tree) == expected, tree
                assert await self.text_of(store, "river", tree) == expected, tree

        def trees_about(metadata: list[filter_trees.Metadata]) -> st.SearchStrategy[Any]:
            mixed = {name: value for row in metadata for name, value in row.items()}
            some = st.lists(filter_trees.about(mixed), min_size=4, max_size=8)
            return st.tuples(st.just(metadata), some)

        self.for_all(tmp_path, rows.flatmap(trees_about), check)

    def test_filters_narrow_everything_and_delete(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            kinds: list[Metadata] = [
                {"kind": "odd" if number % 2 else "even", "n": number}
                for number in range(40)
            ]
            await store.write(
                [add(str(n), [f"l {n}"], metadata=kind) for n, kind in enumerate(kinds)]
            )
            odd = sorted(f"l {number}" for number in range(1, 40, 2))
            hits = await store.search(QUERY, k=6, where={"kind": "odd"})
            best = sorted(odd, key=lambda line: -float(vector_of(line) @ QUERY))
            assert [hit.text for hit in hits] == best[:6]
            assert await texts(store, "kind != 'even'") == odd
            assert await self.text_of(store, "l", "kind != 'even'") == odd
            assert await lines(store, "kind == 'odd'") == odd
            assert await texts(store, "n in (1, 2.0, '3')") == ["l 1", "l 2"]
            few = range(5_000, 5_000 + self.most_values - 1)
            assert await texts(store, {"n": few}) == []
            assert await texts(store, {"n": [7, *few]}) == ["l 7"]
            if self.most_values < 5_000:
                with pytest.raises(UsageError, match="values for 'n' are more"):
                    await texts(store, {"n": range(25_000)})
            assert sorted(await store.delete("n >= 38")) == ["38", "39"]
            assert await store.delete("n >= 38") == []
            assert await store.count() == (38, 38)
            mixed = [{"page": 1}, {"page": 2}]
            await store.write([add("two", ["p 1", "p 2"], metadata=mixed)])
            assert await store.delete("page == 2") == ["two"]  # whole
            assert await store.versions(["two"]) == {}
            with pytest.raises(UsageError, match="a call"):
                await store.delete("f(x) == 1")
            with pytest.raises(UsageError, match="a call"):
                await lines(store, "f(x) == 1")

        self.run(tmp_path, test)

    def test_nothing_that_is_given_is_ever_syntax(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            plain = add("plain", ["river"], metadata={"lang": "en"})
            writes = [
                add(one, [f"{n} {one}"], metadata={one: one, "topic": one}, state=one)
                for n, one in enumerate(HOSTILE)
            ]
            await store.write([plain, *writes])
            assert await store.versions(HOSTILE) == {
                one: Version(one, one, "lines/1") for one in HOSTILE
            }
            for n, one in enumerate(HOSTILE):
                expected = [f"{n} {one}"]
                assert await texts(store, {one: one, "topic": one}) == expected
                assert await texts(store, {"lang": one}) == []
                assert await lines(store, {"topic": one}) == expected
                if self.has_words:
                    hits = await store.search_text(f"{one} river", k=99)
                    assert "river" in {hit.text for hit in hits}
            assert sorted(await store.delete({"topic": HOSTILE[:3]})) == sorted(HOSTILE[:3])
            await store.write([Remove(one) for one in HOSTILE])
            assert await texts(store) == ["river"]
            assert await store.count() == (1, 1)

        self.run(tmp_path, test)

    # -- many at once

    def test_whoever_searches_finds_one_version_whole_while_another_is_written(
        self, tmp_path: Path
    ) -> None:
        versions = {
            number: sorted(f"v{number} {row}" for row in range(2 + number % 3))
            for number in range(12)
        }

        async def main() -> None:
            async with self.up(tmp_path) as at, at.writer() as store:
                done = asyncio.Event()
                await store.write([add("b", ["beside"]), add("a", versions[0])])

                async def search(reader: VectorStore) -> int:
                    count = 0
                    while not done.is_set():
                        found = await by_source(reader)
                        assert found.pop("b") == ["beside"]
                        assert found.pop("a") in versions.values()
                        assert not found
                        # A store that works in the loop lets the others have a turn.
                        await asyncio.sleep(0)
                        count += 1
                    return count

                async def write() -> None:
                    try:
                        for number, some in versions.items():
                            state = str(number)
                            first = add("a", some[:1], state=state, is_last=False)
                            await store.write([first])
                            await store.write([add("a", some[1:], state=state)])
                        await store.sweep()
                    finally:
                        done.set()

                async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                    readers = [store] * 3
                    if at.kind != "qdrant":  # whose folder one client has at a time
                        readers.append(await stack.enter_async_context(at.reader()))
                    searches = [group.create_task(search(each)) for each in readers]
                    group.create_task(write())
                assert min(task.result() for task in searches) >= 1
                assert await texts(store) == ["beside", *versions[11]]

        asyncio.run(main())

    def test_different_sources_are_written_at_once(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            async def write(uri: str) -> None:
                for number in range(3):
                    state = str(number)
                    await store.write(
                        [add(uri, [f"{uri} {number} 1"], state=state, is_last=False)]
                    )
                    await store.write([add(uri, [f"{uri} {number} 2"], state=state)])

            uris = [f"source {number}" for number in range(8)]
            await asyncio.gather(*map(write, uris))
            assert await by_source(store) == {
                uri: [f"{uri} 2 1", f"{uri} 2 2"] for uri in uris
            }
            assert await store.count() == (8, 16)

        self.run(tmp_path, test)

    def test_a_call_that_is_cancelled_leaves_a_whole_store(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            await store.write([add("a", ["old 1", "old 2"]), add("b", ["b"])])
            new: list[Write] = [add("a", ["new 1", "new 2"], state="2"), Remove("b")]
            for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34):
                task = asyncio.ensure_future(store.write(new))
                searching = asyncio.ensure_future(store.search(QUERY, k=9))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                searching.cancel()
                await asyncio.wait([task, searching])
                found = await by_source(store)
                assert found.pop("a") in (["old 1", "old 2"], ["new 1", "new 2"])
                assert found in ({}, {"b": ["b"]})
            await store.write(new)
            await store.sweep()
            assert await texts(store) == ["new 1", "new 2"]
            assert await store.count() == (1, 2)

        self.run(tmp_path, test)

    def test_what_nobody_changes_is_read_whole_and_once_while_others_write(
        self, tmp_path: Path
    ) -> None:
        kept = {
            f"kept {number}": [f"{number} {row}" for row in range(9)]
            for number in range(40)
        }

        async def test(store: VectorStore) -> None:
            await store.write([add(uri, rows) for uri, rows in kept.items()])
            await store.write([add("a", ["old 1", "old 2"]), add("gone", ["gone"])])
            expected = sorted(row for rows in kept.values() for row in rows)
            read: list[Passage] = []
            async for passage in store.passages():
                if len(read) == 5:
                    await store.write([add("a", ["new"], state="2"), Remove("gone")])
                    await store.write([add("late", ["late"])])
                read.append(passage)
            assert len({passage.key for passage in read}) == len(read)
            found = [passage.chunk.text for passage in read if passage.source in kept]
            assert sorted(found) == expected
            of_a = [each.chunk.text for each in read if each.source == "a"]
            assert set(of_a) <= {"old 1", "old 2"} or of_a == ["new"]
            uris: list[str] = []
            async for version in store.sources():
                if len(uris) == 5:
                    await store.write([add("later", ["late"]), Remove("late")])
                uris.append(version.uri)
            assert len(set(uris)) == len(uris)
            assert {*kept, "a"} <= set(uris)

            async with aclosing(store.passages()) as some:
                async for _ in some:
                    break  # and nothing is left behind

        self.run(tmp_path, test)

    # -- together

    def test_a_pipeline_and_its_retrievers_work_on_it(self, tmp_path: Path) -> None:
        async def test(store: VectorStore) -> None:
            shelf = Shelf(
                {"a": "river delta\noxbow lake", "b": None, "c": "the bank\n" * 3}
            )
            parts = {"splitter": LineSplitter(), "embedder": HashEmbedder(), "store": store}
            run = Pipeline(reader=shelf, **parts).run  # type: ignore[arg-type]
            report = await run(shelf.names())
            assert (report.new, len(report.broken), report.chunks) == (2, 1, 5)
            shelf.texts |= {"c": "the bank\nis steep", "b": "found"}
            report = await run(shelf.names())
            assert (report.new, report.changed, report.unchanged) == (1, 1, 1)
            await store.sweep()
            assert await store.count() == (3, 5)
            retrievers: list[Any] = [VectorRetriever(store, HashEmbedder())]
            if self.has_words:
                retrievers.append(FullTextRetriever(store))
            hits = await FusionRetriever(retrievers).retrieve("oxbow lake", k=1)
            assert [hit.text for hit in hits] == ["oxbow lake"]

        self.run(tmp_path, test)

    @pytest.mark.parametrize(
        "is_all", [False, pytest.param(True, marks=pytest.mark.exhaustive)]
    )
    def test_killed_at_any_step_a_source_is_old_or_new_and_never_between(
        self, tmp_path: Path, is_all: bool
    ) -> None:
        async def main() -> list[Any]:
            async with self.up(tmp_path) as at:
                stride = str(1 if is_all else self.stride)
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", KILLED, at.kind, at.where, stride),
                    stdout=asyncio.subprocess.PIPE,
                    cwd=ROOT,
                )
                out, _ = await process.communicate()
                assert process.returncode == 0
                return [json.loads(line) for line in out.splitlines()]

        told = asyncio.run(main())
        old, new = ["old 1", "old 2"], ["new 1", "new 2", "new 3"]
        met: set[str] = set()
        for step, before, after in told:
            assert before.pop("kept") == after.pop("kept") == old, step
            met.add(before["replaced"][0])
            assert before.pop("replaced") in (old, new), step
            assert before in ({}, {"gone": old}), step
            assert after == {"replaced": new}, step
        assert met == {"old 1", "new 1"}
        assert len(told) >= 2

    # -- help

    def for_all(self, tmp_path: Path, strategy: st.SearchStrategy[Any], check: Any) -> None:
        """The property holds of one store that is used for every example."""
        with asyncio.Runner() as runner:
            stack = AsyncExitStack()

            async def begin() -> VectorStore:
                at = await stack.enter_async_context(self.up(tmp_path))
                return await stack.enter_async_context(at.writer())

            def run(work: Coroutine[Any, Any, R]) -> R:
                return runner.run(work)

            store = run(begin())
            try:

                @settings(
                    max_examples=self.examples,
                    deadline=None,
                    # Shrinking would take longer than a test may.
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                    suppress_health_check=[
                        HealthCheck.too_slow,
                        HealthCheck.data_too_large,
                        HealthCheck.filter_too_much,
                    ],
                )
                @given(strategy)
                def holds(example: Any) -> None:
                    run(check(store, example))

                holds()
            finally:
                run(stack.aclose())
