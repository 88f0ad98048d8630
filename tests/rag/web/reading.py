"""Reads a page with a cache, to be killed before or after the cache has written it.

    python reading.py URL CACHE MOMENT

MOMENT is ``before``, ``after`` or ``never``. What was read is printed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from anabranch.rag import WebReader
from anabranch.rag.web import HttpCache
from anabranch.rag.web.cache import Stored

url, path, moment = sys.argv[1:]
put, confirm = HttpCache.put, HttpCache.confirm


async def killed(self: HttpCache, *args: object, write: object = None) -> None:
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    await write(self, *args)  # type: ignore[operator]
    if moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)


async def killed_put(self: HttpCache, url: str, variant: str, response: Stored) -> None:
    await killed(self, url, variant, response, write=put)


async def killed_confirm(self: HttpCache, *args: object) -> None:
    await killed(self, *args, write=confirm)


HttpCache.put = killed_put  # type: ignore[method-assign]
HttpCache.confirm = killed_confirm  # type: ignore[method-assign,assignment]


async def main() -> None:
    async with WebReader(allow_private=True, retry=None, cache=path) as reader:
        content = await reader.read(url)
    assert isinstance(content.data, bytes)
    print(content.data.decode(), flush=True)


asyncio.run(main())
