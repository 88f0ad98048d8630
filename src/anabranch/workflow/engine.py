"""What is behind a workflow object, apart so that steps may have any name."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakSet

from pydantic import BaseModel, ValidationError

from anabranch.errors import UsageError, WorkflowRuntimeError, WorkflowValidationError
from anabranch.observe import Observers
from anabranch.workflow.activity import Activity
from anabranch.workflow.calls import Call, call_of, check_services
from anabranch.workflow.checks import CHECKS, faults
from anabranch.workflow.codec import Codec
from anabranch.workflow.compiling import compile_plan
from anabranch.workflow.context.paths import class_of
from anabranch.workflow.context.serializers import (
    BaseSerializer,
    JsonSerializer,
    name_of,
    reachable,
)
from anabranch.workflow.context.state_store import DictState
from anabranch.workflow.decorators import StepConfig
from anabranch.workflow.events import Event, StartEvent
from anabranch.workflow.marks import IsWorkflow
from anabranch.workflow.opening import begin_or_take_up
from anabranch.workflow.plan import Plan
from anabranch.workflow.resource import (
    Lifetime,
    Need,
    ResourceConfig,
    ResourceManager,
    circle_of,
)
from anabranch.workflow.run import Run, enclosing
from anabranch.workflow.service import ServiceManager
from anabranch.workflow.state import RunState
from anabranch.workflow.stores.protocol import Store
from anabranch.workflow.stream import MOST_KEPT
from anabranch.workflow.versions import Shape, Versions, shape_of

DEFAULT_TIMEOUT_S: Final = 45.0
LOOK_EVERY_S: Final = 1.0
# Where a workflow object keeps its engine: a name that no program has taken.
ATTRIBUTE: Final = "_anabranch_engine"

logger = logging.getLogger("anabranch.workflow")


@dataclass(slots=True, kw_only=True)
class Settings:
    """What a workflow object was made with."""

    timeout: float | None = DEFAULT_TIMEOUT_S
    is_checked: bool = True
    most_runs: int | None = None
    name: str | None = None
    skipped: frozenset[str] = frozenset()
    serializer: BaseSerializer | None = None
    store: Store | None = None
    versions: Versions = field(default_factory=Versions)
    observer: Observers | None = None
    stream_buffer: int = MOST_KEPT
    resources: ResourceManager = field(default_factory=ResourceManager)
    services: ServiceManager = field(default_factory=ServiceManager)


class Compiled:
    """What is known of a workflow object as long as its class gets no further step."""

    def __init__(self, owner: object, name: str, configs: Mapping[str, StepConfig]) -> None:
        self.configs = configs
        self.plan = compile_plan(name, configs)
        self.state_type = _state_type(configs)
        self.data_types = reachable((*self.plan.events(), self.state_type))
        self._owner = owner
        self._calls: dict[str, Call] | None = None
        self.shape: Shape | None = None

    def calls(self, services: ServiceManager) -> dict[str, Call]:
        """How each step is called."""
        if self._calls is None:
            check_services(self.configs, services)
            self._calls = {
                name: call_of(name, config, self._owner, services)
                for name, config in self.configs.items()
            }
        return self._calls

    def forget_calls(self) -> None:
        """There are other services."""
        self._calls = None


class Engine:
    """A workflow object's steps, options, and runs.

    Args:
        owner: The object.
        configs: Its class's steps; the same mapping as long as they are the same.
        settings: What it was made with.
    """

    def __init__(
        self,
        owner: object,
        configs: Callable[[], Mapping[str, StepConfig]],
        settings: Settings,
    ) -> None:
        self.owner = owner
        self.configs = configs
        self.settings = settings
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._compiled: Compiled | None = None
        self._checked: Compiled | None = None
        self._active: set[Run] = set()
        self._waiting: deque[Run] = deque()
        self._looking = WeakSet[asyncio.AbstractEventLoop]()
        self._turns = threading.Lock()  # loops in several threads may share a workflow

    def __getstate__(self) -> tuple[Any, ...]:
        # A copy of the workflow has runs of its own.
        return self.owner, self.configs, self.settings

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.owner, self.configs, self.settings = state
        self._begin_empty()

    @property
    def name(self) -> str:
        """The workflow's."""
        kind = class_of(self.owner)
        return self.settings.name or name_of(kind)

    def _compile(self) -> Compiled:
        configs = self.configs()
        compiled = self._compiled
        if compiled is None or compiled.configs is not configs:
            compiled = self._compiled = Compiled(self.owner, self.name, configs)
        return compiled

    @property
    def plan(self) -> Plan:
        """The steps, and the way of each event."""
        return self._compile().plan

    @property
    def calls(self) -> dict[str, Call]:
        """How each step is called."""
        return self._compile().calls(self.settings.services)

    @property
    def codec(self) -> Codec:
        """How its runs are written down, unless somebody says otherwise."""
        return self.codec_of(None)

    def codec_of(self, serializer: BaseSerializer | None) -> Codec:
        """How its runs are written down with this serializer, or its own."""
        chosen = serializer or self.settings.serializer or JsonSerializer()
        if isinstance(chosen, JsonSerializer):
            chosen = chosen.knowing(self._compile().data_types)
        return Codec(chosen)

    @property
    def shape(self) -> Shape:
        """The workflow as it is, for runs that outlive it."""
        compiled = self._compile()
        if compiled.shape is None:
            compiled.shape = shape_of(compiled.plan, self.settings.versions, self.codec)
        return compiled.shape

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
                f"the state of workflow {self.name}, a {kind.__name__}, cannot be made "
                f"without values: give all its fields defaults ({error})"
            ) from error

    def add_services(self, workflows: Mapping[str, Any]) -> None:
        """Give steps these workflows by name."""
        for name, workflow in workflows.items():
            self.settings.services.add(name, workflow)
        if self._compiled is not None:
            self._compiled.forget_calls()

    # ----------------------------------------------------------------- validation

    def validate(self, *, configs: bool = True, resources: bool = False) -> bool:
        """See to it that the workflow can run well; whether it uses human input.

        Args:
            configs: Also read the files that steps want as configuration.
            resources: Also make every resource, and close it again.

        Raises:
            WorkflowValidationError: It cannot; a sentence for each reason.
        """
        compiled, settings = self._compile(), self.settings
        excused = {
            check: {n for n, c in compiled.configs.items() if check in c.skip_graph_checks}
            for check in CHECKS
        }
        wrong = faults(compiled.plan, skipped=settings.skipped, excused=excused)
        needs = _needs(compiled.configs)
        for where, need in needs:
            if circle := circle_of(need):
                names = " -> ".join(inner.descriptor.name for inner in circle)
                wrong.append(f"{where} asks for resources that need each other: {names}")
            elif configs and isinstance(need.descriptor, ResourceConfig):
                try:
                    need.descriptor.load(need.type)
                except WorkflowValidationError as error:
                    wrong.append(f"{where}: {error}")
        if wrong:
            raise WorkflowValidationError("\n".join(wrong))
        check_services(compiled.configs, settings.services)
        if resources:
            from anabranch.jobs import asyncio_run

            asyncio_run(_make_all(settings.resources, needs))
        self._checked = compiled
        return compiled.plan.asks_people

    def check_once(self) -> None:
        """Validate, unless that was done already or is not wanted."""
        if self.settings.is_checked and self._checked is not self._compile():
            self.validate()

    # ----------------------------------------------------------------------- runs

    def start_event(self, given: Any, fields: dict[str, Any]) -> StartEvent:
        """What a run begins with: the event that was given, or one of these fields.

        Raises:
            UsageError: It is no start event.
            WorkflowRuntimeError: It cannot be made of the fields.
        """
        if given is not None:
            if not isinstance(given, StartEvent):
                raise UsageError(f"start_event must be a StartEvent, not {given!r}")
            if fields:
                logger.warning(
                    "run() was given a start_event, so these arguments are ignored: %s",
                    ", ".join(fields),
                )
            return given
        kind = self.plan.start
        try:
            return kind(**fields)
        except ValidationError as error:
            raise WorkflowRuntimeError(
                f"Failed creating a start event of type {kind.__name__} from the arguments "
                f"{', '.join(fields) or '(none)'}: {error}"
            ) from error

    def run(self, state: RunState, start: Event | None) -> Run:
        """A run, which begins at the loop's next turn, or when there is a place for it."""
        parent = enclosing()
        run = Run(self, state, start=start, timeout=self._time(parent), parent=parent)
        most = self.settings.most_runs
        with self._turns:
            if most is not None and len(self._active) >= most:
                self._forget_lost()
            waits = most is not None and len(self._active) >= most
            if waits:
                self._waiting.append(run)
                self._look_later(run.loop)
            else:
                self._active.add(run)
        if not waits:
            self._begin(run)
        return run

    def stored(self, run_id: str) -> Run:
        """A run that is in a store and is to be taken up."""
        state = RunState(run_id)
        timeout = self.settings.timeout
        return Run(self, state, start=None, timeout=timeout, parent=None)

    def _forget_lost(self) -> None:
        """Runs whose loop was closed under them have no place any more."""
        self._active = {run for run in self._active if not run.loop.is_closed()}
        self._waiting = deque(run for run in self._waiting if not run.loop.is_closed())

    def _begin(self, run: Run) -> None:
        store = self.settings.store
        if run.done:
            return
        if store is None:
            run.loop.call_soon(run.begin, context=run.variables)
        else:
            run.opening = run.loop.create_task(
                begin_or_take_up(run, store), context=run.variables
            )

    def ended(self, run: Run) -> None:
        """A run is over: another one may have its place."""
        with self._turns:
            self._active.discard(run)
            if not self._waiting:
                return
            if run in self._waiting:
                self._waiting.remove(run)
                return
            self._fill()

    def _fill(self) -> None:
        """Let runs that wait begin, as many as there are places for."""
        self._forget_lost()
        while self._waiting and len(self._active) < (self.settings.most_runs or 0):
            next_run = self._waiting.popleft()
            # Its loop may be closed at any moment, by another thread.
            with suppress(RuntimeError):
                next_run.loop.call_soon_threadsafe(self._begin, next_run)
                self._active.add(next_run)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """See now and then whether a place was lost with its loop, which tells nobody."""
        if loop not in self._looking:
            self._looking.add(loop)
            loop.call_later(LOOK_EVERY_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._turns:
            self._looking.discard(loop)
            self._fill()
            if any(run.loop is loop for run in self._waiting):
                self._look_later(loop)

    def _time(self, parent: Activity | None) -> float | None:
        """How long a run may take: inside another, by default, as long as that one."""
        timeout = self.settings.timeout
        if parent is None or timeout != DEFAULT_TIMEOUT_S:
            return timeout
        deadline = parent.run.state.deadline
        return None if deadline is None else max(0.0, deadline - parent.run.now())


def engine_of(workflow: IsWorkflow) -> Engine:
    """What is behind a workflow object.

    Raises:
        WorkflowValidationError: Its class has an ``__init__`` that leaves out the base's.
    """
    engine = workflow.__dict__.get(ATTRIBUTE)
    if not isinstance(engine, Engine):
        name = type(workflow).__name__
        raise WorkflowValidationError(
            f"{name}.__init__ does not call super().__init__(): let it do so; or this is "
            "the copy that a step on an executor has, which begins no runs: begin them in "
            "a step without executor="
        )
    if engine.owner is not workflow:  # a copy has the same settings, and steps of its own
        engine = Engine(workflow, engine.configs, engine.settings)
        setattr(workflow, ATTRIBUTE, engine)
    return engine


def _state_type(configs: Mapping[str, StepConfig]) -> type[BaseModel]:
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


def _needs(configs: Mapping[str, StepConfig]) -> list[tuple[str, Need]]:
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
