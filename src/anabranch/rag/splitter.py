"""Cutting documents into chunks, by tokens, at the best place in reach.

Where paragraphs and sections begin is found for the whole document first, by a search of
the text and a few array operations, and most chunks end before one. Sentences and lines
are sought only where a chunk may end and no paragraph begins. Why it is not slower than
the counting of tokens: docs/decisions/0022-readers-and-cuts.md.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from anabranch.errors import UsageError
from anabranch.rag.filters import Metadata
from anabranch.rag.tokens import Tokenized, WordTokenizer
from anabranch.rag.types import Chunk, Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How good it is to begin a chunk at a word: the strongest place in reach is taken.
SECTION, PARAGRAPH, SENTENCE, LINE, WORD = 5, 4, 3, 2, 1

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_LINE = re.compile(r"\n\s*")
# A heading with what underlines it and the blank line behind.
_HEADING = re.compile(r"(?:[^\w\s][^\w\n]*\n)?[^\n]*\n(?:[^\w\s][^\w\n]*\n)?[^\S\n]*\n\s*")
# A line that begins an item of a list is as good as a sentence.
_ITEM = re.compile(r"\n[^\S\n]*(?=(?:[-*+•–]|\d{1,3}[.)]|[a-z][.)])[^\S\n])")

# After these a full stop ends no sentence, nor after one letter or a number of two digits.
_ABBREVIATIONS = (
    "e.g i.e a.k.a cf vs al etc ca approx resp incl excl viz "
    "Mr Mrs Ms Dr Prof St Sr Jr Rev Gen Col Sgt Hon "
    "Fig Figs Eq Eqs Sec Sect Ch Chap Vol No Nos Nr Art Ref Refs Tab App Ed Eds pp "
    "Inc Ltd Co Corp Bros Dept Univ "
    "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
    "z.B d.h u.a bzw vgl Abb Bd Hrsg Mme Mlle p.ex"
).split()
_CLOSING = r"[\"'”’»)\]]*"
_WIDE_CLOSING = r"[\"”’」』】》〉\uff09]*"
# Alternatives that begin with a character each, which a search finds by looking at no
# more than that; what comes before a full stop is looked at only behind one.
_SENTENCE = re.compile(
    # The Arabic, Indian, Ethiopic and Armenian ones with ours.
    rf"[!?…\u061f\u06d4\u0964\u0965\u1362\u0589]{_CLOSING}\s+"
    rf"|\.{_CLOSING}\s+(?![a-z])"
    rf"|[。！？\uff61\uff0e]+{_WIDE_CLOSING}\s*"
)
_NO_END = re.compile(
    rf"(?:\b(?:[^\W\d_]|\d\d?)|\b(?:{'|'.join(map(re.escape, _ABBREVIATIONS))}))\Z"
)
# The longest abbreviation and the character before it.
_BEFORE = max(map(len, _ABBREVIATIONS)) + 1
# How far around some words the text is searched: what parts two sentences, or makes an
# item, is shorter.
_AROUND = 64


class TokenSplitter:
    """Chunks of at most ``max_tokens`` tokens of the embedder's own vocabulary.

    A chunk ends before a section, a paragraph, a sentence (or an item of a list) or a
    line, whichever is the strongest in its second half; at a word only where there is
    none, and within one only where it is longer than that. It does not end within a block
    that fits in a chunk, unless the chunk before would be shorter than an eighth of
    ``max_tokens``. Chunks cover every word of the document, in order. Use one splitter in
    one thread at a time.

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
        return f"tokens/2:{self._max}:{self._overlap}"

    def split(self, document: Document) -> Iterator[Chunk]:
        """The document's chunks; none if it has no words."""
        words = self._tokenizer.encode(document.text)
        if len(words.starts) == 0:
            return
        places, blocks = _Places(document, words), _blocks(document, words)
        metadata = _Sections(document)
        begin, last = 0, len(words.starts)
        while begin < last:
            end = self._end(words.bounds, places, begin)
            if blocks:
                end = self._before_block(words.bounds, blocks, begin, end)
            start, stop = int(words.starts[begin]), int(words.ends[end - 1])
            yield Chunk(
                document.id,
                document.text[start:stop],
                document.start + start,
                document.start + stop,
                metadata.at(start),
                # A word of more tokens than fit is a chunk of its own, cut off.
                words.ids[words.bounds[begin] : words.bounds[end]][: self._max].copy(),
            )
            begin = end if end == last else self._next(words.bounds, begin, end)

    def _end(self, bounds: NDArray[np.int64], places: _Places, begin: int) -> int:
        """One past the last word of the chunk that begins at ``begin``."""
        first, last = int(bounds[begin]), len(bounds) - 1
        end = int(np.searchsorted(bounds, first + self._max, side="right")) - 1
        if end <= begin:
            return begin + 1
        if end >= last:
            return last
        half = int(np.searchsorted(bounds, first + (self._max + 1) // 2))
        return places.best(min(max(half, begin + 1), end), end)

    def _before_block(
        self,
        bounds: NDArray[np.int64],
        blocks: Sequence[tuple[int, int]],
        begin: int,
        end: int,
    ) -> int:
        """``end``, or where the block begins that it would cut, if the block fits."""
        at = bisect_left(blocks, (end, 0)) - 1
        if at < 0:
            return end
        first, last = blocks[at]
        is_cut = begin < first and end < last
        fits = bounds[last] - bounds[first] <= self._max
        is_enough = bounds[first] - bounds[begin] >= self._max // 8
        return first if is_cut and fits and is_enough else end

    def _next(self, bounds: NDArray[np.int64], begin: int, end: int) -> int:
        if not self._overlap:
            return end
        back = int(np.searchsorted(bounds, int(bounds[end]) - self._overlap))
        return max(begin + 1, min(back, end))


class _Sections:
    """The metadata of a document's chunks.

    One object a section, since a store turns what is the same object into JSON once.
    """

    def __init__(self, document: Document) -> None:
        self._starts = document.breaks[: len(document.sections)]
        self._sections = document.sections
        self._metadata = document.metadata
        self._last = -1
        self._made: Metadata = document.metadata

    def at(self, offset: int) -> Metadata:
        """Of a chunk that begins at ``offset``."""
        section = bisect_right(self._starts, offset) - 1
        if section != self._last:
            self._last = section
            titles = [] if section < 0 else list(self._sections[section])
            self._made = {**self._metadata, "section": titles} if titles else self._metadata
        return self._made


class _Places:
    """How good it is to begin a chunk at each word of a document."""

    def __init__(self, document: Document, words: Tokenized) -> None:
        self._text = text = document.text
        self._words = words
        # Of paragraphs and sections; else 0, whatever begins there.
        self._strong = np.zeros(len(words.starts), np.uint8)
        for level, places in (
            (PARAGRAPH, [match.end() for match in _PARAGRAPH.finditer(text)]),
            (SECTION, document.breaks),
        ):
            self._strong[_words_at(words, places)] = level
        # Words at which nothing better than a line may begin.
        self._weak: NDArray[np.bool_] | None = None
        if document.breaks or document.blocks:
            self._weak = _weak(document, words)
            np.minimum(self._strong, LINE, out=self._strong, where=self._weak)

    def best(self, low: int, high: int) -> int:
        """The latest of the best words from ``low``, above 0, to ``high``, included."""
        levels = self._strong[low : high + 1][::-1]
        back = int(levels.argmax())
        if levels[back] < PARAGRAPH:
            back = int(self._all(low, high)[::-1].argmax())
        return high - back

    def _all(self, low: int, high: int) -> NDArray[np.uint8]:
        """The levels of words of which none begins a paragraph."""
        text, words = self._text, self._words
        is_apart = words.starts[low : high + 1] > words.ends[low - 1 : high]
        levels = np.maximum(is_apart * np.uint8(WORD), self._strong[low : high + 1])
        start = max(int(words.starts[low]) - _AROUND, 0)
        stop = min(int(words.starts[high]) + _AROUND, len(text))
        for level, places in (
            (LINE, [match.end() for match in _LINE.finditer(text, start, stop)]),
            (SENTENCE, [match.end() for match in _ITEM.finditer(text, start, stop)]),
            (SENTENCE, _sentences(text, start, stop)),
        ):
            at = _words_at(words, places)
            levels[at[(at >= low) & (at <= high)] - low] = level
        if self._weak is not None:
            np.minimum(levels, LINE, out=levels, where=self._weak[low : high + 1])
        return levels


def _weak(document: Document, words: Tokenized) -> NDArray[np.bool_]:
    weak = np.zeros(len(words.starts), np.bool_)
    # What follows a heading, which may be another one, belongs to it.
    headings = (_HEADING.match(document.text, place) for place in document.breaks)
    weak[_words_at(words, [match.end() for match in headings if match])] = True
    for start, end in document.blocks:
        # In code a blank line is no paragraph and a full stop no sentence.
        first, last = words.starts.searchsorted((start + 1, end))
        weak[first:last] = True
    return weak


def _sentences(text: str, start: int, stop: int) -> list[int]:
    """Where sentences begin."""
    no_end = _NO_END.search
    return [
        match.end()
        for match in _SENTENCE.finditer(text, start, stop)
        if text[at := match.start()] != "." or not no_end(text, max(0, at - _BEFORE), at)
    ]


def _words_at(words: Tokenized, places: Sequence[int]) -> NDArray[np.intp]:
    """The first word at or behind each place, unless the place is within a word."""
    offsets = np.asarray(places, np.int64)
    at = words.starts.searchsorted(offsets)
    is_between = (at == 0) | (words.ends[at - 1] <= offsets)
    found: NDArray[np.intp] = at[is_between & (at < len(words.starts))]
    return found


def _blocks(document: Document, words: Tokenized) -> list[tuple[int, int]]:
    """The document's blocks, from their first word to one past their last."""
    if not document.blocks:
        return []
    found = words.starts.searchsorted(np.asarray(document.blocks, np.int64))
    return [(int(first), int(last)) for first, last in found if first < last]
