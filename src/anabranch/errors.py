"""Every error that anabranch raises of its own accord.

::

    AnabranchError
    ├── UsageError        wrong use of a command or function (also a ValueError)
    │   └── ExecutorClosed  an executor was closed while a run used it
    ├── JobCancelled      a job ended itself with CancelledError
    ├── WorkerLost        the worker that had the job died (also a ConnectionError)
    ├── CircuitOpen       a circuit breaker lets nothing through
    ├── RunTimeout        a whole run took too long (also a TimeoutError)
    ├── JournalError      a journal cannot be read or written
    │   ├── RunNotFound   there is no run of this name (also a LookupError)
    │   └── JournalConflict  somebody else has appended to it meanwhile
    │       └── Fenced    somebody else has taken the run over
    ├── LoopError         something is used on an event loop where it cannot work
    ├── SourceError       one source cannot be read: the others go on
    ├── ModelError        an embedding model's files are missing or not the expected ones
    ├── StoreError        the store cannot be read or written
    │   ├── StoreLocked   another process is writing to it
    │   ├── StoreMismatch it was made with another model
    │   └── SolrError     Solr cannot be reached, or refuses
    ├── EmbeddingError    an embedding service cannot be reached, or refuses
    ├── RetrievalError    no retriever answered
    ├── RerankError       a reranker cannot be reached, refuses, or gives no scores
    ├── ChatError         a language model's endpoint fails, refuses or breaks off
    ├── WorkflowValidationError  a workflow is not well-formed
    │   └── WorkflowConfigurationError  it has no steps, no start, or no stop
    ├── WorkflowTimeoutError   a run took too long (also a TimeoutError)
    ├── WorkflowRuntimeError   a run was used, or a step behaved, as it cannot be meant
    │   ├── WorkflowStepDoesNotExistError  no step has this name
    │   ├── StreamOverrun      a reader fell behind what a stream keeps
    │   └── VersionMismatch    a run cannot go on with the code as it is now
    ├── WorkflowCancelledByUser  a run was cancelled
    ├── WorkflowDone           something was asked of a run that has ended
    ├── SandboxError           code that somebody else wrote was contained
    │   ├── SourceRefused      the policy refused it before it ran (also a RuntimeError)
    │   ├── CodeFailed         it raised what has no class here (also a RuntimeError)
    │   ├── LimitExceeded      it needed more than it was given (also a RuntimeError)
    │   │   └── TimeLimitExceeded  more time (also a TimeoutError)
    │   ├── ValueRefused       a value cannot go in or out (also RuntimeError, TypeError)
    │   ├── IsolateDied        the process that ran it ended (also a RuntimeError)
    │   └── IsolateUnavailable this machine cannot confine it (also a RuntimeError)
    ├── ServiceNotFoundError   no service has this name
    ├── ContextSerdeError      a context cannot be written down or read back
    └── ContextStateError      a context was asked for what it cannot do now

A user's own exception is never replaced: it comes back as the same object, with a
note naming the item. A missing extra is an :class:`ImportError` with the command that
installs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AnabranchError",
    "ChatError",
    "CircuitOpen",
    "CodeFailed",
    "ContextSerdeError",
    "ContextStateError",
    "EmbeddingError",
    "ExecutorClosed",
    "Fenced",
    "IsolateDied",
    "IsolateUnavailable",
    "JobCancelled",
    "JournalConflict",
    "JournalError",
    "LimitExceeded",
    "LoopError",
    "ModelError",
    "RerankError",
    "RetrievalError",
    "RunNotFound",
    "RunTimeout",
    "SandboxError",
    "ServiceNotFoundError",
    "SolrError",
    "SourceError",
    "SourceRefused",
    "StoreError",
    "StoreLocked",
    "StoreMismatch",
    "StreamOverrun",
    "TimeLimitExceeded",
    "UsageError",
    "ValueRefused",
    "VersionMismatch",
    "WorkerLost",
    "WorkflowCancelledByUser",
    "WorkflowConfigurationError",
    "WorkflowDone",
    "WorkflowRuntimeError",
    "WorkflowStepDoesNotExistError",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
]


class AnabranchError(Exception):
    """The root of the family: ``str(error)`` is a sentence for the person who meets it."""


class UsageError(AnabranchError, ValueError):
    """An argument cannot be meant: the sentence says which value and what would do."""


class ExecutorClosed(UsageError):
    """An executor was closed while a run used it. The jobs that it had may have run."""


class JobCancelled(AnabranchError):
    """A job raised ``CancelledError`` though nobody cancelled it.

    Passed on as it is, it would look as if the *caller* had been cancelled. The original
    is the ``__cause__``.
    """


class WorkerLost(AnabranchError, ConnectionError):
    """The process that ran a job died, was killed, or became unreachable.

    The job may have had effects. It is worth another try: :class:`~anabranch.jobs.Retry`
    takes it for transient.
    """


class CircuitOpen(AnabranchError):
    """Too many calls failed of late: this one was not made.

    Attributes:
        retry_after: Seconds until the next call is let through as a probe.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RunTimeout(AnabranchError, TimeoutError):
    """A run took longer than its ``total_timeout``.

    Attributes:
        partial: What had finished: the value of each job, by its index.
    """

    def __init__(self, message: str, *, partial: Mapping[int, Any]) -> None:
        super().__init__(message)
        self.partial = partial


class JournalError(AnabranchError):
    """A journal is locked, damaged, full, read-only, or cannot hold a value."""


class JournalConflict(JournalError):
    """A journal is not where its writer left it: somebody else writes to it.

    Attributes:
        run_id: Whose journal.
    """

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class Fenced(JournalConflict):
    """Somebody else has opened a run since: what drives it here must stop."""


class RunNotFound(JournalError, LookupError):
    """A store has no run of this name.

    Attributes:
        run_id: The name.
    """

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class LoopError(AnabranchError, RuntimeError):
    """A synchronous call was made from the loop that would have to serve it."""


class SourceError(AnabranchError):
    """One source cannot be read.

    Attributes:
        uri: Which source.
        reason: What is wrong with it, and what to do, without the name.
    """

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{uri}: {reason}")
        self.uri = uri
        self.reason = reason

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, str]]:
        return type(self), (self.uri, self.reason)


class ModelError(AnabranchError):
    """A model's files are missing, or are not the ones whose digest is pinned."""


class StoreError(AnabranchError):
    """A store cannot be read or written."""


class StoreLocked(StoreError):
    """Another process is writing to the store."""


class StoreMismatch(StoreError):
    """The store holds vectors of another model: they cannot be compared."""


class SolrError(StoreError):
    """Solr cannot be reached, refuses, or answers what is no answer.

    Attributes:
        status: The HTTP status of a refusal; ``None`` where there was none.
        msg: What Solr said, in its own words.
        metadata: Its classes of the error, such as ``root-error-class``.
        headers: ``Retry-After``, if Solr sent one.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        msg: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.msg = msg
        self.metadata = dict(metadata or {})
        self.headers = {} if retry_after is None else {"Retry-After": retry_after}


class EmbeddingError(AnabranchError):
    """A service cannot be reached, refuses, or answers with what are no vectors.

    Attributes:
        status: The HTTP status of a refusal.
        code: The service's own word for it, such as ``ThrottlingException``.
        headers: Those of a refusal that say when to try again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


class RetrievalError(AnabranchError):
    """Every retriever failed or was late.

    Attributes:
        failures: The error of each retriever, by its name.
    """

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        said = "; ".join(f"{name}: {error}" for name, error in failures.items())
        super().__init__(f"no retriever answered: {said}")
        self.failures = failures


class RerankError(AnabranchError):
    """A reranker cannot be reached, refuses, or answers with what are no scores.

    Attributes:
        status: The HTTP status of a refusal.
        headers: Those of a refusal that say when to try again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class ChatError(AnabranchError):
    """A language model's endpoint cannot be reached, refuses, or breaks off.

    Attributes:
        status: The HTTP status of a refusal.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class WorkflowValidationError(AnabranchError):
    """A workflow is not well-formed: the sentences name step and event."""


class WorkflowConfigurationError(WorkflowValidationError):
    """A workflow has no steps, no start event or no stop event."""


class WorkflowTimeoutError(AnabranchError, TimeoutError):
    """A run took longer than its workflow allows."""


class WorkflowRuntimeError(AnabranchError):
    """A run was used, or a step behaved, in a way that cannot be meant."""


class WorkflowStepDoesNotExistError(WorkflowRuntimeError):
    """An event was addressed to a step that the workflow does not have."""


class StreamOverrun(WorkflowRuntimeError):
    """A reader of a stream was so slow that events it had not seen were dropped.

    Attributes:
        missed: How many. The next event it asks for is the oldest that is kept.
    """

    def __init__(self, message: str, *, missed: int) -> None:
        super().__init__(message)
        self.missed = missed


class VersionMismatch(WorkflowRuntimeError):
    """A run was begun by other code, and cannot go on with the present one.

    Attributes:
        run_id: Which run.
    """

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class WorkflowCancelledByUser(AnabranchError):
    """A run was cancelled with ``cancel_run``."""


class WorkflowDone(AnabranchError):
    """Something was asked of a run that has ended."""


class SandboxError(AnabranchError):
    """Code that somebody else wrote was refused, failed or was stopped."""


class SourceRefused(SandboxError, RuntimeError):
    """The policy refused a source before any of it ran.

    Attributes:
        line: The line of the source, from 1, or None where it concerns the whole.
        construct: What was found there, in a few words.
        reason: Why that is refused, and what to write instead where there is something.
    """

    def __init__(self, *, line: int | None, construct: str, reason: str) -> None:
        where = "" if line is None else f"line {line}: "
        super().__init__(f"{where}{construct} is refused: {reason}")
        self.line = line
        self.construct = construct
        self.reason = reason


class CodeFailed(SandboxError, RuntimeError):
    """Contained code raised an exception that has no class on this side.

    Attributes:
        type_name: The name of the exception's class.
        message: What the exception said, cut where it is long.
        line: The line of the source that raised, from 1, where it is known.
    """

    def __init__(self, *, type_name: str, message: str, line: int | None = None) -> None:
        where = "" if line is None else f"line {line}: "
        super().__init__(f"{where}{type_name}: {message}" if message else where + type_name)
        self.type_name = type_name
        self.message = message
        self.line = line


class LimitExceeded(SandboxError, RuntimeError):
    """Contained code needed more of something than it was given.

    Attributes:
        limit: Which: the name of a field of :class:`~anabranch.sandbox.Limits`, or
            "size" for an operation that was refused before it allocated.
        allowed: How much was given, in the unit of that field.
    """

    def __init__(self, message: str, *, limit: str, allowed: float) -> None:
        super().__init__(message)
        self.limit = limit
        self.allowed = allowed


class TimeLimitExceeded(LimitExceeded, TimeoutError):
    """Contained code took longer than it was given."""


class ValueRefused(SandboxError, RuntimeError, TypeError):
    """A value cannot go into a sandbox, or cannot come out of it.

    Attributes:
        path: Where in the value, as an expression: ``value["rows"][3]``.
        reason: Why, and what to pass instead.
    """

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class IsolateDied(SandboxError, RuntimeError):
    """The process that ran contained code ended before it had answered."""


class IsolateUnavailable(SandboxError, RuntimeError):
    """This machine lacks what confining code needs.

    Attributes:
        missing: The names of the layers that are not to be had.
    """

    def __init__(self, message: str, *, missing: tuple[str, ...]) -> None:
        super().__init__(message)
        self.missing = missing


class ServiceNotFoundError(AnabranchError):
    """No workflow was added under this name."""


class ContextSerdeError(AnabranchError):
    """A context cannot be written down, or what was written cannot be read back."""


class ContextStateError(AnabranchError):
    """A context was asked for what it can do only inside, or only outside, a step."""
