"""Everyone's way to run a function over many items: ours, our peers' and the floors.

Each is a coroutine function of ``fn``, ``items`` and the number of workers that runs every
job and says how many it ran. Where it has a choice it keeps the results, in their order,
in the cheapest form it offers. A *floor* is the least that Python can do: it neither
isolates jobs nor handles a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from types import coroutine
from typing import Any, TypeAlias

Job: TypeAlias = Callable[[Any], Coroutine[Any, Any, Any]]  # jobs of any kind
Run: TypeAlias = Callable[[Job, Iterable[Any], int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Runner:
    """One row.

    Attributes:
        run: What is measured.
        share: Of a case's jobs: slow runners get fewer, so that a round stays short.
        uvloop: Whether it runs on uvloop's event loop.
    """

    run: Run
    share: float = 1.0
    uvloop: bool = False


# ------------------------------------------------------------------------------ the floors


async def _floor(fn: Job, items: Iterable[Any], workers: int) -> int:
    results: list[Any] = []
    pending = enumerate(items)

    async def work() -> None:
        for index, item in pending:
            results.append(None)
            results[index] = await fn(item)

    await _crew(work, workers)
    return len(results)


async def _floor_with_context(fn: Job, items: Iterable[Any], workers: int) -> int:
    results: list[Any] = []
    pending = enumerate(items)

    async def work() -> None:
        for index, item in pending:
            results.append(None)
            context = copy_context()
            results[index] = await _driven(context, context.run(fn, item))

    await _crew(work, workers)
    return len(results)


async def _floor_without_results(fn: Job, items: Iterable[Any], workers: int) -> int:
    done = 0
    pending = iter(items)

    async def work() -> None:
        nonlocal done
        for item in pending:
            await fn(item)
            done += 1

    await _crew(work, workers)
    return done


async def _crew(work: Callable[[], Coroutine[Any, Any, None]], workers: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())


@coroutine
def _driven(context: Context, job: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    try:
        while True:
            yield context.run(job.send, None)
    except StopIteration as ended:
        return ended.value


# --------------------------------------------------------------- what people write by hand


async def _gather_semaphore(fn: Job, items: Iterable[Any], workers: int) -> int:
    gate = asyncio.Semaphore(workers)

    async def guarded(item: Any) -> Any:
        async with gate:
            return await fn(item)

    return len(await asyncio.gather(*[guarded(item) for item in items]))


async def _group_semaphore(fn: Job, items: Iterable[Any], workers: int) -> int:
    gate = asyncio.Semaphore(workers)

    async def guarded(item: Any) -> Any:
        async with gate:
            return await fn(item)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(guarded(item)) for item in items]
    return len([task.result() for task in tasks])


async def _queue(
    fn: Job, items: Iterable[Any], workers: int, *, size: int = 0, keep: bool = True
) -> int:
    """The recipe in Python's documentation of ``asyncio.Queue``, here with results.

    There the queue has no bound and is filled first. With one, as people adapt it to
    input that is too long for that, it is filled meanwhile.
    """
    queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(size)
    results: list[Any] = []
    done = 0

    async def work() -> None:
        nonlocal done
        while True:
            index, item = await queue.get()
            if keep:
                results[index] = await fn(item)
            else:
                await fn(item)
            done += 1
            queue.task_done()

    if size:
        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        for entry in enumerate(items):
            if keep:
                results.append(None)
            await queue.put(entry)
    else:
        for entry in enumerate(items):
            if keep:
                results.append(None)
            queue.put_nowait(entry)
        tasks = [asyncio.create_task(work()) for _ in range(workers)]
    await queue.join()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return done


# ----------------------------------------------------------------------------------- peers


async def _llamaindex_run_jobs(fn: Job, items: Iterable[Any], workers: int) -> int:
    from llama_index.core.async_utils import run_jobs

    return len(await run_jobs([fn(item) for item in items], workers=workers))


async def _llamaindex_batch_gather(fn: Job, items: Iterable[Any], workers: int) -> int:
    from llama_index.core.async_utils import batch_gather

    return len(await batch_gather([fn(item) for item in items], batch_size=workers))


async def _langchain_abatch(fn: Job, items: Iterable[Any], workers: int) -> int:
    from langchain_core.runnables import RunnableConfig, RunnableLambda

    runnable = RunnableLambda(fn)
    config = RunnableConfig(max_concurrency=workers)
    return len(await runnable.abatch(list(items), config))


async def _aiometer_amap(fn: Job, items: Iterable[Any], workers: int) -> int:
    import aiometer

    done = 0
    async with aiometer.amap(fn, list(items), max_at_once=workers) as results:
        async for _ in results:
            done += 1
    return done


async def _aiostream_map(
    fn: Job, items: Iterable[Any], workers: int, *, ordered: bool
) -> int:
    from aiostream import stream

    done = 0
    source = stream.iterate(items)
    mapped = stream.map(source, fn, ordered=ordered, task_limit=workers)
    async with mapped.stream() as results:
        async for _ in results:
            done += 1
    return done


async def _streamable_map(
    fn: Job, items: Iterable[Any], workers: int, *, ordered: bool
) -> int:
    from streamable import stream

    done = 0
    async for _ in stream(items).map(fn, concurrency=workers, as_completed=not ordered):
        done += 1
    return done


async def _async_batch_llm(fn: Job, items: Iterable[Any], workers: int) -> int:
    from async_batch_llm import CallableStrategy, CallOutcome, process_prompts

    given = list(items)  # its items are prompts: text

    async def call(prompt: str, **_: object) -> CallOutcome[Any]:
        return CallOutcome(await fn(given[int(prompt)]))

    prompts = [str(index) for index in range(len(given))]
    batch = await process_prompts(CallableStrategy(call), prompts, concurrency=workers)
    return sum(result.success for result in batch.results)


# -------------------------------------------------------------------------------------- we


async def _amap(fn: Job, items: Iterable[Any], workers: int) -> int:
    from anabranch import amap

    return len(await amap(fn, items, concurrency=workers))


async def _amap_with_options(fn: Job, items: Iterable[Any], workers: int) -> int:
    from anabranch import amap
    from anabranch.jobs import RateLimit

    rate = RateLimit(requests=1e9, per=1.0)  # never reached: what asking costs
    results = await amap(fn, items, concurrency=workers, retry=3, timeout=60.0, rate=rate)
    return len(results)


async def _astream(fn: Job, items: Iterable[Any], workers: int, *, ordered: bool) -> int:
    from anabranch import astream

    done = 0
    async with astream(fn, items, concurrency=workers, ordered=ordered) as results:
        async for _ in results:
            done += 1
    return done


async def _run_jobs(fn: Job, items: Iterable[Any], workers: int) -> int:
    from anabranch import run_jobs

    return len(await run_jobs([fn(item) for item in items], workers=workers))


# Ours last: a picture sets the last rows off.
RUNNERS = {
    "floor": Runner(_floor),
    "floor with contexts": Runner(_floor_with_context),
    "floor on uvloop": Runner(_floor, uvloop=True),
    "floor without results": Runner(_floor_without_results),
    "Queue recipe": Runner(_queue),
    "Queue recipe, bounded": Runner(partial(_queue, size=32)),
    "Queue recipe without results": Runner(partial(_queue, keep=False)),
    "Queue recipe, bounded, without results": Runner(partial(_queue, size=32, keep=False)),
    "gather + Semaphore": Runner(_gather_semaphore, share=0.2),
    "TaskGroup + Semaphore": Runner(_group_semaphore, share=0.2),
    "async-batch-llm": Runner(_async_batch_llm, share=0.01),
    "LangChain abatch": Runner(_langchain_abatch, share=0.05),
    "aiostream, ordered": Runner(partial(_aiostream_map, ordered=True), share=0.05),
    "aiostream": Runner(partial(_aiostream_map, ordered=False), share=0.05),
    "aiometer amap": Runner(_aiometer_amap, share=0.2),
    "streamable, ordered": Runner(partial(_streamable_map, ordered=True), share=0.2),
    "streamable": Runner(partial(_streamable_map, ordered=False), share=0.2),
    "LlamaIndex batch_gather": Runner(_llamaindex_batch_gather, share=0.2),
    "LlamaIndex run_jobs": Runner(_llamaindex_run_jobs, share=0.3),
    "run_jobs": Runner(_run_jobs),
    "amap with options": Runner(_amap_with_options),
    "amap on uvloop": Runner(_amap, uvloop=True),
    "astream, ordered": Runner(partial(_astream, ordered=True)),
    "astream": Runner(partial(_astream, ordered=False)),
    "amap": Runner(_amap),
}
