"""Results as they come, from a source without an end, to a consumer that is slow.

`astream` pulls an item when a worker is free and there is room for its result. Here the
consumer takes five results of an endless source and stops: what was started by then is
bounded, and leaving the block cancels it, awaits it and closes the source.
"""

import asyncio
from collections.abc import Iterator

from anabranch import astream

CONCURRENCY, BUFFER, WANTED = 4, 2, 5
started = 0
running = 0


def pages() -> Iterator[int]:
    """Every page number there is."""
    page = 0
    try:
        while True:
            page += 1
            yield page
    finally:
        print(f"the source was closed behind page {page}")


async def fetch(page: int) -> str:
    global started, running
    started += 1
    running += 1
    try:
        await asyncio.sleep(0.02 if page % 3 else 0.05)
        return f"page {page}"
    finally:
        running -= 1


async def main() -> None:
    taken = 0
    async with astream(
        fetch, pages(), concurrency=CONCURRENCY, buffer=BUFFER, ordered=True
    ) as results:
        async for result in results:
            taken += 1
            print(f"{result}: {started - taken} more are started and not taken")
            assert started - taken <= CONCURRENCY + BUFFER
            await asyncio.sleep(0.05)  # a slow consumer
            if taken == WANTED:
                break
    print(f"left the block: {running} jobs are running")


asyncio.run(main())
