"""Tokens with their places in the text, several times as fast as encoding it whole.

A word's tokens depend on the word alone in the vocabularies we use: WordPiece looks at
words by construction, and no entry of the BPE vocabulary spans the space between two
words. So each distinct word is encoded once and remembered under a number; a text is then
one look-up a word and a few array operations a block.

Why, and what it costs: docs/decisions/0008-words-are-tokenised-once.md.

White space itself gives no tokens: a text and its re-wrapped twin get the same vector.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import punctuation
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.types import TokenIds

# A piece is a word with the punctuation and the spaces behind it: few pieces, and each
# is met again soon. ASCII punctuation parts words, as it does for WordPiece. A run of 64
# characters without any is rarely a word; cutting it there bounds the tokens of a piece
# (three bytes a character at worst), so a chunk can always be cut between two pieces.
# Chinese and Japanese have no spaces: there each ideograph is a piece, as it is for
# WordPiece, and their marks end one, so that a chunk can end with a sentence.
_IDEOGRAPHS = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_OPENING = r"\u3008\u300a\u300c\u300e\u3010\u3014\u3016\u3018\u301a\uff08\uff62"
_CLOSING = (
    r"\u3001-\u3003\u3009\u300b\u300d\u300f\u3011\u3015\u3017\u3019\u301b"
    r"\uff01-\uff07\uff09-\uff0f\uff1a-\uff20\uff61\uff63\uff64"
)
_BEHIND = rf"!-/:-@\[-`{{-~{_CLOSING}"
_MARKS = _BEHIND + _OPENING
_PIECE = re.compile(
    rf"[^\s{_MARKS}{_IDEOGRAPHS}]{{1,64}}[{_BEHIND}]{{0,16}}\s{{0,8}}"
    rf"|[{_IDEOGRAPHS}][{_BEHIND}]{{0,16}}\s{{0,8}}|[{_MARKS}]{{1,32}}\s{{0,8}}|\s{{1,8}}"
)
_WIDE = re.compile(rf"[\u3040-\u30ff{_OPENING}{_CLOSING}{_IDEOGRAPHS}]")
# Text handled by one C call: the GIL is held for a millisecond or two at most. A block
# ends behind a space where there is one near, so that no word is cut in two.
BLOCK_CHARS = 32_768
# Pieces remembered, about 250 bytes each. Beyond it a new memory begins, which takes what
# it meets again from the one before: what is rare is forgotten, what is frequent stays.
REMEMBERED = 32_768


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A text's words and their tokens.

    Attributes:
        starts: Character offset of each word, shape ``(w,)``, ascending.
        ends: One past each word's last character, shape ``(w,)``.
        bounds: ``ids[bounds[i]:bounds[j]]`` are the tokens of words ``i`` to ``j - 1``:
            shape ``(w + 1,)``, from 0.
        ids: Token ids, shape ``(bounds[-1],)``.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    bounds: NDArray[np.int64]
    ids: TokenIds


class WordTokenizer:
    """A ``tokenizers`` vocabulary, applied word by word, from any thread.

    Args:
        path: A ``tokenizer.json`` whose tokens do not span white space.
    """

    def __init__(self, path: Path) -> None:
        self._vocabulary = _vocabulary(path)
        self._memory = _Memory(self._vocabulary, None)

    def encode(self, text: str) -> Tokenized:
        """Every word of ``text`` with its tokens, without special ones."""
        facts: list[NDArray[np.int64]] = [np.zeros((0, 3), np.int64)]
        ids: list[TokenIds] = [np.zeros(0, np.int32)]
        for block in _blocks(text):
            memory = self._memory
            if memory.is_full:
                memory.forget_before()
                memory = self._memory = _Memory(self._vocabulary, memory)
            fact, some = memory.recall(_PIECE.findall(block))
            facts.append(fact)
            ids.append(some)
        span, length, count = np.concatenate(facts).T
        starts = np.cumsum(span) - span
        real = length > 0  # not the white space that begins a block, or a long run of it
        return Tokenized(
            starts[real],
            (starts + length)[real],
            np.concatenate(([0], np.cumsum(count[real]))),
            np.concatenate(ids),
        )


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + BLOCK_CHARS
        if end < len(text):
            space = text.rfind(" ", end - BLOCK_CHARS // 8, end)
            end = end if space < 0 else space + 1
        yield text[start:end]
        start = end


class _Memory:
    """The pieces met so far, numbered in the order in which they were met.

    Numbers are only ever added, so what a number stands for can be read without the lock.
    """

    def __init__(self, vocabulary: _Vocabulary, before: _Memory | None) -> None:
        self._encode = vocabulary.word
        self._encode_marks = vocabulary.marks
        self._before = before
        self._number: dict[str, int] = {}
        self._tokens: dict[str, tuple[int, ...]] = {}
        self._adding = threading.Lock()
        # A row a piece: its length, that of its word, its number of tokens, their place.
        self._facts = np.zeros((4096, 4), np.int64)
        self._ids = np.zeros(8192, np.int32)
        self._used = 0

    @property
    def is_full(self) -> bool:
        return len(self._number) >= REMEMBERED

    def recall(self, pieces: list[str]) -> tuple[NDArray[np.int64], TokenIds]:
        """``(span, word length, tokens)`` of each piece, and all tokens in a row."""
        numbers = list(map(self._number.get, pieces))
        if None in numbers:
            with self._adding:
                self._add([piece for piece in set(pieces) if piece not in self._number])
            numbers = list(map(self._number.get, pieces))
        at = np.fromiter(numbers, np.int64, len(numbers))
        facts = self._facts[at]
        count, place = facts[:, 2], facts[:, 3]
        # The tokens of piece i are ids[place[i]:place[i] + count[i]]: all of them in one
        # gather, by counting up from each piece's place.
        before = np.cumsum(count) - count
        gather = np.arange(int(count.sum())) + np.repeat(place - before, count)
        return facts[:, :3], self._ids[gather]

    def tokens(self, word: str) -> Sequence[int] | None:
        """The tokens of a word or of some marks, if they are remembered here."""
        return self._tokens.get(word)

    def forget_before(self) -> None:
        """Let go of the memory before this one."""
        self._before = None

    def _add(self, pieces: Sequence[str]) -> None:
        facts: list[tuple[int, int, int, int]] = []
        ids: list[int] = []
        for piece in pieces:
            text = piece.rstrip()
            bare = text.rstrip(punctuation)
            place = self._used + len(ids)
            if bare:
                ids += self._encoded(bare, self._encode)
            if len(bare) < len(text):
                ids += self._encoded(text[len(bare) :], self._encode_marks)
            facts.append((len(piece), len(text), self._used + len(ids) - place, place))
        first = len(self._number)
        self._facts = _fitting(self._facts, first + len(facts))
        self._facts[first : first + len(facts)] = facts
        self._ids = _fitting(self._ids, self._used + len(ids))
        self._ids[self._used : self._used + len(ids)] = ids
        self._used += len(ids)
        # Last, so that whoever finds a number finds what it stands for.
        self._number.update(zip(pieces, range(first, first + len(pieces)), strict=True))

    def _encoded(self, word: str, encode: Callable[[str], Sequence[int]]) -> Sequence[int]:
        known = self._tokens.get(word)
        if known is not None:
            return known
        ids = None if self._before is None else self._before.tokens(word)
        if ids is None:
            # No vocabulary has lone surrogates, and no encoding can write them down.
            ids = encode(word.encode("utf-8", "replace").decode())
        # A tuple of numbers is nothing that a garbage collection has to look into.
        self._tokens[word] = tuple(ids)
        return ids


def _fitting(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array, or a copy of it in a longer one."""
    while size > len(array):
        array = np.concatenate((array, np.zeros_like(array)))
    return array


class _Vocabulary(Protocol):
    """How the tokens of what has not been met yet are found."""

    def word(self, word: str) -> Sequence[int]:
        """The tokens of a word at the beginning of one."""
        ...

    def marks(self, marks: str) -> Sequence[int]:
        """The tokens of punctuation behind a word."""
        ...


class _BytePairs:
    """Byte pair encoding where a word begins with the sign for the space before it."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        from tokenizers import models

        # One call that reads the whole file would hold the interpreter's lock, and so
        # every event loop, for as long as all of these together.
        merges = [(left, right) for left, right in map(_pair, model["merges"])]
        self._model = models.BPE(
            model["vocab"],
            merges,
            unk_token=model["unk_token"],
            fuse_unk=model["fuse_unk"],
            byte_fallback=model["byte_fallback"],
        )

    def word(self, word: str) -> Sequence[int]:
        # No space comes before a word of a script that has none.
        space = "" if _WIDE.match(word) else "\u2581"
        return [token.id for token in self._model.tokenize(space + word)]

    def marks(self, marks: str) -> Sequence[int]:
        return [token.id for token in self._model.tokenize(marks)]


class _WordPieces:
    """BERT's vocabulary: lower case without accents, punctuation apart."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def word(self, word: str) -> Sequence[int]:
        if word.isascii() and word.isalnum():  # lower case is all there is to do
            return [token.id for token in self._tokenizer.model.tokenize(word.lower())]
        return self.marks(word)

    def marks(self, marks: str) -> Sequence[int]:
        encoding = self._tokenizer.encode(marks, add_special_tokens=False)
        return encoding.ids  # type: ignore[no-any-return]  # tokenizers has no types


def _vocabulary(path: Path) -> _Vocabulary:
    model = json.loads(path.read_bytes())["model"]
    return _BytePairs(model) if model["type"] == "BPE" else _WordPieces(path)


def _pair(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge
