"""The policy's part in a confined process: it judges and runs what it is sent."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import sys
from collections.abc import Mapping
from typing import Any

from anabranch.errors import SandboxError
from anabranch.sandbox import evaluation
from anabranch.sandbox.objects import LIBRARIES, Given
from anabranch.sandbox.views.modules import view_of

__all__ = ["answer"]

# The process can load nothing later, and each run begins with what is made here.
for _library in LIBRARIES & set(sys.modules):
    view_of(_library)

# What the parent sends is plain; what the code makes of it may be anything.
Value = Any


def answer(
    request: Mapping[str, Value], functions: Mapping[str, Value]
) -> dict[str, Value]:
    """What a source gives, or raises, as plain data.

    Args:
        request: The source and its mode, the values, modules and imports it is given.
        functions: Functions of the parent that it is given.
    """
    modules: dict[str, Given] = {
        name: view_of(of) for name, of in request["modules"].items()
    }
    views = {name: Given(kind, fields) for name, (kind, fields) in request["views"].items()}
    names = {**request["values"], **modules, **functions, **views}
    imports = frozenset(request["imports"])
    try:
        code, space = evaluation.prepared(
            request["source"], request["mode"], names, imports
        )
        run = evaluation.value_of if request["mode"] == "eval" else evaluation.names_of
        return {"gives": evaluation.plainly(lambda: run(code, space))}
    except SandboxError as error:
        return {"stopped": type(error).__name__, "facts": _facts(error)}
    except SyntaxError as error:
        return {"raised": "SyntaxError", "args": [str(error)], "notes": []}
    except Exception as error:
        notes = list(getattr(error, "__notes__", ()))
        return {"raised": type(error).__name__, "args": list(error.args), "notes": notes}


def _facts(error: SandboxError) -> dict[str, Value]:
    return {"message": str(error), **vars(error)}
