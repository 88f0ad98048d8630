"""The records that flow through a pipeline, and the seams where a part can be replaced.

::

    Reader ──Content──▶ parse ──Document──▶ Splitter ──Chunk──▶ Embedder ──▶ VectorStore
                                                                                  │
                                              Hit ◀── Retriever ◀─────────────────┘
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.fields import Fields
from anabranch.rag.filters import Metadata, Scalar, Where

__all__ = [
    "Chunk",
    "Content",
    "Document",
    "Embedder",
    "Fields",
    "Hit",
    "Metadata",
    "Reader",
    "Retriever",
    "Scalar",
    "Splitter",
    "TokenIds",
    "Vectors",
    "Where",
]

Vectors: TypeAlias = NDArray[np.float32]
"""Shape ``(n, dimensions)``, or ``(dimensions,)`` for one; rows of unit length."""
TokenIds: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a reader fetched: the bytes of one source, not yet understood.

    Attributes:
        uri: The source's name in the index, the same on every run.
        media_type: Such as ``text/html``, lower case, without parameters.
        digest: Hex BLAKE2b-128 of the bytes, and of ``fields`` if there are any; equal
            digests mean nothing has changed.
        data: The bytes, or the path of a file too large to hold in memory.
        charset: As declared by whoever served it, if anyone did.
        metadata: What the reader knows beside the bytes.
        fields: Which fields of its records are text and which metadata, where it is a
            table or JSON; None means what :class:`Fields` means by default.
    """

    uri: str
    media_type: str
    digest: str
    data: bytes | Path
    charset: str | None = None
    metadata: Metadata = field(default_factory=dict[str, Scalar])
    fields: Fields | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a name.

    Attributes:
        id: The source's URI, with ``#part`` behind it where a source holds several.
        text: Plain text. Blank lines part paragraphs.
        metadata: ``title`` is shown to people and searched with the text.
        breaks: Ascending character offsets where a section begins: good places to split.
        start: The offset of ``text`` in the source, for a document read in parts.
        sections: The titles of the section at each of ``breaks``, outermost first; empty
            where nobody knows them. They become ``section`` in a chunk's metadata.
        blocks: Ascending spans ``(from, to)`` of what belongs together, such as code: a
            chunk does not end within one where that can be avoided.
    """

    id: str
    text: str
    metadata: Metadata = field(default_factory=dict[str, Scalar])
    breaks: Sequence[int] = ()
    start: int = 0
    sections: Sequence[tuple[str, ...]] = ()
    blocks: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: what is embedded, stored and found.

    Attributes:
        document_id: The document it was cut from.
        text: ``document.text[start:end]``, counted from the document's own start.
        start: First character.
        end: One past the last character.
        metadata: The document's, and ``section``: the titles of the section that the
            chunk begins in, outermost first, where they are known.
        tokens: The ids an embedder's own tokenizer gave, so that it need not count again.
    """

    document_id: str
    text: str
    start: int
    end: int
    metadata: Metadata = field(default_factory=dict[str, Scalar])
    tokens: TokenIds | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found.

    Attributes:
        key: The passage's number in its store; the same passage has one key.
        score: Higher is better; only comparable within one ranking.
        ranks: The rank, from 1, that each retriever by name gave the passage.
    """

    key: int
    source: str
    document_id: str
    text: str
    start: int
    end: int
    metadata: Metadata
    score: float
    ranks: Mapping[str, int]


class Reader(Protocol):
    """Gives the content of a source."""

    async def read(self, uri: str) -> Content:
        """The bytes behind ``uri``.

        Raises:
            SourceError: It cannot be read; the sentence says why.
        """
        ...


class Splitter(Protocol):
    """Cuts a document into chunks, lazily and in order."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same document would be cut otherwise."""
        ...

    def split(self, document: Document) -> Iterator[Chunk]: ...


class Embedder(Protocol):
    """Turns texts into vectors.

    What are properties here may be plain attributes of an embedder.
    """

    @property
    def name(self) -> str:
        """The model, for people."""
        ...

    @property
    def digest(self) -> str:
        """Changes whenever the same text would get another vector."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """What the model reads of one text; the rest is cut off."""
        ...

    @property
    def batch_tokens(self) -> int:
        """How many tokens one call handles best."""
        ...

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        """One unit vector a chunk, in their order: shape ``(len(chunks), dimensions)``."""
        ...

    async def embed_query(self, text: str) -> Vectors:
        """The unit vector of a question: shape ``(dimensions,)``."""
        ...


@runtime_checkable
class EmbedsQueries(Protocol):
    """What an :class:`Embedder` may be besides: one that takes many questions at once.

    Of one that is not, questions are asked one by one.
    """

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The unit vector of each question: shape ``(len(texts), dimensions)``."""
        ...


class Retriever(Protocol):
    """Finds passages for a question.

    Attributes:
        name: Unique among the retrievers that are fused; shown with each hit.
    """

    name: str

    async def retrieve(
        self, query: str, *, k: int = 5, where: Where | None = None
    ) -> Sequence[Hit]:
        """At most ``k`` passages, best first."""
        ...
