"""Vectors, full text and metadata in one SQLite file.

The file is in WAL mode with ``synchronous=NORMAL``: a commit survives the death of the
process, and the file is consistent after a loss of power. There is one writer, a thread
of its own behind a lock file; readers never wait for it.

Why SQLite: docs/decisions/0009-one-sqlite-file.md.

What must hold after a crash: a source is in the index whole or not at all. A version is
*writing* over as many transactions as it takes; the one that writes its last chunk makes
it *complete* and removes the complete version before it. A version that will never be
finished is *abandoned*: by an error in the middle of it, or by the next writer that finds
it. Only complete versions are searched, but the vectors of all are reused, so a run that
was killed embeds nothing again that it had stored. A run that ends well sweeps up.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np

from anabranch.errors import StoreError, StoreMismatch
from anabranch.rag.asking import check_k
from anabranch.rag.filters import as_filter
from anabranch.rag.plan import Version
from anabranch.rag.stores import reading, writing
from anabranch.rag.stores.ann import Approximate, Exact, Search
from anabranch.rag.stores.lock import hold_lock
from anabranch.rag.stores.neighbours import Neighbours
from anabranch.rag.stores.records import Count, Passage, Write
from anabranch.rag.stores.searching import Matching, Near, Recall, Searches
from anabranch.rag.stores.storable import check_vector
from anabranch.rag.stores.together import Together
from anabranch.rag.types import Embedder, Hit, Vectors, Where

R = TypeVar("R")

FILE: Final = "index.sqlite"
READERS: Final = 2
# Passages read in one turn of a thread.
AT_ONCE: Final = 256
# Vectors compared in one pass: sixteen take two to four times as long as one.
TOGETHER: Final = 16
EXACT: Final = Exact()


class SqliteStore:
    """An index in a folder. Open it with :meth:`open` or :meth:`create`.

    Any number of processes may read; one may write. Every method may be called from many
    tasks at once, and does its work in threads.
    """

    def __init__(self, folder: Path, *, is_writer: bool, search: Search) -> None:
        self.folder = folder
        self._path = folder / FILE
        self._connections: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="anabranch-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="anabranch-write")
        neighbours = None
        if isinstance(search, Approximate):
            neighbours = Neighbours(folder, search, lambda: self._connect("mode=ro"))
        self._searches = Searches(neighbours)
        self._unlock: Callable[[], None] = hold_lock(folder) if is_writer else _nothing
        self._dimensions = 0  # known when it has been looked into
        self._together = Together(self._nearest, self._readers, most=TOGETHER)

    @classmethod
    async def create(
        cls, folder: Path, embedder: Embedder, *, search: Search = EXACT
    ) -> SqliteStore:
        """Open an index for writing; make it if there is none.

        Args:
            folder: Of the index.
            embedder: Whose vectors it holds.
            search: How the nearest vectors are sought.

        Raises:
            ImportError: The extra ``ann`` is missing, and ``search`` needs it.
            StoreLocked: Another process is writing to it.
            StoreMismatch: It was made with another model.
            StoreError: The folder cannot be written, or holds something else.
        """

        def begin() -> SqliteStore:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"{folder} cannot be made a folder ({error.strerror}): choose another"
                ) from error
            store = cls(folder, is_writer=True, search=search)
            try:
                store._on_writer(lambda db: writing.make(db, embedder))
                store._check(embedder)
            except BaseException:
                store._shut()
                raise
            return store

        return await _opened(begin)

    @classmethod
    async def open(
        cls, folder: Path, embedder: Embedder | None = None, *, search: Search = EXACT
    ) -> SqliteStore:
        """Open an index for reading.

        Args:
            folder: Of the index.
            embedder: Whose vectors it should hold.
            search: How the nearest vectors are sought.

        Raises:
            ImportError: The extra ``ann`` is missing, and ``search`` needs it.
            StoreMismatch: It was made with another model than ``embedder``.
            StoreError: There is no index in the folder, or it cannot be read.
        """

        def begin() -> SqliteStore:
            if not (folder / FILE).is_file():
                raise StoreError(
                    f"{folder} holds no index: make one with "
                    f"'anabranch index SOURCE --into {folder}'"
                )
            store = cls(folder, is_writer=False, search=search)
            try:
                store._check(embedder)
            except BaseException:
                store._shut()
                raise
            return store

        return await _opened(begin)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what is being written, and let go of the file. Idempotent."""
        await asyncio.to_thread(self._shut)

    # -- writing

    async def write(self, writes: Sequence[Write]) -> None:
        """All of it in one transaction: when this returns it survives ``kill -9``.

        Raises:
            StoreError: The disk is full or the file cannot be written; nothing of these
                writes happened, and everything before them stands.
            UsageError: A source's name cannot be stored.
        """
        await self._write(lambda db: writing.apply(db, writes))

    async def sweep(self) -> None:
        """Remove abandoned versions, whose vectors nobody will ask for any more."""
        await self._write(writing.sweep)

    async def delete(self, where: Where) -> Sequence[str]:
        """Remove each source of whose passages the filter means one, and name them.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
        """
        chosen = as_filter(where)
        return await self._write(lambda db: writing.delete(db, chosen))

    async def remove_where(self, is_gone: Callable[[str], bool]) -> Sequence[str]:
        """Remove the sources of which this is true, and name them."""
        return await self._write(lambda db: writing.remove_where(db, is_gone))

    # -- reading

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """The complete version of each source that has one."""
        return await self._read(lambda db: reading.versions(db, uris))

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors that are stored for some texts, complete or not."""
        return await self._read(lambda db: reading.vectors(db, digests, self._dimensions))

    async def count(self) -> Count:
        """How many sources are complete, and how many passages they have."""
        return await self._read(reading.count)

    async def sources(self) -> AsyncGenerator[Version]:
        """The complete version of every source, as of the moment of the first."""
        async with aclosing(self._each(reading.all_sources)) as each:
            async for version in each:
                yield version

    async def passages(self, where: Where | None = None) -> AsyncGenerator[Passage]:
        """Every passage, as of the moment of the first, source by source.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
        """
        chosen = None if where is None else as_filter(where)
        found = self._each(lambda db: reading.all_passages(db, chosen, self._dimensions))
        async with aclosing(found) as each:
            async for passage in each:
                yield passage

    async def model(self) -> str:
        """The name of the model whose vectors it holds."""
        return (await self._read(reading.facts))["model"]

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """The ``k`` passages whose vectors have the largest inner product with this one.

        Ties by key. Exact unless :class:`Approximate` was asked for: then some of the
        nearest may be missing, and the scores are exact all the same. What is asked at
        the same time is answered together, in one pass over the vectors.

        Raises:
            UsageError: The vector has another length than those of the index, or
                ``where`` says what a filter cannot say.
        """
        near = self._near(vector, k=k, where=where, name=name)
        return await asyncio.wrap_future(self._together.ask(near))

    async def search_many(
        self,
        vectors: Vectors,
        *,
        k: int,
        where: Where | None = None,
        name: str = "vector",
    ) -> Sequence[Sequence[Hit]]:
        """What :meth:`search` finds for each vector, of one state of the index.

        Args:
            vectors: Shape ``(n, dimensions)``.
            k: At most so many passages each.
            where: Which passages are meant.
            name: By which the hits are ranked.

        Raises:
            UsageError: As for :meth:`search`.
        """
        asked = [self._near(each, k=k, where=where, name=name) for each in vectors]
        return await self._read(lambda db: self._searches.nearest(db, asked))

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """The ``k`` passages with the best BM25 for the words of ``query``.

        As FTS5 calculates it, but that only passages that can be found are counted.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
        """
        check_k("k", k)
        chosen = None if where is None else as_filter(where)
        asked = Matching(query=query, k=k, where=chosen, name=name)
        return await self._read(lambda db: self._searches.matching(db, asked))

    async def prepare(self) -> None:
        """Load what searches need into memory, and make the graph of neighbours if due.

        Without this, the first search loads, and the graph is made in the background.
        """
        while (renewal := await self._read(self._searches.prepare)) is not None:
            await asyncio.wrap_future(renewal)

    async def recall(self, *, k: int = 10, sample: int = 100) -> Recall:
        """How much of what is nearest :meth:`search` finds, measured on this index.

        Args:
            k: How many are sought.
            sample: For how many passages, spread over all; each is left out of its own.
        """
        return await self._read(lambda db: self._searches.recall(db, k=k, sample=sample))

    def _near(self, vector: Vectors, *, k: int, where: Where | None, name: str) -> Near:
        check_vector(vector, self._dimensions)
        check_k("k", k)
        chosen = None if where is None else as_filter(where)
        return Near(vector=vector.astype(np.float32), k=k, where=chosen, name=name)

    # -- threads

    def _nearest(self, asked: Sequence[Near]) -> Sequence[Sequence[Hit]]:
        return self._with_connection(
            lambda db: self._searches.nearest(db, asked), "mode=ro"
        )

    async def _read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._readers, lambda: self._with_connection(work, "mode=ro")
        )

    async def _each(
        self, select: Callable[[sqlite3.Connection], Iterator[R]]
    ) -> AsyncGenerator[R]:
        """What is selected, a few at a time, over a connection that is in one state."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="anabranch-each")
        found = self._selected(select)
        try:
            while some := await loop.run_in_executor(thread, _some, found):
                for one in some:
                    yield one
        finally:
            thread.submit(found.close)  # behind what it may still be reading
            thread.shutdown(wait=False)

    def _selected(
        self, select: Callable[[sqlite3.Connection], Iterator[R]]
    ) -> Generator[R]:
        try:
            db = self._connect("mode=ro")
            try:
                yield from select(db)
            finally:
                db.close()
        except sqlite3.Error as error:
            raise _explained(self.folder, error) from error

    async def _write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        # A transaction cannot be cancelled half way: whoever is cancelled meanwhile
        # learns of it when it has ended.
        future = self._writer.submit(
            lambda: self._with_connection(
                lambda db: writing.transaction(db, work), "mode=rw"
            )
        )
        waiting = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                waiting.exception()
            raise

    def _on_writer(self, work: Callable[[sqlite3.Connection], R]) -> R:
        return self._writer.submit(lambda: self._with_connection(work, "mode=rwc")).result()

    def _with_connection(self, work: Callable[[sqlite3.Connection], R], mode: str) -> R:
        try:
            db: sqlite3.Connection | None = getattr(self._local, "db", None)
            if db is None:
                db = self._connect(mode)
                self._connections.append(db)
                self._local.db = db
            return work(db)
        except sqlite3.Error as error:
            raise _explained(self.folder, error) from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?{self._mode(mode)}"
        return sqlite3.connect(
            uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False
        )

    def _mode(self, mode: str) -> str:
        # Where nothing can be written, SQLite cannot make the files beside a WAL either,
        # and need not: nobody can be writing.
        alone = (
            not os.access(self.folder, os.W_OK)
            and not self._path.with_name(f"{FILE}-wal").exists()
        )
        return "immutable=1" if alone and mode == "mode=ro" else mode

    def _shut(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        self._searches.close()
        while self._connections:
            self._connections.pop().close()
        self._unlock()
        self._unlock = _nothing

    def _check(self, embedder: Embedder | None) -> None:
        found = self._readers.submit(
            lambda: self._with_connection(reading.facts, "mode=ro")
        ).result()
        if found.get("format") != writing.FORMAT:
            raise StoreError(
                f"{self.folder} holds an index of format {found.get('format')}, and this "
                f"version of anabranch reads format {writing.FORMAT}: index into another "
                "folder"
            )
        try:
            self._dimensions = int(found["dimensions"])
        except (KeyError, ValueError) as error:
            raise _explained(self.folder, reading.Damaged("no dimensions")) from error
        if embedder is not None and found["model_digest"] != embedder.digest:
            raise StoreMismatch(
                f"{self.folder} was made with the model {found['model']}, whose vectors "
                f"cannot be compared with those of {embedder.name}: use the same model, "
                "or index into another folder"
            )


def _some(found: Iterator[R]) -> Sequence[R]:
    return list(islice(found, AT_ONCE))


async def _opened(begin: Callable[[], SqliteStore]) -> SqliteStore:
    """What ``begin`` opens in a thread; closed again if nobody waits for it any more."""
    opening = asyncio.ensure_future(asyncio.to_thread(begin))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # A thread cannot be cancelled: it must not leave a lock behind.
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().aclose()
        raise


def _explained(folder: Path, error: sqlite3.Error) -> StoreError:
    said = str(error)
    if "full" in said:
        return StoreError(
            f"the disk of {folder} is full: free some space and run the same command "
            "again; what was stored is kept"
        )
    unlike_ours = ("not a database", "malformed", "no such table", "no such column")
    if isinstance(error, reading.Damaged) or any(each in said for each in unlike_ours):
        return StoreError(
            f"{folder / FILE} is not an index, or is damaged ({said}): move it away and "
            "index again"
        )
    if "readonly" in said or "unable to open" in said:
        return StoreError(
            f"{folder / FILE} cannot be opened or written ({said}): check "
            "who may write there"
        )
    return StoreError(f"{folder / FILE}: {said}")


def _nothing() -> None:
    pass
