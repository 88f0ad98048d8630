"""Keeping a store up to date with what changes, as long as one likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import islice

from anabranch.errors import SourceError, UsageError
from anabranch.observe import Observer
from anabranch.rag.pipeline import Pipeline, Report
from anabranch.rag.readers.watching import Changes, Watch
from anabranch.rag.sources import FOUND_AT_ONCE, Sources
from anabranch.rag.stores import Sink
from anabranch.rag.stores.records import Remove

# Sources of the store that are looked for on disk in one turn of a thread.
LOOKED_AT_ONCE = 512


async def keep_up(
    pipeline: Pipeline,
    sources: Sources,
    *,
    settle: float = 0.2,
    poll: float | None = None,
    again: float = 3600.0,
    observer: Observer | None = None,
) -> AsyncGenerator[Report]:
    """Bring a store up to date with sources, and keep it so: a report each time.

    First it looks at every source, as :meth:`Pipeline.run` does, and removes from the
    store which of their files are gone; then, for each batch of changes, at what has
    changed. What changes while it works is done next. Killed at any moment and started
    again, it catches up: nothing that was stored is embedded again and nothing is missed.
    Close it, with :func:`contextlib.aclosing`, where you stop before it is cancelled.

    Files and folders are watched. URLs and modules are looked at with all the rest, at
    the start and every ``again`` seconds; so is what no watch was told of.

    Args:
        pipeline: Its reader reads these sources: ``sources`` itself, or a reader of files.
            Its ``strategy`` does not count: what changed is indexed anew, and what is gone
            is removed.
        sources: Open; each path among them must be there.
        settle: Seconds of quiet after a change before anything is done.
        poll: As for :class:`~anabranch.rag.Watch`.
        again: Seconds after which it looks at every source again.
        observer: Told of each run.

    Raises:
        UsageError: There is no path among the sources, or a value cannot be meant.
        SourceError: A path is not there or cannot be watched.
        StoreError: The store cannot be written: what was stored stands.
        ImportError: watchfiles is not installed.
    """
    if not sources.paths:
        raise UsageError("none of these sources is a path: nothing of them can be watched")
    if again <= 0:
        raise UsageError(f"again is {again} seconds: it must be more than 0")
    pipeline = replace(pipeline, strategy="upsert")
    loop = asyncio.get_running_loop()
    async with Watch(sources.paths, settle=settle, poll=poll) as watch:
        while True:
            report = await pipeline.run(sources, observer=observer)
            report.skipped = sources.skipped
            yield await _tidied(pipeline, report, sources.is_gone, among=None)
            until = loop.time() + again
            while (changes := await _next(watch, until)) is not None:
                report = await _follow(pipeline, sources, changes, observer)
                if report.sources or report.removed:
                    yield report


async def _follow(
    pipeline: Pipeline, sources: Sources, changes: Changes, observer: Observer | None
) -> Report:
    """Do what some changes ask for."""

    # Most sources are not touched: these need no look at the disk.
    def is_gone(uri: str) -> bool:
        return changes.touch(uri) and sources.is_gone(uri)

    async with aclosing(_found(changes)) as found:
        report = await pipeline.run(found, observer=observer)
    # Of a folder that is gone, only the store knows what was in it.
    among = changes.paths if await asyncio.to_thread(changes.are_files) else None
    return await _tidied(pipeline, report, is_gone, among=among)


async def _next(watch: Watch, until: float) -> Changes | None:
    """The next changes, or None when it is time."""
    try:
        async with asyncio.timeout_at(until):
            return await anext(watch)
    except TimeoutError:
        return None


async def _tidied(
    pipeline: Pipeline,
    report: Report,
    is_gone: Callable[[str], bool],
    *,
    among: Collection[str] | None,
) -> Report:
    """The report, after the store has been rid of what is gone.

    What may be gone is ``among`` these; any source of the store where that is None.
    """
    store = pipeline.store
    gone: list[str] = []
    stored = _stored(store) if among is None else _each(await store.versions(list(among)))
    async with aclosing(stored) as uris:
        async for some in uris:
            gone += await asyncio.to_thread(_those, is_gone, some)
    if gone:
        await store.write([Remove(uri) for uri in gone])
    report.removed = len(gone)
    # That they cannot be found is what their removal says already; of what came and went
    # meanwhile there is nothing to say.
    broken = [error.uri for error in report.broken]
    unsaid = set(await asyncio.to_thread(_those, is_gone, broken))
    report.broken = [error for error in report.broken if error.uri not in unsaid]
    report.sources -= len(broken) - len(report.broken)
    await store.sweep()
    return report


async def _stored(store: Sink) -> AsyncGenerator[Sequence[str]]:
    """The sources that a store holds, some at a time."""
    some: list[str] = []
    async with aclosing(store.sources()) as versions:
        async for version in versions:
            some.append(version.uri)
            if len(some) == LOOKED_AT_ONCE:
                yield some
                some = []
    yield some


async def _each(uris: Iterable[str]) -> AsyncGenerator[Sequence[str]]:
    yield list(uris)


def _those(is_gone: Callable[[str], bool], uris: Sequence[str]) -> list[str]:
    return [uri for uri in uris if is_gone(uri)]


async def _found(changes: Changes) -> AsyncGenerator[str | SourceError]:
    found = changes.found()
    while some := await asyncio.to_thread(lambda: list(islice(found, FOUND_AT_ONCE))):
        for uri in some:
            yield uri
