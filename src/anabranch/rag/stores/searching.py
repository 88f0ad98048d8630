"""The two searches of an embedded index, in whichever thread asks.

Why so: docs/decisions/0027-searching-an-index.md.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.filters import Filter
from anabranch.rag.stores.fulltext import telling_words
from anabranch.rag.stores.masks import Masks
from anabranch.rag.stores.neighbours import Neighbours
from anabranch.rag.stores.reading import metadata_of, texts
from anabranch.rag.stores.table import Places, Table, Tables
from anabranch.rag.stores.terms import Stems, Terms
from anabranch.rag.stores.vectors import largest, perhaps_largest, products
from anabranch.rag.types import Hit, Vectors

Ranked = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A question for the passages nearest to a vector."""

    vector: Vectors
    k: int
    where: Filter | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """A question for the passages that match words best."""

    query: str
    k: int
    where: Filter | None
    name: str


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of what is nearest is found.

    Attributes:
        share: Of the nearest passages, from 0 to 1; others as near count as well.
        passages: How many can be found.
        in_graph: How many of these are found along a graph; the others are compared.
    """

    share: float
    passages: int
    in_graph: int


class Searches:
    """Searches in one index, with what they keep in memory.

    Every method may be called in several threads at once, each with a connection of its
    own. An answer is of one state of the index, the newest when it began or a later one.
    """

    def __init__(self, neighbours: Neighbours | None = None) -> None:
        self._neighbours = neighbours
        self._tables = Tables()
        self._masks = Masks()
        self._stems = Stems()
        self._terms = Terms()

    def close(self) -> None:
        self._stems.close()
        if self._neighbours is not None:
            self._neighbours.close()

    def prepare(self, db: sqlite3.Connection) -> Future[None] | None:
        """Load what searches need; what is being made, if anything is."""
        with self._tables.current(db) as table:
            return None if self._neighbours is None else self._neighbours.renew(table)

    def recall(self, db: sqlite3.Connection, *, k: int, sample: int) -> Recall:
        """What the nearest to some passages have in common with the truly nearest."""
        with self._tables.current(db) as table:
            places = table.living[:: max(1, len(table) // sample)][:sample]
            found = wanted = 0
            for vector in table.rows.take(places):
                near = Near(vector=vector, k=k + 1, where=None, name="")
                [truly, perhaps] = _nearest(
                    table,
                    [near, near],
                    [self._meant(db, table, near), self._compared(db, table, near)],
                )
                # The first is the passage itself; what is as near as the last will do.
                least = min((score for _, score in truly), default=0.0)
                found += sum(score >= least for _, score in perhaps[1:])
                wanted += len(truly) - 1
            held = 0 if self._neighbours is None else self._neighbours.held(table)
            return Recall(found / max(1, wanted), len(table), held)

    def nearest(
        self, db: sqlite3.Connection, asked: Sequence[Near]
    ) -> Sequence[Sequence[Hit]]:
        """The passages with the largest inner products, best first, for each question."""
        with self._tables.current(db) as table:
            compared = [self._compared(db, table, each) for each in asked]
            ranked = _nearest(table, asked, compared)
            return _hits(db, ranked, [each.name for each in asked])

    def matching(self, db: sqlite3.Connection, asked: Matching) -> Sequence[Hit]:
        """The passages with the best BM25, best first."""
        phrases = Counter(self._stems.of(telling_words(asked.query)))
        if not phrases:
            return []
        with self._tables.current(db) as table:
            scores = self._terms.scores(db, phrases, table)
            if asked.where is not None:
                scores[~self._masks.of(db, asked.where, table)] = 0
            found = np.flatnonzero(scores)
            best = found[largest(scores[found], asked.k, table.keys[found])]
            [hits] = _hits(db, [_ranked(table, best, scores[best])], [asked.name])
            return hits

    def _compared(self, db: sqlite3.Connection, table: Table, near: Near) -> Places | None:
        """The places whose vectors are compared with the question's; ``None`` for all."""
        meant = self._meant(db, table, near)
        if self._neighbours is not None:
            found = self._neighbours.candidates(table, near.vector, k=near.k, meant=meant)
            return meant if found is None else found
        return meant

    def _meant(self, db: sqlite3.Connection, table: Table, near: Near) -> Places | None:
        if near.where is None:
            return None if len(table) == table.size else table.living
        return table.living[self._masks.of(db, near.where, table)[table.living]]


def _nearest(
    table: Table, asked: Sequence[Near], compared: Sequence[Places | None]
) -> Sequence[Ranked]:
    """The best of the places compared, for each question."""
    whole = {
        number
        for number, places in enumerate(compared)
        if places is None or len(places) * 4 > table.size
    }
    every = table.rows.products(
        np.array([near.vector for number, near in enumerate(asked) if number in whole])
    )
    return [
        _best(table, near, places, next(every) if number in whole else None)
        for number, (near, places) in enumerate(zip(asked, compared, strict=True))
    ]


def _best(
    table: Table, near: Near, places: Places | None, scores: NDArray[np.float32] | None
) -> Ranked:
    """The best of some places, by products that are rounded the same way each time.

    Args:
        table: What is searched.
        near: The question.
        places: Of which ones; ``None`` for all.
        scores: The products of all places as BLAS calculates them, where there are some.
    """
    if scores is not None:
        if places is not None:
            scores = scores[places]
        # A rounding error a multiplication is more than BLAS makes.
        margin = float(np.linalg.norm(near.vector)) * near.vector.size * 1.2e-7
        few = perhaps_largest(scores, near.k, margin=margin)
        places = few if places is None else places[few]
    assert places is not None  # there are scores where all places are searched
    exact = products(table.rows.take(places), near.vector)
    best = largest(exact, near.k, table.keys[places])
    return _ranked(table, places[best], exact[best])


def _ranked(table: Table, places: Places, scores: NDArray[np.floating]) -> Ranked:
    return list(zip(table.keys[places].tolist(), scores.tolist(), strict=True))


def _hits(
    db: sqlite3.Connection, ranked: Sequence[Ranked], names: Sequence[str]
) -> Sequence[Sequence[Hit]]:
    rows = texts(db, {key for each in ranked for key, _ in each})
    return [
        [
            Hit(
                key,
                *rows[key][:-1],
                metadata=metadata_of(rows[key][-1]),
                score=score,
                ranks={name: rank},
            )
            for rank, (key, score) in enumerate(each, start=1)
        ]
        for each, name in zip(ranked, names, strict=True)
    ]
