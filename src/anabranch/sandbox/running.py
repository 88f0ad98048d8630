"""What takes in an iterable, or is run through: by way of frames that can be stopped."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final
from weakref import ref

from anabranch.sandbox.objects import (
    MAX_ITEMS,
    Given,
    Interrupt,
    Offered,
    defaultdict,
    deque,
    is_foreign,
    refuse,
    too_large,
)

# Values in and out of here can be of any type: that is what guards are for.
Value = Any

_SIZED: Final = frozenset(
    {list, tuple, str, bytes, bytearray, dict, set, frozenset, deque, Counter, OrderedDict,
     defaultdict, type({}.keys()), type({}.values()), type({}.items())}
)  # fmt: skip


#: Generators that one run may have at a time. One that holds one that holds one, and so on,
#: would overflow the stack of the interpreter when they go.
MAX_GENERATORS: Final = 2_000


class Alive(threading.local):
    """What one thread has at work.

    Attributes:
        generators: References to the generators that live.
        work: What is being watched, if that is so; `fired` tells why it was stopped.
    """

    def __init__(self) -> None:
        self.generators: set[Value] = set()
        self.work: Value = None


alive: Final = Alive()


def live(generator: Iterator[Value]) -> Iterator[Value]:
    """The same generator, counted as long as it lives."""
    going()
    generators = alive.generators
    # Its end is told to C code: an interrupt in a callback of Python would be lost.
    generators.add(ref(generator, generators.discard))
    if len(generators) > MAX_GENERATORS:
        too_large("this", MAX_GENERATORS, "generators at a time")
    return generator


def going() -> None:
    """Ends code that has been stopped, where it would go on by its own arrangement.

    What a generator does at its end runs where exceptions are told to nobody.
    """
    work = alive.work
    if work is not None and work.fired:
        raise Interrupt


def generating(function: Callable[..., Iterator[Value]]) -> Callable[..., Iterator[Value]]:
    """A generator function whose generators are counted."""

    def made(*args: Value, **named: Value) -> Iterator[Value]:
        return live(function(*args, **named))

    return made


def ticking(values: Iterable[Value]) -> Iterator[Value]:
    """The same values by way of a frame of Python, where running through can be stopped."""
    return live(_ticking(values))


def _ticking(values: Iterable[Value]) -> Iterator[Value]:
    for value in values:  # noqa: UP028  # `yield from` would not look whether to stop
        yield value


def as_lazy(values: Value) -> Value:
    """The same values; those that may have no end go by way of a frame of Python."""
    kind = type(values)
    endless = is_long(values) if kind is range else hasattr(kind, "__next__")
    return ticking(values) if endless else values


def is_long(values: range) -> bool:
    """Whether a range has more items than one operation may run through."""
    return bool(values[MAX_ITEMS:])  # its length may be no number that `len` can tell


def as_function(function: Value) -> Value:
    """What can be called, for something lazy to hold.

    One that holds one that holds one, and so on, would overflow the stack of the
    interpreter when they go; functions of Python do not.
    """
    if function is None or type(function) in _PLAIN_FUNCTIONS:
        return function
    if not callable(function):
        raise TypeError(f"{type(function).__name__!r} object is not callable")
    return lambda *args: function(*args)  # noqa: PLW0108  # a frame between them


_PLAIN_FUNCTIONS: Final = frozenset(
    {type(lambda: 0), type(len), type(str.upper), type, partial, Offered}
)


def held(value: Value) -> Value:
    """A value for something lazy to hold; nothing that holds others in the same way."""
    if hasattr(type(value), "__next__"):
        refuse("an iterator as a value that fills in", "make a list of it")
    return value


def consumed(values: Value) -> Value:
    """The same values, for a function that takes them all at once."""
    kind = type(values)
    if kind in _SIZED:
        return values
    if kind is range:
        if is_long(values):
            too_large("running through this range", MAX_ITEMS, "items")
        return values
    if is_foreign(kind):
        return values
    return live(_counted(iter(values)))


def _counted(values: Iterator[Value]) -> Iterator[Value]:
    for count, value in enumerate(values):
        if count >= MAX_ITEMS:
            too_large("running through these values", MAX_ITEMS, "items")
        yield value


def spreads(values: Iterable[Value]) -> Iterator[Value]:
    for value in values:
        yield consumed(value)


def more(value: Value) -> Value:
    """What is added in place: a list would take in all that can be run through."""
    kind = type(value)
    if (
        kind in _SIZED
        or kind in (int, float, bool, complex)
        or not hasattr(kind, "__next__")
    ):
        return consumed(value) if kind is range else value
    return list(consumed(value))


def bound(value: Value) -> Value:
    """A bound of a slice, which may not be a slice: that one could hold another one."""
    if type(value) is slice:
        refuse("a slice in a slice", "its bounds are numbers or labels")
    return value


def sliced(*bounds: Value) -> slice:
    """``slice(...)``, whose bounds are no slices."""
    return slice(*map(bound, bounds))


def named_call(function: Value) -> Value:
    """What is called with `name=` or `obj=`: no exception, which would hold it."""
    if isinstance(function, type) and issubclass(function, BaseException):
        refuse("named arguments of an exception", "give it its message")
    return function


def matched(subject: Value, depth: int) -> Value:
    """What patterns with a star look at: they would run through a long range."""
    if type(subject) is range:
        return consumed(subject)
    if depth and isinstance(subject, (list, tuple, deque)):
        ends = len(subject) - _LOOKED_AT
        for place, item in enumerate(subject):
            if place < _LOOKED_AT or place >= ends:
                matched(item, depth - 1)
    elif depth and isinstance(subject, dict):
        for item in subject.values():
            matched(item, depth - 1)
    return subject


#: Parts of a pattern on either side of a star whose items are looked at.
_LOOKED_AT: Final = 100


def within(container: Value) -> Value:
    kind = type(container)
    if kind in _SIZED or kind is Given:
        return container
    if kind is range:
        return RangeOf(container)
    return consumed(container)


class RangeOf:
    """A range that is asked only for integers: for others it would count through itself."""

    __slots__ = ("_range",)

    def __init__(self, values: range) -> None:
        self._range = values

    def __contains__(self, item: Value) -> bool:
        if isinstance(item, int):
            return item in self._range
        if isinstance(item, float):
            return item.is_integer() and int(item) in self._range
        return False


def join(separator: Value, parts: Value) -> Value:
    texts = list(consumed(parts))
    sizes = sum(len(text) for text in texts if type(text) in (str, bytes, bytearray))
    if sizes + len(separator) * max(0, len(texts) - 1) > MAX_ITEMS:
        too_large("join()", MAX_ITEMS, "characters")
    return separator.join(texts)


def text(made: str) -> str:
    """A text that was put together, of a few parts that may all be long."""
    if len(made) > MAX_ITEMS:
        too_large("this f-string", MAX_ITEMS, "characters")
    return made
