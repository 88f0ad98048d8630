"""read → parse → split → embed → store, each stage ahead of the next by a bounded buffer.

Stages of the user's stand behind ``parse`` (on documents) and behind ``split`` (on chunks).
One pull drives it all: the store asks for the next embedded batch, which asks for chunks,
which ask for contents, which are read up to ``readers`` at once. So nothing is read that
could not soon be embedded, whatever the number of sources, and memory is that of a few
batches. Parsing, splitting, the model and the store work in threads; the event loop only
passes things on.

Why threads: docs/decisions/0011-threads.md.

What must hold after a crash is the store's business: a batch is written in one
transaction, with the marks of the sources that it completes. What flows is in order
behind the readers, so that the pieces of a source reach the store one after the other; a
source that fails is one :class:`Failed`, and nothing of it follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from anabranch.errors import SourceError
from anabranch.jobs import Stream, astream
from anabranch.observe import Observer
from anabranch.rag import plan
from anabranch.rag.embedders.checked import unit_vectors
from anabranch.rag.pipeline.cache import TransformCache
from anabranch.rag.pipeline.meter import Meter
from anabranch.rag.pipeline.parts import (
    Chunks,
    Documents,
    Failed,
    Order,
    Part,
    Piece,
    Pieces,
    cut,
    parsed,
    sealed,
    unbroken,
)
from anabranch.rag.pipeline.report import Report
from anabranch.rag.pipeline.transform import Watch, transformed
from anabranch.rag.pipeline.turns import Clocked, next_parts
from anabranch.rag.plan import Verdict, Version, judge, to_embed
from anabranch.rag.stores import Abandon, Add, Remove, Write
from anabranch.rag.types import (
    Chunk,
    Content,
    Vectors,
)

if TYPE_CHECKING:
    from anabranch.rag.pipeline.pipeline import Pipeline

T = TypeVar("T")
P = TypeVar("P", bound="Documents | Chunks")

# Contents taken from the readers in one turn, if so many are ready.
CONTENTS_AT_ONCE = 16
# Sources removed in one transaction.
REMOVED_AT_ONCE = 256
# How often observers are told how the stages stand.
TOLD_EVERY_S = 0.25


class Run(Watch):
    """One run: what it has done so far."""

    def __init__(self, parts: Pipeline, observer: Observer) -> None:
        self._parts = parts
        self._observer = observer
        self._report = Report()
        self._fingerprint = parts.fingerprint
        self._now = asyncio.get_running_loop().time
        self._meter = Meter(parts.stages, self._now())
        names = [name for name, _ in parts.stages]
        self._next: Mapping[str, str] = dict(pairwise(names))
        # One thread parses and splits, since both mostly hold the interpreter's lock, and
        # always the same: each thread keeps what its largest page took.
        self._cutter = ThreadPoolExecutor(1, thread_name_prefix="anabranch-cut")
        # Embedded and not yet stored: a repeated text is not embedded again meanwhile.
        self._fresh: dict[bytes, Vectors] = {}
        self._flying: dict[bytes, _Making] = {}
        # For the strategy that removes what was not met.
        self._met: set[str] = set()
        self._is_whole = True

    async def all(
        self, uris: AsyncIterable[str | SourceError], total: int | None
    ) -> Report:
        began = self._now()
        self._observer.begun(total)
        telling = asyncio.create_task(self._tell())
        try:
            async with AsyncExitStack() as held:
                cache = await self._cache(held)
                await self._flow(uris, cache)
            if self._parts.strategy == "delete":
                await self._remove_unmet()
        finally:
            telling.cancel()
            await asyncio.wait([telling])
            await asyncio.to_thread(self._cutter.shutdown)
            self._report.stages = self._meter.look(self._now())
            self._observer.flowed(self._report.stages)
            self._observer.ended()
        self._report.elapsed_s = self._now() - began
        return self._report

    async def _cache(self, held: AsyncExitStack) -> TransformCache | None:
        is_needed = any(stage.is_cached for stage in self._parts.own_stages)
        if self._parts.cache is None or not is_needed:
            return None
        return await held.enter_async_context(TransformCache(self._parts.cache))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            self._observer.flowed(self._meter.look(self._now()))

    async def _flow(
        self, uris: AsyncIterable[str | SourceError], cache: TransformCache | None
    ) -> None:
        ahead, models = self._parts.readers, self._parts.embedders
        async with (
            astream(self._read, uris, concurrency=ahead, buffer=ahead) as contents,
            aclosing(self._pieces(contents, cache)) as pieces,
            # A batch is put together while the model works on the one before. One batch
            # at a time: a model uses every core, and what it embeds is then known to the
            # next batch. The last buffer lets it go on while one is stored.
            astream(
                _same, self._batches(pieces), concurrency=1, buffer=1, ordered=True
            ) as ready,
            astream(
                self._embed, ready, concurrency=models, buffer=models, ordered=True
            ) as batches,
        ):
            async for batch in batches:
                await self._keep(batch)

    # ---------------------------------------------------------------------- reading

    async def _read(self, uri: str | SourceError) -> Content | None:
        """The content of a source that may have to be indexed."""
        if isinstance(uri, SourceError):
            self._observer.started(uri.uri)
            self._is_whole = False
            self._break(uri)
            return None
        self._observer.started(uri)
        if self._parts.strategy == "delete":
            self._met.add(uri)
        if self._parts.strategy == "skip" and await self._parts.store.versions([uri]):
            self._done(uri, Verdict.PRESENT)
            return None
        self.began("read", 0)
        try:
            content = await self._parts.reader.read(uri)
        except SourceError as error:
            self.ended("read", 0)
            self._break(error)
            return None
        except BaseException:
            self.ended("read", 0)
            raise
        self.ended("read", 1)
        return content

    async def _orders(
        self, contents: Stream[Content | None]
    ) -> AsyncGenerator[Sequence[Order]]:
        """The contents that the store does not hold as they are."""
        while some := await contents.some(CONTENTS_AT_ONCE):
            read = [content for content in some if content is not None]
            stored = await self._parts.store.versions([content.uri for content in read])
            orders: list[Order] = []
            for content in read:
                version = Version(content.uri, content.digest, self._fingerprint)
                verdict = judge(stored.get(content.uri), version)
                if verdict is Verdict.UNCHANGED:
                    self._meter.waits("parse", -1)
                    self._done(content.uri, verdict)
                else:
                    orders.append(Order(content, version, verdict))
            if orders:
                yield orders

    # ---------------------------------------------------------------------- cutting

    async def _pieces(
        self, contents: Stream[Content | None], cache: TransformCache | None
    ) -> AsyncGenerator[Pieces]:
        orders = self._orders(contents)
        if self._parts.documents:
            documents = self._parsed(orders)
            for before in self._parts.documents:
                documents = transformed(before, documents, cache=cache, watch=self)
            chunks = self._cut(documents)
        else:
            chunks = self._parsed_and_cut(orders)
        for stage in self._parts.chunks:
            chunks = transformed(stage, chunks, cache=cache, watch=self)
        async with aclosing(unbroken(chunks)) as whole:
            async for part in whole:
                yield sealed(part)

    async def _parsed_and_cut(
        self, orders: AsyncGenerator[Sequence[Order]]
    ) -> AsyncGenerator[Chunks]:
        """Both in one turn of the thread: a document is cut while it is in the cache."""
        async with aclosing(orders):
            async for some in orders:
                self._meter.waits("parse", -len(some))
                parse = Clocked(parsed(some))
                split = Clocked(cut(parse, self._parts.splitter))
                async for parts in self._turns(split):
                    self._meter.worked("parse", parse_s := parse.lap(), done=_begun(parts))
                    self._passed("split", split.lap() - parse_s, parts)
                    for part in parts:
                        yield part

    async def _parsed(
        self, orders: AsyncGenerator[Sequence[Order]]
    ) -> AsyncGenerator[Documents]:
        async with aclosing(orders):
            async for some in orders:
                self._meter.waits("parse", -len(some))
                parse = Clocked(parsed(some))
                async for parts in self._turns(parse):
                    self._passed("parse", parse.lap(), parts)
                    for part in parts:
                        yield part

    async def _cut(self, documents: AsyncGenerator[Documents]) -> AsyncGenerator[Chunks]:
        async with aclosing(documents):
            async for some in documents:
                self._meter.waits("split", -_items([some]))
                split = Clocked(cut([some], self._parts.splitter))
                async for parts in self._turns(split):
                    self._passed("split", split.lap(), parts)
                    for part in parts:
                        yield part

    async def _turns(self, parts: Iterator[P]) -> AsyncGenerator[Sequence[P]]:
        """The parts as a thread makes them, a turn at a time."""
        loop = asyncio.get_running_loop()
        while some := await loop.run_in_executor(self._cutter, next_parts, parts):
            yield some

    # ------------------------------------------------------------ embedding and storing

    async def _batches(
        self, pieces: AsyncGenerator[Pieces]
    ) -> AsyncGenerator[Sequence[Pieces]]:
        """Pieces together, until there are enough tokens for one call of the model."""
        batch: list[Pieces] = []
        tokens = 0
        async for piece in pieces:
            batch.append(piece)
            if isinstance(piece, Piece):
                tokens += sum(_tokens(chunk) for chunk in piece.part.items)
            if tokens >= self._parts.embedder.batch_tokens:
                yield batch
                batch, tokens = [], 0
        if batch:
            yield batch

    async def _embed(self, batch: Sequence[Pieces]) -> _Embedded:
        pieces = [piece for piece in batch if isinstance(piece, Piece)]
        chunks = [chunk for piece in pieces for chunk in piece.part.items]
        digests = [digest for piece in pieces for digest in piece.digests]
        self.began("embed", len(chunks))
        try:
            known = await self._vectors(chunks, digests)
        finally:
            self.ended("embed", len(chunks))
        return batch, [self._write(piece, known) for piece in batch]

    async def _vectors(
        self, chunks: Sequence[Chunk], digests: Sequence[bytes]
    ) -> Mapping[bytes, Vectors]:
        """The vector of each digest: from the store, from another batch, or made now."""
        # What is fresh or being made now may be stored, and neither, when the store has
        # answered.
        known = self._fresh.copy()
        others = self._made_by_others(digests)
        known |= await self._parts.store.vectors(digests)
        missing = to_embed(digests, known)
        others |= self._made_by_others([digests[at] for at in missing])
        own = [at for at in missing if digests[at] not in others]
        if own:
            known |= await self._embed_now(
                [digests[at] for at in own], [chunks[at] for at in own]
            )
        for making in {others[digests[at]] for at in missing if digests[at] in others}:
            await asyncio.wait(
                {making}
            )  # whoever is cancelled here leaves it to the others
            known |= making.result()
        return known

    def _made_by_others(self, digests: Sequence[bytes]) -> dict[bytes, _Making]:
        return {
            digest: making for digest in digests if (making := self._flying.get(digest))
        }

    async def _embed_now(
        self, digests: Sequence[bytes], chunks: Sequence[Chunk]
    ) -> Mapping[bytes, Vectors]:
        landed: _Making = asyncio.get_running_loop().create_future()
        self._flying |= dict.fromkeys(digests, landed)
        try:
            made = dict(zip(digests, await self._embedded(chunks), strict=True))
        except BaseException as error:
            # The run ends with it, and so does whoever waits for these.
            landed.set_exception(error)
            landed.exception()
            raise
        else:
            landed.set_result(made)
            self._fresh |= made
            self._report.embedded += len(chunks)
            return made
        finally:
            for digest in digests:
                del self._flying[digest]

    async def _embedded(self, chunks: Sequence[Chunk]) -> Vectors:
        embedder = self._parts.embedder
        rows = await embedder.embed(chunks)
        return await asyncio.to_thread(
            unit_vectors,
            rows,
            [chunk.text for chunk in chunks],
            dimensions=embedder.dimensions,
            of=embedder.name,
        )

    def _write(self, piece: Pieces, known: Mapping[bytes, Vectors]) -> Write:
        if isinstance(piece, Failed):
            return Abandon(piece.error.uri)
        part = piece.part
        vectors = np.empty((len(part.items), self._parts.embedder.dimensions), np.float32)
        for row, digest in enumerate(piece.digests):
            vectors[row] = known[digest]
        return Add(part.version, part.items, piece.digests, vectors, part.is_last)

    async def _keep(self, embedded: _Embedded) -> None:
        batch, writes = embedded
        count = sum(len(piece.digests) for piece in batch if isinstance(piece, Piece))
        self.began("store", count)
        try:
            await self._parts.store.write(writes)
        finally:
            self.ended("store", count)
        for piece in batch:
            if isinstance(piece, Failed):
                self._break(piece.error)
                continue
            for digest in piece.digests:
                self._fresh.pop(digest, None)
            self._report.documents += piece.part.documents
            self._report.chunks += len(piece.digests)
            self._observer.counted("passages", self._report.chunks)
            if piece.part.is_last:
                self._done(piece.part.version.uri, piece.part.verdict)

    async def _remove_unmet(self) -> None:
        names = [version.uri async for version in self._parts.store.sources()]
        gone = list(plan.unmet(names, self._met, is_whole=self._is_whole))
        for start in range(0, len(gone), REMOVED_AT_ONCE):
            some = gone[start : start + REMOVED_AT_ONCE]
            await self._parts.store.write([Remove(uri) for uri in some])
            self._report.removed += len(some)

    # -------------------------------------------------------------------- accounting

    def _done(self, uri: str, verdict: Verdict) -> None:
        self._report.met(verdict)
        self._observer.finished(uri, None)

    def _break(self, error: SourceError) -> None:
        self._report.sources += 1
        self._report.broken.append(error)
        self._observer.finished(error.uri, error)

    def began(self, stage: str, taken: int) -> None:
        self._meter.began(stage, self._now(), taken=taken)

    def ended(self, stage: str, done: int) -> None:
        self._meter.ended(stage, self._now(), done=done)
        self._hand_on(stage, done)

    def _passed(
        self, stage: str, work_s: float, parts: Sequence[Documents | Chunks]
    ) -> None:
        self._meter.worked(stage, work_s, done=_items(parts))
        self._hand_on(stage, _items(parts))

    def _hand_on(self, stage: str, count: int) -> None:
        if (following := self._next.get(stage)) is not None:
            self._meter.waits(following, count)


_Embedded: TypeAlias = tuple[Sequence[Pieces], Sequence[Write]]
_Making: TypeAlias = asyncio.Future[Mapping[bytes, Vectors]]


async def _same(item: T) -> T:
    return item


def _items(parts: Sequence[Documents | Chunks]) -> int:
    return sum(len(part.items) for part in parts if isinstance(part, Part))


def _begun(parts: Sequence[Chunks]) -> int:
    return sum(part.documents for part in parts if isinstance(part, Part))


def _tokens(chunk: Chunk) -> int:
    # Four characters a token is near enough for the size of a batch.
    return len(chunk.text) // 4 + 1 if chunk.tokens is None else len(chunk.tokens)
