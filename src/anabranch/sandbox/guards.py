"""What runs in place of operations that need a look at their values.

A guard either does what the operation does, or stops the code for good: what it raises is
no Exception, so the code cannot catch it, and the caller gets the error it carries. Each
operation that is let through ends soon by itself, or returns to the interpreter now and
then, where the :mod:`watch <anabranch.sandbox.watch>` can stop it.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import re
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NoReturn, cast
from weakref import WeakSet

from anabranch.errors import LimitExceeded, SandboxError, SourceRefused
from anabranch.sandbox.names import OF_CLASSES, OF_VALUES, is_private

__all__ = ["GUARDS", "Given", "Offered", "Stopped", "attribute", "consumed", "refuse"]

#: Bits of the largest integer, and items or characters of the longest value, that one
#: operation may make.
MAX_BITS: Final = 200_000
MAX_ITEMS: Final = 10_000_000

# Values in and out of here can be of any type: that is what guards are for.
Value = Any


class Stopped(BaseException):
    """Ends contained code; no handler of it can catch this. Carries the caller's error."""

    def __init__(self, error: SandboxError) -> None:
        super().__init__(str(error))
        self.error = error


class Offered:
    """A class as contained code sees it: to be called, compared, and asked for little."""

    __slots__ = ("_attributes", "_call", "_cls")

    def __init__(
        self, cls: type, call: Callable[..., Value], attributes: Mapping[str, Value]
    ) -> None:
        self._cls = cls
        self._call = call
        self._attributes = attributes

    def __call__(self, *args: Value, **kwargs: Value) -> Value:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Value:
        if name in self._attributes:
            return self._attributes[name]
        if name in OF_CLASSES.get((self._cls.__module__, self._cls.__qualname__), ()):
            guard = METHODS.get((self._cls, name))
            return getattr(self._cls, name) if guard is None else guard
        raise AttributeError(name)

    def __repr__(self) -> str:
        return repr(self._cls)

    def __or__(self, other: Value) -> tuple[Value, ...]:
        # `int | list` is only ever the second argument of isinstance.
        return (self, *(other if isinstance(other, tuple) else (other,)))

    __ror__ = __or__

    def __getitem__(self, item: Value) -> Offered:
        return self


class Given:
    """A view of names: of a module, or of an object that the caller gave."""

    __slots__ = ("_names", "_what")

    def __init__(self, what: str, names: Mapping[str, Value]) -> None:
        self._what = what
        self._names = names

    def __getattr__(self, name: str) -> Value:
        try:
            return self._names[name]
        except KeyError:
            return refuse(f"the attribute {name!r} of {self._what}", "it is not offered")

    def __repr__(self) -> str:
        return f"<{self._what}>"


def class_of(value: Value) -> Value:
    """The class behind what contained code calls one."""
    return value._cls if type(value) is Offered else value  # noqa: SLF001  # it has no public one


def is_foreign(kind: type) -> bool:
    """Whether a class is one of numpy's or pandas'."""
    return kind.__module__.partition(".")[0] in ("numpy", "pandas")


def refuse(construct: str, reason: str) -> NoReturn:
    """Stops the code: it asked for what the policy does not give."""
    raise Stopped(SourceRefused(line=None, construct=construct, reason=reason))


def too_large(what: str, allowed: int, unit: str) -> NoReturn:
    """Stops the code: one operation would make too large a value."""
    raise Stopped(
        LimitExceeded(
            f"{what} would make more than {allowed:,} {unit}; it was stopped before",
            limit="size",
            allowed=allowed,
        )
    )


# ------------------------------------------------------------------------- attributes


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
    if kind is type or isinstance(value, type):
        return _of_class(value, name)
    if name in _offered_by(kind):
        return getattr(value, name)
    if isinstance(value, Exception):
        return _of_exception(value, name)
    if isinstance(value, tuple) and name in getattr(kind, "_fields", ()):
        return getattr(value, name)
    if is_foreign(kind):
        from anabranch.sandbox import frames

        return frames.attribute(value, name)
    if not hasattr(value, name):
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    return refuse(
        f"the attribute {name!r} of a {kind.__name__}", "it is not among what is offered"
    )


def _offered_by(kind: type) -> frozenset[str]:
    return OF_VALUES.get((kind.__module__, kind.__qualname__), frozenset())


def _of_class(cls: type, name: str) -> Value:
    if name not in OF_CLASSES.get((cls.__module__, cls.__qualname__), ()):
        refuse(f"the attribute {name!r} of {cls.__name__}", "it is not offered")
    guard = METHODS.get((cls, name))
    return getattr(cls, name) if guard is None else guard


def _of_exception(error: Exception, name: str) -> Value:
    if name == "args":
        plain = (str, int, float, bool, type(None))
        return tuple(part if type(part) in plain else str(part) for part in error.args)
    if name == "value" and isinstance(error, StopIteration):
        return error.value
    return refuse(f"the attribute {name!r} of an exception", "only `args` is offered")


# ------------------------------------------------------------------------- arithmetic


def multiplied(a: Value, b: Value) -> Value:
    """``a * b``, unless that makes too long a sequence or too large an integer."""
    _may_multiply(a, b)
    return a * b


def multiplied_in_place(a: Value, b: Value) -> Value:
    """``a *= b``, in the same way."""
    _may_multiply(a, b)
    a *= b
    return a


def _may_multiply(a: Value, b: Value) -> None:
    if type(a) is float or type(b) is float:
        return
    if isinstance(a, int) and isinstance(b, int):
        if a.bit_length() + b.bit_length() > MAX_BITS:
            too_large("this product", MAX_BITS, "bits")
        return
    if hasattr(a, "limit_denominator") and hasattr(b, "numerator"):
        bits = sum(part.numerator.bit_length() for part in (a, b))
        if bits + sum(part.denominator.bit_length() for part in (a, b)) > MAX_BITS:
            too_large("this product", MAX_BITS, "bits")
        return
    for sequence, times in cast("tuple[tuple[Value, Value], ...]", ((a, b), (b, a))):
        is_repetition = isinstance(times, int) and type(sequence) in _REPEATED
        if is_repetition and len(sequence) * times > MAX_ITEMS:
            too_large("this repetition", MAX_ITEMS, "items")


_REPEATED: Final = (str, bytes, bytearray, list, tuple, deque)


def power(a: Value, b: Value, modulus: Value = None) -> Value:
    """``a ** b``, unless that makes too large an integer."""
    if isinstance(a, int) and isinstance(b, int):
        if modulus is None:
            if a not in (-1, 0, 1) and b > 0 and a.bit_length() * b > MAX_BITS:
                too_large("this power", MAX_BITS, "bits")
        elif (
            max(a.bit_length(), b.bit_length(), int(modulus).bit_length()) > MAX_BITS // 20
        ):
            too_large("this power", MAX_BITS // 20, "bits")
    elif hasattr(a, "limit_denominator") and isinstance(b, int):
        bits = max(a.numerator.bit_length(), a.denominator.bit_length())
        if bits * abs(b) > MAX_BITS:
            too_large("this power", MAX_BITS, "bits")
    return pow(a, b) if modulus is None else pow(a, b, modulus)


def shifted(a: Value, b: Value) -> Value:
    """``a << b``, unless that makes too large an integer."""
    if isinstance(a, int) and isinstance(b, int) and a and b + a.bit_length() > MAX_BITS:
        too_large("this shift", MAX_BITS, "bits")
    return a << b


def remainder(a: Value, b: Value) -> Value:
    """``a % b``, unless that is a format with a huge width."""
    if isinstance(a, (str, bytes, bytearray)):
        _judge_percent(a if isinstance(a, str) else bytes(a).decode("latin-1"))
    return a % b


def small(value: Value) -> Value:
    """A factor for a part of a list, if it is small."""
    if not isinstance(value, (int, float)) or abs(value) > 1_000:
        too_large("this repetition of a slice", 1_000, "times")
    return value


_PERCENT: Final = re.compile(r"%(?:\([^)]*\))?[-#0 +]*([0-9*]*)(?:\.([0-9*]*))?")
MAX_WIDTH: Final = 10_000


def _judge_percent(text: str) -> None:
    for width, precision in _PERCENT.findall(text):
        if "*" in width or "*" in precision:
            refuse("a width given by `*`", "use an f-string")
        if max(_number(width), _number(precision)) > MAX_WIDTH:
            too_large("this format", MAX_WIDTH, "characters")


def _number(digits: str) -> int:
    return int(digits) if digits and len(digits) < 20 else (10**20 if digits else 0)


# ---------------------------------------------------------------------------- formats


def formatted(value: Value, conversion: str, spec: Value) -> str:
    """``format(value, spec)`` after a conversion, unless a width is huge."""
    match conversion:
        case "r":
            value = repr(value)
        case "s":
            value = str(value)
        case "a":
            value = ascii(value)
        case _:
            pass
    return format(value, judged_spec(spec))


def judged_spec(spec: Value) -> str:
    """A format specification, if no number in it is huge."""
    if type(spec) is not str:
        raise TypeError("a format specification is a str")
    if any(_number(digits) > MAX_WIDTH for digits in re.findall(r"[0-9]+", spec)):
        too_large("this format", MAX_WIDTH, "characters")
    return spec


def _format(template: str, /, *args: Value, **kwargs: Value) -> str:
    """``str.format`` whose fields are names and numbers, and nothing behind them."""
    return _filled(template, args, kwargs)


def _filled(template: str, args: tuple[Value, ...], kwargs: Mapping[str, Value]) -> str:
    from string import Formatter

    pieces: list[str] = []
    automatic = 0
    for literal, field, spec, conversion in Formatter().parse(template):
        pieces.append(literal)
        if field is None:
            continue
        name, keys = _field(field)
        if "{" in (spec or ""):
            refuse("a format specification with fields", "use an f-string")
        if name == "":
            name, automatic = str(automatic), automatic + 1
        value = args[int(name)] if name.isdigit() else kwargs[name]
        for key in keys:
            value = value[int(key) if key.isdigit() else key]
        pieces.append(formatted(value, conversion or "", spec or ""))
    return "".join(pieces)


def _field(field: str) -> tuple[str, list[str]]:
    """The name in a field, and the keys behind it; attributes are not read."""
    if not re.fullmatch(r"\w*(\[\w+\])*", field) or is_private(field):
        refuse(
            f"the format field {{{field}}}",
            "only names, numbers and keys may stand in a field; use an f-string",
        )
    name, *keys = field.replace("]", "").split("[")
    return name, keys


def _format_map(template: str, mapping: Value, /) -> str:
    if not isinstance(mapping, dict):
        refuse("format_map of this value", "it takes a dict here")
    return _filled(template, (), mapping)


# ----------------------------------------------------------------- running through things

_SIZED: Final = frozenset(
    {list, tuple, str, bytes, bytearray, dict, set, frozenset, deque, Counter, OrderedDict,
     defaultdict, type({}.keys()), type({}.values()), type({}.items())}
)  # fmt: skip


#: Generators that one run may have at a time. One that holds one that holds one, and so on,
#: would overflow the stack of the interpreter when they go.
MAX_GENERATORS: Final = 2_000


class _Alive(threading.local):
    def __init__(self) -> None:
        self.generators = WeakSet[Iterator[Value]]()


_alive: Final = _Alive()


def live(generator: Iterator[Value]) -> Iterator[Value]:
    """The same generator, counted as long as it lives."""
    generators = _alive.generators
    generators.add(generator)
    if len(generators) > MAX_GENERATORS:
        too_large("this", MAX_GENERATORS, "generators at a time")
    return generator


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
    """The same values; an iterator goes by way of a frame of Python."""
    return ticking(values) if hasattr(type(values), "__next__") else values


def consumed(values: Value) -> Value:
    """The same values, for a function that takes them all at once."""
    kind = type(values)
    if kind in _SIZED:
        return values
    if kind is range:
        if len(values) > MAX_ITEMS:
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


def _spreads(values: Iterable[Value]) -> Iterator[Value]:
    for value in values:
        yield consumed(value)


def _more(value: Value) -> Value:
    """What is added in place: a list would take in all that can be run through."""
    kind = type(value)
    if (
        kind in _SIZED
        or kind in (int, float, bool, complex)
        or not hasattr(kind, "__next__")
    ):
        return consumed(value) if kind is range else value
    return list(consumed(value))


def _stored(value: Value) -> Value:
    """What is put at a key that may be a slice, which would run through it."""
    if type(value) is range:
        return consumed(value)
    return live(_counted(value)) if hasattr(type(value), "__next__") else value


def _within(container: Value) -> Value:
    kind = type(container)
    if kind in _SIZED or kind is Given:
        return container
    if kind is range:
        return _RangeOf(container)
    return consumed(container)


class _RangeOf:
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


# ---------------------------------------------------------------------- guarded methods


def _width(method: str) -> Callable[..., Value]:
    def padded(text: Value, width: Value, *fill: Value) -> Value:
        if isinstance(width, int) and width > MAX_ITEMS:
            too_large(f"{method}()", MAX_ITEMS, "characters")
        return getattr(text, method)(width, *fill)

    return padded


def _expandtabs(text: Value, tabsize: Value = 8) -> Value:
    if isinstance(tabsize, int) and tabsize * len(text) > MAX_ITEMS:
        too_large("expandtabs()", MAX_ITEMS, "characters")
    return text.expandtabs(tabsize)


def _join(separator: Value, parts: Value) -> Value:
    texts = list(consumed(parts))
    sizes = sum(len(text) for text in texts if type(text) in (str, bytes, bytearray))
    if sizes + len(separator) * max(0, len(texts) - 1) > MAX_ITEMS:
        too_large("join()", MAX_ITEMS, "characters")
    return separator.join(texts)


def _replace(text: Value, old: Value, new: Value, count: int = -1) -> Value:
    growth = len(new) - len(old)
    times = text.count(old) if count < 0 else min(count, text.count(old))
    if growth > 0 and len(text) + growth * times > MAX_ITEMS:
        too_large("replace()", MAX_ITEMS, "characters")
    return text.replace(old, new, count)


def _translate(text: Value, table: Value, /, *rest: Value) -> Value:
    if isinstance(text, str):
        if not isinstance(table, dict):
            refuse("translate() with this table", "make it with str.maketrans")
        longest = max((len(v) for v in table.values() if isinstance(v, str)), default=1)
        if len(text) * longest > MAX_ITEMS:
            too_large("translate()", MAX_ITEMS, "characters")
    return text.translate(table, *rest)


def _to_bytes(number: int, length: int = 1, *rest: Value, **named: Value) -> bytes:
    if length > MAX_ITEMS:
        too_large("to_bytes()", MAX_ITEMS, "bytes")
    return number.to_bytes(length, *rest, **named)


def _taking_all(cls: type, method: str) -> Callable[..., Value]:
    def taken(self: Value, *values: Value, **named: Value) -> Value:
        return getattr(cls, method)(self, *map(consumed, values), **named)

    return taken


def _index_of_range(values: range, item: Value) -> int:
    return values.index(item if isinstance(item, int) else _not_in(item))


def _count_in_range(values: range, item: Value) -> int:
    return int(item in _RangeOf(values))


def _not_in(item: Value) -> NoReturn:
    raise ValueError(f"{item!r} is not in range")


def _fromkeys(*args: Value) -> dict[Value, Value]:
    # As `dict.fromkeys(keys)` or of a dict: the first argument may be the dict itself.
    given = list(args[1:] if args and type(args[0]) is dict and len(args) > 1 else args)
    return dict.fromkeys(consumed(given[0]), *given[1:])


_OF_TEXTS: Final[dict[str, Callable[..., Value]]] = {
    "join": _join,
    "replace": _replace,
    "translate": _translate,
    "expandtabs": _expandtabs,
    **{name: _width(name) for name in ("center", "ljust", "rjust", "zfill")},
}
#: Methods that need a look at what they are given, by class and name.
METHODS: Final[dict[tuple[type, str], Callable[..., Value]]] = {
    (str, "format"): _format,
    (str, "format_map"): _format_map,
    (int, "to_bytes"): _to_bytes,
    (range, "index"): _index_of_range,
    (range, "count"): _count_in_range,
    (dict, "fromkeys"): _fromkeys,
    **{
        (kind, name): guard
        for kind in (str, bytes, bytearray)
        for name, guard in _OF_TEXTS.items()
    },
    **{
        (kind, name): _taking_all(kind, name)
        for kind, names in (
            (list, "extend"),
            (bytearray, "extend"),
            (deque, "extend extendleft"),
            (dict, "update"),
            (Counter, "update subtract"),
            (OrderedDict, "update"),
            (defaultdict, "update"),
            (
                set,
                """update difference intersection union symmetric_difference isdisjoint
                issubset issuperset difference_update intersection_update
                symmetric_difference_update""",
            ),
            (
                frozenset,
                """difference intersection union symmetric_difference isdisjoint issubset
                issuperset""",
            ),
        )
        for name in names.split()
    },
}

#: What the guards' names, as rewriting writes them, mean.
GUARDS: Final[dict[str, Value]] = {
    "$get": attribute,
    "$mul": multiplied,
    "$imul": multiplied_in_place,
    "$pow": power,
    "$ipow": power,
    "$shift": shifted,
    "$ishift": shifted,
    "$mod": remainder,
    "$imod": remainder,
    "$small": small,
    "$format": formatted,
    "$spread": consumed,
    "$spreads": _spreads,
    "$ticking": ticking,
    "$live": live,
    "$generating": generating,
    "$more": _more,
    "$within": _within,
    "$stored": _stored,
    **{
        f"${cls.__name__}": cls
        for cls in (
            bool,
            bytearray,
            bytes,
            dict,
            float,
            frozenset,
            int,
            list,
            set,
            str,
            tuple,
        )
    },
}
