"""From the bytes of a source to its documents, by media type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from anabranch.errors import SourceError
from anabranch.rag.readers import (
    code,
    docx,
    html,
    jsonlines,
    markdown,
    media,
    pdf,
    pydoc,
    python,
    rst,
    tables,
    text,
)
from anabranch.rag.types import Content, Document, Scalar

_FORMATS: dict[str, Callable[[Content], Iterator[Document]]] = {
    media.TEXT: text.documents,
    media.MARKDOWN: markdown.documents,
    media.RST: rst.documents,
    media.HTML: html.documents,
    media.PDF: pdf.documents,
    media.DOCX: docx.documents,
    media.CSV: tables.documents,
    media.TSV: tables.documents,
    media.JSON: jsonlines.documents,
    media.JSON_LINES: jsonlines.documents,
    media.PYTHON: code.documents,
    media.CODE: code.documents,
    media.DOCSTRINGS: python.documents,
    media.PYDOC: pydoc.documents,
}

MEDIA_TYPES = frozenset(_FORMATS)
"""The media types that can be understood."""


def documents(content: Content) -> Iterator[Document]:
    """The documents in a source, in its order; none when it holds no text.

    Pure computation, done while it is iterated: safe in a thread, and several at once.
    The ids are unique within the source and the same on every run over the same bytes.
    Each document's metadata is the content's with the document's own on top.

    Raises:
        SourceError: The bytes are not what the media type says, or nothing can be made
            of them. It may come after some documents were given.
    """
    media_type = media.ALIASES.get(content.media_type, content.media_type)
    if media_type not in _FORMATS:
        raise SourceError(content.uri, media.unsupported(media_type))
    yield from map(_writable, _FORMATS[media_type](content))


def _writable(document: Document) -> Document:
    """The document without lone surrogates, which escapes in code can make of nothing.

    No encoding can write them down. Offsets stay: each is replaced by a question mark.
    """
    if _is_writable(document.text) and all(map(_is_writable, _said(document))):
        return document
    return replace(
        document,
        text=_written(document.text),
        metadata={name: _written_value(each) for name, each in document.metadata.items()},
        sections=[tuple(map(_written, titles)) for titles in document.sections],
    )


def _said(document: Document) -> Iterator[str]:
    """Every text in a document's metadata and sections."""
    for value in document.metadata.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, Sequence):
            yield from (each for each in value if isinstance(each, str))
    for titles in document.sections:
        yield from titles


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written_value(value: Scalar | Sequence[Scalar]) -> Scalar | Sequence[Scalar]:
    if isinstance(value, str):
        return _written(value)
    if isinstance(value, Sequence):
        return [_written(each) if isinstance(each, str) else each for each in value]
    return value


def _written(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
