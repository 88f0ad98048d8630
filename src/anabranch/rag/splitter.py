"""Cutting documents into chunks, by tokens, at the best place in reach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from anabranch.errors import UsageError
from anabranch.rag.tokens import Tokenized, WordTokenizer
from anabranch.rag.types import Chunk, Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How good it is to begin a chunk at a word: the strongest place in reach is taken.
SECTION, PARAGRAPH, SENTENCE, WORD = 4, 3, 2, 1

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE = re.compile(r"[.!?…。！？][\"'”’)\]]*\s+|\n\s*|[。！？]")


class TokenSplitter:
    """Chunks of at most ``max_tokens`` tokens of the embedder's own vocabulary.

    A chunk ends before a section, a paragraph, a sentence or a line, whichever is the
    strongest in its second half; at a word only where there is none, and within one
    only where it is longer than that. Chunks cover every
    word of the document, in order. Use one splitter in one thread at a time.

    Args:
        tokenizer: The embedder's, so that what is counted is what is read.
        max_tokens: Without the model's special tokens.
        overlap: Tokens that a chunk repeats from the end of the one before, at most.

    Raises:
        ValueError: ``overlap`` is not smaller than half of ``max_tokens``, or
            ``max_tokens`` is too small to hold any word.
    """

    def __init__(
        self, tokenizer: WordTokenizer, *, max_tokens: int = 256, overlap: int = 0
    ) -> None:
        if max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, not {max_tokens}")
        if not 0 <= overlap <= max_tokens // 2:
            raise UsageError(
                f"overlap must be from 0 to half of max_tokens ({max_tokens // 2}), "
                f"not {overlap}"
            )
        self._tokenizer = tokenizer
        self._max = max_tokens
        self._overlap = overlap

    @property
    def fingerprint(self) -> str:
        return f"tokens/1:{self._max}:{self._overlap}"

    def split(self, document: Document) -> Iterator[Chunk]:
        """The document's chunks; none if it has no words."""
        words = self._tokenizer.encode(document.text)
        if len(words.starts) == 0:
            return
        levels = _levels(document, words)
        begin, last = 0, len(words.starts)
        while begin < last:
            end = self._end(words.bounds, levels, begin)
            start, stop = int(words.starts[begin]), int(words.ends[end - 1])
            yield Chunk(
                document.id,
                document.text[start:stop],
                document.start + start,
                document.start + stop,
                document.metadata,
                # A word of more tokens than fit is a chunk of its own, cut off.
                words.ids[words.bounds[begin] : words.bounds[end]][: self._max].copy(),
            )
            begin = end if end == last else self._next(words.bounds, begin, end)

    def _end(self, bounds: NDArray[np.int64], levels: NDArray[np.uint8], begin: int) -> int:
        """One past the last word of the chunk that begins at ``begin``."""
        room = int(bounds[begin]) + self._max
        end = int(np.searchsorted(bounds, room, side="right")) - 1
        if end <= begin:
            return begin + 1
        if end >= len(levels):
            return len(levels)
        half = int(np.searchsorted(bounds, int(bounds[begin]) + (self._max + 1) // 2))
        low = min(max(half, begin + 1), end)
        reach = levels[low : end + 1][::-1]
        return end - int(np.argmax(reach))  # the latest of the strongest

    def _next(self, bounds: NDArray[np.int64], begin: int, end: int) -> int:
        if not self._overlap:
            return end
        back = int(np.searchsorted(bounds, int(bounds[end]) - self._overlap))
        return max(begin + 1, min(back, end))


def _levels(document: Document, words: Tokenized) -> NDArray[np.uint8]:
    """How good it is to begin a chunk at each word."""
    levels = np.zeros(len(words.starts), np.uint8)
    levels[1:][words.starts[1:] > words.ends[:-1]] = WORD
    for level, places in (
        (SENTENCE, [match.end() for match in _SENTENCE.finditer(document.text)]),
        (PARAGRAPH, [match.end() for match in _PARAGRAPH.finditer(document.text)]),
        (SECTION, list(document.breaks)),
    ):
        at = np.searchsorted(words.starts, np.asarray(places, np.int64))
        levels[at[at < len(levels)]] = level
    return levels
