"""From the bytes of a source to its documents, by media type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from anabranch.errors import SourceError
from anabranch.rag.readers import html, markdown, media, pdf, pydoc, python, rst, text
from anabranch.rag.types import Content, Document

_FORMATS: dict[str, Callable[[Content], Iterator[Document]]] = {
    media.TEXT: text.documents,
    media.MARKDOWN: markdown.documents,
    media.RST: rst.documents,
    media.HTML: html.documents,
    media.PDF: pdf.documents,
    media.PYTHON: python.documents,
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
    title = document.metadata.get("title")
    if _is_writable(document.text) and (not isinstance(title, str) or _is_writable(title)):
        return document
    metadata = {
        key: _written(value) if isinstance(value, str) else value
        for key, value in document.metadata.items()
    }
    return replace(document, text=_written(document.text), metadata=metadata)


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
