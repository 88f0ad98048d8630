"""Runs attacks in plain Python, to show that each does what it says where nothing stops it.

    python -m tests.sandbox.suite.plain attacks_policy

prints for each case what tripped, a JSON object a line. Each runs in a forked child with
limits on its memory, time and files, whose process group is killed afterwards. Cases that
would harm the machine without a sandbox (signals to everything, forks without end, mounts,
names of the host) are left out: the `trips` of a case say that it may be run.
"""

from __future__ import annotations

import ast
import contextlib
import io
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
from pathlib import Path
from typing import Any

from tests.sandbox.suite.loader import Canaries, Case, describe, inputs, load

_GIB = 2**30
# An end so long after the limit still counts as in time.
_LATE_S = 0.5
# More than this beyond what the interpreter occupied counts as memory without limit.
_MEMORY_KIB = 256 * 2**10


def may_run(case: Case) -> bool:
    """Whether the case was found to trip something, and harms nothing else on its way."""
    return bool(case.trips)


def trips(case: Case) -> list[str]:
    """What the case trips in plain Python, "time", "memory", "crash" and "value" included."""
    folder = Path(tempfile.mkdtemp(prefix="suite"))
    readable, writable = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.write(writable, json.dumps(_attempt(case, folder)).encode())
        finally:
            os._exit(0)  # no handler that the case left behind
    os.close(writable)
    try:
        limit = case.timeout_seconds + 2 * _LATE_S if case.expect == "bounded" else 30.0
        report = _read(readable, started + limit)
    finally:
        os.close(readable)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
    if report is None:
        return ["time"] if time.monotonic() >= started + limit else ["crash"]
    found: list[str] = report["tripped"]
    if case.expect == "bounded" and report["memory"]:
        found.append("memory")
    elif case.expect == "bounded" and report["seconds"] > case.timeout_seconds + _LATE_S:
        found.append("time")
    if case.expect == "plain" and report["foreign"]:
        found.append("value")
    return sorted(set(found))


def _read(readable: int, deadline: float) -> Any:
    data = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([readable], [], [], left)[0]:
            return None
        chunk = os.read(readable, 65536)
        if not chunk:
            break
        data += chunk
    with contextlib.suppress(ValueError):
        return json.loads(data)
    return None


def _attempt(case: Case, folder: Path) -> dict[str, object]:
    os.setsid()
    os.chdir(folder)
    for limit, most in (
        (resource.RLIMIT_AS, 3 * _GIB),
        (resource.RLIMIT_CPU, 5),
        (resource.RLIMIT_FSIZE, 2**20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    printed = io.StringIO()
    value: object = None
    error: BaseException | None = None
    with Canaries(folder) as canaries:
        values = inputs(case)
        canaries.watch(values)
        source = canaries.fill(case.source)
        try:
            with contextlib.redirect_stdout(printed):
                value = _run(case, source, values)
        except BaseException as caught:
            error = caught
        canaries.call_later()
        with contextlib.suppress(Exception):
            str(error)  # a host that logs it
        foreign = error is None and not _is_plain(value)
        tripped = canaries.tripped(value, printed.getvalue(), error)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "tripped": tripped,
            "seconds": time.monotonic() - started,
            "memory": isinstance(error, MemoryError) or peak - before > _MEMORY_KIB,
            "foreign": foreign,
        }


def _run(case: Case, source: str | bytes, values: dict[str, Any]) -> object:
    if case.layer != "isolate":
        # Not as in this module, whose annotations are never evaluated.
        code = compile(source, "<source>", case.mode, dont_inherit=True)
        value = eval(code, values)
        return value if case.mode == "eval" else values.get("result")
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<source>", "exec", dont_inherit=True), values)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "<source>", "eval"), values)


def _is_plain(value: object) -> bool:
    try:
        describe(value)
    except Exception:
        return False
    return True


def _main() -> None:
    warnings.simplefilter("ignore")
    missing = set()
    for module in ("pandas", "numpy"):
        try:
            __import__(module)
        except ImportError:
            missing.add(module)
    for case in load(sys.argv[1]):
        if may_run(case) and missing.isdisjoint(case.needs):
            report = {"id": case.id, "stated": case.trips, "found": trips(case)}
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    _main()
