"""Contained code in a process of its own, confined by the operating system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from anabranch.errors import LoopError, UsageError
from anabranch.jobs.executors import Executor
from anabranch.sandbox.confine import Found
from anabranch.sandbox.confine.granted import SCRATCH
from anabranch.sandbox.isolate.exposed import Functions, gathered
from anabranch.sandbox.isolate.keeper import Plan
from anabranch.sandbox.isolate.pool import Pool
from anabranch.sandbox.limits import Grant, Limits, ReadOnly, Scratch
from anabranch.sandbox.result import Result
from anabranch.sandbox.rows import RowsExecutor
from anabranch.sandbox.session import Session, ask

__all__ = ["Sandbox"]

_forked: list[Pool] = []


class Sandbox:
    """Runs code that you did not write, each time in a fresh, confined process.

    Such a process has no network, no file but what is granted, no environment, no
    descriptor and no other process in reach, and little of the kernel; it is limited in
    time, memory and output, and killed when the run is over. The code is ordinary Python.
    It can import the standard library and what ``imports`` names, nothing else.

    Processes are forked from a *zygote*, which is started by ``async with`` or by the first
    run, so that a run costs a millisecond or two. Many tasks may run code at the same time.
    Runs that have to wait are served in the order of arrival. Cancelling a run kills its
    process, and all that it has forked, at once.

    A sandbox belongs to the event loop on which it was first used, and its processes end
    with that loop's thread. When that loop is closed it starts afresh on the next, and so
    it does in a process that was forked, or when it is used again after it was closed.

    Args:
        imports: Modules that the code may import beside the standard library.
        limits: What each run is given, if nothing else is said there.
        grants: What of this machine's files the code sees.
        expose: Functions of this program that the code may call, by name. They get plain
            values; an :class:`Exposed` bounds how long and how often.
        require: ``"full"``: every mechanism of confinement, or an error. ``"process"``:
            what this machine has, which may be no more than another process.
        standby: How many processes each zygote keeps ready. Up to ``standby * zygotes``
            runs go on at once; sessions are not counted.
        zygotes: How many zygotes there are. More of them fork more processes a second.

    Raises:
        UsageError: An argument cannot be meant.
    """

    def __init__(
        self,
        *,
        imports: Iterable[str] = (),
        limits: Limits | None = None,
        grants: Iterable[Grant] = (),
        expose: Functions | None = None,
        require: Literal["full", "process"] = "full",
        standby: int = 2,
        zygotes: int = 1,
    ) -> None:
        if isinstance(imports, str):
            raise UsageError(f"Sandbox(imports=...) takes a list of names: [{imports!r}]")
        if require not in {"full", "process"}:
            raise UsageError(f"Sandbox(require={require!r}): say 'full' or 'process'")
        if standby < 1 or zygotes < 1:
            raise UsageError(
                f"Sandbox(standby={standby}, zygotes={zygotes}): both must be 1 or more"
            )
        _check_grants(grants := tuple(grants))
        self._limits = limits or Limits()
        self._exposed = gathered(expose)
        self._standby, self._zygotes = standby, zygotes
        self._plan = Plan(imports=tuple(imports), grants=grants, full=require == "full")
        self._pool: Pool | None = None

    async def run(
        self,
        source: str,
        values: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        expose: Functions | None = None,
    ) -> Result:
        """Run code in a fresh process.

        ``await`` at the top level is allowed.

        Args:
            source: Python.
            values: What its global names are bound to at first: plain values, copied.
            limits: Others than the sandbox's. Other limits on time by the clock, output
                and result cost nothing; any other costs a process that was not ready.
            expose: Functions the code may call, besides the sandbox's.

        Returns:
            The value of its last statement, if that is an expression, what it printed, and
            what it raised: that is not raised here, see :meth:`Result.unwrap`. What it
            printed is lost where an error is raised here.

        Raises:
            LimitExceeded: It needed more time (:class:`TimeLimitExceeded`), memory or room
                for its result than it was given.
            ValueRefused: A value is not plain, on the way in or out.
            IsolateDied: The process ended before it had answered, or answered nonsense.
            IsolateUnavailable: This machine cannot confine code as ``require`` says.
            LoopError: The sandbox is in use on another event loop.
        """
        pool = self._running_pool()
        limits = limits or self._limits
        table = {**self._exposed, **gathered(expose)}
        async with pool.gate, pool.child(self._of_a_process(limits)) as peer:
            return await ask(peer, source, values or {}, limits=limits, table=table)

    @asynccontextmanager
    async def session(
        self, *, limits: Limits | None = None, expose: Functions | None = None
    ) -> AsyncGenerator[Session]:
        """A process that keeps its variables from one run to the next.

        The limits on processor time and memory are those of the whole session, the others
        of each run. What kills the process, a time limit say, ends the session.

        Args:
            limits: Others than the sandbox's.
            expose: Functions the code may call, besides the sandbox's.

        Raises:
            SandboxError: As :meth:`run` does where there is no process to be had.
        """
        pool = self._running_pool()
        limits = limits or self._limits
        table = {**self._exposed, **gathered(expose)}
        async with pool.child(self._of_a_process(limits)) as peer:
            yield Session(peer, limits, table)

    def executor_for(self, source: str) -> Executor:
        """What evaluates an expression on rows, for ``amap(source, rows, executor=self)``.

        The expression sees the row as ``row``; of a dict also the fields, by their names;
        the modules of ``imports``; and the functions of ``expose``. Up to 256 rows share a
        fresh process, so limits are those of a chunk. If it comes to nothing, each of its
        rows is tried again alone, and has its own answer or error.

        Raises:
            SyntaxError: It is no expression.
            SourceRefused: It is too deep, or too long, to tell.
        """
        slots = self._standby * self._zygotes
        return RowsExecutor(self, source, imports=self._plan.imports, slots=slots)

    def info(self) -> Found:
        """The layers of confinement that are in force, and those that are missing.

        Raises:
            UsageError: It has not been started.
        """
        found = self._pool.found if self._pool else None
        if found is None:
            raise UsageError("info() is known once the sandbox runs: async with Sandbox()")
        return found

    async def start(self) -> None:
        """Return when processes can be forked; ``async with`` does it too.

        Raises:
            UsageError: Something in ``imports`` cannot be imported.
            IsolateUnavailable: This machine cannot confine code as ``require`` says.
        """
        await self._running_pool().start()

    async def aclose(self) -> None:
        """End every process; none is left when it returns. Whoever waits gets an error."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _running_pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        if self._pool is not None and self._pool.pid != os.getpid():
            _forked.append(self._pool)  # it is the parent's, whole: not even to be closed
            self._pool = None
        if self._pool is not None and self._pool.loop is not loop:
            if not self._pool.loop.is_closed():
                raise LoopError(
                    "this sandbox is in use on another event loop: make one for each loop, "
                    "or close it there first"
                )
            self._pool.abandon()
            self._pool = None
        if self._pool is None:
            self._pool = Pool(
                self._plan,
                self._of_a_process(self._limits),
                standby=self._standby,
                zygotes=self._zygotes,
            )
        return self._pool

    def _of_a_process(self, limits: Limits) -> Limits:
        """The limits without those that are kept outside the process, or at each run."""
        default = self._limits
        file_bytes = limits.file_bytes
        if file_bytes is None:
            rooms = [
                grant.bytes for grant in self._plan.grants if isinstance(grant, Scratch)
            ]
            file_bytes = max(rooms, default=0)
        return replace(
            limits,
            file_bytes=file_bytes,
            wall_s=default.wall_s,
            output_bytes=default.output_bytes,
            result_bytes=default.result_bytes,
        )


def _check_grants(grants: tuple[object, ...]) -> None:
    for grant in grants:
        if not isinstance(grant, ReadOnly | Scratch):
            raise UsageError(f"grants are ReadOnly(path) or Scratch(bytes), not {grant!r}")
        if isinstance(grant, Scratch):
            continue
        path = os.path.normpath(grant.path)
        if not os.path.lexists(path):
            raise UsageError(f"ReadOnly({path!r}): there is no such file or folder")
        if path == "/":
            raise UsageError("the root of the file system cannot be granted: name folders")
        if Path(path).is_relative_to(SCRATCH):
            raise UsageError(f"ReadOnly({path!r}): that place is a Scratch's")
