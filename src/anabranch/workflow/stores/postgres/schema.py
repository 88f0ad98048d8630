"""Makes and upgrades the tables of a PostgreSQL store.

Any number of processes may start at once: one does it, and the others wait for it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import psycopg

from anabranch.errors import JournalError
from anabranch.workflow.stores.postgres.place import Connection, Place

# Each leads from the version that is its index to the next one.
SCRIPTS: Final = ("schema_1.sql", "gates.sql")

# Not to_regclass(): it may not see yet what was committed while one waited for the lock.
_FOUND: Final = (
    "SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'meta'"
)
_VERSION: Final = "SELECT version FROM {schema}.meta"
_RAISE: Final = "UPDATE {schema}.meta SET version = version + 1"
_SCHEMA: Final = "CREATE SCHEMA IF NOT EXISTS {schema}"
# Of the whole database, so that two schemas are made one after the other.
_LOCK: Final = "SELECT pg_advisory_xact_lock(1634623863)"  # "anaw"


async def make_ready(place: Place, connection: Connection) -> None:
    """See to it that the tables are there, in the version that this code knows.

    Raises:
        JournalError: They are newer, or may not be made.
    """
    if await _version(place, connection) == len(SCRIPTS):
        return
    try:
        async with connection.transaction():
            await connection.execute(_LOCK)
            version = await _version(place, connection)  # somebody was faster, perhaps
            if version == 0:
                await connection.execute(place.statement(_SCHEMA))
            for script in SCRIPTS[version:]:
                await _run(place, connection, script)
                await connection.execute(place.statement(_RAISE))
    except psycopg.errors.InsufficientPrivilege as error:
        raise JournalError(
            f"PostgreSQL at {place.shown}: the tables of the store cannot be made in "
            f"schema {place.schema} ({error.diag.message_primary}): open the store once as "
            "a user who may, or make the schema and give it to this one"
        ) from error


async def _version(place: Place, connection: Connection) -> int:
    """That of the tables; 0 if there are none."""
    cursor = await connection.execute(_FOUND, [place.schema])
    if await cursor.fetchone() is None:
        return 0
    cursor = await connection.execute(place.statement(_VERSION))
    row = await cursor.fetchone()
    version: int = 0 if row is None else row[0]
    if version > len(SCRIPTS):
        raise JournalError(
            f"PostgreSQL at {place.shown}: the tables in schema {place.schema} are of "
            f"version {version}, and this anabranch knows {len(SCRIPTS)}: update it, or "
            "use another schema"
        )
    return version


async def _run(place: Place, connection: Connection, script: str) -> None:
    text = (files("anabranch.workflow.stores.postgres") / script).read_text("utf-8")
    # Such a cursor prepares nothing, so many statements go in one.
    await psycopg.AsyncClientCursor(connection).execute(place.statement(text))
