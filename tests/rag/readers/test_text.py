"""Plain text and the formats kept as they were written."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import SourceError
from anabranch.rag.readers import MEDIA_TYPES, documents, media
from anabranch.rag.types import Content, Document


def content(
    data: bytes | str, media_type: str = "text/plain", charset: str | None = None
) -> Content:
    raw = data.encode() if isinstance(data, str) else data
    return Content(
        uri="u",
        media_type=media_type,
        digest="",
        data=raw,
        charset=charset,
        metadata={"k": 1},
    )


def only(
    data: bytes | str, media_type: str = "text/plain", charset: str | None = None
) -> Document:
    (document,) = documents(content(data, media_type, charset))
    return document


def sections(document: Document) -> list[str]:
    bounds = [*document.breaks, len(document.text)]
    return [document.text[a:b].split("\n")[0] for a, b in pairwise(bounds)]


NOT_FOR_TEXTS = (
    "punycode utf-7 idna unicode_escape raw_unicode_escape zlib hex rot13 undefined "
    "mbcs utf-32 hz cp437 cp500 utf_16_be_bom"
)


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"caf\xc3\xa9", None, "café"),
        (b"\xef\xbb\xbfcaf\xc3\xa9", None, "café"),
        (b"\xff\xfec\x00a\x00f\x00\xe9\x00", None, "café"),
        (b"\xfe\xff\x00c\x00a\x00f\x00\xe9", None, "café"),
        (b"\xff\xfe\x00\x00c\x00\x00\x00", None, "c"),
        (b"caf\xe9 \x93x\x94", None, "café “x”"),
        (b"caf\xe9 \x93x\x94", "iso-8859-1", "café “x”"),
        (b"\xea\xe0\xf4\xe5", "windows-1251", "кафе"),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "windows-1251", "café"),
        (b"caf\xc3\xa9", "no-such-charset", "café"),
        (b"caf\xc3\xa9", "base64", "café"),
        # Of Python, but of no browser.
        *((b"caf\xc3\xa9", each, "café") for each in NOT_FOR_TEXTS.split()),
        (b"caf\xe9", "latin-1", "café"),
        (b"caf\x8e", "Macintosh", "café"),
        (b"\x93\xfa", "x-sjis", "日"),
        (b"\xc4\xe3", "GB_2312-80", "你"),
        (b"\xb0\xa1", "ks_c_5601-1987", "가"),
        (b"a\x00\xe9\x00", "ucs-2", "aé"),
        (b"one\r\ntwo\rthree\n", None, "one\ntwo\nthree\n"),
    ],
)
def test_the_encoding_is_marked_declared_or_guessed(
    data: bytes, charset: str | None, text: str
):
    assert only(data, charset=charset) == Document("u", text, {"k": 1})


@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown", "text/x-rst"])
def test_what_is_not_text_is_refused(media_type: str):
    noise = random.Random(1).randbytes(10_000)
    for data in (noise, noise.replace(b"\0", b""), b"some text\0and more", b"\x01\x02\x03"):
        with pytest.raises(SourceError, match=r"^u: is not text"):
            list(documents(content(data, media_type)))


def test_the_marks_of_terminal_logs_are_text():
    only("\x1b[1mbold\x1b[0m\n" * 10)


@pytest.mark.parametrize("media_type", sorted(MEDIA_TYPES - {media.PDF, media.DOCX}))
def test_a_source_without_text_gives_no_documents(media_type: str):
    for data in (b"", b" \n\t\n"):
        empty = b"[]" if "json" in media_type else data.replace(b" ", b"")
        assert list(documents(content(empty, media_type))) == []


def test_an_unknown_type_is_named():
    with pytest.raises(SourceError, match="is image/png, which cannot be read: text, "):
        list(documents(content(b"x", "image/png")))


MARKDOWN = """\
---
title: "The Title"
author: A. Writer
tags: [a, b]
nested:
  key: value
---
Some words.

# First #

```python
# no heading
```
~~~
```
# none either
~~~

Second
======

- item
---
    # code
##no heading
## Third
"""


def test_markdown_has_a_title_metadata_and_sections():
    document = only(MARKDOWN, "text/markdown")
    assert document.text == MARKDOWN[document.start :]
    assert document.text.startswith("Some words.")
    assert document.metadata == {"k": 1, "title": "The Title", "author": "A. Writer"}
    assert sections(document) == ["# First #", "Second", "## Third"]


def test_markdown_knows_the_titles_above_a_section_and_where_its_code_is():
    document = only(MARKDOWN, "text/markdown")
    assert list(document.sections) == [("First",), ("Second",), ("Second", "Third")]
    code = [document.text[start:end] for start, end in document.blocks]
    assert code == ["```python\n# no heading\n```", "~~~\n```\n# none either\n~~~"]
    nested = only("# a\n### b\n## c\n#\n### d\n# e", "text/markdown")
    assert list(nested.sections) == [("a",), ("a", "b"), ("a", "c"), (), ("d",), ("e",)]
    assert list(only("```\nnever closed", "text/markdown").blocks) == []


def test_markdowns_first_heading_is_its_title():
    document = only("words\n\n## A `title` ##\n", "text/markdown")
    assert document.metadata["title"] == "A `title`"
    assert only("---\n\nno front matter\n", "text/markdown").start == 0
    assert "title" not in only("no heading\n\n---\n\nat all", "text/markdown").metadata


RST = """\
.. comment

==========
 The Title
==========

Words :func:`of` text.

:mod:`json` --- JSON
--------------------
Sub
~~~

    Indented
    --------

----

A para of
two lines
---------
"""


def test_rst_has_a_title_and_sections():
    document = only(RST, "text/x-rst")
    assert document.text == RST
    assert document.metadata == {"k": 1, "title": "The Title"}
    assert sections(document) == ["==========", ":mod:`json` --- JSON", "Sub"]
    assert list(document.sections) == [
        ("The Title",),
        ("The Title", "json --- JSON"),
        ("The Title", "json --- JSON", "Sub"),
    ]
    plain = only(":mod:`json` --- the ``JSON`` `format <x>`__\n==========\n", "text/x-rst")
    assert plain.metadata["title"] == "json --- the JSON format"


# A text of control characters, or of what stands for undecodable bytes, is refused as none.
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffd"),
    min_size=1,
)


@given(TEXTS)
@pytest.mark.parametrize("media_type", ["text/markdown", "text/x-rst", "text/plain"])
def test_any_text_is_kept_whole(media_type: str, text: str):
    marks = "\n# - = ` ~ --- \n".join(text)
    for document in documents(content(marks, media_type)):
        assert document.text == marks[document.start :]
        assert list(document.breaks) == sorted(set(document.breaks))
        assert all(0 <= offset < len(document.text) for offset in document.breaks)
