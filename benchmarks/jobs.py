"""Many jobs at once: what a runner costs, beside its peers and the floor.

    benchmarks/run jobs                   every case, as tables
    benchmarks/run jobs noop uneven       some of them
    benchmarks/run jobs --only amap       some runners, by a part of their names
    benchmarks/run jobs --repeats 5 --out JSON and a plot to docs/benchmarks

Every figure is the median of runs in processes of their own, taken in turn. Compare the
ratios: a machine with other work stretches all alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import cases
from benchmarks.cases import Benchmark, Case, Goal, cost, own, ratio, to, worst
from benchmarks.jobs_process import LIMITERS
from benchmarks.runners import RUNNERS

WITHOUT_RESULTS = [label for label in RUNNERS if label.endswith("without results")]
# Without those that have a case of their own; ours come last.
USUAL = [label for label in RUNNERS if label not in WITHOUT_RESULTS]
FLOOR, DROP_IN = "floor", "LlamaIndex run_jobs"
RECIPE, BOUNDED = "Queue recipe", "Queue recipe, bounded"


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
    "jobs": own("jobs"),
    "CPU µs": own("cpu_us"),
    "µs": own("wall_us"),
    "x floor": to("cpu_us", FLOOR),
    "x amap": to("cpu_us", "amap"),
    "bytes a job": own("grown_bytes"),
    "MiB": own("grown_mib"),
}
_TIME = {
    "jobs": own("jobs"),
    "x ideal": own("of_ideal"),
    "x floor": to("of_ideal", FLOOR),
    "x amap": to("of_ideal", "amap"),
    "µs": own("wall_us"),
    "CPU µs": own("cpu_us"),
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
                cost("amap", BOUNDED),
                0.5,
            ),
            Goal(
                "amap costs at most half of the Queue recipe that is filled first",
                cost("amap", RECIPE),
                0.5,
            ),
            Goal(
                "LlamaIndex's run_jobs costs at least ten times ours",
                cost(DROP_IN, "run_jobs"),
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
                cost("amap", BOUNDED),
                1.2,
            ),
            Goal(
                "amap costs at most 1.2 x the Queue recipe that is filled first",
                cost("amap", RECIPE),
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
                lambda found: ratio(found, "of_ideal", "amap", FLOOR),
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
                worst("of_ideal", "amap", *_STREAMS),
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
            "items": own("jobs"),
            "CPU µs": own("cpu_us"),
            "µs": own("wall_us"),
            "x floor": to("cpu_us", "floor without results"),
            "x astream": to("cpu_us", "astream"),
            "bytes an item": own("grown_bytes"),
            "MiB": own("grown_mib"),
        },
        goals=[
            Goal(
                "memory grows by less than 2 MiB, ordered or not",
                worst("grown_mib", *_STREAMS),
                2.0,
            ),
        ],
    ),
    "limiter": Case(
        title="400 waiters for a limit of 400 a second",
        orders={label: {"kind": "limiter", "label": label} for label in LIMITERS},
        columns={
            "wake-ups an admission": own("wakeups"),
            "CPU µs an admission": own("cpu_us"),
            "x Limiter": to("cpu_us", "Limiter"),
            "s": own("wall_s"),
            "overtaken": own("overtaken"),
        },
        goals=[
            Goal("at most two wake-ups an admission", worst("wakeups", "Limiter"), 2.0),
        ],
    ),
    "journal": Case(
        title="20,000 results in a journal, 64 workers",
        orders={"amap with a journal": {"kind": "journal"}},
        columns={
            "items/s": own("items_per_s"),
            "CPU µs": own("cpu_us"),
            "resumed/s": own("resumed_per_s"),
            "bare SQLite rows/s": own("bare_per_s"),
        },
        goals=[
            Goal(
                "at least 20,000 items a second",
                worst("items_per_s", "amap with a journal"),
                20_000,
                least=True,
            ),
        ],
    ),
}

# The rows of the picture, ours last, and how those are called there.
PICTURED = (
    "LangChain abatch", "aiostream, ordered", "LlamaIndex run_jobs", "aiometer amap",
    "gather + Semaphore", "streamable, ordered", "LlamaIndex batch_gather",
    "Queue recipe", "astream, ordered", "amap",
)  # fmt: skip
OURS = {label: f"anabranch {label}" for label in PICTURED[-2:]}

BENCHMARK = Benchmark(
    name="jobs",
    about=__doc__,
    process="benchmarks.jobs_process",
    cases=CASES,
    versions=(
        "anabranch", "aiolimiter", "aiometer", "aiostream", "async-batch-llm",
        "langchain-core", "llama-index-core", "matplotlib", "streamable", "uvloop",
    ),
    title="Many jobs at once, 32 workers",
    pictured=PICTURED,
    ours=OURS,
    panels={
        "No-op, CPU µs a job": ("noop", "cpu_us"),
        "sleep(0), CPU µs a job": ("turn", "cpu_us"),
        "Uneven, time x ideal": ("uneven", "of_ideal"),
        "Memory, bytes a job": ("noop", "grown_bytes"),
    },
)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(cases.main(BENCHMARK))
