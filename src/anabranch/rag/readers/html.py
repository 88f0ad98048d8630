"""HTML to text that reads like the page.

Theory of operation. selectolax's parser builds the tree in C, without the interpreter's
lock and without recursion. The tree is then walked once, in document order, in Python:
each step is short, so that an event loop in another thread is never kept waiting, and
nothing here recurses either, whatever the nesting.

The walk gives the start of each element but not its end. So behind each element that
matters the walk puts a text node with a mark, which it meets when the element is over.
Marks begin with NUL, which no parsed text can hold: the parser replaces it.

What stands between two pieces of text is decided by the elements that begin and end
between them: the widest gap wins, but for list items, rows and cells, whose paragraphs
belong on their line. See :class:`_Flow`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from anabranch.errors import SourceError
from anabranch.rag.readers import _encoding, text
from anabranch.rag.types import Content, Document

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode


_TOUCHING, _CELL, _LINE, _PARAGRAPH = range(4)
_GAPS = ("", " | ", "\n", "\n\n")

_META = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE
)
_META_WITHIN = 4096

DEEPEST = 5_000
"""Elements within elements. The parser takes a tenth of a second for so many."""
MOST_ELEMENTS = 1_500_000
"""Each takes half a kilobyte and some microseconds, however short it is."""
_TAGS = re.compile(
    rb"<!--.*?(?:-->|\Z)|<(?:script|style)\b.*?(?:</(?:script|style)|\Z)"
    rb"|<(/?)([a-zA-Z][a-zA-Z0-9]*)",
    re.DOTALL | re.IGNORECASE,
)
_SHALLOW = frozenset(
    b"area base br col embed hr img input link meta param source track wbr "
    b"p li dt dd option optgroup tr td th thead tbody tfoot colgroup rp rt "
    b"a b big code em font i nobr s small strike strong tt u".split()
)
"""Elements without an end, whose end may be left out, or whose depth costs nothing."""
_SQUEEZED_AT_ONCE = 64 * 1024

# Sphinx and others put it behind each heading, as a link to that heading.
_PERMALINK = "¶"


def documents(content: Content) -> Iterator[Document]:
    """The page as one document, with a break at each heading.

    Blank lines part blocks; list items, rows and headings stand on lines of their own,
    cells are parted by bars, and preformatted text is kept as it is. Scripts, styles,
    templates, pictures' markup, navigation and what is only for browsers without scripts
    or frames are left out, and so are permalink signs; no other text is. Metadata:
    ``title``, ``lang``.

    Any bytes give some text: there is no such thing as a syntax error in HTML.

    Raises:
        ImportError: selectolax is not installed.
        SourceError: It is nested deeper, or has more elements, than any page.
    """
    root = parsed(content).root
    if root is None:
        return
    flow = _walk(root)
    page = "".join(flow.parts)
    if not page:
        return
    metadata = dict(content.metadata)
    if title := flow.title or flow.heading_text:
        metadata["title"] = title
    if lang := (root.attributes.get("lang") or "").strip():
        metadata["lang"] = lang
    yield Document(content.uri, page, metadata, flow.breaks)


def parsed(content: Content) -> LexborHTMLParser:
    """The page as a tree, whatever its encoding.

    Raises:
        ImportError: selectolax is not installed.
        SourceError: It is nested deeper, or has more elements, than any page.
    """
    page = _utf8(content)
    _refuse_excess(content.uri, page)
    return _parser(page)


def _utf8(content: Content) -> bytes:
    """The page in the one encoding that the parser reads.

    A byte order mark decides, then the server, then the page itself, then whether it is
    UTF-8, and else it is Windows-1252.
    Source: WHATWG, "HTML", 13.2.3.2.
    """
    data = text.held(content)
    if marked := _encoding.byte_order_mark(data):
        encoding, skip = marked
        data = data[skip:]
    else:
        encoding = (
            _encoding.known(content.charset)
            or _declared(data)
            or ("utf-8" if _encoding.is_utf8(data) else "cp1252")
        )
    # Bytes that are no UTF-8 become U+FFFD when their text is read.
    return data if encoding == "utf-8" else _encode(_encoding.decode(data, encoding))


def _declared(data: bytes) -> str | None:
    match = _META.search(data, 0, _META_WITHIN)
    encoding = _encoding.known(match[1].decode("ascii", "ignore")) if match else None
    # A page whose declaration can be read as ASCII is not in UTF-16, whatever it says.
    return "utf-8" if encoding and encoding.startswith("utf-16") else encoding


def _encode(page: str) -> bytes:
    step = _encoding.SLICE
    return b"".join(
        page[start : start + step].encode("utf-8", "replace")
        for start in range(0, len(page), step)
    )


def _parser(page: bytes) -> LexborHTMLParser:
    try:
        from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser
    except ImportError as error:
        raise ImportError("HTML needs selectolax: pip install 'anabranch[rag]'") from error
    # With scripting, <noscript> is one piece of text and does not end the <head>.
    return LexborHTMLParser(page, options=LexborDocumentOptions.WO_EVENTS, scripting=True)


def _refuse_excess(uri: str, page: bytes) -> None:
    """Refuse more elements than fit in memory, and nesting that no page has.

    The parser's time grows with the square of the depth. That counts the elements whose
    end must be written; a page of few tags cannot be deep.
    """
    # An array is compared several times as fast as bytes count what they often hold.
    tags = np.count_nonzero(np.frombuffer(page, np.uint8) == ord("<"))
    if tags <= DEEPEST or (elements := tags - page.count(b"</")) <= DEEPEST:
        return
    if elements > MOST_ELEMENTS:
        raise SourceError(
            uri, f"has more than {MOST_ELEMENTS:,} elements: split it, or leave it out"
        )
    depth = 0
    for match in _TAGS.finditer(page):
        slash, name = match.groups()
        if name is None or name.lower() in _SHALLOW:
            continue
        depth = max(0, depth - 1) if slash else depth + 1
        if depth > DEEPEST:
            raise SourceError(
                uri, f"nests its elements more than {DEEPEST:,} deep: leave it out"
            )


class _Flow:
    """Text as it comes, with the gaps between its pieces.

    Attributes:
        parts: The text so far: pieces and gaps.
        length: Of the text so far.
        breaks: Where headings begin in it.
        title: The page's, once met.
        heading_text: The first heading's.
        run: Text since the last start or end of a block.
        gap: What will stand before the next piece.
        held: Whether an item, row or cell has just begun: its first paragraph belongs
            on its line, so no wider gap may be asked for until there is text.
        lists: How many lists and tables are open: a nested one continues its item.
        pre: How many preformatted elements are open.
        in_heading: Whether the next piece begins a section.
    """

    __slots__ = (
        "breaks", "gap", "heading_text", "held", "in_heading", "length", "lists",
        "parts", "pre", "run", "title",
    )  # fmt: skip

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.breaks: list[int] = []
        self.title = ""
        self.heading_text = ""
        self.run: list[str] = []
        self.gap = _TOUCHING
        self.held = False
        self.lists = 0
        self.pre = 0
        self.in_heading = False

    def flush(self) -> None:
        """End the piece, if there is one."""
        run = self.run
        if self.pre:
            # A block in preformatted text: it only must not touch the one before.
            if run and not run[-1].endswith("\n"):
                run.append("\n")
        elif run:
            words = squeeze(run[0] if len(run) == 1 else "".join(run))
            run.clear()
            if words:
                self.put(words)

    def put(self, piece: str) -> None:
        parts = self.parts
        if parts and self.gap:
            gap = _GAPS[self.gap]
            parts.append(gap)
            self.length += len(gap)
        if self.in_heading:
            self.in_heading = False
            self.breaks.append(self.length)
            self.heading_text = self.heading_text or piece
        parts.append(piece)
        self.length += len(piece)
        self.gap = _TOUCHING
        self.held = False

    def at_least(self, gap: int) -> None:
        """End the piece; the next one stands at least ``gap`` from it."""
        if self.run:
            self.flush()
        if gap > self.gap and not self.held:
            self.gap = gap

    def exactly(self, gap: int) -> None:
        """End the piece; the next one, however deep it begins, stands ``gap`` from it."""
        if self.run:
            self.flush()
        if not self.held:
            self.gap = gap
            self.held = True

    # What the start, and the end, of each kind of element does.

    def block(self, node: LexborNode | None = None) -> None:
        # Every second step of a walk: at_least() without its call, for the widest gap.
        if self.run:
            self.flush()
        if not self.held:
            self.gap = _PARAGRAPH

    def line(self, node: LexborNode | None = None) -> None:
        self.at_least(_LINE)

    def item(self, node: LexborNode) -> None:
        self.exactly(_LINE)

    def cell(self, node: LexborNode) -> None:
        # The first cell of a row is held on the row's line.
        self.exactly(_CELL)

    def cell_end(self) -> None:
        self.at_least(_CELL)

    def list_start(self, node: LexborNode) -> None:
        if self.lists:
            self.exactly(_LINE)
        else:
            self.at_least(_PARAGRAPH)
            self.held = True
        self.lists += 1

    def list_end(self) -> None:
        self.at_least(_TOUCHING)
        self.lists -= 1
        self.held = False
        self.gap = _LINE if self.lists else _PARAGRAPH

    def heading(self, node: LexborNode) -> None:
        self.at_least(_PARAGRAPH)
        self.in_heading = True

    def heading_end(self) -> None:
        self.at_least(_PARAGRAPH)
        self.in_heading = False

    def line_break(self, node: LexborNode) -> None:
        if self.pre:
            self.run.append("\n")
        else:  # Two in a row are how pages without <p> part their paragraphs.
            alone = self.gap >= _LINE and not self.run
            self.at_least(_PARAGRAPH if alone else _LINE)

    def pre_start(self, node: LexborNode) -> None:
        self.at_least(_PARAGRAPH)
        self.pre += 1

    def pre_end(self) -> None:
        self.pre -= 1
        if not self.pre:
            # Kept as it is, but for blank lines around it.
            piece = "".join(self.run).rstrip()
            self.run.clear()
            if piece:
                self.put(piece.lstrip("\n"))
            self.at_least(_PARAGRAPH)

    def drop(self, node: LexborNode) -> None:
        # The walk goes on with the node's children, so they are what has to go.
        while (child := node.first_child) is not None:
            child.remove()

    def title_start(self, node: LexborNode) -> None:
        self.title = self.title or squeeze(node.text())
        self.drop(node)


_Start = Callable[[_Flow, "LexborNode"], None]
_End = Callable[[_Flow], None]

_ELEMENTS: tuple[tuple[str, _Start, _End | None], ...] = (
    (
        (
            "p div section article main header footer aside dl dt blockquote figure "
            "figcaption form fieldset legend address details summary caption hgroup "
            "center dialog menu dir body"
        ),
        _Flow.block,
        _Flow.block,
    ),
    ("li dd tr", _Flow.item, _Flow.line),
    ("td th", _Flow.cell, _Flow.cell_end),
    ("ul ol table", _Flow.list_start, _Flow.list_end),
    ("option optgroup select", _Flow.line, _Flow.line),
    ("h1 h2 h3 h4 h5 h6", _Flow.heading, _Flow.heading_end),
    ("pre textarea listing xmp plaintext", _Flow.pre_start, _Flow.pre_end),
    ("br", _Flow.line_break, None),
    ("hr", _Flow.block, None),
    (
        "script style template noscript svg nav iframe noembed noframes",
        _Flow.drop,
        None,
    ),
    ("title", _Flow.title_start, None),
)
"""The elements that matter: what their start does, and what their end does."""

_ENDS = {f"\0{row}": end for row, (_, _, end) in enumerate(_ELEMENTS) if end}
"""What to do at each mark."""


@cache
def _starts() -> dict[int, tuple[_Start, str | None]]:
    """By the parser's number for an element: what to do, and the mark to put behind."""
    parser = _parser(b"")
    return {
        parser.create_node(name).tag_id: (start, f"\0{row}" if end else None)
        for row, (names, start, end) in enumerate(_ELEMENTS)
        for name in names.split()
    }


def _walk(root: LexborNode) -> _Flow:
    starts, ends = _starts(), _ENDS
    flow = _Flow()
    run = flow.run
    for node in root.traverse(include_text=True):
        piece = node.text_content
        if piece is None:
            found = starts.get(node.tag_id)
            if found is not None:
                start, mark = found
                if mark is not None:
                    node.insert_after(mark)
                start(flow, node)
        elif piece < "\1":  # A mark, or nothing.
            if end := ends.get(piece):
                end(flow)
        elif (run or flow.pre or not piece.isspace()) and piece != _PERMALINK:
            run.append(piece)
    flow.at_least(_TOUCHING)
    return flow


def squeeze(run: str) -> str:
    """``run`` with each stretch of white space made one space, and none around it."""
    if len(run) <= _SQUEEZED_AT_ONCE:
        return " ".join(run.split())
    pieces: list[str] = []
    for start in range(0, len(run), _SQUEEZED_AT_ONCE):
        piece = run[start : start + _SQUEEZED_AT_ONCE]
        words = " ".join(piece.split())
        # Beside a cut, white space is not around the text but in it.
        pieces += (" " if piece[0].isspace() else "", words)
        pieces.append(" " if piece[-1].isspace() else "")
    return re.sub("  +", " ", "".join(pieces)).strip()
