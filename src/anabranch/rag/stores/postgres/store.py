"""Passages in PostgreSQL: vectors by pgvector, words by ``tsvector``, metadata as jsonb.

A :meth:`PgVectorStore.write` is one transaction. A source's version has a row with a name
of its own; only rows that are complete, and passages that are live, are searched, and only
those are in the indexes of vectors, words and metadata. Whoever completes or removes a
source holds an advisory lock on its name until the transaction ends, taken in one order,
so that two writers of one source are one after the other and never wait for each other.

Why the ranking is BM25 in SQL, and why a search may be made twice:
docs/decisions/0024-stores.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID, uuid4

from anabranch.errors import StoreError
from anabranch.rag.asking import check_k
from anabranch.rag.filters import as_filter
from anabranch.rag.plan import Version
from anabranch.rag.stores.begun import Begun, Plan, plan
from anabranch.rag.stores.fulltext import telling_words
from anabranch.rag.stores.postgres import rows, schema
from anabranch.rag.stores.postgres.conditions import condition
from anabranch.rag.stores.postgres.place import Connection, Place
from anabranch.rag.stores.records import Count, Passage, Remove, Write
from anabranch.rag.stores.storable import check_vector, is_storable, storable
from anabranch.rag.types import Chunk, Embedder, Hit, Vectors, Where

try:
    import psycopg
    from psycopg import sql
    from psycopg_pool import AsyncConnectionPool, PoolTimeout
except ModuleNotFoundError as error:
    raise ImportError(
        "PgVectorStore needs psycopg: pip install 'anabranch[postgres]'"
    ) from error

_COPY_BYTES: Final = 1 << 20
_AT_ONCE: Final = 256
_MOST_WORDS: Final = 200

_BEGIN: Final = """
INSERT INTO {schema}.source (id, key, uri, digest, fingerprint, passages) SELECT * FROM
unnest(%s::uuid[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::int8[])
ON CONFLICT (id) DO UPDATE SET passages = source.passages + excluded.passages
"""
_STALE: Final = """
SELECT id FROM {schema}.source WHERE is_complete AND key = ANY (%s::bytea[])
"""
_COMPLETE: Final = """
UPDATE {schema}.source SET is_complete = true, indexed_at = now()
FROM unnest(%s::uuid[], %s::int8[]) AS kept (id, passages)
WHERE source.id = kept.id AND source.passages = kept.passages
"""
_SHOW: Final = """
UPDATE {schema}.passage SET is_live = true WHERE source = ANY (%s::uuid[]) AND NOT is_live
"""
_SHOWN: Final = 'found.id, uri, document, text, "start", "end", metadata'
_NEAREST: Final = """
SELECT {shown}, score FROM (
    SELECT passage.*, -(vector OPERATOR({ext}.<#>) %s::{ext}.vector) AS score
    FROM {schema}.passage WHERE is_live AND {condition}
    ORDER BY vector OPERATOR({ext}.<#>) %s::{ext}.vector LIMIT %s
) AS found JOIN {schema}.source ON source.id = found.source ORDER BY score DESC, found.id
"""
# BM25 with k1 = 1.2 and b = 0.75. ts_rank of one word that occurs n times is
# (1 + 1/4 + ... + 1/n²) / (π²/6), from which n can be had again to a few per cent.
# Source: PostgreSQL, tsrank.c, calc_rank_or; S. Robertson and H. Zaragoza, "The
# Probabilistic Relevance Framework: BM25 and Beyond", 2009.
_MATCHING: Final = """
WITH term AS (
    SELECT query, count(*) AS asked FROM unnest(%s::text[]) AS word,
        plainto_tsquery((SELECT text_config FROM {schema}.meta), word) AS query
    WHERE numnode(query) > 0 GROUP BY query
), met AS MATERIALIZED (
    SELECT passage.id, query, asked, length(words) AS size, {condition} AS is_meant,
        1 / (1.6449341 * greatest(1 - ts_rank('{{1,1,1,1}}', words, query), 1e-3)) - 0.5
            AS times
    FROM term JOIN {schema}.passage ON words @@ query WHERE is_live
), whole AS (
    SELECT greatest(1, avg(size)) AS size,
        (SELECT sum(passages) FROM {schema}.source WHERE is_complete) AS passages FROM met
), known AS (
    SELECT query, ln(1 + (greatest(max(whole.passages), count(*)) - count(*) + 0.5)
        / (count(*) + 0.5)) AS rarity
    FROM met, whole GROUP BY query
), best AS (
    SELECT met.id, sum(asked * rarity * times * 2.2
        / (times + 1.2 * (0.25 + 0.75 * met.size / whole.size))) AS score
    FROM met JOIN known USING (query), whole
    WHERE is_meant GROUP BY met.id ORDER BY score DESC, met.id LIMIT %s
)
SELECT {shown}, score::float8 FROM best JOIN {schema}.passage AS found USING (id)
JOIN {schema}.source ON source.id = found.source ORDER BY score DESC, found.id
"""


class PgVectorStore:
    """Passages in the tables of one schema of a PostgreSQL database with pgvector.

    Use it as an async context manager, on one event loop; its connections close when the
    block ends. Any number of processes may write and search at once; of two that write the
    same source, the last to complete it wins, whole.

    Vectors are found by pgvector's graph (HNSW), which is not exact; where it gives fewer
    than were asked for, as it may under a filter, every vector that is meant is compared.
    Vectors of more than 2,000 numbers, which the graph does not take, are always compared
    all. Words are found and stemmed by PostgreSQL and ranked by BM25, computed in SQL.

    Args:
        url: ``postgresql://USER@HOST:5432/DATABASE``, with a password or without.
        embedder: Whose vectors are stored.
        schema: Where the tables are; made where there is none. One schema, one index.
        text_config: PostgreSQL's text search configuration, for a new index.
        exact: Make no graph, for a new index: every vector is compared.
        ef_search: How many candidates the graph looks at: more find better, and slower.
        connections: At most so many at once; further calls wait for one.
        timeout: Seconds that a call waits for a connection.

    Raises:
        UsageError: The URL or the schema's name cannot be one.
    """

    def __init__(
        self,
        url: str,
        embedder: Embedder,
        *,
        schema: str = "anabranch_rag",
        text_config: str = "english",
        exact: bool = False,
        ef_search: int = 100,
        connections: int = 8,
        timeout: float = 30.0,
    ) -> None:
        # Unknown to a pgvector before 0.8, which then warns and goes on without.
        settings = f"-c hnsw.ef_search={int(ef_search)} -c hnsw.iterative_scan=strict_order"
        self._place = Place.of(url, schema=schema, settings=f"{settings} -c jit=off")
        self._embedder = embedder
        self._text_config = text_config
        self._exact = exact
        self._connections = connections
        self._timeout = timeout
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._begun: Mapping[str, Begun] = {}
        # Versions are begun and ended in the order of writes.
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open connections; make the tables where there are none.

        Raises:
            StoreMismatch: They hold vectors of another model.
            StoreError: The server cannot be reached, has no pgvector, or refuses.
        """
        options = self._place.options
        try:
            # By itself first: a pool says only that it has waited.
            connection = await psycopg.AsyncConnection.connect(**options)
            async with connection:
                self._place = await schema.make_ready(
                    self._place,
                    connection,
                    self._embedder,
                    config=self._text_config,
                    indexed=not self._exact,
                )
        except psycopg.Error as error:
            raise self._place.sentence(error) from error
        self._pool = AsyncConnectionPool(
            kwargs=options, min_size=1, max_size=self._connections, open=False
        )
        await self._pool.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    # -- writing

    async def write(self, writes: Sequence[Write]) -> None:
        """All of it in one transaction, durable when this returns.

        Raises:
            StoreError: The server refuses or cannot be reached; nothing of these writes
                happened, unless it was lost while it said that they had.
            UsageError: A source's name cannot be stored.
        """
        async with self._turn, self._transaction() as connection:
            made = plan(await asyncio.to_thread(storable, writes), self._begun, _new_name)
            await self._apply(connection, made)
        # Not before the transaction is done: written again, they begin where these began.
        self._begun = made.begun

    async def delete(self, where: Where) -> Sequence[str]:
        """Remove each source of whose passages the filter means one, and name them.

        In one transaction.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
            StoreError: The server refuses or cannot be reached.
        """
        said, values = condition(as_filter(where))
        async with self._turn, self._transaction() as connection:
            found = await self._all(
                connection,
                "SELECT uri FROM {schema}.source WHERE is_complete AND EXISTS (SELECT FROM"
                " {schema}.passage WHERE passage.source = source.id AND {condition})",
                values,
                said,
            )
            gone = [uri for (uri,) in found]
            made = plan([Remove(uri) for uri in gone], self._begun, _new_name)
            await self._apply(connection, made)
        self._begun = made.begun
        return gone

    async def sweep(self) -> None:
        """Remove the versions that are not complete.

        What another process is writing at this time looks the same and goes too; that
        process is then told so when it completes it.
        """
        async with self._turn, self._transaction() as connection:
            mine = [UUID(begun.name) for begun in self._begun.values()]
            found = await self._all(
                connection,
                "SELECT id FROM {schema}.source"
                " WHERE NOT is_complete AND id <> ALL (%s::uuid[]) FOR UPDATE",
                [mine],
            )
            await self._drop(connection, [key for (key,) in found])

    async def _apply(self, connection: Connection, made: Plan) -> None:
        switched = sorted(map(_key, made.switches))
        for key in switched:
            number = int.from_bytes(key[:8], signed=True)
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [number])
        live = [begun for begun in made.switches.values() if begun is not None]
        names = frozenset(begun.name for begun in live)
        data = await asyncio.to_thread(rows.copied, made.adds, names)
        await self._begin(connection, made)
        copy = self._place.statement(
            f"COPY {{schema}}.passage ({rows.COLUMNS}) FROM STDIN (FORMAT BINARY)"
        )
        async with connection.cursor() as cursor, cursor.copy(copy) as sink:
            for start in range(0, len(data), _COPY_BYTES):
                await sink.write(data[start : start + _COPY_BYTES])
        if switched:
            stale = await self._all(connection, _STALE, [switched])
            await self._drop(connection, [key for (key,) in stale])
        if live:
            await self._complete(connection, live)

    async def _begin(self, connection: Connection, made: Plan) -> None:
        """A row for each version, with its passages counted."""
        counts: dict[str, tuple[Begun, int]] = {}
        for add, begun in made.adds:
            _, count = counts.get(begun.name, (begun, 0))
            counts[begun.name] = begun, count + len(add.chunks)
        if not counts:
            return
        versions = [begun.version for begun, _ in counts.values()]
        await connection.execute(
            self._place.statement(_BEGIN),
            [
                list(map(UUID, counts)),
                [_key(version.uri) for version in versions],
                [version.uri for version in versions],
                [version.digest for version in versions],
                [version.fingerprint for version in versions],
                [count for _, count in counts.values()],
            ],
        )

    async def _complete(self, connection: Connection, live: Sequence[Begun]) -> None:
        names = [UUID(begun.name) for begun in live]
        cursor = await connection.execute(
            self._place.statement(_COMPLETE), [names, [begun.count for begun in live]]
        )
        if cursor.rowcount != len(live):
            raise StoreError(
                f"PostgreSQL at {self._place.shown}, schema {self._place.schema}: another "
                "process has swept up what this one was writing; run the same again when "
                "no other is sweeping"
            )
        await connection.execute(self._place.statement(_SHOW), [names])

    async def _drop(self, connection: Connection, sources: Sequence[UUID]) -> None:
        if sources:
            for table, column in (("passage", "source"), ("source", "id")):
                await connection.execute(
                    self._place.statement(
                        f"DELETE FROM {{schema}}.{table} WHERE {column} = ANY (%s)"
                    ),
                    [list(sources)],
                )

    # -- reading

    async def versions(self, uris: Sequence[str]) -> Mapping[str, Version]:
        """The complete version of each source that has one."""
        found = await self._read(
            "SELECT uri, digest, fingerprint FROM {schema}.source"
            " WHERE is_complete AND key = ANY (%s::bytea[])",
            [[_key(uri) for uri in uris if is_storable(uri)]],
        )
        return {row[0]: Version(*row) for row in found}

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors that are stored for some texts, complete or not."""
        found = await self._read(
            "SELECT DISTINCT ON (digest) digest, vector FROM {schema}.passage"
            " WHERE digest = ANY (%s::bytea[])",
            [list(set(digests))],
        )
        return {bytes(digest): rows.vector_of(vector) for digest, vector in found}

    async def count(self) -> Count:
        """How many sources are complete, and how many passages they have."""
        [(sources, passages)] = await self._read(
            "SELECT count(*), coalesce(sum(passages), 0)::int8 FROM {schema}.source"
            " WHERE is_complete",
            [],
        )
        return Count(sources, passages)

    async def search(
        self, vector: Vectors, *, k: int, where: Where | None = None, name: str = "vector"
    ) -> Sequence[Hit]:
        """The ``k`` passages whose vectors have the largest inner product with this one.

        Raises:
            UsageError: The vector has another length than those of the index, or
                ``where`` says what a filter cannot say.
            StoreError: The server refuses or cannot be reached.
        """
        check_vector(vector, self._embedder.dimensions)
        check_k("k", k)
        said, values = _condition(where)
        given = rows.vector_text(vector)
        parameters = [given, *values, given, k]
        found = await self._read(_NEAREST, parameters, said)
        if len(found) < k and not self._exact:
            # There are no more, or the graph gave up before it met them.
            found = await self._read(_NEAREST, parameters, said, exact=True)
        return _hits(found, name)

    async def search_text(
        self, query: str, *, k: int, where: Where | None = None, name: str = "full text"
    ) -> Sequence[Hit]:
        """The ``k`` passages with the best BM25 for the words of ``query``.

        Nothing in the query is syntax. Words that the text configuration leaves out,
        such as "the" in English, find nothing.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
            StoreError: The server refuses or cannot be reached.
        """
        check_k("k", k)
        said, values = _condition(where)
        asked = telling_words(query)[:_MOST_WORDS]
        if not asked:
            return []
        return _hits(await self._read(_MATCHING, [asked, *values, k], said), name)

    async def sources(self) -> AsyncGenerator[Version]:
        """The complete version of every source, as of the moment of the first.

        It holds a connection and a transaction until it ends or is closed.
        """
        text = "SELECT uri, digest, fingerprint FROM {schema}.source WHERE is_complete"
        async with aclosing(self._each(text, [])) as each:
            async for row in each:
                yield Version(*row)

    async def passages(self, where: Where | None = None) -> AsyncGenerator[Passage]:
        """Every passage, as of the moment of the first, in no promised order.

        It holds a connection and a transaction until it ends or is closed.

        Raises:
            UsageError: ``where`` says what a filter cannot say.
        """
        said, values = _condition(where)
        text = (
            "SELECT {shown}, found.digest, vector FROM {schema}.passage AS found"
            " JOIN {schema}.source ON source.id = found.source"
            " WHERE is_live AND {condition}"
        )
        async with aclosing(self._each(text, values, said)) as each:
            async for (
                key,
                uri,
                document,
                body,
                start,
                end,
                metadata,
                digest,
                vector,
            ) in each:
                chunk = Chunk(document, body, start, end, metadata)
                yield Passage(key, uri, chunk, bytes(digest), rows.vector_of(vector))

    # -- statements

    async def _read(
        self, text: str, values: Sequence[Any], said: str = "true", *, exact: bool = False
    ) -> list[tuple[Any, ...]]:
        """The rows of a query, asked once more if the connection had been lost."""
        try:
            return await self._read_once(text, values, said, exact=exact)
        except _Lost:
            return await self._read_once(text, values, said, exact=exact)

    async def _read_once(
        self, text: str, values: Sequence[Any], said: str, *, exact: bool
    ) -> list[tuple[Any, ...]]:
        async with self._connected() as connection:
            if not exact:
                return await self._all(connection, text, values, said)
            async with connection.transaction():
                await connection.execute("SET LOCAL enable_indexscan = off")
                return await self._all(connection, text, values, said)

    async def _each(
        self, text: str, values: Sequence[Any], said: str = "true"
    ) -> AsyncGenerator[tuple[Any, ...]]:
        statement = self._statement(text, said)
        async with (
            self._transaction() as connection,
            connection.cursor("each", binary=True) as cursor,
        ):
            await cursor.execute(statement, values)
            while some := await cursor.fetchmany(_AT_ONCE):
                for row in some:
                    yield row

    async def _all(
        self,
        connection: Connection,
        text: str,
        values: Sequence[Any],
        said: str = "true",
    ) -> list[tuple[Any, ...]]:
        async with connection.cursor(binary=True) as cursor:
            await cursor.execute(self._statement(text, said), values)
            return await cursor.fetchall()

    def _statement(self, text: str, said: str) -> sql.Composed:
        # Our own words alone: see conditions.py.
        meant = self._place.statement(f"({said})")
        return self._place.statement(text, condition=meant, shown=sql.SQL(_SHOWN))

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Connection]:
        async with self._connected() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        if self._pool is None:
            raise RuntimeError(
                "PgVectorStore is not open: use it in 'async with PgVectorStore(...)'"
            )
        lent: Connection | None = None
        try:
            async with self._pool.connection(self._timeout) as connection:
                lent = connection
                yield connection
        except PoolTimeout as error:
            raise StoreError(
                f"PostgreSQL at {self._place.shown}: no connection within "
                f"{self._timeout:g} s: see that the server runs, or allow more connections"
            ) from error
        except psycopg.Error as error:
            sentence = self._place.sentence(error)
            if lent is not None and lent.broken:
                await self._pool.check()  # the others are as old
                raise _Lost(str(sentence)) from error
            raise sentence from error


class _Lost(StoreError):
    """The connection broke."""


def _condition(where: Where | None) -> tuple[str, list[object]]:
    return ("true", []) if where is None else condition(as_filter(where))


def _hits(found: Sequence[tuple[Any, ...]], name: str) -> Sequence[Hit]:
    return [
        Hit(*row, {name: rank})  # type: ignore[call-arg]  # its columns are a hit's fields
        for rank, row in enumerate(found, start=1)
    ]


def _key(uri: str) -> bytes:
    return blake2b(uri.encode(), digest_size=16).digest()


def _new_name() -> str:
    return str(uuid4())
