"""What it takes to test programs built on anabranch, and anabranch itself.

Nothing here is imported by the rest of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anabranch.testing.clock import Deadlock, VirtualClock, VirtualLoop, run_virtual
from anabranch.testing.crash import Crash, crash_at
from anabranch.testing.explore import Exploration, explore, replay

if TYPE_CHECKING:
    from anabranch.testing.stores import ManualClock, StoreContract

__all__ = [
    "Crash",
    "Deadlock",
    "Exploration",
    "ManualClock",
    "StoreContract",
    "VirtualClock",
    "VirtualLoop",
    "crash_at",
    "explore",
    "replay",
    "run_virtual",
]

# They need the workflow room, which is loaded when they are first used.
_LAZY = {"ManualClock", "StoreContract"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        from anabranch.testing import stores

        return getattr(stores, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
