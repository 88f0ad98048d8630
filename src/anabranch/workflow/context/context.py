"""What a step, or who holds a run, can do with it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from pydantic import BaseModel

from anabranch.errors import (
    ContextSerdeError,
    ContextStateError,
    UsageError,
    WorkflowRuntimeError,
    WorkflowStepDoesNotExistError,
)
from anabranch.workflow.activity import CURRENT, Activity
from anabranch.workflow.codec import VERSION, Codec, up_to_date
from anabranch.workflow.context.serializers import BaseSerializer
from anabranch.workflow.context.state_store import InMemoryStateStore, ModelT, StateStore
from anabranch.workflow.engine import Engine, engine_of
from anabranch.workflow.events import Event
from anabranch.workflow.marks import IsContext
from anabranch.workflow.retry_policy import RetryInfo
from anabranch.workflow.state import RunState

if TYPE_CHECKING:
    from anabranch.workflow.run import Run
    from anabranch.workflow.stream import StreamReader
    from anabranch.workflow.workflow import Workflow

__all__ = ["Context"]

E = TypeVar("E", bound=Event)
T = TypeVar("T")
DEFAULT_WAIT_S: Final = 2000


class Context(IsContext, Generic[ModelT]):
    """A run seen from inside a step, or from outside.

    A step asks for it by annotation, ``ctx: Context`` or ``ctx: Context[MyState]``. Outside
    it is ``handler.ctx``. One that is given to several runs, one after the other, carries
    the state from one to the next.

    Args:
        workflow: Whose runs.
        previous_context: What ``to_dict`` gave.
        serializer: What it was written with.
    """

    __slots__ = (
        "_activity",
        "_early",
        "_engine",
        "_kept",
        "_run",
        "_serializer",
        "_start",
        "_store",
    )

    def __init__(
        self,
        workflow: Workflow,
        previous_context: Mapping[str, Any] | None = None,
        serializer: BaseSerializer | None = None,
    ) -> None:
        self._engine: Engine = engine_of(workflow)
        self._run: Run | None = None
        self._activity: Activity | None = None
        self._serializer = serializer
        self._start: Event | None = None
        self._early: list[tuple[Event, str | None]] | None = None
        self._store: StateStore[Any] | None = None
        # What is carried from run to run, or is to go on; none before it is asked for.
        self._kept: RunState | None = None
        if previous_context is not None:
            self._kept = self._read(previous_context)

    @classmethod
    def of_step(cls, activity: Activity) -> Context[ModelT]:
        """The context of a step at work."""
        context = cls.__new__(cls)
        context._activity = activity
        context._run = run = activity.run
        context._engine = run.engine
        context._serializer = None
        context._start = context._early = None
        return context

    @staticmethod
    def get_step_context() -> Context[Any]:
        """The context of the step that this is called in, for helpers and decorators.

        Raises:
            WorkflowRuntimeError: It is not called in a step.
        """
        activity = CURRENT.get()
        if activity is None:
            raise WorkflowRuntimeError(
                "get_step_context was called outside a step: outside, use handler.ctx"
            )
        return activity.context

    # ------------------------------------------------------------------ anywhere

    @property
    def store(self) -> StateStore[ModelT]:
        """The state that steps share."""
        if self._run is not None:
            draft = None if self._activity is None else self._activity.draft
            return self._run.store if draft is None else draft.store
        if self._store is None:
            kept = self._kept
            shared = None if kept is None else kept.store
            self._store = InMemoryStateStore(shared or self._engine.new_state())
        return self._store

    @property
    def is_running(self) -> bool:
        """Whether a run goes on, or was written down before it was over."""
        if self._run is not None:
            return not self._run.done
        kept = self._kept
        return self._start is not None or (kept is not None and _goes_on(kept))

    @property
    def resumes(self) -> bool:
        """Whether it holds a run that was written down and is to go on."""
        return self._run is None and self.is_running

    async def running_steps(self) -> list[str]:
        """The names of the steps that are at work."""
        state = self._kept if self._run is None else self._run.state
        if state is None or state.outcome is not None:
            return []
        return sorted({e.step for e in state.executions.values() if e.status == "running"})

    def send_event(self, message: Event, step: str | None = None) -> None:
        """Send an event to all steps that take it and all who wait for it, or to one step.

        It is on its way when this returns, not when the step ends. A step that is tried
        again, or begun anew after a restart, does not send again what it has sent already:
        an equal event to the same step goes out once.

        In a run with a journal it is on its way when what the step has done is recorded:
        with its end, a wait or :meth:`once`; and not at all if the step fails before.

        Raises:
            WorkflowStepDoesNotExistError: There is no step of this name.
            WorkflowRuntimeError: It does not take such an event, or nothing was started.
        """
        run = self._run
        if run is None:
            raise ContextStateError(
                "send_event was called before the run: call workflow.run(ctx=...) first"
            )
        given: Any = message
        if not isinstance(given, Event):
            raise WorkflowRuntimeError(f"only events can be sent, not {message!r}")
        if step is not None:
            self._check_step(run, message, step)
        activity = self._activity
        run.send(message, step, activity)

    @staticmethod
    def _check_step(run: Run, message: Event, step: str) -> None:
        plan = run.machine.plan
        if step not in plan.steps:
            raise WorkflowStepDoesNotExistError(
                f"Step {step} does not exist: there are {', '.join(plan.steps)}"
            )
        kind = type(message)
        waits = (wait for held in run.state.waits.values() for wait in held.values())
        if not plan.steps[step].takes(kind) and not any(
            run.state.executions[wait.execution].step == step for wait in waits
        ):
            raise WorkflowRuntimeError(
                f"Step {step} does not accept event of type {kind.__name__}"
            )

    def write_event_to_stream(self, ev: Event | None, *, recorded: bool = True) -> None:
        """Show an event to those who watch the run; no step is given it.

        In a run with a journal it is shown, once, when what the step has done is recorded:
        with its end, a wait or :meth:`once`.

        Args:
            ev: The event.
            recorded: If false, it is shown at once to those who watch in this process, and
                written down nowhere: for what is only worth seeing as it comes, such as the
                words of an answer.
        """
        if ev is None:
            return
        if self._run is None:
            raise ContextStateError(
                "write_event_to_stream was called before the run: call run(ctx=...)"
            )
        self._run.write(ev, self._activity, recorded=recorded)

    def stream_events(self, expose_internal: bool = True) -> StreamReader:
        """The run's events: see :meth:`WorkflowHandler.stream_events`."""
        if self._run is None:
            raise ContextStateError(
                "stream_events was called before the run: call run(ctx=...) first"
            )
        reader = self._run.stream.read(expose_internal=expose_internal)
        self._run.watch()
        return reader

    # ----------------------------------------------------------------- in a step

    @property
    def idempotency_key(self) -> str:
        """A name for what this execution of the step does outside.

        It is the same in every attempt, and after a restart, and no other execution has it.
        Services that take such a key then do once what they are asked twice.
        """
        execution = self._in_step("idempotency_key").execution
        assert self._run is not None
        return f"{self._run.id}/{execution.step}/{execution.id}"

    def collect_events(
        self, ev: Event, expected: Sequence[type[Event]], buffer_id: str | None = None
    ) -> list[Event] | None:
        """Keep ``ev`` until all that is expected is there.

        Each execution of the step offers its event; the one that completes the set gets it,
        in the order of ``expected``, and the others get ``None``. Types may repeat. What
        was kept beyond the set is there for the next one. An event of a type that is not
        expected is not kept.

        Args:
            ev: The step's event.
            expected: The types of the whole set.
            buffer_id: Where to keep it; each name is a buffer of its own.
        """
        activity = self._in_step("collect_events")
        if not expected:
            return []
        if type(ev) not in expected:
            return None
        kinds = expected if isinstance(expected, list) else list(expected)
        return activity.collect(buffer_id or "default", ev, kinds)

    def wait_for_event(
        self,
        event_type: type[E],
        waiter_event: Event | None = None,
        waiter_id: str | None = None,
        requirements: dict[str, Any] | None = None,
        timeout: float | None = DEFAULT_WAIT_S,
    ) -> Coroutine[Any, Any, E]:
        """Await the next event of a type, from outside or another step.

        The step stands still here, and its worker is free meanwhile. After a restart in
        another process, the code before this runs again; the wait itself goes on. A
        :class:`~anabranch.workflow.Worker` puts a run back whose steps all stand still at
        such a wait; a step that awaits something besides, as with ``asyncio.gather``, is at
        work. But tasks that it does not await, and ``asyncio.timeout`` around the wait, end
        with it: give the wait its own ``timeout``.

        Args:
            event_type: Its type; one of a subclass will do if the step has
                ``accept_event_subclasses``.
            waiter_event: Shown on the stream when the wait begins, once.
            waiter_id: A name for the wait, where one step waits for several things in an
                order that is not always the same.
            requirements: What attributes of the event must be.
            timeout: Seconds to wait; ``None`` for no limit.

        Raises:
            TimeoutError: None came in time.
        """
        activity = self._in_step("wait_for_event")
        # No coroutine of its own: thousands may be suspended here.
        waiting = activity.wait(
            event_type,
            name=waiter_id or f"{event_type.__module__}.{event_type.__qualname__}",
            asks=waiter_event,
            requirements=requirements or {},
            timeout=timeout,
        )
        return cast("Coroutine[Any, Any, E]", waiting)

    @overload
    async def once(self, key: str, fn: Callable[[], Awaitable[T]]) -> T: ...
    @overload
    async def once(self, key: str, fn: Callable[[], T]) -> T: ...
    async def once(self, key: str, fn: Callable[[], Any]) -> Any:
        """What ``fn()`` gave the first time that this execution of the step came here.

        The value is kept with the execution: a further attempt gets it, and in a run with a
        journal also one that is begun anew after a crash. Together with it, what the step
        has done up to now is recorded. If ``fn`` fails nothing is kept.

        Args:
            key: A name for it within the step.
            fn: Called without arguments; may give an awaitable. What it gives must be
                something that the workflow's serializer can write.
        """
        return await self._in_step("once").once(key, fn)

    def retry_info(self) -> RetryInfo:
        """What went before in this execution of the step."""
        execution = self._in_step("retry_info").execution
        assert self._run is not None
        began_at, failed_at = execution.began_at, execution.failed_at
        is_retry = execution.attempt > 1 and began_at is not None
        return RetryInfo(
            retry_number=execution.attempt - 1,
            elapsed_seconds=max(0.0, self._run.now() - began_at) if is_retry else 0.0,  # type: ignore[operator]
            last_exception=execution.error,
            last_failed_at=None
            if failed_at is None
            else datetime.fromtimestamp(failed_at, UTC),
        )

    def _in_step(self, what: str) -> Activity:
        if self._activity is None:
            raise ContextStateError(
                f"{what} can be used only within a step, with the context that it is given"
            )
        return self._activity

    # ------------------------------------------------------------- writing down

    def to_dict(
        self, serializer: BaseSerializer | None = None, *, include_state: bool = True
    ) -> dict[str, Any]:
        """The run as it is at this instant, as data that ``json`` can write.

        It may be taken at any time. A run that is made of it goes on: what had ended is not
        done again, what was under way is begun anew, and waits, retries and half-filled
        collections are as they were.

        Args:
            serializer: How to write what is in events and state; JSON by default.
            include_state: Whether to write the shared state.

        Raises:
            ContextSerdeError: Something in an event or the state cannot be written.
        """
        run = self._run
        if run is None:
            return self._written(serializer, include_state=include_state)
        # On the run's own thread, whatever thread this is: nothing changes meanwhile.
        return run.on_loop(lambda: self._written(serializer, include_state=include_state))

    def _written(
        self, serializer: BaseSerializer | None, *, include_state: bool
    ) -> dict[str, Any]:
        run = self._run
        state = (self._kept or RunState("")) if run is None else run.state
        codec = self._engine.codec_of(serializer or self._serializer)
        if run is not None and not run.done:
            state = dataclasses.replace(state, now=run.now())
        start, early = self._start, self._early or []
        if run is not None and not run.begun:
            start, early = run.start, run.early
        shared = state.store
        if run is None and self._store is not None:
            shared = self._store.whole()
        if not include_state:
            shared = None
        try:
            return {
                "version": VERSION,
                "workflow": self._engine.plan.workflow,
                "machine": codec.write(state),
                "store": None if shared is None else codec.to_plain(shared),
                "start": None if start is None else codec.to_plain(start),
                "early": [[codec.to_plain(event), step] for event, step in early],
                "is_running": start is not None or _goes_on(state),
            }
        except RecursionError as error:
            raise ContextSerdeError(
                "an event or the state is nested too deeply to be written, or in a circle: "
                "keep plain data in them"
            ) from error

    @classmethod
    def from_dict(
        cls,
        workflow: Workflow,
        data: Mapping[str, Any],
        serializer: BaseSerializer | None = None,
    ) -> Context[ModelT]:
        """The context that :meth:`to_dict` wrote down, to be given to ``run(ctx=...)``.

        Raises:
            ContextSerdeError: It was written by another version, is damaged, or names a
                class that is not accepted.
        """
        return cls(workflow, data, serializer)

    def _read(self, data: Mapping[str, Any]) -> RunState:
        given: Any = data
        if not isinstance(given, Mapping):
            raise ContextSerdeError(
                f"a context is read from the dictionary that to_dict gave, not from a "
                f"{type(given).__name__}: undo json.dumps with json.loads first"
            )
        current = up_to_date(data)
        codec = self._engine.codec_of(self._serializer)
        try:
            return self._taken(current, codec)
        except ContextSerdeError:
            raise
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
            raise ContextSerdeError(f"a payload is damaged: {error!r}") from error

    def _taken(self, current: Mapping[str, Any], codec: Codec) -> RunState:
        state = codec.read(current["machine"], self._engine.plan)
        if current["store"] is not None:
            state.store = codec.from_plain(current["store"])
            if not isinstance(state.store, BaseModel):
                raise ContextSerdeError("a payload's state is damaged: it is no model")
        if current["start"] is not None:
            self._start = _as_event(codec.from_plain(current["start"]))
        self._early = [
            (_as_event(codec.from_plain(plain)), step) for plain, step in current["early"]
        ]
        return state

    # ---------------------------------------------------------------- for a run

    def begin(self, run_id: str | None) -> tuple[RunState, Event | None]:
        """The state for the next run, and the start event that is still to be given to it.

        Raises:
            ContextStateError: A run goes on already, or this is a step's context.
        """
        if self._activity is not None:
            raise ContextStateError(
                "a step's context cannot be given to another run: leave ctx out, or use "
                "one of its own"
            )
        if self._run is not None:
            if not self._run.done:
                raise ContextStateError(
                    "this context has a run that goes on: await it first, or give the next "
                    "run a context of its own"
                )
            self._kept = self._run.state
            self._run = None
        kept, self._kept = self._kept, None
        if kept is None or not (self._start is not None or _goes_on(kept)):
            shared = None if kept is None else kept.store
            if self._store is not None:
                shared = self._store.whole()
            kept = RunState(checked_run_id(run_id), store=shared)
        elif run_id is not None and run_id != kept.run_id:
            raise UsageError(
                f"the context holds run {kept.run_id!r}, which goes on under its name: "
                f"leave run_id={run_id!r} out"
            )
        start, self._start = self._start, None
        return kept, start

    def bind(self, run: Run) -> None:
        """From now on this is the context of that run."""
        self._run = run
        early, self._early = self._early, None
        for event, step in early or ():
            run.send(event, step, None)
        self._store = None


def _as_event(value: object) -> Event:
    if not isinstance(value, Event):
        raise ContextSerdeError(f"a payload is damaged: {value!r} is no event")
    return value


def _goes_on(state: RunState) -> bool:
    return state.began_at is not None and state.outcome is None


def checked_run_id(run_id: str | None) -> str:
    """The name of a run; a new one if none is given.

    Raises:
        UsageError: It can be no name.
    """
    if run_id is None:
        return new_run_id()
    given: Any = run_id
    if isinstance(given, str) and given:
        try:
            given.encode()
        except UnicodeEncodeError:
            pass
        else:
            return given
    raise UsageError(
        f"run_id must be a text of at least one character, and one that can be written as "
        f"UTF-8, not {run_id!r}"
    )


def new_run_id() -> str:
    """A name that no other run has."""
    return os.urandom(16).hex()  # as uuid4, at a third of its cost
