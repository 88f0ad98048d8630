"""Plain values to try, and how two are compared when every bit counts."""

from __future__ import annotations

import math
from datetime import timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

from anabranch.sandbox.wire import Frames, decode, encode, pack

MANY = 10**8

text = st.text(
    st.one_of(
        st.characters(), st.characters(categories=["Cs"]), st.sampled_from('"\\$,[]{}')
    )
)
numbers = st.one_of(
    st.integers(),
    st.integers(-(2**9_000), 2**9_000),
    st.floats(),
    st.complex_numbers(),
    st.booleans(),
)
zones = st.one_of(
    st.none(),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Etc/GMT+5"]).map(
        ZoneInfo
    ),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.builds(timezone, st.just(timedelta(hours=1)), st.text("abc")),
)
standard = st.one_of(
    st.dates(),
    st.times(),
    st.times(timezones=zones),
    st.datetimes(timezones=zones),
    st.datetimes(timezones=zones).map(lambda at: at.replace(fold=1)),
    st.timedeltas(),
    zones.filter(lambda zone: zone is not None),
    st.decimals(),
    st.just(Decimal("sNaN123")),
    st.just(Decimal("-1.2300E-50")),
    st.fractions(),
    st.uuids(),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
)
leaves = st.one_of(st.none(), numbers, text, st.binary(), st.binary(min_size=600), standard)
keys = st.recursive(
    leaves.filter(lambda key: not (isinstance(key, Decimal) and key.is_snan())),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=4,
)
plain = st.recursive(
    st.one_of(leaves, st.sets(keys, max_size=4), st.frozensets(keys, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.one_of(text, st.just("$tuple")), inner, max_size=5),
        st.dictionaries(keys, inner, max_size=5),
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are alike in type and bits, as far as Python can tell."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        if math.isnan(one):
            return math.isnan(other)  # its sign says nothing, and Python does not show it
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        # NaN is not equal to itself, so members are paired by what they show.
        return _shown(one) == _shown(other)
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(
            list(one.values()), list(other.values())
        )
    if isinstance(one, (Decimal, Fraction)):
        return repr(one) == repr(other)
    if hasattr(one, "tzinfo") and not isinstance(one, pd.Timestamp):
        return repr(one) == repr(other) and one.fold == other.fold
    return bool(one == other) and repr(one) == repr(other)


def _shown(value: Any) -> str:
    """A key as text that does not depend on the order of sets."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(map(_shown, value))}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))},)"
    return f"{value!r} with fold {getattr(value, 'fold', None)}"


def same_array(one: Any, other: Any) -> None:
    assert type(other) is np.ndarray
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    if one.dtype.kind == "O":
        assert same(one.reshape(-1).tolist(), other.reshape(-1).tolist())
    else:
        assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def same_table(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        assert_frame_equal(one, other, check_freq=False, check_column_type=True)
        assert_index_equal(one.index, other.index, exact=True)
        assert_index_equal(one.columns, other.columns, exact=True)
        assert one.attrs == other.attrs
    elif isinstance(one, pd.Series):
        assert_series_equal(one, other, check_freq=False)
        assert_index_equal(one.index, other.index, exact=True)
        assert one.attrs == other.attrs
    else:
        assert_index_equal(one, other, exact=True)


def there_and_back(value: Any) -> Any:
    """The value after it has gone over a stream."""
    stream = b"".join(pack(7, encode(value, max_bytes=MANY)))
    (frame,) = Frames(MANY).feed(stream)
    assert frame.kind == 7
    buffers = [buffer for buffer in frame.buffers if buffer is not None]
    return decode(frame.header, buffers, max_bytes=MANY)


def tables() -> list[Any]:
    """Tables, series and indexes of every sort that is supported."""
    n = 3000
    wide = pd.DataFrame(
        {
            "zoned": pd.date_range("2020-10-24", periods=n, freq="h", tz="Europe/Berlin"),
            "text": [f"row {i} é" if i % 7 else None for i in range(n)],
            "ints": pd.array([1, None] * (n // 2), dtype="Int64"),
            "bytes": pd.array([255, None] * (n // 2), dtype="UInt8"),
            "truth": pd.array([True, None] * (n // 2), dtype="boolean"),
            "floats": pd.array([1.5, None] * (n // 2), dtype="Float32"),
            "kinds": pd.Categorical(["a", "b", None] * (n // 3), ordered=True),
            "objects": [[1], {"a": 1}, None] * (n // 3),
            "deltas": pd.to_timedelta(range(n), unit="s"),
            "dates": pd.date_range("2020", periods=n),
            "string": pd.array(["q", None] * (n // 2), dtype="string"),
            "slow": pd.array(["q", None] * (n // 2), dtype=pd.StringDtype("python")),
            "half": np.arange(n, dtype="float16"),
            "complex": np.arange(n) * 1j,
        }
    )
    named = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"], "v": [1.0, 2.0, 3.0]})
    described = pd.DataFrame({"a": [1]})
    described.attrs["source"] = {"page": 3}
    return [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame(index=range(5)),
        pd.DataFrame(columns=["a", "b"]),
        pd.DataFrame({"a": [1, 2], "b": [1.5, None], "c": ["x", None]}),
        pd.DataFrame(np.arange(15.0).reshape(5, 3)),
        pd.DataFrame(np.arange(15.0).reshape(5, 3)).iloc[::2, ::2],
        wide,
        wide.iloc[5:2000],
        wide.iloc[0:0],
        pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"], index=[7, 7]),
        pd.DataFrame(
            [[1, 2.5], [3, 4]], columns=pd.Index([(1, 2), 3], tupleize_cols=False)
        ),
        named.set_axis([5, 5, 5]),
        named.set_axis(["x", "y", "x"]),
        named.set_index(["a", "b"]),
        named.groupby("b").agg({"v": ["sum", "mean"]}),
        named.pivot_table(index="a", columns="b", values="v"),
        described,
        pd.DataFrame({"a": [1, "x", None, pd.NA, pd.NaT, pd.Timestamp("2020", tz="UTC")]}),
        pd.DataFrame({"a": [1, 2]}, index=pd.DatetimeIndex(["2020", "2021"], name="t")),
        pd.DataFrame({"a": [1, 2]}, index=pd.CategoricalIndex(["a", "b"])),
        pd.DataFrame({"a": [True, False]}, index=pd.Index([1.5, 2.5], name=("x", 1))),
        pd.Series([1, 2, 3], name="n", index=["x", "y", "z"]),
        pd.Series(["a", None] * 1000, name=None),
        pd.Series([], dtype="float64"),
        pd.Series({"a": 1, "b": "x"}),
        pd.Series(pd.Categorical([3, 1, 3], categories=[3, 1])),
        pd.Index(["a", "b"], name="n"),
        pd.RangeIndex(5, 50, 3, name="r"),
        pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None]),
        pd.DatetimeIndex(["2020", "2021", None], tz="UTC"),
        pd.to_timedelta([1, 2], unit="s"),
    ]


def arrays() -> list[Any]:
    names = (
        "b1 i1 u1 <i2 >i4 <u4 <i8 <u8 <f2 <f4 >f8 <f8 <c8 <c16 M8[D] m8[ns] M8[25s] S3 <U2"
    )
    by_type = [np.arange(6).astype(name).reshape(2, 3) for name in names.split()]
    return [
        *by_type,
        np.array(1.5),
        np.zeros((0, 3)),
        np.zeros(0),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.asfortranarray(np.array([["a", "bc"], ["d", "e"]])),
        np.asfortranarray(np.eye(3, dtype=bool)),
        np.arange(36.0).reshape(6, 6)[::2, ::3],
        np.arange(5)[::-1],
        np.broadcast_to(np.arange(3), (4, 3)),
        np.array([math.nan, -0.0, math.inf]),
        np.array(["2020", "NaT"], "M8[D]"),
        np.array([1, None, "x", [1], (2,)], dtype=object),
        np.array(["\U0010ffff", ""]),
    ]


def scalars() -> list[Any]:
    return [
        np.float64(1.5),
        np.float16(1),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("abc"),
        np.str_(""),
        np.bytes_(b"ab\0"),
        np.datetime64("2020-01-01"),
        np.datetime64("NaT"),
        np.timedelta64(5, "D"),
        np.complex64(1 + 2j),
        pd.Timestamp("2020-10-25 01:30:00.123456789", tz="Europe/Berlin"),
        pd.Timestamp("2020"),
        pd.Timestamp(np.datetime64("9999-01-01", "s")),
        pd.Timedelta(5, "s"),
        pd.Timedelta("1ns"),
        pd.NaT,
        pd.NA,
    ]
