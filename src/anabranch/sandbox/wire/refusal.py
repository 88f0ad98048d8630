"""Why a value is refused: said once, with the path collected on the way out."""

from __future__ import annotations

from anabranch.errors import ValueRefused

__all__ = ["Refused", "remedy", "shown"]


class Refused(Exception):  # it becomes a ValueRefused at the door
    """A value is refused; each container it leaves adds its place to the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.places: list[str] = []

    def at(self, place: str) -> Refused:
        self.places.append(place)
        return self

    def public(self) -> ValueRefused:
        """The error for callers: with a path as one would write it in Python."""
        # A place of hostile text is cut: it is for a person to read.
        places = [p if len(p) <= 80 else p[:77] + "..." for p in reversed(self.places)]
        return ValueRefused(path="value" + "".join(places), reason=self.reason)


def shown(key: object) -> str:
    """A key for a path: short, and without calling what its class may define."""
    if type(key) is str:
        return repr(key[:80])
    if type(key) is int and key.bit_length() < 200:
        return repr(key)
    return repr(key) if type(key) in _SHOWN else f"a {type(key).__name__}"


_SHOWN = {bool, float, type(None)}

_REMEDIES = {
    "bytearray": "pass bytes(value)",
    "memoryview": "pass bytes(value)",
    "array": "pass value.tolist()",
    "deque": "pass list(value)",
    "generator": "pass list(value)",
    "map": "pass list(value)",
    "filter": "pass list(value)",
    "zip": "pass list(value)",
    "enumerate": "pass list(value)",
    "reversed": "pass list(value)",
    "dict_keys": "pass list(value)",
    "dict_values": "pass list(value)",
    "dict_items": "pass list(value)",
    "coroutine": "await it and pass what it gives",
    "function": "call it and pass what it gives",
    "builtin_function_or_method": "call it and pass what it gives",
    "method": "call it and pass what it gives",
    "type": "pass its name",
    "module": "pass the values that are needed from it",
    "mappingproxy": "pass dict(value)",
    "MaskedArray": "pass value.filled()",
    "Period": "pass str(value)",
    "PeriodIndex": "pass value.astype(str)",
    "Interval": "pass str(value)",
    "IntervalIndex": "pass value.astype(str)",
    "DataFrameGroupBy": "aggregate it and pass the table",
    "SeriesGroupBy": "aggregate it and pass the series",
}


def remedy(kind: type) -> str:
    """Why values of a class do not travel, and what to pass instead."""
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    bases = [base.__name__ for base in kind.__mro__]
    if kind.__name__ in _REMEDIES:
        what = _REMEDIES[kind.__name__]
    elif "Enum" in bases:
        what = "pass value.value"
    elif "PurePath" in bases or "BaseException" in bases:
        what = "pass str(value)"
    elif hasattr(kind, "__dataclass_fields__"):
        what = "pass dataclasses.asdict(value)"
    elif hasattr(kind, "model_dump"):
        what = "pass value.model_dump()"
    elif tables := [base for base in bases if base in {"DataFrame", "Series", "ndarray"}]:
        what = f"pass a plain {tables[0]}"
    elif plain := [base for base in kind.__mro__[1:-1] if base.__module__ == "builtins"]:
        what = f"pass {plain[0].__name__}(value)"
    else:
        what = "pass its fields as numbers, text, lists, dicts, arrays or tables"
    return f"a value of {name} is not plain data and cannot go in or out; {what}"
