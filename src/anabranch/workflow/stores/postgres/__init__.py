"""A PostgreSQL database as the home of journals, for processes on many machines."""

from anabranch.workflow.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
