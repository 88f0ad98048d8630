"""Runs cases, each in a fresh process, and shows what they took.

A case names a function ``prepare(files, **options)`` as ``module:function``. It imports
what it needs and returns the work: a function or a coroutine function that gives a
:class:`Work`. Only the work is timed; what it still imports then, counts.

Peak memory is the process's own high-water mark, imports included, with those of its
children added: never less than the true peak. The event loop's longest stall is the longest
time that a task which asks to sleep for a millisecond slept beyond it; the runner measures
the same of itself meanwhile, since a busy machine delays every process.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

HEARTBEAT_S = 0.001
CASE_TIMEOUT_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a case did."""

    documents: int
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a table.

    Attributes:
        label: Whose row it is.
        prepare: ``module:function``.
        files: The documents.
        options: Passed to the function, by keyword.
    """

    label: str
    prepare: str
    files: Sequence[str]
    options: Mapping[str, str | int] = field(default_factory=dict[str, str | int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What one run took, or the medians of several.

    Attributes:
        cpu_s: User and system time of the process and its children.
        stall_ms: Of the event loop; None where there was none.
        machine_stall_ms: Of the runner meanwhile: what the machine's load explains.
    """

    documents: float
    chunks: float
    wall_s: float
    cpu_s: float
    peak_mb: float
    stall_ms: float | None
    machine_stall_ms: float

    @property
    def documents_per_s(self) -> float:
        return self.documents / self.wall_s

    @property
    def documents_per_cpu_s(self) -> float:
        return self.documents / self.cpu_s

    @property
    def chunks_per_s(self) -> float:
        return self.chunks / self.wall_s


class CaseFailed(Exception):
    """A case ended without a result; the sentence has its last words."""


def run_all(
    cases: Sequence[Case], *, repeats: int, say: Callable[[str], None]
) -> tuple[dict[str, list[Measure]], dict[str, str]]:
    """Every case ``repeats`` times, in turn, and in turned order every second time.

    Returns:
        The measures by label, and why a case failed by label. A case that fails is not
        run again and does not stop the others.
    """
    measures: dict[str, list[Measure]] = {}
    failures: dict[str, str] = {}
    for repeat in range(repeats):
        for case in cases if repeat % 2 == 0 else reversed(cases):
            if case.label in failures:
                continue
            try:
                measure = run_case(case)
            except CaseFailed as error:
                failures[case.label] = str(error)
                measures.pop(case.label, None)
                say(f"  {case.label}: failed")
            else:
                measures.setdefault(case.label, []).append(measure)
                say(
                    f"  {case.label}, {repeat + 1} of {repeats}:"
                    f" {measure.wall_s:.1f} s, {measure.cpu_s:.1f} s of CPU"
                )
    ordered = [case.label for case in cases if case.label in measures]
    return {label: measures[label] for label in ordered}, failures


def run_case(case: Case) -> Measure:
    """One run in a process of its own.

    Raises:
        CaseFailed: If it ends otherwise than with a result.
    """
    with tempfile.TemporaryDirectory() as folder:
        result, errors = Path(folder, "result"), Path(folder, "errors")
        Path(folder, "case").write_text(json.dumps(asdict(case)))
        with errors.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.harness", folder],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=os.environ | {"TMPDIR": folder},
            )
            machine_stall_ms, children_mb = _watch(process)
        if process.returncode or not result.exists():
            words = errors.read_text(errors="replace").strip().splitlines()
            raise CaseFailed(words[-1] if words else f"exit status {process.returncode}")
        found = json.loads(result.read_text())
    found["peak_mb"] += children_mb
    return Measure(**found, machine_stall_ms=machine_stall_ms)


def _watch(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Waits for the end; gives the longest stall in ms and the children's peaks in MB."""
    import psutil

    watched = psutil.Process(process.pid)
    peaks: dict[int, int] = {}
    stall = 0.0
    begun = looked = time.monotonic()
    while process.poll() is None:
        before = time.monotonic()
        if before - begun > CASE_TIMEOUT_S:
            process.kill()
            process.wait()
            raise CaseFailed(f"took longer than {CASE_TIMEOUT_S:,.0f} s")
        time.sleep(HEARTBEAT_S)
        now = time.monotonic()
        stall = max(stall, now - before - HEARTBEAT_S)
        if now - looked > 0.2:
            looked = now
            try:
                for child in watched.children(recursive=True):
                    peaks[child.pid] = max(peaks.get(child.pid, 0), child.memory_info().rss)
            except psutil.NoSuchProcess:
                pass
    return stall * 1e3, sum(peaks.values()) / 1e6


def medians(measures: Sequence[Measure]) -> Measure:
    """The median of each field."""

    def median(name: str) -> float | None:
        values = [getattr(measure, name) for measure in measures]
        return None if None in values else statistics.median(values)

    found: dict[str, Any] = {each.name: median(each.name) for each in fields(Measure)}
    return Measure(**found)


# ------------------------------------------------------------------ in the case's process


def measure_here(work: Any) -> dict[str, Any]:  # of either kind; asked for below
    """Works, and gives the fields of a :class:`Measure`."""
    cpu, wall = _cpu_s(), time.monotonic()
    stall_ms = None
    if inspect.iscoroutinefunction(work):
        done, stall_ms = asyncio.run(_beside_heartbeat(work))
    else:
        done = work()
    wall, cpu = time.monotonic() - wall, _cpu_s() - cpu
    peak_mb = _peak_mb()
    return asdict(done) | {
        "wall_s": wall,
        "cpu_s": cpu + _living_children_cpu_s(),
        "peak_mb": peak_mb,
        "stall_ms": stall_ms,
    }


async def _beside_heartbeat(work: Callable[[], Awaitable[Work]]) -> tuple[Work, float]:
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            try:
                await asyncio.sleep(HEARTBEAT_S)
            finally:
                # A work that blocks until its end leaves its stall to the cancellation.
                longest = max(longest, time.monotonic() - before - HEARTBEAT_S)

    heart = asyncio.create_task(beat())
    await asyncio.sleep(0)
    done = await work()
    heart.cancel()
    await asyncio.wait([heart])
    return done, longest * 1e3


def _cpu_s() -> float:
    usages: Iterable[resource.struct_rusage] = (
        resource.getrusage(resource.RUSAGE_SELF),
        resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _living_children_cpu_s() -> float:
    import psutil

    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _peak_mb() -> float:
    # Not ru_maxrss where there is a choice: a new process inherits its parent's.
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def main(folder: Path) -> None:
    """Runs the case written in ``folder``, and writes what it took beside it."""
    case = json.loads((folder / "case").read_text())
    module, function = case["prepare"].split(":")
    prepare = getattr(importlib.import_module(module), function)
    found = measure_here(prepare(case["files"], **case["options"]))
    (folder / "result").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
