"""Plain values come back as they went, in type and bits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from anabranch.sandbox.wire import copied, decode, encode
from tests.sandbox.wire.values import MANY, plain, same, there_and_back

Point = namedtuple("Point", "x y")  # noqa: PYI024  # what code of all kinds makes


@given(plain)
def test_a_value_comes_back_as_it_went(value: Any):
    assert same(there_and_back(value), value)


@given(plain)
def test_a_copy_is_what_comes_back(value: Any):
    assert same(copied(value), value)


def test_a_copy_shares_nothing_that_can_change():
    value = {"a": [1, {"b": [2]}], "c": ({1: []}, {3})}
    copy = copied(value)
    copy["a"][1]["b"].append(9)
    copy["c"][0][1].append(9)
    copy["c"][1].add(9)
    assert value == {"a": [1, {"b": [2]}], "c": ({1: []}, {3})}
    rows: list[Any] = [[1], [2]]
    copied(rows)[0].append(9)
    assert rows == [[1], [2]]


@pytest.mark.parametrize(
    "value",
    [
        {"$tuple": [1, 2]},
        {"$": 1},
        {"$buffer": 0, "b": 1},
        [{"$set": [[]]}, (1,)],
        {1: {"$dict": 2}},
    ],
)
def test_a_dict_that_looks_like_a_tag_is_a_dict(value: Any):
    assert same(there_and_back(value), value)


def test_surrogates_are_not_joined_to_a_letter():
    value = ["\ud83d\ude00", "\U0001f600", "\udc80", {"\ud800": 1}]
    assert same(there_and_back(value), value)
    assert same(there_and_back(tuple(value)), tuple(value))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "wrap", [lambda n: n, lambda n: [n], lambda n: (n,), lambda n: {n: 1}]
)
def test_a_number_of_any_length_travels(sign: int, wrap: Any):
    value = wrap(sign * 7**100_000)
    assert there_and_back(value) == value


def test_where_long_decimal_numbers_are_allowed_they_travel_no_slower():
    number = 1 << 4_000_000
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        message = encode([number], max_bytes=MANY)
        assert decode(message.header, (), max_bytes=MANY) == [number]
    finally:
        sys.set_int_max_str_digits(limit)


def test_dicts_with_a_way_of_their_own_become_dicts_and_named_tuples_tuples():
    assert same(there_and_back(OrderedDict(b=1, a=2)), {"b": 1, "a": 2})
    assert same(there_and_back(Counter("aab")), {"a": 2, "b": 1})
    counts: defaultdict[int, list[int]] = defaultdict(list, {1: [2]})
    assert same(there_and_back(counts), {1: [2]})
    assert same(there_and_back([Point(1, (2,))]), [(1, (2,))])


def test_a_dict_keeps_its_order():
    value = {3: 0, 1: 0, "b": 0, 2: 0, "a": 0}
    assert list(there_and_back(value)) == [3, 1, "b", 2, "a"]


def test_what_is_in_two_places_comes_back_twice():
    shared: list[int] = []
    one, other = there_and_back([shared, shared])
    assert one is not other


def test_a_value_as_deep_as_allowed_travels_and_one_deeper_does_not():
    value: list[Any] = []
    for _ in range(99):
        value = [value]
    assert there_and_back(value) == value
    assert there_and_back([*value, ()])[1] == ()
    header = b"p" + json.dumps([value]).encode()
    with pytest.raises(TypeError, match="more than 100 containers"):
        encode([value], max_bytes=MANY)
    with pytest.raises(TypeError, match="more than 100 containers"):
        decode(header, (), max_bytes=MANY)
    with pytest.raises(TypeError, match="more than 100 containers"):
        decode(b"t" + header[1:], (), max_bytes=MANY)


def test_importing_it_loads_no_library_and_works_without_site_packages():
    root = Path(__file__).resolve().parents[3] / "src"
    program = f"""
import sys
sys.path.insert(0, {str(root)!r})
from anabranch.sandbox.wire import decode, encode, preload, Frames, pack
m = encode({{"a": (1, b"x")}}, max_bytes=1000)
assert decode(m.header, m.buffers, max_bytes=1000) == {{"a": (1, b"x")}}
heavy = {{"numpy", "pandas", "pyarrow", "pydantic", "dataclasses", "inspect", "datetime"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
preload()
assert "numpy" not in sys.modules
for tag in ("$array", "$frame"):
    try:
        decode(b't{{"%s":[]}}' % tag.encode(), (), max_bytes=1000)
    except TypeError as error:
        assert "pip install 'anabranch[sandbox]'" in str(error), error
    else:
        raise AssertionError(tag)
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")
