"""A store by the place it is at: one for each place in a process."""

from __future__ import annotations

import threading
from os import PathLike
from pathlib import Path
from typing import Final, cast
from weakref import WeakValueDictionary

from anabranch.errors import WorkflowValidationError
from anabranch.workflow.stores.protocol import Store

_SCHEMES: Final = ("postgresql://", "postgres://")

_known: WeakValueDictionary[str, Store] = WeakValueDictionary()
_finding = threading.Lock()


def store_at(place: str | PathLike[str] | Store) -> Store:
    """The store at a place; the same one for all who ask, so that they share its writer.

    Args:
        place: The path of an SQLite file, the URL of a PostgreSQL database, or a store.

    Raises:
        WorkflowValidationError: There can be no store at it.
        ImportError: It needs an extra that is not installed.
    """
    if isinstance(place, Store):
        return place
    where = _path_or_url(place)
    if not where:
        raise WorkflowValidationError(
            "runs are kept at the path of an SQLite file, the URL of a PostgreSQL "
            f"database, or in a store, not at {place!r}"
        )
    is_url = where.startswith(_SCHEMES)
    if "://" in where and not is_url:
        raise WorkflowValidationError(
            f"runs cannot be kept at {where.partition('://')[0]}://...: give the path of "
            "an SQLite file, or a URL that begins with postgresql://"
        )
    name = where if is_url else str(Path(where).absolute())
    with _finding:
        store = _known.get(name)
        if store is None:
            store = _known[name] = _made(name, is_url=is_url)
        return store


def _path_or_url(place: object) -> str:
    return str(cast("object", place)) if isinstance(place, str | PathLike) else ""


def _made(name: str, *, is_url: bool) -> Store:
    if is_url:
        from anabranch.workflow.stores.postgres import PostgresStore

        return PostgresStore(name)
    from anabranch.workflow.stores.sqlite import SQLiteStore

    return SQLiteStore(name)
