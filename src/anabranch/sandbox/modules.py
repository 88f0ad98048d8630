"""Modules as contained code sees them: views of some of their names, and nothing else."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
import importlib
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

from anabranch.errors import UsageError
from anabranch.sandbox import arithmetic, heaps, running
from anabranch.sandbox.arithmetic import is_over
from anabranch.sandbox.light import (
    compared,
    each_light,
    hashed,
    inside,
    keyed,
    light,
    of_light,
)
from anabranch.sandbox.objects import (
    MAX_BITS,
    MAX_ITEMS,
    Given,
    Offered,
    defaultdict,
    deque,
    is_foreign,
    refuse,
    too_large,
)
from anabranch.sandbox.running import as_function, as_lazy, consumed, held, live, ticking

__all__ = ["view_of"]

Value = Any


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Functions that neither allocate by their arguments nor run through what is given.
_SIMPLE: Final[Mapping[str, tuple[str, ...]]] = {
    "math": _words("""
        acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh degrees e erf
        erfc exp exp2 expm1 fabs floor fmod frexp gamma hypot inf isclose isfinite isinf
        isnan isqrt ldexp lgamma log log10 log1p log2 modf nan nextafter pi pow radians
        remainder sin sinh sqrt tan tanh tau trunc ulp
    """),
    "cmath": _words("""
        acos acosh asin asinh atan atanh cos cosh e exp inf infj isclose isfinite isinf
        isnan log log10 nan nanj phase pi polar rect sin sinh sqrt tan tanh tau
    """),
    "time": _words(
        "asctime ctime gmtime localtime mktime monotonic perf_counter strftime strptime"
        " time"
    ),
    "datetime": _words("MAXYEAR MINYEAR UTC date datetime time timedelta timezone tzinfo"),
    "json": _words("JSONDecodeError"),
    "statistics": _words("NormalDist StatisticsError"),
    "itertools": _words("""
    accumulate chain count cycle groupby pairwise permutations combinations
    combinations_with_replacement product repeat starmap takewhile zip_longest
"""),
    "functools": (),
    "operator": _words("""
        abs floordiv invert is_ is_not neg not_ pos truediv truth
    """),
    "string": _words("""
        ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits
        octdigits printable punctuation whitespace
    """),
    "decimal": _words("""
        Decimal DecimalException DivisionByZero InvalidOperation ROUND_CEILING
        ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP
    """),
    "fractions": _words("Fraction"),
    "random": _words("""
        betavariate choice choices expovariate gauss lognormvariate normalvariate
        paretovariate randint random randrange sample shuffle triangular uniform
    """),
    "collections": (),
    "typing": (),
    "re": _words("ASCII DOTALL I IGNORECASE M MULTILINE S VERBOSE X A error escape"),
    "textwrap": _words("dedent"),
    "bisect": (),
    "heapq": (),
    "calendar": _words(
        "day_abbr day_name isleap leapdays month_abbr month_name monthrange timegm weekday"
    ),
    "html": _words("escape unescape"),
    "unicodedata": _words("category combining name numeric"),
    "base64": _words("b64decode b64encode urlsafe_b64decode urlsafe_b64encode"),
    "hashlib": (),
    "uuid": _words("NAMESPACE_DNS NAMESPACE_URL UUID uuid4 uuid5"),
    "zlib": _words("adler32 crc32"),
    "copy": (),
}


def view_of(name: str) -> Given:
    """The view of a module, with a source of chance of its own if it has one.

    Raises:
        UsageError: If there is none: it is not known what in it is harmless.
    """
    if name in ("numpy", "pandas", "scipy"):
        from anabranch.sandbox import frames

        return frames.view_of(name)
    view = _view_of(name)
    # Seeding it shall change nothing for the next.
    return Given.over(view, _random()) if name == "random" else view


@functools.cache
def _view_of(name: str) -> Given:
    if name not in _SIMPLE:
        raise UsageError(
            f"no view of the module {name!r} is known for code in this process; run it"
            " in the isolate, where every module that is loaded may be used"
        )
    module = importlib.import_module(name)
    names: dict[str, Value] = {
        each: getattr(module, each) for each in _SIMPLE[name] if hasattr(module, each)
    }
    names.update(_GUARDED.get(name, dict)())
    return Given(f"module {name}", names)


def _bounded(limit: int, what: str, function: Callable[..., Value]) -> Callable[..., Value]:
    def called(*numbers: Value) -> Value:
        if any(hasattr(type(n), "__index__") and abs(n) > limit for n in numbers):
            too_large(what, limit, "as an argument")
        return function(*numbers)

    return called


def _math() -> dict[str, Value]:
    import math

    return {
        "comb": _bounded(5_000, "comb()", math.comb),
        "dist": math.dist,
        "factorial": _bounded(5_000, "factorial()", math.factorial),
        "fsum": lambda values: math.fsum(consumed(values)),
        "gcd": _bounded(2**10_000, "gcd()", math.gcd),
        "lcm": _lcm,
        "perm": _bounded(5_000, "perm()", math.perm),
        "prod": _product,
    }


def _lcm(*numbers: int) -> int:
    import math

    total = 1
    for number in numbers:
        total = math.lcm(total, number)
        if total.bit_length() > MAX_BITS:
            too_large("lcm()", MAX_BITS, "bits")
    return total


def _product(values: Value, *, start: Value = 1) -> Value:
    for value in consumed(values):
        bits = [part.bit_length() for part in (start, value) if isinstance(part, int)]
        if sum(bits) > MAX_BITS or not isinstance(value, (int, float, complex)):
            too_large("prod()", MAX_BITS, "bits of numbers")
        start = start * value
    return start


def _json() -> dict[str, Value]:
    import json

    def dumps(value: Value, *, indent: Value = None, sort_keys: bool = False,
              ensure_ascii: bool = True, default: Value = None,
              separators: Value = None) -> str:  # fmt: skip
        for text in (indent, *(separators or ())):
            if is_over(text, 100) or (isinstance(text, str) and len(text) > 100):
                too_large("this indent or separator", 100, "characters")
        return json.dumps(
            light(value), indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii,
            default=None if default is None else lambda value: light(default(value)),
            separators=separators,
        )  # fmt: skip

    def loads(text: str) -> Value:
        return json.loads(text)

    return {"dumps": dumps, "loads": loads}


def _statistics() -> dict[str, Value]:
    import statistics

    names = _words("""
        fmean geometric_mean harmonic_mean mean median median_grouped median_high
        median_low mode multimode pstdev pvariance quantiles stdev variance
    """)
    made = {name: _first_compared(getattr(statistics, name)) for name in names}
    made["correlation"] = lambda x, y: statistics.correlation(consumed(x), consumed(y))
    made["linear_regression"] = lambda x, y: statistics.linear_regression(
        consumed(x), consumed(y)
    )
    return made


def _first_compared(function: Callable[..., Value]) -> Callable[..., Value]:
    def called(values: Value, *args: Value, **named: Value) -> Value:
        return function(compared(values), *args, **named)

    return called


def _itertools() -> dict[str, Value]:
    import itertools

    def islice(values: Value, *bounds: Value) -> Value:
        return itertools.islice(ticking(values), *bounds)

    def dropwhile(test: Value, values: Value) -> Value:
        return itertools.dropwhile(as_function(test), ticking(values))

    def filterfalse(test: Value, values: Value) -> Value:
        return itertools.filterfalse(as_function(test), ticking(values))

    def compress(values: Value, chosen: Value) -> Value:
        return itertools.compress(ticking(values), ticking(chosen))

    def groupby(values: Value, key: Value = None) -> Value:
        if key is not None:
            return itertools.groupby(as_lazy(values), lambda value: light(key(value)))
        return itertools.groupby(live(each_light(values)))

    def product(*values: Value, repeat: int = 1) -> Value:
        if is_over(repeat, 100):
            too_large("product()", 100, "repeats")
        return itertools.product(*map(consumed, values), repeat=repeat)

    def of_pool(function: Callable[..., Value]) -> Callable[..., Value]:
        return lambda values, *size: function(consumed(values), *size)

    def running(function: Callable[..., Value], at: int) -> Callable[..., Value]:
        """A function that runs lazily through its argument at this place."""

        def called(*args: Value, **named: Value) -> Value:
            lazies = [
                as_function(arg)
                if callable(arg)
                else as_lazy(arg)
                if place >= at
                else held(arg)
                for place, arg in enumerate(args)
            ]
            return function(*lazies, **{key: held(value) for key, value in named.items()})

        return called

    return {
        **{
            name: running(getattr(itertools, name), at)
            for name, at in (
                ("accumulate", 0),
                ("pairwise", 0),
                ("starmap", 1),
                ("takewhile", 1),
                ("zip_longest", 0),
            )
        },
        "chain": Offered(
            itertools.chain,
            lambda *parts: itertools.chain(*map(ticking, parts)),
            {
                "from_iterable": lambda parts: live(
                    value for part in parts for value in part
                )
            },
        ),
        "combinations": of_pool(itertools.combinations),
        "combinations_with_replacement": of_pool(itertools.combinations_with_replacement),
        "compress": compress,
        "cycle": lambda values: itertools.cycle(consumed(values)),
        "dropwhile": dropwhile,
        "groupby": groupby,
        "filterfalse": filterfalse,
        "islice": islice,
        "permutations": of_pool(itertools.permutations),
        "product": product,
        "repeat": lambda value, *times: ticking(itertools.repeat(value, *times)),
        "count": lambda start=0, step=1: ticking(itertools.count(start, step)),
    }


_EXPONENT: Final = 5_000


def _decimal() -> dict[str, Value]:
    from decimal import Decimal

    def made(value: Value = "0") -> Value:
        number = Decimal(value)
        if number.is_finite() and abs(number.adjusted()) > _EXPONENT:
            too_large("this Decimal", _EXPONENT, "digits")
        return number

    return {"Decimal": Offered(Decimal, made, {"from_float": Decimal.from_float})}


def _fractions() -> dict[str, Value]:
    import re
    from fractions import Fraction

    def made(value: Any = 0, denominator: Any = None) -> Value:
        if isinstance(value, str) and any(
            len(digits) > 4 for digits in re.findall(r"[eE][-+]?([0-9_]+)", value)
        ):
            too_large("this Fraction", 9_999, "digits")
        return Fraction(*(part for part in (value, denominator) if part is not None))

    return {"Fraction": Offered(Fraction, made, {})}


def limited_decimals() -> None:
    """Keeps what decimals become, in this context, to exponents that end soon."""
    import decimal

    decimal.setcontext(decimal.Context(prec=28, Emax=_EXPONENT, Emin=-_EXPONENT))


def _functools() -> dict[str, Value]:
    import functools as ours

    def reduce(function: Value, values: Value, *start: Value) -> Value:
        return ours.reduce(function, consumed(values), *start)

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


def _operator() -> dict[str, Value]:
    import operator

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


def _collections() -> dict[str, Value]:
    import collections

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
    import collections

    from anabranch.sandbox.names import is_private

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


def _copy() -> dict[str, Value]:
    import copy

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


def _hashlib() -> dict[str, Value]:
    import hashlib

    def made(name: str) -> Callable[..., Value]:
        def digest(data: bytes = b"") -> Value:
            done = hashlib.new(name, data)
            return Given(name, {"digest": done.digest, "hexdigest": done.hexdigest,
                                "update": done.update})  # fmt: skip

        return digest

    return {name: made(name) for name in _words("blake2b md5 sha1 sha256 sha512 sha3_256")}


def _re() -> dict[str, Value]:
    from anabranch.sandbox import patterns

    return patterns.offered()


def _bisect() -> dict[str, Value]:
    import bisect

    def among(name: str) -> Callable[..., Value]:
        function = getattr(bisect, name)
        return lambda values, item, *bounds, key=None, **named: function(
            values, light(item), *bounds, key=keyed(key), **named
        )

    names = _words("bisect bisect_left bisect_right insort insort_left insort_right")
    return {name: among(name) for name in names}


def _heapq() -> dict[str, Value]:
    return heaps.offered()


_INDENT: Final = 1_000


def _textwrap() -> dict[str, Value]:
    import textwrap

    def limited(name: str) -> Callable[..., Value]:
        function = getattr(textwrap, name)

        def called(text: str, *args: Value, **named: Value) -> Value:
            for value in (*args, *named.values()):
                if isinstance(value, str) and len(value) > _INDENT:
                    too_large(f"{name}()", _INDENT, "characters of indentation")
            if is_over(named.get("tabsize", 8), _INDENT):
                too_large(f"{name}()", _INDENT, "characters for a tab")
            return function(text, *args, **named)

        return called

    def indent(text: str, prefix: str, predicate: Value = None) -> str:
        if len(prefix) * (text.count("\n") + 1) > MAX_ITEMS:
            too_large("indent()", MAX_ITEMS, "characters")
        return textwrap.indent(text, prefix, predicate)

    return {
        "indent": indent,
        **{name: limited(name) for name in ("fill", "shorten", "wrap")},
    }


_MARKS: Final = 1_000


def _unicodedata() -> dict[str, Value]:
    import unicodedata

    def normalize(form: Value, text: str) -> str:
        # Marks are put in order by moving each along: the square of how many there are.
        marks = 0
        for character in () if text.isascii() else text:
            marks = marks + 1 if unicodedata.combining(character) else 0
            if marks > _MARKS:
                too_large("normalize()", _MARKS, "marks on one letter")
        return unicodedata.normalize(form, text)

    return {"normalize": normalize}


def _typing() -> dict[str, Value]:
    """Names to write annotations with. Those of `typing` read texts as sources."""
    from collections import abc

    def none_made(*_args: Value, **_named: Value) -> Value:
        raise TypeError("this stands for types in annotations; it makes nothing")

    kinds: dict[str, type] = {
        **{cls.__name__.capitalize(): cls for cls in (dict, list, set, tuple)},
        **dict.fromkeys(("Any", "Optional", "Union"), object),
        **{
            name: getattr(abc, name)
            for name in _words("Callable Iterable Iterator Sequence")
        },
    }
    return {name: Offered(cls, none_made, {}) for name, cls in kinds.items()}


def _random() -> dict[str, Value]:
    import random

    own = random.Random()
    names = (*_SIMPLE["random"], "seed")
    return {name: getattr(own, name) for name in names}


def _random_class() -> dict[str, Value]:
    import random

    return {"Random": Offered(random.Random, random.Random, {})}


def _time() -> dict[str, Value]:
    import time

    def sleep(seconds: float) -> None:
        # In short parts: an interrupt waits for the end of the one at hand.
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    return {"sleep": sleep}


_GUARDED: Final[Mapping[str, Callable[[], dict[str, Value]]]] = {
    "bisect": _bisect,
    "collections": _collections,
    "copy": _copy,
    "decimal": _decimal,
    "fractions": _fractions,
    "functools": _functools,
    "hashlib": _hashlib,
    "heapq": _heapq,
    "itertools": _itertools,
    "json": _json,
    "math": _math,
    "operator": _operator,
    "re": _re,
    "statistics": _statistics,
    "random": _random_class,
    "textwrap": _textwrap,
    "time": _time,
    "typing": _typing,
    "unicodedata": _unicodedata,
}
