"""Where the tables of a store are, and what is said when something is wrong with them.

No sentence, name or traceback of ours has the password in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from anabranch.errors import StoreError
from anabranch.postgres import Address, Connection, address, said

__all__ = ["Connection", "Place"]


@dataclass(frozen=True, slots=True)
class Place(Address):
    """A schema of a database, as the home of passages.

    Attributes:
        extension: The schema in which pgvector is.
    """

    extension: str = "public"

    @classmethod
    def of(cls, url: str, *, schema: str, settings: str) -> Place:
        """The place at a URL.

        Raises:
            UsageError: There can be none.
        """
        found = address(url, schema=schema, settings=settings)
        # Plans are made for the filter at hand; and a pooler may be in between.
        options = found.options | {"autocommit": True, "prepare_threshold": None}
        return cls(options, found.shown, found.schema)

    def beside(self, extension: str) -> Place:
        """The same, with pgvector in this schema."""
        return replace(self, extension=extension)

    def statement(self, text: str, **words: sql.Composable) -> sql.Composed:
        """A statement of ours, with the names of this place in it."""
        # Our own text, in pieces or from a file: no user's words are ever in it.
        written: Any = text
        return sql.SQL(written).format(
            schema=sql.Identifier(self.schema), ext=sql.Identifier(self.extension), **words
        )

    def sentence(self, error: psycopg.Error) -> StoreError:
        """What to tell a person."""
        told = said(error)
        match error:
            case psycopg.errors.InsufficientPrivilege():
                hint = ": open the store as a user who may, or grant this one the right"
            case psycopg.errors.DiskFull():
                hint = ": free some space and run again; what was stored is kept"
            case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName():
                hint = ": somebody has removed tables of the store; open it anew"
            case psycopg.OperationalError() if error.sqlstate is None:
                hint = ": see that the server runs and can be reached from here"
            case _:
                hint = ""
        return StoreError(f"PostgreSQL at {self.shown}, schema {self.schema}: {told}{hint}")
