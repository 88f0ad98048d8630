"""Looks at how much a value holds, before something is done with all of it in one go.

Comparing, hashing and writing out go through all that a value holds without ever asking
whether to stop. A list of itself and itself, forty times, holds as much as no machine can
go through; tuples in tuples, 100,000 deep, overflow the stack of the interpreter. So what
holds others is weighed before: one by one, as often as it is held, until it is too much.

Scalars need no look, and rewriting asks for none where it knows of one. Whole levels are
looked at by functions of C: weighing takes about as long as what it is done for.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import datetime as dt
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import inf
from sys import getsizeof
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

from anabranch.sandbox.frames.cells import held_by
from anabranch.sandbox.objects import (
    MAX_ITEMS,
    Given,
    Offered,
    deque,
    is_foreign,
    too_large,
)
from anabranch.sandbox.running import consumed, live, within

# Values in and out of here can be of any type: that is what guards are for.
Value = Any

_NUMBERS: Final = frozenset({int, float, bool})
_SMALL: Final = frozenset(
    {float, bool, complex, range, type(None), type(NotImplemented), type(...)}
    | {dt.date, dt.time, dt.datetime, dt.timedelta}
    | {type, FunctionType, BuiltinFunctionType, Offered, Given}
)
#: Types whose values hold no others that are compared, hashed or written out with them.
SCALARS: Final = _SMALL | {int, str, bytes, bytearray}
_VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))
_RUN_THROUGH: Final = (list, tuple, set, frozenset, deque, *_VIEWS)
_SEQUENCES: Final = frozenset({list, tuple, deque})

#: Values nested deeper are not gone through.
MAX_DEPTH: Final = 1_000
_FEW: Final = 100
#: So many integers, each as long as one can be, are compared in a moment.
_FEW_NUMBERS: Final = 30_000
#: A text counts as one item for so many bytes.
_BYTES_AN_ITEM: Final = 16
#: After so many scalars it is looked whether to stop: who chooses them may see to it that
#: each is compared with all before it, or that all are long.
_AT_ONCE: Final = 1_000


def light(value: Value) -> Value:
    """The same value, unless going through all that it holds would take long.

    Raises:
        Stopped: If it would.
    """
    kind = type(value)
    if kind in SCALARS:
        return value
    if kind is tuple or kind is list:
        if len(value) == 2:
            first, second = value
            if type(first) in SCALARS and type(second) in SCALARS:
                return value
        elif len(value) < _FEW and SCALARS.issuperset(map(type, value)):
            return value
    _check(weight(value))
    return value


def _check(weight: float) -> None:
    if weight > MAX_ITEMS:
        too_large("going through this value, nested as it is,", MAX_ITEMS,
                  "steps")  # fmt: skip


def weight(value: Value, *, most: int = MAX_ITEMS) -> float:
    """How many items a value holds, each counted as often as it is held.

    Infinite if they are more than *most*, or nested too deeply.
    """
    kind = type(value)
    if kind in SCALARS:
        return 1
    total = 1.0
    level = list(_parts(value))
    for _ in range(MAX_DEPTH):
        total += sum(map(len, level))
        if total > most:
            return inf
        items = next(iter(level)) if len(level) == 1 else list(chain.from_iterable(level))
        kinds = set(map(type, items))
        total += _lengths(items, kinds)
        if kinds <= SCALARS:
            return total
        level = items if kinds <= _SEQUENCES else _holding_others(items)
    return inf


def _holding_others(items: Iterable[Value]) -> list[Value]:
    others = [item for item in items if type(item) not in SCALARS]
    if set(map(type, others)) <= _SEQUENCES:
        return others
    return [part for item in others for part in _parts(item)]


def _parts(value: Value) -> Iterable[Value]:
    """The iterables, of known length, of what a value holds."""
    if isinstance(value, _RUN_THROUGH):
        return (value,)
    if isinstance(value, dict):
        return (value.keys(), value.values())
    if isinstance(value, BaseException):
        return (value.args,)
    if isinstance(value, slice):
        return ((value.start, value.stop, value.step),)
    if is_foreign(type(value)):
        return (held_by(value),)
    return ()


def _lengths(items: Value, kinds: set[type]) -> int:
    """How much long texts and integers among items count beyond one each."""
    if kinds <= _SMALL:
        return 0
    if kinds <= _NUMBERS:
        if len(items) <= _FEW_NUMBERS:
            return 0
        try:
            array("d", items)
        except OverflowError:  # one of them is longer than the longest float
            pass
        else:
            return 0
    return sum(map(getsizeof, items)) // _BYTES_AN_ITEM if len(items) else 0


# --------------------------------------------------------------------- many at a time


def hashed(values: Value) -> Value:
    """The same values, each to be hashed, for a function that takes them all at once."""
    kind = type(values)
    if kind in _SEQUENCES:
        if not SCALARS.issuperset(map(type, values)):
            light(values)
        return _by_parts(values)
    if hasattr(kind, "__next__"):
        return live(each_light(consumed(values)))
    return light(consumed(values) if kind is range else values)


def each_light(values: Iterable[Value]) -> Iterator[Value]:
    """The same values, each weighed when it is its turn; not yet counted as alive."""
    for value in values:
        yield value if type(value) in SCALARS else light(value)


def _by_parts(values: Value) -> Value:
    """The same values; now and then a frame of Python is entered for more of them."""
    if len(values) <= _AT_ONCE or type(values) is deque:
        return values
    places = range(0, len(values), _AT_ONCE)
    return chain.from_iterable(live(values[at : at + _AT_ONCE] for at in places))


def compared(values: Value) -> Value:
    """The same values, to be compared with one another: a list, if they were lazy."""
    kind = type(values)
    return light(list(consumed(values)) if hasattr(kind, "__next__") else consumed(values))


def passed_through(values: Value) -> Value:
    """The same values, each to be compared with the one that was best before it."""
    kind = type(values)
    if kind in _SEQUENCES and SCALARS.issuperset(map(type, values)):
        return _by_parts(values)
    if hasattr(kind, "__next__"):
        return live(each_light(consumed(values)))
    return light(consumed(values))


def keyed(key: Value) -> Value:
    """What gives what is compared in the place of items, weighed all together."""
    if key is None:
        return None
    total = 0.0

    def key_of(item: Value) -> Value:
        nonlocal total
        value = key(item)
        if type(value) not in SCALARS:
            total += weight(value)
            _check(total)
        return value

    return key_of


def of_light(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function whose arguments are weighed."""

    def called(*args: Value, **named: Value) -> Value:
        return function(*map(light, args), **named)

    return called


def stored(value: Value) -> Value:
    """What is put at a key: that may be a slice, which would run through the value."""
    kind = type(value)
    if kind is range:
        return consumed(value)
    if hasattr(kind, "__next__"):
        return live(consumed(value))
    return light(value) if is_foreign(kind) else value


def kept(value: Value) -> Value:
    """What an item of an array may become, which is freed by recursion."""
    return light(value) if is_foreign(type(value)) else value


def all_kept(values: Value) -> Value:
    """What is shared out to items, and perhaps names."""
    if type(values) not in SCALARS:
        values = values if type(values) in _SEQUENCES else list(consumed(values))
        for value in values:
            kept(value)
            if type(value) in _SEQUENCES:
                all_kept(value)
    return values


def each_kept(values: Iterable[Value]) -> Iterator[Value]:
    """The same values, each for an item, or to be shared out to some."""
    for value in values:
        kept(value)
        yield all_kept(value) if type(value) in _SEQUENCES else value


def inside(item: Value, container: Value) -> bool:
    """``item in container``, unless that would take long."""
    if type(item) not in SCALARS:
        kind = type(container)
        if kind is set or kind is dict:
            return light(item) in container
        _may_seek(item, container)
    return item in within(container)


def _may_seek(item: Value, container: Value) -> None:
    kind = type(container)
    if kind not in _SEQUENCES and kind is not _VIEWS[1]:
        light(item)
    elif weight(item) * len(container) > MAX_ITEMS:
        # Comparing takes no more than the lesser of both holds.
        light(container)


def sought(kind: type, name: str) -> Callable[..., Value]:
    """A method that compares its argument with what is held, one after the other."""
    method = getattr(kind, name)

    def called(values: Value, item: Value, /, *bounds: Value) -> Value:
        if type(item) not in SCALARS:
            _may_seek(item, values)
        return method(values, item, *bounds)

    return called


def of_key(kind: type, name: str) -> Callable[..., Value]:
    """A method that hashes its first argument."""
    method = getattr(kind, name)

    def called(self: Value, key: Value, /, *rest: Value, **named: Value) -> Value:
        return method(self, light(key), *rest, **named)

    return called


def in_order(function: Callable[..., Value]) -> Callable[..., Value]:
    """``sorted``, or the method ``sort`` of lists."""

    def called(values: Value, /, *, key: Value = None, reverse: Value = False) -> Value:
        values = consumed(values) if key is not None else compared(values)
        return function(values, key=keyed(key), reverse=reverse)

    return called
