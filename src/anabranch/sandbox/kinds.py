"""What can be known of names before the code runs, so that loops need few guards.

A name is a *number* if whatever binds it, anywhere in the source, is one: a constant, a
sum of numbers, the target of a loop over ``range``. How many *bits* it can have is known
unless it is multiplied into itself. It is *sized* if it can only be a list, dict, set,
tuple or text. It is *flat* if it can only be a number, a text or another scalar, or
something of numpy's or pandas'. It *doubles* if it is put together from itself more than
once. Scopes are not told apart: a name that is two things somewhere is neither.

All of it takes time in proportion to the length of the source: who writes it may try to
keep us busy.
"""

from __future__ import annotations

import ast
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Kinds", "kinds_of"]

_NUMERIC_CALLS: Final = frozenset("float int len ord".split())
_SIZED_CALLS: Final = frozenset(
    "bytes dict frozenset list set sorted str tuple repr".split()
)
_FLAT_CALLS: Final = frozenset(
    "ascii bin bool callable chr complex float format hasattr hash hex int isinstance"
    " issubclass len oct ord repr str type".split()
)
#: What methods of texts give, that are asked of a text in the source: others may be fields
#: of a record, and functions of the code.
_FLAT_METHODS: Final = frozenset(
    "capitalize count encode endswith find format format_map index join ljust lower lstrip"
    " replace rjust rstrip startswith strip title upper zfill".split()
)
_SAME_KIND_CALLS: Final = frozenset("abs max min round".split())
_ARITHMETIC: Final = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.LShift, ast.RShift, ast.BitAnd, ast.BitOr, ast.BitXor),
)
_DISPLAYS: Final = (
    *(ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp),
    ast.JoinedStr,
)
_WORD: Final = 64
#: Bits of the largest float as an integer.
_FLOAT_BITS: Final = 1_024
#: Stands for what counts from and by its arguments, one after the other.
_COUNTED: Final = "$counted"

Bindings = Mapping[str, list[ast.expr | None]]


@dataclass(slots=True)
class Kinds:
    """What is known of the names of one source."""

    given: Collection[str]
    numbers: set[str] = field(default_factory=set[str])
    sized_names: set[str] = field(default_factory=set[str])
    flat_names: set[str] = field(default_factory=set[str])
    bits: dict[str, float] = field(default_factory=dict[str, float])
    doubling: set[str] = field(default_factory=set[str])

    def is_number(self, node: ast.expr) -> bool:
        """Whether the value can only be a number."""
        needed: list[str] = []
        return self.is_number_if(node, needed) and self.numbers.issuperset(needed)

    def is_sized(self, node: ast.expr) -> bool:
        """Whether the value can only be a container or text, which knows its length."""
        needed: list[str] = []
        return self.is_sized_if(node, needed) and self.sized_names.issuperset(needed)

    def is_flat(self, node: ast.expr) -> bool:
        """Whether the value can only be a scalar, or something of numpy's or pandas'."""
        needed: list[str] = []
        return self.is_flat_if(node, needed) and self.flat_names.issuperset(needed)

    def is_flat_if(self, node: ast.expr, needed: list[str]) -> bool:
        """Whether it is flat if those names are, which are added to *needed*."""
        match node:
            case ast.Constant() | ast.JoinedStr() | ast.Compare():
                return True
            case ast.UnaryOp(op, operand):
                return isinstance(op, ast.Not) or self.is_flat_if(operand, needed)
            case ast.Name(name):
                needed.append(name)
                return True
            case ast.BinOp(left, op, right):
                # What a number is added to or taken from is one too.
                sums = not isinstance(op, (ast.Mult, ast.Mod))
                if sums and any(isinstance(part, ast.Constant) for part in (left, right)):
                    return True
                return all(self.is_flat_if(part, needed) for part in (left, right))
            case ast.BoolOp(_, values):
                return all(self.is_flat_if(value, needed) for value in values)
            case ast.IfExp(_, body, orelse):
                return all(self.is_flat_if(part, needed) for part in (body, orelse))
            case ast.NamedExpr(_, value):
                return self.is_flat_if(value, needed)
            case ast.Call(function, args, []):
                return self._gives_flat(function, args, needed)
            case _:
                return False

    def _gives_flat(
        self, function: ast.expr, args: list[ast.expr], needed: list[str]
    ) -> bool:
        match function:
            case ast.Attribute(ast.Constant() | ast.JoinedStr(), name):
                return name in _FLAT_METHODS
            case ast.Name(name) if name not in self.given:
                if name in _SAME_KIND_CALLS and len(args) > 1:
                    return all(self.is_flat_if(arg, needed) for arg in args)
                return name in _FLAT_CALLS
            case _:
                return False

    def is_number_if(self, node: ast.expr, needed: list[str]) -> bool:
        """Whether it is a number if those names are, which are added to *needed*."""
        match node:
            case ast.Constant(value):
                return isinstance(value, (int, float))
            case ast.Name(name):
                needed.append(name)
                return True
            case ast.BinOp(left, op, right):
                known = isinstance(op, _ARITHMETIC)
                return known and self._all_numbers([left, right], needed)
            case ast.UnaryOp(op, operand):
                return isinstance(op, ast.Not) or self.is_number_if(operand, needed)
            case ast.Compare(left, _, comparators):
                return self._all_numbers([left, *comparators], needed)
            case ast.IfExp(_, body, orelse):
                return self._all_numbers([body, orelse], needed)
            case ast.NamedExpr(_, value):
                return self.is_number_if(value, needed)
            case ast.Call(ast.Name(name)) if name == _COUNTED:
                return True
            case ast.Call(ast.Name(name), args, []) if args and name not in self.given:
                if name in _SAME_KIND_CALLS:
                    return self._all_numbers(args, needed)
                return name in _NUMERIC_CALLS
            case _:
                return False

    def _all_numbers(self, nodes: list[ast.expr], needed: list[str]) -> bool:
        return all(self.is_number_if(node, needed) for node in nodes)

    def is_sized_if(self, node: ast.expr, needed: list[str]) -> bool:
        """Whether it is sized if those names are, which are added to *needed*."""
        match node:
            case ast.Constant(value):
                return isinstance(value, (str, bytes))
            case ast.Name(name):
                needed.append(name)
                return True
            case ast.BinOp(left, ast.Add(), right) | ast.IfExp(_, left, right):
                return self.is_sized_if(left, needed) and self.is_sized_if(right, needed)
            case ast.Call(ast.Name(name)):
                return name in _SIZED_CALLS and name not in self.given
            case _:
                return isinstance(node, _DISPLAYS)

    def bits_of(self, node: ast.expr) -> float:
        """How many bits a number can have at most; infinite if that is not known."""
        match node:
            case ast.Constant(int(value)):
                return value.bit_length()
            case ast.Constant(float()):
                return _WORD
            case ast.Name(name):
                return self.bits.get(name, math.inf)
            case ast.BinOp(left, op, right):
                return self._bits_of_operation(left, op, right)
            case ast.UnaryOp(_, operand):
                return self.bits_of(operand) + 1
            case ast.Compare():
                return 1
            case ast.IfExp(_, body, orelse):
                return max(self.bits_of(body), self.bits_of(orelse))
            case ast.NamedExpr(_, value):
                return self.bits_of(value)
            case ast.Call(ast.Name(name), args, []) if name == _COUNTED:
                return max(_WORD, *map(self.bits_of, args), _WORD)
            case ast.Call(ast.Name(name), args, []) if self.is_number(node):
                if name in ("int", "round", *_SAME_KIND_CALLS):
                    known = all(map(self.is_number, args))
                    return max(_FLOAT_BITS, *map(self.bits_of, args)) if known else math.inf
                return _WORD
            case _:
                return math.inf

    def _bits_of_operation(
        self, left: ast.expr, op: ast.operator, right: ast.expr
    ) -> float:
        match op, right:
            case (ast.Mod(), ast.Constant(int(most))):
                return most.bit_length()
            case (ast.Pow(), ast.Constant(int(times))) if times >= 0:
                return self.bits_of(left) * max(times, 1)
            case (ast.LShift(), ast.Constant(int(places))) if places >= 0:
                return self.bits_of(left) + places
            case ((ast.Pow() | ast.LShift()), _):
                return math.inf
            case ast.Mult(), _:
                return self.bits_of(left) + self.bits_of(right)
            case _:
                return max(self.bits_of(left), self.bits_of(right)) + 1

    def is_doubled(self, *parts: ast.AST) -> bool:
        """Whether more than one of the parts is made of a name that doubles."""
        if not self.doubling:
            return False
        return sum(not self.doubling.isdisjoint(_names_in(part)) for part in parts) > 1


def kinds_of(tree: ast.AST, given: Collection[str]) -> Kinds:
    """What is known of the names of a tree; nothing is of those that are *given*."""
    bindings: dict[str, list[ast.expr | None]] = defaultdict(list)
    for name, value in _bindings(tree, given):
        bindings[name].append(value)
    for name in given:
        bindings[name].append(None)
    kinds = Kinds(given)
    kinds.numbers |= _holding(bindings, kinds.is_number_if)
    kinds.sized_names |= _holding(bindings, kinds.is_sized_if)
    kinds.flat_names |= _holding(bindings, kinds.is_flat_if)
    _measure(kinds, bindings)
    return kinds


def _holding(
    bindings: Bindings, holds_if: Callable[[ast.expr, list[str]], bool]
) -> set[str]:
    """The largest set of names that agrees with itself: a sum from 0 stays a number."""
    needing: dict[str, list[str]] = defaultdict(list)
    wrong: list[str] = []
    for name, values in bindings.items():
        needed: list[str] = []
        if all(value is not None and holds_if(value, needed) for value in values):
            for other in needed:
                needing[other].append(name)
        else:
            wrong.append(name)
    wrong += [name for name in needing if name not in bindings]
    failed = set(wrong)
    while wrong:
        for name in needing[wrong.pop()]:
            if name not in failed:
                failed.add(name)
                wrong.append(name)
    return {name for name in bindings if name not in failed}


def _bindings(
    tree: ast.AST, given: Collection[str]
) -> Iterator[tuple[str, ast.expr | None]]:
    """Each name with what is bound to it; None is anything."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets, value):
                for target in targets:
                    yield from _bound(target, value)
            case ast.AnnAssign(target, _, value) if value is not None:
                yield from _bound(target, value)
            case ast.NamedExpr(target, value):
                yield from _bound(target, value)
            case ast.AugAssign(ast.Name(name), op, value):
                yield name, ast.BinOp(ast.Name(name, ast.Load()), op, value)
            case ast.For(target, iterable) | ast.comprehension(target, iterable):
                yield from _bound(target, _item_of(iterable, given))
            case ast.arg(name) | ast.FunctionDef(name) | ast.ExceptHandler(_, name):
                yield from [(name, None)] if name else []
            case ast.MatchAs(_, name) | ast.MatchStar(name) | ast.MatchMapping(rest=name):
                yield from [(name, None)] if name else []
            case ast.alias(name, asname):
                yield asname or name, None
            case _:
                pass


def _bound(
    target: ast.expr, value: ast.expr | None
) -> Iterator[tuple[str, ast.expr | None]]:
    match target, value:
        case ast.Name(name), _:
            yield name, value
        case (
            (ast.Tuple(targets) | ast.List(targets)),
            (ast.Tuple(values) | ast.List(values)),
        ) if len(targets) == len(values) and not any(
            isinstance(part, ast.Starred) for part in [*targets, *values]
        ):
            for part, its in zip(targets, values, strict=True):
                yield from _bound(part, its)
        case ((ast.Tuple(targets) | ast.List(targets)), _):
            for part in targets:
                yield from _bound(part, None)
        case ast.Starred(part), _:
            yield from _bound(part, None)
        case _:
            pass


def _item_of(iterable: ast.expr, given: Collection[str]) -> ast.expr | None:
    match iterable:
        case ast.Call(ast.Name("range"), bounds, []) if "range" not in given:
            # It is counted up to its end, but starts where it is told, in steps as told.
            bounds = [] if len(bounds) == 1 else [*bounds[:1], *bounds[2:]]
            return ast.Call(ast.Name(_COUNTED, ast.Load()), bounds, [])
        case ast.Call(ast.Name("enumerate"), [_], []) if "enumerate" not in given:
            index = ast.Call(ast.Name(_COUNTED, ast.Load()), [], [])
            return ast.Tuple([index, ast.Name("$unknown", ast.Load())], ast.Load())
        case _:
            return None


def _measure(kinds: Kinds, bindings: Bindings) -> None:
    """Finds how many bits numbers can have, and which names double."""
    uses = {
        name: {
            used
            for value in values
            if value is not None
            for used in _names_in(value)
            if used in bindings
        }
        for name, values in bindings.items()
    }
    for members in _circles(uses):
        first = members[0]
        turns = len(members) > 1 or first in uses[first]
        values = [
            value for name in members for value in bindings[name] if value is not None
        ]
        if turns and any(_count(value, set(members)) > 1 for value in values):
            kinds.doubling.update(members)
        if not kinds.numbers.issuperset(members):
            continue
        kinds.bits.update(dict.fromkeys(members, 0.0))
        most = max(map(kinds.bits_of, values), default=0.0)
        if turns:
            is_slow = all(_grows_slowly(value, set(members)) for value in values)
            # No loop turns more often than so many bits can count.
            most = most + _WORD if is_slow else math.inf
        kinds.bits.update(dict.fromkeys(members, most))


def _names_in(node: ast.AST) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _count(node: ast.AST, members: set[str]) -> int:
    return sum(name in members for name in _names_in(node))


def _grows_slowly(node: ast.expr, members: set[str]) -> bool:
    """Whether each turn adds to the members at most what does not depend on them."""
    match node:
        case ast.Name():
            return True
        case ast.BinOp(_, ast.Mod(), ast.Constant(int())):
            return True  # the remainder is bounded, however large what it is taken of
        case ast.BinOp(left, ast.Add() | ast.Sub() | ast.FloorDiv() | ast.RShift(), right):
            return (_count(right, members) == 0 and _grows_slowly(left, members)) or (
                _count(left, members) == 0 and _grows_slowly(right, members)
            )
        case ast.IfExp(_, body, orelse):
            return _grows_slowly(body, members) and _grows_slowly(orelse, members)
        case ast.Call(ast.Name(name), args, []) if name in ("int", *_SAME_KIND_CALLS):
            return all(_grows_slowly(arg, members) for arg in args)
        case _:
            return _count(node, members) == 0


def _circles(uses: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """The names by circles of use, each circle after those that it uses.

    Source: R. Tarjan, "Depth-First Search and Linear Graph Algorithms", 1972.
    """
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    todo: list[tuple[str, Iterator[str]]] = []

    def enter(name: str) -> None:
        order[name] = low[name] = len(order)
        path.append(name)
        on_path.add(name)
        todo.append((name, iter(uses[name])))

    for start in uses:
        if start not in order:
            enter(start)
        while todo:
            name, rest = todo[-1]
            for other in rest:
                if other not in order:
                    enter(other)
                    break
                if other in on_path:
                    low[name] = min(low[name], order[other])
            else:
                todo.pop()
                if todo:
                    low[todo[-1][0]] = min(low[todo[-1][0]], low[name])
                if low[name] == order[name]:
                    circle = [path.pop()]
                    while circle[-1] != name:
                        circle.append(path.pop())
                    on_path.difference_update(circle)
                    yield circle
