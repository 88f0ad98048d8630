# pyright: basic
# onnxruntime and tokenizers ship no complete types; what they give is checked here.
"""A cross-encoder on this machine: a model that reads question and passage together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anabranch.errors import ModelError
from anabranch.jobs import amap
from anabranch.jobs.check import check_count
from anabranch.jobs.cores import usable_cores
from anabranch.rag.embedders.minilm import batches

# Padded tokens of one run. As with embedding, larger ones need more memory and are no
# faster on a processor.
BATCH_TOKENS = 512
_MODEL_FILES = ("model.onnx", "onnx/model.onnx")


class CrossEncoder:
    """A :class:`~anabranch.rag.Reranker` out of a folder, run by ONNX Runtime.

    The folder holds ``model.onnx`` (or ``onnx/model.onnx``) and ``tokenizer.json``, as
    exports of sequence classifiers for ranking do. Every usable core runs one batch of
    similar lengths at a time, off the event loop. Nothing is downloaded.

    Args:
        folder: Of the model.
        max_tokens: What the model reads of question and passage together; the longer one
            is cut.

    Raises:
        ImportError: The extra ``rag`` is not installed.
        ModelError: A file is missing or is not what it should be.
        UsageError: ``max_tokens`` cannot be meant.
    """

    def __init__(
        self, folder: str | PathLike[str], *, max_tokens: int = 512, name: str = "rerank"
    ) -> None:
        check_count("max_tokens", max_tokens, least=8)
        self.name = name
        self._folder = Path(folder)
        model = next((p for n in _MODEL_FILES if (p := self._folder / n).is_file()), None)
        vocabulary = self._folder / "tokenizer.json"
        if model is None or not vocabulary.is_file():
            missing = "model.onnx" if model is None else "tokenizer.json"
            raise ModelError(
                f"{folder} has no {missing}: give the folder of a cross-encoder that was "
                "exported to ONNX, with its tokenizer"
            )
        self._tokenizer = _tokenizer(vocabulary, max_tokens)
        self._session = _session(model)
        self._inputs = {given.name for given in self._session.get_inputs()}
        if "input_ids" not in self._inputs:
            raise ModelError(
                f"{model} takes {', '.join(sorted(self._inputs))} and no input_ids: it is "
                "no model of text"
            )

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """How well each text answers, in their order: the model's own score.

        Raises:
            ModelError: The model gives something else than one score a text, or two.
        """
        pairs = await asyncio.to_thread(
            self._tokenizer.encode_batch, [(query, text) for text in texts]
        )
        found = np.zeros(len(texts), np.float64)

        async def run(rows: Sequence[int]) -> None:
            found[rows] = await asyncio.to_thread(self._run, [pairs[row] for row in rows])

        lengths = [len(pair.ids) for pair in pairs]
        await amap(run, batches(lengths, BATCH_TOKENS), concurrency=usable_cores())
        scores: list[float] = found.tolist()
        return scores

    def _run(self, pairs: Sequence[Any]) -> NDArray[np.float64]:
        width = max(len(pair.ids) for pair in pairs)
        feeds = {
            name: np.zeros((len(pairs), width), np.int64)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        for row, pair in enumerate(pairs):
            end = len(pair.ids)
            feeds["input_ids"][row, :end] = pair.ids
            feeds["attention_mask"][row, :end] = 1
            feeds["token_type_ids"][row, :end] = pair.type_ids
        known = {name: rows for name, rows in feeds.items() if name in self._inputs}
        logits = np.asarray(self._session.run(None, known)[0], np.float64)
        logits = logits.reshape(len(pairs), -1)
        match logits.shape[1]:
            case 1:
                return logits[:, 0]
            case 2:  # no and yes
                return logits[:, 1] - logits[:, 0]
            case size:
                raise ModelError(
                    f"the model in {self._folder} gives {size} numbers a text: a "
                    "cross-encoder gives one, or two for no and yes"
                )


def _tokenizer(file: Path, max_tokens: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ImportError(
            "CrossEncoder needs tokenizers: pip install 'anabranch[rag]'"
        ) from error
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # of no class of its own
        raise ModelError(f"{file} is no tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _session(file: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ImportError(
            "CrossEncoder needs onnxruntime: pip install 'anabranch[rag]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of a class of its own for each reason
        raise ModelError(f"{file} cannot be run: {error}") from error
