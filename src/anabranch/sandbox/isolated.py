"""``safe_eval`` and ``safe_exec`` in a confined process: the policy, and a boundary."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import builtins
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from anabranch import errors
from anabranch.errors import (
    CodeFailed,
    LimitExceeded,
    SourceRefused,
    TimeLimitExceeded,
    ValueRefused,
)
from anabranch.jobs import asyncio_run
from anabranch.sandbox.evaluation import compiled
from anabranch.sandbox.limits import Limits
from anabranch.sandbox.names import EXCEPTIONS
from anabranch.sandbox.objects import LIBRARIES
from anabranch.sandbox.sandbox import Sandbox
from anabranch.sandbox.source import Mode
from anabranch.sandbox.values import fields_of
from anabranch.sandbox.watch import passed

__all__ = ["run"]

# Programs may give any value; what cannot go over says so.
Value = Any

_PROGRAM: Final = """
from anabranch.sandbox.contained import answer
answer(request, {name: globals()[f"given_{name}"] for name in request["functions"]})
"""


def run(
    source: str | bytes,
    mode: Mode,
    names: dict[str, Value],
    *,
    timeout_s: float,
    imports: frozenset[str],
    memory_bytes: int | None,
) -> Value:
    """The value of an expression, or the names that statements have bound.

    Raises:
        Exception: As in this process: see :func:`~anabranch.sandbox.safe_eval`.
    """
    compiled(source, mode, frozenset(names), imports)
    modules = {
        name: value.__name__
        for name, value in names.items()
        if isinstance(value, ModuleType)
    }
    functions: dict[str, Callable[..., Value]] = {
        name: value
        for name, value in names.items()
        if name not in modules and callable(value)
    }
    others = {
        name: value
        for name, value in names.items()
        if name not in modules and name not in functions
    }
    views = {name: view for name, value in others.items() if (view := _view(value))}
    request = {
        "source": source,
        "mode": mode,
        "values": {name: value for name, value in others.items() if name not in views},
        "views": views,
        "modules": modules,
        "functions": list(functions),
        "imports": list(imports),
    }
    libraries = LIBRARIES & ({*modules.values()} | imports | _kinds(names))
    memory_bytes = memory_bytes or Limits().memory_bytes
    box = _box(libraries, memory_bytes)
    # Only the time differs from what the processes that are ready were given.
    limits = _limits(memory_bytes, timeout_s)
    given = {f"given_{name}": function for name, function in functions.items()}
    try:
        result = asyncio_run(
            box.run(_PROGRAM, {"request": request}, limits=limits, expose=given)
        )
    except TimeLimitExceeded:
        raise passed("time", timeout_s, None) from None
    except ValueRefused as refused:
        # How the names are sent is no concern of the caller's.
        path = refused.path.replace("value['request']['values']", "the names given", 1)
        raise ValueRefused(path=path, reason=refused.reason) from None
    return _read(result.unwrap())


def _view(value: Value) -> tuple[str, dict[str, Value]] | None:
    """What is sent of an object that is no plain value: its fields, if it is a record."""
    if type(value).__module__.partition(".")[0] in _PLAIN_HOMES:
        return None
    return type(value).__name__, dict(fields_of(value) or {})


_PLAIN_HOMES: Final = frozenset(
    "builtins collections datetime decimal fractions numpy pandas uuid zoneinfo".split()
)


@functools.cache
def _box(libraries: frozenset[str], memory_bytes: int) -> Sandbox:
    # One for each set of libraries, as long as the process lives.
    return Sandbox(
        imports=[*sorted(libraries), "anabranch.sandbox.contained"],
        limits=_limits(memory_bytes, 30.0),
    )


def _limits(memory_bytes: int, wall_s: float) -> Limits:
    return Limits(wall_s=wall_s, cpu_s=3_600.0, memory_bytes=memory_bytes)


def _kinds(names: dict[str, Value]) -> set[str]:
    return {type(value).__module__.partition(".")[0] for value in names.values()}


def _read(told: Value) -> Value:
    """What the process answered. It may lie: no class is looked up but those named here."""
    match told:
        case {"gives": value}:
            return value
        case {"stopped": str(name), "facts": dict(facts)}:
            raise _stopped(name, facts)
        case {"raised": str(name), "args": list(args), "notes": list(notes)}:
            raise _raised(name, args, notes)
        case _:
            raise errors.IsolateDied("the confined process answered nonsense")


def _stopped(name: str, facts: dict[str, Value]) -> errors.SandboxError:
    message = str(facts.get("message", ""))
    line = facts.get("line")
    line = line if isinstance(line, int) else None
    match name:
        case "SourceRefused":
            return SourceRefused(
                line=line,
                construct=str(facts.get("construct")),
                reason=str(facts.get("reason")),
            )
        case "CodeFailed":
            return CodeFailed(
                type_name=str(facts.get("type_name")),
                message=str(facts.get("message")),
                line=line,
            )
        case "ValueRefused":
            return ValueRefused(
                path=str(facts.get("path")), reason=str(facts.get("reason"))
            )
        case "LimitExceeded" | "TimeLimitExceeded":
            kind = TimeLimitExceeded if name == "TimeLimitExceeded" else LimitExceeded
            allowed = facts.get("allowed")
            allowed = float(allowed) if isinstance(allowed, (int, float)) else 0.0
            return kind(message, limit=str(facts.get("limit")), allowed=allowed)
        case _:
            return errors.IsolateDied("the confined process answered nonsense")


def _raised(name: str, args: list[Value], notes: list[Value]) -> Exception:
    if name not in EXCEPTIONS and name != "SyntaxError":
        return errors.IsolateDied("the confined process answered nonsense")
    try:
        error: Exception = getattr(builtins, name)(*args)
    except TypeError:
        return CodeFailed(type_name=name, message=" ".join(map(str, args)))
    for note in notes[:3]:
        error.add_note(str(note)[:200])
    return error
