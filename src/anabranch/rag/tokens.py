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
from itertools import filterfalse, repeat
from pathlib import Path
from string import punctuation
from typing import Any, Protocol, TypeAlias

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
        facts: list[_Facts] = [np.zeros((3, 0), np.int64)]
        ids: list[TokenIds] = [np.zeros(0, np.int32)]
        for block in _blocks(text):
            memory = self._memory
            if memory.is_full:
                memory.forget_before()
                memory = self._memory = _Memory(self._vocabulary, memory)
            fact, some = memory.recall(_PIECE.findall(block))
            facts.append(fact)
            ids.append(some)
        span, length, count = np.concatenate(facts, axis=1)
        starts = np.cumsum(span) - span
        real = length > 0  # not the white space that begins a block, or a long run of it
        if not real.all():
            starts, length, count = starts[real], length[real], count[real]
        bounds = np.zeros(len(count) + 1, np.int64)
        np.cumsum(count, out=bounds[1:])
        return Tokenized(starts, starts + length, bounds, np.concatenate(ids))


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + BLOCK_CHARS
        if end < len(text):
            space = text.rfind(" ", end - BLOCK_CHARS // 8, end)
            end = end if space < 0 else space + 1
        yield text[start:end]
        start = end


_Facts: TypeAlias = NDArray[np.int64]
"""A column a piece: its length, that of its word, its number of tokens."""


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
        # A column a piece: its facts, and the place of its tokens in _ids.
        self._facts = np.zeros((4, 4096), np.int64)
        self._ids = np.zeros(8192, np.int32)
        self._used = 0

    @property
    def is_full(self) -> bool:
        return len(self._number) >= REMEMBERED

    def recall(self, pieces: Sequence[str]) -> tuple[_Facts, TokenIds]:
        """The facts of each piece, and all tokens in a row."""
        at = np.fromiter(map(self._number.get, pieces, repeat(-1)), np.int64, len(pieces))
        new = np.flatnonzero(at < 0)
        if len(new):
            unknown = [pieces[index] for index in new.tolist()]
            with self._adding:
                self._add([each for each in set(unknown) if each not in self._number])
            at[new] = [self._number[each] for each in unknown]
        facts = self._facts.take(at, axis=1)
        count, place = facts[2], facts[3]
        # The tokens of piece i are ids[place[i]:place[i] + count[i]]: all of them in one
        # gather, by counting up from each piece's place.
        stop = np.cumsum(count)
        gather = np.repeat(place - stop + count, count)
        gather += np.arange(len(gather))
        return facts[:3], self._ids[gather]

    def holds(self, piece: str) -> bool:
        """Whether a piece is remembered here."""
        return piece in self._number

    def tokens(self, word: str) -> tuple[int, ...] | None:
        """The tokens of a word or of some marks, if they are remembered here."""
        return self._tokens.get(word)

    def forget_before(self) -> None:
        """Let go of the memory before this one."""
        self._before = None

    def _add(self, pieces: Sequence[str]) -> None:
        before = self._before
        if before is not None and (again := list(filter(before.holds, pieces))):
            self._remember(again, *before.recall(again))
            pieces = list(filterfalse(before.holds, pieces))
        self._remember(pieces, *self._encoded(pieces))

    def _encoded(self, pieces: Sequence[str]) -> tuple[_Facts, TokenIds]:
        lengths: list[int] = []
        stops = [0]
        ids: list[int] = []
        known = self._tokens.get
        for piece in pieces:
            text = piece.rstrip()
            bare = text.rstrip(punctuation)
            ids += known(bare) or self._met(bare, self._encode)
            if len(bare) < len(text):
                marks = text[len(bare) :]
                ids += known(marks) or self._met(marks, self._encode_marks)
            lengths.append(len(text))
            stops.append(len(ids))
        facts = np.array((list(map(len, pieces)), lengths, np.diff(stops)), np.int64)
        return facts, np.array(ids, np.int32)

    def _met(self, word: str, encode: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
        """The tokens of a word, or of some marks, that are not remembered here yet."""
        ids = None if self._before is None else self._before.tokens(word)
        if ids is None:
            # No vocabulary has lone surrogates, and no encoding can write them down.
            ids = tuple(encode(word.encode("utf-8", "replace").decode())) if word else ()
        # A tuple of numbers is nothing that a garbage collection has to look into.
        self._tokens[word] = ids
        return ids

    def _remember(self, pieces: Sequence[str], facts: _Facts, ids: TokenIds) -> None:
        first, last = len(self._number), len(self._number) + len(pieces)
        stop = np.cumsum(facts[2])
        self._facts = _fitting(self._facts, last)
        self._facts[:3, first:last] = facts
        self._facts[3, first:last] = self._used + stop - facts[2]
        self._ids = _fitting(self._ids, self._used + len(ids))
        self._ids[self._used : self._used + len(ids)] = ids
        self._used += len(ids)
        # Last, so that whoever finds a number finds what it stands for.
        self._number.update(zip(pieces, range(first, last), strict=True))


def _fitting(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array, or a copy of it in a longer one."""
    while size > array.shape[-1]:
        array = np.concatenate((array, np.zeros_like(array)), axis=-1)
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
