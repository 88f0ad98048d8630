"""A step at work: its body, in a task of its own, from its call to what became of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from anabranch.errors import JobCancelled, JournalError, WorkflowRuntimeError
from anabranch.jobs.notes import note
from anabranch.workflow.calls import Call
from anabranch.workflow.draft import Draft
from anabranch.workflow.events import Event
from anabranch.workflow.facts import (
    Collected,
    DropTimer,
    Fact,
    Failed,
    Fired,
    Remembered,
    Returned,
    SetTimer,
    Waited,
)
from anabranch.workflow.labels import StepLabel, traced
from anabranch.workflow.queues import Queue
from anabranch.workflow.resource import Lifetime
from anabranch.workflow.state import Execution, TimerKey
from anabranch.workflow.turnstile import Turn

if TYPE_CHECKING:
    from anabranch.workflow.context import Context
    from anabranch.workflow.run import Run

# Synchronous steps run in threads. How many do at once is bounded by num_workers, so the
# pool need not be narrow: threads are made as they are needed.
MOST_THREADS: Final = 512

CURRENT: ContextVar[Activity | None] = ContextVar("anabranch_step", default=None)
_threads: ThreadPoolExecutor | None = None
_threads_birth = threading.Lock()


class Activity:
    """One body.

    Attributes:
        draft: What it has done and is not recorded; ``None`` where nothing is.
        interrupted: Whether it is being ended because it is out of time.
        is_over: Whether it has ended.
        nested: Runs that it has begun.
    """

    __slots__ = (
        "_context",
        "_names",
        "_turn",
        "_waits",
        "began_at",
        "call",
        "draft",
        "execution",
        "interrupted",
        "is_over",
        "nested",
        "run",
        "task",
    )

    def __init__(self, run: Run, execution: Execution, call: Call) -> None:
        self.run = run
        self.execution = execution
        self.call = call
        self.draft = None if run.recorder is None else Draft(self)
        self.began_at = 0.0
        self.interrupted = False
        self.is_over = False
        self.nested: tuple[Run, ...] = ()
        self.task: asyncio.Task[None] | None = None
        self._context: Context[Any] | None = None
        # Few at a time, of a name or two: lists are smaller than dictionaries.
        self._waits: list[tuple[str, asyncio.Future[None]]] | None = None
        self._names: list[str] | None = None
        self._turn: Turn | None = None

    @property
    def context(self) -> Context[Any]:
        """What the body is given as its context."""
        if self._context is None:
            from anabranch.workflow.context import Context

            self._context = Context.of_step(self)
        return self._context

    @property
    def label(self) -> StepLabel:
        """What an observer is told of it."""
        run, execution = self.run, self.execution
        return StepLabel(run.id, run.machine.plan.workflow, execution.step, execution.id)

    def release(self) -> None:
        """Let go of what leads back here, so that nothing is left to the collector."""
        self.is_over = True
        self.task = None
        if self.draft is not None:
            self.draft.close()
        self._context = None
        waits, self._waits = self._waits, None
        for _, future in waits or ():
            future.cancel()  # a task that the body has left behind waits no longer

    def watch(self, task: asyncio.Task[None]) -> None:
        """Have the run told of a body that ends without saying what became of it."""
        if not self.is_over:  # it is where tasks are started eagerly
            self.task = task
            task.add_done_callback(self._vanished)

    def _vanished(self, task: asyncio.Task[None]) -> None:
        if self.is_over:  # as it should be
            return
        # It was cancelled before its first step, or something failed behind the step.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self.run.leave(self)
        self.run.break_off(error or asyncio.CancelledError())

    # --------------------------------------------------------------------- body

    async def perform(self) -> None:
        """Call the step, and tell the run what became of it."""
        CURRENT.set(self)
        run, execution, call = self.run, self.execution, self.call
        attempt = execution.attempt
        self.began_at = run.now()
        if run.observer is not None:
            run.observer.started(self.label)
        events: list[Event] = []
        fans_out = False
        error: Exception | None = None
        try:
            if call.is_plain:  # no coroutine more: thousands may be suspended here
                value = await call.function(**self._arguments())
            else:
                value = await self._value()
            events, fans_out = call.outputs(value)
            for event in events:
                self._check_taken(event)
        except Exception as raised:
            error = raised
        except BaseException as raised:
            error = self._after_base(raised)
        now = run.now()
        facts: list[Fact] = [Returned(now, execution.id, attempt, events, fans_out)]
        written: list[bytes] | None = None
        if self.draft is not None:
            facts, written, error = self._sealed(self.draft, facts, error)
        run.leave(self)
        self._remember(attempt, events, now, error)
        if error is not None:
            self._fail(error, attempt, now)
            return
        if run.observer is not None:
            run.observer.finished(self.label, None)
        run.tell(*facts, written=written)

    async def _value(self) -> Any:
        queue = self.call.queue
        return await (self._call() if queue is None else self._call_in_turn(queue))

    def _sealed(
        self, draft: Draft, facts: list[Fact], error: Exception | None
    ) -> tuple[list[Fact], list[bytes] | None, Exception | None]:
        """What a body has done, with its end; or why it cannot be recorded."""
        if error is None:
            try:
                facts = [*draft.take(), *facts]
                return facts, self.run.writable(facts), None
            except Exception as raised:
                error = raised
        draft.drop()
        return facts, None, error

    def _arguments(self) -> dict[str, Any]:
        call = self.call
        arguments = call.arguments(self.execution)
        if call.context is not None:
            arguments[call.context] = self.context
        return arguments

    async def _call_in_turn(self, queue: Queue) -> Any:
        self._turn = Turn(self, queue, waits=self._stop_time, begins=self._begin_time)
        try:
            await self._turn.take()
            return await self._call()
        finally:
            await self._turn.give_back()

    async def _call(self) -> Any:
        remote = self.call.remote
        if remote is None:
            return await self._call_with_resources()
        self._stop_time()
        return await remote.call(self._arguments(), self._begin_time)

    async def _call_with_resources(self) -> Any:
        call, run = self.call, self.run
        arguments = self._arguments()
        manager = run.engine.settings.resources
        own = Lifetime()
        async with own.exits:
            for name, need in call.resources.items():
                value = manager.ready(need)
                if not manager.is_ready(value):
                    value = await manager.resolve(need, run.lifetime, own)
                arguments[name] = value
            if call.is_async:
                return await call.function(**arguments)
            work: Callable[[], Any] = partial(_call_plainly, call.function, arguments)
            return await run.loop.run_in_executor(_pool(), copy_context().run, work)

    def _stop_time(self) -> None:
        """The body has not begun: it is waiting for where it may."""
        if self._timeout is not None:
            self.run.perform([DropTimer(self._timer)])

    def _begin_time(self) -> None:
        """The body begins: its time does, too."""
        if self._timeout is not None and not self.is_over:
            self.run.perform([SetTimer(self._timer, self.run.now() + self._timeout)])

    @property
    def _timer(self) -> TimerKey:
        return "step", self.execution.id, self.execution.attempt

    @property
    def _timeout(self) -> float | None:
        return self.run.machine.plan.steps[self.call.name].timeout

    def _check_taken(self, event: Event) -> None:
        kind = type(event)
        if not self.call.declares(kind) and not self.run.machine.takes(event):
            raise WorkflowRuntimeError(
                f"step {self.call.name!r} returned a {kind.__name__}, which its annotation "
                "does not name and nobody takes: add it to the return annotation, and a "
                "step that takes it"
            )

    def _after_base(self, raised: BaseException) -> Exception:
        """What it means that the body raised what is no ``Exception``."""
        if isinstance(raised, asyncio.CancelledError):
            return self._after_cancellation(raised)
        if self.draft is None or not isinstance(raised, SystemExit):
            self.run.leave(self)
            self.run.break_off(raised)
            raise raised
        # A stored run fails for good, or it would end every worker in turn.
        error = WorkflowRuntimeError(
            f"step {self.call.name!r} called sys.exit({raised.code!r}): let it raise an "
            "error, or return a StopEvent"
        )
        error.__cause__ = raised
        return error

    def _after_cancellation(self, cancelled: asyncio.CancelledError) -> Exception:
        """What a cancellation means: a failure of the step, or the end of the run."""
        task = asyncio.current_task()
        assert task is not None
        name = self.call.name
        if self.interrupted and self.run.outcome is None:
            limit = self.run.machine.plan.steps[name].timeout
            error: Exception = TimeoutError(
                f"step {name!r} took longer than {limit:g} s: give its @step more time"
            )
        elif self.run.outcome is not None or task.cancelling():
            ended = asyncio.CancelledError("the run ended")
            self._remember(self.execution.attempt, [], self.run.now(), ended)
            self.run.leave(self)
            # Whoever cancels the tasks of this loop ends the run.
            self.run.break_off(cancelled)
            raise cancelled
        else:
            error = JobCancelled(
                f"step {name!r} raised CancelledError though nobody cancelled it"
            )
        error.__cause__ = cancelled
        return error

    def _remember(
        self, attempt: int, events: list[Event], now: float, error: BaseException | None
    ) -> None:
        self.run.remember(
            traced(
                self.execution,
                attempt,
                events,
                began_at=self.began_at,
                ended_at=now,
                error=error,
            )
        )

    def _fail(self, error: Exception, attempt: int, now: float) -> None:
        run, execution = self.run, self.execution
        for nested in self.nested:
            nested.abandon(f"the step that began it, {self.call.name!r}, has failed")
        retry_s = self._retry_s(error, now)
        if run.observer is not None:
            if retry_s is None:
                run.observer.finished(self.label, error)
            else:
                run.observer.retried(self.label, attempt, error, retry_s)
        run.tell(Failed(now, execution.id, attempt, error, retry_s))

    def _retry_s(self, error: Exception, now: float) -> float | None:
        policy, execution = self.call.retry_policy, self.execution
        if policy is None:
            return None
        began_at = now if execution.began_at is None else execution.began_at
        name = self.call.name
        try:
            delay_s: Any = policy.next(now - began_at, execution.attempt, error)
        except Exception as failure:
            note(error, f"the retry policy of step {name!r} failed: {failure!r}")
            return None
        if delay_s is None or (isinstance(delay_s, int | float) and delay_s >= 0):
            return delay_s
        if isinstance(delay_s, Coroutine):
            delay_s.close()
        note(
            error,
            f"the retry policy of step {name!r} gave {delay_s!r}, which is no number "
            "of seconds from 0 and not None: the step is not tried again",
        )
        return None

    # ---------------------------------------------------------- what it asks for

    def collect(
        self, buffer: str, event: Event, expected: list[type[Event]]
    ) -> list[Event] | None:
        """Offer an event to a buffer: all that are expected, if they are there now."""
        run, execution = self.run, self.execution
        run.on_loop(
            lambda: run.tell(Collected(run.now(), execution.id, buffer, event, expected))
        )
        return None if execution.taken is None else execution.taken.get(buffer)

    async def wait(
        self,
        kind: type[Event],
        *,
        name: str,
        asks: Event | None,
        requirements: Mapping[str, Any],
        timeout: float | None,  # noqa: ASYNC109  # it is the machine's to keep
    ) -> Event:
        """The event, when it has come; the step's worker is free meanwhile.

        Raises:
            TimeoutError: It did not come in time.
        """
        run, execution = self.run, self.execution
        key = self.nth(name)
        if execution.answers is None or key not in execution.answers:
            future = self._future(key)
            self._record(
                Waited(run.now(), execution.id, key, kind, requirements, timeout, asks)
            )
            try:
                if self._turn is not None:
                    await self._turn.give_back()
                await future
            except asyncio.CancelledError:
                await self._withdraw(key)
                raise
            finally:
                if self._turn is not None and self._goes_on:
                    await self._turn.take()
        assert execution.answers is not None
        event = execution.answers[key]
        if event is None:
            limit = "in time" if timeout is None else f"within {timeout:g} s"
            raise TimeoutError(
                f"no {kind.__name__} came {limit}: give wait_for_event another timeout, or "
                "None to wait without end"
            )
        return event

    async def once(self, key: str, fn: Callable[[], Any]) -> Any:
        """What ``fn`` gave the first time that this execution asked for it."""
        run, execution = self.run, self.execution
        # A wait may have any name, so a key has a form that none has.
        key = f"once {key}"
        if key not in (execution.memos or {}):
            value = fn()
            if inspect.isawaitable(value):
                value = await value
            future: asyncio.Future[None] = run.loop.create_future()
            self._waits = [*(self._waits or ()), (key, future)]
            self._record(Remembered(run.now(), execution.id, key, value))
            await future
        assert execution.memos is not None
        return execution.memos[key]

    def _record(self, fact: Waited | Remembered) -> None:
        """Tell the run, together with what the body has done up to now.

        Raises:
            JournalError: Something of it cannot be written: nothing has happened.
        """
        draft = self.draft
        if draft is None:
            self.run.tell(fact)
            return
        fact.done = draft.done
        if isinstance(fact, Waited):
            # In a task of its own, the body may be at something else meanwhile.
            fact.besides = self.task not in (None, asyncio.current_task())
        facts = draft.take()
        try:
            written = self.run.writable([*facts, fact])
        except JournalError:
            draft.put_back(facts)  # it cannot be recorded later either
            raise
        self.run.tell(*facts, fact, written=written)

    def wake(self, key: str) -> None:
        """Let the body go on behind a wait."""
        for wait in self._waits or ():
            if wait[0] == key and self._waits is not None:
                self._waits.remove(wait)
                if not wait[1].done():
                    wait[1].set_result(None)
                return

    def nth(self, name: str) -> str:
        """A key for the next use of a name, the same whenever the body is begun anew."""
        self._names = self._names or []
        self._names.append(name)
        return f"{name}#{self._names.count(name)}"

    def _future(self, key: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.run.loop.create_future()
        self._waits = [wait for wait in self._waits or () if wait[0] != key]
        self._waits.append((key, future))
        return future

    @property
    def _goes_on(self) -> bool:
        """Whether the body is to do anything but end."""
        run = self.run
        if run.outcome is not None or self.interrupted or self.is_over:
            return False
        # Of the end of a loop the journal must not hear.
        return run.desk is None or not run.desk.is_ending

    async def _withdraw(self, key: str) -> None:
        """The body no longer waits: it goes on when it has a worker again."""
        run = self.run
        if not self._goes_on:
            return
        answered = key in (self.execution.answers or {})
        again = self._future(key)
        run.tell(Fired(run.now(), ("withdrawn", self.execution.id, key)))
        if answered and self.execution.status == "running":
            return  # it was woken before it was cancelled
        while not again.done() and run.outcome is None:
            try:
                await asyncio.shield(again)
            except asyncio.CancelledError:
                continue


def _call_plainly(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:  # which no future can hold
        raise RuntimeError("a step raised StopIteration") from error


def _pool() -> ThreadPoolExecutor:
    global _threads
    with _threads_birth:
        if _threads is None:
            _threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="anabranch-step")
        return _threads
