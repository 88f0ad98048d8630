"""From what a caller names to what runs the jobs."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from anabranch.errors import UsageError
from anabranch.jobs.executors.processes import ProcessExecutor
from anabranch.jobs.executors.protocol import Executor, RunsSource
from anabranch.jobs.executors.threads import ThreadExecutor
from anabranch.jobs.executors.wire import name_of


def is_async(fn: object) -> bool:
    """Whether calling it gives a coroutine: also for partials, methods and callables."""
    call = getattr(fn, "__call__", None)  # noqa: B004  # what kind it is, not whether
    return iscoroutinefunction(fn) or iscoroutinefunction(call)


def executor_of(
    value: object, fn: Callable[[Any], Any] | str, *, threads: int | None = None
) -> Executor:
    """The executor that ``value`` names, for this function.

    Args:
        value: ``"thread"``, ``"process"``, or an executor, which comes back as it is. What
            is made here is the caller's to close.
        fn: What it is to run: a function, or source text for what runs that.
        threads: How many ``"thread"`` has at most; by default as many as it sees fit.

    Raises:
        UsageError: There is no such executor, or it cannot run ``fn``.
        SyntaxError: ``fn`` is source text that cannot be run.
        ImportError: An extra is missing; the message has the command that installs it.
    """
    executor: Executor
    match value:
        case "thread":
            executor = ThreadExecutor(threads)
        case "process":
            executor = ProcessExecutor()
        case Executor():
            executor = value
        case RunsSource() if isinstance(fn, str):
            executor = value.executor_for(fn)
        case RunsSource():
            raise UsageError(
                f"{type(value).__name__} runs source text, not functions such as "
                f"{name_of(fn)}: give the text of an expression instead"
            )
        case _:
            raise UsageError(
                "executor must be 'thread', 'process' or an executor such as "
                f"RayExecutor(), not {value!r}"
            )
    if isinstance(executor, ThreadExecutor) and is_async(fn):
        raise UsageError(
            f"{name_of(fn)} is an `async def` function, which a thread cannot run: leave "
            "`executor` out to run it on the event loop, or give 'process' or a "
            "RayExecutor to run it elsewhere"
        )
    return executor
