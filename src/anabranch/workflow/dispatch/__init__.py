"""Who drives runs, and where."""

from anabranch.workflow.dispatch.local import LocalDispatcher
from anabranch.workflow.dispatch.protocol import (
    Dispatcher,
    Done,
    Driven,
    Driver,
    Elsewhere,
    Waiting,
)

__all__ = [
    "Dispatcher",
    "Done",
    "Driven",
    "Driver",
    "Elsewhere",
    "LocalDispatcher",
    "Waiting",
]
