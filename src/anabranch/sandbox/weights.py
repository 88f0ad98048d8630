"""How much backtracking a regular expression can cause, read from what it is made of.

A repetition costs nothing if the next character tells whether it goes on: what it begins
with cannot be what may follow. Otherwise matching tries one length after the other. Two of
these, one inside another, take time that grows exponentially; side by side, by a power of
the text's length.

Characters are looked at by classes: each ASCII one is its own, and all others are one.
"""

from __future__ import annotations

# The tree is one of the standard library's own, without types.
# pyright: basic
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from anabranch.sandbox.objects import refuse

__all__ = ["NOTHING", "Weighing", "run_of"]

Characters = frozenset[int]
#: What stands for all characters beyond ASCII.
_OTHER: Final = 128
_ALL: Final = frozenset(range(_OTHER + 1))
NOTHING: Final[Characters] = frozenset()
_MANY: Final = 16
#: So often nothing may be repeated: it takes a turn each time.
_IDLE_TURNS: Final = 1_000


def _where(test: Callable[[str], bool]) -> Characters:
    return frozenset(code for code in range(_OTHER) if test(chr(code))) | {_OTHER}


_CATEGORIES: Final = {
    "DIGIT": _where(str.isdigit),
    "SPACE": _where(str.isspace),
    "WORD": _where(lambda c: c.isalnum() or c == "_"),
}
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
_LOOKS: Final = frozenset({"ASSERT", "ASSERT_NOT"})


def run_of(characters: Characters, *, as_bytes: bool) -> re.Pattern[Any] | None:
    """A pattern for the longest runs of these characters."""
    if not characters:
        return None
    written = "".join(
        f"\\x{code:02x}" if code < _OTHER else r"\x80-\xff" if as_bytes
        else r"\x80-\U0010ffff"
        for code in sorted(characters)
    )  # fmt: skip
    pattern = f"[{written}]+"
    return re.compile(pattern.encode("ascii") if as_bytes else pattern)


class Weighing:
    """Adds up what the parts of one pattern cost.

    Attributes:
        weight: How many repetitions without a close end have to try their lengths.
        ways: The product of what the others have to try.
        runs: What repetitions can run along, where what comes after them may fail.
    """

    def __init__(self, flags: int) -> None:
        self.weight = 0
        self.ways = 1
        self.runs: Characters = NOTHING
        self._ignores_case = bool(flags & re.IGNORECASE)
        self._any = _ALL if flags & re.DOTALL else _ALL - {ord("\n")}

    def weigh(self, parsed: Any, after: Characters, *, inside: bool) -> None:
        """Counts a sequence of parts.

        Args:
            parsed: What the parser of `re` made of it.
            after: What may follow it.
            inside: Whether a repetition is around it.

        Raises:
            Stopped: If matching could take for ever.
        """
        for op, argument in reversed(list(parsed)):
            self._weigh(str(op), argument, after, inside=inside)
            first, may_be_empty = self.first(str(op), argument)
            after = first | after if may_be_empty else first

    def _weigh(self, name: str, argument: Any, after: Characters, *, inside: bool) -> None:
        if name in _REPEATS:
            self._weigh_repeat(argument, after, inside=inside)
        elif name == "BRANCH":
            self._weigh_branch(argument[1], after, inside=inside)
        elif name in _LOOKS:
            self.weigh(argument[1], _ALL, inside=inside)
            # It looks ahead anew at each place.
            self.weight += _has_many(argument[1])
        elif name == "GROUPREF":
            if inside:
                refuse("a back-reference inside a repetition", "use the isolate")
            self.weight += 1
        else:
            for part in _parts(argument):
                self.weigh(part, after, inside=inside)

    def _weigh_repeat(self, argument: Any, after: Characters, *, inside: bool) -> None:
        low, high, body = int(argument[0]), int(argument[1]), argument[2]
        begins, may_be_empty = self._first_of(body)
        if may_be_empty and low > _IDLE_TURNS:
            refuse("a repetition of what may be nothing", "it takes a turn each time")
        if high != low and not begins.isdisjoint(after):
            if inside:
                refuse(
                    "a repetition inside a repetition in a pattern",
                    "its matching can take for ever; use the isolate",
                )
            if high > _MANY:
                self.weight += 1
            else:
                self.ways *= high - low + 1
        if high > _MANY and (after or inside):
            self.runs |= self._all_of(body)
        self.weigh(body, begins | after, inside=inside or high > 1)

    def _all_of(self, parsed: Any) -> Characters:
        """All that a sequence of parts can take."""
        found: Characters = NOTHING
        for op, argument in parsed:
            name = str(op)
            if name in ("LITERAL", "NOT_LITERAL", "ANY", "CATEGORY", "IN"):
                found |= self.first(name, argument)[0]
            elif name.startswith("GROUPREF"):
                found |= _ALL
            for part in _parts(argument):
                found |= self._all_of(part)
        return found

    def _weigh_branch(self, alternatives: Any, after: Characters, *, inside: bool) -> None:
        seen: Characters = NOTHING
        for alternative in alternatives:
            first, may_be_empty = self._first_of(alternative)
            first = first | after if may_be_empty else first
            if not first.isdisjoint(seen):
                if inside:
                    refuse(
                        "alternatives that begin alike, inside a repetition in a pattern",
                        "their matching can take for ever; use the isolate",
                    )
                self.ways *= 2
            seen |= first
            self.weigh(alternative, after, inside=inside)

    # ------------------------------------------------------------ what a part begins with

    def first(self, name: str, argument: Any) -> tuple[Characters, bool]:
        """What a part can begin with, and whether it can be nothing at all."""
        match name:
            case "LITERAL":
                return self._cased({min(int(argument), _OTHER)}), False
            case "NOT_LITERAL":
                return _ALL - {min(int(argument), _OTHER)} | {_OTHER}, False
            case "ANY":
                return self._any, False
            case "CATEGORY":
                return _ALL, False
            case "IN":
                return self._one_of(argument), False
            case "AT":
                return NOTHING, True
            case "BRANCH":
                firsts = [self._first_of(each) for each in argument[1]]
                return frozenset().union(*(first for first, _ in firsts)), any(
                    may_be_empty for _, may_be_empty in firsts
                )
            case "SUBPATTERN":
                return self._first_of(argument[-1])
            case "ATOMIC_GROUP":
                return self._first_of(argument)
            case _ if name in _REPEATS:
                begins, may_be_empty = self._first_of(argument[2])
                return begins, may_be_empty or int(argument[0]) == 0
            case _:  # a back-reference, a look ahead: it could be anything
                return _ALL, True

    def _first_of(self, parsed: Any) -> tuple[Characters, bool]:
        found: Characters = NOTHING
        for op, argument in parsed:
            first, may_be_empty = self.first(str(op), argument)
            found |= first
            if not may_be_empty:
                return found, False
        return found, True

    def _one_of(self, items: Any) -> Characters:
        found: Characters = NOTHING
        is_negative = False
        for op, argument in items:
            match str(op):
                case "NEGATE":
                    is_negative = True
                case "LITERAL":
                    found |= {min(int(argument), _OTHER)}
                case "RANGE":
                    low, high = (min(int(end), _OTHER) for end in argument)
                    found |= frozenset(range(low, high + 1))
                case _:
                    found |= _category(str(argument), is_negative=is_negative)
        found = self._cased(found)
        # Of the characters beyond ASCII, others may be meant.
        return (_ALL - found) | {_OTHER} if is_negative else found

    def _cased(self, found: set[int] | Characters) -> Characters:
        if not self._ignores_case:
            return frozenset(found)
        letters = (chr(code) for code in found if code < _OTHER)
        cased = {ord(c) for letter in letters for c in (letter.lower(), letter.upper())}
        # Some letters beyond ASCII are another case of one in it.
        return frozenset(found) | cased | ({_OTHER} if cased else set())


def _category(name: str, *, is_negative: bool) -> Characters:
    kind = name.removeprefix("CATEGORY_").removeprefix("UNI_").removeprefix("LOC_")
    known = _CATEGORIES.get(kind.removeprefix("NOT_"))
    if known is None:
        return NOTHING if is_negative else _ALL
    if not kind.startswith("NOT_"):
        # In a negated class, no less than what is sure may be taken away.
        return known - {_OTHER} if is_negative else known
    return _ALL - known if is_negative else (_ALL - known) | {_OTHER}


def _has_many(parsed: Any) -> bool:
    for op, argument in parsed:
        if str(op) in _REPEATS and int(argument[1]) > _MANY:
            return True
        if any(map(_has_many, _parts(argument))):
            return True
    return False


def _parts(argument: Any) -> Iterator[Any]:
    """The sequences of parts in an argument."""
    if hasattr(argument, "data"):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from _parts(item)
