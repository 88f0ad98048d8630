"""Limits that steps share: the rules, the gates of each store, and runs that wait."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import (
    JournalError,
    WorkflowRuntimeError,
    WorkflowValidationError,
)
from anabranch.jobs import RateLimit
from anabranch.testing import VirtualClock, run_virtual
from anabranch.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    MemoryStore,
    Runs,
    StartEvent,
    StopEvent,
    Worker,
    Workflow,
    step,
    turnstile,
)
from anabranch.workflow.queues import (
    MOST_WAIT_S,
    POLL_S,
    TICKET_S,
    Line,
    Queue,
    after,
    wait_s,
)
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_none
from anabranch.workflow.stores.gates import Gates, MemoryGates
from anabranch.workflow.stores.sqlite import SQLiteStore
from tests.workflow.queue_program import MOST, PER_S, REQUESTS, Flow

pytestmark = pytest.mark.usefixtures("_nothing_is_left")


@pytest.fixture
def _nothing_is_left() -> Any:
    yield
    assert not [line for line in turnstile._lines if not line[0].is_closed()]


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": ""}, "a queue's name is a text of 1 to 200"),
        ({"name": "a\0b", "concurrency": 1}, "printable"),
        ({"name": 3, "concurrency": 1}, "a queue's name"),
        ({"name": "q"}, "limits nothing: give it concurrency=, rate= or both"),
        ({"name": "q", "concurrency": 0}, "concurrency must be an integer greater"),
        ({"name": "q", "concurrency": True}, "concurrency must be an integer greater"),
        ({"name": "q", "rate": 3}, "rate must count executions"),
        ({"name": "q", "rate": RateLimit(tokens=9)}, "rate must count executions"),
        ({"name": "q", "rate": RateLimit(requests=1, tokens=9)}, "tokens is not known"),
        ({"name": "q", "concurrency": 1, "lease": 0}, "lease must be a number"),
    ],
)
def test_a_queue_that_cannot_be_meant_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(WorkflowValidationError, match=words):
        Queue(**arguments)


def test_a_step_names_a_queue_and_not_its_name() -> None:
    with pytest.raises(WorkflowValidationError, match=r"queue must be a queue such as Que"):

        @step(queue="llm")  # type: ignore[call-overload, untyped-decorator]
        def only(self: Any, ev: StartEvent) -> StopEvent: ...


@pytest.mark.parametrize(
    ("inside", "ahead", "wait"),
    [(0, 0, 0.0), (1, 0, 0.0), (2, 0, POLL_S), (0, 1, 0.0), (1, 1, POLL_S), (2, 99, 1.0)],
)
def test_one_may_begin_if_there_is_room_for_all_who_came_before(
    inside: int, ahead: int, wait: float
) -> None:
    line = Line(now=100.0, inside=inside, ahead=ahead, full_at=0.0)
    assert wait_s(Queue("q", concurrency=2), line) == wait


def test_a_rate_lets_a_full_allowance_begin_at_once_and_then_evenly() -> None:
    queue = Queue("q", rate=RateLimit(requests=3, per=3.0))
    full_at, began = 0.0, list[float]()
    now = 1000.0
    while len(began) < 6:
        line = Line(now, 0, 0, full_at)
        if wait := wait_s(queue, line):
            now += wait
        else:
            began.append(now)
            full_at = after(queue, line)
    assert began == [1000.0, 1000.0, 1000.0, 1001.0, 1002.0, 1003.0]


def test_a_clock_that_was_set_back_costs_one_period_at_most() -> None:
    queue = Queue("q", rate=RateLimit(requests=10, per=4.0))
    line = Line(now=1000.0, inside=0, ahead=0, full_at=9_999_999.0)
    assert 0 < wait_s(queue, line) <= 4.0
    rare = Queue("q", rate=RateLimit(requests=0.5, per=2.0))  # one in four seconds
    line = Line(now=1000.0, inside=0, ahead=0, full_at=9_999_999.0)
    assert wait_s(rare, line) == 4.0


@given(
    requests=st.integers(1, 20),
    per=st.floats(0.1, 100.0),
    pauses=st.lists(st.floats(0.0, 30.0), max_size=200),
)
def test_no_more_begin_than_the_rate_allows(
    requests: int, per: float, pauses: list[float]
) -> None:
    queue = Queue("q", rate=RateLimit(requests=requests, per=per))
    now, full_at, began = 1e6, 0.0, list[float]()
    for pause in pauses:
        now += pause
        line = Line(now, 0, 0, full_at)
        if not wait_s(queue, line):
            began.append(now)
            full_at = after(queue, line)
    for first, start in enumerate(began):
        for count, end in enumerate(began[first:], 1):
            assert count <= requests + (end - start) * requests / per + 1e-3


@given(
    queue=st.builds(
        Queue,
        st.just("q"),
        st.one_of(st.none(), st.integers(1, 5)),
        st.builds(RateLimit, requests=st.floats(0.01, 100), per=st.floats(0.01, 1e5)),
    ),
    line=st.builds(
        Line, st.just(1e9), st.integers(0, 9), st.integers(0, 9), st.floats(0.0, 2e9)
    ),
)
def test_who_may_not_begin_is_told_when_to_ask_again_before_the_ticket_ends(
    queue: Queue, line: Line
) -> None:
    assert 0.0 <= wait_s(queue, line) <= MOST_WAIT_S < TICKET_S / 2


# ---------------------------------------------------------------- gates of stores


class SetClock:
    """Tells the time that a test has set."""

    def __init__(self) -> None:
        self.time = 1e9

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@dataclass
class Home:
    """Gates, and how time passes for them."""

    gates: Gates
    pass_time: Callable[[float], None]


@contextmanager
def memory_home(folder: Path) -> Any:
    clock = SetClock()

    def pass_time(seconds: float) -> None:
        clock.time += seconds

    async def close() -> None: ...

    yield Home(MemoryGates(clock.now), pass_time), close


@contextmanager
def sqlite_home(folder: Path) -> Any:
    clock = SetClock()
    store = SQLiteStore(folder / "runs.db", clock=clock)

    def pass_time(seconds: float) -> None:
        clock.time += seconds

    yield Home(store.gates, pass_time), store.close


@contextmanager
def postgres_home(folder: Path) -> Any:
    pytest.importorskip("psycopg")
    from anabranch.workflow.stores.postgres import PostgresStore
    from tests.postgres import database, shared_server

    with database() as url:
        store = PostgresStore(url)

        def pass_time(seconds: float) -> None:
            shared_server().execute(
                f"UPDATE anabranch.place SET until = until - {seconds}; "
                f"UPDATE anabranch.gate SET full_at = full_at - {seconds}",
                dbname=url.rpartition("/")[2],
            )

        yield Home(store.gates, pass_time), store.close


HOMES = {"memory": memory_home, "sqlite": sqlite_home, "postgres": postgres_home}


@pytest.fixture(params=HOMES)
def at_home(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Runs a coroutine function that is given gates and a way to let time pass."""

    def run(main: Callable[[Home], Awaitable[None]]) -> None:
        with HOMES[request.param](tmp_path) as (home, close):

            async def all_of_it() -> None:
                try:
                    await main(home)
                finally:
                    await close()

            asyncio.run(all_of_it())

    return run


TWO = Queue("two", concurrency=2, lease=10.0)


def test_so_many_are_inside_and_the_next_when_one_leaves(at_home: Any) -> None:
    async def main(home: Home) -> None:
        gates = home.gates
        assert [await gates.enter(TWO, name) for name in "abc"] == [0.0, 0.0, POLL_S]
        assert await gates.enter(TWO, "a") == 0.0  # it is inside
        await gates.leave(TWO, "a")
        await gates.leave(TWO, "a")
        await gates.leave(TWO, "nobody")
        assert await gates.enter(TWO, "c") == 0.0
        assert await gates.enter(TWO, "a") == POLL_S
        other = Queue("other", concurrency=2)
        assert await gates.enter(other, "a") == 0.0

    at_home(main)


def test_tickets_are_in_the_order_of_arrival(at_home: Any) -> None:
    async def main(home: Home) -> None:
        gates = home.gates
        for name in "abcde":
            await gates.enter(TWO, name)
        await gates.leave(TWO, "a")
        assert await gates.enter(TWO, "e") > 0
        assert await gates.enter(TWO, "d") > 0
        await gates.leave(TWO, "c")  # it waits no longer
        assert await gates.enter(TWO, "e") > 0
        assert await gates.enter(TWO, "d") == 0.0
        assert await gates.enter(TWO, "e") > 0
        await gates.leave(TWO, "b")
        assert await gates.enter(TWO, "e") == 0.0

    at_home(main)


def test_the_place_of_who_is_not_seen_any_more_is_free_after_its_lease(
    at_home: Any,
) -> None:
    async def main(home: Home) -> None:
        gates = home.gates
        for name in "abc":
            await gates.enter(TWO, name)
        home.pass_time(9.0)
        await gates.stay(TWO, ["b"])
        assert await gates.enter(TWO, "c") > 0
        home.pass_time(2.0)
        assert await gates.enter(TWO, "c") == 0.0  # in the place of a
        assert await gates.enter(TWO, "d") > 0
        home.pass_time(9.0)
        assert await gates.enter(TWO, "d") == 0.0  # in the place of b
        home.pass_time(100.0)
        await gates.stay(TWO, ["x", "y"])  # they had been away, and are at work again
        assert await gates.enter(TWO, "e") > 0

    at_home(main)


def test_a_ticket_of_who_does_not_ask_again_holds_nobody_up(at_home: Any) -> None:
    async def main(home: Home) -> None:
        gates = home.gates
        one = Queue("one", concurrency=1, lease=1000.0)
        for name in "abc":
            await gates.enter(one, name)
        await gates.leave(one, "a")
        assert await gates.enter(one, "c") > 0  # b was before
        home.pass_time(TICKET_S * 0.6)
        assert await gates.enter(one, "c") > 0
        home.pass_time(TICKET_S * 0.6)
        assert await gates.enter(one, "c") == 0.0

    at_home(main)


def test_a_rate_is_kept(at_home: Any) -> None:
    async def main(home: Home) -> None:
        gates = home.gates
        queue = Queue("rate", rate=RateLimit(requests=2, per=600.0))
        answers = [await gates.enter(queue, name) for name in "abcd"]
        assert answers[:2] == [0.0, 0.0]
        assert answers[2:] == [MOST_WAIT_S, MOST_WAIT_S]
        await gates.leave(queue, "a")  # that it has ended gives nothing back
        assert await gates.enter(queue, "c") > 0
        home.pass_time(300.0)
        assert await gates.enter(queue, "c") == 0.0
        assert await gates.enter(queue, "d") > 0

    at_home(main)


def test_names_may_be_long(at_home: Any) -> None:
    async def main(home: Home) -> None:
        one = Queue("ü" * 200, concurrency=1)
        assert await home.gates.enter(one, "ü" * 1200) == 0.0
        assert await home.gates.enter(one, "ä" * 1200) > 0
        await home.gates.stay(one, ["ü" * 1200])
        await home.gates.leave(one, "ü" * 1200)
        assert await home.gates.enter(one, "ä" * 1200) == 0.0

    at_home(main)


def test_of_many_who_ask_at_once_so_many_are_let_in(at_home: Any) -> None:
    async def main(home: Home) -> None:
        queue = Queue("q", 3, RateLimit(requests=1000, per=600.0))
        names = [f"holder {n}" for n in range(12)]
        inside: list[str] = []
        for _ in range(4):
            answers = await asyncio.gather(*(home.gates.enter(queue, n) for n in names))
            now_in = [n for n, wait in zip(names, answers, strict=True) if not wait]
            assert len(now_in) == 3
            inside += now_in
            for name in now_in:
                await home.gates.leave(queue, name)
                names.remove(name)
        assert len(set(inside)) == 12

    at_home(main)


NAMES = st.sampled_from("abcde")
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), NAMES),
        st.tuples(st.just("stay"), st.lists(NAMES, unique=True, max_size=3)),
        st.tuples(st.just("leave"), NAMES),
        st.tuples(st.just("pass"), st.floats(0.1, 12.0)),
    ),
    max_size=40,
)


@given(
    acts=ACTS,
    concurrency=st.one_of(st.none(), st.integers(1, 3)),
    requests=st.integers(1, 6),
)
def test_gates_in_a_file_do_as_those_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    acts: Any,
    concurrency: int | None,
    requests: int,
) -> None:
    queue = Queue("q", concurrency, RateLimit(requests=requests, per=7.0), lease=10.0)
    clock = SetClock()
    memory = MemoryGates(clock.now)
    store = SQLiteStore(tmp_path_factory.mktemp("gates") / "runs.db", clock=clock)

    async def main() -> None:
        inside: set[str] = set()
        for act, what in acts:
            if act == "pass":
                clock.time += what
                inside.clear()  # some, perhaps
            elif act == "enter":
                wait = await memory.enter(queue, what)
                assert await store.gates.enter(queue, what) == pytest.approx(wait)
                inside |= set() if wait else {what}
                assert concurrency is None or len(inside) <= concurrency
            elif act == "leave":
                inside.discard(what)
                await memory.leave(queue, what)
                await store.gates.leave(queue, what)
            elif concurrency is not None:
                held = [name for name in what if name in inside]
                await memory.stay(queue, held)
                await store.gates.stay(queue, held)
        await store.close()

    asyncio.run(main())


# ---------------------------------------------------------------- runs


class Work(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Log:
    """Who is at work, and when each began, in the time of the loop."""

    def __init__(self) -> None:
        self.at_work = 0
        self.most = 0
        self.began: list[float] = []
        self.order: list[int] = []

    async def work(self, n: int, seconds: float = 10.0) -> None:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.began.append(asyncio.get_running_loop().time())
        self.order.append(n)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.at_work -= 1


def flow_of(log: Log, queue: Queue, *, many: int = 6, **options: Any) -> type[Workflow]:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Work]:
            return [Work(n=n) for n in range(many)]

        @step(queue=queue, num_workers=20, **options)
        async def work(self, ev: Work) -> Done:
            await log.work(ev.n)
            return Done(n=ev.n)

        @step
        async def end(self, evs: list[Done]) -> StopEvent:
            return StopEvent(result=len(evs))

    return Flow


def stores() -> list[Any]:
    return [None, MemoryStore(clock=VirtualClock())]


@pytest.mark.parametrize("store", stores(), ids=["no store", "store"])
def test_all_runs_of_all_workflows_that_name_a_queue_share_it(store: Any) -> None:
    log = Log()
    queue = Queue("shared", concurrency=3)

    async def main() -> None:
        one = flow_of(log, queue)(timeout=None, durable=store)
        other = flow_of(log, queue)(timeout=None, durable=store, workflow_name="other")
        assert list(await asyncio.gather(one.run(), one.run(), other.run())) == [6] * 3
        assert asyncio.get_running_loop().time() == pytest.approx(60)

    run_virtual(main())
    assert log.most == 3
    assert len(log.began) == 18


def test_executions_begin_in_the_order_in_which_they_came() -> None:
    log = Log()

    async def main() -> None:
        await flow_of(log, Queue("fair", concurrency=1), many=12)(timeout=None).run()

    run_virtual(main())
    assert log.order == list(range(12))


@pytest.mark.parametrize("store", stores(), ids=["no store", "store"])
def test_so_many_begin_in_a_time(store: Any) -> None:
    log = Log()
    queue = Queue("rate", rate=RateLimit(requests=2, per=60.0))

    async def main() -> None:
        await flow_of(log, queue)(timeout=None, durable=store).run()

    run_virtual(main())
    assert log.began == pytest.approx([0, 0, 30, 60, 90, 120])


def test_a_steps_time_begins_with_its_body_and_not_with_its_waiting() -> None:
    log = Log()
    queue = Queue("one", concurrency=1)

    async def main() -> None:
        assert await flow_of(log, queue, timeout=11.0)(timeout=None).run() == 6
        with pytest.raises(TimeoutError, match="took longer than 9 s"):
            await flow_of(log, queue, timeout=9.0)(timeout=None).run()
        assert await flow_of(log, queue, many=1)(timeout=None).run() == 1

    run_virtual(main())


def test_who_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    log = Log()
    queue = Queue("one", concurrency=1)

    async def main() -> None:
        flow = flow_of(log, queue, many=1)(timeout=None)
        first, *cancelled = [flow.run() for _ in range(6)]
        await asyncio.sleep(1)
        last = flow.run()
        await asyncio.sleep(1)
        for handler in cancelled:
            await handler.cancel_run()
        assert (await first, await last) == (1, 1)
        assert asyncio.get_running_loop().time() == pytest.approx(20)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_a_run_that_is_cancelled_at_work_gives_its_place_back() -> None:
    log = Log()
    queue = Queue("one", concurrency=1)

    async def main() -> None:
        flow = flow_of(log, queue, many=1)(timeout=None)
        first, second = flow.run(), flow.run()
        await asyncio.sleep(2)
        await first.cancel_run()
        assert await second == 1
        assert asyncio.get_running_loop().time() == pytest.approx(12)

    run_virtual(main())


def test_a_failure_gives_the_place_back_and_a_new_attempt_takes_one() -> None:
    tries: list[str] = []

    class Flow(Workflow):
        @step(
            queue=Queue("one", concurrency=1),
            retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(3)),
        )
        async def only(self, ev: StartEvent) -> StopEvent:
            tries.append(ev.name)
            await asyncio.sleep(1)
            if tries.count(ev.name) < 3:
                raise ValueError(ev.name)
            return StopEvent(result=ev.name)

    async def main() -> None:
        flow = Flow(timeout=None)
        both = await asyncio.gather(flow.run(name="a"), flow.run(name="b"))
        assert list(both) == ["a", "b"]

    run_virtual(main())
    assert tries == ["a", "b"] * 3


class Ask(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    words: str = ""


@pytest.mark.parametrize("store", stores(), ids=["no store", "store"])
def test_who_waits_for_an_event_gives_its_turn_back_meanwhile(store: Any) -> None:
    log = Log()

    class Flow(Workflow):
        @step(queue=Queue("one", concurrency=1))
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await log.work(1)
            answer = await ctx.wait_for_event(Answer, waiter_event=Ask())
            await log.work(2)
            return StopEvent(result=answer.words)

    async def main() -> None:
        flow = Flow(timeout=None, durable=store)
        first, second = flow.run(), flow.run()
        await asyncio.sleep(15)  # the first waits, the second is at work
        assert log.order == [1, 1]
        first.ctx.send_event(Answer(words="yes"))
        await asyncio.sleep(3)
        assert log.order == [1, 1]
        await asyncio.sleep(10)
        assert log.order == [1, 1, 2]
        second.ctx.send_event(Answer(words="no"))
        assert (await first, await second) == ("yes", "no")

    run_virtual(main())
    assert log.most == 1


def test_a_wait_for_an_event_that_is_broken_off_takes_its_turn_again() -> None:
    log = Log()

    class Flow(Workflow):
        @step(queue=Queue("one", concurrency=1))
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                async with asyncio.timeout(5):
                    await ctx.wait_for_event(Answer)
            except TimeoutError:
                await log.work(1)
            return StopEvent()

    async def main() -> None:
        flow = Flow(timeout=None)
        await asyncio.gather(*(flow.run() for _ in range(4)))

    run_virtual(main())
    assert log.most == 1
    assert len(log.began) == 4


def test_workers_share_a_queue_over_their_store() -> None:
    log = Log()
    store = MemoryStore(clock=VirtualClock())
    flows = [flow_of(log, Queue("two", 2))(timeout=None, durable=store) for _ in range(3)]

    async def main() -> None:
        runs = Runs(store, flows[0])
        working = [asyncio.create_task(Worker(flow).work()) for flow in flows]
        ids = [await runs.start(flows[0]) for _ in range(5)]
        assert [await runs.result(run_id) for run_id in ids] == [6] * 5
        for task in working:
            task.cancel()
        await asyncio.wait(working)

    run_virtual(main())
    assert log.most == 2
    assert len(log.began) == 30


class Deaf(MemoryGates):
    """Does not hear who leaves, as if their process had died."""

    is_deaf = True

    async def leave(self, queue: Queue, holder: str) -> None:
        if self.is_deaf:
            raise JournalError("the disk is full")
        await super().leave(queue, holder)


def test_who_takes_a_run_over_finds_its_place_taken_for_it() -> None:
    log = Log()
    store = MemoryStore(clock=VirtualClock())
    store.gates = gates = Deaf(VirtualClock().now)
    queue = Queue("one", concurrency=1, lease=1000.0)
    flow = flow_of(log, queue, many=1)(timeout=None, durable=store)

    async def begin() -> None:
        flow.run(run_id="r")
        await asyncio.sleep(5)

    async def go_on() -> None:
        gates.is_deaf = False
        assert await flow.run(run_id="r") == 1
        assert await flow.run(run_id="other") == 1

    run_virtual(begin())
    run_virtual(go_on())
    assert log.began == [0, 0, 10]


def test_the_place_of_a_process_that_died_is_free_after_its_lease() -> None:
    log = Log()
    store = MemoryStore(clock=VirtualClock())
    queue = Queue("one", concurrency=1, lease=20.0)
    flow = flow_of(log, queue, many=3)(timeout=None, durable=store)

    async def main() -> None:
        assert await store.gates.enter(queue, "dead") == 0.0
        assert await flow.run() == 3

    run_virtual(main())
    assert log.began[0] == pytest.approx(20, abs=2 * POLL_S)


def test_who_works_longer_than_its_lease_keeps_its_place() -> None:
    log = Log()
    store = MemoryStore(clock=VirtualClock())
    flow = flow_of(log, Queue("one", concurrency=1, lease=3.0))(timeout=None, durable=store)

    async def main() -> None:
        await flow.run()

    run_virtual(main())
    assert log.most == 1


class Far(MemoryGates):
    """Their answers are two seconds on their way, and so is what they are asked for."""

    async def enter(self, queue: Queue, holder: str) -> float:
        wait = await super().enter(queue, holder)
        await asyncio.sleep(2)
        return wait

    async def stay(self, queue: Queue, holders: Collection[str]) -> None:
        await asyncio.sleep(2)
        await super().stay(queue, holders)


def far_flow(log: Log, lease: float) -> Workflow:
    store = MemoryStore(clock=VirtualClock())
    store.gates = Far(VirtualClock().now)
    queue = Queue("one", concurrency=1, lease=lease)
    return flow_of(log, queue, many=1)(timeout=None, durable=store)


def test_who_is_cancelled_while_it_is_let_in_leaves_nothing_behind() -> None:
    log = Log()

    async def main() -> None:
        flow = far_flow(log, lease=1000.0)
        handler = flow.run()
        await asyncio.sleep(1)
        await handler.cancel_run()
        await flow.run()

    run_virtual(main())
    assert log.began == pytest.approx([3], abs=0.1)


def test_a_renewal_that_comes_late_does_not_take_a_place_that_was_given_back() -> None:
    log = Log()

    async def main() -> None:
        flow = far_flow(log, lease=27.0)  # renewed after nine of the ten seconds
        await flow.run()
        await flow.run()

    run_virtual(main())
    assert log.began == pytest.approx([2, 15], abs=0.1)


def test_loops_in_several_threads_share_a_queue() -> None:
    inside, most, lock = set[object](), list[int](), threading.Lock()

    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Work]:
            return [Work() for _ in range(5)]

        @step(queue=Queue("threads", concurrency=2), num_workers=5)
        def work(self, ev: Work) -> Done:
            me = object()
            with lock:
                inside.add(me)
                most.append(len(inside))
            with lock:
                inside.remove(me)
            return Done()

        @step
        async def end(self, evs: list[Done]) -> StopEvent:
            return StopEvent()

    async def main() -> None:
        await Flow().run()

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 20
    assert max(most) <= 2


def test_a_queue_and_an_executor_go_together() -> None:
    class Flow(Workflow):
        @step(queue=Queue("one", concurrency=1), executor="thread", timeout=30)
        def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=threading.current_thread().name)

    async def main() -> None:
        flow = Flow()
        names = await asyncio.gather(*(flow.run() for _ in range(5)))
        assert all(name.startswith("anabranch_") for name in names)

    asyncio.run(main())


def test_a_store_without_queues_is_told_of() -> None:
    class Store(MemoryStore):
        def __init__(self) -> None:
            super().__init__(clock=VirtualClock())
            del self.gates

    flow = flow_of(Log(), Queue("q", 1))(timeout=None, durable=Store())

    async def main() -> None:
        with pytest.raises(WorkflowRuntimeError, match="a step has a queue, and Store"):
            await flow.run()

    run_virtual(main())


def test_a_place_that_cannot_be_given_back_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore(clock=VirtualClock())
    store.gates = Deaf(VirtualClock().now)
    log = Log()
    flow = flow_of(log, Queue("q", 1, lease=20.0), many=1)(timeout=None, durable=store)

    async def main() -> None:
        assert await flow.run() == 1
        assert await flow.run() == 1

    run_virtual(main())
    # It was renewed two thirds through the ten seconds that the first was at work.
    assert log.began == pytest.approx([0, 20 * 4 / 3], abs=2 * POLL_S)
    assert "is free when its lease ends in 20 s: the disk is full" in caplog.text


# ---------------------------------------------------------------- processes


# Not as the main module: its classes would have another name.
WORK = """
import asyncio, sys
from tests.workflow.queue_program import work

asyncio.run(work(*sys.argv[1:]))
"""


@contextmanager
def place_of(kind: str, folder: Path) -> Any:
    if kind == "sqlite":
        yield str(folder / "runs.db")
    else:
        pytest.importorskip("psycopg")
        from tests.postgres import database

        with database() as url:
            yield url


@dataclass
class Entry:
    at: float
    pid: int
    what: str


def read(log: Path) -> list[Entry]:
    if not log.exists():
        return []
    parts = [line.split() for line in log.read_text().splitlines()]
    return sorted(
        (Entry(float(at), int(pid), what) for at, pid, what in parts),
        key=lambda entry: (entry.at, entry.what == "begins"),
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_share_a_queue_and_one_that_is_killed_leaves_its_places(
    kind: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    root = Path(__file__).parents[2]
    workers: list[subprocess.Popen[bytes]] = []

    async def main(place: str) -> tuple[int, float]:
        flow = Flow(place, str(log))
        runs = Runs(place, flow)
        ids = [await runs.start(flow) for _ in range(6)]
        workers.extend(
            subprocess.Popen([sys.executable, "-c", WORK, place, str(log)], cwd=root)
            for _ in range(3)
        )
        killed = None
        while killed is None:
            await asyncio.sleep(0.002)
            entries = read(log)
            inside = at_work(entries)
            if inside and len({entry.pid for entry in entries}) > 1:
                killed = next(w for w in workers if w.pid == inside[0].pid)
                killed.kill()
                killed.wait()
        killed_at = time.monotonic()
        assert [await runs.result(run_id) for run_id in ids] == [10] * 6
        await runs.store.close()
        return killed.pid, killed_at

    try:
        with place_of(kind, tmp_path) as place:
            pid, killed_at = asyncio.run(main(place))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    entries = read(log)
    cut_off = [entry for entry in at_work(entries) if entry.pid == pid]
    entries += [Entry(killed_at, pid, "ends") for _ in cut_off]
    entries.sort(key=lambda entry: (entry.at, entry.what == "begins"))
    at_once = [0]
    for entry in entries:
        at_once.append(at_once[-1] + (1 if entry.what == "begins" else -1))
    assert max(at_once) == MOST
    assert len({entry.pid for entry in entries}) > 1
    began = [entry.at for entry in entries if entry.what == "begins"]
    assert len(began) == 60 + len(cut_off)
    for count, at in enumerate(began, 1):
        # Who takes a run over within its lease has begun already; and clocks are read late.
        allowed = REQUESTS + MOST + (at - began[0] + 0.5) * REQUESTS / PER_S
        assert count <= allowed


def at_work(entries: list[Entry]) -> list[Entry]:
    """Of each process those that have begun and not ended."""
    inside: list[Entry] = []
    for entry in entries:
        if entry.what == "begins":
            inside.append(entry)
        else:
            inside.remove(next(e for e in inside if e.pid == entry.pid))
    return inside
