"""What cannot go in or out is refused with its path, and with what to pass instead."""

from __future__ import annotations

import enum
import io
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from anabranch.errors import ValueRefused
from anabranch.sandbox.wire import copied, encode


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


@dataclass
class Row:
    a: int


class Model(BaseModel):
    a: int


class OddZone(tzinfo):
    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return timedelta(hours=1)

    def dst(self, at: datetime | None) -> timedelta | None:
        return None

    def tzname(self, at: datetime | None) -> str | None:
        return "odd"


class Frame(pd.DataFrame):
    pass


CASES: list[tuple[Any, str, str]] = [
    (lambda: 0, "value", "call it"),
    ({"a": [1, object()]}, "value['a'][1]", "pass its fields"),
    ([1, (2, {3: bytearray()})], "value[1][1][3]", "bytes(value)"),
    (
        {"rows": ({1, 2}, {"x": {(len,)}})},
        "value['rows'][1]['x'].<an element>[0]",
        "call it",
    ),
    ({(1, Colour.RED): 2}, "value.<key a tuple>[1]", "value.value"),
    ({Name("n"): 1}, "value.<key a Name>", "pass str(value)"),
    ([Name("n")], "value[0]", "pass str(value)"),
    ({7**9999: [{3: len}], "b": (1,)}, "value[a int][0][3]", "call it"),
    ((i for i in [1]), "value", "list(value)"),
    (map(str, ()), "value", "list(value)"),
    ({}.keys(), "value", "list(value)"),
    (deque([1]), "value", "list(value)"),
    (memoryview(b""), "value", "bytes(value)"),
    (Row(1), "value", "dataclasses.asdict(value)"),
    (Model(a=1), "value", "value.model_dump()"),
    (Path("/etc"), "value", "str(value)"),
    (ValueError("x"), "value", "str(value)"),
    (int, "value", "its name"),
    (io, "value", "the values that are needed"),
    (io.StringIO(), "value", "pass its fields"),
    (Ellipsis, "value", "pass its fields"),
    ([datetime(2020, 1, 1, tzinfo=OddZone())], "value[0].tzinfo", "zoneinfo.ZoneInfo"),
    (Decimal("1e999999"), "value", "exponent"),
    ([Fraction(1, 2**20_000 + 1)], "value[0]", "numerator"),
    (np.zeros(2, "i4,f4"), "value", "value.tolist()"),
    (np.zeros(2, "i4,f4")[0], "value", "pass its fields"),
    (np.longdouble(1), "value", "astype('float64')"),
    (np.array(["a"], dtype=np.dtypes.StringDType()), "value", "value.tolist()"),
    (np.array([1, len], dtype=object), "value[1]", "call it"),
    (np.ma.array([1]), "value", "value.filled()"),
    ({"t": pd.DataFrame({"a": [1], "b": [object()]})}, "value['t']['b'][0]", "its fields"),
    (pd.DataFrame({"a": pd.cut(pd.Series([1, 2]), 2)}), "value['a']", "astype(str)"),
    (
        pd.DataFrame({"a": [1]}, index=pd.period_range("2020", periods=1)),
        "value.index",
        "str",
    ),
    (pd.Series(pd.period_range("2020", periods=2)), "value[:]", "astype(str)"),
    (pd.Series([1], name=Name("n")), "value.name", "str(value)"),
    (pd.Series(pd.arrays.SparseArray([0, 1])), "value[:]", "convert_dtypes"),
    (pd.Series([1], dtype="int64[pyarrow]"), "value[:]", "numpy_nullable"),
    (pd.DataFrame({"a": [1]}).groupby("a"), "value", "aggregate it"),
    (Frame({"a": [1]}), "value", "a plain DataFrame"),
    (pd.Index([len]), "value.array[0]", "call it"),
    (pd.Period("2020"), "value", "str(value)"),
]


@pytest.mark.parametrize("move", [lambda v: encode(v, max_bytes=10**6), copied])
@pytest.mark.parametrize(
    ("value", "path", "instead"), CASES, ids=[str(i) for i in range(len(CASES))]
)
def test_a_refusal_has_the_path_and_what_to_pass_instead(
    value: Any, path: str, instead: str, move: Any
):
    with pytest.raises(ValueRefused) as caught:
        move(value)
    assert caught.value.path == path
    assert instead in caught.value.reason


def test_a_value_that_holds_itself_is_named_at_the_place_where_it_does():
    rows: list[Any] = [1, []]
    rows[1].append({"again": rows})
    for move in (lambda v: encode(v, max_bytes=10**6), copied):
        with pytest.raises(ValueRefused, match="holds itself") as caught:
            move({"rows": (rows,)})
        assert caught.value.path == "value['rows'][0][1][0]['again']"


def test_a_value_that_grows_by_sharing_is_refused_and_not_written_out():
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(ValueRefused, match="more values than are allowed"):
        encode(value, max_bytes=10**6, max_items=100_000)
    with pytest.raises(ValueRefused, match="more values than are allowed"):
        encode((value,), max_bytes=10**6, max_items=100_000)


@pytest.mark.parametrize("value", ["x" * 1000, b"x" * 1000, np.zeros(1000), [0] * 1000])
def test_a_value_that_is_too_large_says_how_large(value: Any):
    with pytest.raises(ValueRefused, match=r"takes \d+ bytes encoded, and 900 are allowed"):
        encode(value, max_bytes=900)


def test_too_many_values_are_refused():
    with pytest.raises(ValueRefused, match="more values"):
        encode([0] * 101, max_bytes=10**6, max_items=100)
