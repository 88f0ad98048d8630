"""Runs a file's cases of one category behind the policy; prints what went wrong, as JSON.

``python policy_program.py FILE CATEGORY``: in a process of its own, since a case may crash it.
"""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from anabranch.sandbox import safe_eval, safe_exec
from tests.sandbox.suite.loader import Canaries, Case, describe, inputs, load, same

# A stopped case may still have to end the operation that it was in.
PATIENCE_S = 4.0


def told(case: Case) -> str | None:
    """What is wrong with how a case ended, or nothing."""
    with tempfile.TemporaryDirectory() as folder, Canaries(Path(folder)) as canaries:
        source = canaries.fill(case.source)
        given = inputs(case)
        canaries.watch(given)
        bound: dict[str, Any] = {}
        options: dict[str, Any] = {
            "timeout_seconds": case.timeout_seconds,
            "allow_imports": case.allow_imports,
        }
        error: BaseException | None = None
        began = time.monotonic()
        try:
            if case.mode == "eval":
                bound["result"] = safe_eval(source, given, **options)
            else:
                safe_exec(source, dict(given), bound, **options)
        except Exception as raised:
            error = raised
        took = time.monotonic() - began
        if case.expect == "result":
            if error is not None:
                return f"{type(error).__name__}: {error}"
            found = describe(bound.get("result"))
            return None if same(case.result, found) else f"gave {found!r}"[:300]
        tripped = canaries.tripped(bound, str(error))
        if tripped:
            return f"tripped {tripped}"
        if case.expect == "refused" and not isinstance(error, (RuntimeError, SyntaxError)):
            return f"was not refused, but ended with {error!r}"[:300]
        if took > 2 * case.timeout_seconds + PATIENCE_S:
            return f"took {took:.1f} s"
        return None


def main(name: str, category: str) -> None:
    warnings.simplefilter("ignore")
    # Importing them changes settings of the process; no case is to blame for that.
    for library in ("numpy", "pandas", "pyarrow"):
        importlib.import_module(library)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    wrong: dict[str, str] = {}
    cases = [case for case in load(name) if case.category == category]
    for case in cases:
        # What hangs for good ends the process, and names itself before.
        print(f"at {case.id}", file=sys.stderr, flush=True)
        signal.alarm(int(3 * case.timeout_seconds) + 30)
        if (fault := told(case)) is not None:
            wrong[case.id] = fault
    signal.alarm(0)
    print(json.dumps({"cases": len(cases), "wrong": wrong}))


if __name__ == "__main__":
    main(*sys.argv[1:])
