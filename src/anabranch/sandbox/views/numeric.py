"""Numbers for contained code: of ``math``, ``decimal``, ``statistics`` and the like."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import math
import random
import re
from collections.abc import Callable
from typing import Any, Final

from anabranch.sandbox.light import compared
from anabranch.sandbox.objects import MAX_BITS, Offered, too_large
from anabranch.sandbox.running import consumed

__all__ = [
    "limited_decimals",
    "of_decimal",
    "of_fractions",
    "of_math",
    "of_random",
    "of_statistics",
    "own_chance",
]

Value = Any

_EXPONENT: Final = 5_000
_CHANCE: Final = """
    betavariate choice choices expovariate gauss lognormvariate normalvariate
    paretovariate randint random randrange sample seed shuffle triangular uniform
""".split()


def _bounded(limit: int, what: str, function: Callable[..., Value]) -> Callable[..., Value]:
    def called(*numbers: Value) -> Value:
        if any(hasattr(type(n), "__index__") and abs(n) > limit for n in numbers):
            too_large(what, limit, "as an argument")
        return function(*numbers)

    return called


def of_math() -> dict[str, Value]:
    """What the view of ``math`` has in place of its own."""
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


def of_statistics() -> dict[str, Value]:
    """What the view of ``statistics`` has in place of its own."""
    import statistics

    names = """
        fmean geometric_mean harmonic_mean mean median median_grouped median_high
        median_low mode multimode pstdev pvariance quantiles stdev variance
    """.split()
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


def of_decimal() -> dict[str, Value]:
    """What the view of ``decimal`` has in place of its own."""
    from decimal import Decimal

    def made(value: Value = "0") -> Value:
        number = Decimal(value)
        if number.is_finite() and abs(number.adjusted()) > _EXPONENT:
            too_large("this Decimal", _EXPONENT, "digits")
        return number

    return {"Decimal": Offered(Decimal, made, {"from_float": Decimal.from_float})}


def of_fractions() -> dict[str, Value]:
    """What the view of ``fractions`` has in place of its own."""
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


def own_chance() -> dict[str, Value]:
    """The functions of ``random``, of a source of chance that nobody else has."""
    own = random.Random()
    return {name: getattr(own, name) for name in _CHANCE}


def of_random() -> dict[str, Value]:
    """What the view of ``random`` has for all."""
    return {"Random": Offered(random.Random, random.Random, {})}
