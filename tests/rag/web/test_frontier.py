"""The frontier: nothing twice, nothing lost, hosts in turn."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from anabranch.rag.web.frontier import Frontier, Known, Target

READY: dict[str, float] = {}


def wait_s(host: str) -> float:
    return READY.get(host, 0.0)


def frontier(limit: int = 100, depth: int | None = None, per_host: int = 10) -> Frontier:
    return Frontier(limit=limit, depth=depth, per_host=per_host)


def taken(pages: Frontier) -> list[str]:
    urls: list[str] = []
    while isinstance(found := pages.take(wait_s), Target):
        urls.append(found.url)
        pages.done(found)
    return urls


def test_each_page_is_taken_once_and_hosts_take_turns():
    pages = frontier()
    for url in ("http://a/1", "http://a/2", "http://a/1", "http://b/1", "http://a/3"):
        pages.add(Target(url))
    assert taken(pages) == ["http://a/1", "http://b/1", "http://a/2", "http://a/3"]
    assert pages.take(wait_s) is None
    assert not pages.add(Target("http://a/1"))


def test_a_host_has_no_more_in_hand_than_its_share():
    pages = frontier(per_host=1)
    for url in ("http://a/1", "http://a/2"):
        pages.add(Target(url))
    first = pages.take(wait_s)
    assert isinstance(first, Target)
    assert pages.take(wait_s) == inf
    pages.done(first)
    assert taken(pages) == ["http://a/2"]


def test_a_host_that_must_wait_holds_up_no_other():
    pages = frontier()
    for url in ("http://a/1", "http://b/1"):
        pages.add(Target(url))
    waits = {"a": 3.0, "b": 0.0}
    found = pages.take(waits.__getitem__)
    assert isinstance(found, Target)
    assert found.url == "http://b/1"
    assert pages.take(waits.__getitem__) == 3.0


def test_the_limit_counts_what_was_fetched():
    pages = frontier(limit=2)
    for number in range(5):
        pages.add(Target(f"http://a/{number}"))
    refused = pages.take(wait_s)
    assert isinstance(refused, Target)
    other = pages.take(wait_s)
    assert isinstance(other, Target)
    assert pages.take(wait_s) == inf  # one of them may turn out not to count
    pages.uncount()
    pages.done(refused)
    last = pages.take(wait_s)
    assert isinstance(last, Target)
    for target in (other, last):
        pages.done(target)
    assert pages.take(wait_s) is None
    assert (pages.taken, pages.unvisited) == (2, 2)


def test_sitemaps_do_not_count():
    pages = frontier(limit=1, depth=0)
    pages.add(Target("http://a/map.xml", is_sitemap=True))
    pages.add(Target("http://a/1"))
    assert taken(pages) == ["http://a/map.xml", "http://a/1"]


def test_pages_and_sitemaps_of_a_host_take_turns():
    pages = frontier()
    for name in ("1.xml", "2.xml", "3.xml"):
        pages.add(Target(f"http://a/{name}", 1, is_sitemap=True))
    pages.add(Target("http://a/1"))
    pages.add(Target("http://b/1"))
    assert [url[7:] for url in taken(pages)] == [
        "a/1.xml",
        "a/1",
        "b/1",
        "a/2.xml",
        "a/3.xml",
    ]
    assert (pages.sitemaps, pages.taken) == (3, 2)


def test_depth_is_the_most_links_from_a_start():
    pages = frontier(depth=1)
    assert pages.add(Target("http://a/1", 1))
    assert not pages.add(Target("http://a/2", 2))
    assert pages.unvisited == 0


def test_a_page_that_was_met_elsewhere_is_not_taken():
    pages = frontier()
    pages.add(Target("http://a/1"))
    pages.add(Target("http://a/2"))
    assert pages.claim("http://a/2")
    assert not pages.claim("http://a/2")
    assert taken(pages) == ["http://a/1"]
    assert not pages.claim("http://a/1")


def test_what_is_known_is_bounded():
    pages = frontier(limit=1)
    for number in range(10_002):
        pages.add(Target(f"http://a/{number}"))
    assert pages.unvisited == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))), st.integers(1, 3))
def test_everything_that_is_added_is_taken(found: list[tuple[str, int]], per_host: int):
    pages = frontier(per_host=per_host)
    urls = [f"http://{host}/{number}" for host, number in found]
    for url in urls:
        pages.add(Target(url))
    assert sorted(taken(pages)) == sorted(set(urls))


def test_pages_of_the_same_bytes_are_one():
    known = Known()
    assert known.judge("u1", "n1", "digest") is None
    duplicate = known.judge("u2", "n2", "digest")
    assert duplicate is not None
    assert (duplicate.uri, duplicate.of, duplicate.by) == ("u2", "n1", "content")
    assert known.judge("u3", "n3", "other") is None
