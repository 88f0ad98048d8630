"""Passages in Chroma, over HTTP and without its client."""

from anabranch.rag.stores.chroma.client import ChromaClient
from anabranch.rag.stores.chroma.store import ChromaStore

__all__ = ["ChromaClient", "ChromaStore"]
