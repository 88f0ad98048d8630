"""robots.txt, freshness, sitemaps, packing: rules without any I/O."""

from __future__ import annotations

import gzip
import zlib
from datetime import UTC, datetime

import pytest

from anabranch.errors import UsageError
from anabranch.rag.web import freshness, robots, sitemap
from anabranch.rag.web.pace import Manners, Pace
from anabranch.rag.web.packing import STEP_BYTES, Unpacker, unpacked

TEXT = b"""
User-agent: *
Disallow: /private
Allow: /private/open
Crawl-delay: 2

User-agent: anabranch
Disallow: /only-for-others
Request-rate: 1/5
Sitemap: https://x/map.xml
"""


class TestRobots:
    def test_a_group_of_its_own_replaces_that_of_all(self):
        rules = robots.judge(200, TEXT, now=0)
        assert rules.permits("https://x/private/a", "anabranch")
        assert not rules.permits("https://x/only-for-others", "anabranch")
        assert not rules.permits("https://x/private/a", "other")
        assert rules.permits("https://x/private/open", "other")
        assert rules.delay_s("other") == 2
        assert rules.delay_s("anabranch") == 5
        assert rules.sitemaps == ("https://x/map.xml",)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
    def test_a_site_without_rules_forbids_nothing(self, status: int):
        rules = robots.judge(status, b"<h1>no", now=0)
        assert rules.permits("https://x/a", "anabranch")
        assert rules.until == robots.KEPT_S

    @pytest.mark.parametrize("status", [None, 429, 500, 503])
    def test_a_site_that_cannot_be_asked_forbids_everything_for_a_while(
        self, status: int | None
    ):
        rules = robots.judge(status, b"", now=0)
        assert not rules.permits("https://x/a", "anabranch")
        assert rules.until < robots.KEPT_S

    def test_rules_stay_in_force_while_a_site_cannot_be_asked(self):
        before = robots.judge(200, TEXT, now=0)
        rules = robots.judge(503, b"", now=100, before=before)
        assert not rules.permits("https://x/only-for-others", "anabranch")
        assert rules.permits("https://x/a", "anabranch")
        assert rules.until == 100 + robots.UNREACHABLE_S

    def test_any_bytes_are_rules(self):
        rules = robots.judge(200, b"\xff\xfe\0" + b"<html>" * 100_000, now=0)
        assert rules.permits("https://x/a", "anabranch")

    def test_a_crawler_is_known_by_what_is_before_the_slash(self):
        assert robots.agent_of("MyBot/1.0 (+https://x)") == "mybot"
        assert robots.agent_of("anabranch") == "anabranch"


class TestFreshness:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, 0),
            ({"cache-control": "max-age=60"}, 60),
            ({"cache-control": 'public, MAX-AGE="60"'}, 60),
            ({"cache-control": "max-age=60, max-age=5"}, 60),
            ({"cache-control": "max-age=-5"}, 0),
            ({"cache-control": "max-age=x"}, 0),
            ({"cache-control": "max-age=60", "expires": "0"}, 60),
            ({"expires": "0", "date": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0),
            (
                {
                    "expires": "Mon, 01 Jan 2024 00:01:00 GMT",
                    "date": "Mon, 01 Jan 2024 00:00:00 GMT",
                },
                60,
            ),
            ({"expires": "Mon, 01 Jan 2024 00:01:00 GMT"}, 0),
            ({"cache-control": "max-age=99999999999"}, freshness.MOST_LIFETIME_S),
        ],
    )
    def test_a_lifetime_is_what_the_response_says(
        self, headers: dict[str, str], seconds: float
    ):
        assert freshness.lifetime_s(headers) == seconds

    def test_a_response_is_fresh_until_its_lifetime_is_over(self):
        headers = {"cache-control": "max-age=60", "age": "10"}
        assert freshness.is_fresh(headers, stored=1000, now=1049)
        assert not freshness.is_fresh(headers, stored=1000, now=1050)

    def test_a_clock_that_went_back_makes_nothing_fresh(self):
        assert not freshness.is_fresh({"cache-control": "max-age=60"}, stored=1000, now=900)

    def test_no_cache_is_asked_about_each_time(self):
        headers = {"cache-control": "no-cache, max-age=60", "etag": '"a"'}
        assert freshness.may_store(200, headers)
        assert not freshness.is_fresh(headers, stored=0, now=0)

    def test_only_what_may_be_given_again_is_kept(self):
        assert freshness.may_store(200, {"etag": '"a"'})
        assert freshness.may_store(200, {"cache-control": "private, max-age=1"})
        assert not freshness.may_store(200, {})
        assert not freshness.may_store(200, {"etag": '"a"', "cache-control": "No-Store"})
        assert not freshness.may_store(200, {"etag": '"a"', "vary": "*"})
        assert not freshness.may_store(206, {"etag": '"a"'})

    def test_a_confirmation_renews_headers_but_not_those_of_the_body(self):
        stored = {"etag": '"a"', "age": "9", "content-type": "text/html"}
        answer = {"etag": '"a"', "cache-control": "max-age=5", "content-length": "0"}
        assert freshness.refreshed(stored, answer) == {
            "etag": '"a"',
            "content-type": "text/html",
            "cache-control": "max-age=5",
        }


SITEMAP = b"""<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
 xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
<url><loc> https://x/a?b=1&amp;c=2 </loc><lastmod>2024-02-03</lastmod>
<image:image><image:loc>https://x/picture.png</image:loc></image:image></url>
<url><loc><![CDATA[https://x/b]]></loc></url><url></url></urlset>"""


class TestSitemap:
    def test_pages_and_when_they_changed(self):
        found = sitemap.parse(SITEMAP)
        assert [(e.url, e.lastmod) for e in found.pages] == [
            ("https://x/a?b=1&c=2", "2024-02-03"),
            ("https://x/b", ""),
        ]
        assert not found.fault

    def test_packed_ones_are_unpacked(self):
        assert len(sitemap.parse(gzip.compress(SITEMAP)).pages) == 2

    def test_an_index_names_others(self):
        index = (
            b"<sitemapindex><sitemap><loc>https://x/1.xml</loc></sitemap></sitemapindex>"
        )
        assert [entry.url for entry in sitemap.parse(index).sitemaps] == ["https://x/1.xml"]

    def test_text_has_an_address_a_line(self):
        found = sitemap.parse(b"\xef\xbb\xbfhttps://x/a\r\n\r\nhttps://x/b\r\n")
        assert [entry.url for entry in found.pages] == ["https://x/a", "https://x/b"]

    @pytest.mark.parametrize(
        ("data", "pages", "said"),
        [
            (SITEMAP[:-10], 2, "not a whole sitemap"),
            (b"<html><p>404</html>", 0, "mismatched tag"),
            (b"not found", 0, "neither XML nor an address"),
            (b"", 0, ""),
            (gzip.compress(SITEMAP)[:50], 0, "not a whole sitemap"),
            (b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', 0, "declares entities"),
            (b"<a>" * 50, 0, "nested too deep"),
            (gzip.compress(bytes(60 << 20)), 0, "unpacks to more than"),
        ],
    )
    def test_what_is_wrong_is_told_and_what_came_before_is_kept(
        self, data: bytes, pages: int, said: str
    ):
        found = sitemap.parse(data)
        assert len(found.pages) == pages
        assert said in found.fault

    def test_a_sitemap_ends_at_the_limit_of_entries(self):
        data = b"\n".join(b"https://x/%d" % n for n in range(sitemap.MOST_ENTRIES + 1))
        found = sitemap.parse(data)
        assert len(found.pages) == sitemap.MOST_ENTRIES
        assert "50,000 entries" in found.fault

    @pytest.mark.parametrize(
        ("lastmod", "is_older"),
        [
            ("2024-01-31", True),
            ("2024-02-01", False),
            ("2024-02-01T11:59:59Z", True),
            ("2024-02-01T12:00:00+00:00", False),
            ("2024-02-01T12:30:00+01:00", True),
            ("yesterday", False),
            ("", False),
        ],
    )
    def test_only_what_says_so_has_not_changed(self, lastmod: str, is_older: bool):
        since = datetime(2024, 2, 1, 12, tzinfo=UTC)
        assert sitemap.is_older(lastmod, since) is is_older


class TestPacking:
    @pytest.mark.parametrize(
        ("coding", "packed"),
        [
            ("", b"words" * 100),
            ("identity", b"words" * 100),
            ("gzip", gzip.compress(b"words" * 100)),
            ("GZip", gzip.compress(b"words" * 50) + gzip.compress(b"words" * 50)),
            ("deflate", zlib.compress(b"words" * 100)),
            ("deflate", zlib.compress(b"words" * 100)[2:-4]),
        ],
    )
    def test_bytes_are_unpacked_however_they_come(self, coding: str, packed: bytes):
        for step in (1, 7, len(packed)):
            unpacker = Unpacker(coding)
            parts = (packed[n : n + step] for n in range(0, len(packed), step))
            got = b"".join(piece for part in parts for piece in unpacker.feed(part))
            assert got == b"words" * 100
            assert unpacker.is_complete

    def test_what_is_cut_off_is_not_complete(self):
        unpacker = Unpacker("gzip")
        list(unpacker.feed(gzip.compress(b"words" * 1000)[:-9]))
        assert not unpacker.is_complete

    def test_a_bomb_goes_off_only_as_far_as_it_is_asked(self):
        unpacker = Unpacker("gzip")
        first = next(unpacker.feed(gzip.compress(bytes(64 << 20))))
        assert len(first) <= STEP_BYTES
        with pytest.raises(ValueError, match="unpacks to more than 1,000"):
            unpacked(gzip.compress(bytes(2000)), 1000)

    def test_unknown_or_broken_packing_is_told(self):
        with pytest.raises(ValueError, match="packed as br"):
            Unpacker("br")
        for coding in ("gzip", "deflate"):
            with pytest.raises(ValueError, match="could not be unpacked"):
                list(Unpacker(coding).feed(b"not packed at all"))


class TestPace:
    def test_a_host_is_asked_again_after_the_delay(self):
        pace = Pace(2.0)
        assert pace.wait_s("h", 10.0) == 0
        pace.started("h", 10.0)
        assert pace.wait_s("h", 10.5) == 1.5
        assert pace.wait_s("g", 10.5) == 0
        assert pace.wait_s("h", 12.0) == 0

    def test_a_host_that_asks_for_patience_is_left_alone(self):
        pace = Pace(0.0)
        pace.hold("h", 10.0, 30.0)
        pace.hold("h", 10.0, 5.0)
        assert pace.wait_s("h", 20.0) == 20.0

    def test_the_longer_of_two_delays_holds(self):
        pace = Pace(2.0)
        pace.slow_down("h", 0.0, 5.0)
        pace.slow_down("g", 0.0, 1.0)
        for host in "hg":
            pace.started(host, 0.0)
        assert (pace.wait_s("h", 0.0), pace.wait_s("g", 0.0)) == (5.0, 2.0)

    def test_many_hosts_are_forgotten_when_they_say_nothing(self):
        pace = Pace(0.0)
        pace.hold("slow", 0.0, 1e9)
        for number in range(25_000):
            pace.started(str(number), float(number))
        assert pace.wait_s("slow", 25_000.0) > 0
        assert len(pace._hosts) < 12_000

    @pytest.mark.parametrize(
        "wrong", [{"per_host": 0}, {"delay": -1}, {"most_delay": "x"}, {"robots": "no"}]
    )
    def test_manners_that_cannot_be_meant_are_refused(self, wrong: dict[str, object]):
        with pytest.raises(UsageError):
            Manners(**wrong)  # type: ignore[arg-type]
