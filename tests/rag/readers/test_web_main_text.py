"""The main text of a page, alone."""

from __future__ import annotations

import asyncio
import sys

import pytest

from anabranch.rag import documents
from anabranch.rag.types import Content
from tests.rag.web.site import Site, html, reader

ARTICLE = "".join(
    f"<p>An anabranch leaves the main stream of a river and joins it again: sentence {n} of "
    "a text that is long enough to be taken for the main one.</p>"
    for n in range(8)
)
PAGE = f"""<!doctype html><html lang="en"><head><title>Rivers</title></head><body>
<header><a href="/">Home</a> <a href="/login">Log in</a></header>
<ul class="menu"><li><a href="/a">Products</a><li><a href="/b">Prices</a></ul>
<main><article><h1>Anabranches</h1>{ARTICLE}<h2>Lakes</h2>{ARTICLE}</article></main>
<footer>Copyright {{year}}. All rights reserved. <a href="/imprint">Imprint</a></footer>
</body></html>"""


def read(page: str, **options: bool) -> Content:
    async def main() -> Content:
        async with Site({"/a": page}) as site, reader(site, **options) as web_reader:
            return await web_reader.read(site / "a")

    return asyncio.run(main())


def test_what_surrounds_the_main_text_is_left_out_where_that_is_wanted():
    [document] = documents(read(PAGE, main_text=True))
    assert "joins it again" in document.text
    assert "Copyright" not in document.text
    assert "Prices" not in document.text
    assert document.metadata["title"] == "Anabranches"
    assert document.breaks
    [whole] = documents(read(PAGE))
    assert "Copyright" in whole.text


def test_a_page_whose_surroundings_change_is_unchanged():
    one = read(PAGE.replace("{year}", "2024"), main_text=True)
    two = read(PAGE.replace("{year}", "2025"), main_text=True)
    assert one.digest == two.digest
    assert read(PAGE).digest != one.digest


def test_a_page_without_main_text_stays_as_it_is():
    content = read(html(), main_text=True)
    assert content.media_type == "text/html"
    assert content.data == html().encode()


def test_headings_and_links_go_with_it_where_that_is_wanted():
    content = read(PAGE, main_text=True, outline=True)
    assert content.metadata["headings"] == ["Anabranches", "Lakes"]


def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(ImportError, match=r"pip install 'anabranch\[extract\]'"):
        read(PAGE, main_text=True)
