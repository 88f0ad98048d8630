"""Who drives runs, and where; what needs an extra is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from anabranch.workflow.dispatch.local import LocalDispatcher
from anabranch.workflow.dispatch.protocol import (
    Dispatcher,
    Done,
    Driven,
    Driver,
    Elsewhere,
    Waiting,
)

if TYPE_CHECKING:
    from anabranch.workflow.dispatch.dbos import DBOSDispatcher
    from anabranch.workflow.dispatch.temporal import TemporalDispatcher

__all__ = [
    "DBOSDispatcher",
    "Dispatcher",
    "Done",
    "Driven",
    "Driver",
    "Elsewhere",
    "LocalDispatcher",
    "TemporalDispatcher",
    "Waiting",
]

_LAZY: Final = {"DBOSDispatcher": "dbos", "TemporalDispatcher": "temporal"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
