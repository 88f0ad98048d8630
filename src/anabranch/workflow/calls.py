"""How a step's function is called, and what is made of what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from anabranch.errors import WorkflowRuntimeError, WorkflowValidationError
from anabranch.workflow.decorators import StepConfig
from anabranch.workflow.events import Event
from anabranch.workflow.plan import Trigger
from anabranch.workflow.queues import Queue
from anabranch.workflow.remote import Remote
from anabranch.workflow.resource import Need
from anabranch.workflow.retry_policy import RetryPolicy
from anabranch.workflow.signature import Service, is_free
from anabranch.workflow.state import Execution

if TYPE_CHECKING:
    from anabranch.workflow.service import ServiceManager


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One step of one workflow object.

    Attributes:
        function: The step, bound to the object.
        slots: The parameters for events, with the types they take.
        subclasses: Whether an event of a subclass fits.
        context: The parameter for the context.
        services: Workflows that it is given, by parameter.
        remote: Where its body runs, if not here.
        queue: In which it waits for its turn.
        is_plain: Whether calling the function and awaiting it is all there is to do.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    trigger: Trigger
    slots: tuple[tuple[str, tuple[type[Event], ...]], ...]
    subclasses: bool
    context: str | None
    resources: Mapping[str, Need]
    services: Mapping[str, Any]
    retry_policy: RetryPolicy | None
    returns: tuple[type[Event], ...]
    fans_out: tuple[type[Event], ...]
    remote: Remote | None
    queue: Queue | None
    is_plain: bool

    def arguments(self, execution: Execution) -> dict[str, Any]:
        """What the step is called with, but for context and resources."""
        events = execution.events
        if self.trigger == "each":
            arguments: dict[str, Any] = {self.slots[0][0]: events[0]}
        elif self.trigger == "collect":
            arguments = {self.slots[0][0]: list(events)}
        else:
            names = (name for name, _ in self.slots)
            arguments = dict(zip(names, events, strict=True))
        if self.services:
            arguments.update(self.services)
        return arguments

    def declares(self, kind: type[Event]) -> bool:
        """Whether the step says that it may return such an event."""
        if kind in self.returns or kind in self.fans_out:
            return True
        return issubclass(kind, (*self.returns, *self.fans_out))

    def outputs(self, value: Any) -> tuple[list[Event], bool]:
        """The events that a step returned, and whether as a list.

        Raises:
            WorkflowRuntimeError: It returned something else.
        """
        if value is None:
            return [], False
        if isinstance(value, Event):
            kind = type(value)
            if kind in self.fans_out and kind not in self.returns:
                raise WorkflowRuntimeError(
                    f"step {self.name!r} returned a {kind.__name__}, and says that it "
                    f"returns a list of them: return [event], or annotate it with "
                    f"`list[{kind.__name__}] | {kind.__name__}`"
                )
            return [value], False
        if isinstance(value, list | tuple):
            items = cast("list[Any]", value)
            for item in items:
                if not isinstance(item, Event):
                    raise WorkflowRuntimeError(
                        f"step {self.name!r} returned a list with {item!r}, which is no "
                        "event: return events only"
                    )
            return list(items), bool(self.fans_out)
        raise WorkflowRuntimeError(
            f"step {self.name!r} returned {value!r}, which is no event: return an event, a "
            "list of events, or None"
        )


def call_of(name: str, config: StepConfig, owner: object, services: ServiceManager) -> Call:
    """The call of a step of ``owner``."""
    signature = config.signature
    function = config.function
    is_bound = not is_free(function)
    if is_bound:
        function = getattr(owner, name)
    is_async = iscoroutinefunction(function)
    remote = None
    if config.executor is not None:
        remote = Remote(
            name, config.executor, owner if is_bound else None, function, is_async
        )
    return Call(
        name=name,
        function=function,
        is_async=is_async,
        trigger=signature.trigger,
        slots=tuple(signature.events.items()),
        subclasses=config.accept_event_subclasses,
        context=signature.context,
        resources=signature.resources,
        services={
            parameter: _service(parameter, service, services)
            for parameter, service in signature.services.items()
        },
        retry_policy=config.retry_policy,
        returns=signature.returns,
        fans_out=signature.fans_out,
        remote=remote,
        queue=config.queue,
        is_plain=is_async
        and remote is None
        and config.queue is None
        and not signature.resources,
    )


def _service(parameter: str, service: Service, services: ServiceManager) -> Any:
    found: Any = services.get(parameter, service.default or _Absent())  # type: ignore[arg-type]
    if isinstance(found, _Absent):
        raise WorkflowValidationError(_not_available([parameter]))
    if not isinstance(found, service.type):
        raise WorkflowValidationError(
            f"the service {parameter} must be a {service.type.__name__}, and is a "
            f"{type(found).__name__}"
        )
    return found


class _Absent:
    pass


def missing_services(
    configs: Mapping[str, StepConfig], services: ServiceManager
) -> list[str]:
    """The workflows that steps ask for and nobody has added, by name."""
    absent: Any = _Absent()
    return sorted(
        {
            parameter
            for config in configs.values()
            for parameter, service in config.signature.services.items()
            if service.default is None and services.get(parameter, absent) is absent
        }
    )


def _not_available(names: list[str]) -> str:
    return (
        f"The following services are not available: {', '.join(names)}: add them with "
        f"add_workflows({', '.join(f'{name}=...' for name in names)})"
    )


def check_services(configs: Mapping[str, StepConfig], services: ServiceManager) -> None:
    """See to it that every workflow that a step asks for is there.

    Raises:
        WorkflowValidationError: Some are not; the sentence names them.
    """
    if missing := missing_services(configs, services):
        raise WorkflowValidationError(_not_available(missing))
