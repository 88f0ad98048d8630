"""Reading a step's signature: what it takes, what it gives.

Annotations are read once, when the workflow is compiled, so they may name classes that are
defined below the step; the local names around the decorator are remembered for that.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast, get_args, get_origin

from pydantic import BaseModel

from anabranch.errors import WorkflowValidationError
from anabranch.workflow.collect import All, Collect, Take
from anabranch.workflow.events import Event
from anabranch.workflow.marks import IsContext, IsWorkflow
from anabranch.workflow.plan import Trigger
from anabranch.workflow.resource import Need, Resource, need_of

# Frames around a decorator that may hold the names of its annotations: the class body and
# the functions around it.
_MOST_FRAMES: Final = 8


@dataclass(frozen=True, slots=True)
class Service:
    """A parameter that asks for a workflow by its name."""

    type: type
    default: Any
    has_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a step takes and gives.

    Attributes:
        trigger: When it is called: for each event; when one event of each parameter has
            come ("join"); when a fan-out has ended ("collect").
        events: The types that each event parameter takes.
        take: Of a collecting step, how many events are enough.
        context: The parameter for the context.
        state_type: The model of the state, from ``Context[Model]``.
        returns: Types of single events that it may return.
        fans_out: Types of the events in a list that it may return.
    """

    trigger: Trigger
    events: Mapping[str, tuple[type[Event], ...]]
    take: int | None
    context: str | None
    state_type: type[BaseModel] | None
    resources: Mapping[str, Need]
    services: Mapping[str, Service]
    returns: tuple[type[Event], ...]
    fans_out: tuple[type[Event], ...]

    @property
    def accepts(self) -> tuple[type[Event], ...]:
        """All event types that it takes."""
        return tuple(kind for kinds in self.events.values() for kind in kinds)


def local_names(frame: types.FrameType | None) -> dict[str, Any]:
    """The names that code at this frame sees, but for its module's."""
    found: dict[str, Any] = {}
    for _ in range(_MOST_FRAMES):
        if frame is None or frame.f_locals is frame.f_globals:
            break
        found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found


def is_free(function: Callable[..., Any]) -> bool:
    """Whether it is defined outside a class."""
    parent = function.__qualname__.rpartition(".")[0]
    return not parent or parent.endswith("<locals>")


def read(function: Callable[..., Any], localns: Mapping[str, Any]) -> Signature:
    """The signature of a step.

    Raises:
        WorkflowValidationError: It is not that of a step; the sentence says why.
        NameError: An annotation names what is not defined (yet).
    """
    return _Reader(function, localns).read()


class _Reader:
    def __init__(self, function: Callable[..., Any], localns: Mapping[str, Any]) -> None:
        self._function = function
        self._name = function.__name__
        self._localns = localns
        self._hints = _hints(function, localns)
        self._events: dict[str, tuple[type[Event], ...]] = {}
        self._collect: Collect | None = None
        self._context: str | None = None
        self._state: type[BaseModel] | None = None
        self._resources: dict[str, Need] = {}
        self._services: dict[str, Service] = {}

    def read(self) -> Signature:
        for parameter in self._parameters():
            self._take(parameter)
        if not self._events:
            raise self._wrong(
                "has no parameter annotated with an event: annotate one, for instance "
                "`ev: StartEvent`"
            )
        if self._collect is not None and len(self._events) > 1:
            raise self._wrong(
                "takes a list of events and another event: a step that collects takes the "
                "list alone"
            )
        if len(self._events) > 1:
            for name, kinds in self._events.items():
                if len(kinds) > 1:
                    raise self._wrong(
                        f"takes several events, of which {name!r} may be of several types: "
                        "give each parameter one type"
                    )
        returns, fans_out = self._returned()
        cardinality = self._collect.cardinality if self._collect else None
        trigger: Trigger = "join" if len(self._events) > 1 else "each"
        return Signature(
            trigger="collect" if self._collect else trigger,
            events=self._events,
            take=cardinality.n if isinstance(cardinality, Take) else None,
            context=self._context,
            state_type=self._state,
            resources=self._resources,
            services=self._services,
            returns=returns,
            fans_out=fans_out,
        )

    def _parameters(self) -> list[inspect.Parameter]:
        parameters = list(inspect.signature(self._function).parameters.values())
        if not is_free(self._function) and parameters:
            del parameters[0]  # self
        return parameters

    def _take(self, parameter: inspect.Parameter) -> None:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return
        has_default = parameter.default is not parameter.empty
        if name not in self._hints:
            if has_default:
                return
            raise self._wrong(
                f"has a parameter {name!r} without annotation: annotate it with an event, "
                "a Context, a Resource or a workflow"
            )
        hint = self._hints[name]
        if (need := need_of(hint)) is not None:
            if isinstance(need.descriptor, Resource):
                need.descriptor.localns = self._localns
            self._resources[name] = need
        elif self._is_context(hint):
            self._context = name
        elif self._is_collection(name, hint):
            pass
        elif (kinds := _event_types(hint)) is not None:
            self._events[name] = kinds
        elif _is_workflow(hint):
            default = parameter.default if has_default else None
            self._services[name] = Service(hint, default, has_default)
        elif not has_default:
            raise self._wrong(
                f"has a parameter {name!r} annotated with {_shown(hint)}, which is no "
                "event, Context, Annotated[..., Resource(...)] or workflow: annotate it "
                "with one, or give it a default"
            )

    def _is_context(self, hint: Any) -> bool:
        hint = _without_none(hint)
        if isinstance(hint, type) and issubclass(hint, IsContext):
            return True
        origin = get_origin(hint)
        if not isinstance(origin, type) or not issubclass(origin, IsContext):
            return False
        [state] = get_args(hint)
        if isinstance(state, type) and issubclass(state, BaseModel):
            self._state = state
        elif state is not Any and not isinstance(state, typing.TypeVar):
            raise self._wrong(
                f"takes a Context[{_shown(state)}]: the state of a context is a pydantic "
                "model, so give a subclass of BaseModel"
            )
        return True

    def _is_collection(self, name: str, hint: Any) -> bool:
        mark: Collect | None = None
        if get_origin(hint) is Annotated:
            hint, *marks = get_args(hint)
            found = [m for m in marks if isinstance(m, Collect) or m is Collect]
            if found:
                mark = found[0] if isinstance(found[0], Collect) else Collect()
        elements = _list_element(hint)
        kinds = None if elements is None else _event_types(elements)
        if kinds is None:
            if mark is not None:
                raise self._wrong(
                    f"collects into {name!r}, which is annotated with {_shown(hint)}: give "
                    "it a list of events, for instance `Annotated[list[Done], Collect()]`"
                )
            return False
        if self._collect is not None:
            raise self._wrong("collects two lists: a step collects one")
        mark = mark or Collect()
        if type(mark.cardinality) not in (All, Take):
            raise self._wrong(
                f"collects {mark.cardinality!r}: Collect takes All() or Take(n)"
            )
        self._collect = mark
        self._events[name] = kinds
        return True

    def _returned(self) -> tuple[tuple[type[Event], ...], tuple[type[Event], ...]]:
        function = inspect.unwrap(self._function)
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise self._wrong(
                "is a generator: return a list of events, or send them one by one with "
                "ctx.send_event"
            )
        if "return" not in self._hints:
            raise self._wrong(
                "does not say what it returns: annotate it with the events, for instance "
                "`-> StopEvent`, or `-> None`"
            )
        single: list[type[Event]] = []
        listed: list[type[Event]] = []
        for part in _parts(self._hints["return"]):
            if part is types.NoneType:
                continue
            element = _list_element(part)
            kinds = _event_types(part if element is None else element)
            if kinds is None:
                raise self._wrong(
                    f"is annotated to return {_shown(part)}: a step returns an event, a "
                    "union of events, a list of events, or None"
                )
            (single if element is None else listed).extend(kinds)
        return tuple(dict.fromkeys(single)), tuple(dict.fromkeys(listed))

    def _wrong(self, what: str) -> WorkflowValidationError:
        return WorkflowValidationError(f"step {self._name!r} {what}")


def _hints(function: Callable[..., Any], localns: Mapping[str, Any]) -> dict[str, Any]:
    plain = inspect.unwrap(function)
    module = sys.modules.get(plain.__module__)
    globalns = {**vars(module)} if module else {}
    globalns |= getattr(plain, "__globals__", {})
    return typing.get_type_hints(plain, globalns, dict(localns), include_extras=True)


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(part for member in get_args(hint) for part in _parts(member))
    if get_origin(hint) is Annotated:
        return _parts(get_args(hint)[0])
    return (types.NoneType,) if hint is None else (hint,)


def _without_none(hint: Any) -> Any:
    parts = [part for part in _parts(hint) if part is not types.NoneType]
    return parts[0] if len(parts) == 1 else hint


def _event_types(hint: Any) -> tuple[type[Event], ...] | None:
    parts = [part for part in _parts(hint) if part is not types.NoneType]
    if parts and all(isinstance(part, type) and issubclass(part, Event) for part in parts):
        return tuple(dict.fromkeys(cast("list[type[Event]]", parts)))
    return None


def _list_element(hint: Any) -> Any:
    """What a list is of; ``None`` if it is no list."""
    if get_origin(hint) in (list, typing.List):  # noqa: UP006  # users may write either
        return get_args(hint)[0]
    return None


def _is_workflow(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, IsWorkflow)


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
