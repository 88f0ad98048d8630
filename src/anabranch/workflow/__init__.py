"""Typed events through steps.

A workflow is a class whose methods, marked with :func:`step`, take an event and return the
next one. ``run()`` begins with a :class:`StartEvent` and ends with a :class:`StopEvent`;
in between, steps run at once as their events come.
"""

from anabranch.workflow.collect import All, Collect, Take
from anabranch.workflow.context import (
    BaseSerializer,
    Context,
    DictState,
    InMemoryStateStore,
    JsonPickleSerializer,
    JsonSerializer,
    PickleSerializer,
    StateStore,
)
from anabranch.workflow.decorators import catch_error, step
from anabranch.workflow.errors import (
    ContextSerdeError,
    ContextStateError,
    JournalConflict,
    ServiceNotFoundError,
    StreamOverrun,
    WorkflowCancelledByUser,
    WorkflowConfigurationError,
    WorkflowDone,
    WorkflowRuntimeError,
    WorkflowStepDoesNotExistError,
    WorkflowTimeoutError,
    WorkflowValidationError,
)
from anabranch.workflow.events import (
    Event,
    HumanResponseEvent,
    IdleReleasedEvent,
    InputRequiredEvent,
    InternalDispatchEvent,
    StartEvent,
    StepFailedEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    UnhandledEvent,
    UnreconstructedException,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowIdleEvent,
    WorkflowTimedOutEvent,
)
from anabranch.workflow.handler import WorkflowHandler
from anabranch.workflow.labels import RunLabel, StepLabel, Traced
from anabranch.workflow.queues import Queue
from anabranch.workflow.resource import Resource, ResourceConfig, ResourceManager
from anabranch.workflow.retry_policy import RetryInfo, RetryPolicy
from anabranch.workflow.runs import Runs
from anabranch.workflow.service import ServiceManager
from anabranch.workflow.stores import MemoryStore, RunInfo, Store
from anabranch.workflow.versions import Migration
from anabranch.workflow.worker import Worker
from anabranch.workflow.workflow import Workflow

__all__ = [
    "All",
    "BaseSerializer",
    "Collect",
    "Context",
    "ContextSerdeError",
    "ContextStateError",
    "DictState",
    "Event",
    "HumanResponseEvent",
    "IdleReleasedEvent",
    "InMemoryStateStore",
    "InputRequiredEvent",
    "InternalDispatchEvent",
    "JournalConflict",
    "JsonPickleSerializer",
    "JsonSerializer",
    "MemoryStore",
    "Migration",
    "PickleSerializer",
    "Queue",
    "Resource",
    "ResourceConfig",
    "ResourceManager",
    "RetryInfo",
    "RetryPolicy",
    "RunInfo",
    "RunLabel",
    "Runs",
    "ServiceManager",
    "ServiceNotFoundError",
    "StartEvent",
    "StateStore",
    "StepFailedEvent",
    "StepLabel",
    "StepState",
    "StepStateChanged",
    "StopEvent",
    "Store",
    "StreamOverrun",
    "Take",
    "Traced",
    "UnhandledEvent",
    "UnreconstructedException",
    "Worker",
    "Workflow",
    "WorkflowCancelledByUser",
    "WorkflowCancelledEvent",
    "WorkflowConfigurationError",
    "WorkflowDone",
    "WorkflowFailedEvent",
    "WorkflowHandler",
    "WorkflowIdleEvent",
    "WorkflowRuntimeError",
    "WorkflowStepDoesNotExistError",
    "WorkflowTimedOutEvent",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
    "catch_error",
    "step",
]
