"""reStructuredText, kept as it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from anabranch.rag.readers import text
from anabranch.rag.readers._sections import paths
from anabranch.rag.types import Content, Document

_ADORNMENT = re.compile(r"([!-/:-@[-`{-~])\1+$")
_ROLE = re.compile(r"(?::[\w:+.-]+:)?`[~!]?([^`<]+?)(?:\s*<[^`]*>)?`_{0,2}")


def documents(content: Content) -> Iterator[Document]:
    """The text, with a break at each section title; the first one is the title.

    A file too large to hold is read as plain text.

    Raises:
        SourceError: It is not text.
    """
    if isinstance(content.data, Path):
        yield from text.documents(content)
        return
    body = text.read(content)
    if not body.strip():
        return
    found = list(headings(body))
    metadata = dict(content.metadata)
    if found:
        metadata["title"] = found[0][2]
    yield Document(
        content.uri,
        body,
        metadata,
        [offset for offset, _, _ in found],
        sections=paths((level, title) for _, level, title in found),
    )


def headings(body: str) -> Iterator[tuple[int, int, str]]:
    """The offset of each section, at its overline if it has one, its level and its title.

    The first kind of line is that of level 1, the next new one that of level 2, and so
    on; with an overline it is another kind. An underline is a run of one punctuation
    character at least as long as the title, or of four; the title stands under a blank
    line or under the same run.
    """
    kinds: list[tuple[str, bool]] = []
    above, above_offset = "", 0
    title, title_offset = "", 0
    offset = 0
    for raw in body.split("\n"):
        line = raw.rstrip()
        if _is_adornment(line) and _underlines(line, title, above):
            overlined = above == line
            kind = (line[0], overlined)
            if kind not in kinds:
                kinds.append(kind)
            place = above_offset if overlined else title_offset
            yield place, kinds.index(kind) + 1, plain(title)
        above, above_offset = title, title_offset
        title, title_offset = line, offset
        offset += len(raw) + 1


def _is_adornment(line: str) -> bool:
    return bool(_ADORNMENT.match(line))


def _underlines(line: str, title: str, above: str) -> bool:
    if not title or _is_adornment(title):
        return False
    if above == line:
        return True
    long_enough = len(line) >= min(len(title), 4)
    stands_free = not above or _is_adornment(above)
    return stands_free and long_enough and not title[0].isspace()


def plain(title: str) -> str:
    """A title without the marks of roles and literals."""
    return _ROLE.sub(r"\1", title.replace("``", "")).strip()
