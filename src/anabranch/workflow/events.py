"""Events: what steps take and return.

An event is a pydantic model. Fields that its class declares are validated; any other
keyword becomes a free attribute, which can also be read and written like an entry of a
dictionary. ``model_dump`` gives both.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

__all__ = [
    "DictLikeModel",
    "Event",
    "EventType",
    "HumanResponseEvent",
    "IdleReleasedEvent",
    "InputRequiredEvent",
    "InternalDispatchEvent",
    "StartEvent",
    "StepFailedEvent",
    "StepState",
    "StepStateChanged",
    "StopEvent",
    "UnhandledEvent",
    "UnreconstructedException",
    "WorkflowCancelledEvent",
    "WorkflowFailedEvent",
    "WorkflowIdleEvent",
    "WorkflowTimedOutEvent",
]


class DictLikeModel(BaseModel):
    """A model whose free attributes are also a dictionary.

    ``model["x"]``, ``get``, ``keys``, ``values``, ``items``, ``to_dict``, ``in``, ``len``
    and iteration concern the free attributes; declared fields are attributes only. A model
    is true even if it has none.
    """

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    if TYPE_CHECKING:  # what pydantic does for free attributes, to type checkers

        def __init__(self, **params: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    # pydantic keeps free attributes here; a class without any extra has None.
    @property
    def _free(self) -> dict[str, Any]:
        free = self.__pydantic_extra__
        if free is None:
            free = {}
            object.__setattr__(self, "__pydantic_extra__", free)
        return free

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__private_attributes__ and "__init__" not in vars(cls):
            _take_private(cls)

    def __getitem__(self, key: str) -> Any:
        return self._free[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._free[key] = value

    def __delitem__(self, key: str) -> None:
        del self._free[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The free attribute of this name, or ``default``."""
        return self._free.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._free

    def keys(self) -> KeysView[str]:
        """The names of the free attributes."""
        return self._free.keys()

    def values(self) -> ValuesView[Any]:
        """The values of the free attributes."""
        return self._free.values()

    def items(self) -> ItemsView[str, Any]:
        """The free attributes, as pairs."""
        return self._free.items()

    def __len__(self) -> int:
        return len(self._free)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # as a dictionary does
        return iter(self._free)

    def __bool__(self) -> bool:
        return True

    def to_dict(self) -> dict[str, Any]:
        """The free attributes."""
        return self._free


def _take_private(cls: type[DictLikeModel]) -> None:
    """Let the private attributes of a class be given to its constructor."""
    names = frozenset(cls.__private_attributes__)

    def __init__(self: DictLikeModel, **params: Any) -> None:  # noqa: N807
        private = {name: params.pop(name) for name in names & params.keys()}
        super(cls, self).__init__(**params)
        for name, value in private.items():
            setattr(self, name, value)

    cls.__init__ = __init__  # type: ignore[method-assign]


class Event(DictLikeModel):
    """The base of all events; declare fields in a subclass, or give any keyword."""

    if TYPE_CHECKING:

        def __init__(self, **params: Any) -> None: ...


EventType: TypeAlias = type[Event]


class StartEvent(Event):
    """Begins a run; ``run(**kwargs)`` makes one, or one of the declared subclass."""

    if TYPE_CHECKING:

        def __init__(self, **params: Any) -> None: ...


class StopEvent(Event):
    """Ends a run.

    The run's result is ``result``; that of a subclass is the event itself.

    Attributes:
        result: What the run gives.
    """

    _result: Any = PrivateAttr(default=None)

    def __init__(self, result: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._result = result

    def _get_result(self) -> Any:
        """What ``result`` is; a subclass may compute it."""
        return self._result

    @property
    def result(self) -> Any:
        """What the run gives."""
        return self._get_result()

    @model_serializer(mode="wrap")
    def _with_result(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        if self._result is not None:
            dumped["result"] = self._result
        return dumped

    def __repr__(self) -> str:
        held = ", ".join(f"{name}={value!r}" for name, value in self.model_dump().items())
        return f"{type(self).__name__}({held})"

    def __str__(self) -> str:
        return str(self._result)


class InputRequiredEvent(Event):
    """Asks a person. It goes to the stream, and needs no step that takes it."""

    if TYPE_CHECKING:

        def __init__(self, **params: Any) -> None: ...


class HumanResponseEvent(Event):
    """A person's answer. It comes from outside, by ``send_event``."""

    if TYPE_CHECKING:

        def __init__(self, **params: Any) -> None: ...


class StepFailedEvent(Event):
    """Given to a ``@catch_error`` handler when a step has failed for good.

    Attributes:
        step_name: Which step.
        input_event: What it was called with; its first event, if with several.
        exception: What it raised. After a restart it is of the same type with the same
            message where that type is known, else an :class:`UnreconstructedException`.
        attempts: How many were made.
        elapsed_seconds: From the start of the first to the end of the last.
        failed_at: When, in UTC.
    """

    step_name: str
    input_event: Event | None
    exception: Exception
    attempts: int
    elapsed_seconds: float
    failed_at: datetime


class WorkflowTimedOutEvent(StopEvent):
    """The last event of a run that took too long.

    Attributes:
        timeout: The time-out, in seconds.
        active_steps: The steps that were at work.
    """

    timeout: float
    active_steps: list[str]


class WorkflowCancelledEvent(StopEvent):
    """The last event of a run that was cancelled."""


class IdleReleasedEvent(StopEvent):
    """A run was put down because it waits, to go on later. It is not streamed."""


class WorkflowFailedEvent(StopEvent):
    """The last event of a run that failed.

    Attributes:
        step_name: Which step.
        exception: What it raised.
        attempts: How many were made.
        elapsed_seconds: From the start of the first to the end of the last.
    """

    step_name: str
    exception: Exception
    attempts: int | None = None
    elapsed_seconds: float | None = None


class InternalDispatchEvent(Event):
    """The base of events about the run itself, streamed to who asks for them."""


class StepState(str, Enum):  # noqa: UP042  # its text is its value's, as in the reference
    """Where a step's execution is."""

    PREPARING = "preparing"
    """It waits for one of the step's workers."""
    RUNNING = "running"
    NOT_RUNNING = "not_running"
    """It has ended, or waits for an event or for its next attempt."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class StepStateChanged(InternalDispatchEvent):
    """An execution of a step has gone from one state to another.

    Attributes:
        name: The step.
        step_state: The new state.
        worker_id: Tells executions apart.
        input_event_name: The type of the event it was called with.
        output_event_name: The type of what it returned; of the elements, if a list.
    """

    name: str
    step_state: StepState
    worker_id: str
    input_event_name: str
    output_event_name: str | None = None


class WorkflowIdleEvent(InternalDispatchEvent):
    """Nothing runs and nothing will by itself: the run waits for an event from outside."""


class UnhandledEvent(InternalDispatchEvent):
    """An event that no step takes and nobody waited for.

    Attributes:
        event_type: The name of its class.
        qualified_name: The same with its module.
        step_name: The step it was addressed to.
        idle: Whether the run is idle now.
    """

    event_type: str
    qualified_name: str
    step_name: str | None = None
    idle: bool


class UnreconstructedException(Exception):
    """Stands for an exception whose type is not known where it is read back.

    Attributes:
        original_type: The name of that type.
    """

    def __init__(self, message: str = "", *, original_type: str | None = None) -> None:
        super().__init__(message)
        self.original_type = original_type

    def __repr__(self) -> str:
        return (
            f"UnreconstructedException({str(self)!r}, original_type={self.original_type!r})"
        )
