"""Small parts with the real contracts, that count what they are asked to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np

from anabranch.errors import SourceError
from anabranch.rag import Chunk, Content, Document
from anabranch.rag.types import Vectors


class HashEmbedder:
    """A vector from the digest of each text: equal texts, equal vectors."""

    name = "hash-8"
    digest = "hash-8/1"
    dimensions = 8
    max_tokens = 1000
    batch_tokens = 12

    def __init__(self) -> None:
        self.embedded: list[str] = []

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        self.embedded += [chunk.text for chunk in chunks]
        return np.array([vector_of(chunk.text) for chunk in chunks], np.float32)

    async def embed_query(self, text: str) -> Vectors:
        return vector_of(text)


def vector_of(text: str) -> Vectors:
    digest = blake2b(text.encode(), digest_size=8).digest()
    vector = np.frombuffer(digest, np.uint8).astype(np.float32) + np.float32(1)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class LineSplitter:
    """A chunk a line."""

    fingerprint = "lines/1"

    def split(self, document: Document) -> Iterator[Chunk]:
        start = 0
        for line in document.text.splitlines(keepends=True):
            text = line.rstrip("\n")
            yield Chunk(document.id, text, start, start + len(text), document.metadata)
            start += len(line)


class Shelf:
    """A reader of texts that are held by name; ``None`` cannot be read."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = dict(texts)
        self.reads = 0

    async def read(self, uri: str) -> Content:
        self.reads += 1
        text = self.texts[uri]
        if text is None:
            raise SourceError(uri, "is out on loan: ask again later")
        data = text.encode()
        digest = blake2b(data, digest_size=16).hexdigest()
        return Content(uri=uri, media_type="text/plain", digest=digest, data=data)

    async def names(self) -> AsyncIterator[str | SourceError]:
        for name in self.texts:
            yield name
