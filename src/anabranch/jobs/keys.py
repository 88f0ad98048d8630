"""The same key for the same work, in every process and on every day.

A key is a digest of a canonical form of the item: values that are equal and of the same
type have one, whatever the order of their dictionaries and sets. Pickle would not do: its
bytes depend on which strings happen to be the same object.
"""

from __future__ import annotations

import functools
import inspect
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath
from types import MethodType
from typing import Any, Final, cast
from uuid import UUID

from anabranch.errors import UsageError

DIGEST_BYTES = 16
REMEDY = (
    "by which its results could be found again: pass key=, a function from an item to a "
    "string, or use a named function"
)


def function_name(fn: object) -> str:
    """What the results of a function are found again by: its qualified name.

    With it goes what is bound to it: the arguments of a partial and the object of a method.
    What it reaches otherwise, as a nested function does, is not looked at. Source text is
    found by its content.

    Raises:
        UsageError: It has none of its own: two lambdas share one, and an object that is
            called, or whose method is, may do anything.
    """
    if isinstance(fn, str):
        return f"source {content_key(fn).hex()}"
    if isinstance(fn, functools.partial):
        bound = content_key((fn.args, fn.keywords)).hex()
        return f"{function_name(fn.func)}({bound})"
    fn = inspect.unwrap(fn) if callable(fn) else fn
    name = getattr(fn, "__qualname__", None)
    if not isinstance(name, str) or isinstance(fn, type) or "<lambda>" in name:
        raise UsageError(f"{fn!r} has no name {REMEDY}")
    full_name = f"{getattr(fn, '__module__', '')}.{name}"
    if isinstance(fn, MethodType):
        return f"{full_name} of {_owner(fn.__self__, full_name)}"
    return full_name


def _owner(owner: object, method: str) -> str:
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    try:
        return content_key(owner).hex()
    except UsageError:
        raise UsageError(
            f"{method} is a method of an object without a content {REMEDY}"
        ) from None


def content_key(value: object) -> bytes:
    """A digest of ``value``: plain data, dataclasses, pydantic models, and their nests.

    Raises:
        UsageError: It holds something that has no canonical form.
    """
    return blake2b(_form(value), digest_size=DIGEST_BYTES).digest()


def key_of(fn: object, key: Callable[[Any], object] | None) -> Callable[[Any], bytes]:
    """What gives the key of an item: the caller's ``key``, or content and function."""
    if key is not None:
        return lambda item: content_key(_asked(key, item))
    named = blake2b(function_name(fn).encode() + b"\0", digest_size=DIGEST_BYTES)

    def keyed(item: Any) -> bytes:
        digest = named.copy()
        digest.update(_form(item))
        return digest.digest()

    return keyed


_BASES: Final[tuple[Any, ...]] = (
    str, int, float, bytes, bytearray, list, tuple, set, frozenset,
)  # fmt: skip


def _asked(key: Callable[[Any], object], item: object) -> object:
    found = key(item)
    if inspect.iscoroutine(found):
        found.close()
        raise UsageError("key= must be a synchronous function, not an async one")
    return found


def _form(value: object) -> bytearray:
    out = bytearray()
    try:
        _write(out, value)
    except RecursionError:
        raise UsageError(
            "an item that contains itself has no content key: pass key="
        ) from None
    return out


def _write(out: bytearray, value: object) -> None:
    """Append the canonical form. No form is the beginning of another."""
    held: Any = value
    kind = type(value)
    if kind is str:
        _write_sized(out, b"s", held.encode("utf-8", "surrogatepass"))
    elif held is None or kind is bool:
        out += {None: b"0;", False: b"1;", True: b"2;"}[held]
    elif kind is int:
        out += b"i%d;" % held
    elif kind is float:
        out += b"f" + struct.pack(">d", held)
    elif kind is bytes:
        _write_sized(out, b"b", held)
    elif kind is list or kind is tuple:
        out += b"%c%d:" % (b"l" if kind is list else b"t", len(held))
        for element in held:
            _write(out, element)
    elif kind is set or kind is frozenset:
        tag = b"S" if kind is set else b"F"
        _write_sized(out, tag, b"".join(sorted(map(content_key, held))))
    elif kind is dict:
        entries = sorted((content_key(k), content_key(v)) for k, v in held.items())
        _write_sized(out, b"m", b"".join(k + v for k, v in entries))
    else:
        _write_object(out, held)


def _write_object(out: bytearray, value: Any) -> None:
    match value:
        case Flag():  # a combination may have no name
            _write_named(out, b"e", value, value.value)
        case Enum():
            _write_named(out, b"e", value, value.name)
        case datetime() | date() | time():
            _write_named(out, b"d", value, value.isoformat())
        case (
            timedelta() | Decimal() | Fraction() | UUID() | PurePath() | complex() | range()
        ):
            _write_named(out, b"v", value, repr(value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            held = {field.name: getattr(value, field.name) for field in fields(value)}
            _write_named(out, b"o", value, (held, _base(value)))
        case _ if _is_model(value):
            _write_named(out, b"o", value, _model_content(value))
        case _ if _is_array(value):
            form = (str(value.dtype), getattr(value, "shape", ()), value.tobytes())
            _write_named(out, b"a", value, form)
        case _ if (base := _base(value)) is not None:
            _write_named(out, b"x", value, (base, getattr(value, "__dict__", None)))
        case _:
            raise UsageError(
                f"an item of type {type(value).__name__} has no content key: pass key=, a "
                "function from an item to a string"
            )


def _base(value: Any) -> Any:
    """As a plain value, if it is of a subclass of a built-in type or a mapping."""
    for kind in _BASES:
        if isinstance(value, kind):
            return bytes(value) if kind is bytearray else kind(value)
    if not isinstance(value, Mapping):
        return None
    return dict(cast("Mapping[object, object]", value))


def _is_model(value: Any) -> bool:
    """Whether it is a model of pydantic, which is not imported."""
    return hasattr(value.__class__, "model_fields")


def _model_content(value: Any) -> Any:
    """What pydantic compares; not what properties have cached."""
    declared: Mapping[str, object] = value.__class__.model_fields
    held: Mapping[str, object] = value.__dict__  # model_construct leaves fields out
    given = {name: held[name] for name in declared if name in held}
    extra = getattr(value, "__pydantic_extra__", None)
    return given, extra, getattr(value, "__pydantic_private__", None)


def _is_array(value: Any) -> bool:
    """Whether it is numpy's, which is not imported, and its bytes are its content."""
    return (
        hasattr(value, "tobytes")
        and hasattr(value, "dtype")
        and not getattr(value.dtype, "hasobject", True)
    )


def _write_sized(out: bytearray, tag: bytes, content: bytes) -> None:
    out += b"%b%d:" % (tag, len(content))
    out += content


def _write_named(out: bytearray, tag: bytes, value: object, content: object) -> None:
    kind = type(value)
    _write_sized(out, tag, f"{kind.__module__}.{kind.__qualname__}".encode())
    _write(out, content)
