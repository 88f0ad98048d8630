"""Code that somebody else wrote: what it costs to contain it, and what gets through.

    benchmarks/run sandbox                     every case, as tables
    benchmarks/run sandbox small loop          some of them
    benchmarks/run sandbox --only Monty        some rows, by a part of their names
    benchmarks/run sandbox --repeats 5 --out   JSON and a plot to docs/benchmarks

A *floor* is the same without containment: plain Python, a fork of a small process that
answers through a pipe, two processes with a pair of sockets, a copy of the bytes.

Every figure is the median of runs in processes of their own, taken in turn; what gets
through is counted once. CPU is the time of all threads and all children. Compare the
ratios: a machine with other work stretches all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from benchmarks import cases
from benchmarks.cases import Benchmark, Case, Goal, Medians, own, ratio, to, worst
from benchmarks.sandbox_frames import ARROW, BOTH, MEMCPY, STREAM, WAYS
from benchmarks.sandbox_isolates import (
    AT_ONCE,
    BARE,
    ECHO,
    FORK,
    ISOLATED,
    ONE_BY_ONE,
    SESSIONS,
    WITH_PANDAS,
)
from benchmarks.sandbox_peers import FLOOR, OURS, PEERS
from benchmarks.sandbox_suite import JUDGED

Order: TypeAlias = Mapping[str, Any] | str
Figure: TypeAlias = Callable[[Medians], float | None]

RIVALS = [label for label in PEERS if label not in (FLOOR, OURS)]
TURNS = 1_000_000


def _orders(measure: str, labels: Iterable[str], **options: Any) -> dict[str, Order]:
    return {label: {"measure": measure, "label": label, **options} for label in labels}


def _loops() -> dict[str, Order]:
    orders = _orders("loop", PEERS, turns=TURNS)
    # The slower ones take fewer turns, and are shown as if they had taken them all.
    orders["asteval"] = {"measure": "loop", "label": "asteval", "turns": 10_000}
    orders["smolagents"] = {"measure": "loop", "label": "smolagents", "turns": 50_000}
    orders["simpleeval"] = "it evaluates expressions only"
    return orders


def _expression(title: str, what: str, goals: list[Goal]) -> Case:
    return Case(
        title=title,
        orders=_orders("expression", PEERS, what=what, count=300),
        columns={
            "µs, first": own("first_us"),
            "CPU µs": own("first_cpu_us"),
            "µs, again": own("again_us"),
            "CPU µs ": own("again_cpu_us"),
            "again x floor": to("again_us", FLOOR),
        },
        goals=goals,
    )


def _to_best(figure: str) -> Figure:
    """Ours as a multiple of the most that a peer has."""

    def multiple(found: Medians) -> float | None:
        all_of_them = [ratio(found, figure, OURS, peer) for peer in RIVALS]
        known = [each for each in all_of_them if each is not None]
        return min(known) if len(known) == len(RIVALS) else None

    return multiple


def _both(says: str, figure: str, most: float, *, least: bool = False) -> list[Goal]:
    """The same goal without pandas and with it."""
    return [
        Goal(f"{says}{also}", worst(figure, label), most, least)
        for label, also in ((ISOLATED, ""), (WITH_PANDAS, ", with pandas"))
    ]


CASES = {
    "small": _expression(
        "A small expression in this process: a sum over a list of 100",
        "small",
        [
            Goal(
                "again, at most 3 x plain eval of a code object",
                lambda found: ratio(found, "again_us", OURS, FLOOR),
                3,
            ),
            Goal("the first time at most 200 µs", worst("first_us", OURS), 200),
        ],
    ),
    "tiny": _expression("A tiny one: three names, a product and a sum", "tiny", []),
    "loop": Case(
        title="A loop of a million turns in this process; fewer turns are scaled up",
        orders=_loops(),
        columns={
            "turns": own("turns"),
            "ms, for": own("for_ms"),
            "CPU ms": own("for_cpu_ms"),
            "x floor": own("for_of_floor"),
            "ms, while": own("while_ms"),
            "CPU ms ": own("while_cpu_ms"),
            "x floor ": own("while_of_floor"),
        },
        goals=[
            Goal(
                f"`{loop}`: at most 1.5 x plain exec", worst(f"{loop}_of_floor", OURS), 1.5
            )
            for loop in ("for", "while")
        ],
    ),
    "spaced": Case(
        title="A run in a fresh process, each 20 ms after the one before",
        orders=_orders("spaced", ONE_BY_ONE, count=300, pause_s=0.02),
        columns={
            "runs": own("runs"),
            "ms, p50": own("p50_ms"),
            "p99": own("p99_ms"),
            "CPU ms": own("cpu_ms"),
            "p50 x floor": to("p50_ms", FORK),
        },
        goals=[
            *_both("half of them take at most 1.5 ms", "p50_ms", 1.5),
            *_both("99 of 100 take at most 8 ms", "p99_ms", 8),
        ],
    ),
    "session": Case(
        title="A run in a process that is kept, back to back",
        orders=_orders("session", SESSIONS, count=3_000),
        columns={
            "runs": own("runs"),
            "µs, p50": own("p50_us"),
            "p99": own("p99_us"),
            "CPU µs": own("cpu_us"),
            "p50 x floor": to("p50_us", ECHO),
        },
        goals=_both("half of them take at most 100 µs", "p50_us", 100),
    ),
    "throughput": Case(
        title="Runs in fresh processes by twice as many tasks as there are processors",
        orders=_orders("throughput", AT_ONCE, seconds=3),
        columns={
            "tasks": own("tasks"),
            "runs/s": own("runs_per_s"),
            "CPU ms": own("cpu_ms"),
            "x floor": to("runs_per_s", FORK),
        },
        goals=_both("at least 400 a second", "runs_per_s", 400, least=True),
    ),
    "frame": Case(
        title="A DataFrame of 100 MB of floats",
        orders=_orders("frame", WAYS, megabytes=100, count=9),
        columns={
            "ms": own("ms"),
            "CPU ms": own("cpu_ms"),
            "x memcpy": to("ms", MEMCPY),
            "x Arrow": to("ms", ARROW),
            "x as a table": to("ms", STREAM),
        },
        goals=[
            Goal(
                "in and out, at most 3 x a copy of the frame by Arrow",
                lambda found: ratio(found, "ms", BOTH, ARROW),
                3,
            ),
        ],
    ),
    "suite": Case(
        title="Attacks that get through, and harmless code that passes",
        orders=_orders("suite", JUDGED, every=4),
        columns={
            "attacks": own("attacks"),
            "through": own("through"),
            "escapes": own("escapes"),
            "values": own("values"),
            "limits": own("limits"),
            "crashes": own("crashes"),
            "harmless": own("harmless"),
            "passed": own("passed"),
        },
        goals=[
            Goal("no attack gets through", worst("through", OURS, ISOLATED), 0),
            Goal(
                "in process, more harmless code passes than with any peer",
                _to_best("passed"),
                1,
                least=True,
            ),
        ],
        once=True,
        timeout_s=1_800,
    ),
}

BENCHMARK = Benchmark(
    name="sandbox",
    about=__doc__,
    process="benchmarks.sandbox_process",
    cases=CASES,
    versions=(
        "anabranch", "asteval", "llama-index-experimental", "numpy", "pandas", "pyarrow",
        "pydantic-monty", "restrictedpython", "simpleeval", "smolagents",
    ),
    title="Code that somebody else wrote",
    pictured=[*RIVALS, BARE, OURS, ISOLATED],
    ours={OURS: "anabranch, in process", ISOLATED: ISOLATED},
    panels={
        "µs an expression": ("small", "again_us"),
        "ms a million turns": ("loop", "for_ms"),
        "ms a fresh run": ("spaced", "p50_ms"),
        "attacks through": ("suite", "through"),
        "harmless passed": ("suite", "passed"),
    },
)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(cases.main(BENCHMARK))
