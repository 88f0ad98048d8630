"""The journals' homes."""

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

__all__ = [
    "FINAL",
    "Commit",
    "History",
    "MemoryStore",
    "Message",
    "NewRun",
    "Opened",
    "Published",
    "RunInfo",
    "Snapshot",
    "Status",
    "Store",
]
