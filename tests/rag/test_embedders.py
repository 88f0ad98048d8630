"""The two local models: the real weights, without a network."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from anabranch.errors import ModelError, UsageError
from anabranch.rag import MODELS, Chunk, MiniLMEmbedder, StaticEmbedder, local_embedder
from anabranch.rag.embedders.files import model_file
from anabranch.rag.embedders.minilm import batches
from anabranch.rag.types import Vectors

NAMES = pytest.mark.parametrize("name", list(MODELS))

RELATED = [
    ("How do I boil an egg?", "Put the egg in hot water for eight minutes.", "Tax is due."),
    ("The bank raised its interest rate", "Loans became more expensive", "Ducks can swim"),
    ("Where is my parcel?", "Your package is out for delivery", "The cat sleeps"),
]


@cache
def embedder(name: str) -> MiniLMEmbedder | StaticEmbedder:
    return local_embedder(name)


def embed(name: str, *texts: str) -> Vectors:
    chunks = [Chunk("", text, 0, len(text)) for text in texts]
    return asyncio.run(embedder(name).embed(chunks))


@NAMES
def test_related_sentences_are_nearer_than_unrelated_ones(name: str) -> None:
    for question, related, unrelated in RELATED:
        query, near, far = embed(name, question, related, unrelated)
        assert query @ near > query @ far


@NAMES
def test_vectors_are_of_unit_length_and_the_declared_shape(name: str) -> None:
    vectors = embed(name, "a", "two words", "long " * 2000, "")
    assert vectors.shape == (4, embedder(name).dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5)
    assert np.isfinite(vectors).all()


@NAMES
def test_a_text_has_one_vector_whatever_is_embedded_beside_it(name: str) -> None:
    texts = [f"text number {number} " * (number % 9 + 1) for number in range(30)]
    together = embed(name, *texts)
    alone = np.concatenate([embed(name, text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-2 if name == "minilm" else 1e-6)
    query = asyncio.run(embedder(name).embed_query(texts[3]))
    np.testing.assert_allclose(query, alone[3], atol=1e-6)


@NAMES
def test_tokens_that_were_counted_need_not_be_counted_again(name: str) -> None:
    text = "Counted once, and shared by splitter and embedder."
    ids = embedder(name).tokenizer.encode(text).ids
    counted = Chunk("", "another text, which is not looked at", 0, 0, tokens=ids)
    vectors = asyncio.run(embedder(name).embed([counted]))
    np.testing.assert_array_equal(vectors, embed(name, text))


@NAMES
def test_no_network_is_needed(name: str) -> None:
    program = (
        "import socket, asyncio, sys\n"
        "def refuse(*_): raise AssertionError('a connection was tried')\n"
        "socket.socket.connect = refuse\n"
        "from anabranch.rag import local_embedder\n"
        "print(asyncio.run(local_embedder(sys.argv[1]).embed_query('hello')).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, name], capture_output=True, text=True
    )
    assert done.stdout.startswith("("), done.stderr


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="choose from minilm, static"):
        local_embedder("gpt")


def test_a_damaged_model_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "damaged_model"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="without its file model"):
        model_file("damaged_model", "model.onnx", sha256="0" * 64, extra="rag")
    (package / "model.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match="not the pinned 0000"):
        model_file("damaged_model", "model.onnx", sha256="0" * 64, extra="rag")
    with pytest.raises(ImportError, match=r"pip install 'anabranch\[static\]'"):
        model_file("no_such_model", "model.onnx", sha256="0" * 64, extra="static")


def test_batches_hold_similar_lengths_and_every_text_once() -> None:
    lengths = [5, 250, 7, 100, 3, 254, 8, 90]
    groups = batches(lengths, 256)
    assert sorted(index for group in groups for index in group) == list(range(8))
    for group in groups:
        widest = max(lengths[index] for index in group) + 2
        assert len(group) == 1 or widest * len(group) <= 256
