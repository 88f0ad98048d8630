"""Where a PostgreSQL store is, and what is said when something is wrong with it.

No sentence, name or traceback of ours has the password in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from anabranch.errors import JournalError
from anabranch.postgres import Address, Connection, address, said
from anabranch.workflow.stores.postgres.arrays import adapters

__all__ = ["Connection", "Place", "is_passing"]

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
class Place(Address):
    """A schema of a database, as the home of journals.

    Attributes:
        is_pooled: Nothing is kept on a connection.
    """

    is_pooled: bool

    @classmethod
    def of(cls, url: str, *, schema: str, is_pooled: bool) -> Place:
        """The place at a URL.

        Raises:
            UsageError: There can be none.
        """
        found = address(url, schema=schema, settings="" if is_pooled else _SETTINGS)
        return cls(found.options, found.shown, found.schema, is_pooled)

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
        return JournalError(f"PostgreSQL at {self.shown}: {said(error)}{hint}")

    def gave_up(self, error: psycopg.Error, patience: float) -> JournalError:
        """What to tell when an error was still there after many tries."""
        return JournalError(
            f"PostgreSQL at {self.shown} did not answer as it should for {patience:g} s: "
            f"{said(error)}. What was asked for may have been done. See that the server "
            "runs and can be reached from here, then try again"
        )


_ADAPTERS: Final = adapters()


def is_passing(error: psycopg.Error) -> bool:
    """Whether it may be gone when one tries again."""
    if error.sqlstate is not None:
        return _PASSING.fullmatch(error.sqlstate) is not None
    if isinstance(error, psycopg.InterfaceError):
        return True  # the connection is closed
    told = str(error)
    return isinstance(error, psycopg.OperationalError) and not any(
        words in told for words in _LASTING
    )
