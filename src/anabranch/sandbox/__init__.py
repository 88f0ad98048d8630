"""Code you did not write: a strict policy, and isolation by the operating system.

The policy reads a source and refuses before anything of it runs: :func:`safe_eval` and
:func:`safe_exec`. It is for accidents and known tricks. The isolate is a process that the
operating system confines: :class:`Sandbox`, and both functions with ``isolate=True``. It is
for code that a model, or somebody you do not know, wrote.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anabranch.sandbox.confine import Found, Layer, probe
    from anabranch.sandbox.evaluation import safe_eval, safe_exec
    from anabranch.sandbox.isolate.exposed import Exposed
    from anabranch.sandbox.limits import Grant, Limits, ReadOnly, Scratch
    from anabranch.sandbox.offered import ALLOWED_BUILTINS, ALLOWED_IMPORTS
    from anabranch.sandbox.result import CodeError, Result
    from anabranch.sandbox.sandbox import Sandbox
    from anabranch.sandbox.session import Session

__all__ = [
    "ALLOWED_BUILTINS",
    "ALLOWED_IMPORTS",
    "CodeError",
    "Exposed",
    "Found",
    "Grant",
    "Layer",
    "Limits",
    "ReadOnly",
    "Result",
    "Sandbox",
    "Scratch",
    "Session",
    "probe",
    "safe_eval",
    "safe_exec",
]

# A zygote imports what lies below, and little of it, so nothing is loaded here.
_HOMES: Final = {
    "ALLOWED_BUILTINS": "offered",
    "ALLOWED_IMPORTS": "offered",
    "CodeError": "result",
    "Exposed": "isolate.exposed",
    "Found": "confine",
    "Grant": "limits",
    "Layer": "confine",
    "Limits": "limits",
    "ReadOnly": "limits",
    "Result": "result",
    "Sandbox": "sandbox",
    "Scratch": "limits",
    "Session": "session",
    "probe": "confine",
    "safe_eval": "evaluation",
    "safe_exec": "evaluation",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
