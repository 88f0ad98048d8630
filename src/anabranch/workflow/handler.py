"""What ``run()`` gives: a run to await, to watch, to answer and to cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from anabranch.errors import LoopError, WorkflowDone, WorkflowRuntimeError
from anabranch.workflow.events import Event, StopEvent

if TYPE_CHECKING:
    from anabranch.workflow.context import Context
    from anabranch.workflow.run import Run
    from anabranch.workflow.stream import StreamReader

__all__ = ["WorkflowHandler"]


def run_of(handler: WorkflowHandler) -> Run:
    """The run behind a handler, for what draws or shows it."""
    return handler._run  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # one module


class WorkflowHandler:
    """A run. ``await`` it for its result.

    The result is what the :class:`~anabranch.workflow.StopEvent` carries, or the event
    itself if it is of a subclass. A step's error comes as the same object.

    As with a task, who awaits it and is cancelled cancels it; a run that is kept in a store
    is only let go, and can be taken up again. A failure that nobody looks at is logged.
    When it is over, nothing of it goes on: its steps have ended, its resources are closed.

    Attributes:
        run_id: The run's name.
    """

    __slots__ = ("_ctx", "_run", "run_id")

    def __init__(self, run: Run, ctx: Context[Any]) -> None:
        self._run = run
        self._ctx = ctx
        self.run_id = run.id

    @property
    def ctx(self) -> Context[Any]:
        """The run's context."""
        return self._ctx

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result().__await__()

    async def _result(self) -> Any:
        await self.stop_event_result()
        return self._run.result()

    async def stop_event_result(self) -> StopEvent:
        """The event that ended the run.

        Raises:
            WorkflowTimeoutError: The run took longer than the workflow's ``timeout``.
            WorkflowCancelledByUser: It was cancelled.
            Exception: What a step raised.
        """
        run = self._here()
        try:
            await run.settled()
        except asyncio.CancelledError:
            if run.engine.settings.store is None:
                run.cancel()
                await run.settled()
            else:
                await run.let_go()
            raise
        if (error := run.error()) is not None:
            raise error
        assert run.outcome is not None
        return run.outcome.event

    def _here(self) -> Run:
        if asyncio.get_running_loop() is not self._run.loop:
            raise LoopError(
                f"run {self.run_id} belongs to another event loop: await it where it was "
                "started"
            )
        return self._run

    def get_stop_event(self) -> StopEvent | None:
        """The event that ended the run; ``None`` while it goes on."""
        return self._run.outcome.event if self._run.done and self._run.outcome else None

    def stream_events(self, expose_internal: bool = False) -> StreamReader:
        """The events of the run as they come, from the oldest that is kept to the last one.

        Any number of readers may read at once, during the run and after it. Who comes after
        one that has stopped in the middle goes on where that stopped. A slow one holds
        nobody up; if it falls so far behind that events are dropped before it has seen
        them, it gets a :class:`~anabranch.workflow.StreamOverrun`.

        Args:
            expose_internal: Whether to give internal events as well. They are made only
                from the moment that somebody asks for them.
        """
        reader = self._run.stream.read(expose_internal=expose_internal)
        self._run.watch()
        return reader

    async def send_event(self, event: Event, step: str | None = None) -> None:
        """Send an event into the run, to one step or to all that take it.

        Raises:
            WorkflowDone: The run is over.
        """
        if self._run.done:
            raise WorkflowDone(
                f"run {self.run_id} is over: it takes no {type(event).__name__} any more"
            )
        self._ctx.send_event(event, step)

    async def cancel_run(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Cancel the run, and wait until it is over.

        Awaiting the handler then raises
        :class:`~anabranch.workflow.WorkflowCancelledByUser`.

        Args:
            timeout: The most seconds to wait.
        """
        run = self._here()
        if run.done:
            return
        run.cancel()
        try:
            async with asyncio.timeout(timeout):
                await run.settled()
        except TimeoutError:
            pass
        run.error()

    def cancel(self) -> bool:
        """Cancel the run without waiting; false if it was over."""
        if self._run.done:
            return False
        self._run.cancel()
        return True

    def is_done(self) -> bool:
        """Whether the run is over."""
        return self._run.done

    def done(self) -> bool:
        """Whether the run is over."""
        return self._run.done

    def cancelled(self) -> bool:
        """Whether the run was cancelled."""
        outcome = self._run.outcome
        return self._run.done and outcome is not None and outcome.end == "cancelled"

    def exception(self) -> BaseException | None:
        """Why the run gave no result; ``None`` if it gave one, or goes on."""
        return self._run.error() if self._run.done else None

    def result(self) -> Any:
        """The run's result, if it is over.

        Raises:
            WorkflowRuntimeError: It is not.
            Exception: As when it is awaited.
        """
        if not self._run.done:
            raise WorkflowRuntimeError(f"run {self.run_id} is not over: await it")
        return self._run.result()

    def __repr__(self) -> str:
        run = self._run
        said = run.outcome.end if run.done and run.outcome else "running"
        return f"<WorkflowHandler {self.run_id} of {run.machine.plan.workflow}: {said}>"
