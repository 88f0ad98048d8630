"""What calls are given: no place to write to, no endless pattern, nothing too heavy."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final

from anabranch.sandbox import patterns
from anabranch.sandbox.frames.cells import cells_of, is_of_objects
from anabranch.sandbox.light import light
from anabranch.sandbox.names import is_private
from anabranch.sandbox.objects import class_of, refuse, too_large
from anabranch.sandbox.running import consumed

__all__ = ["judge_pattern", "judged", "numbers_in"]

Value = Any

_FORBIDDEN: Final = frozenset(
    "backend buf compression doublequote encoding engine engine_kwargs global_dict into"
    " like lines local_dict mode out parser path path_or_buf resolvers storage_options"
    " target".split()
)
#: Arguments that are patterns, whatever the method.
_PATTERNS: Final = ("regex", "suffix")
_WIDE: Final = re.compile(r"^[<>=|]?[SUVa]\d{4,}$")


def judged(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """What a function of numpy or pandas gives, if it may be called with that."""
    _arguments(name, args, named)
    found = function(
        *map(_plain, args), **{key: _plain(item) for key, item in named.items()}
    )
    return light(found) if is_of_objects(getattr(found, "dtype", None)) else found


def _arguments(name: str, args: tuple[Value, ...], named: Mapping[str, Value]) -> None:
    for key in named:
        if key in _FORBIDDEN or is_private(key):
            refuse(f"the argument {key!r} of {name}", "it is not offered")
        if key in _PATTERNS:
            for pattern in _flat([named[key]], depth=0):
                if isinstance(pattern, str):
                    judge_pattern(pattern, (), 0)
    light(args)
    light(named)
    for value in _flat([*args, *named.values()], depth=0):
        if isinstance(value, str) and _WIDE.match(value):
            too_large(name, 999, "characters an item")
        if isinstance(value, range):
            consumed(value)


def _flat(values: Value, *, depth: int) -> Iterator[Value]:
    for value in values:
        if isinstance(value, (list, tuple)) and depth < 2 and len(value) < 100:
            yield from _flat(value, depth=depth + 1)
        elif isinstance(value, dict) and depth < 2 and len(value) < 100:
            yield from _flat(value.values(), depth=depth + 1)
        else:
            yield value


def _plain(value: Value) -> Value:
    if isinstance(value, (list, tuple)) and len(value) < 100:
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    if type(value) is dict and len(value) < 100:
        return {key: _plain(item) for key, item in value.items()}
    return _weighed(value) if type(value) is FunctionType else class_of(value)


def _weighed(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function of the code's whose values pandas may hash and compare."""

    @functools.wraps(function)
    def called(*args: Value, **named: Value) -> Value:
        return light(function(*args, **named))

    return called


def numbers_in(values: Value) -> Iterator[int]:
    """The sizes of all integers in arguments, also in small arrays."""
    for value in _flat(values, depth=0):
        kind = type(value)
        is_whole = hasattr(kind, "__index__") and not hasattr(kind, "__len__")
        if is_whole or (isinstance(value, float) and math.isfinite(value)):
            yield abs(int(value))
        elif hasattr(value, "dtype") and getattr(value, "size", 0) < 100:
            yield from (abs(n) for n in cells_of(value) if isinstance(n, int))


def judge_pattern(pattern: str, texts: Value, flags: int) -> None:
    """Stops the code if matching a pattern against each of the texts would take long."""
    try:
        its = patterns.judged(pattern, flags)
    except (re.error, OverflowError):
        return  # a plain text, or an error that pandas tells
    for text in cells_of(texts):
        if isinstance(text, str):
            its.check(text, starts=len(text) + 1)
