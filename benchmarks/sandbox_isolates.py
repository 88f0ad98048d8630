"""Runs of code in processes of their own: ours, the peers', and the floors beside them.

A floor is a fork of this process, which is small then, that answers through a pipe: what
the kernel asks for a fresh process. It confines nothing and limits nothing.
"""

# ruff: noqa: ASYNC222, S307  # evaluating is what is measured, and waiting is the floor
from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeAlias

from benchmarks.sandbox_peers import Allowance, InProcess, Names, Smolagents, Source

Values: TypeAlias = Mapping[str, Any]
Run: TypeAlias = Callable[[str, Values], Awaitable[Any]]

FORK, ECHO, BARE = "floor: fork and pipe", "floor: socket pair", "python -I -S"
ISOLATED, WITH_PANDAS = "anabranch, isolated", "anabranch, isolated, with pandas"

# What a program is that reads its source and its values from standard input.
_PROGRAM = """
import json, sys
source, values = json.load(sys.stdin)
print(json.dumps(eval(source, values)))
"""


# --------------------------------------------------------------------- a fresh process each


def _forked(source: str, values: Values) -> tuple[int, int]:
    """A child that evaluates, and where its answer is read."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, json.dumps(eval(source, {**values})).encode())
        os._exit(0)
    os.close(writing)
    return pid, reading


def _collected(pid: int, reading: int) -> Any:
    data = os.read(reading, 65_536)
    os.close(reading)
    os.waitpid(pid, 0)
    return json.loads(data)


@asynccontextmanager
async def forking(_: int) -> AsyncIterator[Run]:
    """A child is forked for each run."""

    async def run(source: str, values: Values) -> Any:
        pid, reading = _forked(source, values)
        return _collected(pid, reading)

    yield run


@asynccontextmanager
async def forking_beside(_: int) -> AsyncIterator[Run]:
    """The same, but the event loop waits for the answer, so that children are beside."""
    loop = asyncio.get_running_loop()

    async def run(source: str, values: Values) -> Any:
        pid, reading = _forked(source, values)
        answered = asyncio.Event()
        loop.add_reader(reading, answered.set)
        await answered.wait()
        loop.remove_reader(reading)
        return _collected(pid, reading)

    yield run


@asynccontextmanager
async def bare(_: int) -> AsyncIterator[Run]:
    """An interpreter is started for each run, as bare as it can be."""

    async def run(source: str, values: Values) -> Any:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", _PROGRAM),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate(json.dumps([source, values]).encode())
        return json.loads(out)

    yield run


@asynccontextmanager
async def smolagents(_: int) -> AsyncIterator[Run]:
    """A new executor for each run, in this process: nothing is isolated."""

    async def run(source: str, values: Values) -> Any:
        return Smolagents(Allowance()).evaluate(source, values)

    yield run


@asynccontextmanager
async def monty(at_once: int) -> AsyncIterator[Run]:
    """A new session for each run, in one of its workers, which lives on."""
    import pydantic_monty

    limits = pydantic_monty.ResourceLimits(max_feed_duration_secs=30, max_memory=2**29)
    workers = min(at_once, os.cpu_count() or 1)
    async with pydantic_monty.AsyncMonty(min_processes=workers) as pool:

        async def run(source: str, values: Values) -> Any:
            async with pool.checkout(limits=limits) as session:
                return await session.feed_run(source, inputs={**values})

        yield run


def ours(*imports: str) -> Callable[[int], Any]:
    """Our sandbox, with these modules to be had; a fresh process for each run."""

    @asynccontextmanager
    async def opened(at_once: int) -> AsyncIterator[Run]:
        from anabranch.sandbox import Sandbox

        # For many at once, as many are kept ready by a zygote for each processor.
        standby, zygotes = (2, 1) if at_once == 1 else (at_once, os.cpu_count() or 1)
        async with Sandbox(imports=imports, standby=standby, zygotes=zygotes) as sandbox:

            async def run(source: str, values: Values) -> Any:
                return (await sandbox.run(source, values)).unwrap()

            yield run

    return opened


#: By label: what is opened with how many runs there are at once.
ONE_BY_ONE: Mapping[str, Callable[[int], Any]] = {
    FORK: forking,
    BARE: bare,
    "smolagents": smolagents,
    "Monty": monty,
    ISOLATED: ours(),
    WITH_PANDAS: ours("numpy", "pandas"),
}
AT_ONCE: Mapping[str, Callable[[int], Any]] = {**ONE_BY_ONE, FORK: forking_beside}


# ---------------------------------------------------------------- one process for many runs


@asynccontextmanager
async def echoing() -> AsyncIterator[Run]:
    """A child that sends back what it is sent, both sides waiting for the other."""
    here, there = socket.socketpair()
    if (pid := os.fork()) == 0:
        here.close()
        while data := there.recv(65_536):
            there.sendall(data)
        os._exit(0)
    there.close()

    async def run(source: str, _: Values) -> Any:
        here.sendall(source.encode())
        here.recv(65_536)

    with closing(here):
        yield run
    os.waitpid(pid, 0)


@asynccontextmanager
async def monty_session() -> AsyncIterator[Run]:
    """One session of one worker."""
    import pydantic_monty

    async with pydantic_monty.AsyncMonty() as pool, pool.checkout() as session:

        async def run(source: str, values: Values) -> Any:
            return await session.feed_run(source, inputs={**values})

        yield run


def our_session(*imports: str) -> Callable[[], Any]:
    """A session of our sandbox."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Run]:
        from anabranch.sandbox import Sandbox

        async with Sandbox(imports=imports) as sandbox, sandbox.session() as session:

            async def run(source: str, values: Values) -> Any:
                return (await session.run(source, values)).unwrap()

            yield run

    return opened


#: By label.
SESSIONS: Mapping[str, Callable[[], Any]] = {
    ECHO: echoing,
    "Monty": monty_session,
    ISOLATED: our_session(),
    WITH_PANDAS: our_session("numpy", "pandas"),
}


class Isolated(InProcess):
    """Our sandbox as one that evaluates, a fresh process for each, as the suite asks.

    One for all cases; :meth:`allowing` says what the next one is given.
    """

    def __init__(self, memory_bytes: int) -> None:
        from anabranch.sandbox import Limits, Sandbox

        self._limits = Limits(memory_bytes=memory_bytes)
        self._sandbox = Sandbox(imports=["numpy", "pandas"], limits=self._limits)
        self._runner = asyncio.Runner()
        self._runner.run(self._sandbox.start())

    def allowing(self, allowance: Allowance) -> Isolated:
        self._limits = replace(self._limits, wall_s=allowance.timeout_s)
        return self

    def evaluate(self, source: Source, names: Names) -> Any:
        # Modules cannot be sent, so that they are imported there; functions stay here.
        modules = {k: v.__name__ for k, v in names.items() if isinstance(v, ModuleType)}
        functions = {name: value for name, value in names.items() if callable(value)}
        values = {k: v for k, v in names.items() if k not in modules | functions}
        imports = "".join(f"import {v} as {k}\n" for k, v in modules.items())
        whole: Any = imports + source.strip() if isinstance(source, str) else source
        run = self._sandbox.run(whole, values, limits=self._limits, expose=functions)
        return self._runner.run(run).unwrap()

    def execute(self, source: Source, names: Names) -> Any:
        asked = f"{source}\nresult" if isinstance(source, str) else source
        return self.evaluate(asked, names)

    def end(self) -> None:
        self._runner.run(self._sandbox.aclose())
        self._runner.close()
