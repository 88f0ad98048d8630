"""Steps whose bodies run in threads, processes and on Ray."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from anabranch.errors import WorkerLost
from anabranch.jobs import ProcessExecutor
from anabranch.jobs.executors import Reply
from anabranch.testing import run_virtual
from anabranch.workflow import (
    Context,
    Event,
    MemoryStore,
    Runs,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    WorkflowValidationError,
    catch_error,
    step,
)
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_none
from anabranch.workflow.stores.places import store_at
from tests.workflow.away import (
    PATIENCE_S,
    Crossing,
    Done,
    Dying,
    Endless,
    Failing,
    InThread,
    Places,
    Refused,
    Slow,
    Unsendable,
    Work,
    said,
)


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
def _nothing_is_left() -> Any:
    processes, threads = children(), set(threading.enumerate())
    yield
    left = {thread.name for thread in set(threading.enumerate()) - threads}
    assert children() <= processes
    assert not {name for name in left if not name.startswith("anabranch-step")}


async def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
    return value


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_dead(pid: int) -> bool:
    """Gone, or for init to reap: an orphan may wait for that, on some machines for ever."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return is_gone(pid)


# ---------------------------------------------------------------- where bodies run


def test_a_body_runs_in_another_process_on_a_copy_of_the_workflow() -> None:
    flow = Places()

    async def main() -> Any:
        return await flow.run()

    seen = asyncio.run(main())
    assert os.getpid() not in seen.pop("pids")
    # The body changed its copy; and context variables stay where they are.
    assert seen == {"event": 17, "self": 3, "place": "nowhere"}
    assert flow.factor == 3


def test_a_body_runs_in_a_thread_of_the_executor() -> None:
    async def main() -> Any:
        return await InThread().run()

    pid, thread = asyncio.run(main())
    assert pid == os.getpid()
    assert thread.startswith("anabranch_")


def test_all_runs_of_a_loop_share_the_workers_of_a_name() -> None:
    async def main() -> set[int]:
        pids: set[int] = set()
        for flow in (Places(), Places()):
            for _ in range(3):
                pids.update((await flow.run())["pids"])
        return pids

    assert len(asyncio.run(main())) == 1


def test_one_workflow_object_serves_one_loop_after_the_other() -> None:
    flow = Places()

    async def main() -> Any:
        return await flow.run()

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first["event"] == second["event"]
    assert first["pids"] != second["pids"]


def test_an_executor_of_ones_own_is_ones_own_to_close() -> None:
    own = ProcessExecutor(1)

    class Flow(Workflow):
        @step(executor=own)
        def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=os.getpid())

    async def main() -> int:
        pid = await Flow().run()
        return int(pid)

    async def close() -> None:
        await own.aclose()

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first == second
    asyncio.run(close())
    assert asyncio.run(main()) != first
    asyncio.run(close())


def test_an_executor_that_was_closed_in_use_may_be_used_again(tmp_path: Path) -> None:
    own = ProcessExecutor(1)

    class Flow(Workflow):
        @step(executor=own)
        def only(self, ev: StartEvent) -> StopEvent:
            if ev.folder:
                (Path(ev.folder) / "begun").touch()
                time.sleep(60)
            return StopEvent(result="done")

    async def main() -> None:
        handler = Flow().run(folder=str(tmp_path))
        await until((tmp_path / "begun").exists)
        await own.aclose()
        with pytest.raises(ValueError, match="the executor was closed while a run used it"):
            await handler
        assert await Flow().run(folder="") == "done"
        await own.aclose()

    asyncio.run(main())


def test_workers_that_no_step_has_used_for_a_while_are_let_go() -> None:
    async def main() -> None:
        await InThread(timeout=None).run()
        pool = {t for t in threading.enumerate() if t.name.startswith("anabranch_")}
        assert pool
        await asyncio.sleep(59)
        assert pool & set(threading.enumerate())
        await asyncio.sleep(2)
        assert not pool & set(threading.enumerate())
        await InThread(timeout=None).run()

    run_virtual(main())


def test_classes_that_no_module_has_travel_by_value() -> None:
    class Half(Event):
        n: int

    class Flow(Workflow):
        def __init__(self, factor: int) -> None:
            super().__init__()
            self.factor = factor

        @step
        async def begin(self, ev: StartEvent) -> list[Work]:
            return [Work(n=n) for n in range(5)]

        @step(executor="process")
        def halve(self, ev: Work) -> Half:
            return Half(n=ev.n * self.factor)

        @step
        async def end(self, evs: list[Half]) -> StopEvent:
            return StopEvent(result=[ev.n for ev in evs])

    class Other(Workflow):
        pass

    @step(workflow=Other, executor="process")
    def free(ev: StartEvent) -> StopEvent:
        return StopEvent(result=os.getpid())

    async def main() -> None:
        assert sorted(await Flow(2).run()) == [0, 2, 4, 6, 8]
        assert await Other().run() != os.getpid()

    asyncio.run(main())


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, os
            from anabranch.workflow import Event, StartEvent, StopEvent, Workflow, step

            class Work(Event):
                n: int

            class Flow(Workflow):
                @step
                async def begin(self, ev: StartEvent) -> Work:
                    return Work(n=20)

                @step(executor="process")
                def compute(self, ev: Work) -> StopEvent:
                    return StopEvent(result=(ev.n + 1, os.getpid() != PID))

            PID = os.getpid()

            async def main():
                return await Flow().run()

            print(asyncio.run(main()))
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("(21, True)\n", "")


def test_a_workflow_says_itself_what_a_copy_of_it_holds() -> None:
    class Flow(Workflow):
        def __init__(self) -> None:
            super().__init__()
            self.lock: Any = threading.Lock()

        def __getstate__(self) -> dict[str, Any]:
            return {**vars(self), "lock": None}

        def __setstate__(self, state: dict[str, Any]) -> None:
            vars(self).update(state, lock="made anew")

        @step(executor="process")
        def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=self.lock)

    async def main() -> Any:
        return await Flow().run()

    assert asyncio.run(main()) == "made anew"


# ---------------------------------------------------------------- what is refused


def test_a_step_on_an_executor_takes_events_only() -> None:
    with pytest.raises(
        WorkflowValidationError,
        match=r"step 'only' runs on an executor and asks for 'ctx', which stays with the "
        r"run: let it take events only",
    ):

        class Flow(Workflow):
            @step(executor="process")
            def only(self, ctx: Context, ev: StartEvent) -> StopEvent: ...


def test_a_thread_cannot_run_a_coroutine_function() -> None:
    with pytest.raises(WorkflowValidationError, match="leave out `executor`"):

        class Flow(Workflow):
            @step(executor="thread")
            async def only(self, ev: StartEvent) -> StopEvent: ...


@pytest.mark.parametrize("executor", ["threads", 4, ProcessExecutor])
def test_an_executor_that_does_not_exist_is_refused(executor: Any) -> None:
    with pytest.raises(WorkflowValidationError, match="executor must be 'thread', 'proc"):

        @step(executor=executor)
        def only(self: Any, ev: StartEvent) -> StopEvent: ...


class Holding(Workflow):
    def __init__(self, **held: Any) -> None:
        super().__init__()
        vars(self).update(held)

    @step(executor="process")
    def only(self, ev: StartEvent) -> StopEvent: ...


@pytest.mark.parametrize(
    ("flow", "fields", "words"),
    [
        (Unsendable(), {}, "what step 'lock' returned, a StopEvent, cannot be sent back"),
        (Holding(), {"held": threading.Lock()}, "a StartEvent cannot travel.*plain data"),
        (
            Holding(client=threading.Lock()),
            {},
            r"self\.client, a lock, cannot travel \(TypeError.*make it in the step's body",
        ),
    ],
)
def test_what_cannot_travel_is_named(flow: Workflow, fields: Any, words: str) -> None:
    async def main() -> None:
        with pytest.raises(WorkflowRuntimeError, match=words):
            await flow.run(**fields)

    asyncio.run(main())


# ---------------------------------------------------------------- failures and time


def test_the_retry_policy_sees_the_bodys_own_exception(tmp_path: Path) -> None:
    async def main() -> None:
        assert await Failing().run(folder=str(tmp_path), times=2) == 2
        (tmp_path / "tries").unlink()
        with pytest.raises(Refused) as caught:
            await Failing().run(folder=str(tmp_path), times=9)
        assert caught.value.status == 502
        assert "in fail\n" in "".join(caught.value.__notes__)

    asyncio.run(main())


def test_a_step_whose_worker_is_killed_runs_on_another_and_counts_once(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    flow = Dying(durable=store)

    async def main() -> list[Any]:
        assert await flow.run(run_id="r", folder=str(tmp_path), deaths=1) == 2
        return await Runs(store, flow).history("r")

    history = asyncio.run(main())
    assert [entry.kind for entry in history].count("Returned") == 1
    assert "Failed" not in [entry.kind for entry in history]
    assert len(said(tmp_path)) == 2


def test_a_step_that_kills_every_worker_fails_with_that(tmp_path: Path) -> None:
    tries: list[int] = []

    class Flow(Dying):
        @step(
            executor="process",
            retry_policy=retry_policy(
                retry=lambda error: isinstance(error, WorkerLost),
                wait=wait_none(),
                stop=stop_after_attempt(2),
            ),
        )
        def crunch(self, ev: StartEvent) -> StopEvent:
            return super().crunch(ev)

        @catch_error
        async def caught(self, ev: StepFailedEvent) -> StopEvent:
            tries.append(ev.attempts)
            return StopEvent(result=ev.exception)

    async def main() -> Any:
        return await Flow().run(folder=str(tmp_path), deaths=99)

    error = asyncio.run(main())
    assert isinstance(error, WorkerLost)
    assert "was killed by SIGKILL" in str(error)
    assert "step 'crunch'" in str(error)
    assert tries == [2]
    assert len(said(tmp_path)) == 4  # two attempts, each sent twice


def test_a_body_that_is_out_of_time_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"step 'stay' took longer than 0\.5 s"):
            await Slow().run(folder=str(tmp_path))
        [pid] = said(tmp_path)
        await until(lambda: is_gone(pid))

    asyncio.run(main())


def test_a_thread_that_is_out_of_time_is_not_waited_for() -> None:
    go = threading.Event()

    class Flow(Workflow):
        @step(executor="thread", timeout=0.1)
        def stay(self, ev: StartEvent) -> StopEvent:
            go.wait(PATIENCE_S)
            return StopEvent()

    async def main() -> None:
        with pytest.raises(TimeoutError, match="step 'stay' took longer"):
            await Flow().run()
        assert not go.is_set()
        go.set()

    asyncio.run(main())


def test_cancelling_a_run_ends_its_bodies(tmp_path: Path) -> None:
    async def main() -> None:
        handler = Endless().run(folder=str(tmp_path))
        [pid] = await until(lambda: said(tmp_path))
        await handler.cancel_run()
        await until(lambda: is_gone(pid))

    asyncio.run(main())


def test_the_end_of_the_loop_ends_its_bodies(tmp_path: Path) -> None:
    async def main() -> None:
        Endless().run(folder=str(tmp_path))
        await until(lambda: said(tmp_path))

    asyncio.run(main())
    [pid] = said(tmp_path)
    assert is_gone(pid)


CROSS = """
import asyncio, sys
from tests.workflow.away import Crossing

async def main():
    await Crossing(durable=sys.argv[1], timeout=None).run(run_id="r", folder=sys.argv[2])

asyncio.run(main())
"""


def test_a_durable_run_that_is_killed_runs_its_step_on_a_process_again(
    tmp_path: Path,
) -> None:
    store, root = str(tmp_path / "runs.db"), Path(__file__).parents[2]
    driver = subprocess.Popen([sys.executable, "-c", CROSS, store, str(tmp_path)], cwd=root)
    flow = Crossing(durable=store, timeout=None)

    async def main() -> Any:
        await until((tmp_path / "begun").exists)
        driver.kill()
        driver.wait()
        [orphan] = said(tmp_path)
        await until(lambda: is_dead(orphan))  # it does not outlive who has its run
        (tmp_path / "go").touch()
        result = await flow.run(run_id="r", folder="elsewhere")
        runs = Runs(store, flow)
        assert await runs.result("r") == result
        history = await runs.history("r")
        await store_at(store).close()
        return result, [(entry.kind, entry.step) for entry in history]

    result, history = asyncio.run(main())
    assert result in said(tmp_path)
    assert len(said(tmp_path)) == 2
    for name in ("begin", "crunch", "end"):
        assert history.count(("Returned", name)) == 1


class Counting:
    """An executor on the loop, in whose time a body takes ten seconds."""

    chunk = 1
    resend = 0

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.at_work = 0
        self.most = 0
        self.closed = 0

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await asyncio.sleep(10)
            return [(True, fn(item)) for item in items]
        finally:
            self.at_work -= 1

    async def aclose(self) -> None:
        self.closed += 1


def fan_of(executor: Counting, **options: Any) -> Workflow:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Work]:
            return [Work(n=n) for n in range(8)]

        @step(executor=executor, **options)
        def work(self, ev: Work) -> Done:
            return Done(n=ev.n)

        @step
        async def end(self, evs: list[Done]) -> StopEvent:
            return StopEvent(result=sorted(ev.n for ev in evs))

    return Flow(timeout=None)


def test_num_workers_bounds_what_a_run_has_on_an_executor() -> None:
    executor = Counting(slots=100)

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        assert await fan_of(executor, num_workers=2).run() == list(range(8))
        return asyncio.get_running_loop().time() - began

    assert run_virtual(main()) == 40
    assert executor.most == 2
    assert executor.closed == 0


@pytest.mark.parametrize("is_eager", [False, True])
def test_a_steps_time_begins_when_a_worker_is_given_it(is_eager: bool) -> None:
    executor = Counting(slots=1)

    async def main() -> None:
        if is_eager:
            if sys.version_info < (3, 12):
                pytest.skip("Python 3.12 brought it")
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
        flow = fan_of(executor, num_workers=8, timeout=11)
        assert await flow.run() == list(range(8))
        late = fan_of(executor, num_workers=8, timeout=9)
        with pytest.raises(TimeoutError):
            await late.run()

    run_virtual(main())


# ---------------------------------------------------------------- Ray


def test_a_step_runs_on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    from tests.workflow.away import OnRay

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False
    )

    async def main() -> Any:
        return await OnRay(timeout=None).run()

    try:
        got = asyncio.run(main())
    finally:
        ray.shutdown()
    assert sorted(n for n, _ in got) == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {pid for _, pid in got}
