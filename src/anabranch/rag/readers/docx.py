# pyright: basic
# lxml and python-docx type their trees too loosely for more.
"""DOCX: the text of a Word document as it reads, with a break at each heading.

A DOCX file is a ZIP archive of XML. Both can be made to grow a thousandfold when they are
opened, so the archive is looked at before python-docx may open it: how large it says that
its parts are (no more of a part is ever unpacked than that) and whether any XML declares
entities, which no Word document does.

python-docx opens the package and knows its styles. The text is taken from the tree of
elements instead: its own paragraphs lack what is in content controls, in tracked
insertions and in text boxes, and its tables cost the square of their length.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from anabranch.errors import SourceError
from anabranch.rag.readers import text
from anabranch.rag.readers._sections import paths
from anabranch.rag.readers.files import MIB, megabytes
from anabranch.rag.types import Content, Document

if TYPE_CHECKING:
    from docx.document import Document as Opened
    from lxml.etree import _Element  # type: ignore[import-untyped]  # lxml has no types

MOST_PARTS: Final = 10_000
MOST_UNPACKED: Final = 256 * MIB
MOST_XML: Final = 64 * MIB
"""Of all XML together: a tree of it takes some ten times as much memory."""
MOST_ELEMENTS: Final = 1_500_000
"""Of all XML together: each takes 250 bytes and some microseconds, however short it is. A
thousand pages in which every word stands apart have half as many."""

_W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_P, _TBL, _TR, _TC = (f"{_W}{name}" for name in ("p", "tbl", "tr", "tc"))
_SIGNS: Final = {
    f"{_W}tab": "\t",
    f"{_W}br": "\n",
    f"{_W}cr": "\n",
    f"{_W}noBreakHyphen": "-",
}
# Moved away or deleted, what is for programs that know less, and what is no text: the
# places of tabs in a paragraph's properties are elements of the same name.
_LEFT_OUT: Final = {f"{_W}moveFrom", f"{_W}del", f"{_W}pPr", f"{_W}rPr", _FALLBACK}
# Word itself follows ten.
_MOST_BASES: Final = 20
# What python-docx puts into a new document as its author.
_NOBODY: Final = "python-docx"
_OLE: Final = b"\xd0\xcf\x11\xe0"


def documents(content: Content) -> Iterator[Document]:
    """The document, with a break at each heading; each section knows its titles.

    A paragraph stands between blank lines, an item of a list on a line behind a dash, a
    row of a table on a line with bars between its cells; a table is a block. Headers,
    footers, notes and comments are left out, and so is what a tracked change deleted.
    Metadata: ``title``, the document's or its first heading, and ``author``.

    Raises:
        SourceError: It is encrypted, broken, or would grow too large when unpacked.
        ImportError: python-docx is not installed.
    """
    opened = _open(content)
    page = _Page(_levels(opened))
    page.add_all(opened.element.body)
    whole = "".join(page.parts)
    if not whole.strip():
        return
    properties = opened.core_properties
    said = {"title": properties.title.strip(), "author": properties.author.strip()}
    titles = [title for _, _, title in page.headings if title]
    said["title"] = said["title"] or (titles[0] if titles else "")
    named = {name: value for name, value in said.items() if value not in ("", _NOBODY)}
    yield Document(
        content.uri,
        whole,
        {**content.metadata, **named},
        [offset for offset, _, _ in page.headings],
        sections=paths((level, title) for _, level, title in page.headings),
        blocks=page.blocks,
    )


def _open(content: Content) -> Opened:
    try:
        import docx
    except ImportError as error:
        raise ImportError(
            "DOCX needs python-docx: pip install 'anabranch[docx]'"
        ) from error
    data = text.held(content)
    if data.startswith(_OLE):
        raise SourceError(
            content.uri,
            "is encrypted, or of the format before DOCX: save a copy as DOCX without a "
            "password",
        )
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            _refuse_bombs(content.uri, archive)
        return docx.Document(BytesIO(data))
    except SourceError:
        raise
    # A broken archive or tree is met as any error of zipfile, zlib, lxml or python-docx.
    except Exception as error:
        reason = f"is not a DOCX file that can be read ({type(error).__name__}: {error})"
        raise SourceError(content.uri, reason) from error


def _refuse_bombs(uri: str, archive: zipfile.ZipFile) -> None:
    """Refuse what would take too much memory, before any of it is unpacked."""
    parts = archive.infolist()
    xml = [part for part in parts if part.filename.lower().endswith((".xml", ".rels"))]
    for what, size, most in (
        ("unpacked", sum(part.file_size for part in parts), MOST_UNPACKED),
        ("of XML", sum(part.file_size for part in xml), MOST_XML),
    ):
        if size > most:
            raise SourceError(
                uri,
                f"would be {megabytes(size)} {what}, above the limit of {megabytes(most)}: "
                "split it, or leave it out",
            )
    if len(parts) > MOST_PARTS:
        raise SourceError(
            uri,
            f"has {len(parts):,} parts, above the limit of {MOST_PARTS:,}: leave it out",
        )
    elements = 0
    for part in xml:
        # Without NULs, UTF-16 is the same as ASCII here.
        source = archive.read(part).replace(b"\0", b"")
        if b"<!DOCTYPE" in source or b"<!ENTITY" in source:
            raise SourceError(
                uri,
                f"declares XML entities in {part.filename}, which no Word document does: "
                "do not trust it",
            )
        elements += source.count(b"<") - source.count(b"</")
        if elements > MOST_ELEMENTS:
            raise SourceError(
                uri,
                f"has more than {MOST_ELEMENTS:,} elements of XML: split it, or leave it "
                "out",
            )


def _levels(opened: Opened) -> dict[str, int]:
    """The level of a heading by the id of its style; -1 for an item of a list."""
    own: dict[str, int | None] = {}
    bases: dict[str, str] = {}
    for style in opened.styles:
        own[style.style_id] = _level(style)
        # Not base_style, which looks through all styles for the one.
        base = style.element.find(f"{_W}basedOn")
        bases[style.style_id] = "" if base is None else base.get(f"{_W}val", "")
    levels: dict[str, int] = {}
    for style_id in own:
        ancestor = style_id
        # Styles may be based on each other in a circle.
        for _ in range(_MOST_BASES):
            if (level := own.get(ancestor)) is not None:
                levels[style_id] = level
                break
            ancestor = bases.get(ancestor, "")
    return levels


def _level(style: Any) -> int | None:
    """What a style says by itself."""
    name = (style.name or "").lower()
    if name == "title":
        return 0
    if name.startswith("heading ") and name[8:].isdigit():
        return int(name[8:])
    if name.startswith("list"):
        return -1
    outline = style.element.find(f"{_W}pPr/{_W}outlineLvl")
    level = 9 if outline is None else _number(outline)
    return level + 1 if level < 9 else None


def _number(element: _Element) -> int:
    value = element.get(f"{_W}val") or ""
    return int(value) if value.isdigit() else 9


class _Page:
    """The text so far.

    Attributes:
        parts: Its pieces, with the gaps between them.
        headings: The offset, level and title of each.
        blocks: Where tables are.
    """

    def __init__(self, levels: dict[str, int]) -> None:
        self.parts: list[str] = []
        self.headings: list[tuple[int, int, str]] = []
        self.blocks: list[tuple[int, int]] = []
        self._levels = levels
        self._length = 0
        self._was_item = False

    def add_all(self, container: _Element) -> None:
        """All that a body, or what else may hold paragraphs and tables, holds."""
        # lxml refuses trees deeper than 256 elements, so that this ends.
        for child in container:
            if child.tag == _P:
                self._add_paragraph(child)
            elif child.tag == _TBL:
                self._add_table(child)
            elif child.tag not in _LEFT_OUT:
                self.add_all(child)

    def _add_paragraph(self, paragraph: _Element) -> None:
        words = "\n".join(line.rstrip() for line in _words(paragraph).split("\n")).strip()
        if not words:
            return
        style = paragraph.find(f"{_W}pPr/{_W}pStyle")
        level = self._levels.get("" if style is None else style.get(f"{_W}val", ""), 99)
        outline = paragraph.find(f"{_W}pPr/{_W}outlineLvl")
        if level == 99 and outline is not None and (own := _number(outline)) < 9:
            level = own + 1
        is_item = level == -1 or (
            level == 99 and paragraph.find(f"{_W}pPr/{_W}numPr") is not None
        )
        start = self._put(f"- {words}" if is_item else words, is_item=is_item)
        if 0 <= level < 99:
            self.headings.append((start, level, " ".join(words.split())))

    def _add_table(self, table: _Element) -> None:
        rows = "\n".join(filter(None, map(_row, _within(table, _TR))))
        if rows:
            start = self._put(rows, is_item=False)
            self.blocks.append((start, self._length))

    def _put(self, piece: str, *, is_item: bool) -> int:
        """Where the piece begins, behind the gap that belongs before it."""
        if self.parts:
            gap = "\n" if is_item and self._was_item else "\n\n"
            self.parts.append(gap)
            self._length += len(gap)
        start = self._length
        self.parts.append(piece)
        self._length += len(piece)
        self._was_item = is_item
        return start


def _row(row: _Element) -> str:
    cells = [_cell(cell) for cell in _within(row, _TC)]
    return " | ".join(cells) if any(cells) else ""


def _cell(cell: _Element) -> str:
    """A cell's text on one line; nothing if the cell above reaches into it."""
    merged = cell.find(f"{_W}tcPr/{_W}vMerge")
    if merged is not None and merged.get(f"{_W}val") != "restart":
        return ""
    return " ".join(_words(cell).split())


def _within(container: _Element, tag: str) -> Iterator[_Element]:
    """The rows of a table or cells of a row, those in content controls too."""
    for child in container:
        if child.tag == tag:
            yield child
        elif child.tag not in (_P, _TBL, *_LEFT_OUT):
            yield from _within(child, tag)


def _words(container: _Element) -> str:
    """The text in an element; paragraphs within it stand on lines of their own."""
    found: list[str] = []
    stack = [container]
    while stack:
        element = stack.pop()
        if element.tag == f"{_W}t":
            found.append(element.text or "")
        elif sign := _SIGNS.get(element.tag):
            found.append(sign)
        elif element.tag not in _LEFT_OUT:
            if element.tag == _P and found:
                found.append("\n")
            stack.extend(reversed(element))
    return "".join(found)
