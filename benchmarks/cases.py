"""Runs a benchmark of cases: each row in fresh processes, goals, a table, JSON, a plot.

A case is a table, a row of it an order: what a process of its own is asked for, as JSON in
its first argument. It answers in JSON on the last line of its output: figures, or
``absent`` with the reason where this anabranch does not have what is measured.

Every figure is the median of runs in processes taken in turn.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import show

TIMEOUT_S = 300.0

Figures: TypeAlias = Mapping[str, float | None]
Medians: TypeAlias = Mapping[str, Figures]
Column: TypeAlias = Callable[[Medians, str], float | None]


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
        orders: What to ask of a process, by the row's label; or, as a sentence, why there
            is nothing to be asked for.
        columns: What to show of the medians and a row's label, by heading.
        once: Whether one run of a row says it all, as of what is counted.
        timeout_s: How long one may take.
    """

    title: str
    orders: Mapping[str, Mapping[str, Any] | str]
    columns: Mapping[str, Column]
    goals: Sequence[Goal] = field(default_factory=tuple[Goal, ...])
    once: bool = False
    timeout_s: float = TIMEOUT_S


def own(figure: str) -> Column:
    """A row's figure."""
    return lambda found, label: found[label].get(figure)


def to(figure: str, other: str) -> Column:
    """A row's figure as a multiple of another row's."""
    return lambda found, label: ratio(found, figure, label, other)


def ratio(found: Medians, figure: str, label: str, other: str) -> float | None:
    """A row's figure as a multiple of another row's; None where one is not there."""
    above = found[label].get(figure) if label in found else None
    below = found[other].get(figure) if other in found else None
    return None if above is None or not below else above / below


def cost(label: str, other: str) -> Callable[[Medians], float | None]:
    """A row's CPU time as a multiple of another row's."""
    return lambda found: ratio(found, "cpu_us", label, other)


def worst(figure: str, *labels: str) -> Callable[[Medians], float | None]:
    """The largest figure of these rows; None unless all are there."""

    def largest(found: Medians) -> float | None:
        values = [found[label][figure] for label in labels if label in found]
        known = [value for value in values if value is not None]
        return max(known) if len(known) == len(labels) else None

    return largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Cases, and how they are shown.

    Attributes:
        name: Of its command and of the files it writes.
        about: What its ``--help`` says.
        process: The module that measures, in a process of its own.
        cases: By name.
        versions: Packages whose versions matter.
        title: Of the picture.
        pictured: The rows of the picture.
        ours: How those that are ours are called in it; they come last.
        panels: Its panels by title: a case and a figure.
        beside: What is there while they are measured, as a server that all of them use.
    """

    name: str
    about: str
    process: str
    cases: Mapping[str, Case]
    versions: Sequence[str]
    title: str
    pictured: Sequence[str]
    ours: Mapping[str, str]
    panels: Mapping[str, tuple[str, str]]
    beside: Callable[[], AbstractContextManager[Any]] = nullcontext


def main(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> int:
    """Runs the cases; 0 when all ran and every goal that was judged was met, else 1."""
    options = _options(benchmark, arguments)
    cases = benchmark.cases
    names = options.cases or list(cases)
    with benchmark.beside():
        runs, absent, failures = _measure(benchmark, names, options.repeats, options.only)
    found = {
        name: {label: _medians(each) for label, each in rows.items()}
        for name, rows in runs.items()
    }
    for name, rows in found.items():
        if rows:
            lacks = {} if options.only else _lacks(cases[name])
            print(f"\n{cases[name].title}\n\n{_table(cases[name], rows, lacks)}")
            for label, reason in lacks.items():
                print(f"n/a: {label}: {reason}")
    print()
    for (name, label), reason in (absent | failures).items():
        what = "not in this anabranch" if (name, label) in absent else "failed"
        print(f"{name}, {label}, {what}: {reason}")
    verdicts = [
        verdict
        for name, rows in found.items()
        for verdict in _verdicts(name, cases[name], rows)
    ]
    for verdict in verdicts:
        print(_sentence(verdict))
    if options.out:
        whole = set(names) == set(cases) and not options.only and not failures
        if not whole:
            print("nothing written: --out is for a whole run without failures")
        else:
            for path in _write(
                benchmark, options.out, runs, found, verdicts, repeats=options.repeats
            ):
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
    benchmark: Benchmark, names: Sequence[str], repeats: int, only: Sequence[str]
) -> tuple[_Runs, _Reasons, _Reasons]:
    """Every row ``repeats`` times, in turn, and in turned order every second time."""
    rows = [
        (name, label, order)
        for name in names
        for label, order in benchmark.cases[name].orders.items()
        if not isinstance(order, str) and (not only or any(part in label for part in only))
    ]
    runs: _Runs = {
        name: {label: [] for at, label, _ in rows if at == name} for name in names
    }
    absent: _Reasons = {}
    failures: _Reasons = {}
    for repeat in range(repeats):
        for name, label, order in rows if repeat % 2 == 0 else reversed(rows):
            case = benchmark.cases[name]
            if (name, label) in absent | failures or (case.once and repeat):
                continue
            _say(f"\r\x1b[K  {repeat + 1} of {repeats}: {name}, {label} ")
            try:
                figures = _figures(benchmark.process, order, case.timeout_s)
            except Absent as reason:
                absent[name, label] = str(reason)
            except Failed as reason:
                failures[name, label] = str(reason)
            else:
                runs[name][label].append(figures)
    _say("\r\x1b[K")
    for name, label in absent | failures:
        del runs[name][label]
    return runs, absent, failures


def _say(words: str) -> None:
    if sys.stderr.isatty():
        print(words, end="", file=sys.stderr, flush=True)


def _figures(process: str, order: Mapping[str, Any], timeout_s: float) -> Figures:
    """What a process of its own finds."""
    command = [sys.executable, "-m", process, json.dumps(order)]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"took longer than {timeout_s:.0f} s") from error
    if ended.returncode:
        words = ended.stderr.strip().splitlines()
        raise Failed(words[-1] if words else f"exit status {ended.returncode}")
    found: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
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


def _lacks(case: Case) -> dict[str, str]:
    """Why there is nothing to measure, by the row's label."""
    return {label: order for label, order in case.orders.items() if isinstance(order, str)}


def _table(case: Case, found: Medians, lacks: Mapping[str, str]) -> str:
    rows = [["", *case.columns]]
    for label in case.orders:
        if label in lacks:
            rows.append([label, *["n/a"] * len(case.columns)])
        elif label in found:
            values = [value(found, label) for value in case.columns.values()]
            rows.append([label, *map(show.number, values)])
    return show.aligned(rows)


def _verdicts(name: str, case: Case, found: Medians) -> list[dict[str, Any]]:
    verdicts = []
    for goal in case.goals:
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
    benchmark: Benchmark,
    folder: Path,
    runs: _Runs,
    found: Mapping[str, Medians],
    verdicts: Sequence[Mapping[str, Any]],
    *,
    repeats: int,
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    data, picture = folder / f"{benchmark.name}.json", folder / f"{benchmark.name}.svg"
    record = {
        "title": benchmark.title,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": show.machine(),
        "versions": show.versions(benchmark.versions),
        "repeats": repeats,
        "goals": verdicts,
        "cases": {
            name: {
                "title": benchmark.cases[name].title,
                **({"n/a": lacks} if (lacks := _lacks(benchmark.cases[name])) else {}),
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
    shown = {label for rows in found.values() for label in rows}
    labels = [label for label in benchmark.pictured if label in shown]
    panels = {
        head: [found[case].get(label, {}).get(figure) for label in labels]
        for head, (case, figure) in benchmark.panels.items()
    }
    ours = len([label for label in labels if label in benchmark.ours])
    named = [benchmark.ours.get(label, label) for label in labels]
    picture.write_text(show.bars(benchmark.title, named, panels, ours=ours))
    return [data, picture]


def _rounded(figures: Figures) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items() if value is not None}


def _options(benchmark: Benchmark, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"benchmarks/run {benchmark.name}",
        description=benchmark.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"{', '.join(benchmark.cases)}; default: all",
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
        if name not in benchmark.cases:
            parser.error(f"no case {name!r}; there are {', '.join(benchmark.cases)}")
    if options.repeats < 1:
        parser.error("--repeats is at least 1")
    return options
