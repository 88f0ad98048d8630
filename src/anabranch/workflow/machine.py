"""The rules of a run: a state and a fact give the next state and commands.

Nothing here awaits, reads a clock, draws a number or knows a step's function. The same
rules serve a live run and one that is read back from its journal. A fact costs the same
however much has happened before: no history is kept, and no state copied.

One module, though long: each rule may end in any other. :meth:`Machine._rule` is the table.

What holds after every fact:

* a step has at most ``num_workers`` executions running, and none waits for a worker while
  one is free;
* an execution ends once: returned, given up to a handler, or gone with the run;
* a scope ends when all in it has, and each of its collecting steps was called once;
* an event that was sent is taken by a step, or by who waits for it, or told as unhandled;
* when the run has ended, no fact changes anything; but one that ended without a result
  keeps what was under way, and :class:`~anabranch.workflow.facts.Retried` lets it go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from anabranch.workflow.context.paths import MISSING, edited
from anabranch.workflow.events import (
    Event,
    StepFailedEvent,
    StepState,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)
from anabranch.workflow.facts import (
    Began,
    Cancelled,
    Changed,
    Collected,
    Command,
    DropTimer,
    Edited,
    Ended,
    Fact,
    Failed,
    Fired,
    Idle,
    Interrupt,
    Publish,
    Received,
    Remembered,
    Resumed,
    Retried,
    Returned,
    Sent,
    SetTimer,
    Start,
    Unhandled,
    Waited,
    Wake,
    Written,
)
from anabranch.workflow.plan import Plan, StepPlan
from anabranch.workflow.state import (
    NO_RECOVERIES,
    Execution,
    Lane,
    Outcome,
    RunState,
    Scope,
    Wait,
)

RUN_TIMER: Final = ("run",)


class Machine:
    """One run's rules, with its state.

    Attributes:
        watched: Whether to tell of changes that only who watches cares for.
    """

    __slots__ = ("_out", "plan", "state", "watched")

    def __init__(self, plan: Plan, state: RunState) -> None:
        self.plan = plan
        self.state = state
        self.watched = False
        self._out: list[Command] = []
        for name in plan.steps:
            state.lanes.setdefault(name, Lane())

    def apply(self, fact: Fact) -> list[Command]:
        """Change the state by a fact, and say what is to be done."""
        state = self.state
        out: list[Command] = []
        self._out = out
        if state.outcome is not None and not isinstance(fact, Retried):
            return out
        state.now = max(state.now, fact.at)
        self._rule(fact)
        idle = state.active == 0
        if idle is not state.idle:
            state.idle = idle
            if idle and self.watched and state.outcome is None:
                out.append(Idle())
        return out

    def _rule(self, fact: Fact) -> None:
        match fact:
            case Returned():
                self._returned(fact)
            case Sent():
                self._sent(fact)
            case Collected():
                self._collected(fact)
            case Failed():
                self._failed(fact)
            case Waited():
                self._waited(fact)
            case Fired():
                self._fired(fact)
            case Edited():
                store, path = self.state.store, fact.path
                value = MISSING if fact.gone else fact.value
                self.state.store = edited(store, path, value)
            case Written():
                self._out.append(Publish(fact.event))
            case Received():
                self._received(fact)
            case Remembered():
                self._remembered(fact)
            case _:
                self._rule_of_run(fact)

    def _rule_of_run(self, fact: Fact) -> None:
        match fact:
            case Began():
                self._began(fact)
            case Retried():
                self._retried()
            case Resumed():
                self._resumed(fact)
            case Cancelled():
                self._end(Outcome("cancelled", WorkflowCancelledEvent()))
            case _:  # Adopted: who reads a journal changes plans
                pass

    def break_off(self) -> list[Command]:
        """End the run because of something outside it, whatever its state."""
        self._out = []
        self._end(Outcome("cancelled", WorkflowCancelledEvent()))
        return self._out

    def takes(self, event: Event) -> bool:
        """Whether anybody is there for an event."""
        route = self.plan.route(type(event))
        waits = self.state.waits
        return route.ends or bool(route.steps) or any(base in waits for base in route.bases)

    # ------------------------------------------------------------ begin and end

    def _began(self, fact: Began) -> None:
        state = self.state
        state.began_at = state.now
        state.timeout = fact.timeout
        if fact.store is not None:
            state.store = fact.store
        if fact.timeout is not None:
            state.deadline = state.now + fact.timeout
            self._out.append(SetTimer(RUN_TIMER, state.deadline))
        self._emit(fact.event, None)

    def _resumed(self, fact: Resumed) -> None:
        """What was under way begins anew; what had ended or waits is left as it is.

        Time in which nobody drove the run does not count.
        """
        state, out = self.state, self._out
        if state.deadline is not None:
            state.deadline += fact.away_s
            out.append(SetTimer(RUN_TIMER, state.deadline))
        for lane in state.lanes.values():
            lane.running = 0
        for execution in state.executions.values():
            if execution.sent:
                execution.unmatched = execution.sent.copy()
            if execution.status == "backoff":
                assert execution.due_at is not None
                out.append(SetTimer(("retry", execution.id), execution.due_at))
            elif execution.status == "running":
                self._let_go_on(execution, "")
            elif execution.status == "waiting" and execution.answers:
                # It had gone on behind an earlier wait, perhaps beside this one.
                state.active += 1
                self._let_go_on(execution, next(iter(execution.answers)))
        for step in self.plan.steps.values():
            self._next(step)
        for waits in state.waits.values():
            for wait in waits.values():
                if wait.deadline is not None:
                    wait.deadline += fact.away_s if fact.stood_still else 0.0
                    out.append(SetTimer(("wait", wait.execution, wait.key), wait.deadline))

    def _retried(self) -> None:
        """Go on as if the run had not ended; who takes it up begins what was under way."""
        state = self.state
        if state.outcome is None or state.outcome.end == "completed":
            return
        state.outcome = None
        state.active = sum(e.status != "waiting" for e in state.executions.values())
        if state.timeout is not None:
            state.deadline = state.now + state.timeout

    def _end(self, outcome: Outcome) -> None:
        state = self.state
        state.outcome = outcome
        state.active = 0
        self._out.append(Publish(outcome.event))
        self._out.append(Ended(outcome))
        if outcome.end != "completed":
            return
        state.mail = None
        for held in (
            state.executions,
            state.scopes,
            state.waits,
            state.buffers,
            state.joins,
        ):
            held.clear()
        state.lanes = {name: Lane() for name in state.lanes}

    # --------------------------------------------------------- executions begin

    def _queue(
        self,
        step: StepPlan,
        events: list[Event],
        cause: int,
        scope: int,
        recoveries: Mapping[str, int],
    ) -> None:
        state = self.state
        state.last_id += 1
        execution = Execution(state.last_id, step.name, events, scope, cause, recoveries)
        state.executions[execution.id] = execution
        state.active += 1
        if scope:
            state.scopes[scope].open += 1
        self._enqueue(step, execution)

    def _enqueue(self, step: StepPlan, execution: Execution) -> None:
        lane = self.state.lanes[step.name]
        if lane.running < step.num_workers:
            self._start(step, lane, execution)
            return
        execution.status = "queued"
        if lane.queue is None:
            lane.queue = deque()
        lane.queue.append(execution.id)
        if self.watched:
            self._out.append(Changed(execution, StepState.PREPARING))

    def _start(self, step: StepPlan, lane: Lane, execution: Execution) -> None:
        lane.running += 1
        execution.attempt += 1
        if execution.began_at is None:
            execution.began_at = self.state.now
        self._again(step, execution)

    def _again(self, step: StepPlan, execution: Execution) -> None:
        execution.status = "running"
        if execution.sent:
            execution.unmatched = execution.sent.copy()
        self._out.append(Start(execution))
        if step.timeout is not None:
            self._time(step, execution)
        if self.watched:
            self._out.append(Changed(execution, StepState.RUNNING))

    def _time(self, step: StepPlan, execution: Execution) -> None:
        assert step.timeout is not None
        key = ("step", execution.id, execution.attempt)
        self._out.append(SetTimer(key, self.state.now + step.timeout))

    def _release(self, step: StepPlan, execution: Execution) -> None:
        """Take the worker from an execution that no longer runs."""
        self.state.lanes[step.name].running -= 1
        if step.timeout is not None:
            self._out.append(DropTimer(("step", execution.id, execution.attempt)))

    def _next(self, step: StepPlan) -> None:
        """Give workers that are free to who waits for one: who has begun, first."""
        state = self.state
        lane = state.lanes[step.name]
        while lane.running < step.num_workers and state.outcome is None:
            if lane.woken:
                number, key = lane.woken.popleft()
                self._go_on(step, lane, state.executions[number], key)
            elif lane.queue:
                self._start(step, lane, state.executions[lane.queue.popleft()])
            else:
                break

    # ----------------------------------------------------------- executions end

    def _live(self, number: int, attempt: int) -> Execution | None:
        """The execution, unless that attempt of it has ended."""
        execution = self.state.executions.get(number)
        if execution is None or execution.attempt != attempt:
            return None
        return execution if execution.status in ("running", "waiting", "woken") else None

    def _returned(self, fact: Returned) -> None:
        execution = self._live(fact.execution, fact.attempt)
        if execution is None:
            return
        state = self.state
        step = self.plan.steps[execution.step]
        self._leave(step, execution)
        if self.watched:
            output = fact.events[0] if fact.events else None
            self._out.append(Changed(execution, StepState.NOT_RUNNING, output))
        if fact.fans_out and step.collectors:
            self._fan_out(execution, fact)
        else:
            for event in fact.events:
                self._emit(event, execution)
        if state.outcome is not None:
            return
        if execution.scope:
            self._close(execution.scope)
        self._next(step)

    def _leave(self, step: StepPlan, execution: Execution) -> None:
        """Take an execution out of everything, whatever it was doing."""
        state = self.state
        if execution.status == "running":
            self._release(step, execution)
        elif execution.status == "woken":
            lane = state.lanes[step.name]
            assert lane.woken is not None
            lane.woken = deque(item for item in lane.woken if item[0] != execution.id)
        if execution.pending:
            self._forget_waits(execution)
        if execution.status != "waiting":
            state.active -= 1
        del state.executions[execution.id]

    def _failed(self, fact: Failed) -> None:
        execution = self._live(fact.execution, fact.attempt)
        if execution is None:
            return
        step = self.plan.steps[execution.step]
        self._leave(step, execution)
        execution.error = fact.error
        execution.failed_at = fact.at
        if self.watched:
            self._out.append(Changed(execution, StepState.NOT_RUNNING))
        if fact.retry_s is not None:
            self.state.executions[execution.id] = execution
            self.state.active += 1
            self._back_off(step, execution, fact.retry_s)
        else:
            self._give_up(step, execution, fact)
        if self.state.outcome is None:
            self._next(step)

    def _back_off(self, step: StepPlan, execution: Execution, delay_s: float) -> None:
        if delay_s <= 0:
            self._enqueue(step, execution)
            return
        execution.status = "backoff"
        execution.due_at = self.state.now + delay_s
        self._out.append(SetTimer(("retry", execution.id), execution.due_at))

    def _give_up(self, step: StepPlan, execution: Execution, fact: Failed) -> None:
        """Call the handler if there is one and it has not been called too often."""
        began_at = fact.at if execution.began_at is None else execution.began_at
        elapsed_s = max(0.0, fact.at - began_at)
        handler = None if step.handler is None else self.plan.steps[step.handler]
        spent = execution.recoveries.get(handler.name, 0) if handler else 0
        error = fact.error
        if (
            handler is None
            or spent >= handler.max_recoveries
            or not isinstance(error, Exception)
        ):
            event: StopEvent = WorkflowFailedEvent.model_construct(
                step_name=step.name,
                exception=cast("Exception", error),
                attempts=execution.attempt,
                elapsed_seconds=elapsed_s,
            )
            self._keep(execution)
            self._end(Outcome("failed", event, error))
            return
        failed = StepFailedEvent(
            step_name=step.name,
            input_event=execution.events[0] if execution.events else None,
            exception=error,
            attempts=execution.attempt,
            elapsed_seconds=elapsed_s,
            failed_at=datetime.fromtimestamp(fact.at, UTC),
        )
        recoveries = {**execution.recoveries, handler.name: spent + 1}
        self._queue(handler, [failed], execution.id, execution.scope, recoveries)
        if execution.scope:
            self._close(execution.scope)

    def _keep(self, execution: Execution) -> None:
        """Have an execution that was given up ready to be tried, should the run go on."""
        execution.status = "queued"
        self.state.executions[execution.id] = execution
        lane = self.state.lanes[execution.step]
        if lane.queue is None:
            lane.queue = deque()
        lane.queue.appendleft(execution.id)

    # ------------------------------------------------------------ events travel

    def _emit(
        self,
        event: Event,
        by: Execution | None,
        target: str | None = None,
        *,
        is_kept: bool = False,
    ) -> bool:
        """Bring an event to everybody it is for; whether there was anybody."""
        if self.state.outcome is not None:
            return True
        route = self.plan.route(type(event))
        if route.ends:
            self._end(Outcome("completed", cast("StopEvent", event)))
            return True
        if route.asks:
            self._out.append(Publish(event))
        # A step that was waiting for the event is not called with it as well.
        woken = self._answer(event, route.bases, target) if self.state.waits else ()
        taken = bool(woken)
        cause, scope, recoveries = (
            (0, 0, NO_RECOVERIES) if by is None else (by.id, by.scope, by.recoveries)
        )
        for step in route.steps:
            if (target is not None and step.name != target) or step.name in woken:
                continue
            if step.trigger == "each":
                self._queue(step, [event], cause, scope, recoveries)
            elif step.trigger == "join":
                self._join(step, event, cause, scope, recoveries)
            elif not self._gather(step, event, scope):
                continue
            taken = True
        if not taken and not route.asks and not is_kept and self.watched:
            self._out.append(Unhandled(event, target, self.state.active == 0))
        return taken or route.asks

    def _sent(self, fact: Sent) -> None:
        by = None if fact.by is None else self.state.executions.get(fact.by)
        if by is None or fact.drafted or _is_new(by, fact.event, fact.step):
            self._emit(fact.event, by, fact.step)

    def _received(self, fact: Received) -> None:
        if not self._emit(fact.event, None, fact.step, is_kept=True):
            state = self.state
            state.mail = [*(state.mail or ()), (fact.event, fact.step)]

    def _remembered(self, fact: Remembered) -> None:
        execution = self.state.executions.get(fact.execution)
        if execution is None:
            return
        execution.memos = {fact.key: fact.value, **(execution.memos or {})}
        execution.done = fact.done
        self._out.append(Wake(execution, fact.key))

    def _join(
        self,
        step: StepPlan,
        event: Event,
        cause: int,
        scope: int,
        recoveries: Mapping[str, int],
    ) -> None:
        """Call the step once there is an event for each of its parameters."""
        key = (step.name, scope)
        slots = self.state.joins.get(key)
        if slots is None:
            slots = self.state.joins[key] = [deque[Event]() for _ in step.accepts]
        kind = type(event)
        index = next(
            i
            for i, accepted in enumerate(step.accepts)
            if kind is accepted or (step.subclasses and issubclass(kind, accepted))
        )
        slots[index].append(event)
        if all(slots):
            events = [slot.popleft() for slot in slots]
            if not any(slots):
                del self.state.joins[key]
            self._queue(step, events, cause, scope, recoveries)

    # -------------------------------------------------------- fan-out and fan-in

    def _fan_out(self, execution: Execution, fact: Returned) -> None:
        state = self.state
        state.last_id += 1
        number = state.last_id
        scope = Scope(
            execution.step, execution.scope, execution.id, execution.recoveries, open=1
        )
        state.scopes[number] = scope
        if execution.scope:
            state.scopes[execution.scope].open += 1
        inside = Execution(
            execution.id, execution.step, [], number, 0, execution.recoveries
        )
        for event in fact.events:
            self._emit(event, inside)
        if state.outcome is None:
            self._close(number)

    def _gather(self, step: StepPlan, event: Event, scope: int) -> bool:
        """Keep an event for a step that collects; false if it is in no list of its."""
        while scope:
            holder = self.state.scopes[scope]
            if step.name in self.plan.steps[holder.step].collectors:
                if step.name not in holder.released:
                    joined = holder.joined.setdefault(step.name, [])
                    joined.append(event)
                    if step.take is not None and len(joined) >= step.take:
                        self._collect(step, holder)
                return True
            scope = holder.outer
        return False

    def _collect(self, step: StepPlan, scope: Scope) -> None:
        scope.released.add(step.name)
        events = scope.joined.pop(step.name, [])
        self._queue(step, events, scope.cause, scope.outer, scope.recoveries)

    def _close(self, number: int) -> None:
        """One in the scope has ended; when all have, so has the scope."""
        state = self.state
        while number:
            scope = state.scopes[number]
            scope.open -= 1
            if scope.open:
                return
            for name in self.plan.steps[scope.step].collectors:
                if name not in scope.released:
                    self._collect(self.plan.steps[name], scope)
            for name in self.plan.joining:
                state.joins.pop((name, number), None)
            del state.scopes[number]
            number = scope.outer

    def _collected(self, fact: Collected) -> None:
        execution = self.state.executions.get(fact.execution)
        if execution is None or (execution.taken and fact.buffer in execution.taken):
            return
        key = (execution.step, fact.buffer)
        buffer = self.state.buffers.setdefault(key, {})
        if execution.given is None:
            execution.given = set()
        if fact.buffer not in execution.given:
            execution.given.add(fact.buffer)
            buffer.setdefault(type(fact.event), deque()).append(fact.event)
        if sum(map(len, buffer.values())) < len(fact.expected):
            return
        needed: dict[type[Event], int] = {}
        for kind in fact.expected:
            needed[kind] = needed.get(kind, 0) + 1
        if any(len(buffer.get(kind, ())) < count for kind, count in needed.items()):
            return
        if execution.taken is None:
            execution.taken = {}
        execution.taken[fact.buffer] = [buffer[kind].popleft() for kind in fact.expected]
        if not any(buffer.values()):
            del self.state.buffers[key]

    # -------------------------------------------------------------------- waits

    def _waited(self, fact: Waited) -> None:
        state = self.state
        execution = state.executions.get(fact.execution)
        if execution is None:
            return
        execution.done = fact.done
        waits = state.waits.setdefault(fact.kind, {})
        key = (execution.id, fact.key)
        if key in waits:  # a body that was begun anew has come to where it was
            if not fact.besides:
                self._pause(execution)
            return
        step = self.plan.steps[execution.step]
        deadline = None if fact.timeout is None else state.now + fact.timeout
        waits[key] = Wait(
            execution.id, fact.key, fact.kind, step.subclasses, fact.requirements, deadline
        )
        execution.pending += 1
        if fact.asks is not None:
            self._out.append(Publish(fact.asks))
        if deadline is not None:
            self._out.append(SetTimer(("wait", execution.id, fact.key), deadline))
        if not fact.besides:
            self._pause(execution)
        if state.mail:
            self._look_in_mail(waits[key], step)

    def _look_in_mail(self, wait: Wait, step: StepPlan) -> None:
        """Give a wait what has come before it, the oldest first."""
        state = self.state
        for index, (event, target) in enumerate(state.mail or ()):
            if (
                (
                    type(event) is wait.kind
                    or (step.subclasses and isinstance(event, wait.kind))
                )
                and target in (None, step.name)
                and _fits(event, wait.requirements)
            ):
                assert state.mail is not None
                state.mail = [*state.mail[:index], *state.mail[index + 1 :]] or None
                self._settle(wait, event)
                return

    def _pause(self, execution: Execution) -> None:
        if execution.status == "running":
            step = self.plan.steps[execution.step]
            self._release(step, execution)
            execution.status = "waiting"
            self.state.active -= 1
            if self.watched:
                self._out.append(Changed(execution, StepState.NOT_RUNNING))
            self._next(step)

    def _answer(
        self, event: Event, bases: tuple[type, ...], target: str | None
    ) -> set[str]:
        """Give an event to all who wait for it, to each once; their steps."""
        woken: set[str] = set()
        given: set[int] = set()
        for base in bases:
            waits = self.state.waits.get(base)
            if not waits:
                continue
            for wait in list(waits.values()):
                execution = self.state.executions[wait.execution]
                if (
                    wait.execution in given
                    or (base is not bases[0] and not wait.subclasses)
                    or (target is not None and execution.step != target)
                    or not _fits(event, wait.requirements)
                ):
                    continue
                woken.add(execution.step)
                given.add(wait.execution)
                self._settle(wait, event)
        return woken

    def _settle(self, wait: Wait, event: Event | None) -> None:
        """End a wait: with its event, or with none if it was in vain."""
        state = self.state
        execution = state.executions[wait.execution]
        waits = state.waits[wait.kind]
        del waits[wait.execution, wait.key]
        if not waits:
            del state.waits[wait.kind]
        if wait.deadline is not None and event is not None:
            self._out.append(DropTimer(("wait", execution.id, wait.key)))
        if execution.answers is None:
            execution.answers = {}
        execution.answers[wait.key] = event
        execution.pending -= 1
        if execution.pending or execution.status != "waiting":
            self._out.append(Wake(execution, wait.key))
            return
        state.active += 1
        step = self.plan.steps[execution.step]
        lane = state.lanes[step.name]
        if lane.running < step.num_workers:
            self._go_on(step, lane, execution, wait.key)
        else:
            self._let_go_on(execution, wait.key)

    def _let_go_on(self, execution: Execution, key: str) -> None:
        """Have an execution that has begun wait for a worker."""
        lane = self.state.lanes[execution.step]
        execution.status = "woken"
        if lane.woken is None:
            lane.woken = deque()
        lane.woken.append((execution.id, key))

    def _go_on(self, step: StepPlan, lane: Lane, execution: Execution, key: str) -> None:
        lane.running += 1
        execution.status = "running"
        self._out.append(Wake(execution, key))
        if step.timeout is not None:
            self._time(step, execution)
        if self.watched:
            self._out.append(Changed(execution, StepState.RUNNING))

    def _forget_waits(self, execution: Execution) -> None:
        for kind, waits in list(self.state.waits.items()):
            for key in [key for key in waits if key[0] == execution.id]:
                if waits.pop(key).deadline is not None:
                    self._out.append(DropTimer(("wait", *key)))
            if not waits:
                del self.state.waits[kind]
        execution.pending = 0

    # ------------------------------------------------------------------- timers

    def _fired(self, fact: Fired) -> None:
        state = self.state
        match fact.key:
            case ("run",):
                self._time_out()
            case ("retry", int(number)):
                execution = state.executions.get(number)
                if execution is not None and execution.status == "backoff":
                    execution.due_at = None
                    self._enqueue(self.plan.steps[execution.step], execution)
            case ("step", int(number), int(attempt)):
                execution = self._live(number, attempt)
                if execution is not None and execution.status == "running":
                    self._out.append(Interrupt(execution))
            case ("wait", int(number), str(key)):
                wait = next(
                    (w[number, key] for w in state.waits.values() if (number, key) in w),
                    None,
                )
                if wait is not None:
                    self._settle(wait, None)
            case ("withdrawn", int(number), str(key)):
                self._withdrawn(number, key)
            case _:
                raise ValueError(f"there is no timer {fact.key!r}")

    def _withdrawn(self, number: int, key: str) -> None:
        """A body waits no longer; what came for it just then is kept for who asks next."""
        execution = self.state.executions.get(number)
        if execution is None:
            return
        for waits in self.state.waits.values():
            if (number, key) in waits:
                self._settle(waits[number, key], None)
                self._out.append(DropTimer(("wait", number, key)))
                return
        event = (execution.answers or {}).get(key)
        if event is not None:
            assert execution.answers is not None
            execution.answers[key] = None
            self.state.mail = [*(self.state.mail or ()), (event, execution.step)]

    def _time_out(self) -> None:
        state = self.state
        active = {e.step for e in state.executions.values() if e.status != "waiting"}
        waiting = {e.step for e in state.executions.values()}
        event = WorkflowTimedOutEvent(
            timeout=state.timeout or 0.0, active_steps=sorted(active or waiting)
        )
        self._end(Outcome("timed out", event))


def _fits(event: Event, requirements: Mapping[str, Any]) -> bool:
    try:
        return all(
            getattr(event, name, None) == value for name, value in requirements.items()
        )
    except Exception:  # what cannot be compared does not fit
        return False


def _is_new(by: Execution, event: Event, target: str | None) -> bool:
    """Note what an execution sends; false if an earlier attempt has sent the same."""
    sending = (event, target)
    for index, earlier in enumerate(by.unmatched or ()):
        if _is_same(earlier, sending):
            assert by.unmatched is not None
            del by.unmatched[index]
            return False
    if by.sent is None:
        by.sent = []
    by.sent.append(sending)
    return True


def _is_same(one: tuple[Event, str | None], other: tuple[Event, str | None]) -> bool:
    if one[1] != other[1] or type(one[0]) is not type(other[0]):
        return False
    try:
        return one[0] is other[0] or bool(one[0] == other[0])
    except Exception:  # what a field cannot be compared with is not the same
        return False
