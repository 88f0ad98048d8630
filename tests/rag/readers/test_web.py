"""Pages over HTTP, from real servers on the loopback."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aiohttp import web

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import WebReader, documents
from anabranch.rag.types import Content

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KIB = 1024
VAGUE = "application/octet-stream"


async def site(**handlers: Handler) -> tuple[web.AppRunner, str]:
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}{{tail:.*}}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def local(timeout: float = 30.0, max_bytes: int = 64 * KIB) -> WebReader:
    """A reader that may ask this machine, once."""
    return WebReader(timeout, max_bytes, allow_private=True, retry=None)


def fetch(handler: Handler, path: str = "/page", max_bytes: int = 64 * KIB) -> Content:
    async def main() -> Content:
        runner, base = await site(page=handler)
        try:
            async with local(max_bytes=max_bytes) as reader:
                return await reader.read(base + path)
        finally:
            await runner.cleanup()

    return asyncio.run(main())


def refusal(handler: Handler) -> str:
    with pytest.raises(SourceError) as caught:
        fetch(handler)
    return caught.value.reason


def giving(body: bytes, content_type: str = "text/html", **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        response = web.Response(body=body, headers=headers)
        response.headers["Content-Type"] = content_type
        return response

    return handler


def raw(answer: bytes | None, timeout: float = 10.0) -> str:
    """What is said of a server that answers these bytes, or nothing, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()  # Until the client has gone.
            else:
                writer.write(answer)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        served.set()

    served = asyncio.Event()

    async def main() -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with local(timeout=timeout, max_bytes=KIB) as reader:
                with pytest.raises(SourceError) as caught:
                    await reader.read(f"http://127.0.0.1:{port}/")
            await served.wait()
        return caught.value.reason

    return asyncio.run(main())


def test_a_page_comes_with_type_charset_and_final_url():
    content = fetch(giving(b"<p>caf\xe9", "Text/HTML; Charset=ISO-8859-1"), "/page#part")
    assert content.uri.endswith("/page")
    assert content.media_type == "text/html"
    assert content.charset == "iso-8859-1"
    assert content.metadata == {"url": content.uri}
    assert [document.text for document in documents(content)] == ["café"]


def test_redirects_are_followed_and_the_name_stays():
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/page":
            raise web.HTTPFound("/page/end.html")
        return web.Response(text="<p>x", content_type="text/html")

    content = fetch(handler)
    assert content.uri.endswith("/page")
    assert str(content.metadata["url"]).endswith("/page/end.html")


@pytest.mark.parametrize(
    ("declared", "path", "body", "media_type"),
    [
        ("text/plain", "/page", b"x", "text/plain"),
        ("text/plain", "/page.md", b"x", "text/markdown"),
        ("text/plain", "/page.py?raw=1", b"x", "text/x-python"),
        ("text/plain", "/page.html", b"x", "text/plain"),
        ("application/xhtml+xml", "/page", b"x", "text/html"),
        (VAGUE, "/page.PDF", b"x", "application/pdf"),
        (VAGUE, "/page.rst", b"x", "text/x-rst"),
        (VAGUE, "/page", b"%PDF-1.7 x", "application/pdf"),
        (VAGUE, "/page", b"\n<!DOCTYPE html>x", "text/html"),
        (VAGUE, "/page", b"words", "text/plain"),
    ],
)
def test_the_type_is_declared_named_or_seen(
    declared: str, path: str, body: bytes, media_type: str
):
    assert fetch(giving(body, declared), path).media_type == media_type


def test_a_type_that_cannot_be_read_is_named():
    assert refusal(giving(b"x", "image/png")).startswith("is image/png, which cannot be")
    assert refusal(giving(b"a\0b", VAGUE)).startswith(f"is {VAGUE}, which cannot be")


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "404 Not Found"), (503, "503 Service Unavailable"), (304, "304")],
)
def test_a_status_that_is_no_success_is_told(status: int, said: str):
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status)

    assert refusal(handler).startswith(f"the server answered {said}")


def test_every_success_is_accepted():
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=203, text="x")

    assert fetch(handler).data == b"x"


def test_a_page_of_exactly_the_limit_is_read():
    assert len(fetch(giving(b"x" * 64 * KIB)).data) == 64 * KIB  # type: ignore[arg-type]


def test_too_large_a_page_is_refused_announced_or_not():
    async def streamed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 16 * KIB)
        except ConnectionError:
            return response

    assert refusal(giving(b"x" * 200 * KIB)) == (
        "is 0.2 MiB; the limit is 65,536 bytes: raise max_bytes"
    )
    assert refusal(streamed).startswith("is larger than it announced; the limit is 65,536")


def test_a_page_that_unpacks_to_too_much_is_refused():
    bomb = gzip.compress(bytes(8 << 20))
    handler = giving(bomb, "text/html", **{"Content-Encoding": "gzip"})
    assert len(bomb) < 64 * KIB
    assert refusal(handler).startswith("is larger than it announced")


def test_packed_pages_are_unpacked():
    handler = giving(gzip.compress(b"<p>x"), "text/html", **{"Content-Encoding": "gzip"})
    assert fetch(handler).data == b"<p>x"


def test_a_silent_server_is_left_after_the_timeout():
    said = raw(None, timeout=0.05)
    assert said == "no complete answer within 0.05 s: try again later"


def test_redirects_in_a_circle_end():
    async def handler(_: web.Request) -> web.Response:
        raise web.HTTPFound("/page")

    assert refusal(handler) == "redirects in a circle: check the address"


def test_a_redirect_out_of_the_web_is_not_followed():
    async def handler(_: web.Request) -> web.Response:
        raise web.HTTPFound("file:///etc/passwd")

    assert refusal(handler) == "leads to an address that is not on the web"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection without an answer"),
        (b"nonsense\r\n\r\n", "is not HTTP that can be understood"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nshort", "broke off"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip",
            "could not be unpacked",
        ),
        (b"HTTP/1.1 299 \r\nContent-Type: image/gif\r\n\r\n", "is image/gif"),
        (b"HTTP/1.1 200 OK\r\n\r\na\0b", "is a binary file of unknown type, which"),
        (b"HTTP/1.1 599 \r\n\r\n", "the server answered 599 (no reason given)"),
    ],
)
def test_a_server_that_misbehaves_is_told_in_a_sentence(answer: bytes, said: str):
    assert said in raw(answer)


def test_an_address_that_leads_nowhere_is_told_in_a_sentence():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def read(url: str) -> str:
            async with local(timeout=10) as reader:
                with pytest.raises(SourceError) as caught:
                    await reader.read(url)
            return caught.value.reason

        refused = asyncio.run(read(f"http://127.0.0.1:{port}/"))
        assert refused == "the connection was refused: nothing is listening there"
        for url in ("ftp://x/y", "x.html", "file:///etc/passwd"):
            assert asyncio.run(read(url)).startswith("is not a web address")
        for url in ("http://", "http://[::1", "http://a:99999/", "http://" + "x" * 300):
            assert "address" in asyncio.run(read(url)), url
        name = asyncio.run(read("http://nowhere.invalid/"))
        assert name.startswith(("the host name cannot be found", "cannot connect"))


def test_a_server_without_tls_is_told():
    async def main() -> str:
        runner, base = await site(page=giving(b"x"))
        try:
            async with local(timeout=10) as reader:
                with pytest.raises(SourceError) as caught:
                    await reader.read(base.replace("http:", "https:") + "/page")
            return caught.value.reason
        finally:
            await runner.cleanup()

    assert "TLS" in asyncio.run(main())


def test_many_pages_share_one_session():
    seen: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        seen.add(request.transport.get_extra_info("peername"))
        return web.Response(text=request.path)

    async def main() -> list[Content]:
        runner, base = await site(page=handler)
        try:
            async with local() as reader:
                one_by_one = [await reader.read(f"{base}/page{n}") for n in range(20)]
                reads = (reader.read(f"{base}/page{n}") for n in range(50))
                return one_by_one[:0] + list(await asyncio.gather(*reads))
        finally:
            await runner.cleanup()

    contents = asyncio.run(main())
    assert [content.data for content in contents] == [b"/page%d" % n for n in range(50)]
    assert len(seen) <= 50


def test_wrong_use_is_told():
    with pytest.raises(RuntimeError, match="async with WebReader"):
        asyncio.run(WebReader().read("http://127.0.0.1/"))
    with pytest.raises(UsageError):
        WebReader(timeout=0.0)
    with pytest.raises(UsageError):
        WebReader(max_bytes=0)


def test_a_server_cannot_command_the_terminal_in_what_it_says():
    async def hostile(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 \x1b[2Jgone\x9b\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> str:
        server = await asyncio.start_server(hostile, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, local() as reader:
            with pytest.raises(SourceError) as caught:
                await reader.read(f"http://127.0.0.1:{port}/")
        return caught.value.reason

    said = asyncio.run(main())
    assert said.isprintable()
    assert "404 \N{REPLACEMENT CHARACTER}[2Jgone" in said
