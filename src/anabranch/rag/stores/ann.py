"""A graph of neighbours beside the index: how it is kept, read and walked.

The file ``index.ann`` holds the keys of the passages in the graph, a mark of the text of
each, and the graph itself, which is mapped into memory: processes that read one index
share its pages. It is written beside and renamed, and never changed.

It is only ever a hint. Whoever opens it checks that it is whole (a digest of all of it)
and of this index: made with the same model, not after the state the index is in, and of
the same texts, since an older copy of the index may have been put back and gone another
way. What a walk finds is taken only if the passage can still be found, and is weighed by
its own vector.

A passage takes ``2 * dimensions + 160`` bytes of the file.
"""

from __future__ import annotations

import json
import mmap
import os
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from anabranch.errors import UsageError
from anabranch.rag.stores.reading import facts
from anabranch.rag.stores.table import snapshot
from anabranch.rag.types import Vectors

FILE: Final = "index.ann"
FORMAT: Final = "anabranch ann 1"
# The header fills a page, so that what follows begins on one.
PAGE: Final = mmap.PAGESIZE
# Half precision orders neighbours as well: what is found is weighed in full precision.
_NUMBERS: Final = "f16"
_LINKS: Final = 16
_EFFORT_TO_ADD: Final = 128

# A passage in a file: its key, and the first bytes of the digest of its text.
_LISTED: Final = np.dtype([("key", "<i8"), ("mark", "<u4")])
# Passages that are compared one by one without a thought.
MANY: Final = 1024

Keys: TypeAlias = NDArray[np.int64]
Listed: TypeAlias = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Exact:
    """Every vector is compared: never wrong, and the time grows with the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approximate:
    """Large indexes are searched along a graph of neighbours (extra ``ann``).

    The graph is made and kept up to date by a process of its own, in the background.
    Until there is one, what it does not hold yet, and what a filter leaves few of, is
    searched exactly. Where the folder cannot be written, all is.

    Attributes:
        above: An index with fewer passages is searched exactly.
        effort: How many passages a walk keeps in view: more find more, and take longer.
    """

    above: int = 50_000
    effort: int = 256

    def __post_init__(self) -> None:
        if self.above < 0 or self.effort < 1:
            raise UsageError(f"above must be at least 0 and effort at least 1: {self}")


Search: TypeAlias = Exact | Approximate
"""How the nearest vectors are sought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Which state of which index a graph is of."""

    index: str
    model: str
    dimensions: int
    generation: int

    @classmethod
    def of(cls, db: sqlite3.Connection) -> Stamp:
        """Of the state that is read."""
        said = facts(db)
        return cls(
            index=said["index"],
            model=said["model_digest"],
            dimensions=int(said["dimensions"]),
            generation=int(said["generation"]),
        )

    def may_be_of(self, other: Stamp) -> bool:
        """Whether this is an earlier state of the same index, or the same state."""
        return (
            (self.index, self.model, self.dimensions)
            == (other.index, other.model, other.dimensions)
        ) and self.generation <= other.generation


class Graph:
    """What a whole file holds. Methods may be called from several threads at once.

    Attributes:
        listed: The passages in it, by ascending key.
        data: The graph as usearch writes it.
    """

    def __init__(self, stamp: Stamp, listed: Listed, data: memoryview) -> None:
        self.stamp = stamp
        self.listed = listed
        self.keys: Keys = listed["key"].copy()
        self.data = data
        self._turn = threading.Lock()
        # Looking keys up costs a table in the memory of each process.
        self._graph = new_graph(stamp.dimensions, enable_key_lookups=False)
        self._graph.view(data)

    def walk(self, vector: Vectors, *, count: int, effort: int) -> Keys:
        """About the ``count`` nearest to a vector, in no order."""
        with self._turn:  # usearch keeps notes on a walk, and they are one thread's
            self._graph.expansion_search = effort
            found = self._graph.search(vector, count, threads=1)
        return cast("NDArray[np.uint64]", found.keys).astype(np.int64)


def new_graph(
    dimensions: int, *, enable_key_lookups: bool = True
) -> Any:  # usearch says Any of much
    """An empty graph.

    Raises:
        ImportError: The extra is missing.
    """
    try:
        from usearch.index import Index
    except ModuleNotFoundError as error:
        raise ImportError(
            "approximate search needs usearch: pip install 'anabranch[ann]'"
        ) from error
    return Index(
        ndim=dimensions,
        metric="ip",
        dtype=_NUMBERS,
        connectivity=_LINKS,
        expansion_add=_EFFORT_TO_ADD,
        enable_key_lookups=enable_key_lookups,
    )


def read(path: Path, db: sqlite3.Connection) -> Graph | None:
    """The graph in a file; ``None`` if it is missing, damaged, or of something else.

    Args:
        path: Of the file.
        db: Reads the index, in no transaction.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # there is none, or it is empty
        return None
    body = memoryview(mapped)[PAGE:]
    header = _header(mapped[:PAGE])
    if header is None or header.pop("digest", None) != _digest(_json(header), body):
        return None
    stamp, size = Stamp(**header["stamp"]), header["passages"]
    listed = np.frombuffer(body, _LISTED, size)
    graph = Graph(stamp, listed, body[_padded(listed.nbytes) :])
    with snapshot(db):
        is_ours = stamp.may_be_of(Stamp.of(db)) and _are_same(listed, marks(db))
    return graph if is_ours else None


def write(path: Path, stamp: Stamp, listed: Listed, data: bytes | bytearray) -> None:
    """Put a graph in the place of the one before, whole or not at all.

    Args:
        path: Of the file.
        stamp: The state it is of.
        listed: The passages in it, by ascending key.
        data: As usearch writes it.

    Raises:
        OSError: The folder cannot be written.
    """
    for left in path.parent.glob(f"{path.name}.*.tmp"):  # by one that was killed
        left.unlink(missing_ok=True)
    body = listed.tobytes().ljust(_padded(listed.nbytes), b"\0")
    header: dict[str, object] = {
        "format": FORMAT,
        "stamp": asdict(stamp),
        "passages": len(listed),
    }
    header["digest"] = _digest(_json(header), body, data)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as file:
        file.write(_json(header).ljust(PAGE))
        file.write(body)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def marks(db: sqlite3.Connection) -> Listed:
    """Every passage of whatever version, by ascending key."""
    ((keys, digests),) = db.execute(
        "SELECT group_concat(id), group_concat(hex(substr(digest, 1, 4)), '') FROM chunk"
    )
    found = np.zeros(0 if keys is None else keys.count(",") + 1, _LISTED)
    if keys is not None:
        found["key"] = np.fromstring(keys, np.int64, sep=",")
        found["mark"] = np.frombuffer(bytes.fromhex(digests), "<u4")
    # Not by sort(order=...), which compares whole records and keeps Python's lock.
    return found[np.argsort(found["key"], kind="stable")]


def is_outdated(graph: Graph, missing: int, living: int) -> bool:
    """Whether a graph lacks so much, or holds so much that is gone, that it is renewed.

    Args:
        graph: As it is.
        missing: How many passages that can be found are not in it.
        living: How many can be found.
    """
    return missing > max(MANY, living // 20) or is_overgrown(graph, missing, living)


def is_overgrown(graph: Graph, missing: int, living: int) -> bool:
    """Whether so much of a graph is gone that it is made anew."""
    return len(graph.keys) > MANY + (living - missing) * 3 // 2


def _are_same(some: Listed, others: Listed) -> bool:
    """Whether the passages that are in both have the same text."""
    _, mine, theirs = np.intersect1d(
        some["key"], others["key"], assume_unique=True, return_indices=True
    )
    return bool((some["mark"][mine] == others["mark"][theirs]).all())


def _header(page: bytes) -> dict[str, Any] | None:
    # Any: whatever it holds, the digest says whether we have written it.
    try:
        header: Any = json.loads(page)
        return header if header["format"] == FORMAT else None
    except (ValueError, LookupError, TypeError):
        return None


def _json(header: Mapping[str, object]) -> bytes:
    return json.dumps(header).encode()


def _digest(*parts: bytes | bytearray | memoryview) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _padded(size: int) -> int:
    return -(-size // PAGE) * PAGE
