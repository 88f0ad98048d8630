"""What can go wrong with workflows; the family is in :mod:`anabranch.errors`."""

from anabranch.errors import (
    ContextSerdeError,
    ContextStateError,
    JournalConflict,
    JournalError,
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

__all__ = [
    "ContextSerdeError",
    "ContextStateError",
    "JournalConflict",
    "JournalError",
    "ServiceNotFoundError",
    "StreamOverrun",
    "WorkflowCancelledByUser",
    "WorkflowConfigurationError",
    "WorkflowDone",
    "WorkflowRuntimeError",
    "WorkflowStepDoesNotExistError",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
]
