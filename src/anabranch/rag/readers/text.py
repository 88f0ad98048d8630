"""Plain text, at once or, from a file too large to hold, part by part."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from anabranch.errors import SourceError
from anabranch.rag.readers import _encoding
from anabranch.rag.readers._digest import combined, hasher
from anabranch.rag.readers.files import explain, open_regular
from anabranch.rag.types import Content, Document

PART_CHARACTERS = 256 * 1024
"""The most characters in one document of a text that is read in parts."""

LINE_CHARACTERS = 16 * 1024 * 1024
"""The longest line of a text that is read line by line."""

_SAMPLE = 64 * 1024
# What text files hold besides these: tab, newline, form feed, return, and the escape and
# backspace of terminal logs.
_CONTROLS = re.compile(r"[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd]")


def documents(content: Content) -> Iterator[Document]:
    r"""The text as one document, or as many when it comes as a path.

    Lines end in ``\n``, whatever they ended in. The parts of a large text, joined,
    are the text but for parts that are blank; they end at a paragraph's or a line's end
    where there is one. Offsets count characters of the text with such line ends.

    Raises:
        SourceError: It is not text; or, after the last part, the file has changed.
    """
    if isinstance(content.data, Path):
        yield from _parts(content, content.data)
    elif (text := read(content)).strip():
        yield Document(content.uri, text, content.metadata)


def read(content: Content) -> str:
    r"""All the text of a content that is held, with ``\n`` at the ends of lines.

    A byte order mark decides the encoding, then what was declared, then whether it is
    UTF-8, and else it is Windows-1252.

    Raises:
        SourceError: It is not text.
    """
    data = held(content)
    marked = _encoding.byte_order_mark(data)
    if marked:
        encoding, skip = marked
        data = data[skip:]
    else:
        encoding = _encoding.known(content.charset) or _guess(_encoding.is_utf8(data))
    text = _encoding.decode(data, encoding)
    _require_text(content.uri, text)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def lines(content: Content) -> Iterator[str]:
    r"""The lines of a text of any size, each with its ``\n``, without holding the whole.

    Raises:
        SourceError: It is not text, or a line is too long to be one; or, after the last
            line, the file has changed.
    """
    if isinstance(content.data, Path):
        pieces = _stream(content, content.data)
    else:
        # StringIO would copy it; splitting at once would make a string of every line.
        whole = read(content)
        step = _encoding.SLICE
        pieces = (whole[at : at + step] for at in range(0, len(whole), step))
    rest = ""
    for piece in pieces:
        # Not splitlines(), which takes form feeds and others for ends of lines.
        found = (rest + piece).split("\n")
        rest = found.pop()
        if len(rest) > LINE_CHARACTERS:
            raise SourceError(
                content.uri,
                f"holds a line of more than {LINE_CHARACTERS:,} characters, which is "
                "none: check what it is",
            )
        yield from (f"{line}\n" for line in found)
    if rest:
        yield rest


def held(content: Content) -> bytes:
    """The bytes, read now if the content has only their path."""
    if isinstance(content.data, bytes):
        return content.data
    try:
        with open_regular(content.data) as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise SourceError(content.uri, explain(error)) from error


def _guess(is_utf8: bool) -> str:
    return "utf-8" if is_utf8 else "cp1252"


def _require_text(uri: str, text: str) -> None:
    if (nul := text.find("\0")) >= 0:
        raise SourceError(uri, f"is not text: it holds a NUL at character {nul:,}")
    sample = text[:_SAMPLE]
    # Random bytes read as Windows-1252 are one part in eight such characters.
    if len(_CONTROLS.findall(sample)) * 20 > len(sample):
        raise SourceError(uri, "is not text: too much of it is control characters")


def _parts(content: Content, path: Path) -> Iterator[Document]:
    number = 0
    for start, part in _cut(_stream(content, path)):
        if part.strip():
            yield Document(f"{content.uri}#{number}", part, content.metadata, start=start)
            number += 1


def _cut(pieces: Iterator[str]) -> Iterator[tuple[int, str]]:
    """The text in parts of at most :data:`PART_CHARACTERS`, each with its offset."""
    buffer, start = "", 0
    for piece in pieces:
        buffer += piece
        while len(buffer) > PART_CHARACTERS:
            end = _good_end(buffer)
            yield start, buffer[:end]
            buffer, start = buffer[end:], start + end
    if buffer:
        yield start, buffer


def _good_end(text: str) -> int:
    """Behind a paragraph, else a line, else a word, in the second half of a part."""
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, PART_CHARACTERS // 2, PART_CHARACTERS)
        if found >= 0:
            return found + len(mark)
    return PART_CHARACTERS


def _stream(content: Content, path: Path) -> Iterator[str]:
    """The file's text, piece by piece, and an error at the end if its bytes changed."""
    try:
        with open_regular(path) as file:
            encoding, skip = _find_encoding(content, file)
            file.seek(skip)
            running = hasher()
            running.update(b"" if not skip else _mark_bytes(encoding))
            decoder = io.IncrementalNewlineDecoder(
                codecs.getincrementaldecoder(encoding)("replace"), translate=True
            )
            while piece := file.read(_encoding.SLICE):
                running.update(piece)
                yield decoder.decode(piece)
            yield decoder.decode(b"", final=True)
    except (OSError, ValueError) as error:
        raise SourceError(content.uri, explain(error)) from error
    if combined(running.hexdigest(), content.fields) != content.digest:
        raise SourceError(content.uri, "changed while it was being read: index it again")


def _mark_bytes(encoding: str) -> bytes:
    return "\ufeff".encode(encoding)


def _find_encoding(content: Content, file: BinaryIO) -> tuple[str, int]:
    """The encoding, and the length of the byte order mark before the text.

    Reads the file once to the end, for whether it is UTF-8 and text at all has to be
    known before the first part is given.
    """
    start = file.read(_encoding.SLICE)
    marked = _encoding.byte_order_mark(start)
    encoding, skip = marked or (_encoding.known(content.charset) or "utf-8", 0)
    utf8 = codecs.getincrementaldecoder("utf-8")()
    wide = encoding.startswith(("utf-16", "utf-32"))
    checking = not marked and encoding == "utf-8"
    position, piece = 0, start
    while piece:
        if not wide and (nul := piece.find(b"\0")) >= 0:
            raise SourceError(
                content.uri, f"is not text: it holds a NUL at byte {position + nul:,}"
            )
        if checking:
            try:
                utf8.decode(piece)
            except UnicodeDecodeError:
                checking, encoding = False, "cp1252"
        position += len(piece)
        piece = file.read(_encoding.SLICE)
    if checking and utf8.getstate()[0]:  # It ends in the middle of a character.
        encoding = "cp1252"
    sample = start[skip:_SAMPLE].decode(encoding, "ignore")
    _require_text(content.uri, sample)
    return encoding, skip
