"""A cross-encoder out of a folder, run by the real ONNX Runtime."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anabranch.errors import ModelError, UsageError
from anabranch.rag import CrossEncoder, FusionRetriever
from tests.rag.retrievers.fakes import Fixed, hit
from tests.rag.retrievers.onnx import write_model

WORDS = {"good": 1.0, "better": 2.0, "bad": -1.5, "and": 0.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path, WORDS)
    return tmp_path


def test_each_text_has_the_score_of_its_own_pair_however_long_the_others(folder) -> None:
    model = CrossEncoder(folder)
    # So many, and of such lengths, that they make several batches.
    texts = ["good " * n + "bad" for n in range(100)] + ["", "unknown words"]
    scores = asyncio.run(model.scores("better better", texts))
    assert scores == [n - 1.5 for n in range(100)] + [0, 0]
    assert asyncio.run(model.scores("better", [])) == []


def test_a_model_of_no_and_yes_gives_their_difference(tmp_path: Path) -> None:
    write_model(tmp_path, WORDS, outputs=2)
    assert asyncio.run(CrossEncoder(tmp_path).scores("q", ["good", "bad"])) == [2, -3]


def test_a_model_without_segments_or_in_a_folder_of_its_own_is_run(tmp_path: Path) -> None:
    write_model(tmp_path, WORDS, inputs=("input_ids", "attention_mask"))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "model.onnx").rename(tmp_path / "onnx" / "model.onnx")
    scores = asyncio.run(CrossEncoder(tmp_path).scores("good", ["better", "bad bad"]))
    assert scores == [3, -2]  # the question's words count too


def test_what_is_too_long_is_cut_question_or_text(folder: Path) -> None:
    model = CrossEncoder(folder, max_tokens=13)  # ten words and three special tokens
    assert asyncio.run(model.scores("and", ["good " * 50])) == [9]
    [score] = asyncio.run(model.scores("and " * 50, ["good " * 3]))
    assert score == 3


def test_it_puts_the_passages_that_were_found_in_order(folder: Path) -> None:
    found = [hit(1, "bad"), hit(2, "good"), hit(3, "better and good")]
    fusion = FusionRetriever([Fixed("a", found)], rerank=CrossEncoder(folder))
    fused = asyncio.run(fusion.fuse("and"))
    assert [(each.key, each.score) for each in fused.hits] == [(3, 3), (2, 1), (1, -1.5)]
    assert fused.failures == {}


def test_a_model_of_many_numbers_is_no_cross_encoder(tmp_path: Path) -> None:
    write_model(tmp_path, WORDS, outputs=3)
    model = CrossEncoder(tmp_path)
    with pytest.raises(ModelError, match="gives 3 numbers a text"):
        asyncio.run(model.scores("q", ["good"]))
    fused = asyncio.run(FusionRetriever([Fixed("a", [1])], rerank=model).fuse("q"))
    assert [each.key for each in fused.hits] == [1]
    assert isinstance(fused.failures["rerank"], ModelError)


def test_a_folder_without_a_model_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no model"):
        CrossEncoder(tmp_path)
    write_model(tmp_path, WORDS)
    (tmp_path / "tokenizer.json").rename(tmp_path / "words.json")
    with pytest.raises(ModelError, match="has no tokenizer"):
        CrossEncoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is no tokenizer"):
        CrossEncoder(tmp_path)
    (tmp_path / "words.json").replace(tmp_path / "tokenizer.json")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be run"):
        CrossEncoder(tmp_path)
    write_model(tmp_path, WORDS, inputs=["pixels"])
    with pytest.raises(ModelError, match="takes pixels and no input_ids"):
        CrossEncoder(tmp_path)
    with pytest.raises(UsageError, match="max_tokens must be"):
        CrossEncoder(tmp_path, max_tokens=2)
