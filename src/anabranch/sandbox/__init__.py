"""Code you did not write: a strict policy, and isolation by the operating system."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anabranch.sandbox.evaluation import safe_eval, safe_exec
    from anabranch.sandbox.limits import Limits, ReadOnly, Scratch
    from anabranch.sandbox.offered import ALLOWED_BUILTINS, ALLOWED_IMPORTS

__all__ = [
    "ALLOWED_BUILTINS",
    "ALLOWED_IMPORTS",
    "Limits",
    "ReadOnly",
    "Scratch",
    "safe_eval",
    "safe_exec",
]

# The zygote imports only what lies below, so nothing is loaded here.
_HOMES: Final = {
    "ALLOWED_BUILTINS": "offered",
    "ALLOWED_IMPORTS": "offered",
    "Limits": "limits",
    "ReadOnly": "limits",
    "Scratch": "limits",
    "safe_eval": "evaluation",
    "safe_exec": "evaluation",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
