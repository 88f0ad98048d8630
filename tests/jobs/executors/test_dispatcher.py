"""Single items become chunks, and each caller gets what is its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import WorkerLost
from anabranch.jobs.executors import Dispatcher, Reply
from anabranch.jobs.executors.dispatcher import share


class FakeExecutor:
    """Keeps the promises of an executor, in the loop; a worker dies of certain items."""

    def __init__(
        self,
        *,
        slots: int = 2,
        chunk: int = 4,
        resend: int = 0,
        deadly: Sequence[Any] = (),
        held: bool = False,
    ) -> None:
        self.slots, self.chunk, self.resend = slots, chunk, resend
        self.deadly = deadly
        self.chunks: list[list[Any]] = []
        self.running = self.most = 0
        self.cancelled: list[list[Any]] = []
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        self.chunks.append(list(items))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if any(item in self.deadly for item in items):
                raise WorkerLost(f"died with {len(items)}")
            return [self._reply(fn, item) for item in items]
        except asyncio.CancelledError:
            self.cancelled.append(list(items))
            raise
        finally:
            self.running -= 1

    def _reply(self, fn: Callable[[Any], Any], item: Any) -> Reply:
        try:
            return True, fn(item)
        except Exception as error:
            return False, error

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def over(
    executor: FakeExecutor, fn: Any = str
) -> AsyncIterator[Dispatcher[Any, Any]]:
    """A dispatcher; nothing of it may be left at the end."""
    dispatcher: Dispatcher[Any, Any] = Dispatcher(executor, fn)
    try:
        yield dispatcher
    finally:
        await dispatcher.aclose()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_each_caller_gets_the_result_of_its_item() -> None:
    async def main() -> None:
        async with over(FakeExecutor()) as dispatch:
            got = await asyncio.gather(*(dispatch(n) for n in range(50)))
        assert got == [str(n) for n in range(50)]

    asyncio.run(main())


def test_what_is_called_in_one_turn_shares_the_free_slots_evenly() -> None:
    async def main() -> None:
        executor = FakeExecutor(slots=3, chunk=100)
        async with over(executor) as dispatch:
            await asyncio.gather(*(dispatch(n) for n in range(7)))
        assert executor.chunks == [[0, 1, 2], [3, 4], [5, 6]]

    asyncio.run(main())


def test_chunks_and_slots_are_never_exceeded() -> None:
    async def main() -> None:
        executor = FakeExecutor(slots=3, chunk=4)
        async with over(executor) as dispatch:
            await asyncio.gather(*(dispatch(n) for n in range(100)))
        assert executor.most == 3
        assert max(map(len, executor.chunks)) == 4
        assert [item for chunk in executor.chunks for item in chunk] == list(range(100))

    asyncio.run(main())


@given(waiting=st.integers(1, 10_000), free=st.integers(1, 64), most=st.integers(1, 1000))
def test_a_share_is_never_empty_and_the_shares_never_run_out_of_slots(
    waiting: int, free: int, most: int
) -> None:
    sizes = []
    while waiting and free:
        sizes.append(share(waiting, free, most))
        waiting, free = waiting - sizes[-1], free - 1
    assert all(1 <= size <= most for size in sizes)
    assert waiting == 0 or set(sizes) == {most}
    assert max(sizes) - min(sizes) <= 1


def test_a_failure_reaches_its_caller_only_and_as_the_same_object() -> None:
    boom = ValueError("boom")

    def fail_on_2(number: int) -> int:
        if number == 2:
            raise boom
        return number

    async def main() -> None:
        async with over(FakeExecutor(), fail_on_2) as dispatch:
            got = await asyncio.gather(
                *(dispatch(n) for n in range(4)), return_exceptions=True
            )
        assert got == [0, 1, boom, 3]

    asyncio.run(main())


def test_an_executor_that_fails_as_a_whole_fails_every_item_of_the_chunk() -> None:
    class Broken(FakeExecutor):
        async def run(self, fn: Any, items: Sequence[Any]) -> list[Reply]:
            raise ImportError("no such thing")

    async def main() -> None:
        async with over(Broken()) as dispatch:
            got = await asyncio.gather(
                *(dispatch(n) for n in range(3)), return_exceptions=True
            )
        assert [str(error) for error in got] == ["no such thing"] * 3

    asyncio.run(main())


def test_of_a_lost_chunk_only_the_guilty_item_fails() -> None:
    async def main() -> None:
        executor = FakeExecutor(slots=2, chunk=10, deadly=[5])
        async with over(executor) as dispatch:
            got = await asyncio.gather(
                *(dispatch(n) for n in range(20)), return_exceptions=True
            )
        lost = got.pop(5)
        assert isinstance(lost, WorkerLost)
        assert "alone in its worker: 5" in lost.__notes__[-1]
        assert got == [str(n) for n in range(20) if n != 5]
        # Every one of its chunk was sent again, alone.
        assert sorted(executor.chunks[2:]) == [[n] for n in range(10)]

    asyncio.run(main())


def test_an_item_lost_alone_is_told_at_once_where_workers_die_of_their_items() -> None:
    async def main() -> None:
        executor = FakeExecutor(deadly=["x"])
        async with over(executor) as dispatch:
            with pytest.raises(WorkerLost):
                await dispatch("x")
        assert executor.chunks == [["x"]]

    asyncio.run(main())


def test_an_item_lost_alone_is_sent_again_where_machines_die_of_themselves() -> None:
    class Twice(FakeExecutor):
        async def run(self, fn: Any, items: Sequence[Any]) -> list[Reply]:
            self.deadly = ["x"] if len(self.chunks) < 2 else []
            return await super().run(fn, items)

    async def main() -> None:
        executor = Twice(resend=2)
        async with over(executor) as dispatch:
            assert await dispatch("x") == "x"
        assert executor.chunks == [["x"]] * 3

        deadly = FakeExecutor(resend=2, deadly=["x"])
        async with over(deadly) as dispatch:
            with pytest.raises(WorkerLost) as caught:
                await dispatch("x")
        assert deadly.chunks == [["x"]] * 3
        assert "lost 3 times" in caught.value.__notes__[0]

    asyncio.run(main())


def test_a_cancelled_item_that_was_not_sent_never_is() -> None:
    async def main() -> None:
        executor = FakeExecutor(slots=1, chunk=1, held=True)
        async with over(executor) as dispatch:
            first, second, third = (asyncio.create_task(dispatch(n)) for n in range(3))
            await turns()
            second.cancel()
            await turns()
            executor.gate.set()
            assert (await first, await third) == ("0", "2")
            assert second.cancelled()
        assert executor.chunks == [[0], [2]]

    asyncio.run(main())


def test_a_chunk_goes_on_until_nobody_waits_for_any_of_it() -> None:
    async def main() -> None:
        executor = FakeExecutor(slots=1, chunk=3, held=True)
        async with over(executor) as dispatch:
            jobs = [asyncio.create_task(dispatch(n)) for n in range(3)]
            await turns()
            jobs[0].cancel()
            jobs[1].cancel()
            await turns()
            assert executor.cancelled == []
            jobs[2].cancel()
            await turns()
            assert executor.cancelled == [[0, 1, 2]]
            executor.gate.set()
            assert await dispatch(7) == "7"

    asyncio.run(main())


def test_a_cancelled_chunk_keeps_its_slot_until_it_has_ended() -> None:
    class Slow(FakeExecutor):
        async def run(self, fn: Any, items: Sequence[Any]) -> list[Reply]:
            try:
                return await super().run(fn, items)
            except asyncio.CancelledError:
                await ended.wait()
                raise

    async def main() -> None:
        executor = Slow(slots=1, chunk=1, held=True)
        async with over(executor) as dispatch:
            job = asyncio.create_task(dispatch(1))
            await turns()
            job.cancel()
            executor.gate.set()
            after = asyncio.create_task(dispatch(2))
            await turns()
            assert executor.chunks == [[1]]
            ended.set()
            assert await after == "2"

    ended = asyncio.Event()
    asyncio.run(main())


def test_of_a_lost_chunk_what_nobody_waits_for_is_not_sent_again() -> None:
    async def main() -> None:
        executor = FakeExecutor(slots=1, chunk=3, deadly=[0], held=True)
        async with over(executor) as dispatch:
            jobs = [asyncio.create_task(dispatch(n)) for n in range(3)]
            await turns()
            jobs[0].cancel()
            await turns()
            executor.gate.set()
            assert await asyncio.gather(*jobs[1:]) == ["1", "2"]
        assert executor.chunks == [[0, 1, 2], [1], [2]]

    asyncio.run(main())


def test_closing_cancels_what_waits_and_what_is_in_flight() -> None:
    async def main() -> None:
        executor = FakeExecutor(slots=1, chunk=2, held=True)
        dispatch: Dispatcher[Any, Any] = Dispatcher(executor, str)
        jobs = [asyncio.create_task(dispatch(n)) for n in range(5)]
        await turns()
        await dispatch.aclose()
        assert executor.cancelled == [[0, 1]]
        got = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(error) for error in got] == [asyncio.CancelledError] * 5
        with pytest.raises(RuntimeError, match="closed"):
            await dispatch(1)

    asyncio.run(main())


def test_closing_before_anything_was_sent_leaves_nobody_waiting() -> None:
    async def main() -> None:
        executor = FakeExecutor()
        dispatch: Dispatcher[Any, Any] = Dispatcher(executor, str)
        jobs = [asyncio.create_task(dispatch(n)) for n in range(3)]
        await turns(2)  # their chunk's task exists and has not begun
        await dispatch.aclose()
        got = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(error) for error in got] == [asyncio.CancelledError] * 3

    asyncio.run(main())


def test_answers_that_come_too_late_make_no_noise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(number: int) -> int:
        raise ValueError(number)

    async def main() -> None:
        executor = FakeExecutor(slots=1, chunk=2, held=True)
        async with over(executor, fail) as dispatch:
            jobs = [asyncio.create_task(dispatch(n)) for n in range(2)]
            await turns()
            jobs[0].cancel()
            executor.gate.set()
            with pytest.raises(ValueError, match="1"):
                await jobs[1]

    asyncio.run(main())
    assert not caplog.records


def test_an_item_alone_in_its_chunk_runs_in_its_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def job(dispatch: Dispatcher[Any, Any], value: str) -> Any:
        variable.set(value)
        return await dispatch(None)

    async def main() -> None:
        async with over(FakeExecutor(chunk=1), lambda _: variable.get()) as dispatch:
            one, two = await asyncio.gather(job(dispatch, "one"), job(dispatch, "two"))
        assert (one, two) == ("one", "two")

    asyncio.run(main())
