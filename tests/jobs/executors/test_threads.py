"""Functions that block, in threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from anabranch import amap, jobs
from anabranch.errors import ExecutorClosed, UsageError
from anabranch.jobs.executors import (
    Dispatcher,
    Executor,
    ProcessExecutor,
    ThreadExecutor,
    executor_of,
)
from tests.jobs.executors.work import answers, double, double_later, until


def test_results_come_in_the_order_of_the_calls() -> None:
    got = asyncio.run(answers(ThreadExecutor(4), double, range(100)))
    assert got == [2 * n for n in range(100)]


def test_as_many_run_at_once_as_there_are_threads() -> None:
    barrier = threading.Barrier(3, timeout=30)
    got = asyncio.run(answers(ThreadExecutor(3), lambda _: barrier.wait(), range(6)))
    assert sorted(got) == [0, 0, 1, 1, 2, 2]


def test_an_exception_is_the_same_object() -> None:
    boom = StopIteration("boom")

    def fail(_: object) -> None:
        raise boom

    [got] = asyncio.run(answers(ThreadExecutor(1), fail, [1]))
    # What Python does with this one when it leaves a coroutine.
    assert isinstance(got, RuntimeError)
    assert got.__cause__ is boom


def test_context_variables_go_in_and_do_not_come_out() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def look(_: object) -> str:
        found = variable.get()
        variable.set("changed inside")
        return found

    async def job(dispatch: Dispatcher[Any, Any], value: str) -> tuple[str, str]:
        variable.set(value)
        return await dispatch(None), variable.get()

    async def main() -> None:
        executor = ThreadExecutor(1)
        dispatch: Dispatcher[Any, Any] = Dispatcher(executor, look)
        one, two = await asyncio.gather(job(dispatch, "one"), job(dispatch, "two"))
        await dispatch.aclose()
        await executor.aclose()
        assert one == ("one", "one")
        assert two == ("two", "two")

    asyncio.run(main())


def test_a_cancelled_call_waits_for_its_thread() -> None:
    begun, go = threading.Event(), threading.Event()
    ended = []

    def block(_: object) -> None:
        begun.set()
        go.wait(30)
        ended.append("thread")

    async def main() -> None:
        executor = ThreadExecutor(1)
        task = asyncio.create_task(executor.run(block, [None]))
        await until(begun.is_set)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["thread"]
        await executor.aclose()

    asyncio.run(main())


def test_nothing_is_left_after_closing_and_it_may_be_used_again() -> None:
    async def main() -> None:
        before = threading.active_count()
        executor = ThreadExecutor(3)
        for _ in range(2):
            assert await executor.run(double, [1, 2]) == [(True, 2), (True, 4)]
            await executor.aclose()
            assert threading.active_count() == before

    asyncio.run(main())


def test_a_run_whose_executor_is_closed_ends_and_starts_nothing_new() -> None:
    release = threading.Event()
    begun: list[int] = []

    def hold(item: int) -> None:
        begun.append(item)
        release.wait(30)

    async def main() -> None:
        executor = ThreadExecutor(2)
        run = asyncio.create_task(
            amap(hold, range(9), executor=executor, errors="return", concurrency=2)
        )
        while len(begun) < 2:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(executor.aclose())
        await asyncio.sleep(0)
        release.set()
        await closing
        outcomes = await run
        assert [type(outcome.error) for outcome in outcomes] == [ExecutorClosed] * 9
        assert begun == [0, 1]
        assert await amap(double, [1], executor=executor) == [2]
        await executor.aclose()

    asyncio.run(main())


def test_closing_waits_for_the_threads_of_other_loops_too() -> None:
    begun, release = threading.Event(), threading.Event()
    executor = ThreadExecutor(1)
    ended: list[type] = []

    def hold(_: int) -> None:
        begun.set()
        release.wait(30)

    def other() -> None:
        [outcome] = jobs.map(hold, [1], executor=executor, errors="return")
        ended.append(type(outcome.error))

    async def main() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        await asyncio.to_thread(begun.wait, 30)
        closing = asyncio.create_task(executor.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        release.set()
        await closing
        await asyncio.to_thread(thread.join, 30)

    asyncio.run(main())
    assert ended == [ExecutorClosed]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    program = """
        import asyncio, os
        from anabranch import jobs
        from anabranch.jobs import ThreadExecutor

        executor = ThreadExecutor(1)
        assert jobs.map(str, [1], executor=executor) == ["1"]
        child = os.fork()
        if child == 0:
            assert jobs.map(str, [2], executor=executor) == ["2"]
            asyncio.run(executor.aclose())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert jobs.map(str, [3], executor=executor) == ["3"]
    """
    done = subprocess.run(
        # From Python 3.12 on, a fork in a process with threads is warned of.
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            textwrap.dedent(program),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_coroutine_that_comes_out_of_a_thread_is_refused() -> None:
    [got] = asyncio.run(answers(ThreadExecutor(1), double_later, [1]))
    assert isinstance(got, TypeError)
    assert "coroutine" in str(got)


class TestChoosing:
    def test_names_give_new_executors_and_an_executor_is_taken_as_it_is(self) -> None:
        assert isinstance(executor_of("thread", double), ThreadExecutor)
        assert isinstance(executor_of("process", double_later), ProcessExecutor)
        mine = ThreadExecutor(1)
        assert executor_of(mine, double) is mine
        assert isinstance(mine, Executor)

    @pytest.mark.parametrize("value", ["ray", 4, ThreadExecutor])
    def test_anything_else_is_refused(self, value: object) -> None:
        with pytest.raises(UsageError, match="executor must be"):
            executor_of(value, double)

    def test_threads_refuse_async_functions_and_say_what_to_do(self) -> None:
        class Callable:
            async def __call__(self, item: object) -> None: ...

        functions: list[Any] = [
            double_later,
            functools.partial(double_later, 1),
            Callable(),
        ]
        for fn in functions:
            with pytest.raises(UsageError, match="leave `executor` out"):
                executor_of("thread", fn)

    @pytest.mark.parametrize("count", [0, -1, True, 1.5])
    def test_a_count_that_is_none_is_refused(self, count: Any) -> None:
        with pytest.raises(UsageError, match="threads"):
            ThreadExecutor(count)
        with pytest.raises(UsageError, match="workers"):
            ProcessExecutor(count)


AFTER_MAIN = """
import asyncio, threading, time
from anabranch import jobs
from anabranch.jobs.executors import ThreadExecutor
at_work, most = set(), 0
def work(item):
    global most
    at_work.add(item)
    most = max(most, len(at_work))
    time.sleep(.01)
    at_work.remove(item)
    return item
async def many_at_once():
    executor = ThreadExecutor(2)
    await asyncio.gather(*(executor.run(work, [item]) for item in range(12)))
    await executor.aclose()
def go():
    global most
    threading.main_thread().join()
    print(jobs.map(work, range(12), executor="thread"))
    most = 0
    asyncio.run(many_at_once())
    print(most <= 2)
threading.Thread(target=go).start()
"""


def test_threads_work_when_the_main_thread_has_ended_and_are_no_more_than_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_MAIN], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (f"{[*range(12)]}\nTrue\n", "")


def test_what_no_thread_can_be_started_for_fails_and_is_not_done_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("anabranch_"):
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main() -> None:
        executor = ThreadExecutor(1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await executor.run(done.append, [1])
        await executor.run(done.append, [2])
        await executor.aclose()

    asyncio.run(main())
    assert done.count(1) <= 1
