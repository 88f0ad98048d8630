"""Where passages are kept."""

from anabranch.rag.stores.protocol import VectorStore
from anabranch.rag.stores.records import Abandon, Add, Count, Passage, Remove, Write
from anabranch.rag.stores.sqlite import SqliteStore

__all__ = [
    "Abandon",
    "Add",
    "Count",
    "Passage",
    "Remove",
    "SqliteStore",
    "VectorStore",
    "Write",
]
