"""Arrays and tables come back as they went, and nothing large is copied on the way."""

from __future__ import annotations

import mmap
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from anabranch.sandbox.wire import copied, decode, encode, slices
from tests.sandbox.wire.values import (
    MANY,
    arrays,
    same_array,
    same_table,
    scalars,
    tables,
    there_and_back,
)

DTYPES = st.one_of(
    npst.scalar_dtypes().filter(lambda t: t.itemsize <= 8 or t.kind == "c"),
    npst.byte_string_dtypes(min_len=1),
    npst.unicode_string_dtypes(min_len=1),
)


@pytest.mark.parametrize("array", arrays(), ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_an_array_comes_back_as_it_went_and_can_be_written_to(array: Any):
    for back in (there_and_back(array), copied(array), there_and_back((array,))[0]):
        same_array(array, back)
        assert back.flags.writeable


@given(npst.arrays(DTYPES, npst.array_shapes(min_dims=0, min_side=0)))
def test_any_array_of_plain_data_comes_back(array: Any):
    if array.dtype.itemsize > 8 and array.dtype.kind == "c" and array.dtype.itemsize > 16:
        return
    same_array(array, there_and_back(array))


@pytest.mark.parametrize("value", scalars(), ids=repr)
def test_a_scalar_comes_back_as_it_went(value: Any):
    for back in (there_and_back(value), copied([value])[0]):
        assert type(back) is type(value)
        assert repr(back) == repr(value)
        assert back is value or bool(back == value) or np.isnat(value)
        assert getattr(back, "unit", None) == getattr(value, "unit", None)


@pytest.mark.parametrize("number", range(len(tables())))
def test_a_table_comes_back_as_it_went(number: int):
    table = tables()[number]
    same_table(table, there_and_back(table))
    same_table(table, copied(table))
    same_table(table, there_and_back({"t": [(table,)]})["t"][0][0])


def test_a_table_that_came_can_be_changed():
    for frame in (
        there_and_back(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})),
        copied(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})),
    ):
        frame.loc[0, "a"] = 9
        frame["c"] = frame["a"] * 2
        assert frame["c"].iloc[0] == 18


def test_a_copied_table_does_not_change_the_one_it_is_of():
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    copy = copied(frame)
    copy.iloc[0, 0] = 9.0
    assert frame["a"].tolist() == [1.0, 2.0]


def test_what_is_not_kept_is_the_frequency_of_dates():
    assert there_and_back(pd.date_range("2020", periods=3)).freq is None


def test_the_array_of_a_column_comes_back():
    for array in (
        pd.array(["a", None], dtype="str"),
        pd.array([1, None], dtype="Int8"),
        pd.Categorical(["x", "y"]),
        pd.date_range("2020", periods=2, tz="UTC").array,
    ):
        back: Any = there_and_back(array)
        assert type(back) is type(array)
        assert (repr(back), back.dtype) == (repr(array), array.dtype)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(np.arange(2_000_000.0).reshape(200_000, 10)),
        pd.DataFrame({f"c{i}": np.arange(200_000.0) for i in range(10)}),
        pd.DataFrame(
            {f"c{i}": np.arange(200_000).astype(f"f{4 + i % 2 * 4}") for i in range(9)}
        ),
    ],
    ids=["one block", "many blocks", "two types"],
)
def test_a_large_table_goes_through_a_mapping_with_one_copy(frame: Any):
    tracemalloc.start()
    try:
        message = encode(frame, max_bytes=MANY)
        with mmap.mmap(-1, message.mapped_bytes) as mapping:
            whole = memoryview(mapping)
            message.write_into(whole)
            views = slices(whole, message.sizes)
            back = decode(message.header, views, max_bytes=MANY)
            assert np.shares_memory(back.iloc[:, 3].to_numpy(), np.frombuffer(whole, "u1"))
            most = tracemalloc.get_traced_memory()[1]
            same_table(frame, back)
            del back, views
            whole.release()
    finally:
        tracemalloc.stop()
    assert most < message.nbytes / 10


@settings(max_examples=50)
@given(
    st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))),
    st.integers(0, 2000),
    st.integers(0, 3000),
)
def test_any_slice_of_a_column_of_text_comes_back(texts: list[Any], start: int, stop: int):
    series = pd.Series((texts or ["a"]) * 2000, dtype="str")[:3000].iloc[start:stop]
    same_table(series, there_and_back(series))
