"""Who walks the graph of neighbours, and has it made and renewed."""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.rag.stores import ann
from anabranch.rag.stores.ann import Approximate, Graph
from anabranch.rag.stores.table import Places, Table
from anabranch.rag.stores.vectors import perhaps_largest
from anabranch.rag.types import Vectors

logger = logging.getLogger("anabranch")

# A walk for more than that takes longer than comparing those that a filter leaves.
MOST_CANDIDATES: Final = 2048


class _Fit(NamedTuple):
    """How a graph fits a table.

    Attributes:
        start: Everything that can be found and is not in the graph is at this place or
            behind it.
    """

    graph: Graph
    generation: int
    start: int
    missing: int


class Neighbours:
    """Finds candidates for the nearest along the graph beside an index.

    Every method may be called in several threads at once; none waits for a graph but
    :meth:`renew`.

    Args:
        folder: Of the index.
        search: When and how hard to walk.
        connect: Gives a connection that reads the index, to be closed.

    Raises:
        ImportError: The extra ``ann`` is not installed.
    """

    def __init__(
        self, folder: Path, search: Approximate, connect: Callable[[], sqlite3.Connection]
    ) -> None:
        ann.new_graph(1)
        self._folder = folder
        self._connect = connect
        self._search = search
        self._fit: _Fit | None = None
        self._turn = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="anabranch-ann")
        self._renewal: Future[None] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._has_failed = False

    def candidates(
        self, table: Table, vector: Vectors, *, k: int, meant: Places | None
    ) -> Places | None:
        """Places among which the ``k`` nearest most probably are.

        Args:
            table: What is searched.
            vector: Of the question.
            k: How many are wanted.
            meant: Which places are; ``None`` for all.

        Returns:
            ``None`` where all that are meant should be compared.
        """
        fit = self._fitting(table)
        many = len(table) if meant is None else len(meant)
        if fit is None or many == 0:
            return None
        # So many that about k of them are meant, and some more.
        count = math.ceil(1.25 * k * max(1.0, len(fit.graph.keys) / many)) + 16
        if count > MOST_CANDIDATES:
            return None
        effort = self._search.effort
        found = fit.graph.walk(vector, count=count, effort=effort)
        places, _ = table.places(found)
        is_meant = _mask(table, meant)
        behind = _behind(table, fit.start, vector, k, is_meant)
        places = np.union1d(places[is_meant[places]], behind)
        return places if len(places) >= min(k, many) else None

    def renew(self, table: Table) -> Future[None] | None:
        """Have the graph renewed if that is due.

        Returns:
            The renewal that is under way, if there is one.
        """
        with self._turn:
            if self._renewal is not None and not self._renewal.done():
                return self._renewal
            if self._is_closed or not self._is_due(self._fit, table):
                return None
            self._renewal = self._thread.submit(self._renew, table)
            return self._renewal

    def held(self, table: Table) -> int:
        """How many of the passages of a table are found along the graph."""
        fit = self._fit
        return 0 if fit is None else int(np.isin(table.known, fit.graph.keys).sum())

    def close(self) -> None:
        """End what is being made."""
        with self._turn:
            self._is_closed = True
            if self._child is not None:
                self._child.kill()
        self._thread.shutdown()

    def _fitting(self, table: Table) -> _Fit | None:
        if len(table) < self._search.above:
            return None
        fit = self._fit
        if fit is not None and fit.generation != table.generation:
            fit = self._fit = _fitted(fit.graph, table)
        if fit is None or self._is_due(fit, table):
            self.renew(table)
        return fit

    def _is_due(self, fit: _Fit | None, table: Table) -> bool:
        if self._has_failed or len(table) < self._search.above:
            return False
        return fit is None or ann.is_outdated(fit.graph, fit.missing, len(table))

    def _renew(self, table: Table) -> None:
        """Take what others have made since, or else have it made."""
        try:
            with contextlib.closing(self._connect()) as db:
                fit = self._read(table, db)
                if self._is_due(fit, table):
                    self._build()
                    fit = self._read(table, db)
                if fit is not None:
                    self._fit = fit
        except Exception as error:  # whatever it was, there is another way
            self._has_failed = True
            if not self._is_closed:
                logger.warning(
                    "%s is searched exactly until it is opened again, since its graph of "
                    "neighbours cannot be made: %s",
                    self._folder,
                    error,
                )

    def _read(self, table: Table, db: sqlite3.Connection) -> _Fit | None:
        graph = ann.read(self._folder / ann.FILE, db)
        return None if graph is None else _fitted(graph, table)

    def _build(self) -> None:
        """Have a process make the file, and wait for its end."""
        command = [sys.executable, "-m", "anabranch.rag.stores.building"]
        with self._turn:
            if self._is_closed:
                return
            child = self._child = subprocess.Popen(  # noqa: S603  # our own module
                [*command, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        with child:
            assert child.stderr is not None  # it was asked for
            said = child.stderr.read().decode(errors="replace").strip()
        if child.returncode:
            raise RuntimeError(said.rpartition("\n")[2] or f"status {child.returncode}")


def _fitted(graph: Graph, table: Table) -> _Fit:
    missing = table.living[~np.isin(table.known, graph.keys, assume_unique=True)]
    start = int(missing.min()) if len(missing) else table.size
    return _Fit(graph, table.generation, start, len(missing))


def _mask(table: Table, meant: Places | None) -> NDArray[np.bool_]:
    is_meant = np.zeros(table.size, np.bool_)
    is_meant[table.living if meant is None else meant] = True
    return is_meant


def _behind(
    table: Table, start: int, vector: Vectors, k: int, is_meant: NDArray[np.bool_]
) -> Places:
    """The nearest of the places that no graph holds yet."""
    if start == table.size:
        return np.zeros(0, np.intp)
    [scores] = table.rows.products(vector[None], start=start)
    places = np.flatnonzero(is_meant[start:])
    return start + places[perhaps_largest(scores[places], k, margin=1e-4)]
