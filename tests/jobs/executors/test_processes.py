"""Functions in processes that may die, be killed, and lose their parent."""

from __future__ import annotations

import asyncio
import functools
import gc
import io
import operator
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponseError, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from tenacity import wait_fixed
from yarl import URL

from anabranch import amap, asyncio_run, jobs
from anabranch.errors import ExecutorClosed, LoopError, WorkerLost
from anabranch.jobs.executors import Dispatcher, ProcessExecutor, wire
from anabranch.retry import Retry
from tests.jobs.executors.work import (
    OwnWords,
    Refused,
    answers,
    double,
    double_later,
    here,
    is_dead,
    is_gone,
    killed_by_13,
    refuse_odd,
    refuse_odd_later,
    seen,
    stay,
    stay_later,
    until,
    until_now,
)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a coroutine on one of the loops, in a thread that is not the main one."""
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    else:
        factory = asyncio.new_event_loop

    def run(coroutine: Any) -> Any:
        result: list[Any] = []

        def work() -> None:
            with asyncio.Runner(loop_factory=factory) as runner:
                try:
                    result.append(runner.run(coroutine))
                except BaseException as error:
                    result.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    return run


def children() -> set[int]:
    """The processes that this one has started, zombies among them."""
    task = Path(f"/proc/{os.getpid()}/task")
    if not task.exists():
        pytest.skip("needs /proc")
    found: set[int] = set()
    for thread in task.iterdir():
        with suppress(FileNotFoundError):  # it has just ended
            found.update(map(int, (thread / "children").read_text().split()))
    return found


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Any:
    before = children()
    yield
    assert children() <= before


def looks_synchronous(number: int) -> Any:
    return double_later(number)


@pytest.mark.parametrize("fn", [double, double_later, looks_synchronous])
@pytest.mark.parametrize("chunk", [1, 7])
def test_results_come_back(run: Any, fn: Any, chunk: int) -> None:
    got = run(answers(ProcessExecutor(2, chunk=chunk), fn, range(40)))
    assert got == [2 * n for n in range(40)]


def test_workers_are_started_when_needed_and_used_again(tmp_path: Path) -> None:
    async def main() -> None:
        executor = ProcessExecutor(4)
        pids = set()
        for _ in range(5):
            [(_, pid)] = await executor.run(here, [str(tmp_path)])
            pids.add(pid)
        assert pids == set(seen(tmp_path))
        assert len(pids) == 1
        assert pids.isdisjoint({os.getpid()})
        await executor.aclose()
        assert is_gone(pids.pop())
        assert await executor.run(double, [1]) == [(True, 2)]  # it may be used again
        await executor.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("fn", [refuse_odd, refuse_odd_later])
def test_an_exception_keeps_its_type_attributes_and_traceback(fn: Any) -> None:
    got = asyncio.run(answers(ProcessExecutor(1), fn, [1, 2]))
    assert got[1] == 2
    assert type(got[0]) is Refused
    assert str(got[0]) == "refused with status 401"
    assert got[0].status == 401
    [note] = got[0].__notes__
    assert note.startswith("in worker process ")
    assert "in refuse_odd\n    raise Refused(" in note
    assert "runners.py" not in note
    assert "worker.py" not in note


def test_exceptions_of_many_makes_come_back_as_they_were() -> None:
    def fail(number: int) -> None:
        if number == 0:
            raise OwnWords("writing")
        if number == 1:
            raise UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad")
        if number == 2:
            raise ExceptionGroup("two", [Refused(status=1), KeyError("x")])
        if number == 3:
            raise FileNotFoundError(2, "no such thing", "/x")
        error = ValueError("noted")
        error.add_note("a note of mine")
        raise error

    own, decode, group, missing, noted = asyncio.run(
        answers(ProcessExecutor(1), fail, range(5))
    )
    assert (type(own), own.errno, own.what) == (OwnWords, 5, "writing")
    assert str(own) == "[Errno 5] while writing"
    assert (decode.object, decode.start, decode.reason) == (b"abc", 1, "bad")
    assert isinstance(group, ExceptionGroup)
    assert isinstance(group.exceptions[0], Refused)
    assert group.exceptions[0].status == 1
    assert (missing.errno, missing.filename) == (2, "/x")
    assert noted.__notes__[0] == "a note of mine"


def test_what_cannot_travel_fails_by_itself_and_says_so() -> None:
    lock = threading.Lock()

    def give(kind: Any) -> Any:
        if kind == "result":
            return threading.Lock()
        if kind == "exception":
            error = ValueError("the message")
            error.lock = threading.Lock()  # type: ignore[attr-defined]
            raise error
        return kind

    result, exception, item, good = asyncio.run(
        answers(ProcessExecutor(1, chunk=4), give, ["result", "exception", lock, 7])
    )
    assert good == 7
    assert isinstance(result, TypeError)
    assert "the result of" in str(result)
    assert "Return plain data" in str(result)
    assert isinstance(exception, ValueError)
    assert str(exception) == "the message"
    assert "<unlocked" in exception.lock  # type: ignore[attr-defined]  # set in give
    assert "in give" in exception.__notes__[0]
    assert "cannot be pickled came copies: lock" in exception.__notes__[1]
    assert isinstance(item, TypeError)
    assert "an item, a lock, cannot be sent" in str(item)


class Unspeakable(Exception):
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return _only_in, (0,)

    def __str__(self) -> str:
        raise RuntimeError("no words")


class NoException(Exception):
    def __reduce__(self) -> Any:
        return str, ("x",)


class OnlyThere(Exception):
    """Can be loaded where it was raised and nowhere else."""

    def __reduce__(self) -> Any:
        return _only_in, (os.getpid(),)


def _only_in(pid: int) -> OnlyThere:
    if os.getpid() != pid:
        raise RuntimeError("not here")
    return OnlyThere()


@pytest.mark.parametrize("kind", [Unspeakable, NoException])
def test_an_exception_that_cannot_be_pickled_comes_back_as_one_of_its_class(
    kind: Any,
) -> None:
    def fail(_: object) -> None:
        raise kind

    [error] = asyncio.run(answers(ProcessExecutor(1), fail, [0]))
    assert type(error) is kind
    assert "in fail" in error.__notes__[0]


class Busy(Exception):
    def __init__(self, headers: object) -> None:
        super().__init__("busy")
        self.response = Response(headers)


class Response:
    def __init__(self, headers: object) -> None:
        self.status_code = 503
        self.headers = headers
        self.connection = threading.Lock()


def from_a_broken_connection() -> None:
    raise LookupError("nothing there") from ConnectionResetError()


def busy() -> None:
    raise Busy(CIMultiDictProxy(CIMultiDict({"Retry-After": "0"})))


def busy_of_aiohttp() -> None:
    nothing = CIMultiDictProxy(CIMultiDict[str]())
    request = RequestInfo(URL("http://localhost/"), "GET", nothing)
    headers = CIMultiDict({"Retry-After": "0"})
    raise ClientResponseError(request, (), status=503, headers=headers)


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (from_a_broken_connection, LookupError),
        (busy, Busy),
        (busy_of_aiohttp, ClientResponseError),
    ],
)
def test_a_failure_is_tried_again_as_if_it_were_here(fail: Any, kind: type) -> None:
    retry = Retry(3, wait=wait_fixed(0))
    for executor in ("thread", "process"):
        [outcome] = jobs.map(
            lambda _: fail(), [0], executor=executor, retry=retry, errors="return"
        )
        assert type(outcome.error) is kind
        assert outcome.attempts == 3


def test_an_exception_that_makes_difficulties_is_told_by_name_and_traceback() -> None:
    kinds = [OnlyThere]

    def fail(number: int) -> None:
        raise kinds[number]

    class Item:
        def __getstate__(self) -> object:
            raise Unspeakable

    *got, unsent = asyncio.run(
        answers(ProcessExecutor(1), fail, [*range(len(kinds)), Item()])
    )
    for kind, error in zip(kinds, got, strict=True):
        assert type(error) is RuntimeError
        assert kind.__name__ in str(error)
        assert "in place of the exception" in str(error)
        assert "in fail" in error.__notes__[0]
    assert "an item, a Item, cannot be sent" in str(unsent)


def test_a_job_that_raises_stop_iteration_has_its_traceback_too() -> None:
    def stop(_: object) -> None:
        raise StopIteration(4)

    [error] = asyncio.run(answers(ProcessExecutor(1), stop, [1]))
    assert type(error) is RuntimeError
    assert isinstance(error.__cause__, StopIteration)
    assert "in stop" in error.__notes__[0]


@pytest.mark.parametrize("end", ["return", "raise", "exec"])
def test_a_process_that_a_job_forks_gives_no_answers(end: str) -> None:
    def work(number: int) -> int:
        if number == 3:
            child = os.fork()
            if child == 0:
                if end == "exec":
                    os.execvp("no-such-program", ["no-such-program"])
                if end == "raise":
                    raise ValueError("in the child")
                return -1
            os.waitpid(child, 0)
        return 10 * number

    for chunk in (1, 4):
        got = asyncio.run(answers(ProcessExecutor(1, chunk=chunk), work, range(8)))
        assert got == [10 * number for number in range(8)]


def test_an_executor_serves_one_loop_after_the_other(tmp_path: Path) -> None:
    executor = ProcessExecutor(1)

    async def pid() -> int:
        [found] = await amap(here, [str(tmp_path)], executor=executor)
        return found

    found = {asyncio.run(pid()), asyncio_run(pid()), asyncio.run(pid())}
    [once_more] = jobs.map(here, [str(tmp_path)], executor=executor)
    assert found == {once_more}  # the same worker all the time
    asyncio.run(executor.aclose())
    assert is_gone(once_more)


def test_a_worker_that_died_between_two_loops_costs_nobody_anything(tmp_path: Path) -> None:
    executor = ProcessExecutor(1)
    [pid] = asyncio_run(amap(here, [str(tmp_path)], executor=executor))
    os.kill(pid, signal.SIGKILL)
    until_now(lambda: is_gone(pid))
    assert asyncio.run(amap(double, [1, 2], executor=executor)) == [2, 4]
    asyncio.run(executor.aclose())


def test_an_executor_in_use_is_not_to_be_had_in_another_loop(tmp_path: Path) -> None:
    executor = ProcessExecutor(1)

    async def main() -> None:
        run = asyncio.create_task(amap(stay, [str(tmp_path)], executor=executor))
        await until(lambda: seen(tmp_path))
        for use in (amap(double, [1], executor=executor), executor.aclose()):
            with pytest.raises(LoopError, match="in use on another event loop"):
                await asyncio.to_thread(asyncio_run, use)
        run.cancel()
        await asyncio.wait([run])
        assert await asyncio.to_thread(jobs.map, double, [1], executor=executor) == [2]
        await executor.aclose()

    asyncio.run(main())


def test_a_forked_child_has_workers_of_its_own() -> None:
    program = """
        import asyncio, os, sys
        from anabranch import jobs
        from anabranch.jobs import ProcessExecutor

        def pid(_):
            return os.getpid()

        executor = ProcessExecutor(1)
        [first] = jobs.map(pid, [1], executor=executor)
        child = os.fork()
        if child == 0:
            [other] = jobs.map(pid, [1], executor=executor)
            asyncio.run(executor.aclose())
            os._exit(0 if other != first else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert jobs.map(pid, [1], executor=executor) == [first]
        asyncio.run(executor.aclose())
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


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_a_script_defines_travels_from_children_of_multiprocessing(
    tmp_path: Path, method: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            from anabranch import jobs

            class Number:
                def __init__(self, value):
                    self.value = value

            def double(number):
                return Number(2 * number.value)

            def child():
                results = jobs.map(double, map(Number, range(3)), executor="process")
                print([type(one) is Number and one.value for one in results])

            if __name__ == "__main__":
                process = multiprocessing.get_context(sys.argv[1]).Process(target=child)
                process.start()
                process.join()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script, method], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[0, 2, 4]\n", "")


def test_a_run_whose_executor_is_closed_ends_and_starts_nothing_new() -> None:
    async def main() -> None:
        executor = ProcessExecutor(1)
        run = asyncio.create_task(
            amap(time.sleep, [0.3] * 6, executor=executor, errors="return", concurrency=3)
        )
        await asyncio.sleep(0.5)
        await executor.aclose()
        outcomes = await run
        assert all(isinstance(one.error, ExecutorClosed) for one in outcomes[2:])
        assert len(outcomes) == 6

    asyncio.run(main())  # that no process is left is seen by the fixture


def test_functions_that_are_not_used_any_more_are_let_go() -> None:
    async def main() -> None:
        executor = ProcessExecutor(1)
        alive: weakref.WeakSet[Any] = weakref.WeakSet()
        first = functools.partial(operator.add, -1)
        for number in range(30):
            fn = functools.partial(operator.add, number)
            alive.add(fn)
            assert await amap(fn, [1], executor=executor) == [1 + number]
            assert await amap(first, [1], executor=executor) == [0]
        del fn
        gc.collect()
        assert len(alive) < 10
        await executor.aclose()

    asyncio.run(main())


def test_a_function_that_cannot_travel_says_so() -> None:
    lock = threading.Lock()
    [got] = asyncio.run(answers(ProcessExecutor(1), lambda _: lock.locked(), [1]))
    assert isinstance(got, TypeError)
    assert "inside the function" in str(got)


@pytest.mark.parametrize("chunk", [1, 5])
def test_only_the_item_that_kills_its_worker_fails(run: Any, chunk: int) -> None:
    got = run(answers(ProcessExecutor(2, chunk=chunk), killed_by_13, range(25)))
    lost = got.pop(13)
    assert isinstance(lost, WorkerLost)
    assert "was killed by SIGKILL (often: out of memory)" in str(lost)
    assert "while it ran killed_by_13 on 13" in str(lost)
    assert got == [n for n in range(25) if n != 13]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda _: os._exit(7), "exited with status 7"),
        (lambda _: sys.exit(3), "exited with status 3"),
        (lambda _: os.kill(os.getpid(), signal.SIGSEGV), "was killed by SIGSEGV"),
    ],
    ids=["exits", "sys.exit", "crashes"],
)
def test_how_a_worker_died_is_said(end: Any, said: str) -> None:
    [lost] = asyncio.run(answers(ProcessExecutor(1), end, [1]))
    assert isinstance(lost, WorkerLost)
    assert said in str(lost)


def test_a_worker_killed_from_outside_is_replaced(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        executor = ProcessExecutor(1)
        task = asyncio.create_task(executor.run(stay, [str(tmp_path)]))
        [pid] = await until(lambda: seen(tmp_path))
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(WorkerLost, match=f"{pid} was killed by SIGTERM"):
            await task
        assert await executor.run(double, [2]) == [(True, 4)]
        await executor.aclose()

    run(main())


def test_a_worker_that_died_idle_costs_nobody_anything(tmp_path: Path) -> None:
    async def main() -> None:
        executor = ProcessExecutor(1)
        pid: Any
        [(_, pid)] = await executor.run(here, [str(tmp_path)])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: is_gone(pid))
        await asyncio.sleep(0)
        assert await executor.run(double, [2]) == [(True, 4)]
        await executor.aclose()

    asyncio.run(main())


def test_a_process_that_the_dead_worker_forked_keeps_nobody_waiting(
    tmp_path: Path,
) -> None:
    def fork_and_die(folder: str) -> None:
        if os.fork() == 0:
            stay(folder)  # holds a copy of the worker's socket
        until_now(lambda: seen(Path(folder)))
        os._exit(1)

    got = asyncio.run(answers(ProcessExecutor(1), fork_and_die, [str(tmp_path)]))
    assert isinstance(got[0], WorkerLost)
    [pid] = seen(tmp_path)
    until_now(lambda: is_dead(pid))


@pytest.mark.parametrize("fn", [stay, stay_later])
def test_cancelling_a_job_kills_its_worker(run: Any, tmp_path: Path, fn: Any) -> None:
    async def main() -> None:
        executor = ProcessExecutor(1)
        dispatch: Dispatcher[Any, Any] = Dispatcher(executor, fn)
        task = asyncio.create_task(dispatch(str(tmp_path)))
        [pid] = await until(lambda: seen(tmp_path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await dispatch.aclose()
        assert is_gone(pid)
        assert await executor.run(double, [2]) == [(True, 4)]
        await executor.aclose()

    run(main())


def test_cancelling_a_job_kills_what_it_has_started(tmp_path: Path) -> None:
    def wait_for_another(folder: str) -> None:
        command = "import os, sys, time; open(f'{sys.argv[1]}/pid-{os.getpid()}', 'w')"
        subprocess.run([sys.executable, "-c", f"{command}; time.sleep(300)", folder])

    async def main() -> None:
        executor = ProcessExecutor(1)
        task = asyncio.create_task(executor.run(wait_for_another, [str(tmp_path)]))
        [pid] = await until(lambda: seen(tmp_path))
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: is_dead(pid))
        await executor.aclose()

    asyncio.run(main())


def test_cancelling_while_the_worker_starts_leaves_nothing(run: Any) -> None:
    async def main() -> None:
        executor = ProcessExecutor(1)
        task = asyncio.create_task(executor.run(double, [1]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await executor.aclose()

    run(main())  # that no process is left is seen by the fixture


def test_closing_kills_a_running_job(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        executor = ProcessExecutor(2)
        task = asyncio.create_task(executor.run(stay, [str(tmp_path)]))
        [pid] = await until(lambda: seen(tmp_path))
        await executor.aclose()
        assert is_gone(pid)
        with pytest.raises(ExecutorClosed, match="close it after the run"):
            await task

    run(main())


def test_a_worker_that_does_not_end_by_itself_is_killed(tmp_path: Path) -> None:
    def leave_a_thread(folder: str) -> int:
        threading.Thread(target=stay, args=(folder,)).start()
        return 1

    async def main() -> None:
        executor = ProcessExecutor(1)
        assert await executor.run(leave_a_thread, [str(tmp_path)]) == [(True, 1)]
        await executor.aclose()
        assert all(map(is_gone, seen(tmp_path)))

    asyncio.run(main())


def test_big_values_travel(run: Any) -> None:
    big = bytes(100_000_000)
    [got] = run(answers(ProcessExecutor(1), lambda data: data + b"end", [big]))
    assert len(got) == len(big) + 3
    assert got.endswith(b"\0end")


def test_the_folder_and_the_search_path_are_the_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "as it was")

    def look(_: object) -> Any:
        import only_here  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

        return only_here.answer, Path.cwd(), os.environ["PYTHONPATH"]

    got = asyncio.run(answers(ProcessExecutor(1), look, [1]))
    assert got == [(42, tmp_path, "as it was")]


def test_a_file_in_the_folder_does_not_replace_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "struct.py").write_text("raise SystemExit('the wrong one')\n")
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(answers(ProcessExecutor(1), double, [1])) == [2]


def test_async_functions_share_one_loop_a_worker() -> None:
    async def loop(_: object) -> int:
        return id(asyncio.get_running_loop())

    first, second = asyncio.run(answers(ProcessExecutor(1), loop, [1, 2]))
    assert first == second


SCRIPT = """
import asyncio, sys
from anabranch.errors import WorkerLost
from anabranch.jobs.executors import Dispatcher, ProcessExecutor

class Mine(Exception):
    def __init__(self, *, code):
        super().__init__("mine")
        self.code = code

class Item:
    def __init__(self, number):
        self.number = number

def work(item):
    if item.number == 2:
        raise Mine(code=7)
    print("printed by", item.number)
    return Item(item.number + 1)

async def main():
    executor = ProcessExecutor(1)
    dispatch = Dispatcher(executor, work)
    one = await dispatch(Item(1))
    assert type(one) is Item and one.number == 2
    try:
        await dispatch(one)
    except Mine as error:
        print("code", error.code)
    await dispatch.aclose()
    await executor.aclose()

asyncio.run(main())
"""


def test_a_script_needs_no_guard_and_its_own_classes_travel(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == "printed by 1\ncode 7\n"


PARENT = """
import asyncio, os, re, subprocess, sys, time
from anabranch.jobs.executors import ProcessExecutor

def work(folder):
    open(f"{folder}/pid-{os.getpid()}", "w")
    if folder.endswith("busy"):
        time.sleep(300)
    if folder.endswith("in-c"):
        re.match(r"(a+)+$", "a" * 60 + "b")  # for longer than the universe lasts

async def main():
    executor = ProcessExecutor(2)
    await executor.run(work, [sys.argv[1]])
    if sys.argv[1].endswith("copied") and os.fork() == 0:
        for _ in range(300):  # has the parent's sockets open
            if os.path.exists(f"{sys.argv[1]}/seen"):
                break
            time.sleep(0.1)
        os._exit(0)
    open(f"{sys.argv[1]}/idle", "w")
    await asyncio.sleep(300)

asyncio.run(main())
"""


IN_C = pytest.param(
    "in-c", marks=pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
)


@pytest.mark.parametrize("state", ["busy", "idle", "copied", IN_C])
def test_a_killed_parent_leaves_no_orphan(tmp_path: Path, state: str) -> None:
    folder = tmp_path / state
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, folder])
    [pid] = until_now(lambda: seen(folder))
    if state in ("idle", "copied"):
        until_now((folder / "idle").exists)
    parent.kill()
    parent.wait()
    until_now(lambda: is_dead(pid))
    (folder / "seen").touch()


def test_ctrl_c_is_the_parents_to_handle(tmp_path: Path) -> None:
    async def main() -> None:
        executor = ProcessExecutor(1)
        pid: Any
        [(_, pid)] = await executor.run(here, [str(tmp_path)])
        os.kill(pid, signal.SIGINT)
        assert await executor.run(here, [str(tmp_path)]) == [(True, pid)]
        await executor.aclose()

    asyncio.run(main())


def test_without_cloudpickle_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from anabranch.jobs.executors import wire

    wire._cloudpickle.cache_clear()
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ImportError, match=r"pip install 'anabranch\[process\]'"):
        ProcessExecutor(1)


def test_starting_costs_the_program_that_does_not_use_it_nothing() -> None:
    code = textwrap.dedent("""
        import sys
        import anabranch.jobs.executors
        print({"cloudpickle", "ray", "multiprocessing"} & set(sys.modules))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n"


SIGCHLD_IGNORED = """
import os, signal
from anabranch import jobs
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(jobs.map(abs, [-1, -2], executor="process"))
def die(item):
    os._exit(3)
print(jobs.map(die, [1], executor="process", errors="return")[0].error)
"""


def test_a_program_that_ignores_its_children_can_have_workers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGCHLD_IGNORED], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.startswith("[1, 2]\nworker process ")


def with_odd_notes(item: tuple[Any, Any]) -> Any:
    error = ValueError("bad item")
    error.__notes__, make = item
    error.thing = make()  # type: ignore[attr-defined]
    raise error


@pytest.mark.parametrize("notes", [5, None, [6]])
@pytest.mark.parametrize("make", [dict, threading.Lock])
def test_an_exception_whose_notes_are_none_comes_back_as_what_it_is(
    notes: Any, make: Any
) -> None:
    item = (notes, make)
    [outcome] = jobs.map(with_odd_notes, [item], executor="process", errors="return")
    assert isinstance(outcome.error, ValueError)
    assert str(outcome.error) == "bad item"


def opened(path: str | None) -> Any:
    return io.TextIOWrapper(io.BytesIO()) if path is None else Path(path).open()


def test_an_open_file_is_refused_and_not_copied() -> None:
    with Path(__file__).open() as file:
        got = asyncio.run(answers(ProcessExecutor(1), opened, [__file__, None, file]))
    for error, name in zip(got, (f"'{__file__}'", "None", f"'{__file__}'"), strict=True):
        assert isinstance(error, TypeError)
        assert f"cannot pickle an open file, {name}" in str(error)


class Leaver:
    def __reduce__(self) -> Any:
        raise SystemExit(5)


def test_an_item_that_wants_to_exit_when_it_is_pickled_fails_alone() -> None:
    bad, good = jobs.map(str, [Leaver(), 2], executor="process", errors="return")
    assert isinstance(bad.error, TypeError)
    assert "SystemExit" in str(bad.error)
    assert good.value == "2"


@pytest.fixture
def bare() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A worker, and our end of its messages, with nobody in between."""
    (ours, theirs), (life, their_life) = socket.socketpair(), socket.socketpair()
    with ours, theirs, life, their_life:
        fds = [theirs.fileno(), their_life.fileno()]
        command = [sys.executable, "-m", "anabranch.jobs.executors.worker", *map(str, fds)]
        with subprocess.Popen(
            command, pass_fds=fds, stderr=subprocess.PIPE, process_group=0
        ) as worker:
            setup = wire.Setup(parent=os.getpid(), path=sys.path, python_path=None)
            tell(ours, wire.dumps(setup))
            ours.settimeout(60)
            yield worker, ours
            worker.kill()


def tell(ours: socket.socket, *parts: bytes) -> None:
    ours.sendall(wire.head(parts) + b"".join(parts))


def test_a_worker_whose_parent_takes_no_more_answers_ends_without_a_word(
    bare: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    worker, ours = bare
    ours.shutdown(socket.SHUT_RD)
    tell(ours, b"0", wire.dumps(abs), wire.dumps(-1))
    _, said = worker.communicate(timeout=60)
    assert (worker.returncode, said) == (0, b"")


def meet(paths: tuple[str, str]) -> None:
    """Say that it is here, and wait for the other."""
    Path(paths[0]).touch()
    until_now(Path(paths[1]).exists)


def test_what_arrives_during_a_job_does_not_end_it(
    bare: tuple[subprocess.Popen[bytes], socket.socket], tmp_path: Path
) -> None:
    # As when the kernel tells of a message after the worker has read it.
    worker, ours = bare
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    tell(ours, b"0", wire.dumps(meet), wire.dumps((here, there)))
    until_now(Path(here).exists)
    tell(ours, b"0", b"", wire.dumps((here, there)))
    Path(there).touch()
    answer = wire.head([b"\1", wire.dumps(None)]) + b"\1" + wire.dumps(None)
    with ours.makefile("rb") as answers:
        assert answers.read(2 * len(answer)) == 2 * answer
    assert worker.poll() is None
