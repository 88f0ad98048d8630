"""One spelling for each address, and which belong to a crawl."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.rag.web.urls import Scope, authority, join, normalise, origin

SOMEBODY = "u:p"


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTP://Example.ORG", "http://example.org/"),
        ("http://example.org:80/", "http://example.org/"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("https://example.org:80/a", "https://example.org:80/a"),
        ("http://example.org./a", "http://example.org/a"),
        ("http://example.org/a#part", "http://example.org/a"),
        ("http://example.org/a?", "http://example.org/a"),
        ("http://example.org/a?b=2&a=1&utm_source=x", None),
        ("http://example.org/a/./b/../c", "http://example.org/a/c"),
        ("http://example.org/../../c", "http://example.org/c"),
        ("http://example.org/a/%2E%2e/c", "http://example.org/c"),
        ("http://example.org/a/..", "http://example.org/"),
        ("http://example.org/a/b/.", "http://example.org/a/b/"),
        ("http://example.org/%7Euser/%e4", "http://example.org/~user/%E4"),
        ('http://example.org/a b"<>', "http://example.org/a%20b%22%3C%3E"),
        ("http://example.org/é", "http://example.org/%C3%A9"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        (" http://example.org/\n a", "http://example.org/%20a"),
        ("http://example.org/a%2Fb", None),
        ("http://example.org//a//b", None),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://ann@example.org/", None),
    ],
)
def test_equal_pages_have_one_spelling(url: str, normal: str | None):
    assert normalise(url) == (url if normal is None else normal)


@given(
    st.text("aZ09%2eE./?&=#:@[]{}|\\ é\t", max_size=30).map(
        lambda t: "http://h.example/" + t
    )
)
def test_a_normal_address_is_its_own_spelling(url: str):
    normal = normalise(url)
    assert normalise(normal) == normal
    assert normal.isascii()


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "ftp://x/", "file:///etc/passwd", "//x/", "http://", "http:///a", "http://[::1",
        "http://a:99999/", "http://a b/", "http://-a/", "http://" + "x" * 64, "javascript:x",
        "http://" + "a." * 130 + "b/", "http://x/" + "a" * 9000, "http://a\\@b/", "http://%31/",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_a_sentence(url: str):
    with pytest.raises(ValueError, match="address"):
        normalise(url)


def test_a_link_is_joined_to_its_page():
    base = "http://example.org/a/b"
    assert join(base, " c#d ") == "http://example.org/a/c"
    assert join(base, "/c") == "http://example.org/c"
    assert join(base, "//other.example") == "http://other.example/"
    assert join(base, "?q") == "http://example.org/a/b?q"
    assert join(base, "") == base
    for nowhere in (
        "mailto:a@b",
        "javascript:x()",
        "http://[",
        f"http://{SOMEBODY}@example.org/",
    ):
        assert join(base, nowhere) is None


def test_authority_and_origin_leave_out_the_user():
    assert authority(f"http://{SOMEBODY}@h:81/a") == "h:81"
    assert origin(f"http://{SOMEBODY}@h:81/a") == "http://h:81"


def test_a_scope_is_hosts_and_prefixes():
    scope = Scope(within=["Docs.example.org", "https://example.org/en"])
    inside = [
        "https://docs.example.org/a",
        "http://docs.example.org/",
        "https://example.org/en",
        "https://example.org/en/x",
        "https://example.org/en?q",
    ]
    outside = [
        "https://docs.example.org.evil.example/",
        "https://docs.example.org:8080/",
        "https://example.org/english",
        "http://example.org/en/",
        "https://evil.example/https://example.org/en/",
    ]
    assert all(map(scope.holds, inside))
    assert not any(map(scope.holds, outside))


def test_patterns_choose_within_a_scope():
    scope = Scope(within=["h"], include=["*/api/*", "*.html"], exclude=["*/old/*"])
    assert scope.wants("http://h/api/x")
    assert scope.wants("http://h/x.html")
    assert not scope.wants("http://h/x")
    assert not scope.wants("http://h/api/old/x")
    assert not scope.wants("http://g/api/x")


def test_what_cannot_be_a_scope_is_refused():
    for within in ("h", [""], ["h/path"], ["ftp://x/"]):
        with pytest.raises(UsageError):
            Scope(within=within)
    with pytest.raises(UsageError):
        Scope(within=["h"], include="*.html")
