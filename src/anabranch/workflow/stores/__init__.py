"""The journals' homes."""

from anabranch.workflow.stores.memory import MemoryStore
from anabranch.workflow.stores.protocol import Opened, Store

__all__ = ["MemoryStore", "Opened", "Store"]
