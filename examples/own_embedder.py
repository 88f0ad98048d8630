"""A pipeline with an embedder of your own: any object with these attributes and methods.

This one counts words into a fixed number of places. It knows nothing of meaning, but it
is twenty lines and has all that a model behind an HTTP endpoint would have. The rest of
the pipeline (reader, store, resumption, retrievers) is the library's.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from anabranch.rag import (
    Chunk,
    Document,
    FullTextRetriever,
    FusionRetriever,
    Pipeline,
    Sources,
    SqliteStore,
    VectorRetriever,
)
from anabranch.rag.types import Vectors


class CountingEmbedder:
    """The words of a text, counted."""

    name = "counting"
    digest = "counting/1"  # change it whenever the same text gets another vector
    dimensions = 512
    max_tokens = 1000
    batch_tokens = 4000

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        vectors = np.zeros((len(chunks), self.dimensions), np.float32)
        for row, chunk in zip(vectors, chunks, strict=True):
            for word in chunk.text.lower().split():
                row[crc32(word.strip(".,:;!?#").encode()) % self.dimensions] += 1
        unit: Vectors = vectors / np.maximum(
            np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9
        )
        return unit

    async def embed_query(self, text: str) -> Vectors:
        vector: Vectors = (await self.embed([Chunk("", text, 0, len(text))]))[0]
        return vector


class ParagraphSplitter:
    """A chunk a paragraph."""

    fingerprint = "paragraphs/1"  # change it whenever a text would be cut otherwise

    def split(self, document: Document) -> Iterator[Chunk]:
        start = document.start
        for paragraph in document.text.split("\n\n"):
            end = start + len(paragraph)
            if paragraph.strip():
                yield Chunk(document.id, paragraph, start, end, document.metadata)
            start = end + len("\n\n")


async def main(folder: Path) -> None:
    (folder / "tea.txt").write_text("Green tea: 80 degrees.\n\nBlack tea: boiling water.")
    (folder / "coffee.txt").write_text("Filter coffee: just off the boil.")
    embedder = CountingEmbedder()
    async with (
        Sources([folder / "tea.txt", folder / "coffee.txt"]) as sources,
        await SqliteStore.create(folder / "my-index", embedder) as store,
    ):
        pipeline = Pipeline(
            reader=sources, splitter=ParagraphSplitter(), embedder=embedder, store=store
        )
        for run in ("first", "second"):
            report = await pipeline.run(sources)
            print(f"{run} run: {report.embedded} passages embedded")

        retriever = FusionRetriever(
            [VectorRetriever(store, embedder), FullTextRetriever(store)]
        )
        fused = await retriever.fuse("How hot is the water for black tea?", k=2)
        for hit in fused.hits:
            print(f"{hit.score:.4f} {hit.text!r} {dict(hit.ranks)}")


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(Path(folder)))
