"""What everything that keeps something in PostgreSQL must know of an address.

No sentence, name or traceback of ours has the password in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from anabranch.errors import UsageError

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ModuleNotFoundError as error:
    raise ImportError(
        "PostgreSQL is asked through psycopg: pip install 'anabranch[postgres]'"
    ) from error

__all__ = ["Address", "Connection", "address", "said"]

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


@dataclass(frozen=True, slots=True)
class Address:
    """A schema of a database.

    Attributes:
        options: How to connect; the password may be in them.
        shown: The database's name without a password.
        schema: The schema's name; it needs no quotes.
    """

    options: dict[str, Any] = field(repr=False)
    shown: str
    schema: str


def address(url: str, *, schema: str, settings: str = "") -> Address:
    """The schema at a URL.

    Args:
        url: ``postgresql://...``, or ``name=value`` pairs as libpq has them.
        schema: The schema's name.
        settings: The server's options for each connection, as ``-c name=value``; those
            of the URL come behind them.

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
    if settings:
        options["options"] = f"{settings} {options.get('options', '')}".strip()
    return Address(options, shown, schema)


def said(error: psycopg.Error) -> str:
    """The error in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    words = " ".join(line for line in lines if line) or type(error).__name__
    return words.rstrip(".")
