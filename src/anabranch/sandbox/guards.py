"""What runs in place of operations that need a look at their values.

A guard either does what the operation does, or stops the code for good: what it raises is
no Exception, so the code cannot catch it, and the caller gets the error it carries. Each
operation that is let through ends soon by itself, or returns to the interpreter now and
then, where the :mod:`watch <anabranch.sandbox.watch>` can stop it.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import collections
import itertools
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NoReturn, cast
from weakref import WeakValueDictionary, ref

from anabranch.errors import LimitExceeded, SandboxError, SourceRefused
from anabranch.sandbox.names import OF_CLASSES, OF_VALUES, is_private

__all__ = ["GUARDS", "Given", "Offered", "Stopped", "attribute", "consumed", "refuse"]

#: Bits of the largest integer, and items or characters of the longest value, that one
#: operation may make.
MAX_BITS: Final = 200_000
MAX_ITEMS: Final = 10_000_000

# Values in and out of here can be of any type: that is what guards are for.
Value = Any


# Made in Python, the same classes free what they hold without recursion: a chain of them
# would overflow the stack of the interpreter.
deque: Final[Any] = type(
    "deque", (collections.deque,), {"__slots__": (), "__module__": "collections"}
)
defaultdict: Final = type(
    "defaultdict",
    (collections.defaultdict,),
    {"__slots__": (), "__module__": "collections"},
)


class Stopped(BaseException):
    """Ends contained code; no handler of it can catch this. Carries the caller's error."""

    def __init__(self, error: SandboxError) -> None:
        super().__init__(str(error))
        self.error = error


class Interrupt(BaseException):
    """Raised in code that is over a limit, from outside; no Exception, on purpose."""


class Offered:
    """A class as contained code sees it: to be called, compared, and asked for little."""

    __slots__ = ("__weakref__", "_attributes", "_call", "_cls")

    def __init__(
        self, cls: type, call: Callable[..., Value], attributes: Mapping[str, Value]
    ) -> None:
        self._cls = cls
        self._call = call
        self._attributes = attributes
        OFFERED.setdefault(cls, self)

    def __call__(self, *args: Value, **kwargs: Value) -> Value:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Value:
        if name in self._attributes:
            return self._attributes[name]
        if name in OF_CLASSES.get((self._cls.__module__, self._cls.__qualname__), ()):
            return _of_class(self._cls, name)
        raise AttributeError(name)

    def __repr__(self) -> str:
        return repr(self._cls)

    def __or__(self, other: Value) -> tuple[Value, ...]:
        # `int | list` is only ever the second argument of isinstance.
        return (self, *(other if isinstance(other, tuple) else (other,)))

    __ror__ = __or__

    def __getitem__(self, item: Value) -> Offered:
        return self


#: By class, what code sees of it: so that two ways to get at a class give the same.
OFFERED: Final = WeakValueDictionary[type, Offered]()


class Given:
    """A view of names: of a module, or of an object that the caller gave."""

    __slots__ = ("_names", "_what")

    def __init__(self, what: str, names: Mapping[str, Value]) -> None:
        self._what = what
        self._names = names

    @classmethod
    def over(cls, view: Given, names: Mapping[str, Value]) -> Given:
        """A view with names of its own, and those of another one."""
        return cls(view._what, {**view._names, **names})

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
    maker = MAKERS.get((kind, name))
    if maker is not None:
        return maker
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
    if not is_known(kind, name):
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    return refuse(
        f"the attribute {name!r} of a {kind.__name__}", "it is not among what is offered"
    )


def is_known(kind: type, name: str) -> bool:
    """Whether a class has an attribute; not asked of the value, which might compute it."""
    return any(name in vars(base) for base in kind.__mro__)


def _offered_by(kind: type) -> frozenset[str]:
    return OF_VALUES.get((kind.__module__, kind.__qualname__), frozenset())


def _of_class(cls: type, name: str) -> Value:
    if name not in OF_CLASSES.get((cls.__module__, cls.__qualname__), ()):
        refuse(f"the attribute {name!r} of {cls.__name__}", "it is not offered")
    guard = MAKERS.get((cls, name)) or METHODS.get((cls, name))
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
    may_multiply(a, b)
    return a * b


def multiplied_in_place(a: Value, b: Value) -> Value:
    """``a *= b``, in the same way."""
    may_multiply(a, b)
    a *= b
    return a


def may_multiply(a: Value, b: Value) -> None:
    if type(a) is int and type(b) is int:
        if a.bit_length() + b.bit_length() > MAX_BITS:
            too_large("this product", MAX_BITS, "bits")
        return
    if type(a) is float or type(b) is float:
        return
    if is_ratio(a) or is_ratio(b):
        _may_multiply_ratios(a, b)
        return
    for sequence, times in cast("tuple[tuple[Value, Value], ...]", ((a, b), (b, a))):
        if isinstance(sequence, _REPEATED):
            if is_over(times, MAX_ITEMS // max(1, len(sequence))):
                too_large("this repetition", MAX_ITEMS, "items")
        elif is_foreign(type(sequence)):
            _judge_cells(sequence, times, may_multiply)
    if isinstance(a, int) and isinstance(b, int):
        may_multiply(int(a), int(b))


def _may_multiply_ratios(a: Value, b: Value) -> None:
    if hasattr(a, "numerator") and hasattr(b, "numerator"):
        bits = sum(part.numerator.bit_length() for part in (a, b))
        if bits + sum(part.denominator.bit_length() for part in (a, b)) > MAX_BITS:
            too_large("this product", MAX_BITS, "bits")


def _judge_cells(table: Value, other: Value, may: Callable[[Value, Value], None]) -> None:
    """Judges an operation on each object in an array or table: numbers need no look."""
    dimensions = getattr(table, "ndim", None)
    if dimensions is None or (dimensions == 0 and table.dtype.kind not in "OUS"):
        return  # a number, or a moment
    from anabranch.sandbox import frames

    other = frames.largest(other) if is_foreign(type(other)) else other
    length = 0
    for cell in frames.objects_in(table):
        may(cell, other)
        length += len(cell) if isinstance(cell, _REPEATED) else 0
    if may is may_multiply and is_over(other, MAX_ITEMS // max(1, length)):
        too_large("this repetition", MAX_ITEMS, "items")


_REPEATED: Final = (str, bytes, bytearray, list, tuple, deque)


def is_over(number: Value, most: int) -> bool:
    """Whether a value counts as an integer, and as one above a limit."""
    kind = type(number)
    if not hasattr(kind, "__index__") or hasattr(kind, "__len__"):
        return False
    return bool(number > most)


def is_ratio(value: Value) -> bool:
    """Whether a value is a Fraction; asked without importing what they are."""
    return hasattr(type(value), "limit_denominator")


def added(a: Value, b: Value) -> Value:
    """``a + b``, unless that makes too long a sequence."""
    _may_add(a, b)
    return a + b


def added_in_place(a: Value, b: Value) -> Value:
    """``a += b``, in the same way."""
    _may_add(a, b)
    a += _more(b)
    return a


def _may_add(a: Value, b: Value) -> None:
    is_sum = isinstance(a, _REPEATED) and hasattr(type(b), "__len__")
    if is_sum and len(a) + len(b) > MAX_ITEMS:
        too_large("this sum", MAX_ITEMS, "items")


def power(base: Value, exp: Value, mod: Value = None) -> Value:
    """``base ** exp``, unless that makes too large an integer."""
    if mod is None:
        _may_raise(base, exp)
        return pow(base, exp)
    if all(isinstance(part, int) for part in (base, exp, mod)):
        most = MAX_BITS // 40
        if max(part.bit_length() for part in (base, exp, mod)) > most:
            too_large("this power", most, "bits")
    return pow(base, exp, mod)


def _may_raise(base: Value, exp: Value) -> None:
    exact = is_ratio(exp) and exp.denominator == 1
    if exact:
        exp = exp.numerator
    if isinstance(base, int) and isinstance(exp, int):
        is_long = base not in (-1, 0, 1) and base.bit_length() * abs(exp) > MAX_BITS
        # One with a negative integer is a float.
        if is_long and (exp > 0 or exact):
            too_large("this power", MAX_BITS, "bits")
    elif is_ratio(base) and isinstance(exp, int):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exp) > MAX_BITS:
            too_large("this power", MAX_BITS, "bits")
    elif is_foreign(type(base)):
        _judge_cells(base, exp, _may_raise)
    elif is_foreign(type(exp)):
        _judge_cells(exp, base, lambda cell, its_base: _may_raise(its_base, cell))


def shifted(a: Value, b: Value) -> Value:
    """``a << b``, unless that makes too large an integer."""
    _may_shift(a, b)
    return a << b


def _may_shift(a: Value, b: Value) -> None:
    if isinstance(a, int) and isinstance(b, int):
        if a and b + a.bit_length() > MAX_BITS:
            too_large("this shift", MAX_BITS, "bits")
    elif is_foreign(type(a)):
        _judge_cells(a, b, _may_shift)
    elif is_foreign(type(b)):
        _judge_cells(b, a, lambda cell, shifted: _may_shift(shifted, cell))


def remainder(a: Value, b: Value) -> Value:
    """``a % b``, unless that is a format with a huge width, or of much text."""
    if type(a) is not int:
        may_format(a, b)
    return a % b


def may_format(a: Value, b: Value) -> None:
    if isinstance(a, (str, bytes, bytearray)):
        fields = _judge_percent(a if isinstance(a, str) else bytes(a).decode("latin-1"))
        values = b if isinstance(b, tuple) else b.values() if isinstance(b, dict) else (b,)
        sizes = [len(v) for v in values if isinstance(v, (str, bytes, bytearray))]
        most = max(sizes, default=0) * fields if isinstance(b, dict) else sum(sizes)
        if len(a) + most > 2 * MAX_ITEMS:
            too_large("this format", 2 * MAX_ITEMS, "characters")
    elif is_foreign(type(a)):
        _judge_cells(a, b, may_format)


def small(value: Value) -> Value:
    """A factor for a part of a list, if it is small; for one of an array it may be any."""
    if not isinstance(value, (int, float)) or abs(value) > 1_000:
        if is_foreign(type(value)):
            return value
        too_large("this repetition of a slice", 1_000, "times")
    return value


_PERCENT: Final = re.compile(r"%[-#0 +]*([0-9*]*)(?:\.([0-9*]*))?[hlL]*.", re.DOTALL)
_KEY: Final = re.compile(r"\([^()]*\)")
MAX_WIDTH: Final = 10_000


def _judge_percent(text: str) -> int:
    """How many fields there are, if none is huge."""
    if "(" in text:
        # A key may have parentheses in it: from the innermost ones outwards.
        before = ""
        while before != text:
            before, text = text, _KEY.sub("", text)
    found = _PERCENT.findall(text)
    for width, precision in found:
        if "*" in width or "*" in precision:
            refuse("a width given by `*`", "use an f-string")
        if max(_number(width), _number(precision)) > MAX_WIDTH:
            too_large("this format", MAX_WIDTH, "characters")
    return len(found)


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


def _filled(
    template: str,
    args: tuple[Value, ...],
    kwargs: Mapping[str, Value],
    automatic: Iterator[int] | None = None,
) -> str:
    from string import Formatter

    is_spec = automatic is not None
    numbers = itertools.count() if automatic is None else automatic
    pieces: list[str] = []
    for literal, field, written, conversion in Formatter().parse(template):
        pieces.append(literal)
        if field is None:
            continue
        name, keys = _field(field)
        name = name or str(next(numbers))
        value = args[int(name)] if name.isdecimal() else kwargs[name]
        for key in keys:
            value = value[int(key) if key.isdecimal() else key]
        if conversion not in (None, "r", "s", "a"):
            raise ValueError(f"Unknown conversion specifier {conversion!r}")
        spec = written or ""
        if "{" in spec:
            if is_spec:
                raise ValueError("Max string recursion exceeded")
            spec = _filled(spec, args, kwargs, numbers)
        pieces.append(formatted(value, conversion or "", spec))
    return str(_join("", pieces))


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


def _bound(value: Value) -> Value:
    """A bound of a slice, which may not be a slice: that one could hold another one."""
    if type(value) is slice:
        refuse("a slice in a slice", "its bounds are numbers or labels")
    return value


def sliced(*bounds: Value) -> slice:
    """``slice(...)``, whose bounds are no slices."""
    return slice(*map(_bound, bounds))


def _named(function: Value) -> Value:
    """What is called with `name=` or `obj=`: no exception, which would hold it."""
    if isinstance(function, type) and issubclass(function, BaseException):
        refuse("named arguments of an exception", "give it its message")
    return function


def _matched(subject: Value, depth: int) -> Value:
    """What patterns with a star look at: they would run through a long range."""
    if type(subject) is range:
        return consumed(subject)
    if depth and isinstance(subject, (list, tuple, deque)):
        ends = len(subject) - _LOOKED_AT
        for place, item in enumerate(subject):
            if place < _LOOKED_AT or place >= ends:
                _matched(item, depth - 1)
    elif depth and isinstance(subject, dict):
        for item in subject.values():
            _matched(item, depth - 1)
    return subject


#: Parts of a pattern on either side of a star whose items are looked at.
_LOOKED_AT: Final = 100


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
        if is_over(width, MAX_ITEMS):
            too_large(f"{method}()", MAX_ITEMS, "characters")
        return getattr(text, method)(width, *fill)

    return padded


def _expandtabs(text: Value, tabsize: Value = 8) -> Value:
    if is_over(tabsize, MAX_ITEMS // max(1, len(text))):
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
        if type(table) is not dict:
            refuse("translate() with this table", "make it with str.maketrans")
        longest = max((len(v) for v in table.values() if isinstance(v, str)), default=1)
        if len(text) * longest > MAX_ITEMS:
            too_large("translate()", MAX_ITEMS, "characters")
    return text.translate(table, *rest)


def _to_bytes(number: int, length: int = 1, *rest: Value, **named: Value) -> bytes:
    if is_over(length, MAX_ITEMS):
        too_large("to_bytes()", MAX_ITEMS, "bytes")
    return number.to_bytes(length, *rest, **named)


def _from_bytes(data: Value, *rest: Value, **named: Value) -> int:
    if isinstance(data, (bytes, bytearray)) and len(data) * 8 > MAX_BITS:
        too_large("from_bytes()", MAX_BITS, "bits")
    return int.from_bytes(consumed(data), *rest, **named)


def integer(*args: Value, **named: Value) -> int:
    """``int(...)``, which makes of a text with a base no larger number than others are."""
    text = args[0] if args else b""
    if isinstance(text, (str, bytes, bytearray)) and len(text) > MAX_BITS // 6:
        too_large("int()", MAX_BITS // 6, "digits")
    return int(*args, **named)


def _searched(method: str) -> Callable[..., Value]:
    """A search from the end, which takes time by the product of both lengths."""

    def searched(text: Value, *args: Value, **named: Value) -> Value:
        sought: Value = args[0] if args else named.get("sep")
        is_text = isinstance(sought, (str, bytes, bytearray))
        if is_text and len(text) * len(sought) > _MAX_COMPARED:
            too_large(f"{method}()", _MAX_COMPARED, "comparisons")
        return getattr(text, method)(*args, **named)

    return searched


_MAX_COMPARED: Final = 100_000_000


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


def _fromkeys(cls: type) -> Callable[..., Value]:
    def made(keys: Value, *value: Value) -> Value:
        return cls.fromkeys(consumed(keys), *value)  # type: ignore[attr-defined]

    return made


def _of(kind: type, name: str, guard: Callable[..., Value]) -> Callable[..., Value]:
    """A guard that, called by way of the class, takes its values and no others."""

    def called(text: Value, *args: Value, **named: Value) -> Value:
        if not isinstance(text, kind):
            raise TypeError(
                f"descriptor {name!r} for {kind.__name__!r} objects doesn't apply to a"
                f" {type(text).__name__!r} object"
            )
        return guard(text, *args, **named)

    return called


_OF_TEXTS: Final[dict[str, Callable[..., Value]]] = {
    "join": _join,
    "replace": _replace,
    "translate": _translate,
    "expandtabs": _expandtabs,
    **{name: _width(name) for name in ("center", "ljust", "rjust", "zfill")},
    **{
        name: _searched(name)
        for name in "rfind rindex rpartition rsplit strip lstrip rstrip".split()
    },
}
#: What makes a value, asked of a class or of one of its values, that needs such a look.
MAKERS: Final[dict[tuple[type, str], Callable[..., Value]]] = {
    (int, "from_bytes"): _from_bytes,
    (bool, "from_bytes"): _from_bytes,
    **{(cls, "fromkeys"): _fromkeys(cls) for cls in (dict, OrderedDict, defaultdict)},
}
#: Methods that need a look at what they are given, by class and name.
METHODS: Final[dict[tuple[type, str], Callable[..., Value]]] = {
    (str, "format"): _format,
    (str, "format_map"): _format_map,
    (int, "to_bytes"): _of(int, "to_bytes", _to_bytes),
    (bool, "to_bytes"): _of(int, "to_bytes", _to_bytes),
    (range, "index"): _index_of_range,
    (range, "count"): _count_in_range,
    **{
        (kind, name): _of(kind, name, guard)
        for kind in (str, bytes, bytearray)
        for name, guard in _OF_TEXTS.items()
    },
    **{
        (kind, name): _taking_all(kind, name)
        for kind, names in (
            (type({}.keys()), "isdisjoint"),
            (type({}.items()), "isdisjoint"),
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
    "$add": added,
    "$iadd": added_in_place,
    "$join": _join,
    "$bound": _bound,
    "$named": _named,
    "$matched": _matched,
    "$going": going,
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
