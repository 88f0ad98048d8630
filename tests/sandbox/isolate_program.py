"""Runs cases of the suite in sandboxes; prints how each ended, a JSON object a line.

``python isolate_program.py WHAT``, with one of

    attacks      every attack, fully confined
    loose        those that harm nothing but their canary, confined by limits only
    unfiltered   single system calls, confined by all but the filter of calls
    harmless     harmless code in a sandbox
    evaluated    harmless code by ``safe_eval`` and ``safe_exec``, isolated

In a process of its own, since it is the host that attacks aim at. An attack without
``trips`` may do harm where nothing stops it: it runs where all layers are in force, or all
but one that the others make up for.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import json
import os
import platform
import resource
import socket
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from anabranch.errors import IsolateDied, LimitExceeded, ValueRefused
from anabranch.sandbox import Limits, ReadOnly, Sandbox, Scratch, safe_eval, safe_exec
from anabranch.sandbox.confine import ALL, Layer
from anabranch.sandbox.isolate import keeper
from tests.sandbox.isolate.lab import descendants, until
from tests.sandbox.suite.loader import Canaries, Case, describe, inputs, load, same

AT_ONCE = 16
STANDBY = 8
# How much longer than its limit a run may take on a machine that is busy.
PATIENCE_S = 20.0
# All of it: then each thread's stack is printed and the process ends.
PROGRAM_S = 100.0
# Ends of cases that have stopped before they could do anything.
MISSED = {
    *("TimeLimitExceeded", "ModuleNotFoundError", "ImportError", "NameError"),
    *("AttributeError", "TypeError", "IndentationError"),
}
# Categories of which each case is one system call that any user of a machine may try.
SINGLE_CALLS = {"privileges", "kernel_surface"}


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended.

    Attributes:
        how: In a word.
        observed: All that came out of it.
        fault: What is wrong with that, whatever the case was.
    """

    how: str
    observed: tuple[object, ...]
    fault: str | None = None


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


# ------------------------------------------------------------------ one run


async def ended(box: Sandbox, case: Case, source: str) -> End:
    """Run a source with what the case gives it, and tell how that ends."""
    limits = Limits(**{"wall_s": case.timeout_seconds, **case.limits})  # type: ignore[arg-type]  # JSON
    given = inputs(case)
    functions = {name: value for name, value in given.items() if callable(value)}
    values = {
        name: value
        for name, value in given.items()
        if name not in functions and not isinstance(value, ModuleType)
    }
    try:
        async with asyncio.timeout(limits.wall_s + PATIENCE_S):
            return await _ran(box, source, values, functions, limits)
    except TimeoutError:
        return End("nothing", (), f"did not end in {limits.wall_s} s")
    except Exception as error:
        return End(type(error).__name__, (error,), f"raised {error!r}"[:500])


async def _ran(
    box: Sandbox, source: str, values: Any, functions: Any, limits: Limits
) -> End:
    try:
        result = await box.run(source, values, limits=limits, expose=functions)
    except (LimitExceeded, ValueRefused, IsolateDied) as error:
        return End(type(error).__name__, (str(error), *map(str, vars(error).values())))
    raised = result.error
    told = (raised.type_name, raised.message, raised.traceback) if raised else ()
    observed = (result.value, result.stdout, result.stderr, *told)
    return End(raised.type_name[:50] if raised else "a value", observed)


# ------------------------------------------------------------------ attacks


async def attack(boxes: Boxes, case: Case, folder: Path) -> str | None:
    """What is wrong with how an attack ended, or nothing."""
    with Canaries(folder) as canaries:
        async with boxes.lent(case, canaries) as box:
            end = await ended(box, case, str(canaries.fill(case.source)))
            fault = end.fault or _unexpected(case, end)
            if fault is None and case.then is not None:
                end = await ended(box, case, str(canaries.fill(case.then)))
                fault = end.fault
                if fault is None and end.how != "a value":
                    fault = f"the next run {_told(end)}"
            if fault is None and case.expect == "bounded":
                fault = await _spoilt(box, "40 + 2", 42)
            if fault is None and "{granted}" in str(case.grants):
                table = f"open({str(canaries.granted / 'table.csv')!r}).read()"
                fault = await _spoilt(box, table, "a,b\n1,2\n")
        tripped = canaries.tripped(*end.observed)
    say(id=case.id, how=end.how, tripped=tripped)
    return f"tripped {tripped} and {_told(end)}" if tripped else fault


def _unexpected(case: Case, end: End) -> str | None:
    """What is wrong with the end of a case that was to be contained, or nothing."""
    # Many cases catch what they are refused with, and give its name.
    told = {end.how, *(text for text in end.observed[:1] if isinstance(text, str))}
    if case.expect == "contained" and (missed := told & MISSED):
        return f"did not get to its attack: {missed}"
    return None


async def _spoilt(box: Sandbox, source: str, value: object) -> str | None:
    """What is wrong with the run after an attack, or nothing."""
    end = await _ran(box, source, {}, {}, Limits())
    if end.how == "a value" and end.observed[0] == value:
        return None
    return f"the next run {_told(end)}"


def _told(end: End) -> str:
    return f"ended with {end.how}: {end.observed}"[:500]


def runs_here(case: Case) -> bool:
    """Whether this machine has what the case needs."""
    if "x86_64" in case.needs and platform.machine() != "x86_64":
        return False
    if "ipv6" not in case.needs:
        return True
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# ------------------------------------------------------------------ sandboxes


class Boxes:
    """A sandbox for each set of imports; for a case with grants, one of its own."""

    def __init__(self, missing: Iterable[Layer]) -> None:
        self._require: Any = "full"
        if missing := frozenset(missing):
            self._require = "process"
            # As if zygotes had found this machine to be like that.
            keeper._known[os.geteuid()] = {
                "available": sorted(ALL - missing),
                "missing": dict.fromkeys(missing, "turned off"),
                "landlock_abi": 0,
            }
        self._missing = missing
        self._shared: dict[tuple[str, ...], Sandbox] = {}
        self._stack = AsyncExitStack()

    async def open(self, cases: Iterable[Case]) -> None:
        for imports in {case.allow_imports for case in cases}:
            box = Sandbox(imports=imports, require=self._require, standby=STANDBY)
            self._shared[imports] = await self._opened(self._stack, box)

    async def _opened(self, stack: AsyncExitStack, box: Sandbox) -> Sandbox:
        await stack.enter_async_context(box)
        # What is missing is what was asked for, and nothing else.
        assert box.info().missing.keys() == self._missing
        return box

    @asynccontextmanager
    async def lent(self, case: Case, canaries: Canaries) -> AsyncIterator[Sandbox]:
        if not case.grants:
            yield self._shared[case.allow_imports]
            return
        grants = [_grant(raw, canaries) for raw in case.grants]
        async with AsyncExitStack() as stack:
            yield await self._opened(
                stack,
                Sandbox(imports=case.allow_imports, require=self._require, grants=grants),
            )

    async def left(self) -> int:
        """How many processes of the code are left; what is just ending is waited for."""
        ready = len(self._shared) * (2 + STANDBY)  # a zygote is two
        try:
            await until(lambda: len(descendants(os.getpid())) <= ready)
        except TimeoutError:
            return len(descendants(os.getpid())) - ready
        return 0

    async def close(self) -> None:
        await self._stack.aclose()


def _grant(raw: dict[str, Any], canaries: Canaries) -> ReadOnly | Scratch:
    if raw["$kind"] == "scratch":
        return Scratch(raw["bytes"])
    return ReadOnly(str(canaries.fill(raw["path"])))


async def attacks(cases: list[Case], missing: Iterable[Layer] = ()) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    boxes = Boxes(missing)

    async def one(case: Case, folder: Path) -> None:
        async with gate:
            say(begun=case.id)
            folder.mkdir()
            folder.chmod(0o777)  # whoever the code runs as, no mode of a file stops it
            say(id=case.id, fault=await attack(boxes, case, folder))

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)
        (place / "host").mkdir()
        with Canaries(place / "host"):  # its secrets are there before the sandboxes
            await boxes.open(cases)
            before = _resident_peak()
            try:
                async with asyncio.TaskGroup() as group:
                    for case in cases:
                        group.create_task(one(case, place / case.id))
                say(left=await boxes.left(), grown_bytes=_resident_peak() - before)
            finally:
                await boxes.close()
    say(left_closed=len(descendants(os.getpid())))


def _resident_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ------------------------------------------------------------------ harmless code


async def harmless(cases: list[Case]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(box: Sandbox, case: Case) -> None:
        async with gate:
            say(begun=case.id)
            end = await ended(box, case, _whole(case))
            say(id=case.id, how=end.how, fault=end.fault or _other(case, end))

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        boxes: dict[tuple[str, ...], Sandbox] = {}
        for case in cases:
            imports = tuple(sorted({"numpy", "pandas"} & set(case.needs)))
            if imports not in boxes:
                box = Sandbox(imports=imports, standby=STANDBY)
                boxes[imports] = await stack.enter_async_context(box)
            group.create_task(one(boxes[imports], case))


def _whole(case: Case) -> str:
    """The source as statements of which the last one gives the result."""
    source = str(case.source)
    source = source.strip() if case.mode == "eval" else f"{source}\nresult"
    # A module is no value that could be sent.
    modules = (
        f"import {raw['name']} as {name}\n"
        for name, raw in case.given.items()
        if isinstance(raw, dict) and raw.get("$kind") == "module"
    )
    return "".join(modules) + source


def _other(case: Case, end: End) -> str | None:
    if end.how != "a value":
        return _told(end)
    found = describe(end.observed[0])
    return None if same(case.result, found) else f"gave {found!r}"[:500]


def evaluated(cases: list[Case]) -> None:
    for case in cases:
        say(begun=case.id)
        say(id=case.id, fault=_evaluated(case))


def _evaluated(case: Case) -> str | None:
    given = inputs(case)
    options: Any = {
        "timeout_seconds": case.timeout_seconds,
        "allow_imports": case.allow_imports,
        "isolate": True,
    }
    bound: dict[str, Any] = {}
    try:
        if case.mode == "eval":
            bound["result"] = safe_eval(case.source, given, **options)
        else:
            safe_exec(case.source, given, bound, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]
    found = describe(bound["result"])
    return None if same(case.result, found) else f"gave {found!r}"[:500]


def main(what: str) -> None:
    warnings.simplefilter("ignore")
    # Importing them changes settings of the process; no case is to blame for that.
    for library in ("numpy", "pandas", "pyarrow"):
        importlib.import_module(library)
    faulthandler.dump_traceback_later(PROGRAM_S, exit=True)
    hostile = [case for case in load("attacks_isolate") if runs_here(case)]
    match what:
        case "attacks":
            asyncio.run(attacks(hostile))
        case "loose":
            loose = ALL - {Layer.RLIMITS}
            asyncio.run(attacks([case for case in hostile if case.trips], loose))
        case "unfiltered":
            calls = [case for case in hostile if case.category in SINGLE_CALLS]
            asyncio.run(attacks(calls, {Layer.SECCOMP}))
        case "harmless":
            asyncio.run(harmless(load("harmless")))
        case "evaluated":
            evaluated([case for case in load("harmless") if case.layer != "isolate"])


if __name__ == "__main__":
    main(*sys.argv[1:])
