"""Containers for contained code: made, copied, kept in order, and named in annotations."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import bisect
import collections
import copy
from collections import abc
from collections.abc import Callable
from types import FunctionType
from typing import Any

from anabranch.sandbox.light import hashed, keyed, light
from anabranch.sandbox.names import is_private
from anabranch.sandbox.objects import Offered, defaultdict, deque, is_foreign, refuse
from anabranch.sandbox.running import consumed

__all__ = ["of_bisect", "of_collections", "of_copy", "of_typing"]

Value = Any


def of_collections() -> dict[str, Value]:
    """What the view of ``collections`` has in place of its own."""

    def made(cls: type) -> Offered:
        def call(*args: Value, **named: Value) -> Value:
            if cls is defaultdict:
                if args and not isinstance(args[0], (Offered, type, FunctionType)):
                    refuse("this default factory", "a function or a class makes defaults")
                return cls(*args[:1], *map(hashed, args[1:]), **named)
            take = consumed if cls is deque else hashed
            return cls(*map(take, args[:1]), *args[1:], **named)

        return Offered(cls, call, {})

    kinds = (
        collections.Counter,
        collections.OrderedDict,
        defaultdict,
        deque,
    )
    return {
        **{cls.__name__: made(cls) for cls in kinds},
        "namedtuple": _namedtuple,
    }


def _namedtuple(typename: str, field_names: Value, *, defaults: Value = None) -> Value:
    names = (
        field_names.replace(",", " ").split()
        if isinstance(field_names, str)
        else field_names
    )
    names = [str(name) for name in consumed(names)]
    if is_private(str(typename)) or any(map(is_private, names)) or len(names) > 200:
        refuse("this namedtuple", "names that begin with an underscore are not for others")
    # No class statement can have names that are known only now.
    cls = collections.namedtuple(str(typename), names, defaults=defaults)  # type: ignore[misc]  # noqa: PYI024
    return Offered(cls, cls, {})


def of_copy() -> dict[str, Value]:
    """What the view of ``copy`` has in place of its own."""
    plain = (list, dict, set, tuple, str, int, float, bool, type(None), frozenset, bytes)

    def copied(function: Callable[..., Value]) -> Callable[..., Value]:
        def called(value: Value) -> Value:
            if type(value) not in plain and not is_foreign(type(value)):
                refuse(
                    f"a copy of a {type(value).__name__}", "only plain values are copied"
                )
            return function(value)

        return called

    return {"copy": copied(copy.copy), "deepcopy": copied(copy.deepcopy)}


def of_bisect() -> dict[str, Value]:
    """What the view of ``bisect`` has in place of its own."""

    def among(name: str) -> Callable[..., Value]:
        function = getattr(bisect, name)
        return lambda values, item, *bounds, key=None, **named: function(
            values, light(item), *bounds, key=keyed(key), **named
        )

    names = "bisect bisect_left bisect_right insort insort_left insort_right".split()
    return {name: among(name) for name in names}


def of_typing() -> dict[str, Value]:
    """Names to write annotations with. Those of `typing` read texts as sources."""

    def none_made(*_args: Value, **_named: Value) -> Value:
        raise TypeError("this stands for types in annotations; it makes nothing")

    kinds: dict[str, type] = {
        **{cls.__name__.capitalize(): cls for cls in (dict, list, set, tuple)},
        **dict.fromkeys(("Any", "Optional", "Union"), object),
        **{
            name: getattr(abc, name)
            for name in "Callable Iterable Iterator Sequence".split()
        },
    }
    return {name: Offered(cls, none_made, {}) for name, cls in kinds.items()}
