"""Texts as sparse vectors whose inner products are BM25, where a store has no full text.

Words are cut, stripped of accents and stemmed as the embedded store does it, by SQLite's
FTS5. A word's place in a vector is a digest of its stem. The vectors of passages hold
what BM25 says of a word's repetition in a passage of this length, those of questions how
often a word is asked for; how rare a word is, the store knows and puts in between.

Source: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from typing import Final

K1: Final = 1.2
B: Final = 0.75
# Words of a usual passage. What a passage holds cannot depend on those that come later.
USUAL_WORDS: Final = 128

_TABLE: Final = (
    "CREATE VIRTUAL TABLE texts USING fts5 (text, content = '',"
    " tokenize = 'porter unicode61 remove_diacritics 2')"
)
_STEMS: Final = "CREATE VIRTUAL TABLE stems USING fts5vocab ('texts', 'instance')"
_COUNTS: Final = "SELECT doc, term, count(*) FROM stems GROUP BY doc, term"


def passage_vectors(texts: Sequence[str]) -> Iterator[Mapping[int, float]]:
    """The sparse vector of each text, by place."""
    for counts in _counted(texts):
        length = sum(counts.values())
        norm = K1 * (1 - B + B * length / USUAL_WORDS)
        yield {place: n * (K1 + 1) / (n + norm) for place, n in counts.items()}


def question_vector(words: Sequence[str]) -> Mapping[int, float]:
    """The sparse vector of a question's words."""
    [counts] = _counted([" ".join(words)])
    return {place: float(count) for place, count in counts.items()}


def _counted(texts: Sequence[str]) -> list[Counter[int]]:
    """How often each stem is in each text, by the stem's place."""
    counts = [Counter[int]() for _ in texts]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute(_TABLE)
        db.execute(_STEMS)
        db.execute("BEGIN")
        db.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", enumerate(texts))
        found: Iterator[tuple[int, str, int]] = iter(db.execute(_COUNTS))
        for number, stem, count in found:
            place = int.from_bytes(blake2b(stem.encode(), digest_size=4).digest())
            counts[number][place] += count
    return counts
