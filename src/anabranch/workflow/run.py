"""Driving a run: what the machine asks for is done, what happens is told to it.

No rule is in here. Every step at work is a task. What becomes of its result is decided by
the machine in the same breath, and the next steps are started: nothing polls, and no task
belongs to the run itself.

::

    step ends, timer rings, event comes ──(fact)──▶ machine ──(commands)──▶ start, stream

With a journal the facts are written first: the state changes at once, but commands wait
until the facts behind them are stored. Facts that come while others are being written share
the next write. Facts that are told together are written together.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anabranch.clock import stopwatch, wall_time
from anabranch.errors import (
    JournalError,
    WorkflowCancelledByUser,
    WorkflowDone,
    WorkflowTimeoutError,
)
from anabranch.workflow.activity import CURRENT, Activity
from anabranch.workflow.context.state_store import StateStore
from anabranch.workflow.events import (
    Event,
    StepStateChanged,
    StopEvent,
    UnhandledEvent,
    WorkflowIdleEvent,
    WorkflowTimedOutEvent,
)
from anabranch.workflow.facts import (
    Began,
    Cancelled,
    Changed,
    Command,
    DropTimer,
    Edited,
    Ended,
    Fact,
    Fired,
    Idle,
    Interrupt,
    Publish,
    Received,
    Resumed,
    Sent,
    SetTimer,
    Start,
    Unhandled,
    Wake,
    Written,
)
from anabranch.workflow.labels import RunLabel, Traced
from anabranch.workflow.machine import Machine
from anabranch.workflow.resource import Lifetime
from anabranch.workflow.standing import rests
from anabranch.workflow.state import Execution, Outcome, RunState, TimerKey
from anabranch.workflow.stream import EventStream

if TYPE_CHECKING:
    from anabranch.workflow.desk import Desk
    from anabranch.workflow.engine import Engine
    from anabranch.workflow.recorder import Recorder

R = TypeVar("R")

logger = logging.getLogger("anabranch.workflow")

# How long a run that is over waits for steps that do not let themselves be cancelled.
GRACE_S: Final = 5.0
# How long its resources may take to close.
CLOSING_S: Final = 30.0
# How many events of nested runs are remembered, not to be streamed twice.
MOST_PASSED: Final = 64
# How many attempts a run remembers for its drawing, at most; the older half goes first.
MOST_TRACED: Final = 4_000


class Run:
    """One run: its machine, and all that goes on on its behalf.

    It belongs to the event loop that runs when it is made.

    Attributes:
        start: What it begins with; ``None`` if it goes on where it was left.
        outcome: How it ended; steps may still be on their way out.
        done: Whether it is over, and nothing of it goes on.
        broken: What ended it that is no step's failure.
        children: Runs that its steps have begun, and that have not ended.
        trace: The last attempts.
        forgotten: How many there were before those.
        edits: How often the shared state was changed.
        ahead_s: How far its time is ahead of the machine's clock.
        desk: Who looks after it while it is driven from a store.
        rested: Is set when it rests and everything is written; made by who wants to know.
    """

    # There may be thousands that wait, so nothing is made before it is used.
    __slots__ = (
        "_activities",
        "_calls",
        "_cancels",
        "_closing",
        "_early",
        "_epoch",
        "_failure",
        "_later",
        "_lifetime",
        "_passed",
        "_performing",
        "_stopwatch",
        "_store",
        "_thread",
        "_timeout",
        "_timers",
        "_turn",
        "_waiters",
        "ahead_s",
        "begun",
        "broken",
        "children",
        "desk",
        "done",
        "edits",
        "engine",
        "forgotten",
        "loop",
        "machine",
        "observer",
        "opening",
        "outcome",
        "parent",
        "recorder",
        "rested",
        "start",
        "stream",
        "trace",
        "variables",
    )

    def __init__(
        self,
        engine: Engine,
        state: RunState,
        *,
        start: Event | None,
        timeout: float | None,
        parent: Activity | None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = engine
        self.machine = Machine(engine.plan, state)
        self.start = start
        self.parent = parent
        self.variables = copy_context()
        self.stream = EventStream(engine.settings.stream_buffer)
        self.observer = engine.settings.observer
        self.recorder: Recorder | None = None
        self.opening: asyncio.Task[None] | None = None
        self.outcome: Outcome | None = None
        self.broken: BaseException | None = None
        self.begun = False
        self.done = False
        self.trace: list[Traced] = []
        self.forgotten = 0
        self.children: tuple[Run, ...] = ()
        self.edits = 0
        self.ahead_s = 0.0
        self.desk: Desk | None = None
        self.rested: asyncio.Event | None = None
        self._cancels = False
        self._calls = engine.calls
        self._timeout = timeout
        self._stopwatch = stopwatch()
        self._epoch = wall_time() - self._stopwatch()
        self._thread = threading.get_ident()
        self._activities: dict[int, Activity] = {}
        self._timers: dict[TimerKey, asyncio.TimerHandle] = {}
        self._performing = False
        self._later: list[Command] | None = None
        self._passed: list[Event] | None = None
        self._lifetime: Lifetime | None = None
        self._early: list[Sent] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._failure: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._store: StateStore[Any] | None = None
        self._turn: asyncio.Lock | None = None
        if parent is not None:
            parent.run.children = (*parent.run.children, self)
            parent.nested = (*parent.nested, self)

    @property
    def state(self) -> RunState:
        """The state of the run."""
        return self.machine.state

    @property
    def id(self) -> str:
        """The run's name."""
        return self.machine.state.run_id

    @property
    def lifetime(self) -> Lifetime:
        """What is closed at its end."""
        if self._lifetime is None:
            self._lifetime = Lifetime()
        return self._lifetime

    def now(self) -> float:
        """Seconds since the epoch: monotonic within this process."""
        return self._epoch + self._stopwatch()

    # ------------------------------------------------------------------- facts

    def begin(self) -> None:
        """Let the run begin, or go on where it was."""
        if self.begun:
            return
        self.begun = True
        self.watch()
        if self.observer is not None:
            self.observer.begun(None)
            self.observer.started(RunLabel(self.id, self.machine.plan.workflow))
        # A clock that was set back since the last fact would hold up everything that waits.
        self.ahead_s = max(0.0, self.state.now - self.now())
        self._epoch += self.ahead_s
        now = self.now()
        if self.start is None:
            away_s = max(0.0, now - self.state.now)
            # What is kept in a store has times that people rely on: "answer by Friday".
            self.tell(Resumed(now, away_s, stood_still=self.recorder is None))
        else:
            # What is written down must be there; otherwise it is made when it is used.
            store = self.state.store if self.recorder is None else self.read()
            self.tell(Began(now, self.start, self._timeout, store))
        early, self._early = self._early, None
        for fact in early or ():
            self.send(fact.event, fact.step, None)
        if self._cancels:
            self.cancel()

    def writable(self, facts: Sequence[Fact]) -> list[bytes] | None:
        """What happened as the journal has it; ``None`` where there is none.

        Raises:
            JournalError: It cannot be written.
        """
        return None if self.recorder is None else self.recorder.written(facts)

    def tell(self, *facts: Fact, written: list[bytes] | None = None) -> None:
        """Tell the machine what happened, and do what it asks for.

        Raises:
            JournalError: It cannot be written down: it has not happened.
        """
        recorder = self.recorder
        if recorder is not None:
            written = recorder.written(facts) if written is None else written
        try:
            if recorder is not None and written is not None:
                recorder.record(facts, written)
                return
            commands = [c for fact in facts for c in self.machine.apply(fact)]
        except Exception as error:  # a state that was tampered with: nothing may hang on it
            self.break_off(error)
            return
        if commands:
            self.perform(commands)

    def send(self, event: Event, step: str | None, by: Activity | None) -> None:
        """Send an event into the run, from any thread."""
        if threading.get_ident() != self._thread:
            self._from_outside(self.send, event, step, by)
            return
        is_drafted = by is not None and by.draft is not None
        number = None if by is None else by.execution.id
        fact = Sent(self.now(), event, step, number, is_drafted)
        if not self.begun:
            self._early = self._early or []
            self._early.append(fact)
            return
        if by is None and self.children and not self.machine.takes(event):
            # What nobody here waits for may be an answer for a workflow that a step runs.
            for child in self.children:
                child.send(event, step, None)
        if self.recorder is None:
            self.tell(fact)
        elif by is None:
            self.tell(Received(fact.at, event, step))
        elif not self._is_drafted(by, fact):
            self.tell(fact)

    def _is_drafted(self, by: Activity, fact: Sent | Written) -> bool:
        """Whether what a step does is part of its draft, or of none that counts."""
        draft = by.draft
        if draft is None or (by.is_over and not draft.is_dropped):
            return False  # a task that the step has left behind
        if not draft.is_dropped:
            draft.add(fact)
        return True

    @property
    def early(self) -> list[tuple[Event, str | None]]:
        """What was sent before the run has begun."""
        return [(fact.event, fact.step) for fact in self._early or ()]

    def write(
        self, event: Event, by: Activity | None = None, *, recorded: bool = True
    ) -> None:
        """Write an event to the stream, from any thread."""
        if threading.get_ident() != self._thread:
            self._from_outside(partial(self.write, event, by, recorded=recorded))
        elif any(event is passed for passed in self._passed or ()):
            return  # a step passes on by hand what came through of itself
        elif self.recorder is None or not recorded:
            self._publish(event)
        else:
            fact = Written(self.now(), event, None if by is None else by.execution.id)
            if by is None or not self._is_drafted(by, fact):
                self.tell(fact)

    def watch(self) -> None:
        """Tell of internal events from now on, if anybody reads them."""
        self.machine.watched = self.stream.watchers > 0

    def _from_outside(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError as error:
            raise WorkflowDone(
                f"run {self.id} is over: the event loop that it ran on is closed"
            ) from error

    def on_loop(self, call: Callable[[], R]) -> R:
        """What ``call`` gives, made on the run's loop whatever thread this is."""
        if threading.get_ident() == self._thread:
            return call()
        result: Future[R] = Future()

        def made() -> None:
            try:
                result.set_result(call())
            except BaseException as error:
                result.set_exception(error)

        self.loop.call_soon_threadsafe(made)
        return result.result()

    # ---------------------------------------------------------------- commands

    def perform(self, commands: list[Command]) -> None:
        """Do what the machine asked for, in its order."""
        if self._performing:  # a task that was started eagerly has come back here
            self._later = self._later or []
            self._later += commands
            return
        self._performing = True
        try:
            for command in commands:
                self._do(command)
            while self._later:
                commands, self._later = self._later, None
                for command in commands:
                    self._do(command)
        finally:
            self._performing = False

    def remember(self, attempt: Traced) -> None:
        """Add an attempt to the trace."""
        if len(self.trace) == MOST_TRACED:
            del self.trace[: MOST_TRACED // 2]
            self.forgotten += MOST_TRACED // 2
        self.trace.append(attempt)

    def _do(self, command: Command) -> None:
        match command:
            case Start(execution):
                self._start(execution)
            case Publish(event):
                self._publish(event)
            case SetTimer(key, at):
                self._set_timer(key, at)
            case DropTimer(key):
                if timer := self._timers.pop(key, None):
                    timer.cancel()
            case Wake(execution, key):
                activity = self._activities.get(execution.id)
                if activity is None:
                    # Who had the body is gone: it is begun anew, and finds the event.
                    self._start(execution)
                else:
                    activity.wake(key)
            case Interrupt(execution):
                activity = self._activities.get(execution.id)
                if activity is not None and activity.task is not None:
                    activity.interrupted = True
                    activity.task.cancel()
            case Changed() | Unhandled() | Idle():
                self.stream.add(_as_event(command))
            case Ended(outcome):
                self._end(outcome)

    def _start(self, execution: Execution) -> None:
        if self.outcome is not None:
            return
        activity = Activity(self, execution, self._calls[execution.step])
        self._activities[execution.id] = activity
        activity.watch(
            self.loop.create_task(
                activity.perform(), name=execution.step, context=self.variables.copy()
            )
        )

    def _publish(self, event: Event) -> None:
        self.stream.add(event)
        if self.parent is not None and not isinstance(event, StopEvent):
            self.parent.run.pass_through(event, self.parent)

    def pass_through(self, event: Event, by: Activity) -> None:
        """Stream an event of a run that a step has begun."""
        self.write(event, by)
        self._passed = [*(self._passed or ())[-MOST_PASSED:], event]

    def _set_timer(self, key: TimerKey, at: float) -> None:
        if self.outcome is None:
            delay_s = max(0.0, at - self.now())
            self._timers[key] = self.loop.call_later(delay_s, self._ring, key)

    def _ring(self, key: TimerKey) -> None:
        self._timers.pop(key, None)
        self.tell(Fired(self.now(), key))

    # --------------------------------------------------------------------- end

    def leave(self, activity: Activity) -> None:
        """A body has ended."""
        activity.release()
        if self._activities.get(activity.execution.id) is activity:
            del self._activities[activity.execution.id]

    def cancel(self) -> None:
        """End the run as cancelled, from any thread and at any time."""
        if threading.get_ident() != self._thread:
            self._from_outside(self.cancel)
            return
        if self.opening is not None and not self.begun:
            self._cancels = True  # which its store is to hear of
            return
        self.begun = True
        self.tell(Cancelled(self.now()))

    def abandon(self, why: str) -> None:
        """Who has begun it needs it no longer; a stored one can be taken up again."""
        if self.recorder is None and self.opening is None:
            self.cancel()
        else:
            self.break_off(asyncio.CancelledError(why))

    async def let_go(self) -> None:
        """Drive a stored run no longer: it goes on when it is taken up again."""
        recorder = self.recorder
        if recorder is not None:
            with suppress(JournalError):
                await recorder.give_back()
        self.break_off(asyncio.CancelledError(f"run {self.id} was let go"))
        await self.settled()

    def look(self) -> None:
        """Everything was written: tell who waits for that whether the run rests."""
        recorder, rested = self.recorder, self.rested
        if recorder is None or rested is None or recorder.is_busy:
            return
        if rests(self.state):
            rested.set()

    def break_off(self, error: BaseException) -> None:
        """End the run because of something that is no step's failure."""
        if self.outcome is not None:
            return
        if self.broken is None:
            self.broken = error
        self.recorder = None
        outcome = self.state.outcome
        if outcome is None:
            self.perform(self.machine.break_off())
        else:
            self.perform([Publish(outcome.event), Ended(outcome)])

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._activities or self.children or self._lifetime is not None:
            self._closing = self.loop.create_task(
                self._wind_up(), name="end of run", context=self.variables.copy()
            )
            # Also if it is cancelled before its first step, as when the loop ends.
            self._closing.add_done_callback(lambda _: self._settle())
        else:
            self._settle()

    async def _wind_up(self) -> None:
        """End what is under way, and close what was opened."""
        children = self.children
        for child in children:
            if self.broken is not None:
                child.abandon(f"run {self.id} was let go")
            else:
                child.cancel()
        tasks = [a.task for a in self._activities.values() if a.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=GRACE_S)
            for task in left:
                logger.warning(
                    "step %r of run %s does not end though it was cancelled: it is left "
                    "behind; let it pass CancelledError on",
                    task.get_name(),
                    self.id,
                )
        for child in children:
            await child.settled()
        if self._lifetime is not None:
            try:
                async with asyncio.timeout(CLOSING_S):
                    await self._lifetime.exits.aclose()
            except Exception:
                logger.exception("a resource of run %s could not be closed", self.id)

    def _settle(self) -> None:
        if self.done:
            return
        self.done = True
        self._activities.clear()
        self.stream.close()
        error = None if self.outcome is None else self.outcome.error
        if self.observer is not None:
            self.observer.finished(RunLabel(self.id, self.machine.plan.workflow), error)
            self.observer.ended()
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        if not waiters and error is not None:
            # As asyncio does for a task: a failure that nobody ever looks at is logged.
            self._failure = self.loop.create_future()
            self._failure.set_exception(error)
        if self.desk is not None:
            self.desk.leave(self)
        if self.parent is not None:
            above = self.parent.run
            above.children = tuple(child for child in above.children if child is not self)
        self.engine.ended(self)

    async def settled(self) -> None:
        """Return when the run is over, and nothing of it goes on."""
        if not self.done:
            future: asyncio.Future[None] = self.loop.create_future()
            self._waiters = self._waiters or []
            self._waiters.append(future)
            await future

    def error(self) -> BaseException | None:
        """Why the run gave no result; it counts as looked at."""
        if self._failure is not None:
            self._failure.exception()
        if self.broken is not None:
            return self.broken
        outcome = self.outcome
        if outcome is None or outcome.end == "completed":
            return None
        if outcome.end == "cancelled":
            return WorkflowCancelledByUser(f"run {self.id} was cancelled")
        if outcome.end == "timed out":
            return WorkflowTimeoutError(_out_of_time(outcome.event))
        return outcome.error

    def result(self) -> Any:
        """What the run gave, once it is over; raises why it gave nothing."""
        if (error := self.error()) is not None:
            raise error
        assert self.outcome is not None
        event = self.outcome.event
        return event.result if type(event) is StopEvent else event

    # ------------------------------------------------------------------- state

    @property
    def turn(self) -> asyncio.Lock:
        """Is held by the step whose changes of the state are not recorded yet."""
        if self._turn is None:
            self._turn = asyncio.Lock()
        return self._turn

    @property
    def store(self) -> StateStore[Any]:
        """The state that the steps share."""
        if self._store is None:
            self._store = StateStore(self)
        return self._store

    def read(self) -> Any:
        """The shared state itself."""
        state = self.machine.state
        if state.store is None:
            state.store = self.engine.new_state()
        return state.store

    def edit(self, path: str, value: Any) -> None:
        """Change the shared state."""
        self.read()
        self.tell(Edited(self.now(), path, value))
        self.edits += 1


def _as_event(command: Changed | Unhandled | Idle) -> Event:
    """What who watches is told."""
    match command:
        case Idle():
            return WorkflowIdleEvent()
        case Unhandled(event, step, idle):
            kind = type(event)
            return UnhandledEvent(
                event_type=kind.__name__,
                qualified_name=f"{kind.__module__}.{kind.__qualname__}",
                step_name=step,
                idle=idle,
            )
        case Changed(execution, state, output):
            inputs = execution.events
            return StepStateChanged(
                name=execution.step,
                step_state=state,
                worker_id=str(execution.id),
                input_event_name=str(type(inputs[0])) if inputs else "",
                output_event_name=None if output is None else str(type(output)),
            )


def _out_of_time(event: StopEvent) -> str:
    assert isinstance(event, WorkflowTimedOutEvent)
    steps = ", ".join(event.active_steps)
    said = (
        f"Currently active steps: {steps}"
        if steps
        else "no step was at work: the run waited for an event that did not come"
    )
    return (
        f"Operation timed out after {event.timeout:g} seconds. {said}. A run's time is its "
        "workflow's `timeout`, 45 s by default: give Workflow(timeout=...) more, or None"
    )


def enclosing() -> Activity | None:
    """The step at work that this is called in, if its run goes on on this loop."""
    activity = CURRENT.get()
    if activity is None or activity.run.outcome is not None:
        return None
    return activity if activity.run.loop is asyncio.get_running_loop() else None
