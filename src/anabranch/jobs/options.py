"""The options that every way of running jobs takes, in one checked record."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypedDict, TypeVar

from anabranch.errors import UsageError
from anabranch.jobs.check import check_count, check_positive
from anabranch.jobs.hedge import Hedge
from anabranch.jobs.limits.adaptive import Adaptive
from anabranch.jobs.limits.breaker import Breaker
from anabranch.jobs.limits.limiter import Limiter
from anabranch.jobs.limits.rate import RateLimit
from anabranch.jobs.outcome import Errors
from anabranch.observe import Observer
from anabranch.retry import Retry

if TYPE_CHECKING:
    from anabranch.jobs.executors import Executor, RunsSource
    from anabranch.jobs.status import Status

# What others call the number of jobs at once.
LIMITS = re.compile(
    r"((max|num|n)_?)?(workers|concurrency|concurrent\w*|jobs|parallel\w*)|limit"
)

F = TypeVar("F", bound=Callable[..., Any])

Show: TypeAlias = "bool | str | Callable[[Status], None] | Observer"
"""``True`` for a bar, a string for a bar with that title, or what is to be told."""


class JobOptions(TypedDict, total=False):
    """What may be passed beside ``fn``, ``items`` and ``errors``: see :class:`Options`."""

    concurrency: int
    retry: Retry | int | None
    timeout: float | None
    total_timeout: float | None
    rate: RateLimit | Limiter | None
    cost: Callable[[Any], float] | float | None
    adaptive: Adaptive | bool | None
    hedge: Hedge | bool | None
    breaker: Breaker | bool | None
    key: Callable[[Any], object] | None
    journal: str | PathLike[str] | None
    progress: Show
    total: int | None
    priority: Callable[[Any], float] | None
    isolation: Literal["context", "task"]
    executor: Literal["thread", "process"] | Executor | RunsSource | None
    stall_after: float | None
    observer: Observer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run goes about its jobs. The defaults are the quickest.

    Attributes:
        concurrency: Jobs in flight at most. A job that waits for its next attempt keeps
            its worker, but no place of a pool or of ``adaptive``, which decides instead of
            this number where it is given. No more jobs are in flight than an executor has
            workers, if it takes one item at a time.
        errors: ``"raise"``: the first failure ends the run and is raised, the same object
            with a note naming the item. ``"return"``: an :class:`Outcome` for every item.
            ``"skip"``: only the values of those that succeeded.
        retry: Tries in all, or a :class:`Retry`. Default: one.
        timeout: Seconds that one attempt may take; then it is cancelled and fails with
            ``TimeoutError``. Waiting for a limit does not count.
        total_timeout: Seconds that the run may take; then its jobs are cancelled and it
            fails with :class:`~anabranch.errors.RunTimeout`, whatever ``errors`` says.
        rate: A :class:`RateLimit` of this run, or a :class:`Limiter` shared with others.
        cost: Tokens that an item's request is expected to take, or a function that
            estimates them. The estimate is corrected by the ``usage.total_tokens`` of
            the result, where it has one.
        adaptive: Find out how many at once: an :class:`Adaptive`, or ``True``.
        hedge: Start a slow job a second time: a :class:`Hedge`, or ``True``.
        breaker: Stop asking a service that fails: a :class:`Breaker`, shared or not, or
            ``True``.
        key: What tells items apart: items of equal keys in flight are run once, and
            ``journal`` finds results by it. By default the journal's key is the item's
            content and the function's qualified name.
        journal: A file that keeps the results. Started again with the same file, a run
            takes finished items from it.
        progress: Show a bar; a string is its title; or what is to be told.
        total: The number of items, for the bar, where the input does not know it.
        priority: The priority of an item: higher is sooner. One unit overtakes at most a
            hundred that came before; nothing starves. Looks ahead in the input by
            ``max(8 * concurrency, 1024)`` items.
        isolation: ``"context"``: each job has its own copy of the caller's context
            variables. ``"task"``: and a task of its own, for libraries that keep state by
            ``asyncio.current_task()``.
        executor: Where ``fn`` runs: ``"thread"`` or ``"process"`` for a synchronous one,
            or an executor, such as :class:`~anabranch.jobs.executors.RayExecutor`, or,
            for source text, a :class:`~anabranch.sandbox.Sandbox`.
        stall_after: Report what is waiting, and where, when nothing has finished for so
            many seconds.
        observer: Told what happens.
    """

    concurrency: int = 32
    errors: Errors = "raise"
    retry: Retry | int | None = None
    timeout: float | None = None
    total_timeout: float | None = None
    rate: RateLimit | Limiter | None = None
    cost: Callable[[Any], float] | float | None = None
    adaptive: Adaptive | bool | None = None
    hedge: Hedge | bool | None = None
    breaker: Breaker | bool | None = None
    key: Callable[[Any], object] | None = None
    journal: str | PathLike[str] | None = None
    progress: Show = False
    total: int | None = None
    priority: Callable[[Any], float] | None = None
    isolation: Literal["context", "task"] = "context"
    executor: Literal["thread", "process"] | Executor | RunsSource | None = None
    stall_after: float | None = None
    observer: Observer | None = None

    def __post_init__(self) -> None:
        check_count("concurrency", self.concurrency)
        if self.errors not in ("raise", "return", "skip"):
            raise UsageError(
                f"errors must be 'raise', 'return' or 'skip', not {self.errors!r}"
            )
        if self.isolation not in ("context", "task"):
            raise UsageError(
                f"isolation must be 'context' or 'task', not {self.isolation!r}"
            )
        for name in ("timeout", "total_timeout", "stall_after"):
            if (value := getattr(self, name)) is not None:
                check_positive(name, value)
        if self.total is not None:
            check_count("total", self.total, least=0)
        if isinstance(self.retry, int):
            check_count("retry", self.retry)
        self._settle("breaker", Breaker, lambda on: Breaker() if on else None)
        self._settle("retry", Retry, lambda n: Retry(n) if n is not None else None)
        self._settle("rate", Limiter, lambda r: Limiter(r) if r is not None else None)
        self._settle("adaptive", Adaptive, lambda on: Adaptive() if on else None)
        self._settle("hedge", Hedge, lambda on: Hedge() if on else None)
        if self.observer is not None:
            _check_observer(self.observer)
        if self.journal is not None:
            _check_path(self.journal)
        for name in ("key", "priority"):
            if (value := getattr(self, name)) is not None and not callable(value):
                raise UsageError(f"{name} must be a function of an item, not {value!r}")
        if self.cost is not None and self.rate is None:
            raise UsageError("cost= is what an item takes of rate=, which is missing")

    @classmethod
    def of(cls, errors: Errors, options: JobOptions) -> Self:
        """The record of what a call was given.

        Raises:
            TypeError: There is no option of such a name.
            UsageError: An option cannot be meant.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                meant = "concurrency" if LIMITS.fullmatch(name) else "".join(close)
                hint = f": did you mean {meant}=?" if meant else ""
                raise TypeError(f"there is no option {name}={hint}")
        return cls(errors=errors, **options)

    def _settle(self, name: str, kind: type, make: Callable[[Any], object]) -> None:
        """Replace the short form of an option by the object that it stands for."""
        value = getattr(self, name)
        if not isinstance(value, kind):
            shorts = {"retry": int, "rate": RateLimit}
            if value is not None and not isinstance(value, shorts.get(name, bool)):
                raise UsageError(f"{name} must be of type {kind.__name__}, not {value!r}")
            object.__setattr__(self, name, make(value))

    @property
    def most(self) -> int:
        """Jobs that may ever be in flight."""
        policy = self.adaptive
        return policy.max if isinstance(policy, Adaptive) else self.concurrency

    @property
    def is_plain(self) -> bool:
        """Whether a job is nothing but a call of ``fn``."""
        return self.errors != "return" and all(
            getattr(self, name) == default for name, default in _OF_A_JOB.items()
        )


# The others concern the run, not what happens to one of its jobs.
_OF_A_JOB = {
    field.name: field.default
    for field in fields(Options)
    if field.name not in ("concurrency", "errors", "stall_after", "total", "total_timeout")
}


def _check_observer(observer: object) -> None:
    if not isinstance(observer, Observer):
        raise UsageError(
            f"observer must be an Observer, an object of your subclass of it, not "
            f"{observer!r}"
        )


def _check_path(journal: Any) -> None:
    if not isinstance(journal, str | PathLike) or not _names_a_file(fspath(journal)):
        raise UsageError(
            f"journal must be the path of a file, not {journal!r}, which keeps nothing"
        )


def _names_a_file(path: str | bytes) -> bool:
    return isinstance(path, str) and path not in ("", ":memory:") and "\0" not in path


def takes_options(fn: F) -> F:
    """Show the options and their defaults in a function's signature, for ``help()``."""
    own = inspect.signature(fn)
    given = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = {parameter.name for parameter in given}
    options = [
        parameter
        for parameter in inspect.signature(Options).parameters.values()
        if parameter.name not in names
    ]
    fn.__signature__ = own.replace(  # type: ignore[attr-defined]  # read by inspect
        parameters=[*given, *options]
    )
    return fn
