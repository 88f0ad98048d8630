"""Runs the harmless cases in plain Python: `python -m tests.sandbox.suite.harmless`.

Prints which gave another result than is stated, a JSON object. Cases that need a package
which is not installed are left out. Nothing outside the standard library is imported, so
that any interpreter can be asked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from typing import TYPE_CHECKING

from tests.sandbox.suite.loader import describe, inputs, load, same

if TYPE_CHECKING:
    from tests.sandbox.suite.loader import Case


def is_runnable(case: Case) -> bool:
    """Whether the packages that the case needs are installed."""
    packages = {"numpy", "pandas"} & set(case.needs)
    return all(importlib.util.find_spec(package) for package in packages)


def result(case: Case) -> object:
    """What the case gives in plain Python."""
    values = inputs(case)
    with contextlib.redirect_stdout(io.StringIO()):
        # Not as in this module, whose annotations are never evaluated.
        code = compile(case.source, "<source>", case.mode, dont_inherit=True)
        value = eval(code, values)
    return value if case.mode == "eval" else values["result"]


def is_as_stated(case: Case) -> bool:
    """Whether plain Python gives the stated result."""
    return same(case.result, describe(result(case)))


if __name__ == "__main__":
    cases = [case for case in load("harmless") if is_runnable(case)]
    failed = [case.id for case in cases if not is_as_stated(case)]
    print(json.dumps({"run": len(cases), "failed": failed}))
