"""A stage of the user's, applied to what flows by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from anabranch.errors import SourceError, StoreError
from anabranch.jobs import Outcome, astream
from anabranch.jobs.executors import Dispatcher, ThreadExecutor, executor_of
from anabranch.jobs.options import JobOptions
from anabranch.rag.pipeline.cache import TransformCache
from anabranch.rag.pipeline.parts import Failed, Part, unbroken
from anabranch.rag.plan import Version
from anabranch.rag.stages import Stage
from anabranch.rag.types import Chunk, Document

Item = TypeVar("Item", bound=Document | Chunk)


class Watch:
    """Told when a stage is at work, and on how many items; by itself it does nothing."""

    def began(self, stage: str, taken: int) -> None: ...

    def ended(self, stage: str, done: int) -> None: ...


def transformed(
    stage: Stage[Item],
    parts: AsyncGenerator[Part[Item] | Failed],
    *,
    cache: TransformCache | None,
    watch: Watch,
) -> AsyncGenerator[Part[Item] | Failed]:
    """The parts with what the stage makes of their items, in their order.

    A part with an item on which it fails is a failed version.
    """
    if stage.is_plain:
        return unbroken(_in_threads(stage, parts, watch))
    return unbroken(_one_by_one(stage, parts, cache, watch))


async def _in_threads(
    stage: Stage[Item],
    parts: AsyncGenerator[Part[Item] | Failed],
    watch: Watch,
) -> AsyncGenerator[Part[Item] | Failed]:
    """A part a turn of a thread, for functions that cost less than a turn does."""
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(
        stage.concurrency, thread_name_prefix=f"anabranch-{stage.name}"
    )

    def all_of(items: Sequence[Item]) -> Sequence[Item] | _Broken[Item]:
        made: list[Item] = []
        for item in items:
            try:
                made += stage.results(item, stage.fn(item))
            except Exception as error:
                return _Broken(item, error)
        return made

    async def apply(part: Part[Item] | Failed) -> Part[Item] | Failed:
        if isinstance(part, Failed) or not part.items:
            return part
        watch.began(stage.name, len(part.items))
        made = await loop.run_in_executor(threads, all_of, part.items)
        if isinstance(made, _Broken):
            watch.ended(stage.name, 0)
            return made.failed(stage, part)
        watch.ended(stage.name, len(made))
        return replace(part, items=made)

    try:
        async with (
            aclosing(parts),
            astream(
                apply,
                parts,
                concurrency=stage.concurrency,
                buffer=stage.concurrency,
                ordered=True,
            ) as made,
        ):
            async for part in made:
                yield part
    finally:
        await asyncio.to_thread(threads.shutdown)


async def _one_by_one(
    stage: Stage[Item],
    parts: AsyncGenerator[Part[Item] | Failed],
    cache: TransformCache | None,
    watch: Watch,
) -> AsyncGenerator[Part[Item] | Failed]:
    """A job an item, whatever part it is of."""
    options: JobOptions = {**stage.options}
    broken: Version | None = None
    async with AsyncExitStack() as held:
        call = _callable(stage, options, held)

        async def apply(place: _Place[Item]) -> Sequence[Item]:
            if place.item is None or place.part.version is broken:
                return ()
            watch.began(stage.name, 1)
            done = 0
            try:
                made = await _made(stage, place.item, call, cache)
                done = len(made)
                return made
            finally:
                watch.ended(stage.name, done)

        await held.enter_async_context(aclosing(parts))
        outcomes = await held.enter_async_context(
            astream(
                apply,
                _places(parts),
                errors="return",
                buffer=2 * stage.concurrency,
                ordered=True,
                **options,
            )
        )
        gathered = _Gathered(stage)
        async for outcome in outcomes:
            if outcome.error is not None:
                broken = outcome.item.part.version  # the rest of it is not worth the calls
            if (part := gathered.add(outcome)) is not None:
                yield part


def _callable(
    stage: Stage[Item], options: JobOptions, held: AsyncExitStack
) -> Callable[[Item], Awaitable[Any]]:
    """The stage's function as one that is awaited, wherever it runs."""
    given = options.pop("executor", None)
    if given is None and stage.is_async:
        return stage.fn
    if given is None or given == "thread":
        executor = executor_of(ThreadExecutor(stage.concurrency), stage.fn)
    else:
        executor = executor_of(given, stage.fn)
    if executor is not given:
        held.push_async_callback(executor.aclose)
    dispatcher: Dispatcher[Item, Any] = Dispatcher(executor, stage.fn)
    held.push_async_callback(dispatcher.aclose)
    return dispatcher


async def _made(
    stage: Stage[Item],
    item: Item,
    call: Callable[[Item], Awaitable[Any]],
    cache: TransformCache | None,
) -> Sequence[Item]:
    if cache is None or not stage.is_cached:
        return stage.results(item, await call(item))
    key = stage.key(item)
    if (known := await cache.get(key)) is not None:
        return stage.read(item, known)
    results = stage.results(item, await call(item))
    await cache.put(key, stage.written(item, results))
    return results


@dataclass(frozen=True, slots=True)
class _Place(Generic[Item]):
    """An item of a part, or a part that has none."""

    part: Part[Item] | Failed
    item: Item | None


async def _places(
    parts: AsyncIterator[Part[Item] | Failed],
) -> AsyncGenerator[_Place[Item]]:
    async for part in parts:
        if isinstance(part, Failed) or not part.items:
            yield _Place(part, None)
        else:
            for item in part.items:
                yield _Place(part, item)


class _Gathered(Generic[Item]):
    """Items that come back one by one, as the parts that they are of."""

    def __init__(self, stage: Stage[Item]) -> None:
        self._stage = stage
        self._items: list[Item] = []
        self._count = 0
        self._broken: _Broken[Item] | None = None

    def add(
        self, outcome: Outcome[_Place[Item], Sequence[Item]]
    ) -> Part[Item] | Failed | None:
        """The part, if this was its last item.

        Raises:
            StoreError: The cache is broken, which is no fault of the item's source.
        """
        part, item = outcome.item.part, outcome.item.item
        if isinstance(part, Failed) or item is None:
            return part
        if isinstance(outcome.error, StoreError):
            raise outcome.error
        if isinstance(outcome.error, Exception):
            self._broken = self._broken or _Broken(item, outcome.error)
        else:
            self._items += outcome.result()
        self._count += 1
        if self._count < len(part.items):
            return None
        items, broken = self._items, self._broken
        self._items, self._count, self._broken = [], 0, None
        if broken is not None:
            return broken.failed(self._stage, part)
        return replace(part, items=items)


@dataclass(frozen=True, slots=True)
class _Broken(Generic[Item]):
    item: Item
    error: Exception

    def failed(self, stage: Stage[Item], part: Part[Item]) -> Failed:
        name = self.item.id if isinstance(self.item, Document) else self.item.document_id
        where = "" if name == part.version.uri else f" on {name}"
        reason = f"stage {stage.name!r} failed{where}"
        reason += f" ({type(self.error).__name__}: {self.error})"
        return Failed(part.version, SourceError(part.version.uri, reason))
