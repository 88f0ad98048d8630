"""The same key for the same work."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr

from anabranch.errors import UsageError
from anabranch.jobs.keys import content_key, function_name, key_of


class Colour(Enum):
    RED = 1
    GREEN = 2


class Model(BaseModel):
    name: str
    sizes: list[int]


@dataclass
class Point:
    x: int
    y: int


class UserId(int):
    pass


class OrderId(int):
    pass


class Pair(NamedTuple):
    x: int
    y: int


class Couple(NamedTuple):
    x: int
    y: int


@dataclass
class Labelled(dict[str, int]):
    label: int = 0


class Titled(str):  # noqa: SLOT000  # that it has a dictionary is the point
    def __new__(cls, text: str, heading: str) -> Self:
        titled = super().__new__(cls, text)
        titled.heading = heading
        return titled

    heading: str


class Weekday(IntEnum):
    MONDAY = 1


@dataclass
class Client:
    model: str

    def ask(self, item: int) -> str:
        return f"{self.model} on {item}"

    @classmethod
    def make(cls, item: int) -> str:
        return cls.__name__


class Other(Client):
    pass


plain: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=12,
)


@given(plain, plain)
def test_equal_values_of_equal_types_have_one_key_and_others_have_another(
    one: Any, other: Any
) -> None:
    assert (content_key(one) == content_key(other)) == (repr(one) == repr(other))


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_a_dictionary_makes_no_difference(value: dict[str, int]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert content_key(value) == content_key(backwards)


def test_values_that_print_alike_or_compare_equal_are_told_apart() -> None:
    different: list[Any] = [
        1, 1.0, True, "1", b"1", [1], (1,), {1}, {1: 1}, Decimal(1), None, "", b"", [], (),
        Colour.RED, Colour.GREEN, Point(1, 2), Point(2, 1), Model(name="a", sizes=[1]),
        Path("a"), "a", date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1),
        ["ab", "c"], ["a", "bc"], np.float32(1), np.array([1]), np.array([[1]]),
        np.array([1.0]), 1j, range(3), range(0, 3, 2), frozenset({1}), bytearray(b"1"),
        UserId(1), OrderId(1), Pair(1, 2), Couple(1, 2), (1, 2), Labelled(1), Labelled(2),
        OrderedDict({1: 1}), Counter({1: 1}), np.float64(1), Titled("1", "a"),
        Titled("1", "b"), Weekday.MONDAY,
    ]  # fmt: skip
    assert len({content_key(value) for value in different}) == len(different)


def test_the_key_is_the_same_in_another_process() -> None:
    program = (
        "from anabranch.jobs.keys import content_key\n"
        "print(content_key([{'a', 'b', 'c'}, {'x': 1.5, 'y': None}, 'ab']).hex())"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


def test_what_has_no_canonical_form_is_refused_with_the_remedy() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), [object()], lambda: 1, np.array([object()]), endless):
        with pytest.raises(UsageError, match="pass key="):
            content_key(value)


def test_functions_are_told_apart_by_name_and_bound_arguments() -> None:
    def one(item: int) -> int:
        return item

    def other(item: int) -> int:
        return item

    keys = [
        key_of(fn, None)(1)
        for fn in (one, other, functools.partial(one, 1), functools.partial(one, 2))
    ]
    assert len(set(keys)) == 4
    assert function_name(one).endswith(
        "told_apart_by_name_and_bound_arguments.<locals>.one"
    )


def test_methods_are_told_apart_by_their_object() -> None:
    different = (
        Client("a").ask, Client("b").ask, Other("a").ask, Client.ask, Client.make,
        Other.make,
    )  # fmt: skip
    assert len({function_name(fn) for fn in different}) == len(different)
    assert function_name(Client("a").ask) == function_name(Client("a").ask)


def test_a_wrapped_function_has_the_name_of_what_it_wraps() -> None:
    def logged(fn: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(fn)
        def wrapper(item: int) -> int:
            return fn(item)

        return wrapper

    def one(item: int) -> int:
        return item

    assert function_name(logged(one)) == function_name(one)


def test_what_has_no_name_of_its_own_is_refused_unless_a_key_is_given() -> None:
    class Called:
        def __call__(self, item: int) -> int:
            return item

        def method(self, item: int) -> int:
            return item

    nameless: list[Any] = [
        lambda item: item, Called(), Called().method, functools.partial(lambda item: item)
    ]  # fmt: skip
    for fn in nameless:
        with pytest.raises(UsageError, match="pass key="):
            key_of(fn, None)
        assert key_of(fn, str)(1) == content_key("1")


class Access(IntFlag):
    READ = 1


class Hidden(BaseModel):
    name: str
    _level: int = PrivateAttr(0)

    @functools.cached_property
    def shouted(self) -> str:
        return self.name.upper()


def hidden(level: int) -> Hidden:
    model = Hidden(name="a")
    model._level = level
    return model


def test_flags_without_a_name_have_keys_of_their_own() -> None:
    assert content_key(Access(8)) != content_key(Access(16))
    assert content_key(Access.READ) == content_key(Access(1))


def test_a_model_that_was_made_without_some_fields_has_a_key() -> None:
    assert content_key(Hidden.model_construct()) != content_key(hidden(0))


def test_private_attributes_of_a_model_count_and_what_it_caches_does_not() -> None:
    assert content_key(hidden(1)) != content_key(hidden(2))
    model = hidden(1)
    before = content_key(model)
    assert model.shouted == "A"
    assert content_key(model) == before
