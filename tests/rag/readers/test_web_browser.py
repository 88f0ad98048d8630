"""Pages that need a browser, rendered by a real Chromium that has no network."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pytest
from aiohttp import web

from anabranch.errors import SourceError, UsageError
from anabranch.rag import BrowserReader, documents
from anabranch.rag.types import Content
from anabranch.rag.web import browser
from tests.rag.web.site import Page, Site, html, moved

pytest.importorskip("playwright")
try:
    browser._installed()
except UsageError:
    pytest.skip("no Chromium is installed", allow_module_level=True)


def rendering(*sites: Site, **options: Any) -> BrowserReader:
    # Chromium's own sandbox is not to be had for root, as in containers.
    given: dict[str, Any] = {
        "allow_private": [site.host for site in sites],
        "retry": None,
        "sandbox": os.geteuid() != 0,
        "settle": 1.0,
    }
    return BrowserReader(**given | options)


def text_of(content: Content) -> str:
    return "\n".join(document.text for document in documents(content))


def scripted(script: str) -> str:
    return (
        html(text="before", head="<title>Scripted</title>") + f"<script>{script}</script>"
    )


SHOW = "document.querySelector('p').textContent"


def test_scripts_run_and_what_they_fetch_is_fetched_by_the_reader():
    async def echo(request: web.BaseRequest) -> web.Response:
        said = {"text": f"{request.method} {(await request.read()).decode()}"}
        return web.json_response(said)

    async def main() -> None:
        pages: dict[str, Page] = {
            "/a": scripted(
                f"""{SHOW} = 'after';
                fetch('/echo', {{method: 'POST', body: 'question'}})
                    .then(answer => answer.json())
                    .then(data => document.body.append(data.text))"""
            ),
            "/old": moved("/a"),
            "/echo": echo,
            "/plain": web.Response(text="no page"),
            "/missing-script": html(text="words", head='<script src="/no.js"></script>'),
            "/picture": html(text="words") + '<img src="/image.png">',
            "/linked": scripted("document.body.innerHTML += '<a href=/plain>x</a>'"),
        }
        async with Site(pages) as site, rendering(site) as reader:
            content = await reader.read(site / "a#part")
            assert content.uri == site / "a"
            assert content.media_type == "text/html"
            assert "after" in text_of(content)
            assert "POST question" in text_of(content)
            assert "before" not in text_of(content)

            content = await reader.read(site / "old")
            assert content.uri == site / "old"
            assert content.metadata["url"] == site / "a"

            content = await reader.read(site / "plain")
            assert content.data == b"no page"
            assert "words" in text_of(await reader.read(site / "missing-script"))
            await reader.read(site / "picture")
            assert "/image.png" not in site.asked

            crawl = reader.crawl(site / "linked")
            given = [item async for item in crawl.contents()]
            names = {item.uri for item in given if isinstance(item, Content)}
            assert names == {site / "linked", site / "plain"}

    asyncio.run(main())


def test_a_page_reaches_nothing_that_the_reader_may_not(monkeypatch: pytest.MonkeyPatch):
    """Neither by fetching, frames, redirects, sockets, peers nor by going there itself."""
    # Chromium has checks of its own, which may change: ours must do without.
    own = "LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"
    flags = (*browser._NO_NETWORK, f"--disable-features={own}")
    monkeypatch.setattr(browser, "_NO_NETWORK", flags)

    async def main() -> None:
        async with Site({"/secret": "secret", "/": "secret"}) as other:
            reach = (
                f"fetch('{other / 'secret'}', {{mode: 'no-cors'}})",
                "fetch('http://169.254.169.254/latest/')",
                "fetch('/moved')",
                f"fetch('{other / 'secret'}', {{method: 'POST', mode: 'no-cors'}})",
                f"navigator.sendBeacon('{other / 'secret'}', 'x')",
                f"new WebSocket('ws://{other.host}/')",
                f"new EventSource('{other / 'secret'}')",
                f"new RTCPeerConnection({{iceServers: [{{urls: 'stun:{other.host}'}}]}})",
                f"document.body.innerHTML += '<iframe src={other / 'secret'}></iframe>'",
                f"window.open('{other / 'secret'}')",
                "navigator.serviceWorker.register('/worker.js')",
                "fetch('file:///etc/passwd')",
                f"setTimeout(() => location = '{other / 'secret'}', 200)",
            )
            tries = "".join(f"try {{ {each} }} catch (e) {{}};" for each in reach)
            quiet = (
                "window.addEventListener('unhandledrejection', e => e.preventDefault());"
            )
            pages: dict[str, Page] = {
                "/a": scripted(quiet + tries),
                "/moved": moved(other / "secret"),
                "/worker.js": web.Response(text="", content_type="text/javascript"),
            }
            async with Site(pages) as site, rendering(site) as reader:
                try:
                    got = text_of(await reader.read(site / "a"))
                except SourceError as error:
                    got = error.reason
                assert "secret" not in got
                assert "root:" not in got
                assert site.asked["/moved"] == 1
            assert not other.requests
            for refused in (other / "secret", "http://[::1]:9/", "file:///etc/passwd"):
                async with rendering(site) as reader:
                    with pytest.raises(SourceError):
                        await reader.read(refused)

    asyncio.run(main())


@pytest.mark.exhaustive
def test_a_page_that_never_ends_is_left_and_one_that_is_too_large_is_refused():
    async def main() -> None:
        pages: dict[str, Page] = {
            "/loop": scripted("while (true) {}"),
            "/large": scripted("document.body.append('x'.repeat(200000))"),
            "/poll": scripted(f"{SHOW} = 'polls'; setInterval(() => fetch('/poll'), 50)"),
            "/fine": html(text="fine"),
        }
        async with (
            Site(pages) as site,
            rendering(site, timeout=8.0, max_bytes=100_000, settle=0.3) as reader,
        ):
            with pytest.raises(SourceError, match="is not rendered within 8 s"):
                await reader.read(site / "loop")
            with pytest.raises(SourceError, match=r"when rendered; the limit is"):
                await reader.read(site / "large")
            assert "polls" in text_of(await reader.read(site / "poll"))
            assert "fine" in text_of(await reader.read(site / "fine"))

    asyncio.run(main())


@pytest.mark.exhaustive
def test_nothing_is_left_of_one_page_for_the_next():
    async def main() -> None:
        script = f"{SHOW} = String(localStorage.x) + document.cookie;"
        script += "localStorage.x = 'left'; document.cookie = 'left=1'"
        async with Site({"/a": scripted(script)}) as site, rendering(site) as reader:
            for _ in range(2):
                assert "left" not in text_of(await reader.read(site / "a"))

    asyncio.run(main())


def refusal(reader: BrowserReader, error: type[Exception]) -> str:
    async def main() -> str:
        with pytest.raises(error) as caught:
            async with reader:
                pass
        return str(caught.value)

    return asyncio.run(main())


@pytest.mark.exhaustive
def test_a_browser_that_does_not_start_is_told():
    said = refusal(BrowserReader(executable="/bin/false", sandbox=False), UsageError)
    assert said.startswith("/bin/false does not start")


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(browser, "NAMES", ())
    assert "give its path" in refusal(BrowserReader(), UsageError)
    monkeypatch.setitem(sys.modules, "playwright.async_api", None)
    said = refusal(BrowserReader(), ImportError)
    assert "pip install 'anabranch[browser]'" in said


def test_a_reader_that_is_not_open_says_so():
    with pytest.raises(RuntimeError, match="async with BrowserReader"):
        asyncio.run(BrowserReader().read("http://example.org/"))
    with pytest.raises(UsageError):
        BrowserReader(tabs=0)
