"""read → split → embed → store, each stage ahead of the next by a bounded buffer.

One pull drives it all: the store asks for the next embedded batch, which asks for chunks,
which ask for contents, which are read up to ``readers`` at once. So nothing is read that
could not soon be embedded, whatever the number of sources, and memory is that of a few
batches. Parsing, splitting, the model and the store work in threads; the event loop only
passes things on.

Why threads: docs/decisions/0011-threads.md.

What must hold after a crash is the store's business: a batch is written in one
transaction, with the marks of the sources that it completes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

import numpy as np

from anabranch.errors import SourceError
from anabranch.jobs import Stream, astream
from anabranch.observe import Observer, Observers
from anabranch.rag.plan import Verdict, Version, judge, text_digest, to_embed
from anabranch.rag.readers.parse import documents
from anabranch.rag.stores import Abandon, Add, VectorStore, Write
from anabranch.rag.types import Chunk, Content, Embedder, Reader, Splitter, Vectors

# Chunks of a source that are handled together.
PIECE_CHUNKS = 64
# Chunks cut in one turn of the splitting thread: of a large source no more are in memory.
CUT_AT_ONCE = 256
# Contents taken from the readers in one turn, if so many are ready.
CONTENTS_AT_ONCE = 16


@dataclass(slots=True)
class Report:
    """What a run of a pipeline did.

    Attributes:
        sources: Those that were met, whatever became of them.
        new: Sources indexed for the first time.
        changed: Sources indexed again since they had changed.
        unchanged: Sources that the store held as they are.
        removed: Sources removed since they are gone.
        skipped: Files of other kinds that were passed over in folders.
        broken: Sources that could not be read, and why.
        documents: Documents made of the new and changed sources.
        chunks: Chunks stored of them.
        embedded: Chunks that the model was given; the others' vectors were there.
        elapsed_s: From start to end.
        at_once: The most that ran at the same time, by stage.
    """

    sources: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: int = 0
    broken: list[SourceError] = field(default_factory=list[SourceError])
    documents: int = 0
    chunks: int = 0
    embedded: int = 0
    elapsed_s: float = 0.0
    at_once: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class _Piece:
    """Consecutive chunks of one version."""

    version: Version
    chunks: Sequence[Chunk]
    digests: Sequence[bytes]
    documents: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class _Failed:
    """A source that broke after some of it may have been stored."""

    error: SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Brings a store up to date with sources.

    Attributes:
        reader: Where contents come from.
        splitter: Cuts documents into chunks.
        embedder: Gives them vectors; the store was made for it.
        store: Open for writing.
        readers: Sources read at once.
    """

    reader: Reader
    splitter: Splitter
    embedder: Embedder
    store: VectorStore
    readers: int = 8

    @property
    def fingerprint(self) -> str:
        """Of everything beside a source's bytes that decides its chunks and vectors."""
        return f"{self.splitter.fingerprint}/{self.embedder.digest}"

    async def run(
        self,
        uris: AsyncIterable[str | SourceError],
        *,
        total: int | None = None,
        observer: Observer | None = None,
    ) -> Report:
        """Index what is new or changed among the sources, and leave the rest.

        A broken source is reported and the others go on. Killed at any point and run
        again, it repeats at most the batches that were not stored yet and loses nothing.

        Args:
            uris: The sources; an error among them is a source that cannot be found.
            total: How many there are, for the observer.
            observer: Told of each source by its URI, and how many passages are stored.

        Raises:
            StoreError: The store cannot be written: what was stored stands.
        """
        return await _Run(self, Observers(*filter(None, [observer]))).all(uris, total)


class _Run:
    """One run: what it has done so far."""

    def __init__(self, parts: Pipeline, observer: Observer) -> None:
        self._parts = parts
        self._observer = observer
        self._report = Report()
        self._busy: dict[str, int] = {}
        self._verdicts: dict[str, Verdict] = {}
        # One thread parses and splits, since both mostly hold the interpreter's lock, and
        # always the same: each thread keeps what its largest page took.
        self._cutter = ThreadPoolExecutor(1, thread_name_prefix="anabranch-cut")
        # Embedded and not yet stored: a repeated text is not embedded again meanwhile.
        self._fresh: dict[bytes, Vectors] = {}

    async def all(
        self, uris: AsyncIterable[str | SourceError], total: int | None
    ) -> Report:
        began = time.monotonic()
        ahead = self._parts.readers
        self._observer.begun(total)
        try:
            # One batch at a time: a model uses every core, and what it embeds is then known
            # to the next batch. The buffer lets it go on while one is stored.
            async with (
                astream(self._read, uris, concurrency=ahead, buffer=ahead) as contents,
                astream(
                    self._embed,
                    self._batches(self._pieces(contents)),
                    concurrency=1,
                    buffer=1,
                    ordered=True,
                ) as batches,
            ):
                async for batch in batches:
                    await self._keep(batch)
        finally:
            await asyncio.to_thread(self._cutter.shutdown)
            self._observer.ended()
        self._report.elapsed_s = time.monotonic() - began
        return self._report

    async def _read(self, uri: str | SourceError) -> Content | None:
        """The content of a source that must be indexed."""
        if isinstance(uri, SourceError):
            self._observer.started(uri.uri)
            self._break(uri)
            return None
        self._observer.started(uri)
        try:
            with self._counted("read"):
                content = await self._parts.reader.read(uri)
        except SourceError as error:
            self._break(error)
            return None
        return content

    async def _pieces(
        self, contents: Stream[Content | None]
    ) -> AsyncIterator[_Piece | _Failed]:
        loop = asyncio.get_running_loop()
        while some := await contents.some(CONTENTS_AT_ONCE):
            read = [content for content in some if content is not None]
            pieces = self._cut(await self._wanted(read))
            while True:
                with self._counted("split"):
                    cut = await loop.run_in_executor(self._cutter, _next_pieces, pieces)
                if not cut:
                    break
                for piece in cut:
                    yield piece

    async def _wanted(self, contents: Sequence[Content]) -> Sequence[Content]:
        """The contents that the store does not hold as they are."""
        stored = await self._parts.store.versions([content.uri for content in contents])
        wanted: list[Content] = []
        for content in contents:
            verdict = judge(stored.get(content.uri), self._version(content))
            if verdict is Verdict.UNCHANGED:
                self._report.sources += 1
                self._report.unchanged += 1
                self._observer.finished(content.uri, None)
            else:
                self._verdicts[content.uri] = verdict
                wanted.append(content)
        return wanted

    def _cut(self, contents: Sequence[Content]) -> Iterator[_Piece | _Failed]:
        """Each source in pieces. It is iterated in a thread."""
        for content in contents:
            try:
                yield from self._cut_one(content)
            except SourceError as error:
                yield _Failed(error)
            except Exception as error:
                # A parser met what its author did not foresee: this source only.
                reason = f"cannot be understood ({type(error).__name__}: {error})"
                yield _Failed(SourceError(content.uri, reason))

    def _cut_one(self, content: Content) -> Iterator[_Piece]:
        """The last piece says so; it may be empty."""
        version = self._version(content)
        chunks: list[Chunk] = []
        count = 0
        for document in documents(content):
            count += 1
            for chunk in self._parts.splitter.split(document):
                if len(chunks) == PIECE_CHUNKS:
                    yield _piece(version, chunks, count, is_last=False)
                    chunks, count = [], 0
                chunks.append(chunk)
        yield _piece(version, chunks, count, is_last=True)

    async def _batches(
        self, pieces: AsyncIterator[_Piece | _Failed]
    ) -> AsyncIterator[Sequence[_Piece | _Failed]]:
        """Pieces together, until there are enough tokens for one call of the model."""
        batch: list[_Piece | _Failed] = []
        tokens = 0
        async with aclosing(pieces):  # type: ignore[type-var]  # it is a generator
            async for piece in pieces:
                batch.append(piece)
                if isinstance(piece, _Piece):
                    tokens += sum(_tokens(chunk) for chunk in piece.chunks)
                if tokens >= self._parts.embedder.batch_tokens:
                    yield batch
                    batch, tokens = [], 0
        if batch:
            yield batch

    async def _embed(
        self, batch: Sequence[_Piece | _Failed]
    ) -> tuple[Sequence[_Piece | _Failed], Sequence[Write]]:
        pieces = [piece for piece in batch if isinstance(piece, _Piece)]
        chunks = [chunk for piece in pieces for chunk in piece.chunks]
        digests = [digest for piece in pieces for digest in piece.digests]
        # What is fresh now may be stored, and no longer fresh, when the store has answered.
        known = self._fresh.copy()
        known |= await self._parts.store.vectors(digests)
        missing = to_embed(digests, known)
        if missing:
            with self._counted("embed"):
                vectors = await self._parts.embedder.embed(
                    [chunks[index] for index in missing]
                )
            for index, vector in zip(missing, vectors, strict=True):
                known[digests[index]] = self._fresh[digests[index]] = vector
        self._report.embedded += len(missing)
        return batch, [self._write(piece, known) for piece in batch]

    def _write(self, piece: _Piece | _Failed, known: dict[bytes, Vectors]) -> Write:
        if isinstance(piece, _Failed):
            return Abandon(piece.error.uri)
        shape = (len(piece.chunks), self._parts.embedder.dimensions)
        vectors = np.empty(shape, np.float32)
        for row, digest in enumerate(piece.digests):
            vectors[row] = known[digest]
        return Add(piece.version, piece.chunks, piece.digests, vectors, piece.is_last)

    async def _keep(
        self, embedded: tuple[Sequence[_Piece | _Failed], Sequence[Write]]
    ) -> None:
        batch, writes = embedded
        with self._counted("store"):
            await self._parts.store.write(writes)
        for piece in batch:
            if isinstance(piece, _Failed):
                self._verdicts.pop(piece.error.uri)
                self._break(piece.error)
                continue
            for digest in piece.digests:
                self._fresh.pop(digest, None)
            self._report.documents += piece.documents
            self._report.chunks += len(piece.chunks)
            self._observer.counted("passages", self._report.chunks)
            if piece.is_last:
                self._done(piece.version.uri)

    def _done(self, uri: str) -> None:
        self._report.sources += 1
        if self._verdicts.pop(uri) is Verdict.NEW:
            self._report.new += 1
        else:
            self._report.changed += 1
        self._observer.finished(uri, None)

    def _break(self, error: SourceError) -> None:
        self._report.sources += 1
        self._report.broken.append(error)
        self._observer.finished(error.uri, error)

    def _version(self, content: Content) -> Version:
        return Version(content.uri, content.digest, self._parts.fingerprint)

    @contextmanager
    def _counted(self, stage: str) -> Generator[None]:
        now = self._busy.get(stage, 0) + 1
        self._busy[stage] = now
        self._report.at_once[stage] = max(now, self._report.at_once.get(stage, 0))
        try:
            yield
        finally:
            self._busy[stage] -= 1


def _next_pieces(pieces: Iterator[_Piece | _Failed]) -> Sequence[_Piece | _Failed]:
    """As many pieces as one turn of a thread is worth; none at the end."""
    some: list[_Piece | _Failed] = []
    chunks = 0
    for piece in pieces:
        some.append(piece)
        chunks += len(piece.chunks) if isinstance(piece, _Piece) else 0
        if chunks >= CUT_AT_ONCE:
            break
    return some


def _piece(
    version: Version, chunks: Sequence[Chunk], documents: int, *, is_last: bool
) -> _Piece:
    digests = [text_digest(chunk.text) for chunk in chunks]
    return _Piece(version, chunks, digests, documents, is_last)


def _tokens(chunk: Chunk) -> int:
    # Four characters a token is near enough for the size of a batch.
    return len(chunk.text) // 4 + 1 if chunk.tokens is None else len(chunk.tokens)
