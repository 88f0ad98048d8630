"""What gets through: the attacks and the harmless code of ``tests/sandbox/suite``.

Each case runs in a forked child with limits on its time, memory and files, which is killed
afterwards with its group of processes; our isolate needs none, since it is one. Only
attacks that trip a canary where nothing stops them, and harm nothing else then, are run at
all: those that have ``trips``.

An attack gets through if a canary trips (``contained``, ``refused``); if what comes out is
nothing plain (``plain``); if it takes much more time or memory than was allowed, or ends
the process (``bounded``). Everybody is told the same limits, as far as he has any.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.sandbox_isolates import ISOLATED, Isolated
from benchmarks.sandbox_peers import PEERS, Allowance, Peer, whole
from tests.sandbox.suite.loader import Canaries, Case, describe, inputs, load, same

Made: TypeAlias = Callable[[Allowance], Peer]
Judge: TypeAlias = Callable[[Made, Case, Path], Any]

JUDGED = (*PEERS, ISOLATED)
MEMORY_BYTES = 256 * 2**20
# Who is stopped so much later, or with so many times the memory, is stopped in time.
LATE_S = 1.0
MORE = 4
# What the system holds each child to.
MOST_BYTES = 4 * 2**30
MOST_S = 12


def measure(label: str, *, every: int) -> dict[str, float | None]:
    """Counts of what gets through, and of what passes.

    Of the attacks on time and memory every so-manieth of its category is run, from the
    first; of the others all.
    """
    warnings.simplefilter("ignore")
    # Once for all children; importing them changes settings of the process.
    for library in ("numpy", "pandas", "pyarrow"):
        importlib.import_module(library)
    if label == ISOLATED:
        isolated = Isolated(MEMORY_BYTES)
        try:
            return _counts(isolated.allowing, _in_folder, every)
        finally:
            isolated.end()
    PEERS[label](Allowance()).close()  # which imports it
    gc.freeze()
    return _counts(PEERS[label], _in_child, every)


def _counts(
    made: Made, within: Callable[[Made, Case, Judge], Any], every: int
) -> dict[str, float | None]:
    attacks, harmless = list(_chosen(load("attacks_policy"), every)), load("harmless")
    through: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    for case in attacks:
        if trips := within(made, case, _attack):
            through[case.category] += 1
            ways[_way(trips)] += 1
            print(f"through: {case.id}: {trips}", file=sys.stderr)
    categories = dict.fromkeys(case.category for case in attacks)
    passed = len(harmless)
    for case in harmless:
        if fault := within(made, case, _harmless):
            passed -= 1
            print(f"failed: {case.id}: {fault}", file=sys.stderr)
    return {
        "attacks": len(attacks),
        "through": sum(through.values()),
        **{way: ways[way] for way in ("escapes", "values", "limits", "crashes")},
        "harmless": len(harmless),
        "passed": passed,
        **{category: through[category] for category in categories},
    }


def _chosen(cases: Iterable[Case], every: int) -> Iterable[Case]:
    seen: Counter[str] = Counter()
    for case in cases:
        if not case.trips:
            continue
        if case.expect != "bounded":
            yield case
            continue
        if seen[case.category] % every == 0:
            yield case
        seen[case.category] += 1


def _way(trips: list[str]) -> str:
    """What kind of failure it is; the worst, where it is more than one."""
    if "crash" in trips:
        return "crashes"
    if set(trips) - {"value", "time", "memory"}:
        return "escapes"
    return "values" if "value" in trips else "limits"


# ----------------------------------------------------------------------- a child, and in it


def _in_child(made: Made, case: Case, judge: Judge) -> Any:
    """What the judge says in a child of its own; else ``["crash"]`` or ``["time"]``."""
    folder = Path(tempfile.mkdtemp(prefix="suite"))
    reading, writing = os.pipe()
    deadline = time.monotonic() + whole(case.timeout_seconds) + 3 * LATE_S
    if (child := os.fork()) == 0:
        try:
            os.close(reading)
            _be_bounded(folder)
            os.write(writing, json.dumps(judge(made, case, folder)).encode())
        finally:
            os._exit(0)  # no handler that the case left behind
    os.close(writing)
    try:
        data, late = _read(reading, deadline)
    finally:
        os.close(reading)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
    try:
        return json.loads(data)
    except ValueError:
        return ["time"] if late else ["crash"]


def _in_folder(made: Made, case: Case, judge: Judge) -> Any:
    """What the judge says here."""
    with tempfile.TemporaryDirectory(prefix="suite") as folder:
        return judge(made, case, Path(folder))


def _read(reading: int, deadline: float) -> tuple[bytes, bool]:
    """What came until its end, and whether it was late for that."""
    data = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([reading], [], [], left)[0]:
            break
        chunk = os.read(reading, 65_536)
        if not chunk:
            return data, False
        data += chunk
    return data, True


def _be_bounded(folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    for limit, most in (
        (resource.RLIMIT_AS, MOST_BYTES),
        (resource.RLIMIT_CPU, MOST_S),
        (resource.RLIMIT_FSIZE, 2**20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


def _attack(made: Made, case: Case, folder: Path) -> list[str]:
    """What an attack has tripped."""
    value: object = None
    error: BaseException | None = None
    with _peer(made, case) as peer, Canaries(folder) as canaries:
        given = inputs(case)
        canaries.watch(given)
        source = canaries.fill(case.source)
        evaluate = peer.evaluate if case.mode == "eval" else peer.execute
        before, began = _peak_bytes(), time.monotonic()
        try:
            value = evaluate(source, given)
        except BaseException as raised:  # whatever it is, the host goes on
            error = raised
        took_s = time.monotonic() - began
        grown = _peak_bytes() - before
        canaries.call_later()
        with contextlib.suppress(Exception):
            str(error)  # a host that logs it
        tripped = canaries.tripped(value, error)
    if case.expect == "plain" and error is None and not _is_plain(value):
        tripped.append("value")
    if case.expect == "bounded":
        if took_s > whole(case.timeout_seconds) + LATE_S:
            tripped.append("time")
        if grown > MORE * MEMORY_BYTES or _ran_out(error):
            tripped.append("memory")
    return sorted(set(tripped))


def _harmless(made: Made, case: Case, _: Path) -> str:
    """What is wrong with the value of harmless code; nothing, if nothing is."""
    try:
        with _peer(made, case) as peer:
            evaluate = peer.evaluate if case.mode == "eval" else peer.execute
            found = describe(evaluate(case.source, inputs(case)))
    except BaseException as error:  # a fault whatever it is
        return f"{type(error).__name__}: {error}"[:200]
    return "" if same(case.result, found) else f"another value: {found}"[:200]


@contextlib.contextmanager
def _peer(made: Made, case: Case) -> Iterator[Peer]:
    """The peer, told what the case allows."""
    allowance = Allowance(
        timeout_s=whole(case.timeout_seconds),
        memory_bytes=MEMORY_BYTES,
        imports=case.allow_imports,
    )
    peer = made(allowance)
    peer.start()
    try:
        yield peer
    finally:
        peer.close()


def _ran_out(error: BaseException | None) -> bool:
    """Whether it was the system that refused memory."""
    while error is not None:
        if type(error) is MemoryError:
            return True
        quiet = error.__suppress_context__
        error = error.__cause__ or (None if quiet else error.__context__)
    return False


def _is_plain(value: object) -> bool:
    try:
        describe(value)
    except Exception:
        return False
    return True


def _peak_bytes() -> int:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in who) * 1024
