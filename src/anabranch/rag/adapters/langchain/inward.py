"""Their parts as ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document as TheirDocument
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore

from anabranch.errors import UsageError
from anabranch.rag.adapters.calls import Calls, is_async, overrides
from anabranch.rag.adapters.embedding import AdaptedEmbedder, Model, check_concurrency
from anabranch.rag.adapters.identity import class_name
from anabranch.rag.adapters.identity import digest as digest_of
from anabranch.rag.adapters.reading import Loaded, LoadedReader, LoadedSources, loading
from anabranch.rag.adapters.records import hit, metadata_of, name_of, source_of
from anabranch.rag.adapters.retrieving import AdaptedRetriever, Found
from anabranch.rag.adapters.splitting import AdaptedSplitter, Passage
from anabranch.rag.filters import Filter
from anabranch.rag.types import Document, Hit

Load: TypeAlias = Callable[[str], Sequence[TheirDocument]]
LoadAsync: TypeAlias = Callable[[str], Awaitable[Sequence[TheirDocument]]]
MakeRetriever: TypeAlias = Callable[[int, Filter | None], BaseRetriever]

# How theirs name the model, the most telling first.
_NAMES = ("model", "model_name", "model_id", "deployment")


class TextSplitter(Protocol):
    """What is asked of a splitter of langchain-text-splitters, or of any other."""

    def split_text(self, text: str) -> Iterable[str | TheirDocument]:
        """The passages, in their order."""
        ...


async def embedder(
    theirs: Embeddings,
    *,
    name: str | None = None,
    dimensions: int | None = None,
    digest: str | None = None,
    max_tokens: int = 512,
    batch: int = 64,
    concurrency: int | None = None,
) -> AdaptedEmbedder:
    """LangChain embeddings as an :class:`~anabranch.rag.Embedder`.

    Its asynchronous methods are used where they are more than names for the synchronous
    ones; those run in threads.

    Args:
        theirs: The embeddings.
        name: The model; by default its ``model``, ``model_name`` or class.
        dimensions: Length of a vector. ``None`` asks for one, which may cost a request.
        digest: What it is to an index. By default of the class and all its settings that
            are plain values, but for those that cannot change a vector. Give one where
            what decides the vectors is hidden, such as within a client object.
        max_tokens: What the model reads of one text.
        batch: Texts in one call.
        concurrency: Calls at once. By default 4, but 1 for a model that runs in threads:
            not every one may be used by several.

    Raises:
        EmbeddingError: It was asked for a vector, and failed.
    """
    kind = type(theirs)
    batches = is_async(kind, Embeddings, "aembed_documents")
    asks = is_async(kind, Embeddings, "aembed_query")
    at_once = check_concurrency(concurrency, is_async=batches and asks)
    calls = Calls(at_once)

    async def embed(texts: list[str]) -> Sequence[Sequence[float]]:
        if batches:
            return await calls.awaited(theirs.aembed_documents, texts)
        return await calls.threaded(theirs.embed_documents, texts)

    async def ask(text: str) -> Sequence[float]:
        if asks:
            return await calls.awaited(theirs.aembed_query, text)
        return await calls.threaded(theirs.embed_query, text)

    model = Model(
        theirs=theirs,
        name=name or _model_name(theirs),
        embed=embed,
        ask=ask,
        batch=batch,
        concurrency=at_once,
    )
    return await AdaptedEmbedder.of(
        model, dimensions=dimensions, digest=digest, max_tokens=max_tokens
    )


def _model_name(theirs: Embeddings) -> str:
    said = (getattr(theirs, name, None) for name in _NAMES)
    names = (name for name in said if isinstance(name, str) and name)
    return next(names, type(theirs).__name__)


def splitter(theirs: TextSplitter, *, fingerprint: str | None = None) -> AdaptedSplitter:
    """A LangChain text splitter as a :class:`~anabranch.rag.Splitter`.

    Anything with ``split_text`` will do, whether it gives texts or documents, such as
    splitters by headings do; what these have for metadata goes on top of the document's.

    Args:
        theirs: The splitter.
        fingerprint: Changes whenever the same document would be cut otherwise. By default
            of the class and its plain settings; give one where a function counts tokens,
            since functions are told apart by their names only.
    """

    def cut(document: Document) -> Iterable[Passage]:
        for passage in theirs.split_text(document.text):
            if isinstance(passage, str):
                yield passage, None, {}
            else:
                yield passage.page_content, None, metadata_of(passage.metadata)

    return AdaptedSplitter(cut, fingerprint=fingerprint or f"adapted-{digest_of(theirs)}")


def sources(theirs: BaseLoader) -> LoadedSources:
    """The documents of a LangChain loader, each as a source.

    A document's id names it, unless it is a random UUID; then ``source``, ``url`` or
    ``file_path`` of its metadata do, else a digest of its text. They are loaded lazily, in
    a thread unless the loader is asynchronous.
    """
    calls = Calls(1)

    async def load() -> AsyncGenerator[Loaded]:
        if is_async(type(theirs), BaseLoader, "alazy_load"):
            async for document in theirs.alazy_load():
                for each in _loaded([document]):
                    yield each
        elif _loads_at_once_async(type(theirs)):
            for each in _loaded(await theirs.aload()):
                yield each
        else:
            documents = await calls.threaded(theirs.lazy_load)
            async for some in calls.some(documents):
                for each in _loaded(some):
                    yield each

    return LoadedSources(load, who=class_name(theirs))


def _loads_at_once_async(kind: type[BaseLoader]) -> bool:
    has_lazy = overrides(kind, BaseLoader, "lazy_load")
    return not has_lazy and is_async(kind, BaseLoader, "aload")


def reader(load: Load | LoadAsync, *, concurrency: int = 4) -> LoadedReader:
    """A :class:`~anabranch.rag.Reader` that loads each source by a LangChain loader.

    Args:
        load: Given a source's name, its documents, as by
            ``lambda uri: PyPDFLoader(uri).load()``. It runs in a thread; a coroutine
            function is awaited.
        concurrency: Sources that are loaded at once.
    """
    return loading(load, _loaded, concurrency=concurrency)


def retriever(
    theirs: BaseRetriever | MakeRetriever,
    *,
    name: str | None = None,
    use_async: bool = False,
    concurrency: int = 4,
) -> AdaptedRetriever:
    """A LangChain retriever as a :class:`~anabranch.rag.Retriever`.

    One that is given as it is finds as many documents as it was made to find, of which
    ``k`` are kept, and takes no filters. Give a function instead, and both are heeded; how
    a filter is said differs from store to store of theirs, so the function is given the
    tree of :func:`~anabranch.rag.as_filter`.

    Args:
        theirs: The retriever, or what makes one for ``k`` and a filter.
        name: By default that of its class.
        use_async: Await its asynchronous methods. By default the synchronous ones run in
            threads, since what the others await may block in turn: many stores do.
        concurrency: Questions at once.
    """
    calls = Calls(concurrency)

    def made(k: int, chosen: Filter | None) -> BaseRetriever:
        if not isinstance(theirs, BaseRetriever):
            return theirs(k, chosen)
        if chosen is not None:
            raise UsageError(
                f"a {type(theirs).__name__} takes no filter: give langchain.retriever "
                "a function (k, filter) that makes one, or give no 'where'"
            )
        return theirs

    async def ask(query: str, k: int, chosen: Filter | None) -> Found:
        documents = await (
            calls.awaited(made(k, chosen).ainvoke, query)
            if use_async
            else calls.threaded(lambda: made(k, chosen).invoke(query))
        )
        return [(_hit(document), None) for document in documents if document.page_content]

    known = name or (
        type(theirs).__name__ if isinstance(theirs, BaseRetriever) else "LangChain"
    )
    return AdaptedRetriever(known, ask)


def store_retriever(
    theirs: VectorStore,
    *,
    said: Callable[[Filter], Any] | None = None,
    name: str | None = None,
    use_async: bool = False,
    concurrency: int = 4,
) -> AdaptedRetriever:
    """A LangChain vector store as a :class:`~anabranch.rag.Retriever`.

    The store embeds questions itself. What it answers is held against a filter again.

    Args:
        theirs: The store.
        said: A filter as the store's own ``filter`` argument; without it, searches with
            a filter are refused.
        name: By default that of its class.
        use_async: Await its asynchronous methods. By default the synchronous ones run in
            threads, since what the others await may block in turn: many stores do.
        concurrency: Questions at once.
    """
    calls = Calls(concurrency)
    is_scored = overrides(type(theirs), VectorStore, "similarity_search_with_score")

    async def ask(query: str, k: int, chosen: Filter | None) -> Found:
        options: dict[str, Any] = {"k": k}
        if chosen is not None:
            if said is None:
                raise UsageError(
                    f"nobody told how a filter is said to {type(theirs).__name__}: give "
                    "langchain.store_retriever said=, a function of the filter's tree, or "
                    "give no 'where'"
                )
            options["filter"] = said(chosen)
        if not is_scored:
            documents = await (
                calls.awaited(theirs.asimilarity_search, query, **options)
                if use_async
                else calls.threaded(theirs.similarity_search, query, **options)
            )
            return [(_hit(document), None) for document in documents]
        found = await (
            calls.awaited(theirs.asimilarity_search_with_score, query, **options)
            if use_async
            else calls.threaded(theirs.similarity_search_with_score, query, **options)
        )
        return [(_hit(document), float(score)) for document, score in found]

    return AdaptedRetriever(name or type(theirs).__name__, ask)


def _loaded(documents: Iterable[TheirDocument]) -> list[Loaded]:
    return [
        Loaded(
            name_of(each.id, metadata_of(each.metadata), each.page_content),
            each.page_content,
            metadata_of(each.metadata),
        )
        for each in documents
        if each.page_content.strip()
    ]


def _hit(document: TheirDocument) -> Hit:
    metadata = metadata_of(document.metadata)
    text = document.page_content
    start = metadata.get("start_index")
    known_as = document.id or name_of(None, {}, f"{source_of(metadata)}\n{start}\n{text}")
    return hit(
        known_as=known_as,
        document_id=str(metadata.get("document_id") or source_of(metadata) or known_as),
        text=text,
        start=start if isinstance(start, int) else None,
        end=None,
        metadata=metadata,
    )
