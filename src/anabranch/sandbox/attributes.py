"""Which attributes of which values contained code may read."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
from functools import partial
from typing import Any

from anabranch.sandbox.frames.attributes import of_frame
from anabranch.sandbox.light import light
from anabranch.sandbox.methods import MAKERS, METHODS
from anabranch.sandbox.names import OF_CLASSES, OF_VALUES, is_private
from anabranch.sandbox.objects import Given, Offered, is_foreign, is_known, refuse

# Values in and out of here can be of any type: that is what guards are for.
Value = Any


def attribute(value: Value, name: str) -> Value:
    """``value.name``, if the type of the value is known to offer it."""
    if is_private(name):
        refuse(
            f"the attribute {name!r}", "what begins with an underscore is not for others"
        )
    kind = type(value)
    if kind is Given or kind is Offered:
        return getattr(value, name)
    guard = METHODS.get((kind, name))
    if guard is not None:
        return partial(guard, value)
    maker = MAKERS.get((kind, name))
    if maker is not None:
        return maker
    if kind is type or isinstance(value, type):
        return of_class(value, name)
    if name in _offered_by(kind):
        return getattr(value, name)
    if isinstance(value, Exception):
        return _of_exception(value, name)
    if isinstance(value, tuple) and name in getattr(kind, "_fields", ()):
        return getattr(value, name)
    if is_foreign(kind):
        return of_frame(value, name)
    if not is_known(kind, name):
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    return refuse(
        f"the attribute {name!r} of a {kind.__name__}", "it is not among what is offered"
    )


def _offered_by(kind: type) -> frozenset[str]:
    return OF_VALUES.get((kind.__module__, kind.__qualname__), frozenset())


def of_class(cls: type, name: str) -> Value:
    if name not in OF_CLASSES.get((cls.__module__, cls.__qualname__), ()):
        refuse(f"the attribute {name!r} of {cls.__name__}", "it is not offered")
    guard = MAKERS.get((cls, name)) or METHODS.get((cls, name))
    return getattr(cls, name) if guard is None else guard


def _of_exception(error: Exception, name: str) -> Value:
    if name == "args":
        plain = (str, int, float, bool, type(None))
        return tuple(
            part if type(part) in plain else str(light(part)) for part in error.args
        )
    if name == "value" and isinstance(error, StopIteration):
        return error.value
    return refuse(f"the attribute {name!r} of an exception", "only `args` is offered")
