"""Their parts as ours."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import replace
from typing import Any, TypeAlias, Unpack, cast

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.node_parser import NodeParser
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.schema import Document as TheirDocument
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from anabranch.errors import UsageError
from anabranch.jobs import JobOptions
from anabranch.rag.adapters.calls import Calls, is_async, overrides
from anabranch.rag.adapters.embedding import AdaptedEmbedder, Model, check_concurrency
from anabranch.rag.adapters.identity import class_name
from anabranch.rag.adapters.identity import digest as digest_of
from anabranch.rag.adapters.llamaindex.filters import to_filters
from anabranch.rag.adapters.llamaindex.records import (
    chunk_node,
    document_of,
    hit_of,
    loaded,
    text_of,
)
from anabranch.rag.adapters.reading import Loaded, LoadedReader, LoadedSources, loading
from anabranch.rag.adapters.records import metadata_of
from anabranch.rag.adapters.retrieving import AdaptedRetriever, Found
from anabranch.rag.adapters.splitting import AdaptedSplitter, Passage
from anabranch.rag.filters import Filter
from anabranch.rag.stages import Stage
from anabranch.rag.types import Chunk, Document, Embedder

Load: TypeAlias = Callable[[str], Sequence[TheirDocument]]
LoadAsync: TypeAlias = Callable[[str], Awaitable[Sequence[TheirDocument]]]
MakeRetriever: TypeAlias = Callable[[int, MetadataFilters | None], BaseRetriever]


async def embedder(
    theirs: BaseEmbedding,
    *,
    dimensions: int | None = None,
    digest: str | None = None,
    max_tokens: int = 512,
    concurrency: int | None = None,
) -> AdaptedEmbedder:
    """A LlamaIndex embedding as an :class:`~anabranch.rag.Embedder`.

    Texts go out ``embed_batch_size`` at a time, through the public methods, so that its
    cache and rate limiter are heeded. Its asynchronous methods are used where they are
    more than names for the synchronous ones; those run in threads. Only the text of a
    chunk is embedded, without metadata.

    Args:
        theirs: The embedding.
        dimensions: Length of a vector. ``None`` asks for one, which may cost a request.
        digest: What it is to an index. By default of the class and all its settings that
            are plain values, but for those that cannot change a vector. Give one where
            what decides the vectors is hidden, such as within a client object.
        max_tokens: What the model reads of one text.
        concurrency: Batches, and questions, at once. By default 4, but 1 for a model that
            runs in threads: not every one may be used by several.

    Raises:
        EmbeddingError: It was asked for a vector, and failed.
    """
    batches = _batches_async(type(theirs))
    asks = is_async(type(theirs), BaseEmbedding, "_aget_query_embedding")
    at_once = check_concurrency(concurrency, is_async=batches and asks)
    calls = Calls(at_once)

    async def embed(texts: list[str]) -> Sequence[Sequence[float]]:
        if batches:
            return await calls.awaited(theirs.aget_text_embedding_batch, texts)
        return await calls.threaded(theirs.get_text_embedding_batch, texts)

    async def ask(text: str) -> Sequence[float]:
        if asks:
            return await calls.awaited(theirs.aget_query_embedding, text)
        return await calls.threaded(theirs.get_query_embedding, text)

    model = Model(
        theirs=theirs,
        name=theirs.model_name,
        embed=embed,
        ask=ask,
        batch=theirs.embed_batch_size,
        concurrency=at_once,
    )
    return await AdaptedEmbedder.of(
        model, dimensions=dimensions, digest=digest, max_tokens=max_tokens
    )


def _batches_async(kind: type[BaseEmbedding]) -> bool:
    """Whether the asynchronous way sends a batch as one request, if the other one does."""
    if overrides(kind, BaseEmbedding, "_aget_text_embeddings"):
        return is_async(kind, BaseEmbedding, "_aget_text_embeddings")
    if overrides(kind, BaseEmbedding, "_get_text_embeddings"):
        return False
    return is_async(kind, BaseEmbedding, "_aget_text_embedding")


def splitter(theirs: NodeParser, *, fingerprint: str | None = None) -> AdaptedSplitter:
    """A LlamaIndex node parser as a :class:`~anabranch.rag.Splitter`.

    A pipeline splits in a thread of its own, so it may block. All of its nodes that have
    text become chunks, with the node's metadata on top of the document's; relationships
    are dropped.

    Args:
        theirs: The node parser.
        fingerprint: Changes whenever the same document would be cut otherwise. By default
            of the class and its plain settings.
    """

    def cut(document: Document) -> Iterable[Passage]:
        for node in theirs.get_nodes_from_documents([document_of(document)]):
            start = cast("int | None", getattr(node, "start_char_idx", None))
            yield text_of(node), start, metadata_of(node.metadata)

    return AdaptedSplitter(cut, fingerprint=fingerprint or f"adapted-{digest_of(theirs)}")


def stage(
    theirs: TransformComponent,
    *,
    name: str | None = None,
    version: str | None = None,
    cached: bool = False,
    **options: Unpack[JobOptions],
) -> Stage[Chunk]:
    """A LlamaIndex transformation, such as a metadata extractor, as a stage on chunks.

    Each chunk is given to it as one node, so what looks at neighbours finds none. Its
    asynchronous call is awaited if it is more than a name for the synchronous one, which
    runs in a thread. What it makes of a chunk keeps the chunk's place in the document.

    Args:
        theirs: The transformation.
        name: Unique in the pipeline; by default that of its class.
        version: Changes whenever it would give something else. By default of the class and
            its plain settings.
        cached: As for :class:`~anabranch.rag.Stage`.
        **options: As for :class:`~anabranch.rag.Stage`.

    Raises:
        UsageError: It is a node parser or an embedding, which have a place of their own.
    """
    for kind, place in ((NodeParser, "splitter"), (BaseEmbedding, "embedder")):
        if isinstance(theirs, kind):
            raise UsageError(
                f"a {type(theirs).__name__} is no stage: adapt it with llamaindex.{place}, "
                f"and give it to the pipeline as its {place}"
            )

    def made(chunk: Chunk, nodes: Sequence[BaseNode]) -> Sequence[Chunk]:
        return [
            replace(chunk, text=text, metadata=metadata_of(node.metadata))
            for node in nodes
            if (text := text_of(node)).strip()
        ]

    async def awaited(chunk: Chunk) -> Sequence[Chunk]:
        return made(chunk, await theirs.acall([chunk_node(chunk)]))

    def called(chunk: Chunk) -> Sequence[Chunk]:
        return made(chunk, theirs([chunk_node(chunk)]))

    return Stage(
        name or type(theirs).__name__,
        awaited if is_async(type(theirs), TransformComponent, "acall") else called,
        version=version or f"adapted-{digest_of(theirs)}",
        cached=cached,
        **options,
    )


def sources(theirs: BaseReader, *args: Any, **kwargs: Any) -> LoadedSources:
    """The documents of a LlamaIndex reader, each as a source.

    A document's id names it, unless it is a random UUID; then ``source``, ``url`` or
    ``file_path`` of its metadata do, else a digest of its text. They are loaded lazily
    where the reader can, in a thread unless it is asynchronous.

    Args:
        theirs: The reader.
        *args: For its ``load_data``.
        **kwargs: For its ``load_data``.
    """
    kind = type(theirs)
    calls = Calls(1)

    async def load() -> AsyncGenerator[Loaded]:
        if overrides(kind, BaseReader, "lazy_load_data"):
            found = await calls.threaded(theirs.lazy_load_data, *args, **kwargs)
            async for some in calls.some(iter(found)):
                for document in loaded(some):
                    yield document
            return
        for document in loaded(await _load_data(theirs, calls, args, kwargs)):
            yield document

    return LoadedSources(load, who=class_name(theirs))


async def _load_data(
    theirs: BaseReader, calls: Calls, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[TheirDocument]:
    if is_async(type(theirs), BaseReader, "aload_data"):
        return await calls.awaited(theirs.aload_data, *args, **kwargs)
    return await calls.threaded(theirs.load_data, *args, **kwargs)


def reader(
    load: Load | LoadAsync,
    *,
    concurrency: int = 4,
) -> LoadedReader:
    """A :class:`~anabranch.rag.Reader` that loads each source by a LlamaIndex reader.

    Args:
        load: Given a source's name, its documents, as by
            ``lambda uri: PDFReader().load_data(Path(uri))``. It runs in a thread; a
            coroutine function is awaited.
        concurrency: Sources that are loaded at once.
    """
    return loading(load, loaded, concurrency=concurrency)


def retriever(
    theirs: BaseRetriever | MakeRetriever,
    *,
    name: str | None = None,
    use_async: bool = False,
    concurrency: int = 4,
) -> AdaptedRetriever:
    """A LlamaIndex retriever as a :class:`~anabranch.rag.Retriever`.

    One that is given as it is finds as many nodes as it was made to find, of which ``k``
    are kept, and takes no filters. Give a function instead, and both are heeded::

        retriever(
            lambda k, filters: index.as_retriever(similarity_top_k=k, filters=filters)
        )

    Args:
        theirs: The retriever, or what makes one for ``k`` and filters.
        name: By default that of its class.
        use_async: Await its asynchronous methods. By default the synchronous ones run in
            threads, since what the others await may block in turn: many stores do.
        concurrency: Questions at once.
    """
    calls = Calls(concurrency)

    def made(k: int, chosen: Filter | None) -> BaseRetriever:
        if not isinstance(theirs, BaseRetriever):
            return theirs(k, None if chosen is None else to_filters(chosen))
        if chosen is not None:
            raise UsageError(
                f"a {type(theirs).__name__} takes no filter: give llamaindex.retriever "
                "a function (k, filters) that makes one, or give no 'where'"
            )
        return theirs

    async def ask(query: str, k: int, chosen: Filter | None) -> Found:
        nodes = await (
            calls.awaited(made(k, chosen).aretrieve, query)
            if use_async
            else calls.threaded(lambda: made(k, chosen).retrieve(query))
        )
        return [(hit_of(each.node), each.score) for each in nodes if text_of(each.node)]

    known = name or (
        type(theirs).__name__ if isinstance(theirs, BaseRetriever) else "LlamaIndex"
    )
    return AdaptedRetriever(known, ask)


def store_retriever(
    theirs: BasePydanticVectorStore,
    embedder: Embedder,
    *,
    name: str | None = None,
    mode: VectorStoreQueryMode = VectorStoreQueryMode.DEFAULT,
    use_async: bool = False,
    concurrency: int = 4,
) -> AdaptedRetriever:
    """A LlamaIndex vector store as a :class:`~anabranch.rag.Retriever`.

    A filter is said in its words, and refused where it has none. What the store answers is
    held against the filter again, since not every store knows every operator.

    Args:
        theirs: A store that keeps the text of its nodes.
        embedder: Of the model whose vectors are in it.
        name: By default that of its class.
        mode: How it is asked; the text of the question goes along in any.
        use_async: Await its asynchronous methods. By default the synchronous ones run in
            threads, since what the others await may block in turn: many stores do.
        concurrency: Questions at once.

    Raises:
        UsageError: It keeps no text.
    """
    if not theirs.stores_text:
        raise UsageError(
            f"a {type(theirs).__name__} keeps no text, so what it finds cannot be shown: "
            "make a VectorStoreIndex of it and its docstore, and adapt its retriever with "
            "llamaindex.retriever"
        )
    calls = Calls(concurrency)

    async def ask(query: str, k: int, chosen: Filter | None) -> Found:
        vector = await embedder.embed_query(query)
        asked = VectorStoreQuery(
            query_embedding=vector.tolist(),
            similarity_top_k=k,
            query_str=query,
            mode=mode,
            filters=None if chosen is None else to_filters(chosen),
        )
        answer = await (
            calls.awaited(theirs.aquery, asked)
            if use_async
            else calls.threaded(theirs.query, asked)
        )
        nodes: Sequence[BaseNode] = answer.nodes or []
        given: Iterator[float | None] = iter(answer.similarities or [])
        return [(hit_of(node), next(given, None)) for node in nodes]

    return AdaptedRetriever(name or type(theirs).__name__, ask)
