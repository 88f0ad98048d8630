"""What steps are given beside events: clients, stores, configuration.

A step asks by annotation: ``client: Annotated[Client, Resource(make_client)]``. The factory
may be a function, a coroutine function, or one that yields once; what comes behind the
``yield`` runs when the resource is no longer needed. Its own parameters may ask in the same
way.

==================  ======================  =====================
The factory         ``cache=True``          ``cache=False``
==================  ======================  =====================
returns             once a workflow object  once an execution
yields              once a run              once an execution
==================  ======================  =====================
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Protocol,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, ValidationError

from anabranch.errors import WorkflowValidationError

__all__ = ["Resource", "ResourceConfig", "ResourceManager"]

_MISSING: Final = object()


class Descriptor(Protocol):
    """What stands in an annotation and says how to get a resource."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def needs(self) -> Mapping[str, Need]:
        """What its factory asks for, by parameter."""
        ...


@dataclass(frozen=True, slots=True)
class Need:
    """A parameter that asks for a resource."""

    descriptor: Descriptor
    type: Any


def need_of(annotation: Any) -> Need | None:
    """The resource that an annotation asks for, if it asks for one."""
    if get_origin(annotation) is not Annotated:
        return None
    kind, *marks = get_args(annotation)
    for mark in marks:
        if isinstance(mark, Resource | ResourceConfig):
            return Need(mark, kind)
    return None


class Resource:
    """Asks for what a factory makes.

    Args:
        factory: Makes it: a function, sync or async, or a generator function that yields
            it, or one made with ``contextlib``.
        cache: Whether steps share it. If not, each execution of a step has its own.
    """

    __slots__ = ("_needs", "cache", "enters", "factory", "localns")

    def __init__(self, factory: Callable[..., Any], cache: bool = True) -> None:
        given: Any = factory
        if not callable(given):
            raise WorkflowValidationError(
                f"Resource takes a function that makes the resource, not {factory!r}"
            )
        self.factory = factory
        self.cache = cache
        self.localns: Mapping[str, Any] = {}
        self.enters = False
        plain = inspect.unwrap(factory)
        if inspect.isasyncgenfunction(plain):
            self.enters = True
            if plain is factory:
                self.factory = asynccontextmanager(factory)
        elif inspect.isgeneratorfunction(plain):
            self.enters = True
            if plain is factory:
                self.factory = contextmanager(factory)
        self._needs: Mapping[str, Need] | None = None

    @property
    def name(self) -> str:
        """The factory's."""
        return str(getattr(self.factory, "__qualname__", type(self.factory).__name__))

    @property
    def key(self) -> object:
        """What it is cached by."""
        return self.factory

    def needs(self) -> Mapping[str, Need]:
        """What the factory asks for."""
        if self._needs is None:
            self._needs = _needs_of(inspect.unwrap(self.factory), self.localns)
        return self._needs

    def __repr__(self) -> str:
        return f"Resource({self.name}, cache={self.cache})"


def _needs_of(factory: Callable[..., Any], localns: Mapping[str, Any]) -> dict[str, Need]:
    target: Any = factory
    if isinstance(factory, type):
        target = vars(factory).get("__init__", factory)
    try:
        hints = get_type_hints(target, localns=dict(localns), include_extras=True)
    except (NameError, TypeError):
        hints = {}
    return {name: need for name, hint in hints.items() if (need := need_of(hint))}


class ResourceConfig:
    """Asks for a pydantic model read from a JSON file.

    Args:
        config_file: The file.
        path_selector: Which part of it: keys joined by dots; default all of it.
        label: A short name, for drawings.
        description: What it is for.
    """

    __slots__ = ("config_file", "description", "label", "path_selector")

    def __init__(
        self,
        config_file: str,
        path_selector: str | None = None,
        label: str | None = None,
        description: str | None = None,
    ) -> None:
        if Path(config_file).suffix != ".json":
            raise ValueError(
                f"{config_file}: only JSON files can be read as configuration; its name "
                "must end in .json"
            )
        self.config_file = config_file
        self.path_selector = path_selector
        self.label = label
        self.description = description

    @property
    def name(self) -> str:
        """The file's, with the path selector."""
        selector = "" if self.path_selector is None else f".{self.path_selector}"
        return self.label or self.config_file + selector

    def needs(self) -> Mapping[str, Need]:
        """Nothing."""
        return {}

    def load(self, model: Any) -> Any:
        """The model that the file holds.

        Raises:
            WorkflowValidationError: There is no such file or part, or it does not fit.
        """
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise WorkflowValidationError(
                f"{self.config_file} must be read as a pydantic model, not as {model!r}"
            )
        try:
            data = json.loads(Path(self.config_file).read_text(encoding="utf-8"))
        except OSError as error:
            raise WorkflowValidationError(
                f"{self.config_file} cannot be read ({error.strerror}): is the path right, "
                f"seen from {Path.cwd()}?"
            ) from error
        except ValueError as error:
            raise WorkflowValidationError(
                f"{self.config_file} is no JSON: {error}"
            ) from error
        walked: list[str] = []
        for key in self.path_selector.split(".") if self.path_selector else ():
            walked.append(key)
            part = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
            if key not in part:
                raise WorkflowValidationError(
                    f"{self.config_file} holds nothing at {'.'.join(walked)!r}, which "
                    f"path_selector={self.path_selector!r} asks for"
                )
            data = part[key]
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise WorkflowValidationError(
                f"{self.config_file} does not hold a {model.__name__}: {error}"
            ) from error

    def __repr__(self) -> str:
        return f"ResourceConfig({self.config_file!r}, path_selector={self.path_selector!r})"


@dataclass(slots=True)
class Lifetime:
    """What was made for one run, or for one execution of a step, and is closed with it."""

    exits: AsyncExitStack = field(default_factory=AsyncExitStack)
    made: dict[object, Any] = field(default_factory=dict[object, Any])


class ResourceManager:
    """Keeps what workflow objects share: one a workflow, or one for several.

    A resource that was put here with :meth:`set` takes the place of what the factory of
    that name would make; tests use it.
    """

    def __init__(self) -> None:
        self._set: dict[str, Any] = {}
        self._made: dict[object, tuple[str, Any]] = {}
        self._making: dict[object, asyncio.Future[None]] = {}

    async def set(self, name: str, val: Any) -> None:
        """Put a resource in the place of the factory of this name."""
        self._set[name] = val

    async def get(self, resource: Resource) -> Any:
        """The resource, made now if it is not there.

        What a factory yields is closed when this returns: inside a run, ask by annotation.
        """
        lifetime = Lifetime()
        async with lifetime.exits:
            return await self.resolve(Need(resource, Any), lifetime, lifetime)

    def get_all(self) -> dict[str, Any]:
        """What is here, by name."""
        return dict(self._made.values()) | self._set

    def ready(self, need: Need) -> Any:
        """The resource if it is here, else a mark that :meth:`is_ready` tells apart."""
        descriptor = need.descriptor
        if self._set and descriptor.name in self._set:
            return self._set[descriptor.name]
        made = self._made.get(_key(need))
        return _MISSING if made is None else made[1]

    @staticmethod
    def is_ready(value: object) -> bool:
        """Whether :meth:`ready` found the resource."""
        return value is not _MISSING

    async def resolve(self, need: Need, run: Lifetime, execution: Lifetime) -> Any:
        """The resource for one execution of a step.

        Equal needs of one moment are made once. What was made is closed with the run or
        the execution, the last first.
        """
        descriptor = need.descriptor
        if (value := self.ready(need)) is not _MISSING:
            return value
        if isinstance(descriptor, ResourceConfig):
            value = descriptor.load(need.type)
            self._made[_key(need)] = (descriptor.name, value)
            return value
        assert isinstance(descriptor, Resource)
        home = run if descriptor.cache else execution
        key = (id(home), descriptor.key)
        while descriptor.key not in home.made:
            if (value := self.ready(need)) is not _MISSING:
                return value
            loop = asyncio.get_running_loop()
            other = self._making.get(key)
            if other is not None and other.get_loop() is loop:
                await asyncio.wait([other])
                continue
            self._making[key] = turn = loop.create_future()
            try:
                value = await self._make(descriptor, run, execution)
                home.made[descriptor.key] = value
                if descriptor.cache and not descriptor.enters:
                    self._made[descriptor.key] = (descriptor.name, value)
            finally:
                del self._making[key]
                turn.set_result(None)
        return home.made[descriptor.key]

    async def _make(self, resource: Resource, run: Lifetime, execution: Lifetime) -> Any:
        needs = resource.needs().items()
        given = {name: await self.resolve(need, run, execution) for name, need in needs}
        value: Any = resource.factory(**given)
        if inspect.isawaitable(value):
            value = await value
        if not resource.enters:
            return value
        exits = (run if resource.cache else execution).exits
        if hasattr(value, "__aenter__"):
            return await exits.enter_async_context(value)
        return exits.enter_context(value)


def _key(need: Need) -> object:
    descriptor = need.descriptor
    if isinstance(descriptor, ResourceConfig):
        return (descriptor.config_file, descriptor.path_selector, need.type)
    assert isinstance(descriptor, Resource)
    return descriptor.key


def circle_of(need: Need, above: tuple[Need, ...] = ()) -> tuple[Need, ...]:
    """Resources that need each other in a circle, beginning and ending with the same."""
    key = _key(need)
    for index, earlier in enumerate(above):
        if _key(earlier) == key:
            return (*above[index:], need)
    for inner in need.descriptor.needs().values():
        if circle := circle_of(inner, (*above, need)):
            return circle
    return ()
