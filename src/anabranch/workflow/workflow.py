"""Workflows: a class whose steps take and return events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ValidationError

from anabranch.errors import LoopError, WorkflowRuntimeError, WorkflowValidationError
from anabranch.observe import Observer, Observers
from anabranch.workflow.activity import Activity
from anabranch.workflow.calls import Call, call_of, check_services
from anabranch.workflow.checks import CHECKS, faults
from anabranch.workflow.codec import Codec
from anabranch.workflow.compiling import compile_plan, start_of, stops_of
from anabranch.workflow.context.context import Context
from anabranch.workflow.context.serializers import BaseSerializer, JsonSerializer
from anabranch.workflow.context.state_store import DictState
from anabranch.workflow.decorators import StepConfig, config_of
from anabranch.workflow.events import Event, StartEvent, StopEvent
from anabranch.workflow.handler import WorkflowHandler
from anabranch.workflow.marks import IsWorkflow
from anabranch.workflow.plan import Plan
from anabranch.workflow.printer import Printer
from anabranch.workflow.recorder import take_up
from anabranch.workflow.resource import (
    Lifetime,
    Need,
    ResourceConfig,
    ResourceManager,
    circle_of,
)
from anabranch.workflow.run import Run, enclosing
from anabranch.workflow.service import ServiceManager
from anabranch.workflow.stores.protocol import Store
from anabranch.workflow.stream import MOST_KEPT

__all__ = ["Workflow"]

WorkflowGraphCheck: TypeAlias = Literal["reachability", "terminal_event", "dead_end"]
DEFAULT_TIMEOUT_S: Final = 45.0


class Workflow(IsWorkflow):
    """A set of steps, joined by the events that they take and return.

    Subclass it and mark methods with :func:`~anabranch.workflow.step`. One object may have
    many runs at once; each has its own state.

    Args:
        timeout: Seconds that a run may take; ``None`` for no limit. A run inside a step of
            another, whose workflow has the default, may take what is left to the outer one.
        disable_validation: Leave out all checks but those without which nothing can run.
        verbose: Print what the steps do.
        resource_manager: Keeps the resources that are shared between runs.
        num_concurrent_runs: How many runs may be under way at once; others wait their turn,
            and their time begins with it.
        runtime: Accepted for compatibility; runs are driven by the loop they start on.
        workflow_name: Its name; default that of the class with its module.
        skip_graph_checks: Checks to leave out: "reachability", "terminal_event",
            "dead_end".
        serializer: How contexts are written down; JSON by default.
        service_manager: Keeps the workflows that steps ask for by name.
        durable: Where runs keep their journals.
        observer: Is told of runs and steps.
        stream_buffer: How many events the stream of a run keeps.

    Raises:
        WorkflowConfigurationError: No step takes a start event, or none returns a stop
            event.
        WorkflowValidationError: An option cannot be meant.
    """

    _own_steps: ClassVar[dict[str, Callable[..., Any]]] = {}
    # Grows with every step that is added to any class.
    steps_version: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._own_steps = {}

    def __init__(
        self,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        disable_validation: bool = False,
        verbose: bool = False,
        resource_manager: ResourceManager | None = None,
        num_concurrent_runs: int | None = None,
        runtime: object = None,
        workflow_name: str | None = None,
        skip_graph_checks: set[WorkflowGraphCheck] | None = None,
        serializer: BaseSerializer | None = None,
        *,
        service_manager: ServiceManager | None = None,
        durable: Store | None = None,
        observer: Observer | None = None,
        stream_buffer: int = MOST_KEPT,
    ) -> None:
        _check_options(timeout, num_concurrent_runs, skip_graph_checks, durable)
        self._timeout = timeout
        self._unchecked = disable_validation
        self._runtime = runtime
        self._name = workflow_name
        self._skipped = frozenset[str](skip_graph_checks or ())
        self._serializer = serializer
        self._store = durable
        self._limit = num_concurrent_runs
        self._active: set[Run] = set()
        self._waiting: deque[Run] = deque()
        self.resources = resource_manager or ResourceManager()
        self.services = service_manager or ServiceManager()
        self.stream_buffer = stream_buffer
        watchers = [o for o in (observer, Printer() if verbose else None) if o is not None]
        self.observer = Observers(*watchers) if watchers else None
        self._compiled: _Compiled | None = None
        self._checked: _Compiled | None = None
        self._asks = False
        configs = self._configs()
        start_of(configs, type(self).__name__)
        stops_of(configs, type(self).__name__)

    # -------------------------------------------------------------------- steps

    @classmethod
    def add_step(cls, func: Callable[..., Any]) -> None:
        """Make a function that is marked with ``@step`` a step of this class.

        Raises:
            WorkflowValidationError: It is not marked, or there is a step of this name.
        """
        name = getattr(func, "__name__", repr(func))
        if config_of(func) is None:
            raise WorkflowValidationError(
                f"{name} is no step: mark it with @step(workflow={cls.__name__})"
            )
        if name in cls._functions():
            raise WorkflowValidationError(
                f"workflow {cls.__name__} has a step {name!r} already: give this one "
                "another name"
            )
        cls._own_steps[name] = func
        Workflow.steps_version += 1

    @classmethod
    def _functions(cls) -> dict[str, Callable[..., Any]]:
        """All steps, those of bases first, by name."""
        found: dict[str, Callable[..., Any]] = {}
        for kind in reversed(cls.__mro__):
            for name, value in vars(kind).items():
                if config_of(value) is not None:
                    found[name] = value
                else:
                    found.pop(name, None)  # it was a step in a base, and is none here
            if issubclass(kind, Workflow):
                found |= vars(kind).get("_own_steps", {})
        return found

    @classmethod
    def _configs(cls) -> dict[str, StepConfig]:
        return {
            name: config
            for name, function in cls._functions().items()
            if (config := config_of(function)) is not None
        }

    def add_workflows(self, **workflows: Workflow) -> None:
        """Give the steps that ask for a workflow of one of these names these.

        A step asks with a parameter of that name, annotated with the workflow's class.
        """
        for name, workflow in workflows.items():
            self.services.add(name, workflow)
        self._compiled = None

    # ------------------------------------------------------------------ compiled

    def _compile(self) -> _Compiled:
        compiled = self._compiled
        if compiled is None or compiled.version != Workflow.steps_version:
            compiled = self._compiled = _Compiled(self, self._configs())
        return compiled

    @property
    def plan(self) -> Plan:
        """The steps, and the way of each event."""
        return self._compile().plan

    @property
    def calls(self) -> dict[str, Call]:
        """How each step is called."""
        return self._compile().calls

    @property
    def data_types(self) -> tuple[type[Any], ...]:
        """The classes that its events and its state are of."""
        return self._compile().data_types

    def new_state(self) -> BaseModel:
        """A state for a new run.

        Raises:
            WorkflowRuntimeError: Its model cannot be made without values.
        """
        kind = self._compile().state_type
        try:
            return kind()
        except ValidationError as error:
            raise WorkflowRuntimeError(
                f"the state of workflow {self.workflow_name}, a {kind.__name__}, cannot be "
                f"made without values: give all its fields defaults ({error})"
            ) from error

    # ---------------------------------------------------------------- properties

    @property
    def workflow_name(self) -> str:
        """Its name."""
        kind = type(self)
        return self._name or f"{kind.__module__}.{kind.__qualname__}"

    @property
    def start_event_class(self) -> type[StartEvent]:
        """The type of event that begins a run."""
        return self.plan.start

    @property
    def stop_event_class(self) -> type[StopEvent]:
        """The type of event that ends a run; of several, the first."""
        return self.plan.stops[0]

    @property
    def events(self) -> list[type[Event]]:
        """Every event type that a step takes or returns."""
        return self.plan.events()

    @property
    def runtime(self) -> object:
        """What was given as ``runtime``."""
        return self._runtime

    @property
    def serializer(self) -> BaseSerializer | None:
        """What was given as ``serializer``."""
        return self._serializer

    # ----------------------------------------------------------------- validation

    def validate(
        self, *, validate_resource_configs: bool = True, validate_resources: bool = False
    ) -> bool:
        """See to it that the workflow can run well; whether it uses human input.

        Args:
            validate_resource_configs: Also read the files that steps want as configuration.
            validate_resources: Also make every resource, and close it again.

        Raises:
            WorkflowValidationError: It cannot; a sentence for each reason.
        """
        compiled = self._compile()
        excused = {
            check: {n for n, c in compiled.configs.items() if check in c.skip_graph_checks}
            for check in CHECKS
        }
        wrong = faults(compiled.plan, skipped=self._skipped, excused=excused)
        needs = _needs(compiled.configs)
        for where, need in needs:
            if circle := circle_of(need):
                names = " -> ".join(inner.descriptor.name for inner in circle)
                wrong.append(f"{where} asks for resources that need each other: {names}")
            elif validate_resource_configs and isinstance(need.descriptor, ResourceConfig):
                try:
                    need.descriptor.load(need.type)
                except WorkflowValidationError as error:
                    wrong.append(f"{where}: {error}")
        if wrong:
            raise WorkflowValidationError("\n".join(wrong))
        check_services(compiled.configs, self.services)
        if validate_resources:
            from anabranch.jobs import asyncio_run

            asyncio_run(_make_all(self.resources, needs))
        self._checked = compiled
        self._asks = compiled.plan.asks_people
        return self._asks

    # ----------------------------------------------------------------------- runs

    def run(
        self,
        ctx: Context[Any] | None = None,
        start_event: StartEvent | None = None,
        *,
        run_id: str | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Begin a run on the running event loop.

        Args:
            ctx: A context that carries state, or a run that was written down and goes on.
            start_event: What the run begins with; default one made of the other arguments.
            run_id: A name for the run. With ``durable``, a run of this name that exists is
                taken up again, or its result given.
            **kwargs: The fields of the start event.

        Raises:
            WorkflowValidationError: The workflow is not well-formed.
            WorkflowRuntimeError: The start event cannot be made of the arguments.
            LoopError: No event loop is running.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise LoopError(
                f"{type(self).__name__}.run() needs a running event loop: call it in a "
                "coroutine, and that to asyncio.run(...) or anabranch.asyncio_run(...)"
            ) from None
        compiled = self._compile()
        if not self._unchecked and self._checked is not compiled:
            self.validate()
        context = Context[Any](self) if ctx is None else ctx
        fresh = None if context.resumes else self._start_event(start_event, kwargs)
        state, unsent = context.begin(run_id)
        start = fresh or unsent
        parent = enclosing()
        run = Run(self, state, start=start, timeout=self._time(parent), parent=parent)
        context.bind(run)
        if self._limit is not None and len(self._active) >= self._limit:
            self._waiting.append(run)
        else:
            self._begin(run)
        return WorkflowHandler(run, context)

    def _begin(self, run: Run) -> None:
        self._active.add(run)
        if self._store is None:
            run.loop.call_soon(run.begin, context=run.variables)
        else:
            serializer = self._serializer or JsonSerializer()
            if isinstance(serializer, JsonSerializer):
                serializer = serializer.knowing(self.data_types)
            run.opening = run.loop.create_task(
                take_up(run, self._store, Codec(serializer)), context=run.variables
            )

    def run_ended(self, run: Run) -> None:
        """A run is over: another one may have its place."""
        self._active.discard(run)
        if run in self._waiting:
            self._waiting.remove(run)
        while self._waiting and self._limit is not None and len(self._active) < self._limit:
            waiting = self._waiting.popleft()
            waiting.loop.call_soon_threadsafe(self._begin, waiting)
            return

    def _time(self, parent: Activity | None) -> float | None:
        """How long a run may take: inside another, by default, as long as that one."""
        if parent is None or self._timeout != DEFAULT_TIMEOUT_S:
            return self._timeout
        deadline = parent.run.state.deadline
        return None if deadline is None else max(0.0, deadline - parent.run.now())

    def _start_event(self, given: StartEvent | None, kwargs: dict[str, Any]) -> StartEvent:
        if given is not None:
            event: Any = given
            if not isinstance(event, StartEvent):
                raise WorkflowRuntimeError(
                    f"start_event must be a StartEvent, not {given!r}"
                )
            if kwargs:
                raise WorkflowRuntimeError(
                    f"run() was given a start_event and {', '.join(kwargs)}: give one or "
                    "the other"
                )
            return given
        kind = self.plan.start
        try:
            return kind(**kwargs)
        except ValidationError as error:
            raise WorkflowRuntimeError(
                f"Failed creating a start event of type {kind.__name__} from the arguments "
                f"{', '.join(kwargs) or '(none)'}: {error}"
            ) from error


class _Compiled:
    """What is known of a workflow object as long as its class gets no further step."""

    def __init__(self, workflow: Workflow, configs: dict[str, StepConfig]) -> None:
        self.version = Workflow.steps_version
        self.configs = configs
        self.plan = compile_plan(workflow.workflow_name, configs)
        check_services(configs, workflow.services)
        self.calls = {
            name: call_of(name, config, workflow, workflow.services)
            for name, config in configs.items()
        }
        self.state_type = _state_type(configs)
        self.data_types = (*self.plan.events(), self.state_type)


def _state_type(configs: dict[str, StepConfig]) -> type[BaseModel]:
    """The model of the state: the most special of those that steps ask for."""
    found: type[BaseModel] = DictState
    owner = ""
    for name, config in configs.items():
        kind = config.signature.state_type
        if kind is None or kind is DictState or issubclass(found, kind):
            continue
        if found is not DictState and not issubclass(kind, found):
            raise WorkflowValidationError(
                f"steps {owner!r} and {name!r} ask for different states, "
                f"Context[{found.__name__}] and Context[{kind.__name__}]: a run has one, "
                "so let one model derive from the other"
            )
        found, owner = kind, name
    return found


def _needs(configs: dict[str, StepConfig]) -> list[tuple[str, Need]]:
    return [
        (f"step {name!r}, parameter {parameter!r}", need)
        for name, config in configs.items()
        for parameter, need in config.signature.resources.items()
    ]


async def _make_all(manager: ResourceManager, needs: list[tuple[str, Need]]) -> None:
    life = Lifetime()
    async with life.exits:
        for where, need in needs:
            try:
                await manager.resolve(need, life, life)
            except Exception as error:
                raise WorkflowValidationError(
                    f"{where}: the resource {need.descriptor.name} cannot be made: {error}"
                ) from error


def _check_options(
    timeout: Any, num_concurrent_runs: Any, skip_graph_checks: Any, durable: Any
) -> None:
    if timeout is not None and (
        isinstance(timeout, bool)
        or not isinstance(timeout, int | float)
        or not timeout >= 0
    ):
        raise WorkflowValidationError(
            f"timeout must be a number of seconds, or None, not {timeout!r}"
        )
    runs = num_concurrent_runs
    if runs is not None and (
        isinstance(runs, bool) or not isinstance(runs, int) or runs < 1
    ):
        raise WorkflowValidationError(
            f"num_concurrent_runs must be an integer greater than 0, or None, not {runs!r}"
        )
    if unknown := set(skip_graph_checks or ()) - set(CHECKS):
        raise WorkflowValidationError(
            f"there is no graph check {', '.join(sorted(map(str, unknown)))}; there are "
            f"{', '.join(CHECKS)}"
        )
    if durable is not None and not isinstance(durable, Store):
        raise WorkflowValidationError(
            f"durable must be a store of journals such as MemoryStore(), not {durable!r}"
        )
