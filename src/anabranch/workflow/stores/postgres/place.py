"""Where a PostgreSQL store is, and what is said when something is wrong with it.

No sentence, name or traceback of ours has the password in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from anabranch.errors import JournalError, UsageError
from anabranch.workflow.stores.postgres.arrays import adapters

# psycopg's types are generic over rows, which are tuples of whatever was asked for.
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")

# A server that is gone without a word is noticed within half a minute.
_DEFAULTS: Final = {
    "fallback_application_name": "anabranch",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

# Rows are looked up by their keys. Plans are kept: one that reads a whole table, made while
# it was small, would be used when it has grown. And no lock of ours is held for long.
_SETTINGS: Final = "-c enable_seqscan=off -c jit=off -c lock_timeout=10s"

# A connection that is lost; the server starts, stops, stands by or has no room; others are
# in the way. Source: PostgreSQL's manual, appendix A.
_PASSING: Final = re.compile(r"08...|57P0.|53[03]..|53200|40001|40P01|25006|55P03")

# What libpq has no code for, as the server says it in English.
_LASTING: Final = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "startup parameter",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A schema of a database.

    Attributes:
        shown: Its name without a password.
        schema: The schema's name; it needs no quotes.
        is_pooled: Nothing is kept on a connection.
    """

    options: dict[str, Any] = field(repr=False)
    shown: str
    schema: str
    is_pooled: bool

    @classmethod
    def of(cls, url: str, *, schema: str, is_pooled: bool) -> Place:
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
        if not is_pooled:
            options["options"] = f"{_SETTINGS} {options.get('options', '')}"
        return cls(options, shown, schema, is_pooled)

    async def connect(self) -> Connection:
        """A new connection, on the running loop."""
        return await psycopg.AsyncConnection.connect(
            autocommit=True,
            prepare_threshold=None if self.is_pooled else 0,
            context=_ADAPTERS,
            cursor_factory=psycopg.AsyncRawCursor,
            **self.options,
        )

    def statement(self, text: str) -> bytes:
        """A statement of ours, with the names of this place in it."""
        # Our own text, in pieces or from a file: no user's words are ever in it.
        written: Any = text
        return (
            sql.SQL(written)
            .format(
                schema=sql.Identifier(self.schema),
                channel=sql.Literal(self.channel),
                channel_name=sql.Identifier(self.channel),
            )
            .as_bytes(None)
        )

    @property
    def channel(self) -> str:
        """Where is told what happens to runs."""
        return f"{self.schema}_changes"

    def sentence(self, error: psycopg.Error) -> JournalError:
        """What to tell a person of an error that trying again does not mend."""
        hint = ""
        if "startup parameter" in str(error):
            hint = ": a pooler is in between; say PostgresStore(url, pooled=True)"
        return JournalError(f"PostgreSQL at {self.shown}: {_said(error)}{hint}")

    def gave_up(self, error: psycopg.Error, patience: float) -> JournalError:
        """What to tell when an error was still there after many tries."""
        return JournalError(
            f"PostgreSQL at {self.shown} did not answer as it should for {patience:g} s: "
            f"{_said(error)}. What was asked for may have been done. See that the server "
            "runs and can be reached from here, then try again"
        )


_ADAPTERS: Final = adapters()


def is_passing(error: psycopg.Error) -> bool:
    """Whether it may be gone when one tries again."""
    if error.sqlstate is not None:
        return _PASSING.fullmatch(error.sqlstate) is not None
    if isinstance(error, psycopg.InterfaceError):
        return True  # the connection is closed
    said = str(error)
    return isinstance(error, psycopg.OperationalError) and not any(
        words in said for words in _LASTING
    )


def _said(error: psycopg.Error) -> str:
    """The error in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = " ".join(line for line in lines if line) or type(error).__name__
    return said.rstrip(".")
