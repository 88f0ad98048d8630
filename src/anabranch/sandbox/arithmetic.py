"""Operations that could make a value without end, if their operands are not looked at."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import re
from collections.abc import Callable
from typing import Any, Final, cast

from anabranch.sandbox.frames.cells import largest, objects_in
from anabranch.sandbox.light import light
from anabranch.sandbox.objects import (
    MAX_BITS,
    MAX_ITEMS,
    deque,
    is_foreign,
    refuse,
    too_large,
)
from anabranch.sandbox.running import more

# Values in and out of here can be of any type: that is what guards are for.
Value = Any


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
    other = largest(other) if is_foreign(type(other)) else other
    length = 0
    for cell in objects_in(table):
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
    a += more(b)
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
        light(b)
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
        if max(number_in(width), number_in(precision)) > MAX_WIDTH:
            too_large("this format", MAX_WIDTH, "characters")
    return len(found)


def number_in(digits: str) -> int:
    return int(digits) if digits and len(digits) < 20 else (10**20 if digits else 0)
