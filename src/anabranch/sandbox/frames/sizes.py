"""Functions of numpy that make as much as their numbers say."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from anabranch.sandbox.arithmetic import is_over
from anabranch.sandbox.frames.arguments import judged, numbers_in
from anabranch.sandbox.frames.cells import cells_of
from anabranch.sandbox.objects import MAX_ITEMS, too_large

__all__ = ["SIZED", "by_chance"]

Value = Any

#: At which place functions of chance are told how many numbers to make; of the others, all
#: numbers are lengths.
_SIZE_AT: Final[Mapping[str, int]] = {
    **dict.fromkeys(("choice", "exponential", "geometric", "poisson"), 1),
    **dict.fromkeys(("beta", "binomial", "gamma", "integers", "lognormal"), 2),
    **dict.fromkeys(("normal", "randint", "uniform"), 2),
    **dict.fromkeys(("permuted", "seed", "shuffle", "triangular"), 3),
}


def _judge_lengths(name: str, lengths: Iterable[Value]) -> None:
    """Stops the code if the product of all lengths is too many items."""
    if math.prod(max(1, number) for number in numbers_in(lengths)) > MAX_ITEMS:
        too_large(f"{name}()", MAX_ITEMS, "items")


def by_chance(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """Functions of chance, which make as many numbers as they are told."""
    lengths = [*args[_SIZE_AT.get(name, 0) :], named.get("size")]
    _judge_lengths(name, lengths)
    return judged(name, function, *args, **named)


def _made(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """Functions whose numbers are lengths: their product is what is made."""
    lengths = [named.get(key) for key in ("shape", "N", "M", "n", "dimensions")]
    lengths += args[:1] if name == "full" else args
    _judge_lengths(name, lengths)
    return judged(name, function, *args, **named)


def _alike(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    lengths = [*args[4 if name == "full_like" else 3 :], named.get("shape")]
    _judge_lengths(name, lengths)
    return judged(name, function, *args, **named)


def _counted(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """``bincount``, which makes as many items as the largest number says."""
    values = [*(cells_of(args[0]) if args else ()), *args[2:], named.get("minlength")]
    if any(is_over(value, MAX_ITEMS) for value in values):
        too_large(f"{name}()", MAX_ITEMS, "items")
    return judged(name, function, *args, **named)


def _squared(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """Functions that make of a row as many rows as it is long."""
    for value in args[:1]:
        length = len(value) if hasattr(type(value), "__len__") else 0
        if length * length > MAX_ITEMS and getattr(value, "ndim", 1) == 1:
            too_large(f"{name}()", MAX_ITEMS, "items")
    return judged(name, function, *args, **named)


def _arange(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    numbers = [
        value for value in args if isinstance(value, (int, float)) or is_over(value, 0)
    ]
    start, stop, step = (
        (0, *numbers, 1) if len(numbers) == 1 else (*numbers, 1) if len(numbers) == 2
        else numbers[:3] or (0, 0, 1)
    )  # fmt: skip
    step = named.get("step", step) or 1
    if abs((named.get("stop", stop) - named.get("start", start)) / step) > MAX_ITEMS:
        too_large("arange()", MAX_ITEMS, "items")
    return judged(name, function, *args, **named)


def _spaced(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    number = named.get("num", args[2] if len(args) > 2 else 50)
    if any(length > MAX_ITEMS for length in numbers_in([number])):
        too_large(f"{name}()", MAX_ITEMS, "items")
    return judged(name, function, *args, **named)


def _fitted(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    degree = named.get("deg", args[2] if len(args) > 2 else 0)
    if not isinstance(degree, int) or degree > 50:
        too_large("polyfit()", 50, "degrees")
    return judged(name, function, *args, **named)


def _repeated(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    length = len(args[0]) if args and hasattr(args[0], "__len__") else 1
    rest = [*args[1:], *(value for key, value in named.items() if key != "axis")]
    times = math.prod(max(1, number) for number in numbers_in(rest))
    if length * times > MAX_ITEMS:
        too_large(f"{name}()", MAX_ITEMS, "items")
    return judged(name, function, *args, **named)


def _crossing(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    lengths = [int(getattr(value, "size", 0) or len(value)) for value in args
               if hasattr(value, "__len__")]  # fmt: skip
    _judge_lengths(name, lengths)
    return judged(name, function, *args, **named)


#: By name of the function: one of that name, the function and the arguments.
SIZED: Final[Mapping[str, Callable[..., Value]]] = {
    **dict.fromkeys(("zeros", "ones", "full", "eye", "identity", "tri", "indices"), _made),
    **dict.fromkeys(("linspace", "logspace", "geomspace"), _spaced),
    **dict.fromkeys(("tile", "repeat", "broadcast_to"), _repeated),
    **dict.fromkeys(("outer", "kron", "meshgrid", "convolve"), _crossing),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like"), _alike),
    "arange": _arange,
    "bincount": _counted,
    "diag": _squared,
    "polyfit": _fitted,
}
