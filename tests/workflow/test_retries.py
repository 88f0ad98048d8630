"""Failures: policies, handlers, and what they are told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from anabranch.testing import run_virtual
from anabranch.workflow import (
    Context,
    Event,
    RetryInfo,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Workflow,
    catch_error,
    step,
)
from anabranch.workflow.retry_policy import (
    ConstantDelayRetryPolicy,
    ExponentialBackoffRetryPolicy,
    RetryPolicy,
    retry_all,
    retry_always,
    retry_any,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_message,
    retry_if_not_exception_type,
    retry_never,
    retry_policy,
    retry_unless_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_before_delay,
    stop_never,
    wait_chain,
    wait_combine,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_full_jitter,
    wait_incrementing,
    wait_none,
    wait_random,
    wait_random_exponential,
)


class A(Event):
    n: int = 0


async def _result(flow: Workflow, **start: Any) -> Any:
    return await flow.run(**start)


def flaky(policy: RetryPolicy | None, failures: int, error: Exception) -> Workflow:
    class Flaky(Workflow):
        @step(retry_policy=policy)
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            info = ctx.retry_info()
            if info.retry_number < failures:
                raise error
            return StopEvent(result=info)

    return Flaky(timeout=None)


class TestPolicies:
    def test_a_step_is_tried_again_and_knows_what_went_before(self) -> None:
        error = ValueError("bad")
        policy = retry_policy(wait=wait_fixed(60), stop=stop_after_attempt(4))

        async def main() -> tuple[RetryInfo, float]:
            return await flaky(policy, 3, error).run(), asyncio.get_running_loop().time()

        info, seconds = run_virtual(main())
        assert seconds == 180
        assert (info.retry_number, round(info.elapsed_seconds, 6)) == (3, 180)
        assert info.last_exception is error
        assert isinstance(info.last_failed_at, datetime)
        assert info.last_failed_at.tzinfo is UTC

    def test_an_hour_of_retries_takes_a_moment(self) -> None:
        policy = retry_policy(wait=wait_exponential(max=600), stop=stop_after_delay(4000))

        async def main() -> float:
            with pytest.raises(ValueError, match="bad"):
                await flaky(policy, 99, ValueError("bad")).run()
            return asyncio.get_running_loop().time()

        assert run_virtual(main()) > 3600

    def test_without_a_policy_nothing_is_tried_again(self) -> None:
        with pytest.raises(ValueError, match="bad"):
            run_virtual(_result(flaky(None, 1, ValueError("bad"))))

    def test_any_object_with_next_is_a_policy(self) -> None:
        class Mine:
            def next(self, elapsed_time: float, attempts: int, error: Exception) -> Any:
                calls.append((elapsed_time, attempts, str(error)))
                return 5 if attempts < 3 else None

        calls: list[Any] = []
        with pytest.raises(ValueError, match="bad"):
            run_virtual(_result(flaky(Mine(), 99, ValueError("bad"))))
        assert [(round(s), n) for s, n, _ in calls] == [(0, 1), (5, 2), (10, 3)]

    def test_a_policy_that_fails_is_noted_on_the_steps_error(self) -> None:
        class Broken:
            def next(self, elapsed_time: float, attempts: int, error: Exception) -> Any:
                raise RuntimeError("policy broken")

        with pytest.raises(ValueError, match="bad") as caught:
            run_virtual(_result(flaky(Broken(), 1, ValueError("bad"))))
        assert "policy broken" in caught.value.__notes__[0]

    @pytest.mark.parametrize("answer", ["1", object(), -1, float("nan")])
    def test_one_that_gives_no_delay_is_too(self, answer: Any) -> None:
        class Odd:
            def next(self, elapsed_time: float, attempts: int, error: Exception) -> Any:
                return answer

        class Asynchronous:
            async def next(self, elapsed: float, attempts: int, error: Exception) -> Any:
                return 1

        for policy in (Odd(), Asynchronous()):
            given: Any = policy
            with pytest.raises(ValueError, match="bad") as caught:
                run_virtual(_result(flaky(given, 1, ValueError("bad"))))
            assert "no number of seconds" in caught.value.__notes__[0]

    def test_the_defaults_are_three_attempts_five_seconds_apart(self) -> None:
        policy = retry_policy()
        delays = [policy.next(0, n, ValueError()) for n in (1, 2, 3)]
        assert delays == [5, 5, None]

    def test_conditions_combine(self) -> None:
        def retries(condition: Any, error: Exception) -> bool:
            return retry_policy(condition).next(0, 1, error) is not None

        caused = ValueError("x")
        caused.__cause__ = KeyError()
        for condition, error, expected in (
            (retry_always, ValueError(), True),
            (retry_always(), ValueError(), True),
            (retry_never(), ValueError(), False),
            (lambda error: "x" in str(error), ValueError("x"), True),
            (retry_if_exception(lambda error: "y" in str(error)), ValueError("x"), False),
            (retry_if_exception_type(KeyError), ValueError(), False),
            (retry_if_exception_type((KeyError, ValueError)), ValueError(), True),
            (retry_if_not_exception_type(KeyError), ValueError(), True),
            (retry_unless_exception_type(ValueError), ValueError(), False),
            (retry_if_exception_message(match="x+"), ValueError("xx"), True),
            (retry_if_not_exception_message(message="x"), ValueError("x"), False),
            (retry_if_exception_cause_type(KeyError), caused, True),
            (retry_any(retry_never(), retry_always()), ValueError(), True),
            (retry_all(retry_never(), retry_always()), ValueError(), False),
            (
                retry_if_exception_type(ValueError)
                & retry_if_exception_message(message="x"),
                ValueError("x"),
                True,
            ),
            (retry_if_exception_type(KeyError) | retry_always(), ValueError(), True),
        ):
            assert retries(condition, error) is expected, condition

    def test_waits_combine(self) -> None:
        def delays(wait: Any) -> list[float]:
            policy = retry_policy(wait=wait, stop=stop_never())
            return [policy.next(0, n, ValueError()) or 0.0 for n in (1, 2, 3)]

        assert delays(wait_none()) == [0, 0, 0]
        assert delays(wait_exponential(multiplier=2, max=5)) == [2, 4, 5]
        assert delays(wait_exponential(1, 3, 30)) == [1, 3, 9]
        assert wait_exponential().max == wait_random_exponential().max == 60
        assert wait_exponential_jitter().max == 60
        assert delays(wait_incrementing(start=1, increment=2)) == [1, 3, 5]
        assert delays(wait_chain(wait_fixed(1), wait_fixed(9))) == [1, 9, 9]
        assert delays(wait_fixed(1) + wait_fixed(2)) == [3, 3, 3]
        assert delays(wait_combine(wait_fixed(1), wait_fixed(3))) == [4, 4, 4]
        assert delays(lambda retries: 10.0 * retries) == [0, 10, 20]
        for wait in (
            wait_random(1, 2),
            wait_random_exponential(max=2),
            wait_full_jitter(max=2),
            wait_exponential_jitter(max=2, jitter=0),
        ):
            assert all(0 <= delay <= 2 for delay in delays(wait))

    def test_stops_combine(self) -> None:
        def stops(stop: Any, elapsed: float, attempts: int) -> bool:
            return retry_policy(stop=stop).next(elapsed, attempts, ValueError()) is None

        assert stops(stop_after_delay(10), 10, 1)
        assert not stops(stop_after_delay(10), 9, 1)
        assert stops(stop_before_delay(10), 6, 1)  # the wait is 5 s
        assert not stops(stop_before_delay(10), 4, 1)
        assert stops(stop_any(stop_after_attempt(9), stop_after_delay(1)), 2, 1)
        assert not stops(stop_all(stop_after_attempt(9), stop_after_delay(1)), 2, 1)
        assert stops(stop_after_attempt(2) | stop_after_delay(9), 0, 2)
        assert not stops(stop_after_attempt(2) & stop_after_delay(9), 0, 2)
        assert not stops(stop_never, 1e9, 10**9)
        assert stops(lambda attempts, elapsed, upcoming_sleep: attempts > 3, 0, 4)

    def test_the_old_policies_are_here_and_deprecated(self) -> None:
        with pytest.warns(DeprecationWarning, match="retry_policy"):
            constant = ConstantDelayRetryPolicy(maximum_attempts=3, delay=7)
        assert [constant.next(0, n, ValueError()) for n in (1, 2, 3)] == [7, 7, None]
        with pytest.warns(DeprecationWarning, match="retry_policy"):
            growing = ExponentialBackoffRetryPolicy(jitter=False, maximum_attempts=4)
        assert [growing.next(0, n, ValueError()) for n in (1, 2, 3, 4)] == [1, 2, 4, None]
        with pytest.warns(DeprecationWarning, match="retry_policy"):
            drawn = ExponentialBackoffRetryPolicy()
        assert 0 <= (drawn.next(0, 1, ValueError()) or 0) <= 1

    def test_what_is_no_strategy_is_refused(self) -> None:
        with pytest.raises(ValueError, match="wait must be a strategy"):
            retry_policy(wait=5)  # type: ignore[arg-type]


def test_what_has_next_is_a_policy_to_isinstance() -> None:
    assert isinstance(retry_policy(), RetryPolicy)
    assert not isinstance(3, RetryPolicy)


class TestTimeouts:
    def test_a_slow_attempt_fails_and_is_tried_again(self) -> None:
        class Slow(Workflow):
            @step(timeout=3, retry_policy=retry_policy(wait=wait_fixed(1)))
            async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
                attempt = ctx.retry_info().retry_number
                await asyncio.sleep(10 if attempt < 2 else 2)
                return StopEvent(result=repr(ctx.retry_info().last_exception))

        async def main() -> tuple[Any, float]:
            return await Slow().run(), asyncio.get_running_loop().time()

        said, seconds = run_virtual(main())
        assert seconds == 3 + 1 + 3 + 1 + 2
        assert "step 'start' took longer than 3 s" in said

    def test_time_spent_waiting_for_an_event_does_not_count(self) -> None:
        class Asks(Workflow):
            @step(timeout=3)
            async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
                await asyncio.sleep(2)
                await ctx.wait_for_event(A)
                await asyncio.sleep(2)
                return StopEvent(result="ok")

        async def main() -> Any:
            handler = Asks().run()
            await asyncio.sleep(30)
            handler.ctx.send_event(A())
            return await handler

        assert run_virtual(main()) == "ok"

    def test_the_time_begins_anew_after_a_wait_and_not_before(self) -> None:
        class Asks(Workflow):
            @step(timeout=3)
            async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
                await asyncio.sleep(2)
                await ctx.wait_for_event(A)
                await asyncio.sleep(ev.seconds)
                return StopEvent(result="ok")

        async def main(seconds: float) -> Any:
            handler = Asks().run(seconds=seconds)
            await asyncio.sleep(2.5)
            handler.ctx.send_event(A())
            return await handler

        assert run_virtual(main(2)) == "ok"
        with pytest.raises(TimeoutError, match="longer than 3 s"):
            run_virtual(main(4))


class TestHandlers:
    def test_a_handler_is_told_everything(self) -> None:
        class Recovers(Workflow):
            @step(
                retry_policy=retry_policy(wait=wait_fixed(10), stop=stop_after_attempt(2))
            )
            async def start(self, ev: StartEvent) -> StopEvent:
                raise ValueError(ev.topic)

            @catch_error
            async def handle(self, ev: StepFailedEvent) -> StopEvent:
                return StopEvent(result=ev)

        told = run_virtual(_result(Recovers(), topic="x"))
        assert isinstance(told, StepFailedEvent)
        assert (told.step_name, told.attempts, round(told.elapsed_seconds)) == (
            "start",
            2,
            10,
        )
        assert isinstance(told.input_event, StartEvent)
        assert told.input_event.topic == "x"
        assert repr(told.exception) == "ValueError('x')"
        assert told.failed_at.tzinfo is UTC

    def test_scoped_handlers_come_before_the_one_for_all(self) -> None:
        class Scoped(Workflow):
            @step
            async def start(self, ev: StartEvent) -> A:
                if ev.fails == "start":
                    raise ValueError
                return A()

            @step
            async def work(self, ev: A) -> StopEvent:
                raise ValueError

            @catch_error(for_steps=["work"])
            async def for_work(self, ev: StepFailedEvent) -> StopEvent:
                return StopEvent(result=f"for_work: {ev.step_name}")

            @catch_error
            async def for_all(self, ev: StepFailedEvent) -> StopEvent:
                return StopEvent(result=f"for_all: {ev.step_name}")

        assert run_virtual(_result(Scoped(), fails="start")) == "for_all: start"
        assert run_virtual(_result(Scoped(), fails="work")) == "for_work: work"

    @pytest.mark.parametrize("budget", [1, 3])
    def test_a_line_of_events_is_recovered_so_often_and_no_more(self, budget: int) -> None:
        class Loops(Workflow):
            @step
            async def start(self, ev: StartEvent) -> A:
                return A()

            @step
            async def work(self, ev: A) -> StopEvent:
                raise ValueError(f"failure {ev.n}")

            @catch_error(max_recoveries=budget)
            async def again(self, ev: StepFailedEvent) -> A:
                assert isinstance(ev.input_event, A)
                return A(n=ev.input_event.n + 1)

        with pytest.raises(ValueError, match=f"failure {budget}"):
            run_virtual(_result(Loops()))

    def test_lines_have_budgets_of_their_own(self) -> None:
        class Lines(Workflow):
            @step
            async def start(self, ev: StartEvent) -> list[A]:
                return [A(n=n) for n in range(5)]

            @step
            async def work(self, ev: A) -> StopEvent:
                raise ValueError

            @catch_error
            async def give(self, ctx: Context, ev: StepFailedEvent) -> StopEvent | None:
                got = ctx.collect_events(ev, [StepFailedEvent] * 5)
                return None if got is None else StopEvent(result=len(got))

        assert run_virtual(_result(Lines())) == 5

    def test_what_a_handler_raises_fails_the_run(self) -> None:
        class Worse(Workflow):
            @step
            async def start(self, ev: StartEvent) -> StopEvent:
                raise ValueError("first")

            @catch_error
            async def handle(self, ev: StepFailedEvent) -> StopEvent:
                raise KeyError("second") from ev.exception

        with pytest.raises(KeyError, match="second") as caught:
            run_virtual(_result(Worse()))
        assert isinstance(caught.value.__cause__, ValueError)
