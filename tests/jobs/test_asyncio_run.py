"""Asynchronous work from synchronous code."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from anabranch.errors import LoopError
from anabranch.jobs import asyncio_run


async def thread_and_loop() -> tuple[int, int]:
    await asyncio.sleep(0)
    return threading.get_ident(), id(asyncio.get_running_loop())


def test_it_works_with_and_without_a_running_loop_and_in_threads() -> None:
    first = asyncio_run(thread_and_loop())

    async def inside() -> tuple[int, int]:
        return asyncio_run(thread_and_loop())

    nested = asyncio.run(inside())
    from_thread: list[tuple[int, int]] = []
    thread = threading.Thread(
        target=lambda: from_thread.append(asyncio_run(thread_and_loop()))
    )
    thread.start()
    thread.join()
    # One loop in one thread: what a call leaves open still works in the next.
    assert [first, nested] == [nested, *from_thread]


def test_an_exception_comes_back_as_the_same_object() -> None:
    boom = RuntimeError("this event loop is already running, says the user")

    async def fail() -> None:
        raise boom

    with pytest.raises(RuntimeError) as caught:
        asyncio_run(fail())
    assert caught.value is boom


def test_context_variables_go_in() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("caller's")

    async def read() -> str:
        found = variable.get()
        variable.set("changed inside")
        return found

    assert asyncio_run(read()) == "caller's"
    assert variable.get() == "caller's"


def test_from_its_own_loop_it_refuses_instead_of_waiting_for_itself() -> None:
    async def outer() -> None:
        asyncio_run(thread_and_loop())

    with pytest.raises(LoopError, match="Await the coroutine instead"):
        asyncio_run(outer())


def test_even_system_exit_comes_back_and_the_loop_serves_on() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        asyncio_run(leave())
    assert asyncio_run(asyncio.sleep(0, "served")) == "served"


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    program = """
        import asyncio, os
        from anabranch.jobs import asyncio_run
        assert asyncio_run(asyncio.sleep(0, 1)) == 1
        if (child := os.fork()) == 0:
            os._exit(asyncio_run(asyncio.sleep(0, 7)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "7\n"


def test_ctrl_c_cancels_the_work_waits_for_its_clean_up_and_is_felt() -> None:
    program = """
        import asyncio, signal, sys
        from anabranch.jobs import asyncio_run

        # What a shell runs in the background ignores Ctrl-C, and so do its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        async def work():
            try:
                print("working", flush=True)
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
                print("cleaned", flush=True)

        try:
            asyncio_run(work())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.read() == "cleaned\ninterrupted\n"
        assert process.wait(10) == 0
    assert time.monotonic() - began < 30  # and not the minute that the work would take


def ran(program: str) -> str:
    """What a program prints that must end by itself and say nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("call", "partial"),
    [("jobs.map(quick, [1])", {}), ("next(jobs.stream(quick, [1]))", None)],
)
def test_ctrl_c_is_felt_even_if_the_call_has_not_begun(call: str, partial: object) -> None:
    program = """
        import _thread, threading
        from anabranch import jobs

        busy, go_on = threading.Event(), threading.Event()

        async def block(x):
            busy.set()
            go_on.wait()

        async def quick(x):
            print("began")

        threading.Thread(target=jobs.map, args=(block, [1])).start()
        busy.wait()

        threading.Timer(0.2, _thread.interrupt_main).start()
        threading.Timer(0.6, go_on.set).start()
        try:
            CALL
        except KeyboardInterrupt as error:
            print(getattr(error, "partial", None))
    """
    assert ran(program.replace("CALL", call)) == f"{partial}\n"


@pytest.mark.parametrize(
    "call",
    ["jobs.map(job, range(10), concurrency=1)", "run_async_tasks(map(job, range(10)))"],
)
def test_ctrl_c_just_after_the_last_job_carries_all_of_them(call: str) -> None:
    program = f"""
        import _thread
        from anabranch import jobs
        from anabranch.jobs import run_async_tasks

        async def job(x):
            if x == 9:
                _thread.interrupt_main()
            return x

        for _ in range(20):
            try:
                {call}
            except KeyboardInterrupt as error:
                assert error.partial == {{x: x for x in range(10)}}, error.partial
            else:
                raise AssertionError("not interrupted")
    """
    assert ran(program) == ""


def test_it_can_be_called_when_the_interpreter_exits() -> None:
    program = """
        import asyncio, atexit
        from anabranch import jobs

        async def job(x):
            return x

        atexit.register(lambda: print(jobs.map(job, range(3))))
        print(jobs.map(job, range(2)))
    """
    assert ran(program) == "[0, 1]\n[0, 1, 2]\n"


def test_where_it_refuses_no_coroutine_is_left_un_awaited() -> None:
    program = """
        from anabranch import jobs
        from anabranch.errors import LoopError
        from anabranch.jobs import run_async_tasks

        async def inner(x):
            return x

        async def job(x):
            try:
                run_async_tasks([inner(1), inner(2)])
            except LoopError:
                return "refused"

        print(jobs.map(job, [1]))
    """
    assert ran(program) == "['refused']\n"


@pytest.mark.parametrize("closed", ["0<&-", "2>&-"])
def test_a_closed_standard_stream_makes_no_trouble_at_the_end(closed: str) -> None:
    program = "async def job(x): return x\nfrom anabranch import jobs\n"
    program += "print(jobs.map(job, range(3)))"
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, program],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "[0, 1, 2]\n")
