"""Where passages are kept."""

from anabranch.rag.stores.protocol import VectorStore
from anabranch.rag.stores.sqlite import SqliteStore
from anabranch.rag.stores.writing import Abandon, Add, Remove, Write

__all__ = ["Abandon", "Add", "Remove", "SqliteStore", "VectorStore", "Write"]
