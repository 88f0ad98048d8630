"""Where words occur: what FTS5 has written down, kept as arrays of the words asked for.

FTS5 stems and counts when passages are written. Its own ranking weighs one passage after
the other; here the passages of a word are read once, as one text, and from then on a
question costs an addition a passage and word. What is written later is read from where
the last reading ended: the keys of passages only ever grow.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.stores import bm25
from anabranch.rag.stores.table import Keys, Places, Table, numbers

LEAST_BYTES: Final = 64 << 20
_MOST_STEMS: Final = 50_000

# As in schema.sql: a question must be stemmed as the passages were.
_TOKENIZE: Final = "porter unicode61 remove_diacritics 2"
_INSTANCES: Final = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS temp.instance"
    " USING fts5vocab('main', 'passage', 'instance')"
)
# The title's places come before the text's, and no passage is a million tokens long.
_TEXT_STARTS: Final = 1 << 30

Phrase: TypeAlias = tuple[str, ...]
"""The stems of one word: several if it is joined by what FTS5 takes for a space."""


class Stems:
    """Words as FTS5 stems them, in a database of their own in memory."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._known: dict[str, Phrase] = {}
        self._db: sqlite3.Connection | None = None

    def of(self, words: Sequence[str]) -> list[Phrase]:
        """The phrase of each word; those of no token are left out."""
        with self._turn:
            if unknown := [
                word for word in dict.fromkeys(words) if word not in self._known
            ]:
                if len(self._known) > _MOST_STEMS:
                    self._known.clear()
                    unknown = list(dict.fromkeys(words))
                self._known.update(self._read(unknown))
            phrases = [self._known[word] for word in words]
        return [phrase for phrase in phrases if phrase]

    def close(self) -> None:
        with self._turn:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _read(self, words: list[str]) -> Mapping[str, Phrase]:
        db = self._db = self._db or _stemmer()
        db.executemany("INSERT INTO word (rowid, text) VALUES (?, ?)", enumerate(words, 1))
        found: dict[str, Phrase] = dict.fromkeys(words, ())
        stems = db.execute("SELECT doc, term FROM stem ORDER BY doc, offset")
        for number, stem in stems.fetchall():
            found[words[number - 1]] += (stem,)
        db.execute("INSERT INTO word (word) VALUES ('delete-all')")
        return found


def _stemmer() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    db.execute(
        "CREATE VIRTUAL TABLE word USING fts5"
        f" (text, content = '', tokenize = '{_TOKENIZE}')"
    )
    db.execute("CREATE VIRTUAL TABLE stem USING fts5vocab('word', 'instance')")
    return db


@dataclass(frozen=True, slots=True)
class _Weights:
    """What a phrase adds to the scores, as of one generation."""

    generation: int
    places: Places
    weights: NDArray[np.float64]


@dataclass(slots=True)
class _Occurrences:
    """The passages with a phrase, of whatever version, up to a key.

    Attributes:
        since: The generation of the last reading: what was gone by then may be missing.
    """

    keys: Keys
    counts: NDArray[np.int32]
    last: int
    since: int
    weights: _Weights | None = None

    def bytes(self) -> int:
        return 200 + 28 * len(self.keys)


class Terms:
    """The passages of the phrases that were asked for last.

    They take as much memory as the vectors at most, or ``least_bytes`` if that is more.
    """

    def __init__(self, least_bytes: int | None = None) -> None:
        self._least_bytes = LEAST_BYTES if least_bytes is None else least_bytes
        self._bytes = 0
        self._layout = 0
        self._known: OrderedDict[Phrase, _Occurrences] = OrderedDict()
        self._turn = threading.Lock()

    def scores(
        self, db: sqlite3.Connection, phrases: Mapping[Phrase, int], table: Table
    ) -> NDArray[np.float64]:
        """The BM25 of every place; 0 where no phrase occurs.

        Args:
            db: In a transaction that reads the state of ``table``.
            phrases: With how often each is asked for.
            table: Whose places.
        """
        scores = np.zeros(table.size)
        for phrase, times in phrases.items():
            found = self._weights(db, phrase, table)
            scores[found.places] += found.weights * times
        return scores

    def _weights(self, db: sqlite3.Connection, phrase: Phrase, table: Table) -> _Weights:
        known = self._kept(phrase, table)
        if known is not None and known.since > table.generation:
            known = _read_on(db, phrase, None, table)  # others have gone on: not for them
        elif known is None or known.last < table.last:
            known = _read_on(db, phrase, known, table)
            self._keep(phrase, known, table)
        weights = known.weights
        if weights is None or weights.generation != table.generation:
            weights = known.weights = _weighed(known, table)
        return weights

    def _kept(self, phrase: Phrase, table: Table) -> _Occurrences | None:
        with self._turn:
            if table.layout > self._layout:  # many of the passages are gone: read anew
                self._known.clear()
                self._bytes, self._layout = 0, table.layout
            known = self._known.get(phrase)
            if known is not None:
                self._known.move_to_end(phrase)
            return known

    def _keep(self, phrase: Phrase, known: _Occurrences, table: Table) -> None:
        most = max(self._least_bytes, table.size * table.rows.dimensions * 4)
        with self._turn:
            before = self._known.pop(phrase, None)
            self._bytes += known.bytes() - (0 if before is None else before.bytes())
            self._known[phrase] = known
            while self._bytes > most and self._known:
                self._bytes -= self._known.popitem(last=False)[1].bytes()


def _read_on(
    db: sqlite3.Connection, phrase: Phrase, known: _Occurrences | None, table: Table
) -> _Occurrences:
    db.execute(_INSTANCES)
    keys, counts = bm25.occurrences(_instances(db, phrase, known.last if known else 0))
    if known is not None:
        keys = np.concatenate([known.keys, keys])
        counts = np.concatenate([known.counts, counts])
    # Behind the table's last, what has been written of versions in the making is read too.
    last = max([table.last, *keys[-1:].tolist()])
    return _Occurrences(keys, counts, last, table.generation)


def _instances(db: sqlite3.Connection, phrase: Phrase, after: int) -> Keys:
    """The passage of every occurrence, ascending, of those with larger keys."""
    if len(phrase) == 1:
        return numbers(
            db,
            "SELECT group_concat(doc) FROM temp.instance WHERE term = ? AND doc > ?",
            (*phrase, after),
        )
    return (
        reduce(
            lambda some, more: np.intersect1d(some, more, assume_unique=True),
            (_positions(db, stem, after) - place for place, stem in enumerate(phrase)),
        )
        >> 32
    )


def _positions(db: sqlite3.Connection, stem: str, after: int) -> NDArray[np.int64]:
    """Of every occurrence, the passage in the upper and the token in the lower 32 bits."""
    return numbers(
        db,
        "SELECT group_concat((doc << 32) + offset + (col = 'text') * ?)"
        " FROM temp.instance WHERE term = ? AND doc > ?",
        (_TEXT_STARTS, stem, after),
    )


def _weighed(known: _Occurrences, table: Table) -> _Weights:
    places, lives = table.places(known.keys)
    weights = bm25.weights(
        known.counts[lives],
        table.lengths[places],
        passages=len(table),
        tokens=int(table.lengths[table.living].sum()),
    )
    return _Weights(table.generation, places, weights)
