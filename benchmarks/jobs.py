"""Many jobs at once: what a runner costs, beside its peers and the floor.

    benchmarks/run jobs                   every case, as tables
    benchmarks/run jobs noop uneven       some of them
    benchmarks/run jobs --only amap       some runners, by a part of their names
    benchmarks/run jobs --repeats 5 --out JSON and a plot to docs/benchmarks

Every figure is the median of runs in processes of their own, taken in turn. Compare the
ratios: a machine with other work stretches all alike.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import show
from benchmarks.jobs_process import LIMITERS
from benchmarks.runners import RUNNERS

TIMEOUT_S = 120.0
VERSIONS = (
    "anabranch", "aiolimiter", "aiometer", "aiostream", "async-batch-llm",
    "langchain-core", "llama-index-core", "matplotlib", "streamable", "uvloop",
)  # fmt: skip

Figures: TypeAlias = Mapping[str, float | None]
Medians: TypeAlias = Mapping[str, Figures]

WITHOUT_RESULTS = [label for label in RUNNERS if label.endswith("without results")]
# Without those that have a case of their own; ours come last.
USUAL = [label for label in RUNNERS if label not in WITHOUT_RESULTS]
FLOOR, DROP_IN = "floor", "LlamaIndex run_jobs"
RECIPE, BOUNDED = "Queue recipe", "Queue recipe, bounded"


@dataclass(frozen=True, slots=True)
class Goal:
    """What must hold of a case's medians: a figure, and a bound that it must keep.

    Attributes:
        says: The goal as a sentence.
        value: The figure; None where a row of it was left out, or is not there yet.
        most: The most that it may be, or, if ``least``, the least.
    """

    says: str
    value: Callable[[Medians], float | None]
    most: float
    least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.most if self.least else value <= self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A table.

    Attributes:
        orders: What to ask of a process, by the row's label.
        columns: What to show of the medians and a row's label, by heading.
    """

    title: str
    orders: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Callable[[Medians, str], float | None]]
    goals: Sequence[Goal] = field(default_factory=tuple[Goal, ...])


def _own(figure: str) -> Callable[[Medians, str], float | None]:
    return lambda found, label: found[label].get(figure)


def _to(figure: str, other: str) -> Callable[[Medians, str], float | None]:
    """A row's figure as a multiple of another row's."""
    return lambda found, label: _ratio(found, figure, label, other)


def _ratio(found: Medians, figure: str, label: str, other: str) -> float | None:
    above = found[label].get(figure) if label in found else None
    below = found[other].get(figure) if other in found else None
    return None if above is None or not below else above / below


def _cost(label: str, other: str) -> Callable[[Medians], float | None]:
    return lambda found: _ratio(found, "cpu_us", label, other)


def _worst(figure: str, *labels: str) -> Callable[[Medians], float | None]:
    def worst(found: Medians) -> float | None:
        values = [found[label][figure] for label in labels if label in found]
        known = [value for value in values if value is not None]
        return max(known) if len(known) == len(labels) else None

    return worst


def _orders(
    load: str, jobs: int, workers: int, rows: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    return {
        label: {
            "kind": "runner", "label": label, "load": load, "workers": workers,
            "jobs": round(jobs * share),
        }
        for label, share in rows.items()
    }  # fmt: skip


_SHARES = {label: RUNNERS[label].share for label in USUAL}
_SLOWEST = {"async-batch-llm": 0.2, "LangChain abatch": 0.4}
_COST = {
    "jobs": _own("jobs"),
    "CPU µs": _own("cpu_us"),
    "µs": _own("wall_us"),
    "x floor": _to("cpu_us", FLOOR),
    "x amap": _to("cpu_us", "amap"),
    "bytes a job": _own("grown_bytes"),
    "MiB": _own("grown_mib"),
}
_TIME = {
    "jobs": _own("jobs"),
    "x ideal": _own("of_ideal"),
    "x floor": _to("of_ideal", FLOOR),
    "x amap": _to("of_ideal", "amap"),
    "µs": _own("wall_us"),
    "CPU µs": _own("cpu_us"),
}
_STREAMS = ("astream, ordered", "astream")

CASES = {
    "noop": Case(
        title="Jobs that do nothing: 100,000, 32 workers",
        orders=_orders("noop", 100_000, 32, _SHARES),
        columns=_COST,
        goals=[
            Goal(
                "amap costs at most half of the bounded Queue recipe",
                _cost("amap", BOUNDED),
                0.5,
            ),
            Goal(
                "amap costs at most half of the Queue recipe that is filled first",
                _cost("amap", RECIPE),
                0.5,
            ),
            Goal(
                "LlamaIndex's run_jobs costs at least ten times ours",
                _cost(DROP_IN, "run_jobs"),
                10,
                least=True,
            ),
        ],
    ),
    "turn": Case(
        title="Jobs that suspend once, by sleep(0): 100,000, 32 workers",
        orders=_orders("turn", 100_000, 32, _SHARES),
        columns=_COST,
        goals=[
            Goal(
                "amap costs at most 1.2 x the bounded Queue recipe",
                _cost("amap", BOUNDED),
                1.2,
            ),
            Goal(
                "amap costs at most 1.2 x the Queue recipe that is filled first",
                _cost("amap", RECIPE),
                1.2,
            ),
        ],
    ),
    "even": Case(
        title="Jobs of 1 ms: 20,000, 100 workers",
        orders=_orders("even", 20_000, 100, _SHARES),
        columns=_TIME,
        goals=[
            Goal(
                "amap takes at most 1.1 x the floor's time",
                lambda found: _ratio(found, "of_ideal", "amap", FLOOR),
                1.1,
            ),
        ],
    ),
    "uneven": Case(
        title="Jobs of 1 ms, each tenth of 20 ms: 5,000, 32 workers",
        orders=_orders("uneven", 5_000, 32, dict.fromkeys(USUAL, 1.0) | _SLOWEST),
        columns=_TIME,
        goals=[
            Goal(
                "amap and both streams take at most 1.2 x the ideal time",
                _worst("of_ideal", "amap", *_STREAMS),
                1.2,
            ),
        ],
    ),
    "lazy": Case(
        title="1,000,000 items from a generator, each job suspends once: 32 workers",
        orders=_orders(
            "lazy",
            1_000_000,
            32,
            {
                "floor without results": 1.0,
                "Queue recipe without results": 0.2,
                "Queue recipe, bounded, without results": 1.0,
                "gather + Semaphore": 0.05,
                "aiostream, ordered": 0.01,
                "aiostream": 0.01,
                "streamable, ordered": 0.1,
                "streamable": 0.1,
                "LlamaIndex run_jobs": 0.05,
                "astream, ordered": 1.0,
                "astream": 1.0,
            },
        ),
        columns={
            "items": _own("jobs"),
            "CPU µs": _own("cpu_us"),
            "µs": _own("wall_us"),
            "x floor": _to("cpu_us", "floor without results"),
            "x astream": _to("cpu_us", "astream"),
            "bytes an item": _own("grown_bytes"),
            "MiB": _own("grown_mib"),
        },
        goals=[
            Goal(
                "memory grows by less than 2 MiB, ordered or not",
                _worst("grown_mib", *_STREAMS),
                2.0,
            ),
        ],
    ),
    "limiter": Case(
        title="400 waiters for a limit of 400 a second",
        orders={label: {"kind": "limiter", "label": label} for label in LIMITERS},
        columns={
            "wake-ups an admission": _own("wakeups"),
            "CPU µs an admission": _own("cpu_us"),
            "x Limiter": _to("cpu_us", "Limiter"),
            "s": _own("wall_s"),
            "overtaken": _own("overtaken"),
        },
        goals=[
            Goal("at most two wake-ups an admission", _worst("wakeups", "Limiter"), 2.0),
        ],
    ),
    "journal": Case(
        title="20,000 results in a journal, 64 workers",
        orders={"amap with a journal": {"kind": "journal"}},
        columns={
            "items/s": _own("items_per_s"),
            "CPU µs": _own("cpu_us"),
            "resumed/s": _own("resumed_per_s"),
            "bare SQLite rows/s": _own("bare_per_s"),
        },
        goals=[
            Goal(
                "at least 20,000 items a second",
                _worst("items_per_s", "amap with a journal"),
                20_000,
                least=True,
            ),
        ],
    ),
}

# The rows of the picture, and its panels: title, case and figure.
PICTURED = (
    "LangChain abatch", "aiostream, ordered", "LlamaIndex run_jobs", "aiometer amap",
    "gather + Semaphore", "streamable, ordered", "LlamaIndex batch_gather",
    "Queue recipe", "astream, ordered", "amap",
)  # fmt: skip
PANELS = {
    "No-op, CPU µs a job": ("noop", "cpu_us"),
    "sleep(0), CPU µs a job": ("turn", "cpu_us"),
    "Uneven, time x ideal": ("uneven", "of_ideal"),
    "Memory, bytes a job": ("noop", "grown_bytes"),
}
_OURS_PICTURED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases; 0 when all ran and every goal that was judged was met, else 1."""
    options = _options(arguments)
    names = options.cases or list(CASES)
    runs, absent, failures = _measure(names, options.repeats, options.only)
    found = {
        name: {label: _medians(each) for label, each in rows.items()}
        for name, rows in runs.items()
    }
    for name, rows in found.items():
        if rows:
            print(f"\n{CASES[name].title}\n\n{_table(CASES[name], rows)}")
    print()
    for (name, label), reason in (absent | failures).items():
        what = "not in this anabranch" if (name, label) in absent else "failed"
        print(f"{name}, {label}, {what}: {reason}")
    verdicts = [
        verdict for name, rows in found.items() for verdict in _verdicts(name, rows)
    ]
    for verdict in verdicts:
        print(_sentence(verdict))
    if options.out:
        whole = set(names) == set(CASES) and not options.only and not failures
        if not whole:
            print("nothing written: --out is for a whole run without failures")
        else:
            for path in _write(options.out, options.repeats, runs, found, verdicts):
                print(f"wrote {path.name}")
    return 1 if failures or any(each["met"] is False for each in verdicts) else 0


# ----------------------------------------------------------------------------- measurement

_Runs: TypeAlias = dict[str, dict[str, list[Figures]]]
_Reasons: TypeAlias = dict[tuple[str, str], str]


class Absent(Exception):
    """This anabranch does not have what was to be measured."""


class Failed(Exception):
    """A process ended without figures; the sentence has its last words."""


def _measure(
    names: Sequence[str], repeats: int, only: Sequence[str]
) -> tuple[_Runs, _Reasons, _Reasons]:
    """Every row ``repeats`` times, in turn, and in turned order every second time."""
    rows = [
        (name, label, order)
        for name in names
        for label, order in CASES[name].orders.items()
        if not only or any(part in label for part in only)
    ]
    runs: _Runs = {
        name: {label: [] for at, label, _ in rows if at == name} for name in names
    }
    absent: _Reasons = {}
    failures: _Reasons = {}
    for repeat in range(repeats):
        for name, label, order in rows if repeat % 2 == 0 else reversed(rows):
            if (name, label) in absent or (name, label) in failures:
                continue
            _say(f"\r\x1b[K  {repeat + 1} of {repeats}: {name}, {label} ")
            try:
                runs[name][label].append(_figures(order))
            except Absent as reason:
                absent[name, label] = str(reason)
            except Failed as reason:
                failures[name, label] = str(reason)
    _say("\r\x1b[K")
    for name, label in absent | failures:
        del runs[name][label]
    return runs, absent, failures


def _say(words: str) -> None:
    if sys.stderr.isatty():
        print(words, end="", file=sys.stderr, flush=True)


def _figures(order: Mapping[str, Any]) -> Figures:
    """What a process of its own finds."""
    command = [sys.executable, "-m", "benchmarks.jobs_process", json.dumps(order)]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"took longer than {TIMEOUT_S:.0f} s") from error
    if process.returncode:
        words = process.stderr.strip().splitlines()
        raise Failed(words[-1] if words else f"exit status {process.returncode}")
    found: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    if "absent" in found:
        raise Absent(found["absent"])
    return found


def _medians(runs: Sequence[Figures]) -> Figures:
    def median(figure: str) -> float | None:
        values = [run[figure] for run in runs]
        known = [value for value in values if value is not None]
        return statistics.median(known) if len(known) == len(values) else None

    return {figure: median(figure) for figure in runs[0]}


# ---------------------------------------------------------------------------- presentation


def _table(case: Case, found: Medians) -> str:
    rows = [["", *case.columns]]
    for label in found:
        values = [value(found, label) for value in case.columns.values()]
        rows.append([label, *map(show.number, values)])
    return show.aligned(rows)


def _verdicts(name: str, found: Medians) -> list[dict[str, Any]]:
    verdicts = []
    for goal in CASES[name].goals:
        value = goal.value(found)
        verdicts.append(
            {
                "case": name,
                "goal": goal.says,
                "value": None if value is None else round(value, 3),
                "bound": goal.most,
                "met": None if value is None else goal.is_met(value),
            }
        )
    return verdicts


def _sentence(verdict: Mapping[str, Any]) -> str:
    word = {True: "met", False: "MISSED", None: "not judged"}[verdict["met"]]
    value = "" if verdict["value"] is None else f": {show.number(verdict['value'])}"
    return f"{word}: {verdict['case']}: {verdict['goal']}{value}"


def _write(
    folder: Path,
    repeats: int,
    runs: _Runs,
    found: Mapping[str, Medians],
    verdicts: Sequence[Mapping[str, Any]],
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    data, picture = folder / "jobs.json", folder / "jobs.svg"
    title = "Many jobs at once, 32 workers"
    record = {
        "title": title,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": show.machine(),
        "versions": show.versions(VERSIONS),
        "repeats": repeats,
        "goals": verdicts,
        "cases": {
            name: {
                "title": CASES[name].title,
                "medians": {label: _rounded(each) for label, each in rows.items()},
                "runs": {
                    label: [_rounded(each) for each in runs[name][label]] for label in rows
                },
            }
            for name, rows in found.items()
        },
    }
    text = json.dumps(record, indent=2)
    # What holds nothing else stays on one line.
    flat = re.sub(r"[{\[][^][{}]*[]}]", lambda found: re.sub(r"\s+", " ", found[0]), text)
    data.write_text(flat + "\n")
    labels = [label for label in PICTURED if label in found["noop"]]
    panels = {
        head: [found[case].get(label, {}).get(figure) for label in labels]
        for head, (case, figure) in PANELS.items()
    }
    ours = len([label for label in PICTURED[-_OURS_PICTURED:] if label in labels])
    names = [f"anabranch {label}" for label in labels[len(labels) - ours :]]
    picture.write_text(
        show.bars(title, [*labels[: len(labels) - ours], *names], panels, ours=ours)
    )
    return [data, picture]


def _rounded(figures: Figures) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items() if value is not None}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run jobs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; default: all"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PART",
        help="rows with this in their names; may be repeated",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="runs a row; medians are shown"
    )
    show.add_out(parser)
    options = parser.parse_args(arguments)
    for name in options.cases:
        if name not in CASES:
            parser.error(f"no case {name!r}; there are {', '.join(CASES)}")
    if options.repeats < 1:
        parser.error("--repeats is at least 1")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
