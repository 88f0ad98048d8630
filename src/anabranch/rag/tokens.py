"""Tokens with their places in the text, several times as fast as encoding it whole.

A word's tokens depend on the word alone in the vocabularies we use: WordPiece looks at
words by construction, and no entry of the BPE vocabulary spans the space between two
words. So each distinct word is encoded once and remembered under a number; a text is then
one look-up a word and a few array operations a block.

White space itself gives no tokens: a text and its re-wrapped twin get the same vector.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.types import TokenIds

# A piece is a word with the punctuation and the spaces behind it: few pieces, and each
# is met again soon. ASCII punctuation parts words, as it does for WordPiece. A run of 64
# characters without any is rarely a word; cutting it there bounds the tokens of a piece
# (three bytes a character at worst), so a chunk can always be cut between two pieces.
_MARKS = r"!-/:-@\[-`{-~"
_PIECE = re.compile(
    rf"[^\s{_MARKS}]{{1,64}}[{_MARKS}]{{0,16}}\s{{0,8}}|[{_MARKS}]{{1,32}}\s{{0,8}}|\s{{1,8}}"
)
# Text handled by one C call: the GIL is held for a millisecond or two at most.
BLOCK_CHARS = 32_768
# Pieces remembered, about 250 bytes each. Beyond it a new memory begins, which takes what
# it meets again from the one before: what is rare is forgotten, what is frequent stays.
REMEMBERED = 65_536


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
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._memory = _Memory(self._tokenizer, None)

    def encode(self, text: str) -> Tokenized:
        """Every word of ``text`` with its tokens, without special ones."""
        facts: list[NDArray[np.int64]] = [np.zeros((0, 3), np.int64)]
        ids: list[TokenIds] = [np.zeros(0, np.int32)]
        for start in range(0, len(text), BLOCK_CHARS):
            memory = self._memory
            if memory.is_full:
                memory.forget_before()
                memory = self._memory = _Memory(self._tokenizer, memory)
            block = text[start : start + BLOCK_CHARS]
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


class _Memory:
    """The pieces met so far, numbered in the order in which they were met.

    Numbers are only ever added, so what a number stands for can be read without the lock.
    """

    def __init__(self, tokenizer: Any, before: _Memory | None) -> None:
        self._tokenizer = tokenizer
        self._before = before
        self._number: dict[str, int] = {}
        self._place: dict[str, tuple[int, int]] = {}  # of a bare word's tokens in _ids
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
                for piece in pieces:
                    if piece not in self._number:
                        self._add(piece)
            numbers = list(map(self._number.get, pieces))
        at = np.fromiter(numbers, np.int64, len(numbers))
        facts = self._facts[at]
        count, place = facts[:, 2], facts[:, 3]
        # The tokens of piece i are ids[place[i]:place[i] + count[i]]: all of them in one
        # gather, by counting up from each piece's place.
        before = np.cumsum(count) - count
        gather = np.arange(int(count.sum())) + np.repeat(place - before, count)
        return facts[:, :3], self._ids[gather]

    def _add(self, piece: str) -> None:
        word = piece.rstrip()
        if word not in self._place:
            ids = self._encoded(word)
            end = self._used + len(ids)
            if end > len(self._ids):
                self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
            self._ids[self._used : end] = ids
            self._place[word] = (self._used, len(ids))
            self._used = end
        place, count = self._place[word]
        number = len(self._number)
        if number == len(self._facts):
            self._facts = np.concatenate((self._facts, np.zeros_like(self._facts)))
        self._facts[number] = (len(piece), len(word), count, place)
        self._number[piece] = number

    def _encoded(self, word: str) -> Sequence[int]:
        if not word:
            return ()
        if self._before is not None and (ids := self._before.tokens(word)) is not None:
            return ids
        encoding = self._tokenizer.encode(word, add_special_tokens=False)
        return encoding.ids  # type: ignore[no-any-return]  # tokenizers has no types

    def tokens(self, word: str) -> Sequence[int] | None:
        """The tokens of a bare word, if it is remembered here."""
        if word not in self._place:
            return None
        start, count = self._place[word]
        ids: list[int] = self._ids[start : start + count].tolist()
        return ids

    def forget_before(self) -> None:
        """Let go of the memory before this one."""
        self._before = None
