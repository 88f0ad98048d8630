"""A file of SQLite as the home of journals: no server, any number of processes."""

from anabranch.workflow.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
