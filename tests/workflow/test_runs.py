"""Runs: their results, ends, streams, limits, and what is left of them."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import logging
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from anabranch.errors import JobCancelled, LoopError
from anabranch.testing import run_virtual
from anabranch.workflow import (
    Context,
    ContextStateError,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    StreamOverrun,
    UnhandledEvent,
    Workflow,
    WorkflowCancelledByUser,
    WorkflowCancelledEvent,
    WorkflowDone,
    WorkflowFailedEvent,
    WorkflowHandler,
    WorkflowIdleEvent,
    WorkflowRuntimeError,
    WorkflowTimedOutEvent,
    WorkflowTimeoutError,
    WorkflowValidationError,
    step,
)
from anabranch.workflow.testing import WorkflowTestRunner


class Tick(Event):
    n: int
    before: str = ""


class Counting(Workflow):
    """Counts down, a second a step, and shows each number."""

    @step
    async def start(self, ev: StartEvent) -> Tick:
        return Tick(n=ev.get("n", 3))

    @step
    async def count(self, ctx: Context, ev: Tick) -> Tick | StopEvent:
        await asyncio.sleep(1)
        ctx.write_event_to_stream(ev)
        return Tick(n=ev.n - 1) if ev.n else StopEvent(result="liftoff")


class Note(Event):
    n: int


class Answer(StopEvent):
    value: int


class Sleeping(Workflow):
    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(ev.get("seconds", 60))
        return StopEvent(result=ev.get("seconds"))


class Failing(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("no such luck")


def workflow(body: Callable[..., Coroutine[Any, Any, Any]], **options: Any) -> Workflow:
    """A workflow of one step."""

    class One(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await body(ctx, ev))

    return One(**options)


class TestResults:
    def test_the_result_is_what_the_stop_event_carries(self) -> None:
        assert run_virtual(_result(Counting())) == "liftoff"

    def test_that_of_a_subclass_is_the_event_itself(self) -> None:
        class Asked(Workflow):
            @step
            async def answer(self, ev: StartEvent) -> Answer:
                return Answer(value=42)

        answer = asyncio.run(_result(Asked()))
        assert isinstance(answer, Answer)
        assert answer.value == 42

    def test_an_error_comes_as_the_same_object(self) -> None:
        error = ValueError("mine")

        async def raises(ctx: Context, ev: StartEvent) -> None:
            raise error

        with pytest.raises(ValueError, match="mine") as caught:
            asyncio.run(_result(workflow(raises)))
        assert caught.value is error

    def test_a_handler_can_be_awaited_many_times_and_asked(self) -> None:
        async def main() -> None:
            handler = Counting().run(n=1)
            assert not handler.is_done()
            assert handler.get_stop_event() is None
            assert {*await asyncio.gather(handler, handler)} == {"liftoff"}
            assert await handler == handler.result() == "liftoff"
            assert (await handler.stop_event_result()).result == "liftoff"
            assert handler.is_done()
            assert handler.done()
            assert handler.exception() is None
            assert not handler.cancelled()
            assert "completed" in repr(handler)

        run_virtual(main())

    def test_a_start_event_is_made_of_arguments_or_given(self) -> None:
        class Greeting(StartEvent):
            name: str

        class Greets(Workflow):
            @step
            async def greet(self, ev: Greeting) -> StopEvent:
                return StopEvent(result=f"hello {ev.name}")

        async def main() -> None:
            greets = Greets()
            assert greets.start_event_class is Greeting
            assert await greets.run(name="ann") == "hello ann"
            assert await greets.run(start_event=Greeting(name="bob")) == "hello bob"
            with pytest.raises(WorkflowRuntimeError, match=r"Greeting.*nam"):
                greets.run(nam="ann")
            with pytest.raises(ValueError, match="must be a StartEvent"):
                greets.run(start_event="ann")  # type: ignore[arg-type]

        asyncio.run(main())

    def test_run_outside_a_loop_says_what_to_do(self) -> None:
        with pytest.raises(LoopError, match=r"asyncio.run\(...\)"):
            Counting().run()

    def test_one_object_has_many_runs_at_once(self) -> None:
        async def main() -> list[Any]:
            sleeping = Sleeping(timeout=None)
            return list(await asyncio.gather(*(sleeping.run(seconds=n) for n in range(99))))

        assert run_virtual(main()) == list(range(99))

    def test_steps_see_the_callers_context_variables_and_keep_theirs(self) -> None:
        variable = contextvars.ContextVar("variable", default="none")

        class Setting(Workflow):
            @step
            async def one(self, ev: StartEvent) -> Tick:
                before = variable.get()
                variable.set("one's")
                return Tick(n=0, before=before)

            @step
            def two(self, ev: Tick) -> StopEvent:
                return StopEvent(result=(ev.before, variable.get()))

        async def main() -> None:
            variable.set("caller's")
            assert await Setting().run() == ("caller's", "caller's")

        asyncio.run(main())


async def _result(flow: Workflow, **start: Any) -> Any:
    return await flow.run(**start)


class TestEnds:
    def test_a_run_that_takes_too_long_says_where_to_give_it_more(self) -> None:
        async def main() -> list[Event]:
            handler = Sleeping(timeout=10).run()
            events = [event async for event in handler.stream_events()]
            with pytest.raises(
                WorkflowTimeoutError, match=r"after 10 seconds.*sleep.*timeout"
            ):
                await handler
            with pytest.raises(TimeoutError):
                await handler
            return events

        [event] = run_virtual(main())
        assert isinstance(event, WorkflowTimedOutEvent)
        assert (event.timeout, event.active_steps) == (10, ["sleep"])

    def test_the_default_is_45_seconds(self) -> None:
        assert run_virtual(_result(Sleeping(), seconds=44)) == 44
        with pytest.raises(WorkflowTimeoutError, match="45 s by default"):
            run_virtual(_result(Sleeping(), seconds=46))

    def test_a_cancelled_run_ends_its_steps_first(self) -> None:
        cleaned: list[str] = []

        async def body(ctx: Context, ev: StartEvent) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(1)
                cleaned.append("up")

        async def main() -> list[Event]:
            handler = workflow(body).run()
            await asyncio.sleep(1)
            await handler.cancel_run()
            assert cleaned == ["up"]
            assert handler.is_done()
            assert handler.cancelled()
            with pytest.raises(WorkflowCancelledByUser):
                await handler
            await handler.cancel_run()
            return [event async for event in handler.stream_events()]

        [event] = run_virtual(main())
        assert isinstance(event, WorkflowCancelledEvent)

    def test_a_run_can_be_cancelled_before_it_has_begun(self) -> None:
        async def main() -> None:
            handler = Sleeping().run()
            await handler.cancel_run()
            with pytest.raises(WorkflowCancelledByUser):
                await handler

        run_virtual(main())

    def test_who_awaits_a_run_and_is_cancelled_cancels_it(self) -> None:
        async def main() -> None:
            handler = Sleeping().run()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handler, 5)
            assert handler.is_done()
            assert handler.cancelled()
            handler = Sleeping().run(seconds=20)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(handler), 5)
            assert not handler.is_done()
            assert await handler == 20

        run_virtual(main())

    def test_a_stop_event_cancels_what_is_still_at_work_and_waits_for_it(self) -> None:
        log: list[str] = []

        class Race(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> Tick | None:
                ctx.send_event(Tick(n=100))
                ctx.send_event(Tick(n=1))
                return None

            @step
            async def run_to(self, ev: Tick) -> StopEvent:
                try:
                    await asyncio.sleep(ev.n)
                finally:
                    log.append(f"{ev.n} ended")
                return StopEvent(result=ev.n)

        async def main() -> None:
            assert await Race().run() == 1
            assert log == ["1 ended", "100 ended"]
            assert len(asyncio.all_tasks()) == 1
            assert asyncio.get_running_loop().time() == 1

        run_virtual(main())

    def test_a_step_that_does_not_let_itself_be_cancelled_is_left_behind(
        self, caplog: Any
    ) -> None:
        async def stubborn(ctx: Context, ev: StartEvent) -> None:
            while True:
                try:
                    await asyncio.sleep(60)
                    return
                except asyncio.CancelledError:
                    continue

        async def main() -> None:
            with pytest.raises(WorkflowTimeoutError):
                await workflow(stubborn, timeout=1).run()
            assert asyncio.get_running_loop().time() == 6

        run_virtual(main())
        assert "'only'" in caplog.text
        assert "does not end though it was cancelled" in caplog.text

    def test_a_cancellation_that_nobody_asked_for_is_a_failure(self) -> None:
        async def cancels_itself(ctx: Context, ev: StartEvent) -> None:
            raise asyncio.CancelledError

        with pytest.raises(JobCancelled, match=r"'only'.*nobody cancelled"):
            asyncio.run(_result(workflow(cancels_itself)))

    def test_an_interrupt_in_a_step_ends_the_program(self) -> None:
        async def interrupted(ctx: Context, ev: StartEvent) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            asyncio.run(_result(workflow(interrupted)))

    def test_whoever_cancels_all_tasks_of_the_loop_ends_the_run(self) -> None:
        handlers: list[WorkflowHandler] = []

        async def main() -> None:
            handlers.append(Sleeping().run())
            await asyncio.sleep(1)

        run_virtual(main())  # asyncio.run cancels what is left
        assert handlers[0].is_done()

    def test_a_failure_that_nobody_looks_at_is_logged(self, caplog: Any) -> None:
        async def main() -> None:
            Failing().run()
            await asyncio.sleep(1)
            gc.collect()

        with caplog.at_level(logging.ERROR):
            run_virtual(main())
            gc.collect()
        assert "no such luck" in caplog.text

    def test_nothing_goes_to_a_run_that_is_over(self) -> None:
        async def main() -> None:
            handler = Counting().run(n=0)
            await handler
            with pytest.raises(WorkflowDone, match="takes no Tick any more"):
                await handler.send_event(Tick(n=1))
            handler.ctx.send_event(Tick(n=1))  # as a step's late task would

        run_virtual(main())

    def test_another_loop_is_told_that_the_run_is_not_its_own(self) -> None:
        async def main() -> None:
            handler = Sleeping().run(seconds=1)

            async def elsewhere() -> None:
                with pytest.raises(LoopError, match="belongs to another event loop"):
                    await handler

            await asyncio.to_thread(asyncio.run, elsewhere())
            assert await handler == 1

        run_virtual(main())


class TestAbruptEnds:
    """Whatever happens to its tasks, a run ends, and says how."""

    def test_an_interrupt_while_other_steps_are_under_way_ends_the_program(self) -> None:
        class Mixed(Workflow):
            @step
            async def start(self, ev: StartEvent) -> Tick:
                return Tick(n=0)

            @step
            async def bad(self, ev: Tick) -> StopEvent:
                raise SystemExit(3)

            @step
            async def aside(self, ev: Tick) -> None:
                await asyncio.sleep(10)

        with pytest.raises(SystemExit):
            run_virtual(_result(Mixed(timeout=None)))

    def test_tasks_that_are_cancelled_before_their_first_step_end_the_run(self) -> None:
        async def main() -> None:
            handler = Sleeping(timeout=None).run()
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await handler
            assert handler.is_done()

        run_virtual(main())

    def test_a_wait_does_not_outlive_its_step(self) -> None:
        async def body(ctx: Context, ev: StartEvent) -> None:
            left = asyncio.ensure_future(ctx.wait_for_event(HumanResponseEvent))
            tasks.append(left)
            await asyncio.sleep(1)
            raise ValueError

        async def main() -> None:
            with pytest.raises(ValueError):  # noqa: PT011  # it has no text
                await workflow(body).run()
            for _ in range(3):
                await asyncio.sleep(0)
            assert tasks[0].cancelled()

        tasks: list[asyncio.Future[Any]] = []
        run_virtual(main())

    def test_a_synchronous_step_may_raise_what_no_future_can_hold(self) -> None:
        class Stops(Workflow):
            @step
            def start(self, ev: StartEvent) -> StopEvent:
                return StopEvent(result=next(iter([])))

        with pytest.raises(RuntimeError, match="StopIteration"):
            asyncio.run(_result(Stops()))

    def test_a_place_is_given_back_when_its_loop_has_gone(self) -> None:
        sleeping = Sleeping(num_concurrent_runs=1)

        async def leaves() -> None:
            sleeping.run()
            sleeping.run()

        asyncio.run(leaves())
        assert run_virtual(_result(sleeping, seconds=1)) == 1

    def test_threads_that_leave_runs_behind_do_not_hold_up_others(self) -> None:
        sleeping = Sleeping(num_concurrent_runs=1, timeout=None)
        results: list[Any] = []

        def leaves() -> None:
            async def main() -> None:
                handlers = [sleeping.run(seconds=0) for _ in range(5)]
                await handlers[0]

            asyncio.run(main())

        def stays() -> None:
            async def main() -> None:
                handlers = [sleeping.run(seconds=0) for _ in range(5)]
                results.extend([await handler for handler in handlers])

            asyncio.run(main())

        threads = [
            threading.Thread(target=target, daemon=True)
            for target in (leaves, stays, stays)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert results == [0] * 10

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brought it")
    def test_tasks_may_be_started_eagerly(self) -> None:
        class Mixed(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[Tick]:
                return [Tick(n=n) for n in range(9)]

            @step
            async def work(self, ev: Tick) -> Note:
                if ev.n % 2:
                    await asyncio.sleep(0)
                return Note(n=ev.n)

            @step
            async def end(self, notes: list[Note]) -> StopEvent:
                return StopEvent(result=sorted(note.n for note in notes))

        async def main() -> Any:
            factory = getattr(asyncio, "eager_task_factory")  # noqa: B009
            asyncio.get_running_loop().set_task_factory(factory)
            return await Mixed().run()

        assert asyncio.run(main()) == list(range(9))

    def test_another_loop_cannot_cancel_and_a_closed_one_takes_no_events(self) -> None:
        handlers: list[WorkflowHandler] = []

        async def main() -> None:
            handlers.append(Sleeping().run())

            async def elsewhere() -> None:
                with pytest.raises(LoopError, match="belongs to another event loop"):
                    await handlers[0].cancel_run()

            await asyncio.to_thread(asyncio.run, elsewhere())

        asyncio.run(main())
        failures: list[BaseException] = []

        def send() -> None:
            try:
                handlers[0].ctx.send_event(Tick(n=1))
            except WorkflowDone as error:
                failures.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        assert "event loop that it ran on is closed" in str(failures[0])


class TestStreams:
    def test_events_come_as_they_are_written_and_the_last_is_the_stop_event(self) -> None:
        async def main() -> list[tuple[float, str]]:
            loop = asyncio.get_running_loop()
            handler = Counting().run(n=2)
            return [(loop.time(), repr(event)) async for event in handler.stream_events()]

        assert run_virtual(main()) == [
            (1, "Tick(n=2, before='')"),
            (2, "Tick(n=1, before='')"),
            (3, "Tick(n=0, before='')"),
            (3, "StopEvent(result='liftoff')"),
        ]

    def test_a_failure_is_the_last_event(self) -> None:
        async def main() -> None:
            handler = Failing().run()
            [event] = [event async for event in handler.stream_events()]
            assert isinstance(event, WorkflowFailedEvent)
            assert (event.step_name, event.attempts) == ("fail", 1)
            assert str(event.exception) == "no such luck"
            assert handler.exception() is event.exception

        run_virtual(main())

    def test_several_readers_see_all_of_it_early_and_late(self) -> None:
        async def main() -> None:
            handler = Counting().run(n=3)

            async def read(delay: float) -> list[str]:
                await asyncio.sleep(delay)
                return [repr(event) async for event in handler.stream_events()]

            read_all = await asyncio.gather(read(0), read(2.5), read(100))
            assert read_all[0] == read_all[1] == read_all[2]
            assert len(read_all[0]) == 5

        run_virtual(main())

    def test_a_slow_reader_holds_nobody_up_and_is_told_what_it_missed(self) -> None:
        async def body(ctx: Context, ev: StartEvent) -> int:
            for n in range(100):
                ctx.write_event_to_stream(Tick(n=n))
            return 1

        async def main() -> None:
            handler = workflow(body, stream_buffer=10).run()
            slow = handler.stream_events()
            await handler
            with pytest.raises(StreamOverrun, match="91 events were dropped") as caught:
                await anext(slow)
            assert caught.value.missed == 91
            left = [event async for event in slow]
            assert [event.n for event in left[:-1]] == list(range(91, 100))

        run_virtual(main())

    def test_who_comes_after_a_reader_that_has_left_goes_on_there(self) -> None:
        async def main() -> None:
            handler = Counting().run(n=3)
            async for event in handler.stream_events():
                if event.n == 2:
                    break
            reader = handler.stream_events()
            assert (await anext(reader)).n == 1
            other = handler.stream_events()  # while the other one reads
            assert (await anext(other)).n == 3
            await reader.aclose()
            assert [event async for event in reader] == []
            left = [event async for event in handler.stream_events()]
            assert [type(event).__name__ for event in left] == ["Tick", "StopEvent"]
            # One that has read to the end leaves the next one to begin anew.
            assert len([event async for event in handler.stream_events()]) == 5

        run_virtual(main())

    def test_internal_events_are_given_on_request(self) -> None:
        class Asks(Workflow):
            @step(num_workers=1)
            async def ask(self, ctx: Context, ev: StartEvent | Tick) -> StopEvent | Tick:
                if isinstance(ev, Tick):
                    await asyncio.sleep(1)
                    return Tick(n=0) if ev.n else StopEvent()
                ctx.send_event(Tick(n=1))
                await ctx.wait_for_event(HumanResponseEvent)
                return Tick(n=0)

        async def main() -> list[str]:
            handler = Asks().run()
            told: list[str] = []
            async for event in handler.stream_events(expose_internal=True):
                match event:
                    case StepStateChanged(name=name, step_state=state, worker_id=worker):
                        told.append(f"{name} {worker} {state.value}")
                    case WorkflowIdleEvent():
                        told.append("idle")
                        handler.ctx.send_event(InputRequiredEvent())
                        handler.ctx.send_event(HumanResponseEvent(n=1))
                    case UnhandledEvent(event_type=kind, idle=idle):
                        told.append(f"{kind} {idle}")
                    case _:
                        told.append(type(event).__name__)
            return told

        told = run_virtual(main())
        assert told[:3] == ["ask 1 running", "ask 2 preparing", "ask 1 not_running"]
        assert told[3] == "ask 2 running"
        assert told[-1] == "StopEvent"
        assert f"{StepState.RUNNING}" == "StepState.RUNNING"

    def test_the_test_runner_collects_what_was_streamed(self) -> None:
        async def main() -> None:
            runner = WorkflowTestRunner(Counting())
            start = StartEvent(n=1)
            ran = await runner.run(start, exclude_events=[StepStateChanged])
            names = [type(event).__name__ for event in ran.collected]
            assert names == ["Tick", "Tick", "StopEvent"]
            assert (ran.event_types[Tick], ran.event_types[StopEvent]) == (2, 1)
            assert ran.result == "liftoff"
            assert not ran.ctx.is_running
            ran = await runner.run(expose_internal=True)
            assert ran.event_types[StepStateChanged] == 10

        run_virtual(main())


class TestManyRuns:
    def test_no_more_runs_than_allowed_are_under_way(self) -> None:
        async def main() -> float:
            sleeping = Sleeping(timeout=15, num_concurrent_runs=2)
            await asyncio.gather(*(sleeping.run(seconds=10) for _ in range(6)))
            return asyncio.get_running_loop().time()

        assert run_virtual(main()) == 30  # and nobody was out of time while it waited

    def test_a_run_that_waits_its_turn_can_be_cancelled(self) -> None:
        async def main() -> None:
            sleeping = Sleeping(num_concurrent_runs=1)
            first, second, third = (sleeping.run(seconds=10) for _ in range(3))
            await asyncio.sleep(1)
            await second.cancel_run()
            assert second.cancelled()
            assert await first == 10
            assert await third == 10
            assert asyncio.get_running_loop().time() == 20

        run_virtual(main())

    def test_a_context_has_one_run_at_a_time_and_carries_state(self) -> None:
        async def body(ctx: Context, ev: StartEvent) -> Any:
            await asyncio.sleep(1)
            await ctx.store.set("count", 1 + await ctx.store.get("count", default=0))
            return await ctx.store.get("count")

        async def main() -> None:
            flow = workflow(body)
            ctx = Context(flow)
            await ctx.store.set("count", 5)
            handler = flow.run(ctx=ctx)
            with pytest.raises(ContextStateError, match="has a run that goes on"):
                flow.run(ctx=ctx)
            assert await handler == 6
            assert await flow.run(ctx=ctx) == 7
            assert await flow.run(ctx=handler.ctx) == 8
            assert await ctx.store.get("count") == 8
            assert await flow.run() == 1

        run_virtual(main())

    def test_ten_thousand_runs_wait_at_once(self) -> None:
        async def body(ctx: Context, ev: StartEvent) -> Any:
            return (await ctx.wait_for_event(HumanResponseEvent)).answer

        async def main() -> None:
            flow = workflow(body, timeout=None)
            handlers = [flow.run() for _ in range(10_000)]
            for _ in range(3):  # to begin, to call the step, to wait
                await asyncio.sleep(0)
            for n, handler in enumerate(handlers):
                handler.ctx.send_event(HumanResponseEvent(answer=n))
            assert await asyncio.gather(*handlers) == list(range(10_000))

        asyncio.run(main())


class TestSteps:
    def test_a_synchronous_step_does_not_hold_up_the_loop(self) -> None:
        gate = threading.Event()

        class Blocking(Workflow):
            @step
            def block(self, ctx: Context, ev: StartEvent) -> Tick:
                assert gate.wait(10)
                ctx.write_event_to_stream(Tick(n=1))
                ctx.send_event(Tick(n=2))
                return Tick(n=3)

            @step
            def gather(self, ctx: Context, ev: Tick) -> StopEvent | None:
                got = ctx.collect_events(ev, [Tick, Tick])
                assert ctx.retry_info().retry_number == 0
                assert threading.current_thread() is not threading.main_thread()
                return None if got is None else StopEvent(result=sorted(e.n for e in got))

        async def main() -> None:
            handler = Blocking().run()
            await asyncio.sleep(0)
            gate.set()  # the loop still turns
            assert await handler == [2, 3]
            assert (await anext(handler.stream_events())).n == 1

        asyncio.run(main())

    def test_workers_limit_a_step_within_a_run(self) -> None:
        class Wide(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[Tick]:
                return [Tick(n=n) for n in range(10)]

            @step(num_workers=3)
            async def work(self, ctx: Context, ev: Tick) -> StopEvent | None:
                await asyncio.sleep(1)
                done = ctx.collect_events(ev, [Tick] * 10)
                return None if done is None else StopEvent(result=len(done))

        async def main() -> tuple[Any, float]:
            return await Wide().run(), asyncio.get_running_loop().time()

        assert run_virtual(main()) == (10, 4)

    def test_a_list_is_a_list_and_one_event_is_one(self) -> None:
        class Bare(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[Tick]:
                return Tick(n=1)  # type: ignore[return-value]

            @step
            async def end(self, ticks: list[Tick]) -> StopEvent:
                return StopEvent()

        with pytest.raises(WorkflowRuntimeError, match="'start' returned a Tick, and says"):
            run_virtual(_result(Bare()))

    def test_steps_and_attributes_may_have_any_name(self) -> None:
        class Named(Workflow):
            _engine = _steps = _own_steps = _all_steps = "mine"

            def __init__(self) -> None:
                self._store = self._active = self._limit = "mine"
                super().__init__()
                self._checked = self._compiled = self.plan_ = self._runtime = "mine"
                self.x = 1

            @step
            async def plan(self, ev: StartEvent) -> Tick:
                return Tick(n=self.x)

            @step
            async def calls(self, ev: Tick) -> StopEvent:
                return StopEvent(result=ev.n)

        named = Named()
        assert run_virtual(_result(named)) == 1
        other = copy.copy(named)
        other.x = 2
        assert run_virtual(_result(other)) == 2
        assert run_virtual(_result(named)) == 1
        deep = copy.deepcopy(named)
        deep.x = 3
        assert run_virtual(_result(deep)) == 3

        class Forgetful(Workflow):
            def __init__(self) -> None:
                pass

            @step
            async def only(self, ev: StartEvent) -> StopEvent:
                return StopEvent()

        with pytest.raises(WorkflowValidationError, match=r"Forgetful.*super\(\).__init__"):
            run_virtual(_result(Forgetful()))

    def test_an_event_that_is_not_declared_and_nobody_takes_fails_the_step(self) -> None:
        class Undeclared(Workflow):
            @step
            async def start(self, ev: StartEvent) -> StopEvent:
                return Tick(n=1)  # type: ignore[return-value]

        with pytest.raises(WorkflowRuntimeError, match="returned a Tick, which its annot"):
            run_virtual(_result(Undeclared()))

    def test_a_step_cannot_be_named_run(self) -> None:
        class Named(Workflow):
            @step
            async def run(self, ev: StartEvent) -> StopEvent:  # type: ignore[override]
                return StopEvent()

        with pytest.raises(WorkflowValidationError, match="a step named 'run'"):
            Named()

    def test_what_is_no_event_fails_the_step(self) -> None:
        class Wrong(Workflow):
            @step
            async def wrong(self, ev: StartEvent) -> StopEvent:
                return ev.value  # type: ignore[no-any-return]

        for value in ("text", [StopEvent(), 3]):
            with pytest.raises(WorkflowRuntimeError, match=r"'wrong' returned.*no event"):
                asyncio.run(_result(Wrong(), value=value))

    def test_running_steps_are_named(self) -> None:
        async def main() -> None:
            handler = Sleeping().run()
            await asyncio.sleep(1)
            assert await handler.ctx.running_steps() == ["sleep"]
            assert handler.ctx.is_running
            await handler.cancel_run()
            assert await handler.ctx.running_steps() == []

        run_virtual(main())

    def test_what_only_a_step_can_do_says_so_outside(self) -> None:
        async def main() -> None:
            handler = Counting().run()
            with pytest.raises(ContextStateError, match="only within a step"):
                handler.ctx.collect_events(Tick(n=1), [Tick])
            with pytest.raises(ContextStateError, match="only within a step"):
                await handler.ctx.wait_for_event(Tick)
            with pytest.raises(WorkflowRuntimeError, match="outside a step"):
                Context.get_step_context()
            with pytest.raises(ContextStateError, match="before the run"):
                Context(Counting()).send_event(Tick(n=1))

        run_virtual(main())

    def test_verbose_prints_what_steps_do(self, capsys: Any) -> None:
        run_virtual(_result(Counting(verbose=True), n=0))
        printed = capsys.readouterr().out.splitlines()
        assert "Running start#1" in printed
        assert "count#2 ended" in printed
