"""Whether a state that was read is one that the rules could have made.

A payload may be damaged or forged. What the machine takes for granted is seen to here, so
that a run fails when it is read and not, or never, when it goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Any, get_args

from anabranch.errors import ContextSerdeError
from anabranch.workflow.events import Event, StopEvent
from anabranch.workflow.plan import Plan, StepPlan
from anabranch.workflow.state import End, Execution, RunState, Scope, Status, Wait


def check(state: RunState, plan: Plan) -> None:
    """See to it that a state holds together.

    Raises:
        ContextSerdeError: It does not; the sentence says where.
    """
    _need(type(state.run_id) is str, "run_id")
    _need(_is_time(state.now), "now")
    for name in ("began_at", "deadline", "timeout"):
        _need(_is_time(getattr(state, name), optional=True), name)
    _need(state.began_at is not None or not state.executions, "began_at")
    if state.began_at is not None:
        _need(state.began_at <= state.now, "now")
        _need((state.deadline is None) is (state.timeout is None), "deadline")
        most_s = (state.deadline or 0.0) - state.now - (state.timeout or 0.0)
        _need(state.deadline is None or most_s < 1e-3, "deadline")  # but for rounding
    numbers = {*state.executions, *state.scopes}
    _need(all(type(number) is int and number > 0 for number in numbers), "numbers")
    _need(not state.executions.keys() & state.scopes.keys(), "numbers")
    _need(type(state.last_id) is int, "last_id")
    _need(state.last_id >= max(numbers, default=0), "last_id")
    inside = Counter(e.scope for e in state.executions.values())
    inside.update(scope.outer for scope in state.scopes.values())
    for number, scope in state.scopes.items():
        _check_scope(number, scope, state)
        _need(scope.open == inside[number] > 0, "scopes")
    waiting = Counter(key[0] for waits in state.waits.values() for key in waits)
    for execution in state.executions.values():
        _check_execution(execution, plan.steps[execution.step], state)
        _need(execution.pending == waiting[execution.id], "waits")
    for waits in state.waits.values():
        for wait in waits.values():
            _check_wait(wait, state)
    _check_lanes(state)
    for kinds in state.buffers.values():
        _need(all(map(_are_events, kinds.values())), "buffers")
    for (name, held_in), slots in state.joins.items():
        step = plan.steps.get(name)
        _need(step is not None and step.trigger == "join", "joins")
        _need(len(slots) == len(step.accepts if step else ()), "joins")
        _need(all(map(_are_events, slots)) and _is_scope(held_in, state), "joins")
    _need(state.mail is None or _are_sent(state.mail), "mail")
    if state.outcome is not None:
        _need(state.outcome.end in get_args(End), "outcome")
        _need(_is(StopEvent, state.outcome.event), "outcome")


def _check_scope(number: int, scope: Scope, state: RunState) -> None:
    # An outer one has a smaller number, so there are no circles.
    _need(_is_scope(scope.outer, state) and scope.outer < number, "scopes")
    _need(type(scope.cause) is int and _are_counts(scope.recoveries), "scopes")
    _need(all(map(_are_events, _values(scope.joined))), "scopes")


def _check_execution(execution: Execution, step: StepPlan, state: RunState) -> None:
    e = execution
    _need(_are_events(e.events), "executions")
    expected = {"each": 1, "join": len(step.accepts), "collect": len(e.events)}
    _need(len(e.events) == expected[step.trigger], "executions")
    _need(_is_scope(e.scope, state) and type(e.cause) is int, "executions")
    _need(_are_counts(e.recoveries), "executions")
    _need(e.status in get_args(Status), "executions")
    _need(type(e.attempt) is int and e.attempt >= 0, "executions")
    for time in (e.began_at, e.failed_at):
        _need(_is_time(time, optional=True), "executions")
    _need(_is_time(e.due_at, optional=e.status != "backoff"), "executions")
    _need(e.error is None or _is(BaseException, e.error), "executions")
    for sent in (e.sent, e.unmatched):
        _need(sent is None or _are_sent(sent), "executions")
    _need(all(map(_are_events, _values(e.taken))), "executions")
    _need(e.given is None or type(e.given) is set, "executions")
    _need(e.done is None or _are_counts(e.done), "executions")
    _need(e.memos is None or type(e.memos) is dict, "executions")
    answers = _values(e.answers)
    _need(all(answer is None or isinstance(answer, Event) for answer in answers), "answers")
    _need(e.status != "waiting" or e.pending > 0, "waits")


def _check_wait(wait: Wait, state: RunState) -> None:
    _need(wait.execution in state.executions and type(wait.key) is str, "waits")
    kind: Any = wait.kind
    _need(isinstance(kind, type) and issubclass(kind, Event), "waits")
    _need(_is(Mapping, wait.requirements), "waits")
    _need(_is_time(wait.deadline, optional=True), "waits")


def _check_lanes(state: RunState) -> None:
    queued = [n for lane in state.lanes.values() for n in lane.queue or ()]
    woken = [n for lane in state.lanes.values() for n, _ in lane.woken or ()]
    for name, numbers in (("queued", queued), ("woken", woken)):
        there = [e.id for e in state.executions.values() if e.status == name]
        _need(sorted(numbers) == sorted(there), "lanes")
    for name, lane in state.lanes.items():
        waiting = [*(lane.queue or ()), *(n for n, _ in lane.woken or ())]
        _need(all(state.executions[n].step == name for n in waiting), "lanes")


def _need(holds: bool, where: str) -> None:
    if not holds:
        raise ContextSerdeError(
            f"a payload is damaged: what it has as {where!r} cannot be; use one that is as "
            "to_dict gave it"
        )


def _is(kind: Any, value: object) -> bool:
    return isinstance(value, kind)


def _is_time(value: object, *, optional: bool = False) -> bool:
    if value is None:
        return optional
    return type(value) in (int, float) and isfinite(value)  # type: ignore[arg-type]


def _is_scope(value: object, state: RunState) -> bool:
    return type(value) is int and (value == 0 or value in state.scopes)


def _are_events(value: Any) -> bool:
    return all(isinstance(event, Event) for event in value)


def _are_sent(value: Any) -> bool:
    return all(
        isinstance(event, Event) and (step is None or type(step) is str)
        for event, step in value
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(type(n) is int for n in _values(value))


def _values(value: Any) -> list[Any]:
    return [] if value is None else list(value.values())
