"""The cache: what has not changed is not sent again, whatever dies."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from anabranch.errors import SourceError, StoreError, UsageError
from anabranch.rag import WebReader
from anabranch.rag.web import HttpCache
from tests.rag.web.site import FakeClock, Handler, Site, reader

READING = Path(__file__).parents[1] / "web" / "reading.py"


def versioned(**headers: str) -> tuple[Handler, list[str]]:
    """A page whose text is the last of the list; 304 for who knows it."""
    texts = ["one"]

    async def handler(request: web.BaseRequest) -> web.Response:
        etag = f'"{texts[-1]}"'
        said = {"ETag": etag, "Content-Type": "text/plain", **headers}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag, **headers})
        return web.Response(body=texts[-1].encode(), headers=said)

    return handler, texts


def reads(
    tmp_path: Path, handler: Handler, times: int = 2, **options: Any
) -> tuple[list[Any], Site]:
    """What is read, each time by another reader with the same cache."""

    async def main() -> tuple[list[Any], Site]:
        got: list[Any] = []
        async with Site({"/a": handler}) as site:
            for _ in range(times):
                async with reader(site, cache=tmp_path / "cache", **options) as web_reader:
                    got.append((await web_reader.read(site / "a")).data)
        return got, site

    return asyncio.run(main())


def test_a_page_that_has_not_changed_is_given_from_the_cache(tmp_path: Path):
    handler, _ = versioned()
    got, site = reads(tmp_path, handler, times=3)
    assert got == [b"one"] * 3
    asked = [request.headers.get("If-None-Match") for request in site.requests]
    assert asked == [None, '"one"', '"one"']


def test_a_page_that_has_changed_is_fetched_and_kept(tmp_path: Path):
    handler, texts = versioned()

    async def main() -> None:
        async with Site({"/a": handler}) as site:
            async with reader(site, cache=tmp_path / "cache") as web_reader:
                for text in ("one", "two", "two"):
                    texts.append(text)
                    content = await web_reader.read(site / "a")
                    assert content.data == text.encode()
                    assert content.media_type == "text/plain"
            assert site.requests[-1].headers["If-None-Match"] == '"two"'

    asyncio.run(main())


def test_last_modified_is_asked_about_where_there_is_no_etag(tmp_path: Path):
    when = "Mon, 01 Jan 2024 00:00:00 GMT"

    async def handler(request: web.BaseRequest) -> web.Response:
        if request.headers.get("If-Modified-Since") == when:
            return web.Response(status=304)
        headers = {"Last-Modified": when, "Content-Type": "text/plain"}
        return web.Response(body=b"one", headers=headers)

    got, site = reads(tmp_path, handler)
    assert got == [b"one"] * 2
    assert len(site.requests) == 2


def test_a_fresh_page_is_not_asked_about_until_it_is_stale(tmp_path: Path):
    handler, _ = versioned(**{"Cache-Control": "max-age=60"})
    clock = FakeClock()
    assert len(reads(tmp_path, handler, clock=clock)[1].requests) == 1

    async def main() -> None:
        async with Site({"/a": handler}) as site:
            async with reader(site, cache=tmp_path / "2", clock=clock) as web_reader:
                for _ in range(2):
                    await web_reader.read(site / "a")
                    await clock.sleep(61)
                # Confirmed, and so fresh again.
                await clock.sleep(-10)
                await web_reader.read(site / "a")
            assert len(site.requests) == 2

    asyncio.run(main())


def test_no_store_is_respected_also_when_it_comes_later(tmp_path: Path):
    handler, _ = versioned(**{"Cache-Control": "no-store"})
    _, site = reads(tmp_path, handler)
    assert all("If-None-Match" not in request.headers for request in site.requests)

    kept, _ = versioned()
    answers = [kept, handler, handler]

    async def changing(request: web.BaseRequest) -> web.StreamResponse:
        return await answers.pop(0)(request)  # type: ignore[arg-type]

    got, site = reads(tmp_path, changing, times=3)
    assert got == [b"one"] * 3
    assert "If-None-Match" in site.requests[1].headers
    assert "If-None-Match" not in site.requests[2].headers
    assert b"one" not in (tmp_path / "cache").read_bytes()


def test_a_page_that_becomes_no_store_is_kept_no_longer(tmp_path: Path):
    handler, _ = versioned()

    async def main() -> None:
        async with Site({"/a": handler}) as site:
            async with reader(site, cache=tmp_path / "cache") as web_reader:
                await web_reader.read(site / "a")
                site.pages["/a"] = web.Response(
                    text="two", headers={"ETag": '"two"', "Cache-Control": "no-store"}
                )
                for _ in range(2):
                    await web_reader.read(site / "a")
            assert "If-None-Match" in site.requests[1].headers
            assert "If-None-Match" not in site.requests[2].headers

    asyncio.run(main())


def test_readers_of_other_names_do_not_share_answers(tmp_path: Path):
    async def greeting(request: web.BaseRequest) -> web.Response:
        return web.Response(
            text=f"for {request.headers['User-Agent']}",
            headers={"Cache-Control": "max-age=60"},
        )

    async def main() -> None:
        async with Site({"/a": greeting}) as site:
            for agent in ("ann", "bob", "ann"):
                cache = tmp_path / "cache"
                async with reader(site, cache=cache, user_agent=agent) as web_reader:
                    content = await web_reader.read(site / "a")
                    assert content.data == f"for {agent}".encode()
            assert len(site.requests) == 2

    asyncio.run(main())


def test_a_page_that_is_kept_may_not_be_larger_than_the_limit_of_now(tmp_path: Path):
    handler, _ = versioned(**{"Cache-Control": "max-age=60"})

    async def main() -> None:
        async with Site({"/a": handler}) as site:
            async with reader(site, cache=tmp_path / "cache") as web_reader:
                await web_reader.read(site / "a")
            async with reader(site, cache=tmp_path / "cache", max_bytes=2) as web_reader:
                with pytest.raises(SourceError, match="the limit is 2 bytes"):
                    await web_reader.read(site / "a")

    asyncio.run(main())


def test_the_cache_makes_room(tmp_path: Path):
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * 1000, headers={"ETag": '"a"'})

    async def main() -> int:
        cache = HttpCache(tmp_path / "cache", max_bytes=10_000)
        site = Site({f"/{n}": handler for n in range(40)})
        async with site, reader(site, cache=cache) as web_reader:
            for number in range(40):
                await web_reader.read(site / str(number))
            return await cache._do(
                lambda db: db.execute("SELECT SUM(size) FROM response").fetchone()[0]
            )

    assert 5_000 < asyncio.run(main()) <= 10_000


def test_what_is_no_cache_is_refused_with_a_sentence(tmp_path: Path):
    (tmp_path / "text").write_text("this is no database, but a long enough text " * 50)
    db = sqlite3.connect(tmp_path / "other")
    db.execute("CREATE TABLE other (x)")
    db.close()

    async def main(name: str) -> None:
        async with (
            Site({"/a": "a"}) as site,
            reader(site, cache=tmp_path / name) as web_reader,
        ):
            with pytest.raises(StoreError, match=f"the cache .*{name} cannot be used"):
                await web_reader.read(site / "a")

    for name in ("text", "other"):
        asyncio.run(main(name))
    with pytest.raises(UsageError):
        HttpCache("x", max_bytes=0)


def test_a_reader_that_is_entered_again_opens_its_cache_again(tmp_path: Path):
    handler, _ = versioned()

    async def main() -> None:
        web_reader = WebReader(allow_private=True, cache=tmp_path / "new" / "cache")
        async with Site({"/a": handler}) as site:
            for _ in range(2):
                async with web_reader:
                    assert (await web_reader.read(site / "a")).data == b"one"

    asyncio.run(main())


# -- killed


async def read_by_another(url: str, cache: Path, moment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(READING), url, str(cache), moment),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode().strip()


def state(path: Path) -> list[tuple[bytes, str]]:
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute("SELECT body, headers FROM response").fetchall()
    finally:
        db.close()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_reader_that_is_killed_leaves_a_response_whole_or_not_at_all(
    tmp_path: Path, moment: str
):
    handler, texts = versioned()
    cache = tmp_path / "cache"

    async def main() -> None:
        async with Site({"/a": handler}) as site:
            url = site / "a"
            # The first write, one that replaces it, and one that confirms it.
            code, _ = await read_by_another(url, cache, moment)
            assert code == -signal.SIGKILL
            assert [b for b, _ in state(cache)] == ([b"one"] if moment == "after" else [])
            async with reader(site, cache=cache) as web_reader:
                assert (await web_reader.read(url)).data == b"one"

            texts.append("two")
            code, _ = await read_by_another(url, cache, moment)
            assert code == -signal.SIGKILL
            kept = b"two" if moment == "after" else b"one"
            assert [body for body, _ in state(cache)] == [kept]
            async with reader(site, cache=cache) as web_reader:
                assert (await web_reader.read(url)).data == b"two"

            code, _ = await read_by_another(url, cache, moment)
            assert code == -signal.SIGKILL
            assert [body for body, _ in state(cache)] == [b"two"]
            assert await read_by_another(url, cache, "never") == (0, "two")
            assert site.requests[-1].headers["If-None-Match"] == '"two"'

    asyncio.run(main())
