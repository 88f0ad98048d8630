"""A pipeline that workers can import: of files by lines, with an embedder that counts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from anabranch.rag import Chunk, Embedder, FileReader, Pipeline, Sink, Stage
from anabranch.rag.types import Vectors
from tests.rag.parts import HashEmbedder, LineSplitter


class Loaded(HashEmbedder):
    """Each time it is made is a line of the file that ``LOADED`` names."""

    def __init__(self) -> None:
        super().__init__()
        if name := os.environ.get("LOADED"):
            with Path(name).open("a") as file:
                file.write(f"{os.getpid()}\n")


class Deadly(HashEmbedder):
    """The first worker that is given a deadly text dies of it."""

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        for chunk in chunks:
            if chunk.text.startswith("deadly "):
                try:
                    Path(chunk.text.removeprefix("deadly ")).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return await super().embed(chunks)


class Service(HashEmbedder):
    """One that must be open, and may be opened once."""

    is_open = False

    async def __aenter__(self) -> Self:
        assert not self.is_open
        self.is_open = True
        return self

    async def __aexit__(self, *error: object) -> None:
        self.is_open = False

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        assert self.is_open
        return await super().embed(chunks)


async def tagged(chunk: Chunk) -> Chunk:
    await asyncio.sleep(0)
    return replace(chunk, metadata={**chunk.metadata, "tag": "x"})


def parts(embedder: Embedder, store: Sink) -> Pipeline:
    return Pipeline(
        reader=FileReader(),
        splitter=LineSplitter(),
        embedder=embedder,
        store=store,
        chunks=[Stage("tag", tagged, concurrency=4)],
    )
