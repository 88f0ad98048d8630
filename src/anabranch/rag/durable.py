"""Indexing as a durable run: its progress survives the process, and others steer it.

A run goes through its sources shard by shard, and what is recorded after each is how far
the list of sources has come, and what was done. The store holds each source whole or not at
all, so a shard that is begun anew after a kill repeats at most the batches that were not
stored. The list is not recorded: it is made again in each life of the run and followed
behind the last source that was done. So what comes into the folders further up meanwhile
is found by the next run, as it is without a journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from anabranch.errors import SourceError
from anabranch.rag.index import open_pipeline
from anabranch.rag.pipeline import Report
from anabranch.rag.sources import Sources
from anabranch.rag.stages import Stage
from anabranch.rag.types import Chunk, Document, Embedder
from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

__all__ = [
    "Done",
    "IndexProgress",
    "IndexSources",
    "IndexWorkflow",
    "Indexed",
    "PauseIndexing",
    "Paused",
    "ResumeIndexing",
]


class IndexSources(StartEvent):
    """What to index: see :func:`anabranch.rag.index`.

    Attributes:
        sources: Files, folders, URLs, ``python:MODULE``. Paths had better be absolute,
            since whoever takes the run up may work in another folder.
        into: The folder of the index.
        model: As for :func:`anabranch.rag.index`; by default that of the index.
        chunk_tokens: The longest passage.
        overlap_tokens: What a passage repeats of the one before it.
        strategy: What becomes of sources that the index holds: see :class:`Pipeline`.
        prune: Remove, at the end, what is gone from the folders and files.
        shard: Sources between two recordings; a pause begins behind a shard.
    """

    sources: list[str]
    into: str
    model: str | None = None
    chunk_tokens: int = 256
    overlap_tokens: int = 0
    strategy: Literal["upsert", "skip"] = "upsert"
    prune: bool = False
    shard: int = 256


class Done(BaseModel):
    """How many sources and passages: see :class:`Report`."""

    sources: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    present: int = 0
    removed: int = 0
    broken: int = 0
    documents: int = 0
    chunks: int = 0
    embedded: int = 0

    @classmethod
    def of(cls, report: Report) -> Done:
        counts = {name: getattr(report, name) for name in cls.model_fields}
        return cls(**counts | {"broken": len(report.broken)})

    def plus(self, other: Done) -> Done:
        names = type(self).model_fields
        return Done(**{name: getattr(self, name) + getattr(other, name) for name in names})


class IndexProgress(Event):
    """A shard is stored; in the stream of the run.

    Attributes:
        shard: Its number, from 1.
        done: Up to now, in all lives of the run.
        broken: Sources of this shard that could not be read, and why.
    """

    shard: int
    done: Done
    broken: list[tuple[str, str]]


class Paused(Event):
    """The run waits for :class:`ResumeIndexing`; in its stream."""


class PauseIndexing(HumanResponseEvent):
    """Send this to a run to have it wait behind the shard that it is at."""


class ResumeIndexing(HumanResponseEvent):
    """Send this to a run that is paused, or is about to be, to have it go on."""


class Indexed(StopEvent):
    """All sources are done with, or reported as broken."""

    done: Done


class Shard(Event):
    """The next sources: those behind ``after`` in the list."""

    number: int
    after: str | None = None


class ShardStored(Event):
    """What became of a shard."""

    number: int
    after: str | None
    done: Done
    broken: list[tuple[str, str]]
    is_last: bool


class State(BaseModel):
    """What a run remembers.

    Attributes:
        name: No other run has it.
        order: What it began with.
        waiting: Where it goes on once it is resumed, if it waits for that.
    """

    name: str = ""
    order: dict[str, Any] = {}
    done: Done = Done()
    is_paused: bool = False
    waiting: dict[str, Any] | None = None


class IndexWorkflow(Workflow):
    """Brings an index up to date in a run that outlives its process.

    ::

        workflow = IndexWorkflow(durable="runs.db")
        await workflow.run(run_id="docs", start_event=IndexSources(sources=[...], into=...))

    Killed and run again with the same ``run_id``, it goes on where it was. From any other
    process, :class:`~anabranch.workflow.Runs` watches it, sends it :class:`PauseIndexing`
    and :class:`ResumeIndexing`, and cancels it; a paused run that a worker drives is put
    back into the store and holds neither memory nor the index.

    Args:
        documents: Stages of your own: see :class:`Pipeline`.
        chunks: The same, on chunks.
        cache: The file in which stages with ``cached=True`` remember results.
        timeout: Seconds that a run may take; by default, as long as it wants.
        **options: See :class:`~anabranch.workflow.Workflow`.
    """

    def __init__(
        self,
        *,
        documents: Sequence[Stage[Document]] = (),
        chunks: Sequence[Stage[Chunk]] = (),
        cache: str | PathLike[str] | None = None,
        timeout: float | None = None,
        **options: Any,  # those of Workflow, which checks them
    ) -> None:
        super().__init__(timeout=timeout, **options)
        self._documents = documents
        self._chunks = chunks
        self._cache = cache
        self._embedders: dict[str, Embedder] = {}
        self._lists: dict[str, _List] = {}

    @step
    async def begin(self, ctx: Context[State], ev: IndexSources) -> Shard:
        """Take the order down."""
        async with ctx.store.edit_state() as state:
            state.name, state.order = ctx.idempotency_key, ev.model_dump()
        return Shard(number=1)

    @step(num_workers=1)
    async def store(self, ctx: Context[State], ev: Shard) -> ShardStored:
        """Index the next sources."""
        state = await ctx.store.get_state()
        order = IndexSources(**state.order)
        listed = self._lists.pop(state.name, None)
        if listed is None or listed.after != ev.after:
            listed = await _List.behind(ev.after, order.sources)
        names = await listed.next(order.shard)
        report = await self._index(order, listed, names)
        if not listed.is_over:
            self._lists[state.name] = listed
        return ShardStored(
            number=ev.number,
            after=listed.after,
            done=Done.of(report),
            broken=[(error.uri, error.reason) for error in report.broken],
            is_last=listed.is_over,
        )

    @step(num_workers=1)
    async def go_on(self, ctx: Context[State], ev: ShardStored) -> Shard | Indexed | None:
        """Count it, and go on unless somebody wants a pause."""
        following = Shard(number=ev.number + 1, after=ev.after)
        async with ctx.store.edit_state() as state:
            state.done = done = state.done.plus(ev.done)
            is_paused = state.is_paused and not ev.is_last
            state.waiting = following.model_dump() if is_paused else None
        ctx.write_event_to_stream(
            IndexProgress(shard=ev.number, done=done, broken=ev.broken)
        )
        if ev.is_last:
            return Indexed(done=done)
        if is_paused:
            ctx.write_event_to_stream(Paused())
            return None
        return following

    @step
    async def pause(self, ctx: Context[State], ev: PauseIndexing) -> None:
        """Have :meth:`go_on` wait."""
        async with ctx.store.edit_state() as state:
            state.is_paused = True

    @step
    async def resume(self, ctx: Context[State], ev: ResumeIndexing) -> Shard | None:
        """Go on if it waits."""
        async with ctx.store.edit_state() as state:
            waiting, state.waiting, state.is_paused = state.waiting, None, False
        return None if waiting is None else Shard(**waiting)

    async def _index(
        self, order: IndexSources, listed: _List, names: Sequence[str | SourceError]
    ) -> Report:
        async with open_pipeline(
            Sources(order.sources),
            into=Path(order.into),
            model=order.model,
            chunk_tokens=order.chunk_tokens,
            overlap_tokens=order.overlap_tokens,
        ) as (parts, store):
            # While it is held, the next shard need not load it again.
            self._embedders[order.into] = parts.embedder
            pipeline = replace(
                parts,
                documents=self._documents,
                chunks=self._chunks,
                strategy=order.strategy,
                cache=self._cache,
            )
            report = await pipeline.run(_each(names))
            if listed.is_over:
                if order.prune:
                    removed = set(await store.remove_where(listed.sources.is_gone))
                    report.removed = len(removed)
                    report.broken = [e for e in report.broken if e.uri not in removed]
                await store.sweep()
        return report


@dataclass(slots=True)
class _List:
    """The list of sources, as far as it has been followed in this life.

    Attributes:
        after: The last name that was taken.
        is_over: There are no more.
    """

    sources: Sources
    names: AsyncIterator[str | SourceError]
    after: str | None = None
    is_over: bool = False

    @classmethod
    async def behind(cls, after: str | None, sources: Sequence[str]) -> _List:
        """The list behind a name; all of it if the name is not there any more."""
        if after is not None:
            listed = cls._new(sources)
            async for name in listed.names:
                if _name(name) == after:
                    listed.after = after
                    return listed
        return cls._new(sources)

    @classmethod
    def _new(cls, sources: Sequence[str]) -> _List:
        found = Sources(sources)
        return cls(found, aiter(found))

    async def next(self, count: int) -> Sequence[str | SourceError]:
        """The next names, fewer only at the end."""
        some: list[str | SourceError] = []
        while len(some) < count:
            try:
                some.append(await anext(self.names))
            except StopAsyncIteration:
                self.is_over = True
                break
        if some:
            self.after = _name(some[-1])
        return some


def _name(source: str | SourceError) -> str:
    return source.uri if isinstance(source, SourceError) else source


async def _each(
    names: Sequence[str | SourceError],
) -> AsyncIterator[str | SourceError]:
    for name in names:
        yield name
