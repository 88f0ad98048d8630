"""Workflows: what an engine costs a run, a step and an event, beside its peers and a floor.

    benchmarks/run workflow                     every case, as tables
    benchmarks/run workflow chain fan           some of them
    benchmarks/run workflow --only anabranch    some engines, by a part of their names
    benchmarks/run workflow --repeats 5 --out   JSON and a plot to docs/benchmarks

Every figure is the median of runs in processes of their own, taken in turn. Compare the
ratios: a machine with other work stretches all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks import cases
from benchmarks.cases import Benchmark, Case, Goal, Medians, cost, own, ratio, to, worst
from benchmarks.engines import ENGINES

FLOOR, OURS, TWIN = "asyncio", "anabranch", "llama-index"
PEERS = [label for label in ENGINES if label not in (FLOOR, OURS)]
BY_HAND = "collect_events"
BETWEEN = "between steps"


def _order(engine: str, what: str, count: int, warm: int) -> dict[str, Any] | str:
    lacks = getattr(ENGINES[engine], what)
    if isinstance(lacks, str):
        return lacks
    return {"engine": engine, "what": what, "count": count, "warm": warm}


def _orders(
    what: str, count: int, warm: int, slow: Mapping[str, int] | None = None
) -> dict[str, dict[str, Any] | str]:
    """Every engine; ``slow`` ones with a count of their own."""
    counts = dict.fromkeys(ENGINES, count) | (slow or {})
    return {engine: _order(engine, what, each, warm) for engine, each in counts.items()}


def _to_cheapest(
    what: str, figure: str, ours: str = OURS
) -> Callable[[Medians], float | None]:
    """Ours as a multiple of the cheapest peer's that has such a workflow."""
    rivals = [peer for peer in PEERS if not isinstance(getattr(ENGINES[peer], what), str)]

    def multiple(found: Medians) -> float | None:
        all_of_them = [ratio(found, figure, ours, peer) for peer in rivals]
        known = [each for each in all_of_them if each is not None]
        return max(known) if len(known) == len(rivals) else None

    return multiple


def _sized(label: str, count: int) -> str:
    return f"{label}, {count:,}"


def _fans(label: str, what: str) -> dict[str, dict[str, Any] | str]:
    sizes = (125, 500, 1_000, 2_000, 4_000)
    orders = {_sized(label, size): _order(OURS, what, size, 100) for size in sizes}
    # That of the case's own size is the row without a size.
    return {
        label if name == _sized(label, 1_000) else name: order
        for name, order in orders.items()
    }


_COST = {
    "CPU µs": own("cpu_us"),
    "µs": own("wall_us"),
    "x floor": to("cpu_us", FLOOR),
    "x anabranch": to("cpu_us", OURS),
}
_OURS_BY_HAND, _TWIN_BY_HAND = f"{OURS}, {BY_HAND}", f"{TWIN}, {BY_HAND}"
_SHORT = f"{OURS}, 2,000 steps"
_BETWEEN = f"{OURS}, {BETWEEN}"

_RUN = Case(
    title="A run, from start to stop in one step: 1,000, one after the other",
    orders=_orders("run", 1_000, 100),
    columns={"runs": own("count"), **_COST},
    goals=[
        Goal("a run costs at most 80 µs", worst("cpu_us", OURS), 80),
        Goal("a run costs less than any peer's", _to_cheapest("run", "cpu_us"), 1),
    ],
)

CASES = {
    "run": _RUN,
    "chain": Case(
        title="A chain of 2,000 steps in one run",
        orders=_orders("chain", 2_000, 200),
        columns={"steps": own("count"), **_COST},
        goals=[
            Goal("a step costs less than any peer's", _to_cheapest("chain", "cpu_us"), 1),
            Goal("LlamaIndex's costs at least 8 x ours", cost(TWIN, OURS), 8, least=True),
        ],
    ),
    "long": Case(
        title="A chain of 100,000 steps in one run",
        orders={
            FLOOR: _order(FLOOR, "chain", 100_000, 2_000),
            TWIN: _order(TWIN, "chain", 20_000, 2_000),
            _SHORT: _order(OURS, "chain", 2_000, 2_000),
            OURS: _order(OURS, "chain", 100_000, 2_000),
        },
        columns={"steps": own("count"), **_COST, "MiB": own("grown_mib")},
        goals=[
            Goal("a step costs at most 1.1 x that of 2,000", cost(OURS, _SHORT), 1.1),
            Goal("memory grows by less than 2 MiB", worst("grown_mib", OURS), 2),
        ],
    ),
    "fan": Case(
        title="1,000 events out to 16 workers, and all of them together again",
        orders={
            **_orders("fan", 1_000, 100),
            _TWIN_BY_HAND: _order(TWIN, "fan_by_hand", 1_000, 100),
            **_fans(_OURS_BY_HAND, "fan_by_hand"),
            **_fans(OURS, "fan"),
        },
        columns={"events": own("count"), **_COST},
        goals=[
            Goal("LlamaIndex's costs at least 10 x ours", cost(TWIN, OURS), 10, least=True),
            Goal(
                "LlamaIndex's collect_events costs at least 10 x ours",
                cost(_TWIN_BY_HAND, _OURS_BY_HAND),
                10,
                least=True,
            ),
            Goal(
                "of 4,000, an event costs at most 1.25 x that of 500",
                cost(_sized(OURS, 4_000), _sized(OURS, 500)),
                1.25,
            ),
            Goal(
                "of 4,000, collect_events costs at most 1.25 x that of 500",
                cost(_sized(_OURS_BY_HAND, 4_000), _sized(_OURS_BY_HAND, 500)),
                1.25,
            ),
        ],
    ),
    "many": replace(
        _RUN,
        title="200 runs at once, each suspends once, by sleep(0)",
        orders=_orders("many", 200, 200),
        goals=[],
    ),
    "idle": Case(
        title="10,000 runs that wait for somebody's answer, then all answered",
        # The slower ones get fewer, so that a round stays short.
        orders={
            **_orders("idle", 10_000, 20, {"langgraph": 1_000, TWIN: 1_000}),
            f"{TWIN}, {BETWEEN}": _order(TWIN, "idle_between", 1_000, 20),
            _BETWEEN: _order(OURS, "idle_between", 10_000, 20),
        },
        columns={
            "runs": own("count"),
            "bytes a run": own("bytes_a_run"),
            "CPU µs to start": own("start_us"),
            "to answer": own("answer_us"),
            "µs to start": own("start_wall_us"),
            "to answer ": own("answer_wall_us"),
            "bytes x anabranch": to("bytes_a_run", OURS),
        },
        goals=[
            Goal(
                "a run that waits between two steps holds less memory than any peer's",
                _to_cheapest("idle", "bytes_a_run", _BETWEEN),
                1,
            ),
            Goal(
                "one that stands still in a step holds less than those that do so too",
                lambda found: ratio(found, "bytes_a_run", OURS, TWIN),
                1,
            ),
        ],
    ),
}

BENCHMARK = Benchmark(
    name="workflow",
    about=__doc__,
    process="benchmarks.workflow_process",
    cases=CASES,
    versions=(
        "anabranch", "apache-burr", "haystack-ai", "langgraph", "llama-index-workflows",
        "matplotlib", "pydantic", "pydantic-graph",
    ),
    title="Workflows",
    pictured=list(ENGINES),
    ours={OURS: OURS},
    panels={
        "CPU µs a run": ("run", "cpu_us"),
        "CPU µs a step": ("chain", "cpu_us"),
        "CPU µs an event": ("fan", "cpu_us"),
        "Bytes a waiting run": ("idle", "bytes_a_run"),
    },
)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(cases.main(BENCHMARK))
