"""Which attributes of objects of numpy and pandas contained code may read."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
from functools import partial
from typing import Any

from anabranch.sandbox.frames.arguments import judged
from anabranch.sandbox.frames.cells import kind_of
from anabranch.sandbox.frames.methods import GUARDED
from anabranch.sandbox.frames.names import KINDS
from anabranch.sandbox.frames.sizes import by_chance
from anabranch.sandbox.light import light
from anabranch.sandbox.objects import is_known, refuse

__all__ = ["of_frame"]

Value = Any


def of_frame(value: Value, name: str) -> Value:
    """``value.name`` of an object of numpy or pandas, if it is in the lists."""
    kind = kind_of(value)
    names = KINDS.get(kind, frozenset())
    if name in names:
        guard = GUARDED.get(name)
        found = getattr(value, name)
        if kind == "Generator":
            return partial(by_chance, name, found)
        if guard is not None and callable(found):
            return partial(guard, value, found)
        return (
            partial(judged, name, found)
            if callable(found) and not _is_accessor(found)
            else light(found)
            if name == "values"
            else found
        )
    if kind in ("DataFrame", "Series", "GroupBy", "Row") and _is_label(value, name, kind):
        return value[name] if kind != "Row" else getattr(value, name)
    if not is_known(type(value), name):
        raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")
    return refuse(
        f"the attribute {name!r} of a {type(value).__name__}", "it is not offered"
    )


def _is_accessor(found: Value) -> bool:
    # Indexers can be called, to choose an axis, and are asked for items.
    return type(found).__module__.startswith("pandas.core.index") or isinstance(found, type)


def _is_label(value: Value, name: str, kind: str) -> bool:
    if kind == "Row":
        return name in getattr(type(value), "_fields", ())
    labels = value.obj.columns if kind == "GroupBy" and hasattr(value.obj, "columns") else (
        value.columns if kind == "DataFrame" else getattr(value, "index", ())
    )  # fmt: skip
    try:
        return bool(name in labels)
    except TypeError:
        return False
