"""Word documents."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import docx
import pytest

from anabranch.errors import SourceError
from anabranch.rag.readers import documents
from anabranch.rag.readers import docx as reader
from anabranch.rag.readers.media import DOCX
from anabranch.rag.types import Content, Document


def saved(opened: Any) -> bytes:
    file = io.BytesIO()
    opened.save(file)
    return file.getvalue()


def made(fill: Callable[[Any], object] = lambda opened: None) -> bytes:
    opened = docx.Document()
    opened.core_properties.modified = datetime(2020, 1, 1, tzinfo=UTC)
    fill(opened)
    return saved(opened)


def read(data: bytes) -> list[Document]:
    content = Content(uri="u", media_type=DOCX, digest="", data=data, metadata={"k": 1})
    return list(documents(content))


def only(fill: Callable[[Any], object]) -> Document:
    (document,) = read(made(fill))
    return document


def rewritten(change: Callable[[str, bytes], bytes]) -> bytes:
    """A document each of whose parts went through ``change``."""
    new = io.BytesIO()
    source = made(lambda opened: opened.add_paragraph("Words."))
    with zipfile.ZipFile(io.BytesIO(source)) as old, zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            archive.writestr(name, change(name, old.read(name)), zipfile.ZIP_DEFLATED)
    return new.getvalue()


def in_document(old: str, new: str) -> bytes:
    def change(name: str, data: bytes) -> bytes:
        whole = data.decode() if name == "word/document.xml" else ""
        assert not whole or old in whole
        return whole.replace(old, new, 1).encode() if whole else data

    return rewritten(change)


def fill(opened: Any) -> None:
    opened.add_paragraph("The Title", style="Title")
    opened.add_paragraph("Before.\tTabbed.")
    opened.add_heading("First", 1)
    opened.add_paragraph("One", style="List Bullet")
    opened.add_paragraph("Two", style="List Number")
    opened.add_paragraph("")
    opened.add_heading("Sub", 2)
    table = opened.add_table(2, 3)
    for row, cells in enumerate([["a", "b", "c"], ["d", "", "e\nf"]]):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    opened.add_heading("Second", 1)
    opened.add_paragraph("After.")


def test_headings_lists_and_tables_read_as_they_look():
    document = only(fill)
    assert document.text == (
        "The Title\n\nBefore.\tTabbed.\n\nFirst\n\n- One\n- Two\n\nSub\n\n"
        "a | b | c\nd |  | e f\n\nSecond\n\nAfter."
    )
    assert [document.text[at:].split("\n")[0] for at in document.breaks] == [
        "The Title", "First", "Sub", "Second",
    ]  # fmt: skip
    assert list(document.sections) == [
        ("The Title",),
        ("The Title", "First"),
        ("The Title", "First", "Sub"),
        ("The Title", "Second"),
    ]
    ((start, end),) = document.blocks
    assert document.text[start:end] == "a | b | c\nd |  | e f"
    assert document.metadata == {"k": 1, "title": "The Title"}


def test_its_properties_say_title_and_author():
    def named(opened: Any) -> None:
        fill(opened)
        opened.core_properties.title = " Of Rivers "
        opened.core_properties.author = "A. Writer"

    assert only(named).metadata == {"k": 1, "title": "Of Rivers", "author": "A. Writer"}


def test_merged_cells_are_said_once():
    def merged(opened: Any) -> None:
        table = opened.add_table(2, 2)
        table.cell(0, 0).text = "tall"
        table.cell(0, 1).text = "x"
        table.cell(1, 1).text = "y"
        table.cell(0, 0).merge(table.cell(1, 0))

    assert only(merged).text == "tall | x\n | y"


def test_insertions_controls_and_links_are_text_and_deletions_are_not():
    words = "<w:r><w:t>Words.</w:t></w:r>"
    (document,) = read(
        in_document(
            words,
            '<w:ins w:id="1" w:author="A"><w:r><w:t>In </w:t></w:r></w:ins>'
            '<w:del w:id="2" w:author="A"><w:r><w:delText>out </w:delText></w:r></w:del>'
            '<w:moveFrom w:id="3" w:author="A"><w:r><w:t>away </w:t></w:r></w:moveFrom>'
            "<w:sdt><w:sdtContent><w:r><w:t>controlled</w:t></w:r></w:sdtContent></w:sdt>"
            "<w:hyperlink><w:r><w:t> link</w:t></w:r></w:hyperlink>"
            "<w:r><w:instrText>PAGE</w:instrText></w:r>",
        )
    )
    assert document.text == "In controlled link"


def test_one_without_text_gives_no_document():
    assert read(made()) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not a DOCX file"),
        (b"PK\x03\x04 and no more", "is not a DOCX file"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            "is encrypted, or of the format",
        ),
        (made(fill)[:-400], "is not a DOCX file"),
        (rewritten(lambda name, data: data[: len(data) // 2]), "is not a DOCX file"),
        (
            rewritten(lambda _, data: data.replace(b"wordprocessingml.doc", b"x.y")),
            "is not a DOCX file",
        ),
    ],
    ids=range(6),
)
def test_what_is_no_word_document_is_refused(data: bytes, reason: str):
    with pytest.raises(SourceError, match=reason):
        read(data)


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">\
<!ENTITY c SYSTEM "file:///etc/passwd">]>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_declared_entities_are_refused(encoding: str):
    def bomb(name: str, data: bytes) -> bytes:
        if name != "word/document.xml":
            return data
        body = data.decode().partition("?>")[2]
        return (BOMB + body.replace("Words.", "&b;&c;")).encode(encoding)

    with pytest.raises(SourceError, match=r"declares XML entities in word/document\.xml"):
        read(rewritten(bomb))


def bombed(name: str, size: int) -> bytes:
    file = io.BytesIO(made(fill))
    with (
        zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as part,
    ):
        for _ in range(size >> 20):
            part.write(bytes(1 << 20))
    return file.getvalue()


def test_archives_that_grow_are_refused_before_they_do(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SourceError, match=r"would be 65\.\d MiB of XML, above the limit"):
        read(bombed("word/more.xml", 65 << 20))
    monkeypatch.setattr(reader, "MOST_UNPACKED", 1 << 20)
    with pytest.raises(SourceError, match=r"would be 2\.\d MiB unpacked, above the limit"):
        read(bombed("word/media/a.png", 2 << 20))
    monkeypatch.setattr(reader, "MOST_PARTS", 3)
    with pytest.raises(SourceError, match="parts, above the limit of 3"):
        read(made(fill))
    monkeypatch.setattr(reader, "MOST_PARTS", 10_000)
    monkeypatch.setattr(reader, "MOST_ELEMENTS", 100)
    with pytest.raises(SourceError, match="has more than 100 elements of XML: split it"):
        read(made(fill))


def test_styles_that_are_based_on_each_other_say_what_they_say():
    def circle(opened: Any) -> None:
        styles = [opened.styles.add_style(name, 1) for name in ("One", "Two", "Three")]
        styles[0].base_style, styles[1].base_style = styles[1], styles[0]
        styles[2].base_style = opened.styles["Heading 2"]
        for style in styles:
            opened.add_paragraph(style.name, style=style)

    document = only(circle)
    assert document.text == "One\n\nTwo\n\nThree"
    assert document.sections == [("Three",)]


def test_a_long_table_takes_time_by_its_length():
    def long(opened: Any) -> None:
        from copy import deepcopy

        table = opened.add_table(1, 3)
        row = table.rows[0]._tr
        for _ in range(4_000):
            table._tbl.append(deepcopy(row))
        table.cell(0, 0).text = "x"

    assert only(long).text == "x |  | "
