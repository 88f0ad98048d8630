"""Reads the cases, builds what they are given, and says whether a value is the stated one."""

from __future__ import annotations

import base64
import datetime as dt
import importlib
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from tests.sandbox.suite import given
from tests.sandbox.suite.canaries import Canaries

__all__ = ["Canaries", "Case", "build", "describe", "inputs", "load", "same"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a file of cases; README.md says what each field means."""

    id: str
    category: str
    mode: Literal["eval", "exec"]
    layer: Literal["policy", "isolate", "both"]
    source: str | bytes
    expect: str
    citation: str
    given: dict[str, Any]
    allow_imports: tuple[str, ...]
    timeout_seconds: float
    result: Any
    trips: tuple[str, ...]
    needs: tuple[str, ...]
    limits: dict[str, float]
    grants: tuple[dict[str, Any], ...]
    then: str | None

    def __str__(self) -> str:
        return self.id


def load(name: str) -> list[Case]:
    """The cases of a file, in its order.

    Args:
        name: ``"attacks_policy"``, ``"attacks_isolate"`` or ``"harmless"``.
    """
    lines = (_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [_case(json.loads(line)) for line in lines]


def _case(raw: dict[str, Any]) -> Case:
    return Case(
        id=raw["id"],
        category=raw["category"],
        mode=raw["mode"],
        layer=raw["layer"],
        source=_source(raw),
        expect=raw["expect"],
        citation=raw["citation"],
        given=raw.get("inputs", {}),
        allow_imports=tuple(raw.get("allow_imports", ())),
        timeout_seconds=raw.get("timeout_seconds", 5.0),
        result=raw.get("result"),
        trips=tuple(raw.get("trips", ())),
        needs=tuple(raw.get("needs", ())),
        limits=raw.get("limits", {}),
        grants=tuple(raw.get("grants", ())),
        then=raw.get("then"),
    )


def _source(raw: dict[str, Any]) -> str | bytes:
    if "source" in raw:
        return str(raw["source"])
    if "source_parts" in raw:
        return "".join(_repeated(text, count) for text, count in raw["source_parts"])
    return base64.b64decode(raw["source_bytes_base64"])


def _repeated(text: str, count: int) -> str:
    if "{#}" in text:
        return "".join(text.replace("{#}", str(number)) for number in range(count))
    return text * count


def inputs(case: Case) -> dict[str, Any]:
    """The names that the code of a case is given, each object made anew."""
    return {name: build(value) for name, value in case.given.items()}


def build(raw: Any) -> Any:
    """The value that a descriptor stands for; plain JSON stands for itself.

    Raises:
        ImportError: If the value is one of pandas or numpy and that is not installed.
    """
    if isinstance(raw, list):
        return [build(item) for item in raw]
    if not isinstance(raw, dict):
        return raw
    if "$kind" not in raw:
        return {key: build(value) for key, value in raw.items()}
    return _BUILDERS[raw["$kind"]](raw)


def _dataframe(raw: dict[str, Any]) -> Any:
    pandas = importlib.import_module("pandas")
    frame = pandas.DataFrame(build(raw["columns"]), index=build(raw.get("index")))
    for name in raw.get("dates", ()):
        frame[name] = pandas.to_datetime(frame[name])
    return frame


def _series(raw: dict[str, Any]) -> Any:
    pandas = importlib.import_module("pandas")
    return pandas.Series(
        build(raw["values"]), index=build(raw.get("index")), name=raw.get("name")
    )


def _ndarray(raw: dict[str, Any]) -> Any:
    return importlib.import_module("numpy").array(raw["values"], dtype=raw.get("dtype"))


_BUILDERS: dict[str, Any] = {
    "dataframe": _dataframe,
    "series": _series,
    "ndarray": _ndarray,
    "module": lambda raw: importlib.import_module(raw["name"]),
    "function": lambda raw: given.FUNCTIONS[raw["name"]],
    "account": lambda _: given.account(),
    "statement": lambda _: given.account().statement(),
    "tuple": lambda raw: tuple(build(raw["values"])),
    "set": lambda raw: set(build(raw["values"])),
    "dict": lambda raw: {build(key): build(value) for key, value in raw["items"]},
    "bytes": lambda raw: base64.b64decode(raw["base64"]),
    "date": lambda raw: dt.date.fromisoformat(raw["iso"]),
    "datetime": lambda raw: dt.datetime.fromisoformat(raw["iso"]),
}


def describe(value: Any) -> Any:
    """The descriptor of a value: how the results of harmless cases are written down.

    Numpy's scalars are told as Python's, frames and arrays by their labels and cells,
    without their dtypes: a layer may give either back.

    Raises:
        TypeError: If it is not a plain value.
    """
    kind = type(value)
    if value is None or kind in {bool, int, str}:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$kind": "float", "text": str(value)}
    if kind is list:
        return [describe(item) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value) and "$kind" not in value:
            return {key: describe(item) for key, item in value.items()}
        pairs = [[describe(key), describe(item)] for key, item in value.items()]
        return {"$kind": "dict", "items": pairs}
    if kind in _DESCRIBERS:
        return _DESCRIBERS[kind](value)
    if kind.__module__.split(".")[0] in {"numpy", "pandas"}:
        return _describe_foreign(value)
    raise TypeError(f"no descriptor for {kind.__name__}")


def _sorted(values: Any) -> list[Any]:
    return sorted((describe(value) for value in values), key=repr)


_DESCRIBERS: dict[type, Any] = {
    complex: lambda v: {"$kind": "complex", "parts": [v.real, v.imag]},
    tuple: lambda v: {"$kind": "tuple", "values": [describe(item) for item in v]},
    set: lambda v: {"$kind": "set", "values": _sorted(v)},
    frozenset: lambda v: {"$kind": "frozenset", "values": _sorted(v)},
    bytes: lambda v: {"$kind": "bytes", "base64": base64.b64encode(v).decode()},
    range: lambda v: {"$kind": "range", "parts": [v.start, v.stop, v.step]},
    dt.date: lambda v: {"$kind": "date", "iso": v.isoformat()},
    dt.datetime: lambda v: {"$kind": "datetime", "iso": v.isoformat()},
    dt.time: lambda v: {"$kind": "time", "iso": v.isoformat()},
    dt.timedelta: lambda v: {"$kind": "timedelta", "seconds": v.total_seconds()},
    Decimal: lambda v: {"$kind": "decimal", "text": str(v)},
    Fraction: lambda v: {"$kind": "fraction", "text": str(v)},
}


def _describe_foreign(value: Any) -> Any:
    name = type(value).__name__
    if name == "DataFrame":
        rows = [[describe(cell) for cell in row] for row in value.itertuples(index=False)]
        labels = {"columns": describe(list(value.columns)), "index": _labels(value.index)}
        return {"$kind": "dataframe", **labels, "rows": rows}
    if name == "Series":
        cells = [describe(cell) for cell in value.tolist()]
        return {"$kind": "series", "index": _labels(value.index), "values": cells}
    if name == "ndarray":
        return {"$kind": "ndarray", "values": describe(value.tolist())}
    if name == "Timestamp":
        return {"$kind": "datetime", "iso": value.isoformat()}
    if name == "Timedelta":
        return {"$kind": "timedelta", "seconds": value.total_seconds()}
    if name == "NaTType":
        return {"$kind": "datetime", "iso": "NaT"}
    if name.endswith("Index"):
        return {"$kind": "index", "values": _labels(value)}
    if hasattr(value, "item"):
        return describe(value.item())
    raise TypeError(f"no descriptor for {name}")


def _labels(index: Any) -> list[Any]:
    return [describe(label) for label in index.tolist()]


def same(stated: Any, found: Any) -> bool:
    """Whether two descriptors are of the same value; floats may differ by one in 10⁹.

    An int is not a float, and True is not 1.
    """
    if type(stated) is not type(found):
        return False
    if isinstance(stated, float):
        return math.isclose(stated, found, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(stated, list):
        return len(stated) == len(found) and all(map(same, stated, found))
    if isinstance(stated, dict):
        return list(stated) == list(found) and all(
            same(stated[key], found[key]) for key in stated
        )
    return bool(stated == found)
