"""A pipeline on many workers: processes of this machine, or a Ray cluster.

The sources go out in shards. A worker runs an ordinary pipeline over a shard, against a
store that only keeps what is written to it: reading, stages, splitting and embedding happen
there. What was written comes back and is written to the real store here, a shard at a
time. So there is one writer, and what the store promises of a kill holds: a shard whose
worker or whose driver dies is done again, and nothing of it was seen.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from anabranch.errors import SourceError, WorkerLost
from anabranch.jobs import Retry, astream
from anabranch.jobs.check import check_count
from anabranch.jobs.executors import Executor
from anabranch.observe import Observer, Observers
from anabranch.rag.pipeline import Pipeline, Report
from anabranch.rag.plan import Version
from anabranch.rag.stores import Add, Sink, Write
from anabranch.rag.types import Embedder, Vectors

__all__ = ["DistributedPipeline"]

# How often a shard is sent whose worker was lost, beside what the executor does itself:
# nothing of it has been stored, so there is nothing to be careful about.
TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedPipeline:
    """Brings a store up to date with sources, on the workers of an executor.

    ::

        def parts(embedder, store):  # in a module that the workers can import
            splitter = TokenSplitter(embedder.tokenizer)
            return Pipeline(
                reader=FileReader(), splitter=splitter, embedder=embedder, store=store
            )


        async with await SqliteStore.create(folder, StaticEmbedder()) as store:
            pipeline = DistributedPipeline(
                embedder=StaticEmbedder,
                parts=parts,
                store=store,
                executor=RayExecutor(chunk=1, per_actor_concurrency=2),
            )
            report = await pipeline.run(names)

    Sources that the store holds as they are cost a worker the reading of them. A changed
    source is embedded whole, since a worker does not see the vectors of the store. All the
    passages of a shard travel together, so memory is that of a few shards.

    Attributes:
        embedder: Makes the embedder: once in a worker, or once a shard if it is an async
            context manager, such as one that asks a service.
        parts: Makes the pipeline around an embedder and a store, for each shard. Its
            strategy is ``"upsert"`` or ``"skip"``. A reader that is an async context
            manager is open for the shard.
        store: Open for writing, here.
        executor: Where shards run; yours to close.
        shard: Sources that are sent together.

    Raises:
        UsageError: ``shard`` is not a positive number.
    """

    embedder: Callable[[], Embedder]
    parts: Callable[[Embedder, Sink], Pipeline]
    store: Sink
    executor: Executor
    shard: int = 64

    def __post_init__(self) -> None:
        check_count("shard", self.shard)

    async def run(
        self,
        uris: AsyncIterable[str | SourceError],
        *,
        total: int | None = None,
        observer: Observer | None = None,
    ) -> Report:
        """Index what is new or changed among the sources, and leave the rest.

        Args:
            uris: The sources; an error among them is a source that cannot be found.
            total: How many there are, for the observer.
            observer: Told of each source when its shard is stored.

        Raises:
            StoreError: The store cannot be written: what was stored stands.
            WorkerLost: Workers died of a shard, and of the same one sent once more.
            Exception: What broke in a worker and was no fault of a source.
        """
        now = asyncio.get_running_loop().time
        began = now()
        watching = Observers(*filter(None, [observer]))
        watching.begun(total)
        report = Report()
        work = partial(_work, self.embedder, self.parts)
        at_once = self.executor.slots * self.executor.chunk
        try:
            async with astream(
                work,
                self._shards(uris),
                executor=self.executor,
                concurrency=at_once,
                buffer=at_once,
                retry=Retry(TRIES, on=WorkerLost),
            ) as stored:
                async for harvest in stored:
                    await self._keep(harvest, report, watching)
        finally:
            watching.ended()
        report.elapsed_s = now() - began
        return report

    async def _shards(
        self, uris: AsyncIterable[str | SourceError]
    ) -> AsyncGenerator[_Shard]:
        some: list[str | SourceError] = []
        async for uri in uris:
            some.append(uri)
            if len(some) == self.shard:
                yield await self._shard(some)
                some = []
        if some:
            yield await self._shard(some)

    async def _shard(self, some: Sequence[str | SourceError]) -> _Shard:
        names = [uri for uri in some if isinstance(uri, str)]
        errors = [(uri.uri, uri.reason) for uri in some if isinstance(uri, SourceError)]
        return _Shard(names, errors, await self.store.versions(names))

    async def _keep(self, harvest: _Harvest, report: Report, watching: Observer) -> None:
        if harvest.writes:
            await self.store.write(harvest.writes)
        report.add(harvest.report)
        for uri, error in harvest.ended:
            watching.started(uri)
            watching.finished(uri, error)
        watching.counted("passages", report.chunks)
        watching.flowed(report.stages)


@dataclass(frozen=True, slots=True)
class _Shard:
    """Sources, and what the store holds of them."""

    names: Sequence[str]
    errors: Sequence[tuple[str, str]]
    held: Mapping[str, Version]


@dataclass(frozen=True, slots=True)
class _Harvest:
    """What a worker made of a shard."""

    writes: Sequence[Write]
    report: Report
    ended: Sequence[tuple[str, SourceError | None]]


# --------------------------------------------------------------------- in a worker

# The embedder of this process, with what has made it.
_made: tuple[Callable[[], Embedder], Embedder] | None = None
_making = threading.Lock()


async def _work(
    make: Callable[[], Embedder],
    parts: Callable[[Embedder, Sink], Pipeline],
    shard: _Shard,
) -> _Harvest:
    """An ordinary pipeline over a shard, against a store that keeps what is written."""
    basket = Basket(shard.held)
    ended = _Ended()
    embedder = await asyncio.to_thread(_embedder, make)
    pipeline = parts(embedder, basket)
    async with AsyncExitStack() as held:
        for part in (pipeline.reader, pipeline.embedder):
            if isinstance(part, AbstractAsyncContextManager):
                await held.enter_async_context(part)  # pyright: ignore[reportUnknownArgumentType]
        report = await pipeline.run(_each(shard), observer=ended)
    return _Harvest(basket.writes, report, ended.sources)


def _embedder(make: Callable[[], Embedder]) -> Embedder:
    global _made  # a model is loaded once a process, whatever number of shards it is for
    with _making:
        if _made is not None and _made[0] == make:
            return _made[1]
        embedder = make()
        if not isinstance(embedder, AbstractAsyncContextManager):
            _made = make, embedder
        return embedder


async def _each(shard: _Shard) -> AsyncGenerator[str | SourceError]:
    for uri, reason in shard.errors:
        yield SourceError(uri, reason)
    for name in shard.names:
        yield name


class _Ended(Observer):
    """What became of each source."""

    def __init__(self) -> None:
        self.sources: list[tuple[str, SourceError | None]] = []

    def finished(self, label: object, error: BaseException | None) -> None:
        self.sources.append((str(label), error if isinstance(error, SourceError) else None))


@dataclass(slots=True)
class Basket:
    """A store for one shard: it keeps what is written, and knows what the real one holds.

    Attributes:
        held: The complete version of each source of the shard that has one.
        writes: What was written, in its order, without what no store keeps.
    """

    held: Mapping[str, Version]
    writes: list[Write] = field(default_factory=list[Write])
    _vectors: dict[bytes, Vectors] = field(default_factory=dict[bytes, Vectors])

    async def write(self, writes: Sequence[Write]) -> None:
        """Keep them."""
        for write in writes:
            if isinstance(write, Add):
                # Tokens were for the embedder, and need not travel.
                chunks = [replace(chunk, tokens=None) for chunk in write.chunks]
                self.writes.append(replace(write, chunks=chunks))
                self._vectors.update(zip(write.digests, write.vectors, strict=True))
            else:
                self.writes.append(write)

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """What the real store held when the shard was sent."""
        return {uri: self.held[uri] for uri in uris if uri in self.held}

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Those of this shard."""
        return {key: self._vectors[key] for key in digests if key in self._vectors}

    async def sweep(self) -> None:
        """There is nothing to sweep."""

    async def sources(self) -> AsyncGenerator[Version]:
        """Those of the shard that the real store holds."""
        for version in self.held.values():
            yield version
