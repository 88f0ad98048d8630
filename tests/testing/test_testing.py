"""What we test with is tested too."""

from __future__ import annotations

import asyncio
import time

import pytest

from anabranch.clock import Clock, RealClock
from anabranch.testing import Crash, VirtualClock, crash_at, run_virtual
from anabranch.testing import clock as testing_clock


def test_an_hour_passes_at_once_and_in_order() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def after(minutes: int) -> None:
            await VirtualClock().sleep(60 * minutes)
            order.append(minutes)

        await asyncio.gather(after(60), after(1), after(30))
        assert VirtualClock().monotonic() == 3600
        assert VirtualClock(epoch=0).now() == 3600
        return order

    assert run_virtual(main()) == [1, 30, 60]


def test_a_program_that_cannot_end_is_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing_clock, "PATIENCE_S", 0.01)

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="every task waits"):
        run_virtual(main())


def test_threads_are_waited_for() -> None:
    assert run_virtual(asyncio.to_thread(lambda: 7)) == 7


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_crash_comes_before_or_after_the_write(done: bool) -> None:
    written: list[int] = []

    async def write(x: int) -> None:
        written.append(x)

    async def main() -> None:
        crashing = crash_at(write, 1, done=done)
        await crashing(0)
        with pytest.raises(Crash):
            await crashing(1)
        with pytest.raises(Crash):
            await crashing(2)

    run_virtual(main())
    assert written == ([0, 1] if done else [0])


def test_the_real_clock_is_the_machines() -> None:
    clock: Clock = RealClock()
    assert abs(clock.now() - time.time()) < 5
    assert abs(clock.monotonic() - time.monotonic()) < 5
    run_virtual(clock.sleep(-1))
