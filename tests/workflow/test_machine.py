"""The rules of a run, without an event loop: plain calls, and random histories."""

from __future__ import annotations

import random
from typing import Annotated, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anabranch.errors import ContextSerdeError
from anabranch.workflow import (
    Collect,
    Event,
    HumanResponseEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from anabranch.workflow.codec import MIGRATIONS, VERSION, up_to_date
from anabranch.workflow.engine import engine_of
from anabranch.workflow.facts import (
    Began,
    Cancelled,
    Collected,
    Ended,
    Fact,
    Failed,
    Fired,
    Publish,
    Received,
    Retried,
    Returned,
    Sent,
    SetTimer,
    Start,
    Unhandled,
    Waited,
    Wake,
)
from anabranch.workflow.machine import Machine
from anabranch.workflow.state import RunState
from tests.workflow.histories import CODEC, PLAN, History


class A(Event):
    n: int = 0


class B(Event):
    n: int = 0


class Two(Workflow):
    @step
    async def first(self, ev: StartEvent) -> A | list[A] | None:
        raise NotImplementedError

    @step(num_workers=2)
    async def second(self, ev: A) -> B | StopEvent | None:
        raise NotImplementedError

    @step
    async def last(self, events: Annotated[list[B], Collect()]) -> StopEvent:
        raise NotImplementedError


def machine(timeout: float | None = None) -> Machine:
    made = Machine(engine_of(Two()).plan, RunState("r"))
    made.apply(Began(0.0, StartEvent(), timeout))
    return made


def started(commands: list[Any]) -> list[tuple[str, int]]:
    return [(c.execution.step, c.execution.id) for c in commands if isinstance(c, Start)]


class TestPlainCalls:
    def test_a_start_event_starts_the_first_step(self) -> None:
        run = Machine(engine_of(Two()).plan, RunState("r"))
        assert started(run.apply(Began(0.0, StartEvent(), None))) == [("first", 1)]

    def test_what_a_step_returns_starts_the_next(self) -> None:
        run = machine()
        assert started(run.apply(Returned(1.0, 1, 1, [A()]))) == [("second", 2)]

    def test_a_stop_event_ends_the_run(self) -> None:
        run = machine()
        event = StopEvent(result=1)
        commands = run.apply(Returned(1.0, 1, 1, [event]))
        assert [type(c) for c in commands] == [Publish, Ended]
        assert run.state.outcome is not None
        assert run.state.outcome.event is event

    def test_a_step_has_no_more_executions_at_work_than_workers(self) -> None:
        run = machine()
        commands = run.apply(Returned(1.0, 1, 1, [A(n=n) for n in range(4)], fans_out=True))
        first = started(commands)
        assert len(first) == 2
        commands = run.apply(Returned(2.0, first[0][1], 1, [B()]))
        assert len(started(commands)) == 1

    def test_a_list_is_joined_when_all_its_branches_have_ended(self) -> None:
        run = machine()
        run.apply(Returned(1.0, 1, 1, [A(), A(), A()], fans_out=True))
        numbers = sorted(run.state.executions)
        for number, output in zip(numbers[:2], ([B(n=1)], []), strict=True):
            assert ("last", 6) not in started(run.apply(Returned(2.0, number, 1, output)))
        commands = run.apply(Returned(3.0, numbers[2], 1, [B(n=3)]))
        [(name, number)] = started(commands)
        assert name == "last"
        assert run.state.executions[number].events == [B(n=1), B(n=3)]

    def test_an_empty_list_is_joined_at_once(self) -> None:
        run = machine()
        [(name, number)] = started(run.apply(Returned(1.0, 1, 1, [], fans_out=True)))
        assert (name, run.state.executions[number].events) == ("last", [])

    def test_a_failure_is_tried_again_when_its_timer_rings(self) -> None:
        run = machine()
        [timer] = run.apply(Failed(1.0, 1, 1, ValueError(), 10.0))
        assert timer == SetTimer(("retry", 1), 11.0)
        [start] = run.apply(Fired(11.0, ("retry", 1)))
        assert isinstance(start, Start)
        assert start.execution.attempt == 2

    def test_a_failure_for_good_fails_the_run_with_the_same_error(self) -> None:
        run = machine()
        error = ValueError("no")
        run.apply(Failed(1.0, 1, 1, error, None))
        assert run.state.outcome is not None
        assert run.state.outcome.error is error

    def test_the_result_of_an_earlier_attempt_comes_too_late(self) -> None:
        run = machine()
        run.apply(Failed(1.0, 1, 1, ValueError(), 0.0))
        assert run.apply(Returned(2.0, 1, 1, [A()])) == []
        assert started(run.apply(Returned(3.0, 1, 2, [A()]))) == [("second", 2)]

    def test_a_waiting_execution_leaves_its_worker_to_others(self) -> None:
        run = machine()
        run.apply(Returned(1.0, 1, 1, [A(), A(), A()], fans_out=True))
        first, _, third = sorted(run.state.executions)
        wait = Waited(2.0, first, "w", HumanResponseEvent, {}, None, None)
        assert started(run.apply(wait)) == [("second", third)]
        # Both workers are taken: who has its answer waits for one of them.
        assert run.apply(Sent(3.0, HumanResponseEvent(), None, None)) == []
        [wake] = run.apply(Returned(4.0, third, 1, []))
        assert isinstance(wake, Wake)
        assert wake.execution.id == first

    def test_who_completed_a_set_and_is_tried_again_has_that_set_and_no_other(self) -> None:
        run = machine()
        run.apply(Returned(1.0, 1, 1, [A(n=n) for n in range(4)], fans_out=True))
        one, two, *_ = sorted(run.state.executions)
        kinds: list[type[Event]] = [A, A]
        run.apply(Collected(2.0, one, "b", A(n=1), kinds))
        run.apply(Collected(2.0, two, "b", A(n=2), kinds))
        run.apply(Failed(3.0, two, 1, ValueError(), 9.0))
        run.apply(Returned(4.0, one, 1, []))
        for number, n in (
            (max(run.state.executions) - 1, 3),
            (max(run.state.executions), 4),
        ):
            run.apply(Collected(5.0, number, "b", A(n=n), [A, A, A]))
        run.apply(Fired(12.0, ("retry", two)))
        run.apply(Collected(13.0, two, "b", A(n=2), kinds))
        taken = run.state.executions[two].taken
        assert taken == {"b": [A(n=1), A(n=2)]}

    def test_time_runs_out_and_names_the_steps_at_work(self) -> None:
        run = machine(timeout=10.0)
        run.apply(Fired(10.0, ("run",)))
        assert run.state.outcome is not None
        assert run.state.outcome.event.active_steps == ["first"]

    def test_an_event_that_nobody_takes_is_told_to_who_watches(self) -> None:
        run = machine()
        run.watched = True
        [told] = run.apply(Sent(1.0, B(n=7), None, None))
        assert told == Unhandled(B(n=7), None, idle=False)


class TestVersions:
    def test_a_payload_of_a_newer_or_unknown_format_is_refused(self) -> None:
        for version, said in ((VERSION + 1, "newer"), (0, "too old")):
            with pytest.raises(ContextSerdeError, match=said):
                up_to_date({"version": version, "machine": {}})
        with pytest.raises(ContextSerdeError, match="another library"):
            up_to_date({"version": 2, "workers": {}})

    def test_an_older_payload_is_migrated_step_by_step(self, monkeypatch: Any) -> None:
        steps = {
            version: lambda data, v=version: {**data, "seen": [*data["seen"], v]}
            for version in (VERSION - 2, VERSION - 1)
        }
        monkeypatch.setattr("anabranch.workflow.codec.MIGRATIONS", {**MIGRATIONS, **steps})
        data = up_to_date({"version": VERSION - 2, "machine": {}, "seen": []})
        assert data["seen"] == [VERSION - 2, VERSION - 1]


# ------------------------------------------------------------------- properties


def history(seed: int, length: int) -> History:
    # One number for all choices: drawing each from Hypothesis costs ten times the run.
    made = History(random.Random(seed).randrange)
    made.go_on(length)
    return made


HISTORIES = st.builds(history, st.integers(0), st.integers(1, 80))
PLACES = st.floats(0, 1)


def replayed(facts: list[Fact], state: RunState | None = None) -> dict[str, Any]:
    run = Machine(PLAN, state or RunState("r"))
    for fact in facts:
        run.apply(CODEC.read_fact(CODEC.write_fact(fact)))
    return CODEC.write(run.state)


@given(HISTORIES, PLACES)
def test_any_prefix_of_a_history_replays_to_the_same_state(
    made: History, place: float
) -> None:
    end = 1 + int(place * (len(made.facts) - 1))
    assert replayed(made.facts[:end]) == made.written[end - 1]


@example(history(116136, 16), 1.0)  # a buffer with kinds of which it holds no event
@given(HISTORIES, PLACES)
def test_a_snapshot_and_the_facts_behind_it_give_the_same_state(
    made: History, place: float
) -> None:
    end = 1 + int(place * (len(made.facts) - 1))
    state = CODEC.read(made.written[end - 1], PLAN)
    assert CODEC.write(state) == made.written[end - 1]
    assert replayed(made.facts[end:], state) == made.written[-1]


@given(HISTORIES)
def test_no_step_ever_has_more_executions_at_work_than_workers(made: History) -> None:
    for fact, written in zip(made.facts, made.written, strict=True):
        state = CODEC.read(written, PLAN)
        if isinstance(fact, Retried):
            continue  # nobody has taken it up yet
        for name, plan in PLAN.steps.items():
            running = [
                e
                for e in state.executions.values()
                if e.step == name and e.status == "running"
            ]
            lane = state.lanes[name]
            assert len(running) <= plan.num_workers
            waiting = state.outcome is None and (lane.queue or lane.woken)
            assert len(running) == plan.num_workers or not waiting
    for name, lane in made.machine.state.lanes.items():
        live = [
            e
            for e in made.machine.state.executions.values()
            if e.step == name and e.status == "running"
        ]
        assert lane.running == len(live)


def effects(written: dict[str, Any]) -> dict[str, Any]:
    """A state but for its time, and what is remembered of sends."""
    executions = [
        {name: value for name, value in execution.items() if name != "sent"}
        for execution in written["executions"]
    ]
    return {**written, "now": 0, "executions": executions}


@given(HISTORIES)
def test_every_event_that_is_sent_is_taken_waited_for_or_reported(made: History) -> None:
    for fact, commands, before, after in zip(
        made.facts[1:], made.commands[1:], made.written, made.written[1:], strict=False
    ):
        if not isinstance(fact, Sent) or before["outcome"] is not None:
            continue
        told = any(isinstance(command, Unhandled) for command in commands)
        assert told != (effects(before) != effects(after))


@given(HISTORIES)
def test_every_event_from_outside_is_taken_waited_for_or_kept(made: History) -> None:
    for fact, commands, before, after in zip(
        made.facts[1:], made.commands[1:], made.written, made.written[1:], strict=False
    ):
        if isinstance(fact, Received) and before["outcome"] is None:
            assert not any(isinstance(command, Unhandled) for command in commands)
            assert effects(before) != effects(after)


@given(HISTORIES)
def test_nothing_changes_a_run_that_is_over(made: History) -> None:
    if made.machine.state.outcome is None:
        made.machine.apply(Cancelled(made.now))
    over = CODEC.write(made.machine.state)
    for fact in made.facts:
        if not isinstance(fact, Retried):
            assert made.machine.apply(fact) == []
    assert CODEC.write(made.machine.state) == over


@given(HISTORIES)
def test_scopes_count_what_is_in_them(made: History) -> None:
    state = made.machine.state
    for number, scope in state.scopes.items():
        inside = [e for e in state.executions.values() if e.scope == number]
        below = [s for s in state.scopes.values() if s.outer == number]
        assert scope.open == len(inside) + len(below)
        assert scope.open > 0


@given(HISTORIES)
def test_a_run_left_to_itself_becomes_idle_or_ends(made: History) -> None:
    """When every body returns nothing, no execution is forgotten."""
    made.draw = lambda _options: 0
    for _ in range(500):
        number = made._body()
        state = made.machine.state
        if number is not None:
            attempt = made.bodies.pop(number)
            made.tell(Returned(0, number, attempt, []))
        elif retries := [e for e in state.executions.values() if e.status == "backoff"]:
            made.tell(Fired(0, ("retry", retries[0].id)))
        else:
            break
    state = made.machine.state
    if state.outcome is not None:
        return
    assert state.idle
    assert all(e.status == "waiting" for e in state.executions.values())
    held = {e.scope for e in state.executions.values()}
    while held & state.scopes.keys() and not held >= {
        state.scopes[n].outer for n in held if n in state.scopes
    }:
        held |= {state.scopes[n].outer for n in held if n in state.scopes}
    assert state.scopes.keys() <= held
