"""Methods that take a pattern: it is judged, and against how much text it is matched."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
from collections.abc import Callable, Iterator
from typing import Any

from anabranch.sandbox.frames.arguments import judge_pattern, judged

__all__ = ["filtered", "matching"]

Value = Any


def matching(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """What takes a pattern: judged, and against how much text it is matched."""
    name = method.__name__
    is_text = type(self).__name__ == "StringMethods"
    if named.get("regex", is_text) is not False:
        flags = named.get("flags", 0)
        taken = args if name == "replace" and not is_text else args[:1]
        others = [named.get(key) for key in ("pat", "to_replace", "regex")]
        texts = self._orig if is_text else self  # it tells in no other way
        for pattern in _texts([*taken, *others]):
            judge_pattern(pattern, texts, int(flags) if isinstance(flags, int) else 0)
    return judged(name, method, *args, **named)


def _texts(value: Value, depth: int = 4) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and depth:
        yield from _texts([*value.keys(), *value.values()], depth - 1)
    elif isinstance(value, (list, tuple)) and depth:
        for item in value:
            yield from _texts(item, depth - 1)


def filtered(
    self: Value, method: Callable[..., Value], /, *args: Value, **named: Value
) -> Value:
    """``filter``, whose pattern is matched against labels."""
    for pattern in (named.get("regex"), args[2] if len(args) > 2 else None):
        if isinstance(pattern, str):
            for axis in getattr(self, "axes", ()):
                judge_pattern(pattern, axis.to_numpy(), 0)
    return judged("filter", method, *args, **named)
