"""Methods with a guard of their own, by name.

Where one takes the name of a method as text, that must be the name of a statistic.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
from collections.abc import Callable, Mapping, Sized
from typing import Any, Final

from anabranch.sandbox.arithmetic import is_over
from anabranch.sandbox.frames.arguments import judged, numbers_in
from anabranch.sandbox.frames.expressions import expression
from anabranch.sandbox.frames.matching import filtered, matching
from anabranch.sandbox.frames.names import KINDS
from anabranch.sandbox.objects import MAX_ITEMS, refuse, too_large

__all__ = ["GUARDED", "judge_function"]

Value = Any

#: Methods that may be named by text where a function is expected.
_BY_NAME: Final = (
    KINDS["GroupBy"]
    - frozenset(
        "agg aggregate apply ewm expanding filter get_group groups indices pipe resample"
        " rolling transform".split()
    )
) | frozenset(
    "argmax argmin ceil count exp first floor isna join last list log lower max mean median"
    " min negative notna nunique round sign sqrt square sum upper".split()
)


def _by_name(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    name = getattr(method, "__name__", "this method")
    functions = [*args[:1], named.get("func"), named.get("function"), named.get("arg")]
    if name in ("agg", "aggregate"):
        functions += [*args[1:], *named.values()]
    for function in functions:
        judge_function(function)
    if any(isinstance(function, str) for function in functions):
        for key in named:
            if key not in ("func", "axis", "function", "arg") and name not in (
                "agg",
                "aggregate",
            ):
                refuse(f"the argument {key!r} of {name} by name", "call the method itself")
    return judged(name, method, *args, **named)


def judge_function(function: Value) -> None:
    """Stops the code if a function is named by text, and is no statistic."""
    if isinstance(function, str):
        if function not in _BY_NAME:
            refuse(f"the method {function!r} by name", "only statistics are called by name")
    elif isinstance(function, (list, tuple, set)):
        for each in function:
            judge_function(each)
    elif isinstance(function, dict):
        for each in function.values():
            judge_function(each)


def _named_aggregate(_self: Value, method: Callable[..., Value], /, *args: Value,
                     **named: Value) -> Value:  # fmt: skip
    # Named aggregation gives pairs of a column, whose name is free, and a function.
    for value in named.values():
        if isinstance(value, tuple) and len(value) == 2:
            judge_function(value[1])
        elif not isinstance(value, (int, bool, type(None))):
            judge_function(value)
    for value in args:
        judge_function(value)
    return judged(getattr(method, "__name__", "agg"), method, *args, **named)


def _pivot(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    judge_function(named.get("aggfunc"))
    if len(args) > 3:
        judge_function(args[3])
    return judged("pivot_table", method, *args, **named)


def _text_only(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    name = method.__name__
    if args:
        refuse(f"{name}() with a place to write to", f"{name}() without one gives the text")
    return judged(name, method, **named)


def _to_dict(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    if len(args) > 1:
        refuse("to_dict() into a class", "only `orient` is offered")
    return judged("to_dict", method, *args, **named)


def _times(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    # An accessor of texts tells their lengths, which are what is repeated.
    size = int(self.len().sum()) if hasattr(self, "len") else getattr(self, "size", 0)
    for number in numbers_in([*args, *named.values()]):
        if number * max(1, int(size or 0)) > MAX_ITEMS:
            too_large(f"{method.__name__}()", MAX_ITEMS, "items")
    return judged(method.__name__, method, *args, **named)


def _width(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    if any(is_over(number, 10_000) for number in [*args, *named.values()]):
        too_large(f"str.{method.__name__}()", 10_000, "characters")
    return judged(method.__name__, method, *args, **named)


def _crossed(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    other = args[0] if args else named.get("right")
    how = named.get("how", args[1] if len(args) > 1 else None)
    if how == "cross" and isinstance(other, Sized) and len(self) * len(other) > MAX_ITEMS:
        too_large("merge()", MAX_ITEMS, "rows")
    return judged(method.__name__, method, *args, **named)


#: By name of the method: a function of the object, its method and the arguments.
GUARDED: Final[Mapping[str, Callable[..., Value]]] = {
    "agg": _named_aggregate,
    "aggregate": _named_aggregate,
    "apply": _by_name,
    "applymap": _by_name,
    "map": _by_name,
    "pipe": _by_name,
    "transform": _by_name,
    "combine": _by_name,
    "pivot_table": _pivot,
    "to_csv": _text_only,
    "to_html": _text_only,
    "to_json": _text_only,
    "to_latex": _text_only,
    "to_markdown": _text_only,
    "to_string": _text_only,
    "to_dict": _to_dict,
    "query": expression,
    "eval": expression,
    "repeat": _times,
    "center": _width,
    "ljust": _width,
    "rjust": _width,
    "pad": _width,
    "zfill": _width,
    "merge": _crossed,
    "contains": matching,
    "extract": matching,
    "extractall": matching,
    "findall": matching,
    "fullmatch": matching,
    "match": matching,
    "count": matching,
    "filter": filtered,
    "replace": matching,
    "rsplit": matching,
    "split": matching,
}
