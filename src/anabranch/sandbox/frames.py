"""numpy and pandas as contained code sees them: listed names, and guards on some of them.

Where a method takes the name of a method as text, the name must be that of a statistic;
where it takes an expression as text, that is judged like a source, by a smaller grammar.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import ast
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sized
from functools import partial
from types import FunctionType
from typing import Any, Final, cast

from anabranch.sandbox.arithmetic import is_over, may_format, may_multiply
from anabranch.sandbox.attributes import is_known
from anabranch.sandbox.frame_names import (
    KINDS,
    NUMPY,
    NUMPY_LINALG,
    NUMPY_RANDOM,
    PANDAS,
)
from anabranch.sandbox.light import light
from anabranch.sandbox.names import is_private
from anabranch.sandbox.objects import MAX_ITEMS, Given, Offered, class_of, refuse, too_large
from anabranch.sandbox.running import consumed, sliced

__all__ = ["LIBRARIES", "attribute", "largest", "objects_in", "view_of"]

Value = Any

#: What there are views of here.
LIBRARIES: Final = frozenset({"numpy", "pandas"})


def attribute(value: Value, name: str) -> Value:
    """``value.name`` of an object of numpy or pandas, if it is in the lists."""
    kind = _kind_of(value)
    names = KINDS.get(kind, frozenset())
    if name in names:
        guard = _GUARDED.get(name)
        found = getattr(value, name)
        if kind == "Generator":
            return partial(_by_chance, name, found)
        if guard is not None and callable(found):
            return partial(guard, value, found)
        return (
            partial(_judged, name, found)
            if callable(found) and not _is_accessor(found)
            else light(found)
            if name == "values"
            else found
        )
    if kind in ("DataFrame", "Series", "GroupBy", "Row") and _is_label(value, name, kind):
        return value[name] if kind != "Row" else getattr(value, name)
    if not is_known(type(value), name):
        raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")
    return refuse(
        f"the attribute {name!r} of a {type(value).__name__}", "it is not offered"
    )


def objects_in(table: Value) -> list[Value]:
    """What an array or table holds that is no number of a machine: texts, big integers."""
    kinds = getattr(table, "dtypes", None)
    kinds = [getattr(table, "dtype", None)] if kinds is None else kinds
    kinds = (
        kinds if isinstance(kinds, list) else list(kinds) if _is_many(kinds) else [kinds]
    )
    if all(getattr(kind, "kind", "O") not in "OUS" for kind in kinds):
        return []
    return _cells(table)


def held_by(table: Value) -> list[Value]:
    """The objects in an array or table; nothing of a column of numbers or of texts."""
    import numpy as np

    if _kind_of(table) == "DataFrame":
        places = [at for at, kind in enumerate(table.dtypes) if _is_of_objects(kind)]
        columns = [table.iloc[:, at] for at in places]
    else:
        columns = [table] if _is_of_objects(getattr(table, "dtype", None)) else []
    cells: list[Value] = []
    for column in columns:
        cells += np.asarray(column, dtype=object).ravel().tolist()
    for cell in cells:
        if type(cell) is np.ndarray and _is_of_objects(cell.dtype):
            # A chain of them would overflow the interpreter's stack when it is freed.
            refuse("an array of arrays of objects", "put lists into it")
    return cells


def _is_of_objects(kind: Value) -> bool:
    return getattr(kind, "str", None) == "|O"


def largest(table: Value) -> Value:
    """The largest integer in an array or table; 0 if there is none."""
    return max((abs(n) for n in _cells(table) if isinstance(n, int)), default=0)


def _cells(table: Value) -> list[Value]:
    import numpy as np

    cells: list[Value] = np.asarray(table, dtype=object).ravel().tolist()
    return cells


def _is_many(kinds: Value) -> bool:
    return hasattr(type(kinds), "__len__") and not hasattr(kinds, "kind")


def _kind_of(value: Value) -> str:
    cls = type(value)
    if cls.__module__.partition(".")[0] == "pandas":
        for base in cls.__mro__:
            name = base.__name__
            if name in _BASES:
                return _BASES[name]
        return ""
    for base in cls.__mro__:
        if base.__module__.startswith("numpy"):
            if base.__name__ in ("ndarray", "generic", "dtype"):
                return "Array"
            if base.__name__ in ("iinfo", "finfo"):
                return "Limits"
        if base.__module__.startswith("numpy.random"):
            return "Generator"
    return ""


_BASES: Final = {
    "DataFrame": "DataFrame",
    "Series": "Series",
    "Index": "Index",
    "GroupBy": "GroupBy",
    "Resampler": "Window",
    "BaseWindow": "Window",
    "StringMethods": "StringMethods",
    "Properties": "Properties",
    "CategoricalAccessor": "CategoricalAccessor",
    "Timestamp": "Moment",
    "Timedelta": "Moment",
    "Period": "Moment",
    "_Period": "Moment",
    "NaTType": "Moment",
    "Interval": "Array",
    "ExtensionArray": "Array",
    "ExtensionDtype": "Array",
    "Pandas": "Row",
}


def _is_accessor(found: Value) -> bool:
    # Indexers can be called, to choose an axis, and are asked for items.
    return type(found).__module__.startswith("pandas.core.index") or isinstance(found, type)


def _is_label(value: Value, name: str, kind: str) -> bool:
    if kind == "Row":
        return name in getattr(type(value), "_fields", ())
    labels = value.obj.columns if kind == "GroupBy" and hasattr(value.obj, "columns") else (
        value.columns if kind == "DataFrame" else getattr(value, "index", ())
    )  # fmt: skip
    try:
        return bool(name in labels)
    except TypeError:
        return False


# ------------------------------------------------------------------------------ arguments

_FORBIDDEN: Final = frozenset(
    "backend buf compression doublequote encoding engine engine_kwargs global_dict into"
    " like lines local_dict mode out parser path path_or_buf resolvers storage_options"
    " target".split()
)
#: Arguments that are patterns, whatever the method.
_PATTERNS: Final = ("regex", "suffix")
_WIDE: Final = re.compile(r"^[<>=|]?[SUVa]\d{4,}$")


def _arguments(name: str, args: tuple[Value, ...], named: Mapping[str, Value]) -> None:
    for key in named:
        if key in _FORBIDDEN or is_private(key):
            refuse(f"the argument {key!r} of {name}", "it is not offered")
        if key in _PATTERNS:
            for pattern in _flat([named[key]], depth=0):
                if isinstance(pattern, str):
                    _judge_pattern(pattern, (), 0)
    light(args)
    light(named)
    for value in _flat([*args, *named.values()], depth=0):
        if isinstance(value, str) and _WIDE.match(value):
            too_large(name, 999, "characters an item")
        if isinstance(value, range):
            consumed(value)


def _flat(values: Value, *, depth: int) -> Iterator[Value]:
    for value in values:
        if isinstance(value, (list, tuple)) and depth < 2 and len(value) < 100:
            yield from _flat(value, depth=depth + 1)
        elif isinstance(value, dict) and depth < 2 and len(value) < 100:
            yield from _flat(value.values(), depth=depth + 1)
        else:
            yield value


def _plain(value: Value) -> Value:
    if isinstance(value, (list, tuple)) and len(value) < 100:
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    if type(value) is dict and len(value) < 100:
        return {key: _plain(item) for key, item in value.items()}
    return _weighed(value) if type(value) is FunctionType else class_of(value)


def _weighed(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function of the code's whose values pandas may hash and compare."""

    @functools.wraps(function)
    def called(*args: Value, **named: Value) -> Value:
        return light(function(*args, **named))

    return called


def _judged(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    _arguments(name, args, named)
    found = function(
        *map(_plain, args), **{key: _plain(item) for key, item in named.items()}
    )
    return light(found) if _is_of_objects(getattr(found, "dtype", None)) else found


# -------------------------------------------------------------------- guarded methods

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
        _judge_function(function)
    if any(isinstance(function, str) for function in functions):
        for key in named:
            if key not in ("func", "axis", "function", "arg") and name not in (
                "agg",
                "aggregate",
            ):
                refuse(f"the argument {key!r} of {name} by name", "call the method itself")
    return _judged(name, method, *args, **named)


def _judge_function(function: Value) -> None:
    if isinstance(function, str):
        if function not in _BY_NAME:
            refuse(f"the method {function!r} by name", "only statistics are called by name")
    elif isinstance(function, (list, tuple, set)):
        for each in function:
            _judge_function(each)
    elif isinstance(function, dict):
        for each in function.values():
            _judge_function(each)


def _named_aggregate(_self: Value, method: Callable[..., Value], /, *args: Value,
                     **named: Value) -> Value:  # fmt: skip
    # Named aggregation gives pairs of a column, whose name is free, and a function.
    for value in named.values():
        if isinstance(value, tuple) and len(value) == 2:
            _judge_function(value[1])
        elif not isinstance(value, (int, bool, type(None))):
            _judge_function(value)
    for value in args:
        _judge_function(value)
    return _judged(getattr(method, "__name__", "agg"), method, *args, **named)


def _pivot(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    _judge_function(named.get("aggfunc"))
    if len(args) > 3:
        _judge_function(args[3])
    return _judged("pivot_table", method, *args, **named)


def _text_only(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    name = method.__name__
    if args:
        refuse(f"{name}() with a place to write to", f"{name}() without one gives the text")
    return _judged(name, method, **named)


def _to_dict(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    if len(args) > 1:
        refuse("to_dict() into a class", "only `orient` is offered")
    return _judged("to_dict", method, *args, **named)


def _expression(
    self: Value, method: Callable[..., Value], /, expr: Value, **named: Value
) -> Value:
    if set(named) - {"inplace"}:
        refuse(f"these arguments of {method.__name__}()", "only an expression is offered")
    largest_named = _judge_expression(expr)
    for cell in objects_in(self):
        # Each is multiplied, or is a format, as in Python.
        may_multiply(cell, largest_named)
        may_format(cell, largest_named)
    return method(expr, **named)


_IN_EXPRESSIONS: Final = (
    *(ast.Module, ast.Expr, ast.Assign, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare),
    *(ast.Name, ast.Constant, ast.List, ast.Tuple, ast.expr_context, ast.boolop),
    *(ast.unaryop, ast.cmpop, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.BitAnd, ast.BitOr, ast.BitXor, ast.Pow),
)


def _judge_expression(text: Value) -> int:
    """The largest integer in an expression, if there is nothing in it but arithmetic."""
    if type(text) is not str or len(text) > 2_000:
        refuse("this expression", "pandas takes a short text here")
    quoted = re.sub(r"`[^`]*`", "quoted", text)
    if "@" in quoted:
        refuse("`@` in an expression", "it reads variables; write the value in an f-string")
    try:
        tree = ast.parse(quoted.strip(), "<expression>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        refuse(f"the expression {text[:100]!r}", "it cannot be read")
    for node in ast.walk(tree):
        if not isinstance(node, _IN_EXPRESSIONS):
            refuse(
                f"{type(node).__name__} in an expression", "columns, values, comparisons"
            )
        if isinstance(node, ast.Name) and (
            node.id.startswith("_") or node.id.startswith("@")
        ):
            refuse(f"the name {node.id!r} in an expression", "it is not a column's")
        if isinstance(node, ast.Pow):
            refuse("`**` in an expression", "multiply, or compute it before")
        if isinstance(node, ast.BinOp) and any(map(_is_text, ast.walk(node))):
            refuse("arithmetic with a text in an expression", "compute it before")
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return max((abs(n) for n in numbers if isinstance(n, int)), default=0)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))


def _times(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    # An accessor of texts tells their lengths, which are what is repeated.
    size = int(self.len().sum()) if hasattr(self, "len") else getattr(self, "size", 0)
    for number in _numbers([*args, *named.values()]):
        if number * max(1, int(size or 0)) > MAX_ITEMS:
            too_large(f"{method.__name__}()", MAX_ITEMS, "items")
    return _judged(method.__name__, method, *args, **named)


def _numbers(values: Value) -> Iterator[int]:
    """The sizes of all integers in arguments, also in small arrays."""
    for value in _flat(values, depth=0):
        kind = type(value)
        is_whole = hasattr(kind, "__index__") and not hasattr(kind, "__len__")
        if is_whole or (isinstance(value, float) and math.isfinite(value)):
            yield abs(int(value))
        elif hasattr(value, "dtype") and getattr(value, "size", 0) < 100:
            yield from (abs(n) for n in _cells(value) if isinstance(n, int))


def _width(
    _self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    if any(is_over(number, 10_000) for number in [*args, *named.values()]):
        too_large(f"str.{method.__name__}()", 10_000, "characters")
    return _judged(method.__name__, method, *args, **named)


def _crossed(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    other = args[0] if args else named.get("right")
    how = named.get("how", args[1] if len(args) > 1 else None)
    if how == "cross" and isinstance(other, Sized) and len(self) * len(other) > MAX_ITEMS:
        too_large("merge()", MAX_ITEMS, "rows")
    return _judged(method.__name__, method, *args, **named)


def _pattern(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """What takes a pattern: judged, and against how much text it is matched."""
    name = method.__name__
    is_text = type(self).__name__ == "StringMethods"
    if named.get("regex", is_text) is not False:
        flags = named.get("flags", 0)
        taken = args if name == "replace" and not is_text else args[:1]
        others = [named.get(key) for key in ("pat", "to_replace", "regex")]
        texts = self._orig if is_text else self  # it tells in no other way
        for pattern in _texts([*taken, *others]):
            _judge_pattern(pattern, texts, int(flags) if isinstance(flags, int) else 0)
    return _judged(name, method, *args, **named)


def _texts(value: Value, depth: int = 4) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and depth:
        yield from _texts([*value.keys(), *value.values()], depth - 1)
    elif isinstance(value, (list, tuple)) and depth:
        for item in value:
            yield from _texts(item, depth - 1)


def _judge_pattern(pattern: str, texts: Value, flags: int) -> None:
    from anabranch.sandbox import patterns

    try:
        judged = patterns.judged(pattern, flags)
    except (re.error, OverflowError):
        return  # a plain text, or an error that pandas tells
    for text in _cells(texts):
        if isinstance(text, str):
            judged.check(text, starts=len(text) + 1)


def _filter(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    for pattern in (named.get("regex"), args[2] if len(args) > 2 else None):
        if isinstance(pattern, str):
            for axis in getattr(self, "axes", ()):
                _judge_pattern(pattern, axis.to_numpy(), 0)
    return _judged("filter", method, *args, **named)


_GUARDED: Final[Mapping[str, Callable[..., Value]]] = {
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
    "query": _expression,
    "eval": _expression,
    "repeat": _times,
    "center": _width,
    "ljust": _width,
    "rjust": _width,
    "pad": _width,
    "zfill": _width,
    "merge": _crossed,
    "contains": _pattern,
    "extract": _pattern,
    "extractall": _pattern,
    "findall": _pattern,
    "fullmatch": _pattern,
    "match": _pattern,
    "count": _pattern,
    "filter": _filter,
    "replace": _pattern,
    "rsplit": _pattern,
    "split": _pattern,
}

# ---------------------------------------------------------------------------- modules


def view_of(name: str) -> Given:
    """The view of numpy or pandas."""
    match name:
        case "pandas":
            return _view_of_pandas()
        case "numpy":
            return Given("module numpy", _Numpy(_names_of_numpy()))
        case _:
            return Given(f"module {name}", {})


@functools.cache
def _view_of_pandas() -> Given:
    import pandas as pd

    names: dict[str, Value] = {}
    for name in PANDAS:
        found = getattr(pd, name, None)
        if isinstance(found, type):
            names[name] = Offered(found, partial(_judged, name, found), _makers(found))
        elif name == "IndexSlice":
            names[name] = _Slices()
        elif callable(found) and name not in ("NA", "NaT"):
            names[name] = partial(_judged, name, found)
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
    if any(number > MAX_ITEMS for number in _numbers([*args, *named.values()])):
        too_large("RangeIndex()", MAX_ITEMS, "items")
    return function(*args, **named)


def _makers(cls: type) -> dict[str, Value]:
    names = ("from_dict", "from_records", "from_tuples", "from_arrays", "from_product",
             "from_frame", "from_breaks", "now", "today", "fromtimestamp", "fromisoformat",
             "max", "min", "strptime", "combine", "from_codes")  # fmt: skip
    return {
        name: partial(_judged, name, getattr(cls, name))
        for name in names
        if hasattr(cls, name)
    }


def _module_pivot(function: Callable[..., Value], /, *args: Value, **named: Value) -> Value:
    _judge_function(named.get("aggfunc"))
    for value in args[3:]:
        if isinstance(value, (str, list, dict)):
            _judge_function(value)
    return function(*args, **named)


def _ranged(function: Callable[..., Value], /, *args: Value, **named: Value) -> Value:
    import pandas as pd
    from pandas.tseries.frequencies import to_offset

    periods = named.get("periods", args[2] if len(args) > 2 else None)
    if any(number > MAX_ITEMS for number in _numbers([periods])):
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


@functools.cache
def _names_of_numpy() -> dict[str, Value]:
    import numpy as np

    names: dict[str, Value] = {}
    for name in NUMPY:
        found = getattr(np, name, None)
        if found is None and name != "newaxis":
            continue
        if name == "vectorize":
            names[name] = _vectorized
        elif isinstance(found, type) or not callable(found):
            names[name] = found
        else:
            names[name] = partial(_sized.get(name, _judged), name, found)
    names["linalg"] = Given(
        "module numpy.linalg",
        {
            name: partial(_judged, name, getattr(np.linalg, name))
            for name in NUMPY_LINALG
            if hasattr(np.linalg, name)
        },
    )
    return names


def _vectorized(function: Callable[..., Value], **named: Value) -> Callable[..., Value]:
    import numpy as np

    return partial(_judged, "vectorize", np.vectorize(class_of(function), **named))


class _Numpy(dict[str, Value]):
    """The names of numpy; its source of chance is made when it is asked for.

    Seeding it changes nothing for the next run.
    """

    def __missing__(self, name: str) -> Value:
        if name != "random":
            raise KeyError(name)
        import numpy as np

        own = np.random.RandomState()
        names = {
            each: partial(_by_chance, each, getattr(own, each))
            for each in NUMPY_RANDOM
            if hasattr(own, each)
        }
        names["default_rng"] = partial(_judged, "default_rng", np.random.default_rng)
        self[name] = Given("module numpy.random", names)
        return self[name]


#: At which place functions of chance are told how many numbers to make; of the others, all
#: numbers are lengths.
_SIZE_AT: Final[Mapping[str, int]] = {
    **dict.fromkeys(("choice", "exponential", "geometric", "poisson"), 1),
    **dict.fromkeys(("beta", "binomial", "gamma", "integers", "lognormal"), 2),
    **dict.fromkeys(("normal", "randint", "uniform"), 2),
    **dict.fromkeys(("permuted", "seed", "shuffle", "triangular"), 3),
}


def _by_chance(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    lengths = [*args[_SIZE_AT.get(name, 0) :], named.get("size")]
    if math.prod(max(1, number) for number in _numbers(lengths)) > MAX_ITEMS:
        too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


def _made(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """Functions whose numbers are lengths: their product is what is made."""
    lengths = [named.get(key) for key in ("shape", "N", "M", "n", "dimensions")]
    lengths += args[:1] if name == "full" else args
    if math.prod(max(1, number) for number in _numbers(lengths)) > MAX_ITEMS:
        too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


def _alike(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    lengths = [*args[4 if name == "full_like" else 3 :], named.get("shape")]
    if math.prod(max(1, number) for number in _numbers(lengths)) > MAX_ITEMS:
        too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


def _counted(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """``bincount``, which makes as many items as the largest number says."""
    values = [*(_cells(args[0]) if args else ()), *args[2:], named.get("minlength")]
    if any(is_over(value, MAX_ITEMS) for value in values):
        too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


def _squared(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """Functions that make of a row as many rows as it is long."""
    for value in args[:1]:
        length = len(value) if hasattr(type(value), "__len__") else 0
        if length * length > MAX_ITEMS and getattr(value, "ndim", 1) == 1:
            too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


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
    return _judged(name, function, *args, **named)


def _spaced(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    number = named.get("num", args[2] if len(args) > 2 else 50)
    if any(length > MAX_ITEMS for length in _numbers([number])):
        too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


def _fitted(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    degree = named.get("deg", args[2] if len(args) > 2 else 0)
    if not isinstance(degree, int) or degree > 50:
        too_large("polyfit()", 50, "degrees")
    return _judged(name, function, *args, **named)


def _repeated(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    length = len(args[0]) if args and hasattr(args[0], "__len__") else 1
    rest = [*args[1:], *(value for key, value in named.items() if key != "axis")]
    times = math.prod(max(1, number) for number in _numbers(rest))
    if length * times > MAX_ITEMS:
        too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


def _crossing(
    name: str, function: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    lengths = [int(getattr(value, "size", 0) or len(value)) for value in args
               if hasattr(value, "__len__")]  # fmt: skip
    if math.prod(max(1, length) for length in lengths) > MAX_ITEMS:
        too_large(f"{name}()", MAX_ITEMS, "items")
    return _judged(name, function, *args, **named)


_sized: Final[Mapping[str, Callable[..., Value]]] = {
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
