"""What every store of runs must do: tests to inherit."""

from __future__ import annotations

from anabranch.testing._store_driving import Beginning, Committing, Remembering, Resting
from anabranch.testing._store_finding import Claiming, Looking, Sending, Watching
from anabranch.testing._store_kit import ManualClock
from anabranch.testing._store_model import Modelled

__all__ = ["ManualClock", "StoreContract"]


class StoreContract(
    Beginning,
    Committing,
    Remembering,
    Resting,
    Claiming,
    Sending,
    Watching,
    Looking,
    Modelled,
):
    """Tests for a :class:`~anabranch.workflow.Store`, found by pytest in a subclass.

    They need pytest and hypothesis.

    ::

        class TestMyStore(StoreContract):
            async def make(self) -> Store:
                self.clock = ManualClock()
                return MyStore(..., clock=self.clock)  # an empty one

            async def pass_time(self, store: Store, seconds: float) -> None:
                self.clock.time += seconds

    A store that other processes can use at the same time says how, and is tested for it::

        async def another(self, store: Store) -> Store:
            return MyStore(..., clock=self.clock)
    """
