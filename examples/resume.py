"""A run over a service that throttles, cut off and started again.

The service is an HTTP server on this machine. It answers 429 with `Retry-After` whenever
more than three requests are in it at once. The first run is ended by an error half way;
the second one does only the rest, since what was answered is in the journal.

No limit is configured: `adaptive` finds how many requests at once the server bears, and
`retry` waits for as long as the server asks for. The client and the server are aiohttp,
which the extra ``rag`` brings.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, web

from anabranch import Adaptive, Retry, amap

BEARS = 3
WORDS = [f"word-{number}" for number in range(60)]


class Service:
    """Writes words in capitals, but not for everybody at once."""

    def __init__(self) -> None:
        self.answered = self.refused = self.inside = 0

    async def answer(self, request: web.Request) -> web.Response:
        if self.inside == BEARS:
            self.refused += 1
            return web.Response(status=429, headers={"Retry-After": "0.05"})
        self.inside += 1
        try:
            await asyncio.sleep(0.01)
            self.answered += 1
            return web.Response(text=request.match_info["word"].upper())
        finally:
            self.inside -= 1


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{word}", service.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class Cut(Exception):
    """What ends the first run."""


async def main(journal: Path) -> None:
    service = Service()
    cut_at = 25

    async with serving(service) as url, ClientSession(raise_for_status=True) as session:

        async def shout(word: str) -> str:
            if service.answered >= cut_at:
                raise Cut
            async with session.get(f"{url}/{word}") as response:
                return await response.text()

        async def run() -> list[str]:
            return await amap(
                shout,
                WORDS,
                adaptive=Adaptive(start=8, max=32),
                retry=Retry(50),
                timeout=10,
                journal=journal,
            )

        try:
            await run()
        except Cut:
            print(f"first run: cut off when {service.answered} words were answered")

        before = service.answered
        cut_at = len(WORDS) * 2
        words = await run()
        asked = service.answered - before
        print(f"second run: {len(words)} words from {words[0]} to {words[-1]}")
        print(f"it asked for {asked}, and had {len(words) - asked} from the journal")
        print(f"the server said 429 {service.refused} times")
        assert words == [word.upper() for word in WORDS]
        assert 0 < asked < len(WORDS)
        assert service.refused > 0


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(Path(folder) / "words.db"))
