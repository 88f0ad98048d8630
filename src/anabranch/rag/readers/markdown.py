"""Markdown, kept as it was written: its marks are few and people search for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anabranch.rag.readers import text
from anabranch.rag.readers._sections import paths
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

    Each section knows its titles, outermost first; fenced code is a block.

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
    found = scan(body)
    metadata = dict(content.metadata)
    if title := next((title for _, _, title in found.headings if title), None):
        metadata["title"] = title
    metadata |= _fields(front[1]) if front else {}
    yield Document(
        content.uri,
        body,
        metadata,
        [offset for offset, _, _ in found.headings],
        start,
        paths((level, title) for _, level, title in found.headings),
        found.code,
    )


def _fields(front: str) -> dict[str, Scalar]:
    matches = map(_FIELD.fullmatch, map(str.rstrip, front.split("\n")))
    fields = {match[1]: match[2] for match in matches if match}
    return {
        name: value[1:-1] if value[0] == value[-1] and value[0] in "\"'" else value
        for name, value in fields.items()
        if value[0] not in "[{|>&*!"
    }


@dataclass(frozen=True, slots=True)
class Scan:
    """What stands where in a text.

    Attributes:
        headings: The offset, the level from 1 and the title of each.
        code: From the offset of each opening fence to behind its closing one.
    """

    headings: list[tuple[int, int, str]]
    code: list[tuple[int, int]]


def scan(body: str) -> Scan:
    """The headings and the fenced code."""
    found = Scan([], [])
    fence, fence_offset = "", 0
    offset = 0
    before, before_offset = "", 0
    for line in body.split("\n"):
        paragraph = ""
        end = offset + len(line)
        if fence:
            if _closes(line, fence):
                fence = ""
                found.code.append((fence_offset, end))
        elif opening := _opens(line):
            fence, fence_offset = opening, offset
        elif match := _HEADING.match(line):
            title = _CLOSING.sub("", " " + line[match.end() :]).strip()
            found.headings.append((offset, match[0].count("#"), title))
        elif before and (under := _UNDERLINE.match(line)):
            level = 1 if "=" in under[0] else 2
            found.headings.append((before_offset, level, before.strip()))
        elif not _NO_PARAGRAPH.match(line):
            paragraph = line
        before, before_offset = paragraph, offset
        offset = end + 1
    return found


def _opens(line: str) -> str:
    match = _FENCE.match(line)
    # A line such as ```code``` is inline code, not the start of a block.
    return match[1] if match and not (match[1][0] == "`" and "`" in match[2]) else ""


def _closes(line: str, fence: str) -> bool:
    match = _FENCE.match(line)
    return bool(match and match[1].startswith(fence) and not match[2].strip())
