"""The fast tier: a vector a token from a table, averaged.

The table and its vocabulary are WordLlama's (256 dimensions, distilled from the token
tables of larger models). Its package is MIT; the weights derive in part from LLaMA 2,
whose licence therefore applies to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.embedders.files import model_file
from anabranch.rag.tokens import WordTokenizer
from anabranch.rag.types import Chunk, Vectors

_WEIGHTS = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
_VOCABULARY = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"


class StaticEmbedder:
    """WordLlama's token table, mean pooled: thousands of chunks a second on one core.

    It knows which words occur, not their order. Offline: the weights are in the package
    ``wordllama``, whose own loader is not used since it asks a hub.

    Raises:
        ImportError: The extra ``static`` is not installed.
        ModelError: The files are not the pinned ones.
    """

    name = "wordllama-l2-supercat-256"
    digest = f"{_WEIGHTS[:16]}-{_VOCABULARY[:16]}-words/2"
    dimensions = 256
    max_tokens = 1 << 20  # a mean has no limit
    batch_tokens = 131_072

    def __init__(self) -> None:
        weights = model_file(
            "wordllama",
            "weights/l2_supercat_256.safetensors",
            sha256=_WEIGHTS,
            extra="static",
        )
        vocabulary = model_file(
            "wordllama",
            "tokenizers/l2_supercat_tokenizer_config.json",
            sha256=_VOCABULARY,
            extra="static",
        )
        self.tokenizer = WordTokenizer(vocabulary)
        try:
            from safetensors import numpy as safetensors
        except ModuleNotFoundError as error:
            raise ImportError(
                "the static model needs safetensors: pip install 'anabranch[static]'"
            ) from error
        files: Any = safetensors  # its annotations are partial
        tables: Mapping[str, NDArray[np.float16]] = files.load_file(weights)
        self._table: Vectors = tables["embedding.weight"].astype(np.float32)

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        return await asyncio.to_thread(self._embed, chunks)

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return await self.embed([Chunk("", text, 0, len(text)) for text in texts])

    async def embed_query(self, text: str) -> Vectors:
        vectors: Vectors = self._embed([Chunk("", text, 0, len(text))])[0]
        return vectors

    def _embed(self, chunks: Sequence[Chunk]) -> Vectors:
        vectors = np.zeros((len(chunks), self.dimensions), np.float32)
        for row, chunk in zip(vectors, chunks, strict=True):
            ids = chunk.tokens
            if ids is None:
                ids = self.tokenizer.encode(chunk.text).ids
            # The sum points where the mean does; as a product it takes half the time.
            np.dot(np.ones(len(ids), np.float32), self._table.take(ids, axis=0), out=row)
        return unit_rows(vectors)


def unit_rows(vectors: Vectors) -> Vectors:
    """Each row divided by its length; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
