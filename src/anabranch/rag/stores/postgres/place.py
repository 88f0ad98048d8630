"""Where the tables of a store are, and what is said when something is wrong with them.

No sentence, name or traceback of ours has the password in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from anabranch.errors import StoreError, UsageError

try:
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict
except ModuleNotFoundError as error:
    raise ImportError(
        "PgVectorStore needs psycopg: pip install 'anabranch[postgres]'"
    ) from error

# psycopg's types are generic over rows, which are tuples of whatever was asked for.
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_DEFAULTS: Final = {
    "fallback_application_name": "anabranch",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A schema of a database.

    Attributes:
        options: How to connect; the password may be in them.
        shown: The database's name without a password.
        schema: The schema's name; it needs no quotes.
        extension: The schema in which pgvector is.
    """

    options: dict[str, Any] = field(repr=False)
    shown: str
    schema: str
    extension: str = "public"

    @classmethod
    def of(cls, url: str, *, schema: str, settings: str) -> Place:
        """The place at a URL.

        Raises:
            UsageError: There can be none.
        """
        if not _SCHEMA.fullmatch(schema):
            raise UsageError(
                f"{schema!r} cannot be the schema of a store: use at most 48 lower-case "
                "letters, digits and underscores, and no digit first"
            )
        try:
            options: dict[str, Any] = conninfo_to_dict(url)
        except (psycopg.Error, UnicodeError):
            # Neither the URL nor what is said of it is shown: a password may be in it.
            raise UsageError(
                "this URL of a PostgreSQL database cannot be read: write it like "
                "postgresql://USER:<password>@HOST:5432/DATABASE, and signs in the "
                "password that a URL cannot hold as %XX"
            ) from None
        host = options.get("host") or options.get("hostaddr") or "localhost"
        shown = f"{host}:{options.get('port') or 5432}"
        if options.get("dbname"):
            shown += f"/{options['dbname']}"
        options = {**_DEFAULTS, **options}
        options["options"] = f"{settings} {options.get('options', '')}".strip()
        # Plans are made for the filter at hand; and a pooler may be in between.
        options |= {"autocommit": True, "prepare_threshold": None}
        return cls(options, shown, schema)

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
        said = _said(error)
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
        return StoreError(f"PostgreSQL at {self.shown}, schema {self.schema}: {said}{hint}")


def _said(error: psycopg.Error) -> str:
    """The error in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = " ".join(line for line in lines if line) or type(error).__name__
    return said.rstrip(".")
