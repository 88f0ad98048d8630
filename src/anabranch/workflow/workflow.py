"""Workflows: a class whose steps take and return events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, ClassVar, Literal, TypeAlias

from anabranch.errors import LoopError, WorkflowValidationError
from anabranch.observe import Observer, Observers
from anabranch.workflow.checks import CHECKS
from anabranch.workflow.compiling import start_of, stops_of
from anabranch.workflow.context.context import Context
from anabranch.workflow.context.serializers import BaseSerializer
from anabranch.workflow.decorators import StepConfig, config_of
from anabranch.workflow.engine import (
    ATTRIBUTE,
    DEFAULT_TIMEOUT_S,
    Engine,
    Settings,
    engine_of,
)
from anabranch.workflow.events import Event, StartEvent, StopEvent
from anabranch.workflow.handler import WorkflowHandler
from anabranch.workflow.marks import IsWorkflow
from anabranch.workflow.printer import Printer
from anabranch.workflow.resource import ResourceManager
from anabranch.workflow.service import ServiceManager
from anabranch.workflow.stores.places import store_at
from anabranch.workflow.stores.protocol import Store
from anabranch.workflow.stream import MOST_KEPT
from anabranch.workflow.versions import Migration, Versions

__all__ = ["Workflow"]

WorkflowGraphCheck: TypeAlias = Literal["reachability", "terminal_event", "dead_end"]


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
        durable: Where runs are kept so that they outlive this process: the path of an
            SQLite file, the URL of a PostgreSQL database, or a store.
        version: What this code is called where runs outlive it. A run that was begun with
            the same version goes on even if the graph has changed.
        migrations: How runs of other versions go on with this one, by those versions.
        observer: Is told of runs and steps.
        stream_buffer: How many events the stream of a run keeps.

    Raises:
        WorkflowConfigurationError: No step takes a start event, or none returns a stop
            event.
        WorkflowValidationError: An option cannot be meant.
    """

    # Every name here is one that no step can have, so there are few.
    _anabranch_own: ClassVar[dict[str, Callable[..., Any]]] = {}
    _anabranch_all: ClassVar[Mapping[str, StepConfig] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._anabranch_own = {}
        cls._anabranch_all = None

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
        durable: str | PathLike[str] | Store | None = None,
        version: str = "",
        migrations: Mapping[str, Migration] | None = None,
        observer: Observer | None = None,
        stream_buffer: int = MOST_KEPT,
    ) -> None:
        _check_options(timeout, num_concurrent_runs, skip_graph_checks)
        watchers = [o for o in (observer, Printer() if verbose else None) if o is not None]
        settings = Settings(
            timeout=timeout,
            is_checked=not disable_validation,
            most_runs=num_concurrent_runs,
            name=workflow_name,
            skipped=frozenset[str](skip_graph_checks or ()),
            serializer=serializer,
            store=None if durable is None else store_at(durable),
            versions=Versions(version, dict(migrations or {})),
            observer=Observers(*watchers) if watchers else None,
            stream_buffer=stream_buffer,
            resources=resource_manager or ResourceManager(),
            services=service_manager or ServiceManager(),
        )
        setattr(self, ATTRIBUTE, Engine(self, self._anabranch_steps, settings))
        self._anabranch_runtime = runtime
        name = type(self).__name__
        if "run" in self._anabranch_steps():
            raise WorkflowValidationError(
                f"workflow {name} has a step named 'run', which is what begins a run: give "
                "the step another name"
            )
        start_of(self._anabranch_steps(), name)
        stops_of(self._anabranch_steps(), name)

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
        if name in cls._anabranch_steps():
            raise WorkflowValidationError(
                f"workflow {cls.__name__} has a step {name!r} already: give this one "
                "another name"
            )
        cls._anabranch_own[name] = func
        for kind in (cls, *_below(cls)):
            kind._anabranch_all = None  # noqa: SLF001  # classes of this one

    @classmethod
    def _anabranch_steps(cls) -> Mapping[str, StepConfig]:
        """All steps, those of bases first, by name."""
        if cls._anabranch_all is None:
            found: dict[str, StepConfig] = {}
            for kind in reversed(cls.__mro__):
                own: dict[str, Any] = vars(kind).get("_anabranch_own", {})
                for name, value in (vars(kind) | own).items():
                    if (config := config_of(value)) is not None:
                        found[name] = config
                    else:
                        found.pop(name, None)  # it was a step in a base, and is none here
            cls._anabranch_all = found
        return cls._anabranch_all

    def add_workflows(self, **workflows: Workflow) -> None:
        """Give the steps that ask for a workflow of one of these names these.

        A step asks with a parameter of that name, annotated with the workflow's class.
        """
        engine_of(self).add_services(workflows)

    @property
    def workflow_name(self) -> str:
        """Its name."""
        return engine_of(self).name

    @property
    def start_event_class(self) -> type[StartEvent]:
        """The type of event that begins a run."""
        return engine_of(self).plan.start

    @property
    def stop_event_class(self) -> type[StopEvent]:
        """The type of event that ends a run; of several, the first."""
        return engine_of(self).plan.stops[0]

    @property
    def events(self) -> list[type[Event]]:
        """Every event type that a step takes or returns."""
        return engine_of(self).plan.events()

    @property
    def runtime(self) -> object:
        """What was given as ``runtime``."""
        return self._anabranch_runtime

    @property
    def serializer(self) -> BaseSerializer | None:
        """What was given as ``serializer``."""
        return engine_of(self).settings.serializer

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
        return engine_of(self).validate(
            configs=validate_resource_configs, resources=validate_resources
        )

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
            UsageError: ``start_event`` is none.
            LoopError: No event loop is running.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise LoopError(
                f"{type(self).__name__}.run() needs a running event loop: call it in a "
                "coroutine, and that to asyncio.run(...) or anabranch.asyncio_run(...)"
            ) from None
        engine = engine_of(self)
        engine.check_once()
        context: Context[Any] = Context(self) if ctx is None else ctx
        fresh = None if context.resumes else engine.start_event(start_event, kwargs)
        state, unsent = context.begin(run_id)
        run = engine.run(state, fresh or unsent)
        context.bind(run)
        return WorkflowHandler(run, context)


def _below(kind: type[Workflow]) -> list[type[Workflow]]:
    return [below for child in kind.__subclasses__() for below in (child, *_below(child))]


def _check_options(timeout: Any, num_concurrent_runs: Any, skip_graph_checks: Any) -> None:
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
