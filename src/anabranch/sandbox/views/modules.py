"""Which modules there are views of, and what in them is harmless as it is."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from anabranch.errors import UsageError
from anabranch.sandbox import patterns
from anabranch.sandbox.frames.numpy_view import numpy_view
from anabranch.sandbox.frames.pandas_view import pandas_view
from anabranch.sandbox.objects import Given
from anabranch.sandbox.views import (
    containers,
    functions,
    heaps,
    iterators,
    numeric,
    texts,
)

__all__ = ["view_of"]

Value = Any


def view_of(name: str) -> Given:
    """The view of a module, with a source of chance of its own if it has one.

    Raises:
        UsageError: If there is none: it is not known what in it is harmless.
    """
    match name:
        case "numpy":
            return numpy_view()
        case "pandas":
            return pandas_view()
        case "scipy":
            return Given("module scipy", {})
        case "random":
            # Seeding it shall change nothing for the next.
            return Given.over(_view_of(name), numeric.own_chance())
        case _:
            return _view_of(name)


@functools.cache
def _view_of(name: str) -> Given:
    if name not in _SIMPLE and name not in _GUARDED:
        raise UsageError(
            f"no view of the module {name!r} is known for code in this process; run it"
            " in the isolate, where every module that is loaded may be used"
        )
    names: dict[str, Value] = {}
    if name in _SIMPLE:
        module = importlib.import_module(name)
        simple = _SIMPLE[name].split()
        names |= {each: getattr(module, each) for each in simple if hasattr(module, each)}
    if name in _GUARDED:
        names |= _GUARDED[name]()
    return Given(f"module {name}", names)


def _of_time() -> dict[str, Value]:
    def sleep(seconds: float) -> None:
        # In short parts: an interrupt waits for the end of the one at hand.
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    return {"sleep": sleep}


#: Functions that neither allocate by their arguments nor run through what is given, and
#: classes and constants.
_SIMPLE: Final[Mapping[str, str]] = {
    "math": """
        acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh degrees e erf
        erfc exp exp2 expm1 fabs floor fmod frexp gamma hypot inf isclose isfinite isinf
        isnan isqrt ldexp lgamma log log10 log1p log2 modf nan nextafter pi pow radians
        remainder sin sinh sqrt tan tanh tau trunc ulp
    """,
    "cmath": """
        acos acosh asin asinh atan atanh cos cosh e exp inf infj isclose isfinite isinf
        isnan log log10 nan nanj phase pi polar rect sin sinh sqrt tan tanh tau
    """,
    "time": """
        asctime ctime gmtime localtime mktime monotonic perf_counter strftime strptime
        time
    """,
    "datetime": "MAXYEAR MINYEAR UTC date datetime time timedelta timezone tzinfo",
    "json": "JSONDecodeError",
    "statistics": "NormalDist StatisticsError",
    "operator": "abs floordiv invert is_ is_not neg not_ pos truediv truth",
    "string": """
        ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits
        octdigits printable punctuation whitespace
    """,
    "decimal": """
        DecimalException DivisionByZero InvalidOperation ROUND_CEILING ROUND_DOWN
        ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP
    """,
    "re": "ASCII DOTALL I IGNORECASE M MULTILINE S VERBOSE X A error escape",
    "textwrap": "dedent",
    "calendar": """
        day_abbr day_name isleap leapdays month_abbr month_name monthrange timegm weekday
    """,
    "html": "escape unescape",
    "unicodedata": "category combining name numeric",
    "base64": "b64decode b64encode urlsafe_b64decode urlsafe_b64encode",
    "uuid": "NAMESPACE_DNS NAMESPACE_URL UUID uuid4 uuid5",
    "zlib": "adler32 crc32",
}

#: What gives the names that have something else in their place.
_GUARDED: Final[Mapping[str, Callable[[], dict[str, Value]]]] = {
    "bisect": containers.of_bisect,
    "collections": containers.of_collections,
    "copy": containers.of_copy,
    "decimal": numeric.of_decimal,
    "fractions": numeric.of_fractions,
    "functools": functions.of_functools,
    "hashlib": texts.of_hashlib,
    "heapq": heaps.offered,
    "itertools": iterators.of_itertools,
    "json": texts.of_json,
    "math": numeric.of_math,
    "operator": functions.of_operator,
    "random": numeric.of_random,
    "re": patterns.offered,
    "statistics": numeric.of_statistics,
    "textwrap": texts.of_textwrap,
    "time": _of_time,
    "typing": containers.of_typing,
    "unicodedata": texts.of_unicodedata,
}
