"""Functions of functions, and operators, for contained code."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
import operator
from collections.abc import Callable
from typing import Any

from anabranch.sandbox import arithmetic, running
from anabranch.sandbox.light import hashed, inside, light, of_light
from anabranch.sandbox.objects import refuse
from anabranch.sandbox.running import consumed

__all__ = ["of_functools", "of_operator"]

Value = Any


def of_functools() -> dict[str, Value]:
    """What the view of ``functools`` has in place of its own."""

    def reduce(function: Value, values: Value, *start: Value) -> Value:
        return functools.reduce(function, consumed(values), *start)

    return {
        "cache": _cached,
        # Where one holds another one, and so on, freeing them would overflow the stack.
        "cmp_to_key": _compared_by,
        "lru_cache": _cached,
        "partial": _partial,
        "reduce": reduce,
    }


def _compared_by(compare: Value) -> Callable[[Value], Value]:
    make: Any = functools.cmp_to_key(
        lambda a, b: compare(a, b)  # noqa: PLW0108  # a frame between them
    )
    kind = type(make(None))

    def key_of(value: Value) -> Value:
        if type(value) is kind:
            refuse("a key of a key", "it is made for what is compared")
        return make(value)

    return key_of


def _partial(function: Value, /, *args: Value, **named: Value) -> Value:
    if named:
        running.named_call(function)
    return lambda *more, **others: function(*args, *more, **{**named, **others})


def _cached(function: Value = None, /, **_named: Value) -> Value:
    if not callable(function):
        return _cached
    known: dict[Value, Value] = {}

    def called(*args: Value) -> Value:
        light(args)
        if args not in known:
            known[args] = function(*args)
        return known[args]

    return called


def of_operator() -> dict[str, Value]:
    """What the view of ``operator`` has in place of its own."""

    def of_sets(name: str) -> Callable[[Value, Value], Value]:
        function = getattr(operator, name)
        return lambda a, b: function(hashed(a), hashed(b))

    return {
        **{name: of_sets(name) for name in ("sub", "and_", "or_", "xor")},
        **{
            name: of_light(getattr(operator, name))
            for name in ("eq", "ne", "lt", "le", "gt", "ge")
        },
        "add": arithmetic.added,
        # A getter that holds a getter, and so on, would crash the interpreter at its end.
        "itemgetter": _itemgetter,
        "mul": arithmetic.multiplied,
        "pow": arithmetic.power,
        "lshift": arithmetic.shifted,
        "mod": arithmetic.remainder,
        "contains": lambda container, item: inside(item, container),
    }


def _itemgetter(*keys: Value) -> Callable[[Value], Value]:
    light(keys)
    if len(keys) == 1:
        return lambda value: value[keys[0]]
    return lambda value: tuple(value[key] for key in keys)
