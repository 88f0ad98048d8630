"""Loaders, splitters, retrievers and stores of LangChain here, and ours there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from anabranch import rag
from anabranch.errors import RetrievalError, SourceError, UsageError
from anabranch.rag import FullTextRetriever, FusionRetriever, Pipeline, SqliteStore, matches
from anabranch.rag.adapters import langchain
from anabranch.rag.filters import Filter
from tests.rag.parts import HashEmbedder, LineSplitter, Shelf


class Loader(BaseLoader):
    def __init__(self, *documents: Document, error: Exception | None = None) -> None:
        self.documents = documents
        self.error = error
        self.threads: set[int] = set()

    def _given(self) -> Iterator[Document]:
        for document in self.documents:
            self.threads.add(threading.get_ident())
            yield document
        if self.error is not None:
            raise self.error


class Lazy(Loader):
    def lazy_load(self) -> Iterator[Document]:
        return self._given()


class Eager(Loader):
    def load(self) -> list[Document]:
        return list(self._given())


class AsyncLazy(Loader):
    async def alazy_load(self) -> AsyncIterator[Document]:
        for document in self._given():
            await asyncio.sleep(0)
            yield document


class AsyncEager(Loader):
    async def aload(self) -> list[Document]:
        await asyncio.sleep(0)
        return list(self._given())


async def texts(sources: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async for name in sources:
        if isinstance(name, SourceError):
            found[name.uri] = name
            continue
        [document] = rag.documents(await sources.read(name))
        found[name] = document.text
    return found


@pytest.mark.parametrize("kind", [Lazy, Eager, AsyncLazy, AsyncEager])
def test_documents_of_a_loader_are_sources_and_only_asynchronous_ones_use_the_loop(kind):
    theirs = kind(
        Document("a", id="given"),
        Document("b", metadata={"source": "b.txt"}),
        Document("c", metadata={"source": "b.txt"}),
        Document(" "),
    )
    found = asyncio.run(texts(langchain.sources(theirs)))
    assert found == {"given": "a", "b.txt": "b", "b.txt#2": "c"}
    assert (threading.get_ident() in theirs.threads) == kind.__name__.startswith("Async")


@pytest.mark.parametrize("kind", [Lazy, AsyncLazy])
def test_what_a_loader_gave_before_it_failed_stands(kind):
    theirs = kind(Document("a", id="a"), error=TimeoutError("no answer"))
    found = asyncio.run(texts(langchain.sources(theirs)))
    [name, failed] = found
    assert (name, found[name]) == ("a", "a")
    assert "TimeoutError: no answer" in str(found[failed])


def test_a_loader_of_one_source_at_a_time_is_a_reader(tmp_path: Path):
    (tmp_path / "a.txt").write_text("text")

    def load(uri: str) -> list[Document]:
        return [Document(Path(uri).read_text(), metadata={"size": 4})]

    async def load_async(uri: str) -> list[Document]:
        return [Document("async")]

    async def main() -> None:
        content = await langchain.reader(load).read(str(tmp_path / "a.txt"))
        assert (content.data, content.metadata) == (b"text", {"size": 4})
        with pytest.raises(SourceError, match="FileNotFoundError"):
            await langchain.reader(load).read(str(tmp_path / "b.txt"))
        assert (await langchain.reader(load_async).read("a")).data == b"async"

    asyncio.run(main())


class CharacterSplitter:
    """As langchain-text-splitters has them: settings behind underscores."""

    def __init__(self, size: int) -> None:
        self._chunk_size = size

    def split_text(self, text: str) -> list[str]:
        starts = range(0, len(text), self._chunk_size)
        return [text[start : start + self._chunk_size].strip() for start in starts]


class HeadingSplitter:
    def split_text(self, text: str) -> list[Document]:
        [heading, body] = text.split("\n")
        return [Document(body, metadata={"heading": heading})]


def test_a_text_splitter_cuts_documents_with_offsets():
    ours = langchain.splitter(CharacterSplitter(4))
    document = rag.Document("d", "aa  aa  aa  b", {"lang": "en"}, start=10)
    assert [(c.text, c.start, c.end) for c in ours.split(document)] == [
        ("aa", 10, 12),
        ("aa", 14, 16),
        ("aa", 18, 20),
        ("b", 22, 23),
    ]
    other = langchain.splitter(CharacterSplitter(5))
    assert ours.fingerprint == langchain.splitter(CharacterSplitter(4)).fingerprint
    assert ours.fingerprint != other.fingerprint


def test_a_splitter_that_gives_documents_adds_their_metadata():
    document = rag.Document("d", "Title\nbody", {"lang": "en"})
    [chunk] = langchain.splitter(HeadingSplitter()).split(document)
    assert (chunk.text, chunk.start) == ("body", 6)
    assert chunk.metadata == {"lang": "en", "heading": "Title"}


class Listed(BaseRetriever):
    found: list[Document]
    error: bool = False
    threads: list[int] = []  # noqa: RUF012  # pydantic copies it

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        self.threads.append(threading.get_ident())
        if self.error:
            raise ConnectionError("gone")
        return self.found


def test_a_retriever_is_asked_in_a_thread_and_its_documents_are_hits():
    theirs = Listed(
        found=[
            Document("one", id="1", metadata={"source": "s", "start_index": 7}),
            Document("two"),
        ]
    )

    async def main() -> None:
        ours = langchain.retriever(theirs)
        one, two = await ours.retrieve("q")
        assert (one.source, one.start, one.end, one.score) == ("s", 7, 10, 1.0)
        assert (two.text, two.score, two.ranks) == ("two", 0.5, {"Listed": 2})
        assert [hit.key for hit in await ours.retrieve("q")] == [one.key, two.key]
        assert one.key != two.key
        with pytest.raises(UsageError, match="takes no filter"):
            await ours.retrieve("q", where="a == 1")

    asyncio.run(main())
    assert threading.get_ident() not in theirs.threads


def test_a_retriever_that_fails_is_one_of_our_errors():
    ours = langchain.retriever(Listed(found=[], error=True), name="theirs")
    with pytest.raises(RetrievalError, match="theirs: gone"):
        asyncio.run(ours.retrieve("q"))


def memory() -> InMemoryVectorStore:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    store.add_documents(
        [
            Document(text, id=text, metadata={"year": year})
            for text, year in {"abc": 2020, "abd": 2021, "xyz": 2022}.items()
        ]
    )
    return store


def said(chosen: Filter) -> Any:
    return lambda document: matches(chosen, document.metadata)


@pytest.mark.parametrize("use_async", [False, True])
def test_a_store_is_a_retriever_that_filters_where_it_is_told_how(use_async: bool):
    async def main() -> None:
        ours = langchain.store_retriever(memory(), said=said, use_async=use_async)
        hits = await ours.retrieve("xyz", k=2, where="year != 2021")
        assert [hit.text for hit in hits] == ["xyz", "abc"]
        assert hits[0].score == pytest.approx(1)
        with pytest.raises(UsageError, match="said="):
            await langchain.store_retriever(memory()).retrieve("a", where="year == 1")

    asyncio.run(main())


def test_a_function_makes_a_retriever_for_k_and_a_filter():
    def make(k: int, chosen: Filter | None) -> BaseRetriever:
        return memory().as_retriever(search_kwargs={"k": k, "filter": said(chosen)})  # type: ignore[arg-type]

    ours = langchain.retriever(make, name="memory")
    [hit] = asyncio.run(ours.retrieve("abc", k=1, where={"year": 2022}))
    assert hit.text == "xyz"


def test_retrievers_of_both_sides_are_fused():
    one = langchain.store_retriever(memory(), name="one")
    two = langchain.store_retriever(memory(), name="two")
    hits: Sequence[rag.Hit] = asyncio.run(FusionRetriever([one, two]).retrieve("abd", k=2))
    assert hits[0].text == "abd"
    assert hits[0].ranks == {"one": 1, "two": 1}


def test_a_retriever_of_ours_is_one_of_theirs_in_a_chain(tmp_path: Path):
    async def main() -> None:
        embedder = HashEmbedder()
        async with await SqliteStore.create(tmp_path / "index", embedder) as store:
            shelf = Shelf({"a": "rivers join\nlakes rest", "b": "rivers part"})
            await Pipeline(
                reader=shelf, splitter=LineSplitter(), embedder=embedder, store=store
            ).run(shelf.names())
            theirs = langchain.to_retriever(FullTextRetriever(store), k=1)
            [found] = await theirs.ainvoke("lakes")
            assert [found] == await asyncio.to_thread(theirs.invoke, "lakes")
            assert found.page_content == "lakes rest"
            known = found.metadata
            assert (known["source"], known["document_id"]) == ("a", "a")
            assert known["start_index"] == 12

            def first(found: list[Document]) -> str:
                return found[0].page_content

            chain = theirs | RunnableLambda(first)
            assert await chain.ainvoke("part") == "rivers part"
            [hit] = await langchain.retriever(theirs, use_async=True).retrieve("lakes")
            assert (hit.source, hit.start, hit.end) == ("a", 12, 22)

    asyncio.run(main())
