"""Passages in PostgreSQL with pgvector."""

from anabranch.rag.stores.postgres.store import PgVectorStore

__all__ = ["PgVectorStore"]
