"""What flows through a pipeline behind the readers, and how it is cut: pure computing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from anabranch.errors import SourceError
from anabranch.rag.plan import Verdict, Version, text_digest
from anabranch.rag.readers.parse import documents
from anabranch.rag.types import Chunk, Content, Document, Splitter

T = TypeVar("T")

# Chunks of a source that are handled together.
PIECE_CHUNKS = 64
# Documents of a source that are handled together, unless they are as large as this.
PART_DOCUMENTS = 64
PART_CHARACTERS = 262_144


@dataclass(frozen=True, slots=True)
class Order:
    """A source to be indexed: its content, and what it is to the store."""

    content: Content
    version: Version
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """Consecutive documents or chunks of one version.

    Attributes:
        documents: How many documents begin in it.
        is_last: Nothing of the version follows. It may be empty.
    """

    version: Version
    verdict: Verdict
    items: Sequence[T]
    documents: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A version that broke after some of it may have been stored.

    What follows of it is to be left out.
    """

    version: Version
    error: SourceError


@dataclass(frozen=True, slots=True)
class Piece:
    """Chunks as they are embedded and stored."""

    part: Part[Chunk]
    digests: Sequence[bytes]


Documents: TypeAlias = Part[Document] | Failed
Chunks: TypeAlias = Part[Chunk] | Failed
Pieces: TypeAlias = Piece | Failed


def parsed(orders: Iterable[Order]) -> Iterator[Documents]:
    """Each source as its documents, a part at a time."""
    for order in orders:
        try:
            yield from _parsed_one(order)
        except SourceError as error:
            yield Failed(order.version, error)
        except Exception as error:
            # A parser met what its author did not foresee: this source only.
            yield _not_understood(order.version, error)


def cut(parts: Iterable[Documents], splitter: Splitter) -> Iterator[Chunks]:
    """Each part as its chunks, in pieces."""
    for part in parts:
        if isinstance(part, Failed):
            yield part
            continue
        try:
            yield from _cut_one(part, splitter)
        except Exception as error:
            yield _not_understood(part.version, error)


async def unbroken(
    parts: AsyncGenerator[Part[T] | Failed],
) -> AsyncGenerator[Part[T] | Failed]:
    """Nothing of a version behind its failure."""
    broken: Version | None = None
    async with aclosing(parts):
        async for part in parts:
            # By identity: the same source may come twice.
            if part.version is not broken:
                yield part
            if isinstance(part, Failed):
                broken = part.version


def weight(part: Part[Document] | Part[Chunk] | Failed) -> int:
    """Roughly how many chunks of usual length it is."""
    if isinstance(part, Failed):
        return 1
    return 1 + sum(len(item.text) for item in part.items) // 1024


def sealed(chunks: Chunks) -> Pieces:
    """Chunks of which nothing will change any more."""
    if isinstance(chunks, Failed):
        return chunks
    return Piece(chunks, [text_digest(chunk.text) for chunk in chunks.items])


def _not_understood(version: Version, error: Exception) -> Failed:
    reason = f"cannot be understood ({type(error).__name__}: {error})"
    return Failed(version, SourceError(version.uri, reason))


def _parsed_one(order: Order) -> Iterator[Part[Document]]:
    def part(*, is_last: bool) -> Part[Document]:
        return Part(order.version, order.verdict, found, len(found), is_last)

    found: list[Document] = []
    characters = 0
    for document in documents(order.content):
        if len(found) == PART_DOCUMENTS or characters >= PART_CHARACTERS:
            yield part(is_last=False)
            found, characters = [], 0
        found.append(document)
        characters += len(document.text)
    yield part(is_last=True)


def _cut_one(part: Part[Document], splitter: Splitter) -> Iterator[Part[Chunk]]:
    def piece(*, is_last: bool) -> Part[Chunk]:
        return Part(part.version, part.verdict, chunks, count, is_last)

    chunks: list[Chunk] = []
    count = 0
    for document in part.items:
        count += 1
        for chunk in splitter.split(document):
            if len(chunks) == PIECE_CHUNKS:
                yield piece(is_last=False)
                chunks, count = [], 0
            chunks.append(chunk)
    yield piece(is_last=part.is_last)
