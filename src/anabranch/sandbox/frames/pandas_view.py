"""The view of pandas."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from anabranch.sandbox.frames.arguments import judged, numbers_in
from anabranch.sandbox.frames.methods import judge_function
from anabranch.sandbox.frames.names import PANDAS
from anabranch.sandbox.objects import MAX_ITEMS, Given, Offered, too_large
from anabranch.sandbox.running import consumed, sliced

__all__ = ["pandas_view"]

Value = Any


@functools.cache
def pandas_view() -> Given:
    """The view of pandas: the same for all."""
    import pandas as pd

    names: dict[str, Value] = {}
    for name in PANDAS:
        found = getattr(pd, name, None)
        if isinstance(found, type):
            names[name] = Offered(found, partial(judged, name, found), _makers(found))
        elif name == "IndexSlice":
            names[name] = _Slices()
        elif callable(found) and name not in ("NA", "NaT"):
            names[name] = partial(judged, name, found)
        elif found is not None:
            names[name] = found
    ranged = names["RangeIndex"]
    names["RangeIndex"] = Offered(pd.RangeIndex, partial(_indexed, ranged), {})
    for name in ("pivot_table", "crosstab"):
        names[name] = partial(_module_pivot, names[name])
    for name in ("date_range", "bdate_range", "period_range", "timedelta_range",
                 "interval_range"):  # fmt: skip
        names[name] = partial(_ranged, names[name])
    return Given("module pandas", names)


class _Slices:
    """``pandas.IndexSlice``, whose slices hold no slices."""

    __slots__ = ()

    def __getitem__(self, item: Value) -> Value:
        parts = item if isinstance(item, tuple) else (item,)
        for part in parts:
            if type(part) is slice:
                sliced(part.start, part.stop, part.step)
        return item


def _indexed(function: Callable[..., Value], /, *args: Value, **named: Value) -> Value:
    for arg in (*args, *named.values()):
        if isinstance(arg, range):
            consumed(arg)
    if any(number > MAX_ITEMS for number in numbers_in([*args, *named.values()])):
        too_large("RangeIndex()", MAX_ITEMS, "items")
    return function(*args, **named)


def _makers(cls: type) -> dict[str, Value]:
    names = ("from_dict", "from_records", "from_tuples", "from_arrays", "from_product",
             "from_frame", "from_breaks", "now", "today", "fromtimestamp", "fromisoformat",
             "max", "min", "strptime", "combine", "from_codes")  # fmt: skip
    return {
        name: partial(judged, name, getattr(cls, name))
        for name in names
        if hasattr(cls, name)
    }


def _module_pivot(function: Callable[..., Value], /, *args: Value, **named: Value) -> Value:
    judge_function(named.get("aggfunc"))
    for value in args[3:]:
        if isinstance(value, (str, list, dict)):
            judge_function(value)
    return function(*args, **named)


def _ranged(function: Callable[..., Value], /, *args: Value, **named: Value) -> Value:
    import pandas as pd
    from pandas.tseries.frequencies import to_offset

    periods = named.get("periods", args[2] if len(args) > 2 else None)
    if any(number > MAX_ITEMS for number in numbers_in([periods])):
        too_large("this range", MAX_ITEMS, "items")
    start, end = (
        named.get("start", args[0] if args else None),
        named.get("end", args[1] if len(args) > 1 else None),
    )
    freq = named.get("freq", args[3] if len(args) > 3 else None)
    if start is not None and end is not None and periods is None and isinstance(freq, str):
        try:
            step = pd.Timedelta(cast(Any, to_offset(freq)))
            count = (pd.Timestamp(end) - pd.Timestamp(start)) / step
        except (ValueError, TypeError):
            count = 0  # a step of days and more: at most some hundred thousand
        if count > MAX_ITEMS:
            too_large("this range", MAX_ITEMS, "items")
    return function(*args, **named)
