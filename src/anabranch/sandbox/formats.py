"""Formats whose fields reach nothing, and whose widths are bounded."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from anabranch.sandbox.arithmetic import MAX_WIDTH, number_in
from anabranch.sandbox.light import light
from anabranch.sandbox.names import is_private
from anabranch.sandbox.objects import refuse, too_large
from anabranch.sandbox.running import join

# Values in and out of here can be of any type: that is what guards are for.
Value = Any


def formatted(value: Value, conversion: str, spec: Value) -> str:
    """``format(value, spec)`` after a conversion, unless a width is huge."""
    light(value)
    match conversion:
        case "r":
            value = repr(value)
        case "s":
            value = str(value)
        case "a":
            value = ascii(value)
        case _:
            pass
    return format(value, judged_spec(spec))


def judged_spec(spec: Value) -> str:
    """A format specification, if no number in it is huge."""
    if type(spec) is not str:
        raise TypeError("a format specification is a str")
    if any(number_in(digits) > MAX_WIDTH for digits in re.findall(r"[0-9]+", spec)):
        too_large("this format", MAX_WIDTH, "characters")
    return spec


def format_text(template: str, /, *args: Value, **kwargs: Value) -> str:
    """``str.format`` whose fields are names and numbers, and nothing behind them."""
    return _filled(template, args, kwargs)


def _filled(
    template: str,
    args: tuple[Value, ...],
    kwargs: Mapping[str, Value],
    automatic: Iterator[int] | None = None,
) -> str:
    from string import Formatter

    is_spec = automatic is not None
    numbers = itertools.count() if automatic is None else automatic
    pieces: list[str] = []
    for literal, field, written, conversion in Formatter().parse(template):
        pieces.append(literal)
        if field is None:
            continue
        name, keys = _field(field)
        name = name or str(next(numbers))
        value = args[int(name)] if name.isdecimal() else kwargs[name]
        for key in keys:
            value = value[int(key) if key.isdecimal() else key]
        if conversion not in (None, "r", "s", "a"):
            raise ValueError(f"Unknown conversion specifier {conversion!r}")
        spec = written or ""
        if "{" in spec:
            if is_spec:
                raise ValueError("Max string recursion exceeded")
            spec = _filled(spec, args, kwargs, numbers)
        pieces.append(formatted(value, conversion or "", spec))
    return str(join("", pieces))


def _field(field: str) -> tuple[str, list[str]]:
    """The name in a field, and the keys behind it; attributes are not read."""
    if not re.fullmatch(r"\w*(\[\w+\])*", field) or is_private(field):
        refuse(
            f"the format field {{{field}}}",
            "only names, numbers and keys may stand in a field; use an f-string",
        )
    name, *keys = field.replace("]", "").split("[")
    return name, keys


def format_mapping(template: str, mapping: Value, /) -> str:
    if not isinstance(mapping, dict):
        refuse("format_map of this value", "it takes a dict here")
    return _filled(template, (), mapping)
