"""Makes the tables of a store, and sees whether those that are there are its own.

Any number of processes may start at once: one does it, and the others wait for it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import psycopg
from psycopg import sql

from anabranch.errors import StoreError, StoreMismatch
from anabranch.rag.stores.postgres.place import Connection, Place
from anabranch.rag.types import Embedder

VERSION: Final = 1
# What pgvector's graph takes.
MOST_INDEXED: Final = 2_000

_EXTENSION: Final = (
    "SELECT nspname FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace"
    " ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
)
# Not to_regclass(): it may not see yet what was committed while one waited for the lock.
_FOUND: Final = (
    "SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'meta'"
)
_FACTS: Final = "SELECT version, model, model_digest, dimensions FROM {schema}.meta"
# Of the whole database, so that two schemas are made one after the other.
_LOCK: Final = "SELECT pg_advisory_xact_lock(1634623861)"


async def make_ready(
    place: Place, connection: Connection, embedder: Embedder, *, config: str, indexed: bool
) -> Place:
    """See to it that the tables are there and hold vectors of this model.

    Returns:
        The place, with the schema of the extension.

    Raises:
        StoreMismatch: They hold vectors of another model.
        StoreError: They are newer, or may not be made.
    """
    if not await _is_made(place, connection):
        async with connection.transaction():
            await connection.execute(_LOCK)
            if not await _is_made(place, connection):  # or somebody was faster
                found = await _with_extension(place, connection)
                await _make(found, connection, embedder, config=config, indexed=indexed)
    await _check(place, connection, embedder)
    return await _with_extension(place, connection)


async def _is_made(place: Place, connection: Connection) -> bool:
    cursor = await connection.execute(_FOUND, [place.schema])
    return await cursor.fetchone() is not None


async def _with_extension(place: Place, connection: Connection) -> Place:
    cursor = await connection.execute(_EXTENSION)
    row = await cursor.fetchone()
    if row is None:
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except (
            psycopg.errors.FeatureNotSupported,
            psycopg.errors.UndefinedFile,
            psycopg.errors.InsufficientPrivilege,
        ) as error:
            raise StoreError(
                f"PostgreSQL at {place.shown} has no pgvector in this database "
                f"({error.diag.message_primary}): install pgvector on the server, and let "
                "a superuser say CREATE EXTENSION vector"
            ) from error
        cursor = await connection.execute(_EXTENSION)
        row = await cursor.fetchone()
    assert row is not None
    return place.beside(row[0])


async def _make(
    place: Place, connection: Connection, embedder: Embedder, *, config: str, indexed: bool
) -> None:
    await connection.execute(place.statement("CREATE SCHEMA IF NOT EXISTS {schema}"))
    text = (files("anabranch.rag.stores.postgres") / "schema.sql").read_text("utf-8")
    words = {"dimensions": sql.Literal(embedder.dimensions), "config": sql.Literal(config)}
    await connection.execute(place.statement(text, **words))
    if indexed and embedder.dimensions <= MOST_INDEXED:
        await connection.execute(
            place.statement(
                "CREATE INDEX passage_vector ON {schema}.passage"
                " USING hnsw (vector {ext}.vector_ip_ops) WHERE is_live"
            )
        )
    model: list[Any] = [embedder.name, embedder.digest, embedder.dimensions]
    await connection.execute(
        place.statement("INSERT INTO {schema}.meta VALUES (%s, %s, %s, %s, %s::regconfig)"),
        [VERSION, *model, config],
    )


async def _check(place: Place, connection: Connection, embedder: Embedder) -> None:
    cursor = await connection.execute(place.statement(_FACTS))
    row = await cursor.fetchone()
    version, model, digest, dimensions = row or (0, "", "", 0)
    where = f"PostgreSQL at {place.shown}, schema {place.schema}"
    if version != VERSION:
        raise StoreError(
            f"{where}: the tables are of version {version}, and this version of anabranch "
            f"knows {VERSION}: use another schema"
        )
    if (digest, dimensions) != (embedder.digest, embedder.dimensions):
        raise StoreMismatch(
            f"{where} was made with the model {model}, whose vectors cannot be compared "
            f"with those of {embedder.name}: use the same model, or another schema"
        )
