"""Lists of pages, from real servers that are slow, lie, go in circles and break off."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from anabranch.errors import SourceError, UsageError
from anabranch.rag import Content, Document, WebReader
from anabranch.rag.web import Duplicate, Pages
from tests.rag.web.site import FakeClock, Page, Site, answering, html, moved, reader, reset

SOMEBODY = "ann:secret"


def told(item: Content | SourceError) -> str:
    """A page's path, or why it is not there."""
    return item.reason if isinstance(item, SourceError) else "/" + item.uri.split("/", 3)[3]


async def contents(pages: Pages) -> list[Content | SourceError]:
    return [item async for item in pages.contents()]


def listed(site: Site, *paths: str, **options: Any) -> tuple[list[str], Pages]:
    """What becomes of some pages, and the object that told it."""

    async def main() -> tuple[list[str], Pages]:
        async with site, reader(site) as web_reader:
            pages = web_reader.pages([site / path for path in paths], **options)
            return [told(item) for item in await contents(pages)], pages

    return asyncio.run(main())


def test_pages_come_in_the_order_of_the_list_whichever_is_slow():
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(text="slow")

    site = Site({"/0": slow, **{f"/{n}": f"page {n}" for n in range(1, 30)}})
    got, pages = listed(site, *map(str, range(30)))
    assert got == [f"/{n}" for n in range(30)]
    assert (pages.given, pages.broken) == (30, 0)


def test_errors_are_values_in_their_place():
    site = Site({"/a": "a", "/c": "c"})
    got, pages = listed(site, "a", "b", "c")
    assert got == ["/a", "the server answered 404 Not Found", "/c"]
    assert (pages.given, pages.broken) == (2, 1)


def test_the_first_error_is_raised_where_that_is_wanted():
    site = Site({"/a": "a"})
    with pytest.raises(SourceError, match="404"):
        listed(site, "a", "b", "c", fail_on_error=True)


def test_a_page_that_is_named_twice_is_fetched_once_and_reported():
    site = Site({"/a": "a"})
    got, pages = listed(site, "a", "x/../a#part", "a")
    assert got == ["/a"]
    assert site.asked == {"/a": 1}
    assert [(d.uri, d.of, d.by) for d in pages.duplicates] == [
        (site / "x/../a#part", site / "a", "address"),
        (site / "a", site / "a", "address"),
    ]


def test_pages_that_are_the_same_by_redirect_canonical_address_or_content_are_one():
    site = Site(
        {
            "/a": "one",
            "/b": moved("/a"),
            "/c": html(text="two", head='<link rel="canonical" href="/main">'),
            "/d": html(text="too", head='<link rel="canonical" href="/main">'),
            "/e": "one",
        }
    )
    got, pages = listed(site, "a", "b", "c", "d", "e")
    assert got == ["/a", "/c"]
    assert pages.duplicates == [
        Duplicate(site / "b", site / "a", "redirect"),
        Duplicate(site / "d", site / "c", "canonical"),
        Duplicate(site / "e", site / "a", "content"),
    ]


def test_each_address_is_given_where_that_is_wanted():
    got, pages = listed(Site({"/a": "a", "/b": "a"}), "a", "b", "a", dedupe=False)
    assert got == ["/a", "/b", "/a"]
    assert not pages.duplicates


def test_addresses_are_pulled_as_they_are_needed_and_closed():
    pulled = 0
    closed = False

    async def endless(site: Site) -> AsyncIterator[str]:
        nonlocal pulled, closed
        try:
            while True:
                pulled += 1
                yield site / str(pulled)
        finally:
            closed = True

    async def main() -> None:
        async with Site() as site, reader(site, concurrency=4) as web_reader:
            found = web_reader.pages(endless(site)).contents()
            for _ in range(10):
                assert isinstance(await anext(found), SourceError)
            await found.aclose()

    asyncio.run(main())
    assert pulled < 30
    assert closed


def test_a_list_is_source_and_reader_of_a_pipeline():
    async def main() -> list[str]:
        async with Site({"/a": "a", "/c": "c"}) as site, reader(site) as web_reader:
            pages = web_reader.pages([site / "a", site / "b", site / "c"])
            got = [
                told(await pages.read(uri) if isinstance(uri, str) else uri)
                async for uri in pages
            ]
            with pytest.raises(SourceError, match="not one of the pages"):
                await pages.read(site / "a")
            return got

    assert asyncio.run(main()) == ["/a", "the server answered 404 Not Found", "/c"]


def test_documents_are_loaded_with_title_headings_and_links():
    page = html("/b", "b#x", "mailto:a@b", head="<title> The  title</title>", text="words")
    page = page.replace("<p>", "<h1>First</h1><h2>Second ¶</h2><p>")

    async def main() -> None:
        async with Site({"/a": page}) as site, reader(site) as web_reader:
            loaded = await web_reader.load([site / "a", site / "b", site / "a"])
            [document] = loaded
            assert isinstance(document, Document)
            assert document.metadata == {
                "url": site / "a",
                "title": "The title",
                "headings": ["First", "Second"],
                "links": [site / "b"],
            }
            assert "words" in document.text
            assert [error.uri for error in loaded.errors] == [site / "b"]
            assert [duplicate.uri for duplicate in loaded.duplicates] == [site / "a"]

    asyncio.run(main())


def test_loading_raises_the_first_error_where_that_is_wanted():
    async def main(path: str) -> None:
        async with Site({"/deep": "<div>" * 6000}) as site, reader(site) as web_reader:
            with pytest.raises(SourceError):
                await web_reader.load([site / path], dedupe=False, fail_on_error=True)
            loaded = await web_reader.load([site / path], dedupe=False)
            assert (len(loaded), len(loaded.errors)) == (0, 1)

    for path in ("missing", "deep"):
        asyncio.run(main(path))


def test_headings_and_links_are_metadata_where_that_is_wanted():
    async def main() -> None:
        page = html("/b").replace("<p>", "<h1>Title</h1><p>")
        async with Site({"/a": page}) as site, reader(site, outline=True) as web_reader:
            content = await web_reader.read(site / "a")
        assert content.metadata["headings"] == ["Title"]
        assert content.metadata["links"] == [site / "b"]

    asyncio.run(main())


def test_one_string_is_not_a_list():
    with pytest.raises(UsageError, match="not one"):
        WebReader().pages("http://example.org/")


def test_one_host_has_no_more_requests_at_once_than_it_should():
    async def main() -> int:
        site = Site({f"/{n}": f"page {n}" for n in range(40)})
        site.delay = 0.005
        async with site, reader(site) as web_reader:
            await contents(web_reader.pages(site / str(n) for n in range(40)))
        return site.most_at_once

    assert asyncio.run(main()) == 4


# -- servers that misbehave


def test_a_broken_connection_is_tried_again():
    calls = 0

    async def twice(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        return await reset(request) if calls <= 2 else web.Response(text="fine")

    async def main() -> None:
        clock = FakeClock()
        async with (
            Site({"/a": twice, "/b": reset}) as site,
            reader(site, retry=3, clock=clock) as web_reader,
        ):
            assert (await web_reader.read(site / "a")).data == b"fine"
            # The client may have tried the second time by itself.
            assert 1 <= len(clock.slept) <= 2
            with pytest.raises(SourceError, match="closed the connection"):
                await web_reader.read(site / "b")
            assert site.asked["/b"] >= 3

    asyncio.run(main())


def test_what_will_not_pass_is_not_tried_again():
    async def main() -> None:
        clock = FakeClock()
        async with Site() as site, reader(site, retry=3, clock=clock) as web_reader:
            for url in (site / "missing", "http://10.0.0.1/", "http://[::1]/"):
                with pytest.raises(SourceError):
                    await web_reader.read(url)
            assert site.asked == {"/missing": 1}
        assert not clock.slept

    asyncio.run(main())


def test_retry_after_is_obeyed_by_all_requests_to_the_host():
    busy = web.Response(status=429, headers={"Retry-After": "7"})

    async def main() -> list[float]:
        clock = FakeClock()
        pages: dict[str, Page] = {"/a": answering(busy, web.Response(text="a")), "/b": "b"}
        async with (
            Site(pages) as site,
            Site({"/c": "c"}) as other,
            reader(site, other, retry=3, clock=clock) as web_reader,
        ):
            await web_reader.read(site / "a")
            before = len(clock.slept)
            await web_reader.read(other / "c")
            assert len(clock.slept) == before
            return clock.slept

    slept = asyncio.run(main())
    assert 7 <= slept[0] <= 8


def test_another_request_to_a_busy_host_waits_for_it():
    busy = web.Response(status=503, headers={"Retry-After": "7"})

    async def main() -> None:
        clock = FakeClock()
        async with (
            Site({"/a": busy, "/b": "b"}) as site,
            reader(site, clock=clock) as web_reader,
        ):
            with pytest.raises(SourceError, match="503"):
                await web_reader.read(site / "a")
            await web_reader.read(site / "b")
        assert len(clock.slept) == 1
        assert 6 < clock.slept[0] <= 7

    asyncio.run(main())


def test_a_host_that_asks_for_hours_is_left_alone():
    async def main() -> None:
        busy = web.Response(status=429, headers={"Retry-After": "86400"})
        clock = FakeClock()
        async with (
            Site({"/a": busy, "/b": "b"}) as site,
            reader(site, retry=3, clock=clock) as web_reader,
        ):
            with pytest.raises(SourceError, match="429"):
                await web_reader.read(site / "a")
            with pytest.raises(SourceError, match="asked for no requests for 86,"):
                await web_reader.read(site / "b")
            assert site.asked == {"/a": 1}
        assert not clock.slept

    asyncio.run(main())


def test_a_delay_parts_the_requests_to_a_host():
    from anabranch.rag.web import Manners

    async def main() -> list[float]:
        clock = FakeClock()
        site = Site({f"/{n}": f"page {n}" for n in range(4)})
        manners = Manners(per_host=1, delay=2.0)
        async with site, reader(site, manners=manners, clock=clock) as web_reader:
            await contents(web_reader.pages(site / str(n) for n in range(4)))
        return clock.slept

    slept = asyncio.run(main())
    assert len(slept) == 3
    assert all(1.5 < seconds <= 2 for seconds in slept)


def test_redirects_end_and_each_is_told():
    pages: dict[str, Any] = {f"/{n}": moved(f"/{n + 1}") for n in range(20)}
    pages |= {
        "/self": moved("/self"),
        "/left": moved("/right"),
        "/right": moved("/left"),
        "/none": web.Response(status=302),
        "/mail": moved("mailto:ann@example.org"),
        "/user": moved(f"http://{SOMEBODY}@127.0.0.1/"),
        "/there": moved("../there/./page", 308),
        "/there/page": "there",
    }
    paths = ("self", "left", "0", "none", "mail", "user", "there")
    got, _ = listed(Site(pages), *paths)
    assert got == [
        "redirects in a circle: check the address",
        "redirects in a circle: check the address",
        "redirects more than 10 times: give the address it leads to",
        "the server answered 302 Found",
        "leads to an address that is not on the web",
        "leads to an address that is not on the web",
        "/there",
    ]


def test_a_charset_that_is_a_lie_or_unknown_does_no_harm():
    def page(charset: str, body: bytes) -> web.Response:
        return web.Response(
            body=body, headers={"Content-Type": f"text/html; charset={charset}"}
        )

    pages: dict[str, Any] = {
        "/1": page("utf-8", "<p>café".encode("latin-1")),
        "/2": page("no-such-charset", "<p>café".encode()),
        "/3": page("utf-16", b"\xef\xbb\xbf<p>caf\xc3\xa9"),
        "/4": page("base64", "<p>a café".encode()),
    }

    async def main() -> list[str]:
        async with Site(pages) as site, reader(site) as web_reader:
            return [d.text for d in await web_reader.load([site / p[1:] for p in pages])]

    assert asyncio.run(main()) == ["caf\ufffd", "café", "café", "a café"]


def test_a_length_that_is_a_lie_is_told_or_cut():
    async def lying(length: int, body: bytes) -> str:
        async def serve(
            requests: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await requests.readuntil(b"\r\n\r\n")
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}"
            )
            writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with WebReader(allow_private=True, retry=None) as web_reader:
                try:
                    content = await web_reader.read(f"http://127.0.0.1:{port}/")
                except SourceError as error:
                    return error.reason
                assert isinstance(content.data, bytes)
                return content.data.decode()

    assert asyncio.run(lying(9, b"short")).startswith("the answer broke off")
    longer = asyncio.run(lying(5, b"longer"))
    assert longer == "longe" or longer.startswith("the server's answer is not HTTP")
    assert asyncio.run(lying(1 << 40, b"x")).startswith("is 1,048,576.0 MiB; the limit is")


def test_a_bomb_is_refused_without_going_off():
    bomb = gzip.compress(bytes(64 << 20))
    response = web.Response(
        body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    )
    got, _ = listed(Site({"/bomb": response}), "bomb")
    assert got == ["is larger than it announced; the limit is 16.0 MiB: raise max_bytes"]


def test_a_packed_page_that_breaks_off_is_told():
    packed = gzip.compress(b"words " * 10_000)[:-20]
    response = web.Response(
        body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    )
    got, _ = listed(Site({"/a": response}), "a")
    assert got == ["the answer broke off: try again"]


def test_a_server_that_drips_is_left_after_the_time_out():
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.005)
        except (ConnectionError, asyncio.CancelledError):
            return response

    async def main() -> None:
        async with Site({"/a": drip}) as site, reader(site, timeout=0.1) as web_reader:
            with pytest.raises(SourceError, match=r"no complete answer within 0.1 s"):
                await web_reader.read(site / "a")

    asyncio.run(main())


def test_cookies_of_one_page_are_no_business_of_another():
    async def main() -> None:
        cookie = web.Response(text="a", headers={"Set-Cookie": "who=ann"})
        async with (
            Site({"/a": cookie, "/b": "b"}) as site,
            reader(allow_private=["localhost"]) as web_reader,
        ):
            # By a name: clients keep no cookies of addresses anyway.
            base = site.url.replace("127.0.0.1", "localhost")
            for path in "ab":
                await web_reader.read(f"{base}/{path}")
            assert "Cookie" not in site.requests[1].headers

    asyncio.run(main())
