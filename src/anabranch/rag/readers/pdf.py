"""PDF, page by page.

PDFium is not safe to use from several threads, not even on different documents: one lock
guards every call into it. It is held for one page at a time, so that several files can
be read at once without waiting for each other's end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast

from anabranch.errors import SourceError
from anabranch.rag.readers import text
from anabranch.rag.types import Content, Document

_pdfium = threading.Lock()


class _TextPage(Protocol):
    def get_text_bounded(self) -> str: ...
    def close(self) -> None: ...


class _Page(Protocol):
    def get_textpage(self) -> _TextPage: ...
    def close(self) -> None: ...


class _Pdf(Protocol):
    """What is used of pypdfium2, which has no types."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> _Page: ...
    def get_metadata_value(self, key: str) -> str: ...
    def close(self) -> None: ...


def documents(content: Content) -> Iterator[Document]:
    """One document a page that holds text, ``uri#page=1`` and on.

    Metadata: ``page``, from 1, and ``title`` where the file has one.

    Raises:
        SourceError: It is encrypted, broken, or holds no text at all.
        ImportError: pypdfium2 is not installed.
    """
    pdf = _open(content)
    try:
        with _pdfium:
            count = len(pdf)
            title = pdf.get_metadata_value("Title").strip("\0 \t\r\n")
        metadata = dict(content.metadata) | ({"title": title} if title else {})
        found = False
        for index in range(count):
            if page := _page(content.uri, pdf, index):
                found = True
                number = index + 1
                yield Document(
                    f"{content.uri}#page={number}", page, metadata | {"page": number}
                )
        if not found:
            raise SourceError(
                content.uri,
                "holds no text, only pictures of it perhaps: run a text recognition "
                "such as ocrmypdf over it first",
            )
    finally:
        with _pdfium:
            pdf.close()


def _library() -> ModuleType:
    try:
        return import_module("pypdfium2")
    except ImportError as error:
        raise ImportError("PDF needs pypdfium2: pip install 'anabranch[pdf]'") from error


def _open(content: Content) -> _Pdf:
    pypdfium2 = _library()
    data = text.held(content)
    try:
        with _pdfium:
            return cast("_Pdf", pypdfium2.PdfDocument(data))
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            reason = "is encrypted: save a copy without a password"
        else:
            reason = "is not a PDF that can be read: it is broken, or something else"
        raise SourceError(content.uri, reason) from error


def _page(uri: str, pdf: _Pdf, index: int) -> str:
    pypdfium2 = _library()
    try:
        with _pdfium:
            page = pdf[index]
            try:
                textpage = page.get_textpage()
                try:
                    found = textpage.get_text_bounded()
                finally:
                    textpage.close()
            finally:
                page.close()
    except pypdfium2.PdfiumError as error:
        raise SourceError(uri, f"page {index + 1} is broken: {error}") from error
    return clean(found)


def clean(page: str) -> str:
    r"""PDFium's text with ``\n`` at line ends and hyphenated words made whole."""
    page = page.replace("\r\n", "\n").replace("\0", "")
    # PDFium's marks for a hyphen that was put in to break a line.
    for mark in ("\x02", "\ufffe"):
        page = page.replace(f"{mark}\n", "").replace(mark, "")
    return page.strip()
