"""Markdown, kept as it was written: its marks are few and people search for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from anabranch.rag.readers import text
from anabranch.rag.types import Content, Document, Scalar

_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+|$)")
_CLOSING = re.compile(r"[ \t]+#+[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
# What cannot be the paragraph line that an underline turns into a heading.
_NO_PARAGRAPH = re.compile(r"\s*$| {4}|\t| {0,3}(?:>|[-*+] |\d+[.)] |\|)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_FRONT = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"([A-Za-z_][\w-]*):[ \t]+(\S.*)")


def documents(content: Content) -> Iterator[Document]:
    """The text below the front matter, with a break at each heading outside code.

    ``key: value`` lines of the front matter become metadata, as strings; what is nested
    or listed there is left out. The title is the front matter's, or the first heading.
    A file too large to hold is read as plain text.

    Raises:
        SourceError: It is not text.
    """
    if isinstance(content.data, Path):
        yield from text.documents(content)
        return
    source = text.read(content)
    front = _FRONT.match(source)
    start = front.end() if front else 0
    body = source[start:]
    if not body.strip():
        return
    found = list(headings(body))
    metadata = dict(content.metadata)
    if title := next((title for _, title in found if title), None):
        metadata["title"] = title
    metadata |= _fields(front[1]) if front else {}
    breaks = [offset for offset, _ in found]
    yield Document(content.uri, body, metadata, breaks, start)


def _fields(front: str) -> dict[str, Scalar]:
    matches = map(_FIELD.fullmatch, map(str.rstrip, front.split("\n")))
    fields = {match[1]: match[2] for match in matches if match}
    return {
        name: value[1:-1] if value[0] == value[-1] and value[0] in "\"'" else value
        for name, value in fields.items()
        if value[0] not in "[{|>&*!"
    }


def headings(body: str) -> Iterator[tuple[int, str]]:
    """The offset and the title of each heading."""
    fence = ""
    offset = 0
    before, before_offset = "", 0
    for line in body.split("\n"):
        paragraph = ""
        if fence:
            if _closes(line, fence):
                fence = ""
        elif opening := _opens(line):
            fence = opening
        elif match := _HEADING.match(line):
            yield offset, _CLOSING.sub("", " " + line[match.end() :]).strip()
        elif before and _UNDERLINE.match(line):
            yield before_offset, before.strip()
        elif not _NO_PARAGRAPH.match(line):
            paragraph = line
        before, before_offset = paragraph, offset
        offset += len(line) + 1


def _opens(line: str) -> str:
    match = _FENCE.match(line)
    # A line such as ```code``` is inline code, not the start of a block.
    return match[1] if match and not (match[1][0] == "`" and "`" in match[2]) else ""


def _closes(line: str, fence: str) -> bool:
    match = _FENCE.match(line)
    return bool(match and match[1].startswith(fence) and not match[2].strip())
