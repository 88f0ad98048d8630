"""What is said when Qdrant or Chroma is away, refuses, or is something else.

No real one is started for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from qdrant_client import AsyncQdrantClient

from anabranch.errors import StoreError, UsageError
from anabranch.rag.stores.chroma import ChromaStore
from anabranch.rag.stores.qdrant import QdrantStore
from anabranch.retry import Retry
from tests.rag.parts import HashEmbedder

AT_ONCE = Retry(3, wait=lambda state: 0.0)
Answer = Callable[[web.Request], web.Response]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class TestChroma:
    def test_a_server_that_is_away_or_busy_is_asked_again_and_then_told_of(self) -> None:
        asked: list[str] = []

        def busy(request: web.Request) -> web.Response:
            asked.append(request.headers["X-Chroma-Token"])
            return web.json_response({"error": "Busy", "message": "later"}, status=503)

        async def main() -> None:
            async with serving(busy) as url:
                store = ChromaStore(url, HashEmbedder(), token="s3cret", retry=3)
                with pytest.raises(StoreError, match=r"refuses \(503\)") as refused:
                    async with store:
                        pass
                assert "s3cret" not in str(refused.value)
                assert asked == ["s3cret"] * 3
            with pytest.raises(StoreError, match="connection was refused"):
                async with ChromaStore(url, HashEmbedder(), retry=1):
                    pass

        asyncio.run(main())

    def test_what_is_no_chroma_is_told_of(self) -> None:
        async def main() -> None:
            async with serving(lambda _: web.Response(text="<html>hello")) as url:
                with pytest.raises(StoreError, match="does not answer as a Chroma"):
                    async with ChromaStore(url, HashEmbedder()):
                        pass

        asyncio.run(main())

    @pytest.mark.parametrize("url", ["", "localhost:8000", "http://u:p" + "@localhost"])
    def test_an_address_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(UsageError, match="address"):
            ChromaStore(url, HashEmbedder())


class TestQdrant:
    """Its client over HTTP, which the local mode leaves out."""

    def test_a_server_that_is_away_or_refuses_is_told_of(self) -> None:
        def refusing(_: web.Request) -> web.Response:
            said = {"status": {"error": "Forbidden: no such key"}}
            return web.json_response(said, status=403)

        async def main() -> None:
            async with serving(refusing) as url:
                client = AsyncQdrantClient(url, check_compatibility=False)
                with pytest.raises(StoreError, match=r"refuses \(403\).*no such key"):
                    await QdrantStore(client, HashEmbedder()).prepare()
            with pytest.raises(StoreError, match=r"cannot be reached.*see that it runs"):
                await QdrantStore(client, HashEmbedder()).prepare()
            await client.close()

        asyncio.run(main())
