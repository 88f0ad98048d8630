"""Values on their way into contained code in this process, and out of it."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from anabranch.errors import UsageError, ValueRefused
from anabranch.sandbox.objects import Given, Offered, Stopped
from anabranch.sandbox.offered import ALLOWED_BUILTINS
from anabranch.sandbox.views.modules import view_of
from anabranch.sandbox.wire import copied

__all__ = ["copied_in", "copied_out", "fields_of", "is_mutable", "plain_or_nothing"]

# Anything a program gives may come in here.
Value = Any

_IMMUTABLE: Final = frozenset({int, str, float, bool, type(None), bytes, complex})
_SEQUENCES: Final = (list, tuple)


def is_mutable(value: Value) -> bool:
    """Whether code that has the value could have changed it."""
    return type(value) not in _IMMUTABLE


def copied_in(names: Mapping[str, Value]) -> dict[str, Value]:
    """What code gets under these names: copies, and views of what is no value."""
    return {
        name: value if type(value) in _IMMUTABLE else _in(value)
        for name, value in names.items()
    }


def _in(value: Value) -> Value:
    try:
        return copied(value)
    except ValueRefused as refused:
        reason = refused.reason
    if isinstance(value, (Given, Offered)):
        return value
    if isinstance(value, ModuleType):
        try:
            return view_of(value.__name__)
        except UsageError:
            return Given(f"module {value.__name__}", {})
    if type(value) in _SEQUENCES:
        return type(value)(map(_in, value))
    if type(value) is dict:
        return {_in(key): _in(item) for key, item in value.items()}
    if any(value is builtin for builtin in ALLOWED_BUILTINS.values()):
        return value
    if isinstance(value, type):
        offered = ALLOWED_BUILTINS.get(value.__name__)
        if isinstance(offered, Offered) and getattr(offered, "_cls", None) is value:
            return offered
        return (
            value
            if value.__module__ in ("builtins", "datetime", "decimal")
            else _host(value)
        )
    if callable(value):
        return _host(value)
    fields = fields_of(value)
    if fields is None:
        return Given(f"{type(value).__name__} that cannot go in ({reason})", {})
    return Given(type(value).__name__, {name: _in(item) for name, item in fields.items()})


def fields_of(value: Value) -> Mapping[str, Value] | None:
    """What an object is made of, if it is a record: read once, at the start."""
    names: Any = getattr(type(value), "__dataclass_fields__", None)
    names = names or getattr(type(value), "model_fields", None)
    if names is None:
        return None
    return {name: getattr(value, name) for name in names if not name.startswith("_")}


def _host(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function of the caller: it gets what the code passes; what it gives is copied."""

    @functools.wraps(function, assigned=("__name__",), updated=())
    def called(*args: Value, **named: Value) -> Value:
        return _in(function(*args, **named))

    return called


def copied_out(value: Value, path: str) -> Value:
    """What the caller gets: a plain value that has nothing of the code in it.

    Raises:
        ValueRefused: If it is not plain: a function, something lazy, a view of a module.
    """
    if type(value) in _IMMUTABLE:
        return value
    try:
        return copied(value)
    except ValueRefused as refused:
        where = (
            refused.path.replace("value", path, 1) if path != "the value" else refused.path
        )
        raise Stopped(ValueRefused(path=where, reason=refused.reason)) from None


def plain_or_nothing(value: Value, path: str) -> list[Value]:
    """The value in a list, copied, or no list item at all if it is not plain."""
    try:
        return [copied_out(value, path)]
    except Stopped:
        return []
