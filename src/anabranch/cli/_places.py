"""``--durable``: where the runs are that a command is about."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anabranch.errors import JournalError, UsageError

if TYPE_CHECKING:
    from anabranch.workflow import Store

VARIABLE: Final = "ANABRANCH_DURABLE"

HELP = f"""\
Runs are kept in an SQLite file, such as runs.db, or in a PostgreSQL database, such
as postgresql://host/name. Without --durable the variable {VARIABLE} says
where, which keeps a password out of the list of processes."""

NOWHERE = (
    "where are the runs? Give --durable runs.db, or --durable postgresql://..., or set the "
    f"variable {VARIABLE}"
)

_PASSWORDS = (
    re.compile(r"(?<=://)(?P<kept>[^/?#]*?:)[^/?#]*(?=@)"),
    re.compile(r"(?P<kept>[?&](?:ssl)?password=)[^&]*"),
)


def add_durable(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--durable",
        metavar="PLACE",
        help="where the runs are kept: the path of a file, or the URL of a database "
        f"(default: the variable {VARIABLE})",
    )


def place_of(args: argparse.Namespace) -> str | None:
    """Where the runs are, if anybody has said so."""
    return args.durable or os.environ.get(VARIABLE) or None


def shown_place(place: str) -> str:
    """A place without the password in it."""
    if "://" in place:
        for password in _PASSWORDS:
            place = password.sub(r"\g<kept>***", place)
    return place


def option(args: argparse.Namespace) -> str:
    """``--durable ...`` as a command that is shown must have it, with a space before it."""
    return f" --durable {shlex.quote(shown_place(args.durable))}" if args.durable else ""


@asynccontextmanager
async def existing_store(args: argparse.Namespace) -> AsyncGenerator[Store, None]:
    """The store that a command is about; it is not made if it is not there.

    Raises:
        UsageError: Nobody has said where it is.
        JournalError: There is none.
    """
    from anabranch.workflow.stores.places import store_at

    place = place_of(args)
    if place is None:
        raise UsageError(NOWHERE)
    async with closing(existing(store_at(place))) as store:
        yield store


def existing(store: Store) -> Store:
    """The store, if it is there: to look at one must not make it.

    Raises:
        JournalError: It is a file that is not there.
    """
    path = getattr(store, "path", None)
    if isinstance(path, str) and not Path(path).exists():
        raise JournalError(
            f"there is no store of runs at {path}: `anabranch run` and `anabranch worker` "
            "make one; if there should be one, look at the path"
        )
    return store


@asynccontextmanager
async def closing(store: Store) -> AsyncGenerator[Store, None]:
    """The store, which is closed behind the block."""
    try:
        yield store
    finally:
        await store.close()
