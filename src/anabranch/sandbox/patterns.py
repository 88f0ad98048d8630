"""Regular expressions for contained code: those whose matching cannot take for ever.

A match is one call that the interpreter cannot interrupt, and backtracking takes time that
grows exponentially with the text where a repetition can share it out in several ways. Such
patterns are refused (:mod:`~anabranch.sandbox.weights`), and where several repetitions
compete the text may only be short.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from anabranch.sandbox import weights
from anabranch.sandbox.objects import MAX_ITEMS, Given, refuse, too_large
from anabranch.sandbox.running import consumed

__all__ = ["Judged", "judged", "offered"]

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


@dataclass(frozen=True, slots=True)
class Judged:
    """A pattern that may be matched.

    Attributes:
        compiled: The pattern.
        weight: How many of its repetitions compete for the same text: matching takes time
            by that power of how long they can be.
        ways: In how many ways its other parts can match the same text.
        run: Matches what its repetitions can run along.
    """

    compiled: re.Pattern[Any]
    weight: int
    ways: int
    run: re.Pattern[Any] | None

    def check(self, text: str | bytes, *, starts: int) -> None:
        """Stops the code if matching a text from so many places on would take long."""
        if self._steps(starts, len(text)) <= MAX_STEPS:
            return
        runs = self.run.findall(text) if self.run else ()
        if self._steps(starts, max(map(len, runs), default=0)) > MAX_STEPS:
            too_large(
                f"matching this pattern against {len(text):,} characters",
                MAX_STEPS,
                "steps",
            )

    def _steps(self, starts: int, longest: int) -> int:
        tries: int = (longest + 1) ** (self.weight + 1)
        return self.ways * starts * tries


@functools.lru_cache(maxsize=256)
def judged(pattern: str | bytes, flags: int = 0) -> Judged:
    """The compiled pattern, and what matching it may take.

    Raises:
        Stopped: If that could be for ever.
    """
    if len(pattern) > MAX_PATTERN:
        too_large("this pattern", MAX_PATTERN, "characters")
    compiled = re.compile(pattern, flags)
    # There is no public way to see what a pattern is made of.
    parser = re._parser  # type: ignore[attr-defined]  # noqa: SLF001
    weighing = weights.Weighing(compiled.flags)
    weighing.weigh(parser.parse(pattern, flags), weights.NOTHING, inside=False)
    return Judged(
        compiled,
        weighing.weight,
        min(weighing.ways, MAX_STEPS + 1),
        weights.run_of(weighing.runs, as_bytes=isinstance(pattern, bytes)),
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
        return _run(judged(pattern, int(flags)), name, args, named, at)

    return called


def _run(
    its: Judged, name: str, args: tuple[Value, ...], named: dict[str, Value], at: int
) -> Value:
    text = _text(args, named, at)
    its.check(text, starts=1 if name in ("match", "fullmatch") else len(text) + 1)
    if at:
        args, named = _filling(text, args, named)
    found = getattr(its.compiled, name)(*args, **named)
    return consumed(found) if name == "finditer" else found


def _filling(
    text: Value, args: tuple[Value, ...], named: dict[str, Value]
) -> tuple[tuple[Value, ...], dict[str, Value]]:
    """Arguments of a substitution, whose result is measured if it could be long."""
    filler = args[0] if args else named.get("repl")
    if not isinstance(filler, (str, bytes)) or len(filler) * (len(text) + 1) <= MAX_ITEMS:
        return args, named
    template: Any = filler
    made = 0

    def fill(match: re.Match[Any]) -> Value:
        nonlocal made
        piece = match.expand(template)
        made += len(piece)
        if made > MAX_ITEMS:
            too_large("this substitution", MAX_ITEMS, "characters")
        return piece

    return (fill, *args[1:]), {key: value for key, value in named.items() if key != "repl"}


def _compiled(pattern: Value, flags: int = 0) -> Given:
    if isinstance(pattern, Given):
        return pattern
    its = judged(pattern, int(flags))
    methods = {
        name: functools.partial(_of_pattern, its, name, 1 if name in ("sub", "subn") else 0)
        for name in _FUNCTIONS
    }
    return Given(
        "pattern",
        {
            **methods,
            "pattern": pattern,
            "groups": its.compiled.groups,
            "groupindex": dict(its.compiled.groupindex),
            "flags": its.compiled.flags,
        },
    )


def _of_pattern(its: Judged, name: str, at: int,
                *args: Value, **named: Value) -> Value:  # fmt: skip
    return _run(its, name, args, named, at)
