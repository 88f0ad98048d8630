"""What is written to a store, and what comes out of one whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from anabranch.rag.plan import Version
from anabranch.rag.types import Chunk, Vectors


@dataclass(frozen=True, slots=True)
class Add:
    """Write more chunks of a version, the first of which begins it.

    Attributes:
        version: What the chunks are of.
        chunks: In order, behind those added before.
        digests: Of each chunk's text.
        vectors: Of each chunk: shape ``(len(chunks), dimensions)``.
        is_last: The version is complete with these, and takes the place of the one before.
    """

    version: Version
    chunks: Sequence[Chunk]
    digests: Sequence[bytes]
    vectors: Vectors
    is_last: bool


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give up the version of a source that is being written."""

    uri: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a source, whole."""

    uri: str


Write: TypeAlias = Add | Abandon | Remove


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as it is stored.

    Attributes:
        key: The passage's number in its store, as in a hit.
        source: The source's name.
        chunk: As it was added, but for what no store holds.
        digest: Of the chunk's text, as it was added.
        vector: Shape ``(dimensions,)``.
    """

    key: int
    source: str
    chunk: Chunk
    digest: bytes
    vector: Vectors


class Count(NamedTuple):
    """How much can be found.

    Attributes:
        sources: Complete ones.
        passages: Of these.
    """

    sources: int
    passages: int
