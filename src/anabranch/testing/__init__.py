"""What it takes to test programs built on anabranch, and anabranch itself.

Nothing here is imported by the rest of the package.
"""

from anabranch.testing.clock import Deadlock, VirtualClock, VirtualLoop, run_virtual
from anabranch.testing.crash import Crash, crash_at
from anabranch.testing.explore import Exploration, explore, replay
from anabranch.testing.stores import StoreContract

__all__ = [
    "Crash",
    "Deadlock",
    "Exploration",
    "StoreContract",
    "VirtualClock",
    "VirtualLoop",
    "crash_at",
    "explore",
    "replay",
    "run_virtual",
]
