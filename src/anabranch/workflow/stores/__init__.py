"""The journals' homes; those in databases are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from anabranch.workflow.stores.gates import Gates
from anabranch.workflow.stores.memory import MemoryStore
from anabranch.workflow.stores.protocol import (
    FINAL,
    Commit,
    History,
    Message,
    NewRun,
    Opened,
    Published,
    RunInfo,
    Snapshot,
    Status,
    Store,
)

if TYPE_CHECKING:
    from anabranch.workflow.stores.postgres import PostgresStore
    from anabranch.workflow.stores.sqlite import SQLiteStore

__all__ = [
    "FINAL",
    "Commit",
    "Gates",
    "History",
    "MemoryStore",
    "Message",
    "NewRun",
    "Opened",
    "PostgresStore",
    "Published",
    "RunInfo",
    "SQLiteStore",
    "Snapshot",
    "Status",
    "Store",
]

_LAZY: Final = {"PostgresStore": "postgres", "SQLiteStore": "sqlite"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
