"""A splitter of ours around one of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from anabranch.rag.adapters.records import place
from anabranch.rag.types import Chunk, Document, Metadata

Passage: TypeAlias = tuple[str, int | None, Metadata]
"""Its text, where it begins if theirs says so, and its own metadata."""


class AdaptedSplitter:
    """A :class:`~anabranch.rag.Splitter` that cuts as one of another library does.

    A passage's offsets are where its text stands in the document. Where it does not, since
    theirs has written it anew, they are the whole document's. Blank passages are left out.
    Use one in one thread at a time.

    Attributes:
        fingerprint: Changes with its settings, as far as can be told.
    """

    def __init__(
        self, cut: Callable[[Document], Iterable[Passage]], *, fingerprint: str
    ) -> None:
        self.fingerprint = fingerprint
        self._cut = cut

    def split(self, document: Document) -> Iterator[Chunk]:
        """The document's passages, in theirs' order."""
        text, begins = document.text, document.start
        after = 0
        for passage, said, metadata in self._cut(document):
            if not passage.strip():
                continue
            start = said
            if start is None or not text.startswith(passage, start):
                # Passages may overlap, so the next one is looked for behind its start only.
                start = place(text, passage, after)
            known = {**document.metadata, **metadata}
            if start is None:
                yield Chunk(document.id, passage, begins, begins + len(text), known)
            else:
                after = start + 1
                end = start + len(passage)
                yield Chunk(document.id, passage, begins + start, begins + end, known)
