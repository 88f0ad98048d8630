"""The builtins of contained code: those of Python that can do no harm, guarded."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from anabranch.sandbox.arithmetic import is_over, power
from anabranch.sandbox.attributes import attribute
from anabranch.sandbox.formats import judged_spec
from anabranch.sandbox.frames.names import NUMPY
from anabranch.sandbox.light import (
    SCALARS,
    hashed,
    in_order,
    keyed,
    light,
    of_light,
    passed_through,
)
from anabranch.sandbox.methods import integer
from anabranch.sandbox.names import EXCEPTIONS
from anabranch.sandbox.objects import (
    MAX_ITEMS,
    OFFERED,
    Offered,
    class_of,
    refuse,
    too_large,
)
from anabranch.sandbox.running import as_function, as_lazy, consumed, live, sliced

__all__ = ["ALLOWED_BUILTINS", "ALLOWED_IMPORTS"]

Value = Any
_MISSING: Final = object()

#: Modules that a caller may allow; each is shown as a view of what is harmless in it.
ALLOWED_IMPORTS: Final = frozenset(
    "math time datetime pandas polars scipy numpy matplotlib plotly seaborn".split()
)


def _import(name: str, *_args: Value, **_named: Value) -> Value:
    """What ``__import__`` is, for a program that looks it up: nothing outside the list."""
    if name.partition(".")[0] not in ALLOWED_IMPORTS:
        raise ImportError(
            f"import of {name!r} is refused: only {', '.join(sorted(ALLOWED_IMPORTS))}"
        )
    return builtins.__import__(name)


def _type(value: Value, *rest: Value) -> Value:
    if rest:
        refuse("type() with three arguments", "it would make a class")
    kind = type(value)
    if kind is Offered or isinstance(value, type):
        refuse("the type of a class", "classes have no use here beyond calls")
    if _is_free(kind):
        return kind
    # To be compared, which is what it is mostly asked for.
    return OFFERED.get(kind) or Offered(kind, _uncalled, {})


def _is_free(kind: type) -> bool:
    """Whether a class may be called without a guard, as it may be by its name."""
    if kind.__module__ == "builtins":
        return kind in _FREE or issubclass(kind, Exception)
    if kind.__module__ == "numpy":
        return kind.__name__ in NUMPY and kind.__name__ != "ndarray"
    return kind.__module__ in ("datetime", "uuid", "statistics")


def _uncalled(*_args: Value, **_named: Value) -> Value:
    refuse("a call of this class", "it is not among those that are offered")


def _classes(kind: Value) -> Value:
    if type(kind) is tuple:
        return tuple(map(_classes, kind))
    return type(None) if kind is None else class_of(kind)


def _isinstance(value: Value, kind: Value) -> bool:
    return isinstance(value, _classes(kind))


def _issubclass(kind: Value, of: Value) -> bool:
    return issubclass(class_of(kind), _classes(of))


def _getattr(value: Value, name: str, default: Value = _MISSING) -> Value:
    if type(name) is not str:
        raise TypeError("getattr(): attribute name must be str")
    try:
        return attribute(value, name)
    except AttributeError:
        if default is _MISSING:
            raise
        return default


def _hasattr(value: Value, name: str) -> bool:
    return _getattr(value, name, _MISSING) is not _MISSING


def _filter(keep: Value, values: Iterable[Value]) -> Iterator[Value]:
    # A frame of Python, since C would run on through what it drops.
    return live(value for value in values if (keep(value) if keep is not None else value))


def _iter(values: Iterable[Value]) -> Iterator[Value]:
    return iter(values)


def _bytes(cls: Callable[..., Value]) -> Callable[..., Value]:
    def made(source: Value = b"", *rest: Value) -> Value:
        if is_over(source, MAX_ITEMS):
            too_large("this value", MAX_ITEMS, "bytes")
        return cls(source if isinstance(source, (int, str)) else consumed(source), *rest)

    return made


def _taking(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function whose first argument is run through, guarded."""

    def taken(*args: Value, **named: Value) -> Value:
        if args:
            return function(consumed(args[0]), *args[1:], **named)
        return function(**named)

    return taken


def _hashing(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function that hashes all that its first argument gives."""

    def taken(*args: Value, **named: Value) -> Value:
        return function(*map(hashed, args[:1]), *args[1:], **named)

    return taken


def _extreme(function: Callable[..., Value]) -> Callable[..., Value]:
    def taken(first: Value, *rest: Value, key: Value = None, **named: Value) -> Value:
        if key is not None:
            return function(
                first if rest else consumed(first), *rest, key=keyed(key), **named
            )
        if not rest:
            return function(passed_through(first), **named)
        if not SCALARS.issuperset(map(type, rest)):
            light(rest)
        return function(first, *rest, **named)

    return taken


def _summed(values: Value, start: Value = 0) -> Value:
    if isinstance(start, (str, bytes, bytearray)):
        raise TypeError(f"sum() can't sum {type(start).__name__} [use .join(seq) instead]")
    if isinstance(start, (int, float)):
        return _sum_of_numbers(consumed(values), start)
    total = start
    for count, value in enumerate(values):
        total = total + value
        if count & 255 == 0 and hasattr(type(total), "__len__") and len(total) > MAX_ITEMS:
            too_large("this sum", MAX_ITEMS, "items")
    return total


def _sum_of_numbers(values: Value, start: Value) -> Value:
    if type(values) in (list, tuple) and len(values) > _SUMMED_AT_ONCE:
        # Numbers may be long, so from time to time it is looked whether to stop.
        for first in range(0, len(values), _SUMMED_AT_ONCE):
            start = sum(values[first : first + _SUMMED_AT_ONCE], start)
        return start
    return sum(values, start)


_SUMMED_AT_ONCE: Final = 50_000


def _round(number: Value, ndigits: Value = None) -> Value:
    if hasattr(type(ndigits), "__index__") and abs(ndigits) > 5_000:
        too_large("round()", 5_000, "digits")
    return round(number) if ndigits is None else round(number, ndigits)


def _format(value: Value, spec: str = "") -> str:
    return format(light(value), judged_spec(spec))


def _print(
    *values: Value, sep: str | None = " ", end: str | None = "\n", **named: Value
) -> None:
    if set(named) - {"flush"}:
        refuse("print() to a file", "it prints to standard output")
    print(*map(light, values), sep=sep, end=end)


def _zip(*values: Value, strict: bool = False) -> Value:
    return zip(*map(as_lazy, values), strict=strict)


def _map(function: Value, *values: Value) -> Value:
    if function is _CLASSES["str"] and all(map(_holds_scalars, values)):
        return map(str, *values)
    return map(as_function(function), *map(as_lazy, values))


def _holds_scalars(values: Value) -> bool:
    return type(values) in (list, tuple) and SCALARS.issuperset(map(type, values))


def _enumerate(values: Value, start: int = 0) -> Value:
    return enumerate(as_lazy(values), start)


def _reversed(values: Value) -> Value:
    return reversed(values)


_CLASSES: Final = {
    cls.__name__: Offered(cls, call, {})
    for cls, call in (
        (int, integer),
        (str, of_light(str)),
        (slice, sliced),
        (list, _taking(list)),
        (tuple, _taking(tuple)),
        (set, _hashing(set)),
        (frozenset, _hashing(frozenset)),
        (dict, _hashing(dict)),
        (bytes, _bytes(bytes)),
        (bytearray, _bytes(bytearray)),
    )
}
_FREE: Final = frozenset({bool, complex, float, range, type(None)})
_SAME: Final = (
    *(abs, bin, bool, callable, chr, complex, divmod, float, hex),
    *(len, next, oct, ord, range),
)

#: The builtins of contained code, by name.
ALLOWED_BUILTINS: Final[Mapping[str, Value]] = MappingProxyType(
    {
        **{function.__name__: function for function in _SAME},
        **{function.__name__: of_light(function) for function in (ascii, hash, repr)},
        **_CLASSES,
        **{name: getattr(builtins, name) for name in EXCEPTIONS},
        "True": True,
        "False": False,
        "None": None,
        "NotImplemented": NotImplemented,
        "Ellipsis": ...,
        "__import__": _import,
        "all": _taking(all),
        "any": _taking(any),
        "enumerate": _enumerate,
        "filter": _filter,
        "format": _format,
        "getattr": _getattr,
        "hasattr": _hasattr,
        "isinstance": _isinstance,
        "issubclass": _issubclass,
        "iter": _iter,
        "map": _map,
        "max": _extreme(max),
        "min": _extreme(min),
        "pow": power,
        "print": _print,
        "reversed": _reversed,
        "round": _round,
        "sorted": in_order(sorted),
        "sum": _summed,
        "type": _type,
        "zip": _zip,
    }
)
