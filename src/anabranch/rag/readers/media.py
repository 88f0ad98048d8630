"""Which kinds of source can be read, and how a name or its first bytes tell the kind."""

from __future__ import annotations

from pathlib import PurePosixPath

TEXT = "text/plain"
MARKDOWN = "text/markdown"
RST = "text/x-rst"
HTML = "text/html"
PDF = "application/pdf"
PYTHON = "text/x-python"
PYDOC = "application/x-anabranch-pydoc+json"
"""A JSON list of ``{"name", "kind", "signature", "doc"}``, all strings: the docstrings
of a module that has no source to read them from. ``kind`` is ``module``, ``class``,
``function``, ``method`` or ``topic``."""

SUFFIXES = {
    ".txt": TEXT,
    ".text": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".rst": RST,
    ".rest": RST,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".pdf": PDF,
    ".py": PYTHON,
}

KINDS = {
    "text": TEXT,
    "markdown": MARKDOWN,
    "rst": RST,
    "html": HTML,
    "pdf": PDF,
    "python": PYTHON,
}
"""The kinds of file by the names people use, and the media type of each."""

ALIASES = {
    "application/xhtml+xml": HTML,
    "application/x-pdf": PDF,
    "application/x-python-code": PYTHON,
    "text/x-script.python": PYTHON,
    "text/x-markdown": MARKDOWN,
    "text/prs.fallenstein.rst": RST,
    "text/rst": RST,
}
"""Other names servers use, and ours for the same thing."""

STREAMABLE = frozenset({TEXT, MARKDOWN, RST})
"""What can be read piece by piece, so that its size does not matter."""


def of_name(name: str) -> str | None:
    """The media type that a file's name or URL's path suggests, if any."""
    return SUFFIXES.get(PurePosixPath(name).suffix.lower())


def of_bytes(start: bytes) -> str | None:
    """The media type that the first bytes suggest; None when they are not text."""
    head = start[:1024].lstrip().lower()
    if head.startswith(b"%pdf-"):
        return PDF
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return HTML
    return None if b"\0" in head else TEXT


def unsupported(media_type: str) -> str:
    """Why a page of this type is of no use, and which would be."""
    return f"is {media_type}, which cannot be read: {', '.join(KINDS)} can"
