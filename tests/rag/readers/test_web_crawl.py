"""Crawls and sitemaps of real servers: every page is accounted for."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from anabranch.errors import SourceError, UsageError
from anabranch.rag import Content, WebReader
from anabranch.rag.web import Crawl, Duplicate, Manners
from tests.rag.web.site import FakeClock, Page, Site, answering, html, moved, reader, reset


async def finished(crawl: Crawl) -> tuple[list[str], list[str]]:
    """The paths of what was given, sorted, and the errors' reasons."""
    given: list[str] = []
    broken: list[str] = []
    async with aclosing(crawl.contents()) as items:
        async for item in items:
            if isinstance(item, Content):
                given.append("/" + item.uri.split("/", 3)[3])
            else:
                broken.append(item.reason)
    return sorted(given), broken


def crawled(
    pages: dict[str, Page],
    *starts: str,
    reading: dict[str, Any] | None = None,
    **bounds: Any,
) -> tuple[list[str], list[str], Crawl, Site]:
    async def main() -> tuple[list[str], list[str], Crawl, Site]:
        async with Site(pages) as site, reader(site, **(reading or {})) as web_reader:
            crawl = web_reader.crawl(*(site / start for start in starts or ("",)), **bounds)
            given, broken = await finished(crawl)
            return given, broken, crawl, site

    return asyncio.run(main())


def skipped(crawl: Crawl) -> dict[str, str]:
    return {"/" + s.uri.split("/", 3)[3]: s.reason for s in crawl.skipped}


def test_a_crawl_follows_links_and_fetches_each_page_once():
    given, broken, crawl, site = crawled(
        {
            "/": html("a", "/b#x", "http://elsewhere.example/", "ftp://x/", text="0"),
            "/a": html("/", "b", "./a", "missing", text="1"),
            "/b": html("a?q=1", text="2"),
            "/a?q=1": html(text="3"),
        }
    )
    assert given == ["/", "/a", "/a?q=1", "/b"]
    assert broken == ["the server answered 404 Not Found"]
    assert set(site.asked.values()) == {1}
    assert crawl.visited == 5
    assert not crawl.skipped


def test_a_base_in_the_page_is_where_links_begin():
    given, _, _, _ = crawled(
        {"/": html("a", head='<base href="/deep/">'), "/deep/a": html(text="found")}
    )
    assert given == ["/", "/deep/a"]


def test_depth_counts_links():
    pages: dict[str, Page] = {f"/{n}": html(f"/{n + 1}", text=str(n)) for n in range(9)}
    assert crawled(pages, "0", depth=0)[0] == ["/0"]
    assert crawled(pages, "0", depth=2)[0] == ["/0", "/1", "/2"]


def test_the_limit_ends_a_crawl_and_tells_what_was_left():
    pages: dict[str, Page] = {"/": html(*map(str, range(20)))}
    pages |= {f"/{n}": html(text=str(n)) for n in range(20)}
    given, broken, crawl, _ = crawled(pages, limit=6)
    assert len(given) == 6
    assert not broken
    assert (crawl.visited, crawl.unvisited) == (6, 15)


def test_prefixes_and_patterns_bound_a_crawl():
    pages: dict[str, Page] = {
        "/": html("/en/a", "/en/b.pdf", "/de/a", "/en/old/c"),
        "/en/a": html("/english", text="a"),
        "/en/old/c": html(text="c"),
    }

    async def main() -> list[str]:
        async with Site(pages) as site, reader(site) as web_reader:
            crawl = web_reader.crawl(
                site / "",
                within=[site / "en"],
                include=["*/en/*"],
                exclude=["*/old/*", "*.pdf"],
            )
            return (await finished(crawl))[0]

    assert asyncio.run(main()) == ["/", "/en/a"]


def test_several_hosts_are_crawled_at_once():
    async def main() -> list[str]:
        async with (
            Site({"/": html(text="one")}) as one,
            Site({"/": html(text="two")}) as two,
            reader(one, two) as web_reader,
        ):
            given, _ = await finished(web_reader.crawl(one.url, two.url))
            return given

    assert asyncio.run(main()) == ["/", "/"]


def test_a_redirect_out_of_a_crawl_is_not_followed():
    async def main() -> None:
        async with Site({"/": html(text="elsewhere")}) as other:
            pages: dict[str, Page] = {"/": html("/out"), "/out": moved(other.url)}
            async with Site(pages) as site, reader(site, other) as web_reader:
                crawl = web_reader.crawl(site.url)
                assert await finished(crawl) == (["/"], [])
                assert skipped(crawl) == {
                    "/out": f"leads out of the crawl, to {other / ''}"
                }
            assert not other.requests

    asyncio.run(main())


def test_pages_that_are_forbidden_do_not_count_towards_the_limit():
    forbidden = [f"/private/{number}" for number in range(20)]
    pages: dict[str, Page] = {
        "/robots.txt": web.Response(text="User-agent: *\nDisallow: /private"),
        "/": html(*forbidden, "/a", text="start"),
        "/a": html(text="a"),
    }
    given, _, crawl, _ = crawled(pages, limit=2)
    assert given == ["/", "/a"]
    assert (crawl.visited, len(crawl.skipped)) == (2, 20)


# -- the same page under several addresses


def test_a_page_that_is_reached_by_redirect_is_given_once_under_its_own_address():
    given, _, crawl, site = crawled(
        {
            "/": html("/old", "/older", text="start"),
            "/old": moved("/new"),
            "/older": moved("/old"),
            "/new": html(text="new"),
        }
    )
    assert given == ["/", "/new"]
    [duplicate] = crawl.duplicates
    assert duplicate.by == "redirect"
    assert duplicate.of == site / "new"


def test_a_page_is_named_by_the_address_it_calls_canonical():
    head = '<link rel="canonical" href="/main">'
    given, _, crawl, site = crawled(
        {
            "/": html("/a?s=1", "/a?s=2", "/main", text="start"),
            "/a?s=1": html(text="one", head=head),
            "/a?s=2": html(text="two", head=head),
            "/main": html(text="main", head=head),
        }
    )
    assert given == ["/", "/main"]
    assert {duplicate.of for duplicate in crawl.duplicates} == {site / "main"}
    assert crawl.given + len(crawl.duplicates) == crawl.visited


def test_a_page_cannot_take_the_name_of_another_site():
    given, _, crawl, _ = crawled(
        {"/": html(head='<link rel="canonical" href="https://bank.example/">')}
    )
    assert given == ["/"]
    assert not crawl.duplicates


def test_pages_of_the_same_bytes_are_given_once_and_lead_no_further():
    async def trap(_: web.Request) -> web.Response:
        return web.Response(text=html("x/", text="for ever"), content_type="text/html")

    class Trap(dict[str, Page]):
        def get(self, path: str, default: Any = None) -> Any:
            return None if path == "/robots.txt" else trap

    given, _, crawl, _ = crawled(Trap(), "x/")
    assert given == ["/x/"]
    assert [duplicate.by for duplicate in crawl.duplicates] == ["content"]


# -- what sites ask for


ROBOTS = "User-agent: *\nDisallow: /private\nCrawl-delay: 2\nSitemap: /map.xml\n"


def test_robots_txt_is_obeyed_and_what_it_forbids_is_told():
    pages: dict[str, Page] = {
        "/robots.txt": web.Response(text=ROBOTS),
        "/": html("/private/a", "/b", "/c", text="start"),
        "/private/a": html(text="no"),
        "/b": html(text="b"),
        "/c": moved("/private/a"),
    }
    clock = FakeClock()
    given, broken, crawl, site = crawled(pages, reading={"clock": clock})
    assert (given, broken) == (["/", "/b"], [])
    assert skipped(crawl) == {
        "/private/a": "robots.txt forbids it",
        "/c": "robots.txt forbids it",
    }
    assert site.asked["/robots.txt"] == 1
    assert "/private/a" not in site.asked
    # Three pages after the first, parted by the delay that is asked for.
    assert sum(clock.slept) > 3
    assert crawl.given + len(crawl.skipped) == 4

    robots_off = {"manners": Manners(robots=False)}
    given, _, _, site = crawled(pages, reading=robots_off)
    assert "/private/a" in given
    assert "/robots.txt" not in site.asked


def test_pages_that_are_named_one_by_one_are_not_a_crawl():
    async def main() -> None:
        pages: dict[str, Page] = {"/robots.txt": web.Response(text=ROBOTS)}
        pages["/private/a"] = "a"
        async with Site(pages) as site, reader(site) as web_reader:
            await web_reader.read(site / "private/a")
            assert "/robots.txt" not in site.asked

    asyncio.run(main())


@pytest.mark.parametrize(
    ("rules", "is_allowed"),
    [
        (web.Response(status=404), True),
        (web.Response(status=403), True),
        (web.Response(status=500), False),
        (web.Response(status=429), False),
        (reset, False),
        (moved("/rules"), False),
        (moved("/circle"), True),
        (web.Response(text=ROBOTS.replace("/private", "/") + "# " + "x" * 900_000), False),
    ],
)
def test_rules_that_cannot_be_had(rules: Page, is_allowed: bool):
    pages: dict[str, Page] = {
        "/robots.txt": rules,
        "/rules": web.Response(text="User-agent: anabranch\nDisallow: /"),
        "/circle": moved("/circle"),
        "/": html(text="start"),
    }
    given, _, crawl, site = crawled(pages)
    assert given == (["/"] if is_allowed else [])
    assert ("/" in site.asked) is is_allowed
    assert len(crawl.skipped) == (not is_allowed)


def test_a_site_that_wants_to_be_asked_once_an_hour_is_not_crawled():
    rules = web.Response(text="User-agent: *\nCrawl-delay: 3600")
    _, _, crawl, _ = crawled({"/robots.txt": rules, "/": html()})
    assert skipped(crawl)["/"].startswith("robots.txt asks for 3,600 s between pages")


@pytest.mark.parametrize(
    ("head", "headers", "given"),
    [
        ('<meta name="robots" content="noindex">', {}, ["/a"]),
        ('<META NAME="Robots" CONTENT="NoFollow">', {}, ["/"]),
        ('<meta name="robots" content="none">', {}, []),
        ("", {"X-Robots-Tag": "noindex, nofollow"}, []),
    ],
)
def test_what_a_page_asks_of_crawlers_is_done(
    head: str, headers: dict[str, str], given: list[str]
):
    page = web.Response(
        text=html("a", head=head), content_type="text/html", headers=headers
    )
    pages: dict[str, Page] = {"/": page, "/a": html(text="a")}
    assert crawled(pages)[0] == given
    assert crawled(pages, reading={"manners": Manners(robots=False)})[0] == ["/", "/a"]


def test_links_to_pictures_are_passed_over_and_a_start_that_is_one_is_an_error():
    picture = web.Response(body=b"x", content_type="image/png")
    given, broken, crawl, _ = crawled({"/": html("/p"), "/p": picture})
    assert (given, broken) == (["/"], [])
    assert skipped(crawl)["/p"].startswith("is image/png")
    given, broken, _, _ = crawled({"/p": picture}, "p")
    assert (given, len(broken)) == ([], 1)


def test_a_host_that_asks_for_patience_holds_up_no_other():
    async def main() -> None:
        busy = web.Response(status=503, headers={"Retry-After": "60"})
        clock = FakeClock()
        slow_pages: dict[str, Page] = {"/": answering(busy, web.Response(text="slow"))}
        async with (
            Site(slow_pages) as slow,
            Site({"/": html(text="quick")}) as quick,
            reader(slow, quick, retry=3, clock=clock) as web_reader,
        ):
            crawl = web_reader.crawl(slow.url, quick.url)
            got = [item async for item in crawl.contents()]
            assert [item.uri for item in got if isinstance(item, Content)] == [
                quick / "",
                slow / "",
            ]

    asyncio.run(main())


# -- ways of using it


def test_a_crawl_is_source_and_reader_of_a_pipeline():
    async def main() -> Counter[str]:
        got: Counter[str] = Counter()
        pages: dict[str, Page] = {"/": html("a", "b"), "/a": html(text="a")}
        async with Site(pages) as site, reader(site) as web_reader:
            crawl = web_reader.crawl(site.url)
            async for uri in crawl:
                if isinstance(uri, SourceError):
                    got["error"] += 1
                else:
                    got[(await crawl.read(uri)).media_type] += 1
            assert not any(count > 1 for count in site.asked.values())
        return got

    assert asyncio.run(main()) == {"text/html": 2, "error": 1}


def test_the_first_error_ends_a_crawl_where_that_is_wanted():
    with pytest.raises(SourceError, match="404"):
        crawled({"/": html("missing")}, fail_on_error=True)


def test_a_crawl_that_is_left_early_ends():
    async def endless(request: web.Request) -> web.Response:
        number = int(request.path_qs.strip("/") or 0)
        text = html(f"/{2 * number + 1}", f"/{2 * number + 2}", text=str(number))
        return web.Response(text=text, content_type="text/html")

    class Endless(dict[str, Page]):
        def get(self, path: str, default: Any = None) -> Any:
            return None if path == "/robots.txt" else endless

    async def main() -> int:
        async with Site(Endless()) as site, reader(site) as web_reader:
            crawl = web_reader.crawl(site.url)
            async with aclosing(crawl.contents()) as items:
                async for _ in items:
                    if crawl.given == 20:
                        break
            seen = len(site.requests)
            await asyncio.sleep(0.02)
            assert len(site.requests) == seen
            return seen

    # What is fetched and not taken is bounded.
    assert asyncio.run(main()) < 20 + 3 * 64


def test_what_cannot_be_a_crawl_is_refused_at_once():
    web_reader = WebReader()
    calls: list[Callable[[], object]] = [
        web_reader.crawl,
        lambda: web_reader.crawl("file:///etc"),
        lambda: web_reader.crawl("http://x/", limit=0),
        lambda: web_reader.crawl("http://x/", depth=-1),
        lambda: web_reader.crawl("http://x/", within=["a/b"]),
        web_reader.sitemap,
        lambda: web_reader.sitemap("http://x/", since=datetime(2024, 1, 1)),  # noqa: DTZ001
    ]
    for call in calls:
        with pytest.raises(UsageError):
            call()


# -- sitemaps


def urlset(*entries: tuple[str, str]) -> bytes:
    lines = (f"<url><loc>{u}</loc><lastmod>{when}</lastmod></url>" for u, when in entries)
    return f"<urlset>{''.join(lines)}</urlset>".encode()


def test_a_sitemap_gives_its_pages_with_their_dates_and_follows_no_links():
    async def main() -> None:
        async with Site() as site, reader(site) as web_reader:
            first = urlset((site / "a", "2024-05-01"), (site / "b", "2020-01-01"))
            second = urlset((site / "c", ""), ("http://evil.example/", ""))
            parts = [site / "1.xml", site / "2.xml.gz", "http://evil.example/3.xml"]
            index = "".join(f"<sitemap><loc>{part}</loc></sitemap>" for part in parts)
            site.pages = {
                "/map.xml": web.Response(text=f"<sitemapindex>{index}</sitemapindex>"),
                "/1.xml": web.Response(body=first),
                "/2.xml.gz": web.Response(body=gzip.compress(second)),
                **{f"/{name}": html("/x", text=name) for name in "abc"},
            }
            crawl = web_reader.sitemap(
                site / "map.xml", since=datetime(2023, 1, 1, tzinfo=UTC)
            )
            got = [item async for item in crawl.contents()]
            found = {
                item.uri: item.metadata.get("lastmod")
                for item in got
                if isinstance(item, Content)
            }
            assert found == {site / "a": "2024-05-01", site / "c": None}
            assert {s.uri: s.reason for s in crawl.skipped} == {
                "http://evil.example/3.xml": "is a sitemap of another site",
                site / "b": "has not changed since 2020-01-01",
                "http://evil.example/": "is out of the bounds of the crawl",
            }
            assert (crawl.given, crawl.broken, crawl.unvisited) == (2, 0, 0)

    asyncio.run(main())


def sitemap_index(*urls: str) -> web.Response:
    parts = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return web.Response(text=f"<sitemapindex>{parts}</sitemapindex>")


def test_an_endless_tree_of_sitemaps_ends_and_is_told():
    async def main() -> None:
        async with Site() as site, reader(site) as web_reader:

            async def index(request: web.BaseRequest) -> web.Response:
                """Each names itself, longer, and a sitemap of pages."""
                own = request.path.removesuffix(".xml")
                site.pages[f"{own}x.xml"] = index
                return sitemap_index(f"{site.url}{own}x.xml", site / "pages.xml")

            site.pages = {
                "/map.xml": index,
                "/pages.xml": web.Response(body=urlset((site / "a", ""))),
                "/a": "a",
            }
            crawl = web_reader.sitemap(site / "map.xml")
            assert await finished(crawl) == (["/a"], [])
            assert skipped(crawl) == {
                "/mapxx.xml": "is a sitemap index within too many others"
            }
            assert site.asked["/mapxxx.xml"] == 0

    asyncio.run(main())


def test_no_more_sitemaps_are_read_than_anybody_wants(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("anabranch.rag.web.sitemap.MOST_SITEMAPS", 3)

    async def main() -> None:
        async with Site() as site, reader(site) as web_reader:
            parts = [site / f"{number}.xml" for number in range(9)]
            site.pages = {"/map.xml": sitemap_index(*parts)}
            for number in range(9):
                page = site / f"page{number}"
                site.pages[f"/{number}.xml"] = web.Response(body=urlset((page, "")))
                site.pages[f"/page{number}"] = f"page {number}"
            crawl = web_reader.sitemap(site / "map.xml")
            assert await finished(crawl) == (["/page0", "/page1"], [])
            assert skipped(crawl) == {
                "/map.xml": "its last 7 sitemaps are not read: a crawl reads 3 at most"
            }

    asyncio.run(main())


def test_a_sitemap_that_is_none_is_an_error_and_the_others_go_on():
    async def main() -> None:
        async with Site() as site, reader(site) as web_reader:
            site.pages = {
                "/map.xml": web.Response(body=urlset((site / "a", ""))),
                "/no.xml": "<p>no map",
                "/cut.xml": web.Response(body=urlset((site / "b", ""))[:-9]),
                "/a": "a",
                "/b": "b",
            }
            names = ("map.xml", "no.xml", "cut.xml", "missing.xml")
            crawl = web_reader.sitemap(*(site / name for name in names))
            given, broken = await finished(crawl)
            assert given == ["/a", "/b"]
            assert len(broken) == 3

    asyncio.run(main())


def test_a_crawl_begins_with_the_sitemaps_of_robots_txt_where_that_is_wanted():
    async def main() -> None:
        async with Site() as site, reader(site) as web_reader:
            site.pages = {
                "/robots.txt": web.Response(text=f"Sitemap: {site / 'map.xml'}"),
                "/map.xml": web.Response(body=urlset((site / "hidden", ""))),
                "/": html(text="start"),
                "/hidden": html(text="hidden"),
            }
            assert (await finished(web_reader.crawl(site.url)))[0] == ["/"]
            crawl = web_reader.crawl(site.url, sitemaps=True)
            assert (await finished(crawl))[0] == ["/", "/hidden"]

    asyncio.run(main())


# -- a site of everything at once


def unruly(pages: int) -> tuple[Site, Counter[str]]:
    """A site of so many pages, many of them bad; and how many of each kind it has."""
    site = Site()
    kinds: Counter[str] = Counter()
    busy = web.Response(status=429, headers={"Retry-After": "0"})
    site.pages["/robots.txt"] = web.Response(text="User-agent: *\nDisallow: /secret\n")
    for number in range(pages):
        path = f"/{number}"
        # A tree of three links a page, and one across.
        links = [*(f"/{3 * number + n}" for n in (1, 2, 3) if 3 * number + n < pages)]
        links.append(f"/{(number * 7) % pages}")
        page = html(*links, text=f"page {number} " + "words " * 50)
        fate = number % 20 if number else 0
        kind, answer = {
            3: (
                "given",
                answering(busy, web.Response(text=page, content_type="text/html")),
            ),
            5: ("duplicate", moved(f"/moved/{number}")),
            7: ("broken", web.Response(status=500)),
            9: ("skipped", web.Response(body=b"x", content_type="image/png")),
            11: ("broken", reset),
            13: ("given", _packed(page)),
            15: ("broken", moved(path)),
            17: ("duplicate", html(text="not found, says the page")),
        }.get(fate, ("given", page))
        if fate == 5:
            site.pages[f"/moved/{number}"] = page
            kind = "given"
        site.pages[path] = answer
        kinds[kind] += 1
    # The first of the pages that are all the same is given.
    kinds["duplicate"] -= 1
    kinds["given"] += 1
    return site, kinds


def _packed(page: str) -> web.Response:
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/html; charset=latin-1"}
    return web.Response(body=gzip.compress(page.encode()), headers=headers)


@pytest.mark.parametrize(
    "pages", [2_100, pytest.param(10_000, marks=pytest.mark.exhaustive)]
)
def test_every_page_of_an_unruly_site_is_accounted_for(pages: int):
    async def main() -> None:
        site, kinds = unruly(pages)
        links = [f"/{number}" for number in range(pages)]
        site.pages["/"] = html(*links, "/secret", text="all of them")
        options: dict[str, Any] = {
            "retry": 2,
            "clock": FakeClock(),
            "manners": Manners(per_host=64),
        }
        async with site, reader(site, **options) as web_reader:
            crawl = web_reader.crawl(site.url, limit=10 * pages)
            got = [item async for item in crawl.contents()]
        given = [item for item in got if isinstance(item, Content)]
        assert len({content.uri for content in given}) == len(given)
        assert len(given) == crawl.given == kinds["given"] + 1
        assert crawl.broken == kinds["broken"]
        assert len(crawl.duplicates) == kinds["duplicate"]
        assert len(crawl.skipped) == kinds["skipped"] + 1
        assert crawl.unvisited == 0
        assert site.most_at_once <= 64
        assert all(isinstance(found, Duplicate) for found in crawl.duplicates)

    asyncio.run(main())
