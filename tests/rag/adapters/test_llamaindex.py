"""Readers, parsers, retrievers and stores of LlamaIndex here, and ours there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.extractors import BaseExtractor
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.node_parser.interface import NodeParser, TextSplitter
from llama_index.core.readers.base import BaseReader
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import (
    BaseNode,
    Document,
    NodeRelationship,
    NodeWithScore,
    TextNode,
    TransformComponent,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from anabranch import rag
from anabranch.errors import RetrievalError, SourceError, UsageError
from anabranch.rag import (
    FullTextRetriever,
    FusionRetriever,
    Pipeline,
    SqliteStore,
    VectorRetriever,
)
from anabranch.rag.adapters import llamaindex
from tests.rag.adapters.llama_parts import Listed, ShelfStore, scored, vector_of
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf


async def names_and_texts(sources: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    async for name in sources:
        assert isinstance(name, str), name
        [document] = rag.documents(await sources.read(name))
        found[name] = document.text
    return found


# -- splitters


class Words(TextSplitter):
    """A passage a word, without a tokenizer, which theirs may download."""

    upper: bool = False

    def split_text(self, text: str) -> list[str]:
        return text.upper().split() if self.upper else text.split()


def split(theirs: NodeParser, text: str, **options: Any) -> list[rag.Chunk]:
    document = rag.Document("d", text, {"year": 2020}, **options)
    return list(llamaindex.splitter(theirs).split(document))


def test_a_node_parser_cuts_documents_and_offsets_are_those_of_the_source():
    chunks = split(Words(), "one two one two", start=100)
    assert [(c.text, c.start, c.end) for c in chunks] == [
        ("one", 100, 103),
        ("two", 104, 107),
        ("one", 108, 111),
        ("two", 112, 115),
    ]
    assert all(c.metadata == {"year": 2020} and c.document_id == "d" for c in chunks)


def test_passages_that_were_written_anew_are_from_somewhere_in_the_document():
    assert [(c.text, c.start, c.end) for c in split(Words(upper=True), "a b")] == [
        ("A", 0, 3),
        ("B", 0, 3),
    ]


def test_their_sentence_splitter_overlaps_and_has_all_its_room():
    theirs = SentenceSplitter(chunk_size=12, chunk_overlap=4, tokenizer=words)
    text = "One two three four. Five six seven eight. Nine ten eleven twelve. End."
    chunks = split(theirs, text)
    assert [text[c.start : c.end] for c in chunks] == [c.text for c in chunks]
    assert chunks[1].start < chunks[0].end
    # With the metadata that is not embedded here, no chunk would hold so much.
    assert (
        chunks[0].text
        == "One two three four. Five six seven eight. Nine ten eleven twelve."
    )


def test_metadata_of_nodes_goes_on_top_and_blank_nodes_are_left_out():
    class Marked(NodeParser):
        def _parse_nodes(
            self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any
        ) -> list[BaseNode]:
            made = {"path": Path("a"), "day": date(2020, 1, 2), "more": {"b": 1}}
            return [TextNode(text="x", metadata=made), TextNode(text=" \n")]

    [chunk] = split(Marked(), "x")
    assert chunk.metadata == {
        "year": 2020,
        "path": "a",
        "day": "2020-01-02",
        "more": '{"b": 1}',
    }


def words(text: str) -> list[str]:
    return text.split()


def letters(text: str) -> list[str]:
    return list(text)


def test_the_fingerprint_of_a_splitter_tells_its_settings():
    def of(**settings: Any) -> str:
        theirs = SentenceSplitter(**{"tokenizer": words, "chunk_overlap": 0, **settings})
        return llamaindex.splitter(theirs).fingerprint

    assert of(chunk_size=100) == of(chunk_size=100, include_prev_next_rel=True)
    assert of(chunk_size=100) != of(chunk_size=101)
    assert of(tokenizer=words) != of(tokenizer=letters)
    assert of() != llamaindex.splitter(Words()).fingerprint
    assert llamaindex.splitter(Words(), fingerprint="mine").fingerprint == "mine"


# -- transformations


class Shouting(TransformComponent):
    """Synchronous, with an asynchronous name that is inherited."""

    mark: str = "!"

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        assert threading.current_thread() is not threading.main_thread()
        [node] = nodes
        made = {**node.metadata, "loud": True}
        text = node.get_content().upper() + self.mark
        return [] if text.startswith("DROP") else [TextNode(text=text, metadata=made)]


class Counting(BaseExtractor):
    async def aextract(self, nodes: Sequence[BaseNode]) -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        assert threading.current_thread() is threading.main_thread()
        return [{"letters": len(node.get_content())} for node in nodes]


def test_transformations_are_stages_of_a_pipeline(tmp_path: Path):
    async def run(mark: str) -> rag.Report:
        embedder = HashEmbedder()
        shelf = Shelf({"a": "one\ndrop me\nthree"})
        async with await SqliteStore.create(tmp_path / "index", embedder) as store:
            report = await Pipeline(
                reader=shelf,
                splitter=LineSplitter(),
                embedder=embedder,
                store=store,
                chunks=[
                    llamaindex.stage(Shouting(mark=mark)),
                    llamaindex.stage(Counting(show_progress=False), concurrency=4),
                ],
            ).run(shelf.names())
            found = [passage.chunk async for passage in store.passages()]
        assert not report.broken, report.broken
        assert [(c.text, c.start, c.end) for c in found] == [
            (f"ONE{mark}", 0, 3),
            (f"THREE{mark}", 12, 17),
        ]
        assert found[0].metadata == {"loud": True, "letters": 4}
        return report

    assert asyncio.run(run("!")).new == 1
    assert asyncio.run(run("!")).unchanged == 1
    assert asyncio.run(run("?")).changed == 1


def test_what_has_a_place_of_its_own_is_no_stage():
    with pytest.raises(UsageError, match=r"adapt it with llamaindex\.splitter"):
        llamaindex.stage(Words())


# -- readers


class Loader(BaseReader):
    def __init__(self, *documents: Document, error: Exception | None = None) -> None:
        self.documents = documents
        self.error = error
        self.loaded = 0
        self.threads: set[int] = set()


class Eager(Loader):
    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        return list(self.documents)


class Lazy(Loader):
    def lazy_load_data(self, *args: Any, **kwargs: Any) -> Iterable[Document]:
        for document in self.documents:
            self.threads.add(threading.get_ident())
            self.loaded += 1
            yield document
        if self.error is not None:
            raise self.error


class Async(Loader):
    async def aload_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        await asyncio.sleep(0)
        self.threads.add(threading.get_ident())
        return list(self.documents)


@pytest.mark.parametrize("kind", [Eager, Lazy, Async])
def test_documents_of_a_reader_are_sources_with_lasting_names(kind):
    theirs = kind(
        Document(id_="given", text="a"),
        Document(text="b", metadata={"file_path": "b.txt"}),  # its id is drawn anew
        Document(text="c", metadata={"file_path": "b.txt"}),
        Document(text="\n"),
        Document(text="d"),
    )
    found = asyncio.run(names_and_texts(llamaindex.sources(theirs)))
    anonymous = [name for name in found if name.startswith("text:")]
    assert found == {"given": "a", "b.txt": "b", "b.txt#2": "c", anonymous[0]: "d"}
    assert (threading.get_ident() in theirs.threads) == (kind is Async)


def test_a_lazy_reader_is_no_further_than_it_must():
    theirs = Lazy(*(Document(text=str(n)) for n in range(1000)))

    async def main() -> None:
        sources = llamaindex.sources(theirs)
        async for name in sources:
            await sources.read(str(name))
            break
        with pytest.raises(SourceError, match="read already"):
            await sources.read(str(name))

    asyncio.run(main())
    assert theirs.loaded < 50


def test_a_reader_that_fails_is_a_broken_source_and_what_came_before_is_indexed(
    tmp_path: Path,
):
    theirs = Lazy(
        Document(id_="a", text="one\ntwo", metadata={"n": 1}), error=OSError("unplugged")
    )

    async def main() -> None:
        embedder = HashEmbedder()
        async with await SqliteStore.create(tmp_path / "index", embedder) as store:
            sources = llamaindex.sources(theirs)
            report = await Pipeline(
                reader=sources, splitter=LineSplitter(), embedder=embedder, store=store
            ).run(sources)
            [hit] = await store.search_text("one", k=5)
        assert (report.new, report.chunks) == (1, 2)
        [broken] = report.broken
        assert "Lazy: cannot be loaded (OSError: unplugged)" in str(broken)
        assert (hit.source, hit.text, hit.metadata) == ("a", "one", {"n": 1})

    asyncio.run(main())


def test_what_is_loaded_again_is_unchanged_unless_text_or_metadata_changed(tmp_path: Path):
    async def main() -> None:
        embedder = HashEmbedder()

        async def run(**metadata: int) -> rag.Report:
            theirs = Eager(Document(id_="a", text="one", metadata=metadata))
            sources = llamaindex.sources(theirs)
            async with await SqliteStore.create(tmp_path / "index", embedder) as store:
                return await Pipeline(
                    reader=sources, splitter=LineSplitter(), embedder=embedder, store=store
                ).run(sources)

        assert (await run(n=1)).new == 1
        assert (await run(n=1)).unchanged == 1
        changed = await run(n=2)
        assert (changed.changed, changed.embedded) == (1, 0)

    asyncio.run(main())


def test_a_reader_of_one_source_at_a_time_is_a_reader():
    def load(uri: str) -> list[Document]:
        assert threading.current_thread() is not threading.main_thread()
        pages = [{"page": n, "file": uri} for n in (1, 2)]
        return [Document(text=f"page {p['page']}", metadata=p) for p in pages]

    async def load_async(uri: str) -> list[Document]:
        raise ValueError("no such table")

    async def main() -> None:
        content = await llamaindex.reader(load).read("book")
        [document] = rag.documents(content)
        assert document.text == "page 1\n\npage 2"
        assert document.metadata == {"file": "book"}
        with pytest.raises(SourceError, match=r"^book: cannot be loaded \(ValueError: no "):
            await llamaindex.reader(load_async).read("book")

    asyncio.run(main())


def test_their_directory_reader_feeds_a_pipeline(tmp_path: Path):
    (tmp_path / "a.txt").write_text("about rivers")
    (tmp_path / "b.txt").write_text("about lakes")
    theirs = SimpleDirectoryReader(str(tmp_path), filename_as_id=True)
    found = asyncio.run(names_and_texts(llamaindex.sources(theirs)))
    assert {Path(name).name: text for name, text in found.items()} == {
        "a.txt": "about rivers",
        "b.txt": "about lakes",
    }


# -- retrievers


def test_a_retriever_is_asked_in_a_thread_and_its_nodes_are_hits():
    node = TextNode(
        id_="n",
        text="passage",
        start_char_idx=5,
        end_char_idx=12,
        metadata={"source": "s", "tags": ("x", "y")},
        relationships={
            NodeRelationship.SOURCE: Document(id_="doc").as_related_node_info(),
            NodeRelationship.NEXT: TextNode().as_related_node_info(),
        },
    )
    theirs = Listed([NodeWithScore(node=node, score=0.5), scored("b", 0.25)])

    async def main() -> None:
        ours = llamaindex.retriever(theirs)
        assert ours.name == "Listed"
        first, second = await ours.retrieve("q", k=5)
        assert (first.source, first.document_id, first.text) == ("s", "doc", "passage")
        assert (first.start, first.end, first.score) == (5, 12, 0.5)
        assert first.metadata == {"source": "s", "tags": ["x", "y"]}
        assert (first.ranks, second.ranks) == ({"Listed": 1}, {"Listed": 2})
        assert (second.start, second.end) == (0, 1)
        assert await ours.retrieve("q", k=1) == [first]

    asyncio.run(main())
    assert threading.get_ident() not in theirs.threads


@pytest.mark.parametrize("given", [(0.1, 0.9), (None, 0.5), (float("nan"), 0.5)])
def test_scores_that_do_not_fall_are_no_scores(given: tuple[float, float]):
    theirs = Listed([scored(str(place), score) for place, score in enumerate(given)])
    hits = asyncio.run(llamaindex.retriever(theirs).retrieve("q"))
    assert [(hit.text, hit.score) for hit in hits] == [("0", 1.0), ("1", 0.5)]


def test_a_function_makes_a_retriever_for_k_and_filters():
    asked: list[tuple[int, MetadataFilters | None]] = []

    def make(k: int, filters: MetadataFilters | None) -> BaseRetriever:
        asked.append((k, filters))
        # Not every store knows every operator: what it should not have found is left out.
        return Listed([scored("new", 0.9, year=2021), scored("old", 0.8, year=1999)])

    ours = llamaindex.retriever(make, name="theirs")
    [hit] = asyncio.run(ours.retrieve("q", k=7, where="year >= 2020"))
    assert (hit.text, hit.ranks) == ("new", {"theirs": 1})
    wanted = MetadataFilter(key="year", value=2020, operator=">=")  # type: ignore[arg-type]
    assert asked == [(7, MetadataFilters(filters=[wanted]))]


def test_a_retriever_that_cannot_filter_says_so_and_is_left_out_of_a_fusion():
    plain = llamaindex.retriever(Listed([scored("a", 1.0)]), name="plain")
    made = llamaindex.retriever(lambda k, f: Listed([scored("b", 1.0, y=1)]), name="made")

    async def main() -> None:
        with pytest.raises(UsageError, match=r"a Listed takes no filter: give llamaindex"):
            await plain.retrieve("q", where="y == 1")
        fused = await FusionRetriever([plain, made]).fuse("q", where="y == 1")
        assert [hit.text for hit in fused.hits] == ["b"]
        assert list(fused.failures) == ["plain"]

    asyncio.run(main())


def test_a_retriever_that_fails_is_one_of_our_errors():
    theirs = Listed([], error=KeyError("index"))
    with pytest.raises(RetrievalError, match="Listed: 'index'") as caught:
        asyncio.run(llamaindex.retriever(theirs).retrieve("q"))
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_asynchronous_retriever_is_awaited_where_that_is_asked_for():
    class Native(BaseRetriever):
        def _retrieve(self, query_bundle):
            raise NotImplementedError

        async def _aretrieve(self, query_bundle):
            return [scored(query_bundle.query_str, 1.0)]

    [hit] = asyncio.run(llamaindex.retriever(Native(), use_async=True).retrieve("q"))
    assert hit.text == "q"


def test_the_same_node_of_two_retrievers_is_fused_into_one_hit():
    both = scored("both", 0.5)
    one = llamaindex.retriever(Listed([scored("x", 0.9), both]), name="one")
    two = llamaindex.retriever(Listed([both]), name="two")
    hits = asyncio.run(FusionRetriever([one, two]).retrieve("q"))
    assert hits[0].text == "both"
    assert hits[0].ranks == {"one": 2, "two": 1}


def test_a_fusion_retriever_of_theirs_over_one_of_theirs_works_here():
    theirs = QueryFusionRetriever(
        [Listed([scored("a", 0.5)])], num_queries=1, use_async=False, llm=MockLLM()
    )
    [hit] = asyncio.run(llamaindex.retriever(theirs).retrieve("q"))
    assert hit.text == "a"


# -- stores


def shelf(**texts: int) -> ShelfStore:
    store = ShelfStore()
    store.add(
        [
            TextNode(id_=text, text=text, metadata={"year": y}, embedding=vector_of(text))
            for text, y in texts.items()
        ]
    )
    store.threads.clear()
    return store


class Letters(HashEmbedder):
    async def embed_query(self, text: str):
        import numpy as np

        return np.array(vector_of(text), np.float32)


def test_a_store_is_asked_with_the_filter_in_its_words():
    store = shelf(abc=2020, abd=2021, xyz=2022)

    async def main() -> None:
        ours = llamaindex.store_retriever(store, Letters())
        hits = await ours.retrieve("abc", k=2, where={"year": [2020, 2022]})
        assert [hit.text for hit in hits] == ["abc", "xyz"]
        assert hits[0].score == pytest.approx(1)
        with pytest.raises(UsageError, match="cannot hold"):
            await ours.retrieve("abc", where="year == None")

    asyncio.run(main())
    [asked] = store.asked
    assert asked.query_str == "abc"
    assert threading.get_ident() not in store.threads


def test_a_store_without_texts_is_refused():
    with pytest.raises(UsageError, match="SimpleVectorStore keeps no text"):
        llamaindex.store_retriever(SimpleVectorStore(), HashEmbedder())


async def filled(folder: Path) -> SqliteStore:
    embedder = HashEmbedder()
    store = await SqliteStore.create(folder, embedder)
    shelf = Shelf({"a": "rivers join\nlakes rest", "b": "rivers part"})
    await Pipeline(
        reader=shelf, splitter=LineSplitter(), embedder=embedder, store=store
    ).run(shelf.names())
    return store


def test_a_retriever_of_ours_is_one_of_theirs(tmp_path: Path):
    async def main() -> None:
        async with await filled(tmp_path / "index") as store:
            ours = FullTextRetriever(store)
            theirs = llamaindex.to_retriever(ours, k=2)
            found = await theirs.aretrieve("lakes")
            assert found == await asyncio.to_thread(theirs.retrieve, "lakes")
            [scored_node] = found
            [hit] = await ours.retrieve("lakes")
            node = scored_node.node
            assert isinstance(node, TextNode)
            assert (node.text, node.node_id) == ("lakes rest", str(hit.key))
            assert (node.ref_doc_id, node.metadata) == ("a", {"source": "a"})
            assert (node.start_char_idx, node.end_char_idx) == (12, 22)
            assert scored_node.score == hit.score
            [back] = await llamaindex.retriever(theirs).retrieve("lakes")
            assert (back.source, back.start, back.end) == ("a", 12, 22)
            both = FusionRetriever([ours, llamaindex.retriever(theirs)])
            [fused] = await both.retrieve("lakes")
            assert len(fused.ranks) == 2, "there and back again it is the same passage"
            filtered = llamaindex.to_retriever(ours, where="lang == 'de'")
            assert await filtered.aretrieve("lakes") == []

    asyncio.run(main())


def test_an_index_of_theirs_is_made_of_a_store_of_ours(tmp_path: Path):
    async def main() -> None:
        async with await filled(tmp_path / "index") as store:
            theirs = VectorStoreIndex.from_vector_store(
                llamaindex.to_vector_store(store),
                embed_model=llamaindex.to_embedding(HashEmbedder()),
            ).as_retriever(similarity_top_k=2)
            [best, _] = await theirs.aretrieve("rivers part")
            assert best.get_content() == "rivers part"
            assert best.score == pytest.approx(1)
            again = await asyncio.to_thread(theirs.retrieve, "rivers part")
            assert again[0].node_id == best.node_id

    asyncio.run(main())


def test_a_store_of_ours_answers_by_words_with_filters_and_refuses_the_rest(
    tmp_path: Path,
):
    async def main() -> None:
        async with await filled(tmp_path / "index") as store:
            theirs = llamaindex.to_vector_store(store)
            words = VectorStoreQuery(
                query_str="rivers",
                similarity_top_k=5,
                mode=VectorStoreQueryMode.TEXT_SEARCH,
                filters=MetadataFilters(
                    filters=[MetadataFilter(key="x", value=1, operator="!=")]  # type: ignore[arg-type]
                ),
            )
            found = await theirs.aquery(words)
            assert {node.ref_doc_id for node in found.nodes or []} == {"a", "b"}
            for query, sentence in (
                (VectorStoreQuery(mode=VectorStoreQueryMode.MMR), "mode mmr"),
                (VectorStoreQuery(doc_ids=["a"]), "doc_ids"),
                (VectorStoreQuery(), "no vector"),
            ):
                with pytest.raises(UsageError, match=sentence):
                    await theirs.aquery(query)
            with pytest.raises(UsageError, match="with a Pipeline"):
                theirs.add([TextNode(text="a")])
            with pytest.raises(UsageError, match="with a Pipeline"):
                theirs.delete("a")

    asyncio.run(main())


def test_a_vector_of_ours_finds_through_both(tmp_path: Path):
    async def main() -> None:
        async with await filled(tmp_path / "index") as store:
            ours = VectorRetriever(store, HashEmbedder())
            theirs = llamaindex.to_retriever(ours, k=1)
            [hit] = await llamaindex.retriever(theirs, use_async=True).retrieve(
                "lakes rest"
            )
            assert hit.text == "lakes rest"

    asyncio.run(main())
