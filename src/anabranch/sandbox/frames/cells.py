"""Objects of numpy and pandas: of which kind they are, and what they hold."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
from typing import Any, Final

from anabranch.sandbox.objects import refuse

__all__ = ["cells_of", "held_by", "is_of_objects", "kind_of", "largest", "objects_in"]

Value = Any


def kind_of(value: Value) -> str:
    """Which of the lists of names is that of a value; empty if none is."""
    cls = type(value)
    if cls.__module__.partition(".")[0] == "pandas":
        for base in cls.__mro__:
            name = base.__name__
            if name in _KINDS:
                return _KINDS[name]
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


_KINDS: Final = {
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


def objects_in(table: Value) -> list[Value]:
    """What an array or table holds that is no number of a machine: texts, big integers."""
    kinds: Value = getattr(table, "dtypes", None)
    if hasattr(kinds, "kind") or not hasattr(type(kinds), "__len__"):
        kinds = [getattr(table, "dtype", None)]  # there is one for all
    if all(getattr(kind, "kind", "O") not in "OUS" for kind in kinds):
        return []
    return cells_of(table)


def held_by(table: Value) -> list[Value]:
    """The objects in an array or table; nothing of a column of numbers or of texts."""
    import numpy as np

    if kind_of(table) == "DataFrame":
        places = [at for at, kind in enumerate(table.dtypes) if is_of_objects(kind)]
        columns = [table.iloc[:, at] for at in places]
    else:
        columns = [table] if is_of_objects(getattr(table, "dtype", None)) else []
    cells: list[Value] = []
    for column in columns:
        cells += np.asarray(column, dtype=object).ravel().tolist()
    for cell in cells:
        if type(cell) is np.ndarray and is_of_objects(cell.dtype):
            # A chain of them would overflow the interpreter's stack when it is freed.
            refuse("an array of arrays of objects", "put lists into it")
    return cells


def is_of_objects(kind: Value) -> bool:
    """Whether a dtype is that of any objects."""
    return getattr(kind, "str", None) == "|O"


def largest(table: Value) -> Value:
    """The largest integer in an array or table; 0 if there is none."""
    return max((abs(n) for n in cells_of(table) if isinstance(n, int)), default=0)


def cells_of(table: Value) -> list[Value]:
    """All that an array or table holds, as objects of Python."""
    import numpy as np

    cells: list[Value] = np.asarray(table, dtype=object).ravel().tolist()
    return cells
