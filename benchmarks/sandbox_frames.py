"""A frame of numbers into a sandbox and out of it, beside copies of the same bytes."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from benchmarks.sandbox_cost import Cost, taken

Copy: TypeAlias = Callable[[], Awaitable[Any]]
Copied: TypeAlias = AsyncIterator[Copy]

MEMCPY, STREAM, ARROW = "floor: memcpy", "Arrow, as a table", "Arrow"
POOL = "ProcessPoolExecutor"
IN, OUT = "anabranch, isolated: in", "anabranch, isolated: out"
BOTH = "anabranch, isolated: in and out"
COLUMNS = 10


@asynccontextmanager
async def _memcpy(frame: Any) -> Copied:
    numbers = frame.to_numpy()

    async def copy() -> Any:
        return numbers.copy(order="K")

    yield copy


@asynccontextmanager
async def _stream(frame: Any) -> Copied:
    """A table that Arrow has already, written as a stream to memory and read."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame)

    async def copy() -> Any:
        return _written_and_read(table)

    yield copy


@asynccontextmanager
async def _arrow(frame: Any) -> Copied:
    """The frame as a table, written as a stream to memory, read, and a frame again."""
    import pyarrow as pa

    async def copy() -> Any:
        return _written_and_read(pa.Table.from_pandas(frame)).to_pandas()

    yield copy


def _written_and_read(table: Any) -> Any:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


@asynccontextmanager
async def _pool(frame: Any) -> Copied:
    """To an ordinary process and back, by pickling."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1) as pool:

        async def copy() -> Any:
            return await loop.run_in_executor(pool, _same, frame)

        yield copy


def _same(frame: Any) -> Any:
    return frame


def _ours(way: str) -> Callable[[Any], Any]:
    """A fresh process for each, but for what comes out only: that is there before."""

    @asynccontextmanager
    async def opened(frame: Any) -> Copied:
        from anabranch.sandbox import Limits, Sandbox

        limits = Limits(memory_bytes=2**31, result_bytes=2**29)
        async with Sandbox(imports=["numpy", "pandas"], limits=limits) as sandbox:
            if way == OUT:
                async with sandbox.session() as session:
                    await session.run("kept = frame.copy()", {"frame": frame})
                    yield lambda: session.run("kept")
            else:
                source = "frame" if way == BOTH else "frame.shape[0]"
                yield lambda: sandbox.run(source, {"frame": frame})

    return opened


WAYS: Mapping[str, Callable[[Any], Any]] = {
    MEMCPY: _memcpy,
    STREAM: _stream,
    ARROW: _arrow,
    POOL: _pool,
    IN: _ours(IN),
    OUT: _ours(OUT),
    BOTH: _ours(BOTH),
}


async def measure(label: str, *, megabytes: int, count: int) -> dict[str, float | None]:
    """So many copies of a frame of so many megabytes, one after the other."""
    import numpy as np
    import pandas as pd

    rows = megabytes * 1_000_000 // 8 // COLUMNS
    numbers = np.random.default_rng(7).random((COLUMNS, rows)).T
    frame = pd.DataFrame(numbers, columns=[f"column {n}" for n in range(COLUMNS)])
    costs: list[Cost] = []
    async with WAYS[label](frame) as copy:
        _check(await copy(), frame)
        for _ in range(count):
            with taken() as cost:
                copied = await copy()
            costs.append(cost)
            del copied
    return {
        "megabytes": megabytes,
        "ms": statistics.median(cost.wall_s for cost in costs) * 1e3,
        "cpu_ms": statistics.mean(cost.cpu_s for cost in costs) * 1e3,
    }


def _check(copied: Any, frame: Any) -> None:
    """That it is the same frame, where it is one at all."""
    import pandas as pd

    value = copied.unwrap() if hasattr(copied, "unwrap") else copied
    if isinstance(value, pd.DataFrame) and not value.equals(frame):
        raise RuntimeError("what came out is another frame")
