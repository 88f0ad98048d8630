"""What can be refused at the call is refused at the call."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from inspect import iscoroutine
from math import isfinite
from operator import index
from typing import Any, SupportsIndex, cast

from anabranch.errors import UsageError


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Refuse whatever is not an integer of at least ``least``.

    Raises:
        UsageError: A :class:`ValueError` that names the argument and the value.
    """
    is_whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not is_whole or index(cast("SupportsIndex", value)) < least:
        raise UsageError(f"{name} must be an integer of at least {least}, not {value!r}")


def check_errors(value: object) -> None:
    """Refuse an error policy that does not exist."""
    if value not in ("raise", "return", "skip"):
        raise UsageError(f"errors must be 'raise', 'return' or 'skip', not {value!r}")


def check_items(value: object) -> None:
    """Refuse what cannot be iterated.

    Raises:
        TypeError: As from any other function over items.
    """
    if not isinstance(value, Iterable | AsyncIterable):
        raise TypeError(
            f"items must be an iterable or async iterable, not {type(value).__name__}"
        )


def check_call(fn: object, items: object, executor: object) -> None:
    """Refuse what cannot be called, most likely since it was called already, and items.

    Raises:
        TypeError: As from any other function over items.
    """
    if isinstance(fn, str):
        if not hasattr(executor, "executor_for"):
            raise TypeError(
                "fn is source text, which only an executor for that runs: give "
                "executor=anabranch.sandbox.Sandbox(), or pass a function"
            )
    elif not callable(fn):
        if iscoroutine(fn):
            fn.close()
        raise TypeError(
            f"fn must be a function that is given an item, not {type(fn).__name__}: pass "
            "the function itself and not what it returns"
        )
    check_items(items)


def number_of(
    name: str, value: Callable[[Any], float] | float | None, least: float = float("-inf")
) -> Callable[[Any], float]:
    """The function of an item that an option stands for, which gives finite numbers."""
    if not callable(value):
        given = checked_number(name, 0.0 if value is None else value, least)
        return lambda _: given
    return lambda item: checked_number(name, value(item), least)


def checked_number(name: str, value: object, least: float = float("-inf")) -> float:
    """``value``, if it is a finite number of at least ``least``.

    Raises:
        UsageError: It names the option and the value.
    """
    try:
        if not isinstance(value, str) and isfinite(number := cast("float", value)):
            if number >= least:
                return float(number)
            raise UsageError(f"{name} must be at least {least:g}, not {number!r}")
    except TypeError:
        pass
    if iscoroutine(value):
        value.close()
        raise UsageError(f"{name} must be a synchronous function, not an async one")
    raise UsageError(f"{name} must be a finite number, or give one, not {value!r}")


def check_positive(name: str, value: object) -> None:
    """Refuse whatever is not a finite number above zero."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value < float("inf")
    ):
        raise UsageError(f"{name} must be a finite number above 0, not {value!r}")
