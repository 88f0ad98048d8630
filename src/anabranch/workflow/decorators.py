"""Marking what is a step: :func:`step` and :func:`catch_error`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast, overload

from anabranch.errors import WorkflowValidationError
from anabranch.jobs.executors import Executor, ThreadExecutor
from anabranch.workflow.plan import listed
from anabranch.workflow.queues import Queue
from anabranch.workflow.signature import Signature, is_free, local_names, read

if TYPE_CHECKING:
    from anabranch.workflow.remote import Place
    from anabranch.workflow.retry_policy import RetryPolicy
    from anabranch.workflow.workflow import Workflow

__all__ = ["StepConfig", "catch_error", "step"]

F = TypeVar("F", bound=Callable[..., Any])

StepGraphCheck: TypeAlias = Literal["reachability", "dead_end"]
STEP_CHECKS: Final = ("reachability", "dead_end")


@dataclass(slots=True, kw_only=True)
class StepConfig:
    """What a decorator was told of a step.

    Attributes:
        localns: Names around the step, for its annotations; dropped once they are read.
        recovers: Whether it is a ``@catch_error`` handler.
        for_steps: Of a handler, whose failures it takes; ``None`` for all that are left.
    """

    function: Callable[..., Any]
    num_workers: int = 4
    retry_policy: RetryPolicy | None = None
    timeout: float | None = None
    accept_event_subclasses: bool = False
    skip_graph_checks: frozenset[str] = frozenset()
    recovers: bool = False
    for_steps: tuple[str, ...] | None = None
    max_recoveries: int = 1
    executor: Place | None = None
    queue: Queue | None = None
    localns: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _signature: Signature | None = None

    def __getstate__(self) -> tuple[Any, dict[str, Any]]:
        # With a class that travels to another process go its steps. An executor could not,
        # and names around the class may be anything; the signature is read again there.
        left: dict[str, Any] = {"executor": None, "localns": {}, "_signature": None}
        return None, {name: getattr(self, name) for name in self.__slots__} | left

    def settle(self) -> None:
        """Read the annotations, unless they name what is only defined further down."""
        try:
            self._read()
        except NameError:
            return
        self.localns = {}

    def _read(self) -> Signature:
        signature = read(self.function, self.localns)
        if self.executor is not None:
            _check_travels(self.function, self.executor, signature)
        self._signature = signature
        return signature

    @property
    def signature(self) -> Signature:
        """What the step takes and gives."""
        if self._signature is None:
            try:
                return self._read()
            except NameError as error:
                raise WorkflowValidationError(
                    f"step {self.function.__name__!r} has an annotation that names "
                    f"{error.name!r}, which is not defined: define or import it in the "
                    "step's module, outside `if TYPE_CHECKING`"
                ) from error
        return self._signature


def config_of(function: object) -> StepConfig | None:
    """What a function's decorator was told; ``None`` if it is no step."""
    config = getattr(function, "_step_config", None)
    return config if isinstance(config, StepConfig) else None


@overload
def step(func: F) -> F: ...
@overload
def step(
    func: None = None,
    *,
    workflow: type[Workflow] | None = None,
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    skip_graph_checks: list[StepGraphCheck] | None = None,
    accept_event_subclasses: bool = False,
    timeout: float | None = None,
    executor: Place | None = None,
    queue: Queue | None = None,
) -> Callable[[F], F]: ...
def step(
    func: F | None = None,
    *,
    workflow: type[Workflow] | None = None,
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    skip_graph_checks: list[StepGraphCheck] | None = None,
    accept_event_subclasses: bool = False,
    timeout: float | None = None,
    executor: Place | None = None,
    queue: Queue | None = None,
) -> F | Callable[[F], F]:
    """Make a method, or with ``workflow`` a function, a step of a workflow.

    What it takes and returns is read from its annotations. A step that is not ``async``
    runs in a thread, so that it does not hold up the event loop.

    Args:
        func: The step, where the decorator is used without arguments.
        workflow: The class that a function outside a class is a step of.
        num_workers: How many executions of it may be at work at once, in one run. One that
            waits for an event is not at work.
        retry_policy: When a failed execution is tried again; default never.
        skip_graph_checks: Checks that do not concern it: "reachability", "dead_end".
        accept_event_subclasses: Whether it also takes events of subclasses.
        timeout: Seconds that one attempt may take; it then fails with ``TimeoutError``, and
            is tried again if the retry policy says so. A step in a thread runs on, its
            result is dropped.
        executor: Where its body runs: ``"thread"``, ``"process"`` or ``"ray"``, which the
            steps of an event loop share and which end with it; or an executor such as
            :class:`~anabranch.jobs.ProcessExecutor`, which is yours to close. Such a step
            takes events and nothing else. Away from this process it works on a copy of the
            workflow object, and context variables do not get there. If its worker dies,
            another one is given it, once or as often as the executor does that; then it
            fails with :class:`~anabranch.errors.WorkerLost`. Its time begins when a worker
            is given it.
        queue: How many executions of steps that name this queue may be at work, and begin
            in a time, over all runs of all workers with one store. One that waits for its
            turn holds its step's worker, and its time has not begun; one that waits for an
            event gives its turn back.

    Raises:
        WorkflowValidationError: The signature is not that of a step, or an option cannot be
            meant.
    """
    workers: Any = num_workers
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise WorkflowValidationError(
            f"num_workers must be an integer greater than 0, not {num_workers!r}"
        )
    limit: Any = timeout
    if limit is not None and (not isinstance(limit, int | float) or not limit > 0):
        raise WorkflowValidationError(
            f"timeout must be a number of seconds greater than 0, or None, not {timeout!r}"
        )
    if retry_policy is not None and not hasattr(retry_policy, "next"):
        raise WorkflowValidationError(
            f"retry_policy must have a method next(elapsed_time, attempts, error), which "
            f"{retry_policy!r} has not: make one with retry_policy(...)"
        )
    _check_executor(executor)
    shared: Any = queue
    if shared is not None and not isinstance(shared, Queue):
        raise WorkflowValidationError(
            f'queue must be a queue such as Queue("llm", concurrency=10), not {queue!r}'
        )
    skipped = frozenset[str](skip_graph_checks or ())
    if unknown := skipped - set(STEP_CHECKS):
        raise WorkflowValidationError(
            f"there is no graph check {', '.join(sorted(unknown))} of a step; there are "
            f"{', '.join(STEP_CHECKS)}"
        )
    around = inspect.currentframe()

    def decorate(function: F) -> F:
        return _mark(
            function,
            workflow,
            StepConfig(
                function=function,
                num_workers=num_workers,
                retry_policy=retry_policy,
                timeout=timeout,
                accept_event_subclasses=accept_event_subclasses,
                skip_graph_checks=skipped,
                executor=executor,
                queue=queue,
                localns=local_names(around.f_back if around else None),
            ),
        )

    return decorate if func is None else decorate(func)


@overload
def catch_error(func: F) -> F: ...
@overload
def catch_error(
    func: None = None,
    *,
    for_steps: list[str] | None = None,
    max_recoveries: int = 1,
    workflow: type[Workflow] | None = None,
) -> Callable[[F], F]: ...
def catch_error(
    func: F | None = None,
    *,
    for_steps: list[str] | None = None,
    max_recoveries: int = 1,
    workflow: type[Workflow] | None = None,
) -> F | Callable[[F], F]:
    """Make a method the step that is called when others have failed for good.

    It takes a :class:`~anabranch.workflow.StepFailedEvent` and returns the event to go on
    with. What it raises fails the run.

    Args:
        func: The handler, where the decorator is used without arguments.
        for_steps: The names of the steps whose failures it takes. Without, it takes those
            that no other handler takes; there can be one such.
        max_recoveries: How often it may be called in one line of events: where an event
            that it returned leads to another failure, and so on. Beyond that the run fails.
        workflow: The class that a function outside a class is a handler of.

    Raises:
        WorkflowValidationError: The signature is not that of a handler.
    """
    most: Any = max_recoveries
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise WorkflowValidationError(
            f"max_recoveries must be an integer of at least 1, not {max_recoveries!r}"
        )
    if for_steps is not None and not _are_names(for_steps):
        raise WorkflowValidationError(
            f"for_steps must be a list of the names of steps, not {for_steps!r}"
        )
    around = inspect.currentframe()

    def decorate(function: F) -> F:
        return _mark(
            function,
            workflow,
            StepConfig(
                function=function,
                num_workers=1,
                recovers=True,
                for_steps=None if for_steps is None else tuple(for_steps),
                max_recoveries=max_recoveries,
                localns=local_names(around.f_back if around else None),
            ),
        )

    return decorate if func is None else decorate(func)


def _check_executor(executor: Any) -> None:
    if executor in (None, "thread", "process", "ray") or isinstance(executor, Executor):
        return
    raise WorkflowValidationError(
        "executor must be 'thread', 'process', 'ray' or an executor such as "
        f"ProcessExecutor(4), not {executor!r}"
    )


def _check_travels(
    function: Callable[..., Any], executor: Place, signature: Signature
) -> None:
    """See to it that a body can run away from its run.

    Raises:
        WorkflowValidationError: It asks for something that is only there, or is ``async``
            and to run in a thread.
    """
    name = function.__name__
    context = (signature.context,) if signature.context else ()
    if stays := [*context, *signature.resources, *signature.services]:
        raise WorkflowValidationError(
            f"step {name!r} runs on an executor and asks for {listed(stays)}, which stays "
            "with the run: let it take events only, and a step before it put what it needs "
            "into the event; or leave out `executor`"
        )
    in_thread = executor == "thread" or isinstance(executor, ThreadExecutor)
    if in_thread and inspect.iscoroutinefunction(function):
        raise WorkflowValidationError(
            f"step {name!r} is an `async def` function, which a thread cannot run: leave "
            "out `executor` to run it on the event loop, or write it with `def`"
        )


def _are_names(names: object) -> bool:
    if not isinstance(names, list | tuple):
        return False
    return all(isinstance(name, str) for name in cast("list[object]", names))


def _mark(function: F, workflow: type[Workflow] | None, config: StepConfig) -> F:
    given: Any = function
    if not callable(given) or not hasattr(given, "__name__"):
        raise WorkflowValidationError(f"a step is a function, not {function!r}")
    free = is_free(function)
    if free and workflow is None:
        raise WorkflowValidationError(
            f"step {function.__name__!r} is defined outside a class: say which workflow it "
            "is a step of, with @step(workflow=...)"
        )
    config.settle()
    function._step_config = config  # type: ignore[attr-defined]  # noqa: SLF001
    if free and workflow is not None:
        workflow.add_step(function)
    return function
