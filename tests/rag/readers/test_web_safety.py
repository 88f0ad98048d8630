"""Nobody makes a reader ask where it must not, whatever names, redirects and DNS say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from anabranch.errors import SourceError, UsageError
from anabranch.rag import Sources, WebReader
from anabranch.rag.sources import hosts_of
from tests.rag.web.site import Site, html, moved, reader

LOOPBACK = "127.0.0.1"
GetAddrInfo = Callable[..., list[tuple[Any, ...]]]


async def refusal(web_reader: WebReader, url: str) -> str:
    with pytest.raises(SourceError) as caught:
        await web_reader.read(url)
    return caught.value.reason


def names_mean(
    monkeypatch: pytest.MonkeyPatch, *answers: dict[str, list[str]]
) -> list[str]:
    """Let the DNS answer so, each time another way; what was asked is written down."""
    asked: list[str] = []
    left = list(answers)

    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        name = host.decode() if isinstance(host, bytes) else host
        asked.append(name)
        known = left.pop(0) if len(left) > 1 else left[0]
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in known[name]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.9.1", "10.0.0.1", "169.254.169.254", "192.168.0.1", "0.0.0.0",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]",
        "[fe80::1]", "[fd00:ec2::254]", "[ff02::1]", "224.0.0.1", "100.100.100.200",
        "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet_is_refused_in_any_spelling(host: str):
    async def main() -> str:
        async with WebReader(retry=None, timeout=5) as web_reader:
            return await refusal(web_reader, f"http://{host}:9/")

    said = asyncio.run(main())
    assert said.startswith(("leads to the private address", "is not a valid address")), said


def test_loopback_is_refused_by_default_and_nothing_reaches_it():
    async def main() -> Site:
        async with Site({"/a": "secret"}) as site, WebReader(retry=None) as web_reader:
            said = await refusal(web_reader, site / "a")
            assert said.startswith("leads to the private address 127.0.0.1: allow its host")
            return site

    assert not asyncio.run(main()).requests


def test_a_host_is_allowed_at_its_port_only():
    async def main() -> None:
        async with (
            Site({"/a": "public"}) as site,
            Site({"/a": "secret"}) as other,
            reader(site) as web_reader,
        ):
            assert (await web_reader.read(site / "a")).data == b"public"
            assert "private address" in await refusal(web_reader, other / "a")
            assert not other.requests

    asyncio.run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_private_address_is_not_followed(status: int):
    async def main() -> None:
        async with Site({"/a": "secret"}) as other:
            targets = (
                other / "a",
                "http://169.254.169.254/latest/meta-data/",
                "//[::1]:9/",
            )
            pages = {f"/{n}": moved(to, status) for n, to in enumerate(targets)}
            async with Site(pages) as site, reader(site) as web_reader:
                for path in "012":
                    said = await refusal(web_reader, site / path)
                    assert said.startswith("leads to the private address"), said
            assert not other.requests

    asyncio.run(main())


def test_a_redirect_through_a_name_that_is_private_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
):
    names_mean(monkeypatch, {"inside.example": [LOOPBACK]})

    async def main() -> None:
        async with Site({"/a": "secret"}) as other:
            port = other.host.partition(":")[2]
            pages = {"/a": moved(f"http://inside.example:{port}/a")}
            async with Site(pages) as site, reader(site) as web_reader:
                assert "private address 127.0.0.1" in await refusal(web_reader, site / "a")
            assert not other.requests

    asyncio.run(main())


@pytest.mark.parametrize(
    "addresses",
    [[LOOPBACK], ["::1"], ["::ffff:127.0.0.1"], ["fe80::1"], ["10.0.0.1", "::1"]],
)
def test_a_name_that_is_private_is_refused(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
):
    names_mean(monkeypatch, {"evil.example": addresses})

    async def main() -> str:
        async with WebReader(retry=None, timeout=5) as web_reader:
            return await refusal(web_reader, "http://evil.example:9/")

    assert asyncio.run(main()).startswith("leads to the private address")


def test_of_a_name_with_several_addresses_only_public_ones_are_tried(
    monkeypatch: pytest.MonkeyPatch,
):
    tried: list[Any] = []

    async def connect(_loop: object, _sock: object, address: Any) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    names_mean(monkeypatch, {"mixed.example": [LOOPBACK, "8.8.8.8", "10.0.0.1"]})
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)

    async def main() -> None:
        async with WebReader(retry=None, timeout=5) as web_reader:
            await refusal(web_reader, "http://mixed.example/")

    asyncio.run(main())
    assert tried == ["8.8.8.8"]


def test_a_name_that_changes_its_meaning_helps_nobody(monkeypatch: pytest.MonkeyPatch):
    """The address that was checked is the one that is connected to: no second look-up."""
    tried: list[Any] = []

    async def connect(_loop: object, _sock: object, address: Any) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    public = {"rebind.example": ["8.8.8.8"]}
    asked = names_mean(monkeypatch, public, {"rebind.example": [LOOPBACK]})
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)

    async def main() -> None:
        # Without the client's memory of names, so that it looks up again.
        async with WebReader(retry=None, timeout=5) as web_reader:
            await refusal(web_reader, "http://rebind.example/")
            assert len(asked) == 1
            session: Any = web_reader._visitor.fetcher._client._session
            session.connector.clear_dns_cache()
            assert "private" in await refusal(web_reader, "http://rebind.example/")

    asyncio.run(main())
    assert set(tried) == {"8.8.8.8"}


def test_the_gate_at_the_socket_holds_when_the_resolver_does_not(
    monkeypatch: pytest.MonkeyPatch,
):
    from anabranch.rag.web import guard

    monkeypatch.setattr(guard.Guard, "_passed", lambda self, host, port, found: found)
    monkeypatch.setattr(guard.Guard, "admit", lambda self, host, port: None)
    names_mean(monkeypatch, {"evil.example": [LOOPBACK]})

    async def main() -> None:
        async with Site({"/": "secret"}) as site, WebReader(retry=None) as web_reader:
            port = site.host.partition(":")[2]
            for host in ("evil.example", LOOPBACK):
                said = await refusal(web_reader, f"http://{host}:{port}/")
                assert "private address 127.0.0.1" in said
            assert not site.requests

    asyncio.run(main())


def test_a_name_that_is_allowed_may_be_anywhere(monkeypatch: pytest.MonkeyPatch):
    names_mean(monkeypatch, {"intranet.example": [LOOPBACK]})

    async def main() -> None:
        async with Site({"/a": "intern"}) as site:
            port = site.host.partition(":")[2]
            async with WebReader(allow_private=["intranet.example"]) as web_reader:
                content = await web_reader.read(f"http://intranet.example:{port}/a")
                assert content.data == b"intern"

    asyncio.run(main())


@pytest.mark.parametrize("rules_too", [False, True])
def test_links_sitemaps_and_rules_lead_a_crawl_nowhere_private(rules_too: bool):
    async def main() -> None:
        async with Site({"/a": "secret", "/map.xml": "secret"}) as other:
            sitemap = f"<urlset><url><loc>{other / 'a'}</loc></url></urlset>"
            pages: dict[str, Any] = {
                "/": html(other / "a", "http://169.254.169.254/", "/moved"),
                "/moved": moved(other / "a"),
                "/map.xml": web.Response(text=sitemap),
            }
            if rules_too:
                pages["/robots.txt"] = moved(other / "a")
            async with Site(pages) as site, reader(site) as web_reader:
                for crawl in (
                    web_reader.crawl(site / "", within=[site.host, other.host]),
                    web_reader.sitemap(site / "map.xml", within=[site.host, other.host]),
                ):
                    got = [item async for item in crawl.contents()]
                    assert not any(b"secret" in str(item).encode() for item in got)
            assert not other.requests

    asyncio.run(main())


def test_sources_allow_what_they_are_told_and_nothing_else():
    async def read(site: Site, **options: Any) -> bytes | str:
        async with Sources([site / "a"], **options) as sources:
            try:
                content = await sources.read(site / "a")
            except SourceError as error:
                return error.reason
            assert isinstance(content.data, bytes)
            return content.data

    async def main() -> None:
        async with Site({"/a": "here"}) as site:
            assert "private address" in str(await read(site))
            assert await read(site, allow_private=hosts_of([site / "b"])) == b"here"
            assert await read(site, allow_private=True) == b"here"

    asyncio.run(main())


def test_hosts_of_names_are_those_of_their_addresses():
    names = [
        "docs/",
        "python:json",
        "http://A.example/x",
        "https://[::1]/",
        "http://[",
        "x",
    ]
    assert hosts_of(names) == ["a.example:80", "[::1]:443"]


def test_what_may_be_private_is_a_list():
    with pytest.raises(UsageError):
        WebReader(allow_private="127.0.0.1")


def test_a_browser_agent_cannot_break_out_of_its_header():
    for agent in ("", "a\r\nX: y", "ä"):
        with pytest.raises(UsageError):
            WebReader(user_agent=agent)
