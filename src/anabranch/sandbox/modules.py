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
from anabranch.sandbox.guards import (
    MAX_BITS,
    Given,
    Offered,
    as_lazy,
    consumed,
    is_foreign,
    live,
    refuse,
    ticking,
    too_large,
)

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
    "functools": _words("cmp_to_key partial"),
    "operator": _words("""
        abs add and_ contains eq floordiv ge gt invert is_ is_not le lt mod
        ne neg not_ or_ pos sub truediv truth xor
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
    "re": _words("ASCII DOTALL I IGNORECASE M MULTILINE S VERBOSE X A error escape"),
    "textwrap": _words("dedent fill indent shorten wrap"),
    "bisect": _words("bisect bisect_left bisect_right insort insort_left insort_right"),
    "heapq": _words("heapify heappop heappush heappushpop heapreplace merge"),
    "calendar": _words(
        "day_abbr day_name isleap leapdays month_abbr month_name monthrange timegm weekday"
    ),
    "html": _words("escape unescape"),
    "unicodedata": _words("category combining name normalize numeric"),
    "base64": _words("b64decode b64encode urlsafe_b64decode urlsafe_b64encode"),
    "hashlib": (),
    "uuid": _words("NAMESPACE_DNS NAMESPACE_URL UUID uuid4 uuid5"),
    "zlib": _words("adler32 crc32"),
    "copy": (),
    "typing": _words(
        "Any Callable Dict Iterable Iterator List Optional Sequence Set Tuple Union"
    ),
}


@functools.cache
def view_of(name: str) -> Given:
    """The view of a module.

    Raises:
        UsageError: If there is none: it is not known what in it is harmless.
    """
    if name in ("numpy", "pandas", "scipy"):
        from anabranch.sandbox import frames

        return frames.view_of(name)
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
        if any(isinstance(number, int) and abs(number) > limit for number in numbers):
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
        if isinstance(indent, int) and indent > 100:
            too_large("this indent", 100, "spaces")
        return json.dumps(
            value, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii,
            default=default, separators=separators,
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
    made = {name: _first_consumed(getattr(statistics, name)) for name in names}
    made["correlation"] = lambda x, y: statistics.correlation(consumed(x), consumed(y))
    made["linear_regression"] = lambda x, y: statistics.linear_regression(
        consumed(x), consumed(y)
    )
    return made


def _first_consumed(function: Callable[..., Value]) -> Callable[..., Value]:
    def called(values: Value, *args: Value, **named: Value) -> Value:
        return function(consumed(values), *args, **named)

    return called


def _itertools() -> dict[str, Value]:
    import itertools

    def islice(values: Value, *bounds: Value) -> Value:
        return itertools.islice(ticking(values), *bounds)

    def dropwhile(test: Value, values: Value) -> Value:
        return itertools.dropwhile(test, ticking(values))

    def filterfalse(test: Value, values: Value) -> Value:
        return itertools.filterfalse(test, ticking(values))

    def compress(values: Value, chosen: Value) -> Value:
        return itertools.compress(ticking(values), ticking(chosen))

    def product(*values: Value, repeat: int = 1) -> Value:
        if repeat > 100:
            too_large("product()", 100, "repeats")
        return itertools.product(*map(consumed, values), repeat=repeat)

    def of_pool(function: Callable[..., Value]) -> Callable[..., Value]:
        return lambda values, *size: function(consumed(values), *size)

    def running(function: Callable[..., Value], at: int) -> Callable[..., Value]:
        """A function that runs lazily through its argument at this place."""

        def called(*args: Value, **named: Value) -> Value:
            lazies = [
                as_lazy(arg) if place >= at else arg for place, arg in enumerate(args)
            ]
            return function(*lazies, **named)

        return called

    return {
        **{
            name: running(getattr(itertools, name), at)
            for name, at in (
                ("accumulate", 0),
                ("groupby", 0),
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

    return {"reduce": reduce, "partial": _partial, "lru_cache": _cached, "cache": _cached}


def _partial(function: Value, /, *args: Value, **named: Value) -> Value:
    return lambda *more, **others: function(*args, *more, **{**named, **others})


def _cached(function: Value = None, /, **_named: Value) -> Value:
    if not callable(function):
        return _cached
    known: dict[Value, Value] = {}

    def called(*args: Value) -> Value:
        if args not in known:
            known[args] = function(*args)
        return known[args]

    return called


def _operator() -> dict[str, Value]:
    from anabranch.sandbox import guards

    return {
        # A getter that holds a getter, and so on, would crash the interpreter at its end.
        "itemgetter": _itemgetter,
        "mul": guards.multiplied,
        "pow": guards.power,
        "lshift": guards.shifted,
        "mod": guards.remainder,
        "contains": lambda container, item: item in guards.GUARDS["$within"](container),
    }


def _itemgetter(*keys: Value) -> Callable[[Value], Value]:
    if len(keys) == 1:
        return lambda value: value[keys[0]]
    return lambda value: tuple(value[key] for key in keys)


def _collections() -> dict[str, Value]:
    import collections

    def made(cls: type) -> Offered:
        def call(*args: Value, **named: Value) -> Value:
            if cls is collections.defaultdict:
                if args and not isinstance(args[0], (Offered, type, FunctionType)):
                    refuse("this default factory", "a function or a class makes defaults")
                return cls(*args[:1], *map(consumed, args[1:]), **named)
            return cls(*map(consumed, args[:1]), *args[1:], **named)

        return Offered(cls, call, {})

    kinds = (
        collections.Counter,
        collections.OrderedDict,
        collections.defaultdict,
        collections.deque,
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


def _bisect_like() -> dict[str, Value]:
    import heapq

    return {
        "nlargest": lambda n, values, key=None: heapq.nlargest(
            n, consumed(values), key=key
        ),
        "nsmallest": lambda n, values, key=None: heapq.nsmallest(
            n, consumed(values), key=key
        ),
    }


def _random() -> dict[str, Value]:
    import random

    # A source of chance of its own: seeding it changes nothing for the program.
    own = random.Random()
    made = Offered(random.Random, random.Random, {})
    return {
        "Random": made,
        **{name: getattr(own, name) for name in (*_SIMPLE["random"], "seed")},
    }


def _time() -> dict[str, Value]:
    import time

    def sleep(seconds: float) -> None:
        # In short parts: an interrupt waits for the end of the one at hand.
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    return {"sleep": sleep}


_GUARDED: Final[Mapping[str, Callable[[], dict[str, Value]]]] = {
    "collections": _collections,
    "copy": _copy,
    "decimal": _decimal,
    "fractions": _fractions,
    "functools": _functools,
    "hashlib": _hashlib,
    "heapq": _bisect_like,
    "itertools": _itertools,
    "json": _json,
    "math": _math,
    "operator": _operator,
    "re": _re,
    "statistics": _statistics,
    "random": _random,
    "time": _time,
}
