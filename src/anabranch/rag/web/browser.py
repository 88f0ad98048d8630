# pyright: basic
# Playwright's types are partly unknown to a strict checker; what is taken from it is
# strings, bytes and dictionaries of strings.
"""A browser without a network: it runs a page's scripts, and we fetch what they ask for.

Chromium is started so that it can reach nothing: every host is unknown to it, and so is
the proxy that it must use for everything, loopback included. Each request of a page is
intercepted and answered with what the reader's own fetcher got, so that all of its rules
hold: which addresses may be connected to, after DNS and redirects too; turns of hosts;
limits of size and time. What cannot be intercepted, such as web sockets and peer
connections, goes nowhere. Each page has a context of its own: nothing is left of one for
the next.

Pictures, media and fonts have no text, and are not fetched.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from anabranch.errors import SourceError, UsageError
from anabranch.jobs.check import check_count, checked_number
from anabranch.rag.readers.files import megabytes
from anabranch.rag.web.client import Answer
from anabranch.rag.web.fetch import Fetcher
from anabranch.rag.web.urls import normalise

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import BrowserContext, Page, Route

NAMES: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_NO_NETWORK: Final = (
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=http://proxy.invalid:9",
    "--proxy-bypass-list=<-loopback>",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-background-networking",
)
MOST_REQUESTS: Final = 500
"""Of one page: more are not answered."""
_WITHOUT_TEXT = frozenset({"image", "media", "font"})
# What the client says itself, or what concerns one connection only.
_NOT_SENT = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "user-agent"}
)
# What was true of the packed body; cookies of one page are not kept.
_NOT_GIVEN = frozenset(
    {":reason", "content-encoding", "content-length", "set-cookie", "transfer-encoding"}
)


class Browser:
    """One Chromium for a reader. Open it before, close it after.

    Args:
        executable: Its path; by default the first that is installed under a usual name.
        tabs: Pages that are rendered at once.
        timeout: Seconds for one page.
        settle: Seconds, after a page has loaded, in which its requests may end.
        sandbox: Whether Chromium confines the processes that run scripts.
    """

    def __init__(
        self,
        executable: str | os.PathLike[str] | None,
        *,
        tabs: int,
        timeout: float,
        settle: float,
        sandbox: bool,
    ) -> None:
        check_count("tabs", tabs)
        checked_number("settle", settle, 0.0)
        self._executable = executable
        self._most_tabs = tabs
        self._tabs = asyncio.Semaphore(tabs)
        self._timeout = timeout
        self._settle = settle
        self._sandbox = sandbox
        self._chromium: Chromium | None = None
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Start it.

        Raises:
            ImportError: Playwright is missing; it has the command that installs it.
            UsageError: There is no Chromium, or it does not start.
        """
        try:
            from playwright.async_api import Error, async_playwright
        except ImportError as error:
            raise ImportError(
                "BrowserReader needs playwright: pip install 'anabranch[browser]'"
            ) from error
        path = os.fspath(self._executable or _installed())
        async with AsyncExitStack() as opening:
            playwright = await opening.enter_async_context(async_playwright())
            try:
                chromium = await playwright.chromium.launch(
                    executable_path=path,
                    args=list(_NO_NETWORK),
                    chromium_sandbox=self._sandbox,
                )
            except Error as error:
                hint = (
                    "root cannot have its sandbox: run as another user, or give "
                    "sandbox=False where pages are trusted or the machine is a container"
                    if self._sandbox and os.name == "posix" and os.geteuid() == 0
                    else "check that the path is that of a Chromium"
                )
                raise UsageError(f"{path} does not start: {hint}") from error
            opening.push_async_callback(chromium.close)
            # Of the loop that runs now.
            self._tabs = asyncio.Semaphore(self._most_tabs)
            self._chromium = chromium
            self._stack = opening.pop_all()

    async def aclose(self) -> None:
        """End it. Idempotent."""
        self._chromium = None
        await self._stack.aclose()

    async def render(self, uri: str, answer: Answer, fetcher: Fetcher) -> Answer:
        """A page as it is after its scripts have run.

        Args:
            uri: Its name, for errors.
            answer: What the server sent for it.
            fetcher: What fetches the rest.

        Raises:
            SourceError: It takes too long, or becomes too large.
        """
        from playwright.async_api import Error

        if self._chromium is None:
            raise RuntimeError(
                "BrowserReader is not open: use it in 'async with BrowserReader()'"
            )
        async with self._tabs:
            try:
                async with asyncio.timeout(self._timeout):
                    context = await self._chromium.new_context(
                        service_workers="block", accept_downloads=False
                    )
                    try:
                        html, url = await self._rendered(context, answer, fetcher)
                    finally:
                        await context.close()
            except TimeoutError as error:
                reason = f"is not rendered within {self._timeout:g} s: try again later"
                raise SourceError(uri, reason) from error
            except Error as error:
                reason = f"cannot be rendered: {error.message.splitlines()[0]}"
                raise SourceError(uri, reason) from error
        data = html.encode("utf-8", "replace")
        if len(data) > fetcher.size.most_bytes:
            limit = megabytes(fetcher.size.most_bytes)
            raise SourceError(
                uri, f"is {megabytes(len(data))} when rendered; the limit is {limit}"
            )
        headers = {**answer.headers, "content-type": "text/html; charset=utf-8"}
        return Answer(url, answer.status, headers, data)

    async def _rendered(
        self, context: BrowserContext, answer: Answer, fetcher: Fetcher
    ) -> tuple[str, str]:
        from playwright.async_api import TimeoutError as NotSettled

        supplier = _Supplier(answer, fetcher)
        await context.route("**/*", supplier.supply)
        page: Page = await context.new_page()
        await page.goto(answer.url, wait_until="load", timeout=self._timeout * 1000)
        if self._settle:
            with suppress(NotSettled):  # some pages ask for ever
                await page.wait_for_load_state("networkidle", timeout=self._settle * 1000)
        html = await page.content()
        await context.unroute_all(behavior="ignoreErrors")
        return html, _web_address(page.url) or answer.url


class _Supplier:
    """What answers the requests of one page."""

    def __init__(self, answer: Answer, fetcher: Fetcher) -> None:
        self._first: Answer | None = answer
        self._fetcher = fetcher
        self._requests = 0

    async def supply(self, route: Route) -> None:
        from playwright.async_api import Error

        try:
            answer = await self._answer(route)
            if answer is None:
                await route.abort("blockedbyclient")
            else:
                await route.fulfill(
                    status=answer.status,
                    headers=_kept(answer.headers, _NOT_GIVEN),
                    body=answer.body,
                )
        except Error:
            pass  # the page is gone: nobody waits for it

    async def _answer(self, route: Route) -> Answer | None:
        request = route.request
        self._requests += 1
        first = self._first
        if first is not None and request.url == first.url and request.method == "GET":
            self._first = None
            return first
        if request.resource_type in _WITHOUT_TEXT or self._requests > MOST_REQUESTS:
            return None
        try:
            return await self._fetcher.exchange(
                request.url,
                method=request.method,
                headers=_kept(request.headers, _NOT_SENT),
                data=request.post_data_buffer,
            )
        except SourceError:
            return None


def _kept(headers: Mapping[str, Any], without: frozenset[str]) -> dict[str, str]:
    return {name: str(text) for name, text in headers.items() if name not in without}


def _web_address(url: str) -> str | None:
    try:
        return normalise(url)
    except ValueError:
        return None  # about:blank, say


def _installed() -> str:
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    raise UsageError(
        "no Chromium is installed under a usual name: install one, or give its path as "
        "executable="
    )
