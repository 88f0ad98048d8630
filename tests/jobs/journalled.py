"""A run with a journal, for a test to kill: ``journalled.py JOURNAL LOG ITEMS``.

Each item that is done is appended to LOG before its result is handed on, and each result
that was handed on is appended to LOG as well.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from anabranch.jobs import astream

JOURNAL, LOG, ITEMS = sys.argv[1:4]
log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def square(item: int) -> int:
    await asyncio.sleep(random.random() / 500)
    os.write(log, f"done {item}\n".encode())
    return item * item


async def main() -> None:
    results = astream(square, range(int(ITEMS)), journal=JOURNAL, concurrency=8)
    async for value in results:
        os.write(log, f"seen {value}\n".encode())


asyncio.run(main())
print("complete")
