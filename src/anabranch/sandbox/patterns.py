"""Regular expressions for contained code: those whose matching cannot take for ever.

A match is one call that the interpreter cannot interrupt, and backtracking takes time that
grows exponentially with the text where a repetition holds another one. Such patterns are
refused, and with several repetitions the text may only be short.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
import re
from collections.abc import Callable
from typing import Any, Final

from anabranch.sandbox.guards import Given, consumed, refuse, too_large

__all__ = ["judge", "offered"]

Value = Any

MAX_PATTERN: Final = 2_000
# Steps of backtracking that one match may take: a few seconds.
MAX_STEPS: Final = 300_000_000


def offered() -> dict[str, Value]:
    """What the view of ``re`` has beside its constants."""
    return {"compile": _compiled, **{name: _called(name) for name in _FUNCTIONS}}


_FUNCTIONS: Final = (
    "findall",
    "finditer",
    "fullmatch",
    "match",
    "search",
    "split",
    "sub",
    "subn",
)


@functools.lru_cache(maxsize=256)
def _judged(pattern: str | bytes, flags: int) -> tuple[re.Pattern[Any], int]:
    """The compiled pattern, and how many of its repetitions can take the same text."""
    if len(pattern) > MAX_PATTERN:
        too_large("this pattern", MAX_PATTERN, "characters")
    compiled = re.compile(pattern, flags)
    # There is no public way to see what a pattern is made of.
    parser = re._parser  # type: ignore[attr-defined]  # noqa: SLF001
    return compiled, _weight(parser.parse(pattern, flags), inside=False)


def judge(pattern: str) -> None:
    """Stops the code if a pattern's matching could take for ever."""
    _judged(pattern, 0)


def _weight(parsed: Value, *, inside: bool) -> int:
    """How many repetitions compete for text: those of nearly anything, and neighbours."""
    weight = 0
    after_repeat = False
    for op, argument in parsed:
        name = str(op)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, body = argument
            many = int(high) > 16 and int(high) != int(low)
            if many and inside:
                refuse(
                    "a repetition inside a repetition in a pattern",
                    "its matching can take for ever; use the isolate",
                )
            weight += many and (after_repeat or _is_wide(body))
            weight += _weight(body, inside=inside or int(high) > 1)
            after_repeat = many
            continue
        if name == "GROUPREF" and inside:
            refuse("a back-reference inside a repetition", "use the isolate")
        if name == "BRANCH" and inside and not _are_apart(argument[1]):
            refuse(
                "alternatives that begin alike, inside a repetition in a pattern",
                "their matching can take for ever; use the isolate",
            )
        inner = sum(_weight(part, inside=inside) for part in _parts(argument))
        weight += inner
        after_repeat = name == "SUBPATTERN" and _ends_in_repeat(argument[-1])
    return weight


def _is_wide(body: Value) -> bool:
    """Whether a repetition's body takes nearly any character."""
    for op, argument in body:
        name = str(op)
        if name in ("ANY", "NOT_LITERAL"):
            return True
        if name == "IN" and str(argument[0][0]) == "NEGATE":
            return True
        if name == "SUBPATTERN" and _is_wide(argument[-1]):
            return True
    return False


def _ends_in_repeat(body: Value) -> bool:
    items = list(body)
    return bool(items) and str(items[-1][0]) in ("MAX_REPEAT", "MIN_REPEAT")


def _are_apart(alternatives: Value) -> bool:
    """Whether each alternative begins with a character of its own."""
    firsts = []
    for alternative in alternatives:
        items = list(alternative)
        if not items or str(items[0][0]) != "LITERAL":
            return False
        firsts.append(items[0][1])
    return len(set(firsts)) == len(firsts)


def _parts(argument: Value) -> list[Value]:
    if hasattr(argument, "data"):
        return [argument]
    if isinstance(argument, (tuple, list)):
        return [part for item in argument for part in _parts(item)]
    return []


def _check(compiled: tuple[re.Pattern[Any], int], text: Value) -> None:
    weight = compiled[1]
    if len(text) ** (weight + 1) > MAX_STEPS:
        too_large(
            f"matching this pattern against {len(text):,} characters", MAX_STEPS, "steps"
        )


def _text(args: tuple[Value, ...], named: dict[str, Value], at: int) -> Value:
    text = args[at] if len(args) > at else named.get("string")
    if not isinstance(text, (str, bytes)):
        raise TypeError("expected string or bytes-like object")
    return text


def _called(name: str) -> Callable[..., Value]:
    at = 1 if name in ("sub", "subn") else 0
    allowed = 5 if at else 4

    def called(pattern: Value, *args: Value, flags: int = 0, **named: Value) -> Value:
        if isinstance(pattern, Given):
            return getattr(pattern, name)(*args, **named)
        if len(args) >= allowed:
            refuse(f"flags by position in re.{name}", "write flags=...")
        judged = _judged(pattern, int(flags))
        return _run(judged, name, args, named, at)

    return called


def _run(judged: tuple[re.Pattern[Any], int], name: str, args: tuple[Value, ...],
         named: dict[str, Value], at: int) -> Value:  # fmt: skip
    _check(judged, _text(args, named, at))
    found = getattr(judged[0], name)(*args, **named)
    return consumed(found) if name == "finditer" else found


def _compiled(pattern: Value, flags: int = 0) -> Given:
    judged = _judged(pattern, int(flags))
    methods = {
        name: functools.partial(
            _of_pattern, judged, name, 1 if name in ("sub", "subn") else 0
        )
        for name in _FUNCTIONS
    }
    return Given(
        "pattern",
        {
            **methods,
            "pattern": pattern,
            "groups": judged[0].groups,
            "flags": judged[0].flags,
        },
    )


def _of_pattern(judged: tuple[re.Pattern[Any], int], name: str, at: int,
                *args: Value, **named: Value) -> Value:  # fmt: skip
    return _run(judged, name, args, named, at)
