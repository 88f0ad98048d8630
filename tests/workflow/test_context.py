"""What a step can do with its context: send, collect, wait, share state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from anabranch.errors import UsageError
from anabranch.testing import run_virtual
from anabranch.workflow import (
    Context,
    ContextStateError,
    DictState,
    Event,
    HumanResponseEvent,
    InMemoryStateStore,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    WorkflowStepDoesNotExistError,
    step,
)
from anabranch.workflow.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class A(Event):
    n: int


class B(Event):
    n: int


class Result(Event):
    n: int


class TestSending:
    def test_an_event_goes_to_every_step_that_takes_it_or_to_one(self) -> None:
        class Fork(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> A | None:
                ctx.send_event(A(n=1))
                ctx.send_event(A(n=10), step="left")
                return None

            @step
            async def left(self, ev: A) -> Result:
                return Result(n=ev.n)

            @step
            async def right(self, ev: A) -> Result:
                return Result(n=-ev.n)

            @step
            async def end(self, ctx: Context, ev: Result) -> StopEvent | None:
                got = ctx.collect_events(ev, [Result] * 3)
                return None if got is None else StopEvent(result=[e.n for e in got])

        assert sorted(run_virtual(_result(Fork()))) == [-1, 1, 10]

    def test_a_wrong_address_is_refused_where_it_is_written(self) -> None:
        class Wrong(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> A | StopEvent:
                with pytest.raises(
                    WorkflowStepDoesNotExistError, match=r"'?nowhere.*start"
                ):
                    ctx.send_event(A(n=1), step="nowhere")
                with pytest.raises(WorkflowRuntimeError, match=r"start does not accept.*A"):
                    ctx.send_event(A(n=1), step="start")
                with pytest.raises(WorkflowRuntimeError, match="only events can be sent"):
                    ctx.send_event("A")  # type: ignore[arg-type]
                return A(n=1)

            @step
            async def end(self, ev: A) -> StopEvent:
                return StopEvent(result="ok")

        assert run_virtual(_result(Wrong())) == "ok"

    def test_an_attempt_does_not_send_again_what_an_earlier_one_sent(self) -> None:
        class Retried(Workflow):
            @step(retry_policy=retry_policy(wait=wait_fixed(1)))
            async def start(self, ctx: Context, ev: StartEvent) -> A | None:
                attempt = ctx.retry_info().retry_number
                ctx.send_event(A(n=1))
                ctx.send_event(A(n=1))
                ctx.send_event(A(n=100 + attempt))
                if attempt < 2:
                    raise ValueError(attempt)
                return None

            @step
            async def work(self, ctx: Context, ev: A) -> StopEvent | None:
                got = ctx.collect_events(ev, [A] * 5)
                return None if got is None else StopEvent(result=[e.n for e in got])

        assert run_virtual(_result(Retried())) == [1, 1, 100, 101, 102]

    def test_keys_for_the_outside_are_the_same_in_every_attempt(self) -> None:
        class Keys(Workflow):
            @step(retry_policy=retry_policy(wait=wait_fixed(1)))
            async def start(self, ctx: Context, ev: StartEvent) -> A | None:
                keys.append(ctx.idempotency_key)
                if len(keys) < 3:
                    raise ValueError
                for n in range(3):
                    ctx.send_event(A(n=n))
                return None

            @step
            async def work(self, ctx: Context, ev: A) -> StopEvent | None:
                keys.append(ctx.idempotency_key)
                return StopEvent() if len(keys) == 6 else None

        keys: list[str] = []
        run_virtual(_result(Keys()))
        assert len(set(keys[:3])) == 1
        assert len(set(keys)) == 4


async def _result(flow: Workflow, **start: Any) -> Any:
    return await flow.run(**start)


class TestCollecting:
    def test_events_come_in_the_expected_order_whatever_order_they_come_in(self) -> None:
        class Mixed(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> A | B | None:
                for event in (B(n=1), A(n=2), B(n=3), B(n=4), A(n=5), B(n=6)):
                    ctx.send_event(event)
                return None

            @step(num_workers=1)
            async def end(self, ctx: Context, ev: A | B) -> StopEvent | None:
                got = ctx.collect_events(ev, [A, B, B])
                if got is not None:
                    sets.append([e.n for e in got])
                return StopEvent(result=sets) if len(sets) == 2 else None

        sets: list[list[int]] = []
        assert run_virtual(_result(Mixed())) == [[2, 1, 3], [5, 4, 6]]

    def test_buffers_are_apart(self) -> None:
        class Pairs(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> A | None:
                for n in range(8):
                    ctx.send_event(A(n=n))
                return None

            @step
            async def end(self, ctx: Context, ev: A) -> StopEvent | None:
                await asyncio.sleep(10 - ev.n)
                got = ctx.collect_events(ev, [A] * 4, buffer_id=f"{ev.n % 2}")
                if got is not None:
                    sets.append(sorted(e.n for e in got))
                return StopEvent(result=sets) if len(sets) == 2 else None

        sets: list[list[int]] = []
        assert sorted(run_virtual(_result(Pairs()))) == [[0, 2, 4, 6], [1, 3, 5, 7]]

    def test_one_completes_the_set_however_many_workers_and_retries(self) -> None:
        class Retried(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> A | None:
                for n in range(20):
                    ctx.send_event(A(n=n))
                return None

            @step(
                num_workers=7,
                retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(9)),
            )
            async def gather(self, ctx: Context, ev: A) -> Result | None:
                got = ctx.collect_events(ev, [A] * 20)
                await asyncio.sleep(ev.n % 3)
                if ctx.retry_info().retry_number < ev.n % 4:
                    raise ValueError(ev.n)
                return None if got is None else Result(n=sum(e.n for e in got))

            @step
            async def end(self, ctx: Context, ev: Result) -> StopEvent | None:
                results.append(ev.n)
                await asyncio.sleep(100)
                return StopEvent(result=results)

        results: list[int] = []
        assert run_virtual(_result(Retried(timeout=None))) == [190]

    def test_what_is_not_expected_is_not_kept(self) -> None:
        class Odd(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> A | B | None:
                for event in (B(n=1), A(n=2), A(n=3)):
                    ctx.send_event(event)
                return None

            @step(num_workers=1)
            async def end(self, ctx: Context, ev: A | B) -> StopEvent | None:
                assert ctx.collect_events(ev, []) == []
                got = ctx.collect_events(ev, [A, A])
                return None if got is None else StopEvent(result=[e.n for e in got])

        assert run_virtual(_result(Odd())) == [2, 3]


class TestWaiting:
    def test_a_step_goes_on_where_it_was_when_the_event_comes(self) -> None:
        class Asks(Workflow):
            @step
            async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
                calls.append(1)
                first = await ctx.wait_for_event(
                    HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="name?")
                )
                second = await ctx.wait_for_event(
                    HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="age?")
                )
                return StopEvent(result=(first.response, second.response))

        async def main() -> Any:
            handler = Asks().run()
            async for event in handler.stream_events():
                if isinstance(event, InputRequiredEvent):
                    await handler.send_event(HumanResponseEvent(response=event.prefix[:-1]))
            return await handler

        calls: list[int] = []
        assert run_virtual(main()) == ("name", "age")
        assert calls == [1]

    def test_requirements_choose_among_branches(self) -> None:
        class Branches(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[A]:
                return [A(n=n) for n in range(3)]

            @step
            async def ask(self, ctx: Context, ev: A) -> Result:
                answer = await ctx.wait_for_event(
                    HumanResponseEvent,
                    waiter_event=InputRequiredEvent(n=ev.n),
                    requirements={"n": ev.n},
                )
                return Result(n=answer.value)

            @step
            async def end(self, results: list[Result]) -> StopEvent:
                return StopEvent(result=[r.n for r in results])

        async def main() -> Any:
            handler = Branches().run()
            asked = []
            async for event in handler.stream_events():
                if isinstance(event, InputRequiredEvent):
                    asked.append(event.n)
                if len(asked) == 3:
                    break
            for n in (2, 0, 1):
                handler.ctx.send_event(HumanResponseEvent(n=n, value=10 * n))
            return await handler

        assert run_virtual(main()) == [20, 0, 10]

    def test_what_cannot_be_compared_does_not_fit(self) -> None:
        class Incomparable:
            def __eq__(self, other: object) -> bool:
                raise ValueError

            __hash__ = None  # type: ignore[assignment]

        class Waits(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
                got = await ctx.wait_for_event(HumanResponseEvent, requirements={"n": 5})
                return StopEvent(result=got.n)

        async def main() -> Any:
            handler = Waits().run()
            for _ in range(3):
                await asyncio.sleep(0)
            handler.ctx.send_event(HumanResponseEvent(n=Incomparable()))
            handler.ctx.send_event(HumanResponseEvent(n=5))
            return await handler

        assert run_virtual(main()) == 5

    def test_a_wait_leaves_the_worker_to_others(self) -> None:
        class Narrow(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[A]:
                return [A(n=n) for n in range(3)]

            @step(num_workers=1)
            async def ask(self, ctx: Context, ev: A) -> Result:
                if ev.n < 2:
                    await ctx.wait_for_event(B)
                    at_work.append(ev.n)
                    await asyncio.sleep(1)
                    assert at_work.pop() == ev.n  # one at a time also after the wait
                else:
                    ctx.send_event(B(n=1))
                return Result(n=ev.n)

            @step
            async def end(self, results: list[Result]) -> StopEvent:
                return StopEvent(result=sorted(r.n for r in results))

        at_work: list[int] = []
        narrow = Narrow(skip_graph_checks={"terminal_event"})
        assert run_virtual(_result(narrow)) == [0, 1, 2]

    def test_nobody_answers_in_time(self) -> None:
        class Impatient(Workflow):
            @step
            async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
                with pytest.raises(
                    TimeoutError, match="no HumanResponseEvent came within 5"
                ):
                    await ctx.wait_for_event(HumanResponseEvent, timeout=5)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(5):
                        await ctx.wait_for_event(HumanResponseEvent)
                return StopEvent(result=asyncio.get_running_loop().time())

        assert run_virtual(_result(Impatient())) == 10

    def test_who_gives_up_a_wait_goes_on_when_a_worker_is_free(self) -> None:
        class Narrow(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[A]:
                return [A(n=0), A(n=1)]

            @step(num_workers=1)
            async def work(self, ctx: Context, ev: A) -> Result:
                if ev.n == 0:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(5):
                            await ctx.wait_for_event(HumanResponseEvent)
                now = asyncio.get_running_loop().time
                began = now()
                await asyncio.sleep(8)
                times.append((began, now()))
                return Result(n=ev.n)

            @step
            async def end(self, results: list[Result]) -> StopEvent:
                return StopEvent(result=times)

        times: list[tuple[float, float]] = []
        assert run_virtual(_result(Narrow())) == [(0, 8), (8, 16)]

    def test_a_step_that_takes_the_awaited_event_too_is_not_called_with_it(self) -> None:
        class Both(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent | A) -> A | StopEvent:
                if isinstance(ev, A):
                    called.append(ev.n)
                got = await ctx.wait_for_event(A)
                return StopEvent(result=got.n)

        async def main() -> Any:
            handler = Both().run()
            for _ in range(3):
                await asyncio.sleep(0)
            handler.ctx.send_event(A(n=7))
            return await handler

        called: list[int] = []
        assert run_virtual(main()) == 7
        assert called == []

    def test_waits_at_once_for_one_type_have_an_answer_each(self) -> None:
        class Two(Workflow):
            @step
            async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
                one, other = await asyncio.gather(
                    ctx.wait_for_event(A), ctx.wait_for_event(A)
                )
                return StopEvent(result=(one.n, other.n))

        async def main() -> Any:
            handler = Two().run()
            for _ in range(3):
                await asyncio.sleep(0)
            handler.ctx.send_event(A(n=1))
            handler.ctx.send_event(A(n=2))
            return await handler

        assert run_virtual(main()) == (1, 2)

    def test_two_waits_at_once_in_one_step(self) -> None:
        class Two(Workflow):
            @step(num_workers=1)
            async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
                a, b = await asyncio.gather(ctx.wait_for_event(A), ctx.wait_for_event(B))
                return StopEvent(result=(a.n, b.n))

        async def main() -> Any:
            handler = Two().run()
            for _ in range(3):
                await asyncio.sleep(0)
            handler.ctx.send_event(B(n=2))
            await asyncio.sleep(1)
            assert not handler.is_done()
            handler.ctx.send_event(A(n=1))
            return await handler

        assert run_virtual(main()) == (1, 2)


class Inner(BaseModel):
    tags: list[str] = []


class Typed(BaseModel):
    count: int = 0
    inner: Inner = Inner()


class Wider(Typed):
    more: str = "more"


class TestState:
    def test_paths_reach_into_models_dictionaries_and_lists(self) -> None:
        async def main() -> None:
            store = InMemoryStateStore(DictState(user={"tags": ["a", "b"]}))
            assert await store.get("user.tags.1") == "b"
            await store.set("user.tags.0", "c")
            await store.set("user.address.city", "Wien")
            await store.set("items", [1])
            assert await store.get("items") == [1]
            assert await store.get("") == await store.get_state()
            assert (await store.get_state()).to_dict() == {
                "user": {"tags": ["c", "b"], "address": {"city": "Wien"}},
                "items": [1],
            }
            assert await store.get("user.nothing", default=None) is None
            with pytest.raises(ValueError, match=r"nothing at 'user.tags.9'"):
                await store.get("user.tags.9")
            with pytest.raises(ValueError, match="keys"):
                await store.get("keys")  # a method is no value
            with pytest.raises(UsageError, match=r"'user.tags.x' cannot be set"):
                await store.set("user.tags.x", 1)
            with pytest.raises(ValueError, match="must not be empty"):
                await store.set("", 1)
            typed = InMemoryStateStore(Typed())
            await typed.set("inner.tags", ["x"])
            assert (await typed.get_state()).inner.tags == ["x"]
            with pytest.raises(UsageError, match="'nope' cannot be set"):
                await typed.set("nope", 1)
            await typed.clear()
            assert await typed.get_state() == Typed()

        asyncio.run(main())

    def test_a_hundred_steps_at_once_lose_no_increment(self) -> None:
        class Adds(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[A]:
                return [A(n=n) for n in range(100)]

            @step(num_workers=100)
            async def add(self, ctx: Context[Typed], ev: A) -> Result:
                async with ctx.store.edit_state() as state:
                    count = state.count
                    await asyncio.sleep(0.01)
                    state.count = count + 1
                return Result(n=ev.n)

            @step
            async def end(self, ctx: Context[Typed], results: list[Result]) -> StopEvent:
                return StopEvent(result=await ctx.store.get("count"))

        assert run_virtual(_result(Adds())) == 100

    def test_an_edit_that_raises_leaves_no_trace(self) -> None:
        async def main() -> None:
            store = InMemoryStateStore(Typed())
            with pytest.raises(KeyError):
                async with store.edit_state() as state:
                    state.count = 5
                    state.inner.tags.append("x")
                    raise KeyError
            assert await store.get_state() == Typed()
            copy = await store.get_state()
            copy.inner.tags.append("y")
            assert await store.get_state() == Typed()

        asyncio.run(main())

    def test_what_cannot_be_copied_may_be_in_a_state(self) -> None:
        async def main() -> None:
            lock = asyncio.Lock()
            store = InMemoryStateStore(DictState(lock=lock, held=[lock]))
            async with store.edit_state() as state:
                state["n"] = 1
            assert await store.get("held.0") is lock

        asyncio.run(main())

    def test_waiting_for_oneself_is_refused(self) -> None:
        async def main() -> None:
            store = InMemoryStateStore(Typed())
            async with store.edit_state():
                with pytest.raises(
                    ContextStateError, match="change the state that the block"
                ):
                    await store.set("count", 1)
                assert await store.get("count") == 0

        asyncio.run(main())

    def test_a_state_takes_one_of_its_model_or_of_a_base(self) -> None:
        async def main() -> None:
            store = InMemoryStateStore(Wider())
            await store.set_state(Typed(count=3))  # type: ignore[arg-type]
            state = await store.get_state()
            assert (type(state), state.count, state.more) == (Wider, 3, "more")
            with pytest.raises(ValueError, match="cannot become a DictState"):
                await store.set_state(DictState())  # type: ignore[arg-type]

        asyncio.run(main())

    def test_a_state_that_needs_values_says_so(self) -> None:
        class Strict(BaseModel):
            key: str

        class Needs(Workflow):
            @step
            async def start(self, ctx: Context[Strict], ev: StartEvent) -> StopEvent:
                return StopEvent(result=await ctx.store.get("key"))

        with pytest.raises(
            WorkflowRuntimeError, match=r"Strict.*give all its fields defaults"
        ):
            asyncio.run(_result(Needs()))

    def test_helpers_find_the_context_of_the_step_they_are_called_in(self) -> None:
        async def helper() -> None:
            await Context.get_step_context().store.set("found", True)

        class Helped(Workflow):
            @step
            async def start(self, ev: StartEvent) -> StopEvent:
                await helper()
                return StopEvent(result=await Context.get_step_context().store.get("found"))

        assert run_virtual(_result(Helped())) is True
