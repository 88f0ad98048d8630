"""Where passages are kept."""

from anabranch.rag.stores.sqlite import Abandon, Add, Remove, SqliteStore, Write

__all__ = ["Abandon", "Add", "Remove", "SqliteStore", "Write"]
