"""The state that the steps of a run share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, cast

from pydantic import BaseModel
from typing_extensions import TypeVar

from anabranch.errors import ContextStateError, UsageError
from anabranch.workflow.context.paths import MISSING, class_of, copied, edited, look_up
from anabranch.workflow.events import DictLikeModel

__all__ = ["DictState", "InMemoryStateStore", "StateStore"]

_NO_DEFAULT: Final = ...


class DictState(DictLikeModel):
    """A state without declared fields: any name, as attribute or entry."""

    if TYPE_CHECKING:

        def __init__(self, **params: Any) -> None: ...


ModelT = TypeVar("ModelT", bound=BaseModel, default=DictState)


class Replaced:
    """A state that is to take the place of another."""

    __slots__ = ("state",)

    def __init__(self, state: Any) -> None:
        self.state = state


class Cell(Protocol):
    """Where a state is, and how it is changed."""

    def read(self) -> Any:
        """The state."""
        ...

    def edit(self, path: str, value: Any) -> None:
        """Put a value at a path, or in the place of all if the path is empty."""
        ...


class _OwnCell:
    def __init__(self, state: Any) -> None:
        self._state = state

    def read(self) -> Any:
        return self._state

    def edit(self, path: str, value: Any) -> None:
        self._state = edited(self._state, path, value)


class StateStore(Generic[ModelT]):
    """The state, for many steps at once.

    Every change is whole or not made, and changes wait for each other, so none is lost:
    ``edit_state`` keeps others from changing it for as long as its block runs. Reading
    never waits. An edit is seen by other steps when it is made, not when its step ends; a
    step that is tried again makes its edits again.

    In a run with a journal a step's edits are its own until they are recorded: with its
    end, a wait or ``ctx.once``. Others see them then, and not at all if the step fails or
    dies before. Who has changed the state with ``edit_state`` keeps others from it until
    then: so edit late in a step that takes long.

    Paths are dotted: ``user.tags.0``.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None

    def whole(self) -> Any:
        """The state itself, not a copy."""
        return self._cell.read()

    async def get(self, path: str, default: Any = _NO_DEFAULT) -> Any:
        """What is at a path.

        Raises:
            ValueError: Nothing is, and no default was given.
        """
        value = look_up(self._cell.read(), path)
        if value is not MISSING:
            return value
        if default is _NO_DEFAULT:
            raise UsageError(
                f"the state has nothing at {path!r}: set it first, or give a default"
            )
        return default

    async def set(self, path: str, value: Any) -> None:
        """Put a value at a path; dictionaries that are missing on the way are made.

        Raises:
            ValueError: The path is empty, or the value does not fit there.
        """
        if not path:
            raise UsageError("a path must not be empty: set_state replaces the whole state")
        self._check_free("set")
        async with self._lock:
            self._cell.edit(path, value)

    async def get_state(self) -> ModelT:
        """A copy of the state."""
        return cast("ModelT", copied(self._cell.read()))

    async def set_state(self, state: ModelT) -> None:
        """Put another state in the place of this one.

        Of a model that is a base of the present one, it takes the fields it has.

        Raises:
            ValueError: It is of an unrelated model.
        """
        async with self._replacing("set_state") as replaced:
            replaced.state = _merged(replaced.state, state)

    async def clear(self) -> None:
        """Put a new, empty state in the place of this one.

        Raises:
            ValueError: Its model has fields without a default.
        """
        async with self._replacing("clear") as replaced:
            kind = class_of(replaced.state)
            try:
                replaced.state = kind()
            except ValueError as error:
                raise UsageError(
                    f"a {kind.__name__} cannot be made without values: give all its fields "
                    f"defaults, or use set_state ({error})"
                ) from error

    @asynccontextmanager
    async def edit_state(self) -> AsyncGenerator[ModelT, None]:
        """The state, to be changed in the block, while nobody else changes it.

        What the block has is a copy. It takes the state's place when the block ends, and
        nothing is changed if the block raises.
        """
        async with self._replacing("edit_state") as replaced:
            replaced.state = copied(replaced.state)
            yield cast("ModelT", replaced.state)

    @asynccontextmanager
    async def _replacing(self, what: str) -> AsyncGenerator[Replaced, None]:
        """The state, which what is there when the block ends takes the place of."""
        self._check_free(what)
        async with self._alone():
            replaced = Replaced(self._cell.read())
            yield replaced
            self._cell.edit("", replaced.state)

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None, None]:
        async with self._lock:
            self._holder = asyncio.current_task()
            try:
                yield
            finally:
                self._holder = None

    def _check_free(self, what: str) -> None:
        if self._holder is not None and self._holder is asyncio.current_task():
            raise ContextStateError(
                f"{what} was called inside edit_state, and would wait for its end: change "
                "the state that the block has instead"
            )


class InMemoryStateStore(StateStore[ModelT]):
    """A state store of its own, outside a run."""

    def __init__(self, initial_state: ModelT) -> None:
        super().__init__(_OwnCell(initial_state))


def _merged(current: BaseModel, given: Any) -> BaseModel:
    if not isinstance(given, BaseModel):
        raise UsageError(f"a state is a pydantic model, not {given!r}")
    if isinstance(given, type(current)):
        return given
    if isinstance(current, type(given)):
        return current.model_copy(update=given.model_dump(exclude_unset=False))
    raise UsageError(
        f"the state is a {type(current).__name__}, and cannot become a "
        f"{type(given).__name__}: give one of the same model, or of a base of it"
    )
