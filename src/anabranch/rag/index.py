"""The calls most programs need: bring an index up to date, keep it so, and open it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from anabranch.jobs.check import check_count
from anabranch.observe import Observer
from anabranch.rag.embedders import MODELS, open_embedder
from anabranch.rag.embedders.minilm import word_pieces
from anabranch.rag.keeping import keep_up
from anabranch.rag.pipeline import Pipeline, Report
from anabranch.rag.plan import Strategy
from anabranch.rag.retrievers import (
    FullTextRetriever,
    FusionOptions,
    FusionRetriever,
    VectorRetriever,
)
from anabranch.rag.sources import Sources
from anabranch.rag.splitter import TokenSplitter
from anabranch.rag.stores import ann
from anabranch.rag.stores.ann import Search
from anabranch.rag.stores.lock import LOCK
from anabranch.rag.stores.sqlite import EXACT, FILE, SqliteStore
from anabranch.rag.tokens import WordTokenizer
from anabranch.rag.types import Embedder, Fields, Retriever


async def index(
    sources: Sequence[str | os.PathLike[str]],
    *,
    into: str | os.PathLike[str],
    model: str | None = None,
    chunk_tokens: int = 256,
    overlap_tokens: int = 0,
    prune: bool = False,
    strategy: Strategy = "upsert",
    allow_private: bool | Collection[str] = False,
    fields: Fields | None = None,
    observer: Observer | None = None,
) -> Report:
    """Read, split, embed and store sources, concurrently, in an index in a folder.

    What the index holds already, unchanged, is left alone. Killed at any point and run
    again, nothing that was stored is embedded again and nothing is lost. A broken source
    is in the report and does not stop the others.

    Args:
        sources: Files, folders, URLs, ``python:MODULE``.
        into: The folder of the index; it is made where there is none. Files of the index
            are no sources, even where they are named.
        model: ``"minilm"`` (for quality), ``"static"`` (a hundred times as fast), or one
            behind a service: see :func:`open_embedder`. By default the one the index was
            made with, if it is on this machine, or ``"minilm"``.
        chunk_tokens: The longest passage, in tokens of the model; at most what it reads.
        overlap_tokens: What a passage repeats of the one before it, at most.
        prune: Remove sources that are gone from the folders and files named here.
        strategy: What becomes of sources that the index holds: see :class:`Pipeline`.
        allow_private: Hosts of URLs that need not be on the public internet, or True for
            all: see :class:`~anabranch.rag.WebReader`.
        fields: Which fields of tables, JSON and JSON lines are text and which metadata.
        observer: Told what happens, source by source.

    Raises:
        UsageError: An argument cannot be meant.
        StoreError: The index cannot be written, is in use, or was made with another model.
        EmbeddingError: The model's service cannot be reached, or refuses.
        ImportError: The model's extra is not installed.
    """
    names = _documents(sources, Path(into))
    found = Sources(names, allow_private=allow_private, fields=fields)
    async with open_pipeline(
        found,
        into=Path(into),
        model=model,
        chunk_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
    ) as (parts, store):
        total = None if observer is None else await found.count()
        pipeline = replace(parts, strategy=strategy)
        report = await pipeline.run(found, total=total, observer=observer)
        if prune:
            removed = set(await store.remove_where(found.is_gone))
            report.removed += len(removed)
            # That they cannot be found is what their removal says already.
            report.broken = [error for error in report.broken if error.uri not in removed]
        await store.sweep()
    report.skipped = found.skipped
    return report


async def keep_index(
    sources: Sequence[str | os.PathLike[str]],
    *,
    into: str | os.PathLike[str],
    model: str | None = None,
    chunk_tokens: int = 256,
    overlap_tokens: int = 0,
    allow_private: bool | Collection[str] = False,
    fields: Fields | None = None,
    settle: float = 0.2,
    poll: float | None = None,
    again: float = 3600.0,
    observer: Observer | None = None,
) -> AsyncGenerator[Report]:
    """As :func:`index`, and then keep the index up to date: a report each time.

    What is gone from the folders and files named is removed. It goes on until it is
    closed or cancelled; :func:`keep_up` says what holds, and what ``settle``, ``poll``
    and ``again`` mean.

    Raises:
        UsageError: As :func:`index` and :func:`keep_up` do, and so are the others.
        SourceError: A path is not there or cannot be watched.
        StoreError: The index cannot be written.
        ImportError: The model's extra or ``watch`` is not installed.
    """
    names = _documents(sources, Path(into))
    found = Sources(names, allow_private=allow_private, fields=fields)
    async with open_pipeline(
        found,
        into=Path(into),
        model=model,
        chunk_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
    ) as (pipeline, _):
        reports = keep_up(
            pipeline, found, settle=settle, poll=poll, again=again, observer=observer
        )
        async with aclosing(reports):
            async for report in reports:
                yield report


def _documents(
    sources: Sequence[str | os.PathLike[str]], into: Path
) -> Sequence[str | os.PathLike[str]]:
    """The sources without the index's own files, which a pattern of a shell names too."""
    folder = os.path.abspath(into)

    def is_own(source: str | os.PathLike[str]) -> bool:
        place, name = os.path.split(os.path.abspath(source))
        return place == folder and (name == LOCK or name.startswith((FILE, ann.FILE)))

    return [source for source in sources if not is_own(source)]


@asynccontextmanager
async def open_pipeline(
    sources: Sources,
    *,
    into: Path,
    model: str | None,
    chunk_tokens: int,
    overlap_tokens: int,
) -> AsyncGenerator[tuple[Pipeline, SqliteStore]]:
    """A pipeline from these sources, open, into the index in a folder."""
    check_count("chunk_tokens", chunk_tokens)
    async with sources, open_model(into, model) as (embedder, words):
        splitter = TokenSplitter(
            words,
            max_tokens=min(chunk_tokens, embedder.max_tokens),
            overlap=overlap_tokens,
        )
        async with await SqliteStore.create(into, embedder) as store:
            pipeline = Pipeline(
                reader=sources, splitter=splitter, embedder=embedder, store=store
            )
            yield pipeline, store


@asynccontextmanager
async def open_index(
    folder: str | os.PathLike[str],
    *,
    model: str | None = None,
    search: Search = EXACT,
    **options: Unpack[FusionOptions],
) -> AsyncGenerator[FusionRetriever]:
    """A retriever over an index that :func:`index` made: vectors and full text, fused.

    An index of one's own embedder is opened with :meth:`SqliteStore.open`.

    Args:
        folder: The folder of the index.
        model: The model it was made with, where that is behind a service: see
            :func:`open_embedder`. An index does not say where its model is to be found,
            since its questions would go to whoever wrote it.
        search: How the nearest vectors are sought: see :class:`SqliteStore`.
        **options: Those of :class:`FusionRetriever`; the retrievers' names are ``vector``
            and ``full text``.

    Raises:
        UsageError: An option cannot be meant, or the index was made with a model that is
            not on this machine.
        StoreError: There is no index in the folder, it cannot be read, or it was made with
            another model.
        EmbeddingError: The model's service cannot be reached, or refuses.
        ImportError: The extra of the model it was made with is not installed.
    """
    place = Path(folder)
    if not (place / FILE).is_file():
        await SqliteStore.open(place)  # says so
    async with (
        open_model(place, model) as (embedder, _),
        await SqliteStore.open(place, embedder, search=search) as store,
    ):
        both: list[Retriever] = [VectorRetriever(store, embedder), FullTextRetriever(store)]
        yield FusionRetriever(both, **options)


@asynccontextmanager
async def open_model(
    folder: Path, name: str | None
) -> AsyncGenerator[tuple[Embedder, WordTokenizer]]:
    """The model of this name, or the one an index was made with, and what cuts for it.

    Raises:
        UsageError: There is no such model, or it is not on this machine.
        EmbeddingError: Its service cannot be reached, or refuses.
        ImportError: Its extra is not installed.
    """
    if name is None and (folder / FILE).is_file():
        async with await SqliteStore.open(folder) as store:
            name = await store.model()
    async with open_embedder(name or next(iter(MODELS))) as embedder:
        words: WordTokenizer | None = getattr(embedder, "tokenizer", None)
        if words is None:
            words = await asyncio.to_thread(word_pieces)
        yield embedder, words
