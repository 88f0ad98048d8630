"""Documents in a list, and what is not among them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from anabranch.errors import SourceError
from anabranch.rag.readers import media
from anabranch.rag.readers.parse import documents
from anabranch.rag.types import Content, Document
from anabranch.rag.web.frontier import Duplicate
from anabranch.rag.web.outline import outline


class Loaded(list[Document]):
    """Documents, with what became of the other pages.

    HTML documents have ``title``, ``headings`` and ``links`` in their metadata.

    Attributes:
        errors: Pages that could not be read, and why.
        duplicates: Pages that are others that are here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[SourceError] = []
        self.duplicates: list[Duplicate] = []

    async def take(self, item: Content | SourceError, *, fail_on_error: bool) -> None:
        """Add the documents of a page, or its error.

        Raises:
            SourceError: It cannot be understood, under ``fail_on_error``.
        """
        if isinstance(item, SourceError):
            self.errors.append(item)
            return
        try:
            self += await asyncio.to_thread(_understood, item)
        except SourceError as error:
            if fail_on_error:
                raise
            self.errors.append(error)


def _understood(content: Content) -> list[Document]:
    if content.media_type == media.HTML:
        found = outline(content, str(content.metadata["url"]))
        beside = {"headings": list(found.headings), "links": list(found.links)}
        content = replace(content, metadata={**content.metadata, **beside})
    return list(documents(content))
