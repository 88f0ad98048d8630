"""Where passages are kept."""

from anabranch.rag.stores.ann import Approximate, Exact, Search
from anabranch.rag.stores.protocol import Sink, VectorStore
from anabranch.rag.stores.records import Abandon, Add, Count, Passage, Remove, Write
from anabranch.rag.stores.searching import Recall
from anabranch.rag.stores.sqlite import SqliteStore

__all__ = [
    "Abandon",
    "Add",
    "Approximate",
    "Count",
    "Exact",
    "Passage",
    "Recall",
    "Remove",
    "Search",
    "Sink",
    "SqliteStore",
    "VectorStore",
    "Write",
]
