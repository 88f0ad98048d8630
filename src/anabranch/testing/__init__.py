"""What it takes to test programs built on anabranch, and anabranch itself.

Nothing here is imported by the rest of the package.
"""

from anabranch.testing.clock import Deadlock, VirtualClock, VirtualLoop, run_virtual
from anabranch.testing.crash import Crash, crash_at

__all__ = [
    "Crash",
    "Deadlock",
    "VirtualClock",
    "VirtualLoop",
    "crash_at",
    "run_virtual",
]
