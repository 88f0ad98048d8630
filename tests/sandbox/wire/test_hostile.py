"""Whatever bytes come, decoding gives a plain value or refuses, in little time and memory."""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anabranch.errors import ValueRefused
from anabranch.sandbox.wire import copied, decode, encode
from tests.sandbox.wire.values import MANY, arrays, plain, scalars, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 200_000


def refusal(tree: Any, buffers: Sequence[Any] = (), **limits: int) -> ValueRefused:
    text = tree if isinstance(tree, bytes) else b"t" + json.dumps(tree).encode()
    with pytest.raises(ValueRefused) as caught:
        decode(text, buffers, **{"max_bytes": LIMIT, **limits})
    return caught.value


def i8(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def array(name: Any, shape: Any, at: Any = 0, order: Any = "C") -> Any:
    return {"$array": [name, shape, order, at]}


RANGE = {"$range_index": [[0, 2, 1], None]}
COLUMNS = {"$index": [{"$objects": [[1], ["a"]]}, None]}
LABELS = {"$index": [{"$objects": [[2], ["a", "b"]]}, None]}
OFF_LIMITS = 10**12

# (what it is, tree or bytes, buffers)
CASES: list[tuple[str, Any, list[bytes]]] = [
    ("nothing", b"", []),
    ("an unknown beginning", b"x1", []),
    ("no JSON", b"p", []),
    ("half of JSON", b'p{"a":', []),
    ("more than JSON", b"p1 1", []),
    ("no UTF-8", b'p"\xff"', []),
    ("an integer of 100,000 digits", b"p" + b"9" * 100_000, []),
    ("a negative integer of 5,000 digits", b"p[-" + b"9" * 5_000 + b"]", []),
    ("nesting beyond the stack", b"p" + b"[" * 100_000, []),
    ("nesting of tags", b"t" + b'{"$tuple":[' * 5_000, []),
    ("nesting that is closed", b"p" + b"[" * 50_000 + b"]" * 50_000, []),
    ("an unknown tag", {"$pickle": "x"}, []),
    ("a tag within", [1, {"$tuple": [{"$os.system": ["x"]}]}], []),
    ("a tuple of no list", {"$tuple": {"a": 1}}, []),
    ("a set of lists", {"$set": [[]]}, []),
    ("a key that is a list", {"$dict": [[[1]], [1]]}, []),
    ("keys without values", {"$dict": [[1, 2], [1]]}, []),
    ("a dict of pairs", {"$dict": [[1, 2], [1]], "b": {"$x": 1}}, []),
    ("hexadecimal that is none", {"$int": "0xzz"}, []),
    ("bytes that are none", {"$bytes": "é"}, []),
    ("bytes of a number", {"$bytes": 3}, []),
    ("a buffer that is not there", {"$buffer": 0}, []),
    ("a buffer before the first", {"$buffer": -1}, [b"x"]),
    ("a buffer by no number", {"$buffer": True}, [b"x", b"y"]),
    ("a buffer twice", [{"$buffer": 0}, {"$buffer": 0}], [b"x"]),
    ("a complex of text", {"$complex": ["1", "2"]}, []),
    ("a range of nothing", {"$range": [1, 2, 0]}, []),
    ("a range of floats", {"$range": [1, 2, 1.5]}, []),
    ("a date of year 0", {"$date": [0, 1, 1]}, []),
    ("a date of truth", {"$date": [True, 1, 1]}, []),
    ("a date beyond C", {"$date": [10**30, 1, 1]}, []),
    ("a datetime of month 13", {"$datetime": [[2020, 13, 1, 0, 0, 0, 0, 0], None]}, []),
    ("a fold of 2", {"$datetime": [[2020, 1, 1, 0, 0, 0, 0, 2], None]}, []),
    ("a zone that is a list", {"$time": [[1, 1, 1, 1, 0], [1]]}, []),
    ("a delta beyond days", {"$timedelta": [10**10, 0, 0]}, []),
    ("an offset of 25 hours", {"$timezone": [{"$timedelta": [1, 3600, 0]}]}, []),
    ("an offset that is none", {"$timezone": [5, "x"]}, []),
    ("a zone that is a path", {"$zone": "../../etc/passwd"}, []),
    ("a zone that is absolute", {"$zone": "/etc/passwd"}, []),
    ("a zone with a dot", {"$zone": "Europe/../Europe/Berlin"}, []),
    ("a zone with NUL", {"$zone": "UTC\0"}, []),
    ("a zone with a newline", {"$zone": "UTC\n"}, []),
    ("a zone that is a folder", {"$zone": "Europe"}, []),
    ("a zone that is a table", {"$zone": "posixrules/x"}, []),
    ("a zone of no name", {"$zone": ""}, []),
    ("a zone of a long name", {"$zone": "A" * 10_000}, []),
    ("a Decimal that cannot be converted", {"$decimal": "1e999999999"}, []),
    ("a Decimal that is nearly 0", {"$decimal": "1e-999999999"}, []),
    ("a Decimal that is none", {"$decimal": "one"}, []),
    ("a fraction of 0", {"$fraction": [1, 0]}, []),
    ("a fraction of floats", {"$fraction": [1.0, 2]}, []),
    ("a fraction that is long", {"$fraction": [{"$int": "0x" + "f" * 5000}, 2]}, []),
    ("a UUID that is short", {"$uuid": "abc"}, []),
    ("a UUID of letters", {"$uuid": "g" * 32}, []),
    # numpy
    ("a shape of 10**12", array("<f8", [OFF_LIMITS]), [b""]),
    ("a shape that overflows", array("<f8", [2**40, 2**40]), [b""]),
    ("a shape below 0", array("<f8", [-1]), [b""]),
    ("a shape below 0 twice", array("<f8", [-1, -1]), [b"12345678"]),
    ("a shape of text", array("<f8", ["1"]), [b"12345678"]),
    ("a shape of truth", array("<f8", [True]), [b"12345678"]),
    ("a shape of 100 dimensions", array("<f8", [1] * 100), [b"12345678"]),
    ("rows of nothing", array("<f8", [OFF_LIMITS, 0]), [b""]),
    ("a buffer that is short", array("<f8", [2]), [b"1234567"]),
    ("a buffer that is long", array("<f8", [1]), [b"123456789"]),
    ("an order of its own", array("<f8", [1], order="K"), [b"12345678"]),
    ("objects", array("|O", [1]), [b"12345678"]),
    ("objects by name", array("object", [1]), [b"12345678"]),
    ("a record", array("i4,O", [1]), [b"12345678"]),
    ("a record by list", array([["a", "O"]], [1]), [b"12345678"]),
    ("void", array("|V8", [1]), [b"12345678"]),
    ("text of no width", array("<U0", [OFF_LIMITS]), [b""]),
    ("text of every width", array("<U999999999", [1]), [b""]),
    ("text of a growing type", array("T", [1]), [b"1" * 16]),
    ("a type by its digits", array("<f\u0668", [1]), [b"12345678"]),
    ("a type with a newline", array("<f8\n", [1]), [b"12345678"]),
    ("a long double", array("<f16", [1]), [b"1" * 16]),
    ("dates in no unit", array("<M8[x]", [1]), [b"12345678"]),
    ("dates in 10**9 years", array("<M8[9999999999Y]", [1]), [b"12345678"]),
    ("a truth beyond truth", array("|b1", [3]), [b"\0\1\2"]),
    ("a letter beyond Unicode", array("<U1", [1]), [b"\xff\xff\xff\x7f"]),
    ("a letter beyond, turned", array(">U1", [1]), [b"\x7f\xff\xff\xff"]),
    ("a scalar of objects", {"$scalar": ["|O", "AAAAAAAAAAA="]}, []),
    ("a scalar that is short", {"$scalar": ["<f8", "AAAA"]}, []),
    ("a truth of 2", {"$scalar": ["|b1", "Ag=="]}, []),
    ("objects that are few", {"$objects": [[OFF_LIMITS], [1]]}, []),
    ("objects of nothing", {"$objects": [[0, OFF_LIMITS], []]}, []),
    ("objects below 0", {"$objects": [[-1], []]}, []),
    # pandas
    ("an index of no column", {"$index": [[1, 2], None]}, []),
    ("an index of two dimensions", {"$index": [array("<i8", [1, 1]), None]}, [i8(1)]),
    ("an index of halves", {"$index": [array("<f2", [1]), None]}, [b"\0\0"]),
    ("a name that is a list", {"$index": [array("<i8", [1]), [1]]}, [i8(1)]),
    ("a range by 0", {"$range_index": [[0, 1, 0], None]}, []),
    ("a range beyond C", {"$range_index": [[0, 10**30, 1], None]}, []),
    ("a frame of no index", {"$frame": [[[], []], [], RANGE, {}]}, []),
    (
        "a frame of 10**12 rows of nothing",
        {"$frame": [[[], []], {"$range_index": [[0, OFF_LIMITS, 1], None]}, RANGE, {}]},
        [],
    ),
    (
        "a frame of 10**12 columns of nothing",
        {"$frame": [[[], []], RANGE, {"$range_index": [[0, OFF_LIMITS, 1], None]}, {}]},
        [],
    ),
    ("a frame without its columns", {"$frame": [[[], []], RANGE, COLUMNS, {}]}, []),
    (
        "a block that is short",
        {"$frame": [[[["<f8", [0], 0]], []], RANGE, COLUMNS, {}]},
        [i8(1)],
    ),
    (
        "a block in a place that is not",
        {"$frame": [[[["<f8", [5], 0]], []], RANGE, COLUMNS, {}]},
        [i8(1, 2)],
    ),
    (
        "a block in no place",
        {"$frame": [[[["<f8", ["a"], 0]], []], RANGE, COLUMNS, {}]},
        [i8(1, 2)],
    ),
    (
        "a block of text",
        {"$frame": [[[["<U1", [0], 0]], []], RANGE, COLUMNS, {}]},
        [i8(1)],
    ),
    (
        "a column that is short",
        {"$frame": [[[], [[0, array("<i8", [1])]]], RANGE, COLUMNS, {}]},
        [i8(1)],
    ),
    (
        "a column of two dimensions",
        {"$frame": [[[], [[0, array("<i8", [2, 1])]]], RANGE, COLUMNS, {}]},
        [i8(1, 2)],
    ),
    (
        "attrs that are a list",
        {"$frame": [[[], [[0, array("<i8", [2])]]], RANGE, COLUMNS, []]},
        [i8(1, 2)],
    ),
    ("a series that is long", {"$series": [array("<i8", [1]), RANGE, None, {}]}, [i8(1)]),
    (
        "codes beyond the labels",
        {"$categorical": [array("|i1", [2]), LABELS, False]},
        [b"\1\2"],
    ),
    (
        "codes below the labels",
        {"$categorical": [array("|i1", [2]), LABELS, False]},
        [b"\1\xfe"],
    ),
    (
        "codes that are floats",
        {"$categorical": [array("<f8", [1]), LABELS, False]},
        [b"\0" * 8],
    ),
    (
        "labels that are repeated",
        {"$categorical": [array("|i1", [1]), {"$index": [{"$texts": ["python", "nan", ["a", "a"]]}, None]}, True]},
        [b"\1"],
    ),
    (
        "levels that are too few",
        {"$multi_index": [[LABELS], [array("|i1", [1])], [None, None]]},
        [b"\1"],
    ),
    (
        "codes beyond a level",
        {"$multi_index": [[LABELS], [array("|i1", [1])], [None]]},
        [b"\5"],
    ),
    (
        "codes far below a level",
        {"$multi_index": [[LABELS], [array("|i1", [1])], [None]]},
        [b"\x80"],
    ),
    (
        "a mask of another length",
        {"$masked": ["Int64", array("<i8", [1]), array("|b1", [2], 1)]},
        [i8(1), b"\0\0"],
    ),
    (
        "a mask of numbers",
        {"$masked": ["Int64", array("<i8", [1]), array("|i1", [1], 1)]},
        [i8(1), b"\0"],
    ),
    (
        "a mask over another type",
        {"$masked": ["Int64", array("<f8", [1]), array("|b1", [1], 1)]},
        [i8(1), b"\0"],
    ),
    (
        "a mask of a type that is none",
        {"$masked": ["category", array("<i8", [1]), array("|b1", [1], 1)]},
        [i8(1), b"\0"],
    ),
    ("zoned numbers", {"$zoned": [array("<i8", [1]), {"$zone": "UTC"}]}, [i8(1)]),
    ("a zone that is text", {"$zoned": [array("<M8[ns]", [1]), "UTC"]}, [i8(1)]),
    (
        "a zone with a path",
        {"$zoned": [array("<M8[ns]", [1]), {"$zone": "../../etc/localtime"}]},
        [i8(1)],
    ),
    ("a timestamp in years", {"$timestamp": [1, "Y", None]}, []),
    ("a timestamp beyond C", {"$timestamp": [2**64, "ns", None]}, []),
    ("a timestamp that is missing", {"$timestamp": [-(2**63), "s", None]}, []),
    (
        "labels by a range of 10**12",
        {"$categorical": [array("|i1", [1]), {"$range_index": [[0, OFF_LIMITS, 1], None]}, True]},
        [b"\1"],
    ),
    (
        "a level by a range backwards",
        {"$multi_index": [[{"$range_index": [[OFF_LIMITS, 0, -1], None]}], [array("|i1", [1])], [None]]},
        [b"\1"],
    ),
    ("a delta in years", {"$pd_timedelta": [1, "Y"]}, []),
    ("what is missing by another name", {"$missing": "None"}, []),
    ("what is missing by a list", {"$missing": []}, []),
    # text as Arrow keeps it
    ("text that ends beyond", {"$text": ["nan", 1, None, 0, 1]}, [i8(0, 100), b"abc"]),
    ("text that runs back", {"$text": ["nan", 2, None, 0, 1]}, [i8(0, 3, 1), b"abc"]),
    ("text that begins before", {"$text": ["nan", 1, None, 0, 1]}, [i8(-5, 3), b"abc"]),
    ("text beyond C", {"$text": ["nan", 1, None, 0, 1]}, [i8(0, 2**62), b"abc"]),
    ("text that is no UTF-8", {"$text": ["nan", 1, None, 0, 1]}, [i8(0, 1), b"\xff"]),
    ("text that halves a letter", {"$text": ["nan", 2, None, 0, 1]}, [i8(0, 1, 2), b"\xc3\xa9"]),
    ("text without offsets", {"$text": ["nan", 1, None, 0, 1]}, [b"", b"abc"]),
    ("text of 10**12", {"$text": ["nan", OFF_LIMITS, None, 0, 1]}, [i8(0, 1), b"abc"]),
    ("text below 0", {"$text": ["nan", -1, None, 0, 1]}, [b"", b"abc"]),
    ("text with a short mask", {"$text": ["nan", 9, 2, 0, 1]}, [i8(*range(10)), b"a" * 9, b"x"]),
    ("text with a long mask", {"$text": ["nan", 1, 2, 0, 1]}, [i8(0, 1), b"a", b"xxx"]),
    ("text of a type that is none", {"$text": ["x", 1, None, 0, 1]}, [i8(0, 1), b"a"]),
    ("texts kept elsewhere", {"$texts": ["memcached", "nan", ["a"]]}, []),
    ("texts that are numbers", {"$texts": ["python", "nan", ["a", 1]]}, []),
    ("texts that are tags", {"$texts": ["pyarrow", "NA", [{"$tuple": []}]]}, []),
    ("texts of surrogates", {"$texts": ["pyarrow", "NA", ["\ud800"]]}, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("tree", "buffers"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_damage_is_refused_and_nothing_large_is_made(tree: Any, buffers: list[bytes]):
    tracemalloc.start()
    try:
        error = refusal(tree, buffers)
        assert tracemalloc.get_traced_memory()[1] < 100 * LIMIT
    finally:
        tracemalloc.stop()
    assert error.path.startswith("value")
    assert len(str(error)) < 1000
    refusal([0, tree] if not isinstance(tree, bytes) else tree, buffers)


def test_the_path_says_where_the_damage_is():
    error = refusal(
        {"rows": [1, {"$tuple": [2, {"$dict": [["a"], [{"$date": [0, 0, 0]}]]}]}]}
    )
    assert error.path.startswith("value['rows'][1][1]")
    assert "date" in error.reason


def test_what_a_refusal_shows_cannot_draw_on_a_terminal():
    for tree in ({"\x1b[31m": {"$\x1b[2J": 1}, "b": 1}, {"$decimal": "\x1b[2J"}):
        assert str(refusal(tree)).isprintable()


def test_a_long_path_and_a_long_message_are_cut():
    error = refusal({"k" * 100_000: {"$" + "t" * 50_000: 1}, "b": 1})
    assert len(str(error)) < 300


def test_more_than_is_allowed_is_refused_before_it_is_read():
    message = encode([b"x" * 600, "y" * 600], max_bytes=MANY)
    for limit in range(message.nbytes):
        refusal(message.header, message.buffers, max_bytes=limit)
    decode(message.header, message.buffers, max_bytes=message.nbytes)


@pytest.mark.parametrize(
    "header",
    [
        b"p[" + b"0," * 60_000 + b"0]",
        b"p[" + b"[]," * 60_000 + b"0]",
        b"p[" + b"{}," * 60_000 + b"0]",
        b't{"$tuple":[' + b"[]," * 60_000 + b"0]}",
        b"p" + json.dumps({str(n): n for n in range(20_000)}).encode(),
        b"p[" + b'"",' * 60_000 + b"0]",
    ],
)
def test_too_many_values_are_refused_before_they_are_made(header: bytes):
    tracemalloc.start()
    try:
        error = refusal(header, max_bytes=10**6, max_items=10_000)
        assert "10000 values" in error.reason
        assert tracemalloc.get_traced_memory()[1] < 10 * len(header)
    finally:
        tracemalloc.stop()


def test_commas_and_brackets_in_text_are_not_counted():
    text = 'a,b[c]{"d": "\\"}\\' * 5_000
    message = encode([text, 1], max_bytes=MANY)
    assert decode(message.header, (), max_bytes=MANY, max_items=10) == [text, 1]


@pytest.mark.parametrize(
    "keys",
    [
        [{"$int": hex(k * (2**61 - 1))} for k in range(1, 40_000)],
        [{"$uuid": f"{k * (2**61 - 1):032x}"} for k in range(1, 40_000)],
        [{"$complex": [-1000003.0 * k, float(k)]} for k in range(1, 40_000)],
    ],
    ids=["int", "uuid", "complex"],
)
@pytest.mark.parametrize("kind", ["$set", "$frozenset", "$dict"])
def test_keys_that_are_chosen_to_collide_are_given_up(keys: list[Any], kind: str):
    tree = {kind: [keys, [0] * len(keys)] if kind == "$dict" else keys}
    began = time.process_time()
    error = refusal(tree, max_bytes=MANY)
    assert "collide" in error.reason
    assert time.process_time() - began < 20  # it would take minutes


def test_keys_that_are_not_chosen_are_taken_however_many():
    value = {n * 2**20: n for n in range(200_000)}
    message = encode(value, max_bytes=MANY)
    assert decode(message.header, (), max_bytes=MANY) == value


def test_many_categories_that_are_not_in_order_are_refused_unless_they_are_text():
    numbers = np.arange(30_000)[::-1].copy()
    index = pd.Index(numbers)
    message = encode(pd.Categorical(numbers, categories=index), max_bytes=MANY)
    assert "in order" in refusal(message.header, message.buffers, max_bytes=MANY).reason
    twice = pd.Index([*range(30_000), 29_999])
    codes = np.zeros(1, "i1")
    tree = {
        "$categorical": [
            array("|i1", [1]),
            {"$index": [array("<i8", [30_001], 1), None]},
            True,
        ]
    }
    assert "repeated" in refusal(tree, [codes, twice.to_numpy()], max_bytes=MANY).reason
    for good in (pd.Categorical(numbers), pd.Categorical(numbers.astype(str))):
        back = decode(
            (message := encode(good, max_bytes=MANY)).header,
            message.buffers,
            max_bytes=MANY,
        )
        assert list(back[:3]) == list(good[:3])


def test_where_anybody_raised_the_recursion_limit_the_stack_still_holds():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        refusal(b"p" + b"[" * 10**6, max_bytes=MANY)
        refusal(b"t" + b'{"a":' * 10**6, max_bytes=MANY)
        refusal(b'p["\\"[",' + b"[" * 10**6, max_bytes=MANY)
        text = "[" * 10**6
        header = b"p" + json.dumps([text]).encode()
        assert decode(header, (), max_bytes=MANY) == [text]
    finally:
        sys.setrecursionlimit(limit)


def test_where_anybody_allowed_long_numbers_reading_them_still_takes_no_time():
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        error = refusal(b"p[" + b"9" * 10_000_000 + b"]", max_bytes=MANY)
    finally:
        sys.set_int_max_str_digits(limit)
    assert "10000000 decimal digits" in error.reason


@pytest.mark.parametrize("header", [b"p1e999", b"p[-1e999]", b"t1e-999", b'p{"a":1,"a":2}'])
def test_json_that_is_odd_and_harmless_is_a_value(header: bytes):
    assert decode(header, (), max_bytes=LIMIT) is not None


def test_buffers_need_not_lie_where_numbers_may():
    for value in (
        np.arange(9.0),
        pd.Series([f"text {n}" for n in range(2000)], dtype="str"),
    ):
        message = encode(value, max_bytes=MANY)
        odd = [memoryview(b"x" + bytes(buffer))[1:] for buffer in message.buffers]
        back = decode(message.header, odd, max_bytes=MANY)
        assert back.tolist() == value.tolist()


# --------------------------------------------------------------------------- any bytes

EVERY_CHECK: Any = list(HealthCheck)
SEEDS = [
    encode(value, max_bytes=MANY)
    for value in [
        {"a": [1, 2.5, None, "x"], "b": {"c": [True]}},
        {"a": (1, {2, 3}), 4: frozenset([(5,)]), "n": 2**2000, "b": b"x", "c": b"y" * 600},
        *scalars(),
        *arrays(),
        *[
            table.iloc[:7] if isinstance(table, pd.DataFrame) else table
            for table in tables()
        ],
        pd.Series([f"text {n}" for n in range(1200)], dtype="str"),
    ]
]
ODD = st.one_of(
    st.sampled_from(
        [0, -1, 1, 2, 7, 10**12, 2**63, -(2**63), 2**64, 10**30, 1.5, True, None]
    ),
    st.sampled_from(
        ["", "C", "|O", "<f8", "<U1", "UTC", "../x", "nan", "NA", "\ud800", "1e9"]
    ),
    st.sampled_from(
        [[], {}, [[]], {"$tuple": [1]}, {"$buffer": 0}, {"$objects": [[1], [1]]}]
    ),
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of the tree with each of its keys."""
    found: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo:
        node = todo.pop()
        pairs = enumerate(node) if isinstance(node, list) else node.items()
        for key, item in list(pairs)[:30]:
            found.append((node, key))
            if isinstance(item, (list, dict)) and item:
                todo.append(item)
    return found


def damaged(data: st.DataObject) -> tuple[bytes, list[bytes]]:
    """A message that was good, with a few of its parts replaced, moved or cut."""
    seed = data.draw(st.sampled_from(SEEDS))
    header, buffers = bytes(seed.header), [bytes(buffer) for buffer in seed.buffers]
    tree = json.loads(header[1:].decode("utf-8", "surrogatepass"))
    for _ in range(data.draw(st.integers(0, 3))):
        spots = places(tree) if isinstance(tree, (list, dict)) else []
        if not spots:
            break
        node, key = data.draw(st.sampled_from(spots))
        how = data.draw(st.integers(0, 3))
        if how == 0:
            node[key] = json.loads(json.dumps(data.draw(ODD)))
        elif how == 1:
            other, at = data.draw(st.sampled_from(spots))
            node[key] = json.loads(json.dumps(other[at]))
        elif how == 2 and isinstance(node, dict):
            tags = "$array $objects $tuple $frame $series $index $masked $zoned $text $set"
            node[data.draw(st.sampled_from(tags.split()))] = node.pop(key)
        else:
            del node[key]
    header = header[:1] + json.dumps(tree).encode()
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(header)))
        piece = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b"0", b"]", b'"']))
        )
        header = header[:at] + piece + header[at + data.draw(st.integers(0, 3)) :]
    for number in range(len(buffers)):
        if data.draw(st.integers(0, 3)):
            continue
        buffer = buffers[number]
        at = data.draw(st.integers(0, len(buffer)))
        cut = data.draw(st.integers(0, 8))
        buffers[number] = (
            buffer[:at] + data.draw(st.binary(max_size=8)) + buffer[at + cut :]
        )
    return header, buffers


def try_out(header: bytes, buffers: Sequence[bytes]) -> None:
    """Decodes and, if that gives a value, reads all of it."""
    try:
        value = decode(header, buffers, max_bytes=10**6, max_items=20_000)
    except ValueRefused:
        return
    with contextlib.suppress(ValueRefused):
        copied(value, max_bytes=10**7, max_items=40_000)
    if not isinstance(value, (pd.RangeIndex, range)):
        # What pandas holds and cannot show is its own matter, if it says so.
        with contextlib.suppress(Exception):
            repr(value)


def watched(header: bytes, buffers: Sequence[bytes]) -> None:
    tracemalloc.start()
    try:
        try_out(header, buffers)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=1000, suppress_health_check=EVERY_CHECK)
@given(st.data())
def test_a_damaged_message_is_a_value_or_refused(data: st.DataObject):
    watched(*damaged(data))


@given(st.sampled_from([b"p", b"t", b""]), st.binary(), st.lists(st.binary(), max_size=3))
def test_noise_is_refused(start: bytes, noise: bytes, buffers: list[bytes]):
    watched(start + noise, buffers)


@given(plain)
def test_a_message_that_is_cut_anywhere_is_refused(value: Any):
    message = encode(value, max_bytes=MANY)
    for end in range(min(len(message.header), 200)):
        try:
            decode(message.header[:end], message.buffers, max_bytes=MANY)
        except ValueRefused:
            continue
        assert end > 1  # as "12" of "123"
        assert message.header[1:end].lstrip(b"-").isdigit() or b"." in message.header[:end]


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@settings(max_examples=40_000, suppress_health_check=EVERY_CHECK)
@given(st.data())
def test_no_damage_of_very_many_is_anything_but_a_value_or_a_refusal(data: st.DataObject):
    try_out(*damaged(data))
