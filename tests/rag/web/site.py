"""A real web server on the loopback, for what real servers do and should not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from anabranch.rag import WebReader

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Any: a handler of a test takes whatever aiohttp's server gives it.
Page = str | bytes | web.Response | Callable[[Any], Awaitable[web.StreamResponse]]


class Site:
    """Pages by path; what is not there is 404.

    A string is HTML. ``robots.txt`` is not there unless it is given.
    """

    def __init__(self, pages: Mapping[str, Page] | None = None) -> None:
        # Any: a test adds pages of whatever kind.
        self.pages: Any = {} if pages is None else pages
        self.asked: Counter[str] = Counter()
        self.requests: list[web.BaseRequest] = []
        self.at_once = self.most_at_once = 0
        self.delay = 0.0

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=0.1
        )
        await self._runner.setup()
        server = web.TCPSite(self._runner, "127.0.0.1", 0)
        await server.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        self.url = f"http://{self.host}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    def __truediv__(self, path: str) -> str:
        return f"{self.url}/{path}"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path if hasattr(request, "raw_path") else request.path_qs
        self.asked[path] += 1
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            page = self.pages.get(path)
            if callable(page):
                answering: Any = page(request)
                answer: web.StreamResponse = await answering
                return answer
            if page is None:
                return web.Response(status=404)
            if isinstance(page, web.Response):
                return web.Response(
                    status=page.status, headers=page.headers.copy(), body=page.body
                )
            return web.Response(body=page, content_type="text/html")
        finally:
            self.at_once -= 1


def reader(*sites: Site, **options: Any) -> WebReader:
    """A reader that may ask these sites, and asks them once."""
    return WebReader(
        **{"retry": None, "allow_private": [site.host for site in sites], **options}
    )


def html(*links: str, text: str = "", head: str = "") -> str:
    """A page with links."""
    body = "".join(f'<a href="{link}">x</a>' for link in links)
    return (
        f"<!doctype html><html><head>{head}</head><body><p>{text}</p>{body}</body></html>"
    )


def moved(to: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": to})


def answering(*responses: web.Response) -> Handler:
    """One response after the other; the last one for ever."""
    left = list(responses)

    async def handler(_: web.Request) -> web.StreamResponse:
        given = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(
            status=given.status, headers=given.headers.copy(), body=given.body
        )

    return handler


async def reset(request: web.Request) -> web.StreamResponse:
    """Breaks the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()  # to nobody


class FakeClock:
    """Sleeping takes no time: it is written down, and the time is advanced."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._ahead = 0.0

    def now(self) -> float:
        return time.time() + self._ahead

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._ahead += seconds
        await asyncio.sleep(0)
