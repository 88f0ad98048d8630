"""HTML to text."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import SourceError
from anabranch.rag.readers import documents
from anabranch.rag.types import Content, Document


def page(data: bytes | str, charset: str | None = None) -> Content:
    raw = data.encode() if isinstance(data, str) else data
    return Content(uri="u", media_type="text/html", digest="", data=raw, charset=charset)


def only(data: bytes | str, charset: str | None = None) -> Document:
    (document,) = documents(page(data, charset))
    return document


def text(data: bytes | str) -> str:
    return "".join(document.text for document in documents(page(data)))


def test_a_page_reads_as_it_looks():
    document = only("""<!doctype html><html lang=en><head><title>A  page
      &amp; more</title><style>p {}</style></head><body>
      <nav><a href=/>Home</a></nav>
      <h1>Heading<a class=headerlink href=#x>¶</a></h1>
      <p>Some <b>bold</b>,<i> slanted</i> &lt;text&gt; with
         a<br>break.<p>Unclosed
      <ul><li>one</li><li><p>two</p><ul><li>in</li></ul></li><li>three</ul>
      after
      <table><tr><th>a<th>b<tr><td><p>1</p></td><td><p>2</p></td></tr></table>
      <h2>Next</h2><pre>
def f():

    return  1
</pre><dl><dt>term<dd><p>meaning</p><p>more</p></dl>
      <script>var x = "<p>no</p>";</script><svg><title>no</title><text>no</text></svg>
      <template><p>no</p></template><noscript>no</noscript></body></html>""")
    assert document.text == (
        "Heading\n\nSome bold, slanted <text> with a\nbreak.\n\nUnclosed\n\n"
        "one\ntwo\nin\nthree\n\nafter\n\na | b\n1 | 2\n\n"
        "Next\n\ndef f():\n\n    return  1\n\nterm\nmeaning\n\nmore"
    )
    assert document.metadata == {"title": "A page & more", "lang": "en"}
    starts = [document.text[offset:].split("\n")[0] for offset in document.breaks]
    assert starts == ["Heading", "Next"]


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<b>a</b><i>b</i>", "ab"),
        ("<b>a</b> <i>b</i>", "a b"),
        ("<p>a</p>b", "a\n\nb"),
        ("<div><div>a</div></div><div>b</div>", "a\n\nb"),
        ("a<br><br>b", "a\n\nb"),
        ("a<hr>b", "a\n\nb"),
        ("<p>a<ol><li><h3>b</h3></ol>c", "a\n\nb\n\nc"),
        ("<ul><li>a<ul><li>b</ul>c<li>d</ul>", "a\nb\nc\nd"),
        ("<ul></ul>a", "a"),
        ("<ul><li><li>a</ul>b", "a\n\nb"),
        ("<table><tr><td>a<td><td>b<tr><td>c</table>d", "a | b\nc\n\nd"),
        ("<table><tr><td><p>a<p>b</table>", "a\n\nb"),
        ("<pre>a<div>b</div><br>c</pre>d", "a\nb\n\nc\n\nd"),
        ("<pre><span>a</span>  <b>b</b>\n</pre>", "a  b"),
        ("<select><option>a<option>b</select>", "a\nb"),
        ("a&nbsp;&nbsp;b&#x2014;c&#0;", "a b—c\ufffd"),
        ("<textarea> a </textarea>", " a"),
        ("<h1><script>x</script></h1>a", "a"),
        ("a<nav>b<p>c</nav>d", "ad"),
        ("<frameset><frame><noframes>a</noframes></frameset>", ""),
    ],
)
def test_gaps(markup: str, expected: str):
    assert text(markup) == expected


def test_the_first_heading_stands_in_for_a_title():
    assert only("<h2>A <i>b</i></h2>x<h1>c</h1>").metadata == {"title": "A b"}
    assert only("x").metadata == {}


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        ("<p>caf\xe9".encode(), None),
        ("<p>caf\xe9".encode("cp1252"), None),
        ("<p>caf\xe9".encode("utf-8-sig"), "cp1252"),
        (b"\xff\xfe" + "<p>caf\xe9".encode("utf-16-le"), None),
        ("<p>caf\xe9".encode("cp1252"), "ISO-8859-1"),
        ('<meta charset="macintosh"><p>caf\xe9'.encode("macintosh"), None),
        (
            '<meta content="text/html; charset=macintosh"><p>caf\xe9'.encode("macintosh"),
            "nonsense",
        ),
        ('<meta charset="utf-16"><p>caf\xe9'.encode(), None),
    ],
)
def test_the_encoding_is_marked_served_declared_or_guessed(
    data: bytes, charset: str | None
):
    assert only(data, charset).text == "café"


@pytest.mark.parametrize(
    "markup",
    [
        "<div>" * 5_000 + "x" + "</div>" * 5_000,
        "<ul><li>" * 5_000 + "x",
        "<table><tr><td>" * 5_000 + "x",
        "<b>" * 100_000 + "x",
        "<b><p>" * 5_000 + "x",
        "<pre>" * 2_000 + "x",
        "<a href=y>" * 20_000 + "x",
        "<p" * 50_000 + ">x",
        "</div></p></table>" * 20_000 + "x",
        "<!--" * 50_000 + "-->x",
    ],
    ids=lambda markup: markup[:12],
)
def test_hostile_markup_is_only_markup(markup: str):
    assert text(markup + "y").replace("\n", "").strip("| ").endswith("xy")


@pytest.mark.parametrize("markup", ["<div>", "<ul><li>", "<!-- c --><section>"])
def test_nesting_that_no_page_has_is_refused_before_it_takes_time(markup: str):
    with pytest.raises(SourceError, match="more than 5,000 deep: leave it out"):
        text(markup * 200_000 + "x")


def test_what_only_looks_like_nesting_is_read():
    script = "<script>" + "if (a <b) c;" * 20_000 + "</script>"
    assert text("<div>" + script + "<br>" * 20_000 + "<li>" * 20_000 + "x").endswith("x")


def test_nul_bytes_lose_no_text():
    wild = "<p>a\0b<pre>c\0d</pre><table>e\0f<tr><td>g\0<select><option>\0h</select>\0PRE"
    assert "".join(filter(str.isalpha, text(wild))) == "abcdefghPRE"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                "p div li ul tr td table pre h1 br span b dl dd option select a".split()
            ),
            st.booleans(),
            st.sampled_from(["", "word", " two words ", "\0", "\n", "\x01", "&#1;", "¶"]),
        )
    )
)
def test_no_word_is_lost_in_any_tag_soup(soup: list[tuple[str, bool, str]]):
    markup = "".join(f"<{'/' * closing}{tag}>{words}" for tag, closing, words in soup)
    found = list(documents(page(markup)))
    result = found[0].text if found else ""
    assert result.count("word") == markup.count("word")
    assert result == result.strip() or "<pre" in markup
    assert all(0 <= offset < len(result) for offset in (found[0].breaks if found else ()))


def test_a_long_stretch_of_text_is_squeezed_as_a_short_one_is():
    words = "word  \n " * 50_000
    assert text(f"<p>{words}") == " ".join(["word"] * 50_000)


def test_a_large_page_never_keeps_other_threads_waiting():
    paragraph = "<p>Some <b>words</b> in a <a href=x>paragraph</a>.</p>\n<pre> code </pre>"
    big = page("<h1>Title</h1>" + paragraph * 50_000)
    gaps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not done.wait(0.001):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    other = threading.Thread(target=tick)
    other.start()
    try:
        (document,) = documents(big)
    finally:
        done.set()
        other.join()
    assert len(document.text) > 1_000_000
    # Far above the few milliseconds it takes, since a busy machine pauses threads too;
    # far below the time for the page, which one long call would take.
    assert sorted(gaps)[-2] < 0.1


def test_a_page_of_too_many_elements_is_refused_before_they_are_made():
    with pytest.raises(SourceError, match="has more than 1,500,000 elements: split it"):
        list(documents(page("<p>" * 1_500_001)))
