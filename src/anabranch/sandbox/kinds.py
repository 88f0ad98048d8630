"""What can be known of names before the code runs, so that loops need few guards.

A name is a *number* if whatever binds it, anywhere in the source, is one: a constant, a
sum of numbers, the target of a loop over ``range``. It *grows* if it is multiplied into
itself. It is *sized* if it can only be a list, dict, set, tuple or text. Scopes are not
told apart: a name that is two things somewhere is neither.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Kinds", "kinds_of"]

_NUMERIC_CALLS: Final = frozenset("float int len ord".split())
_SIZED_CALLS: Final = frozenset(
    "bytes dict frozenset list set sorted str tuple repr".split()
)
_SAME_KIND_CALLS: Final = frozenset("abs max min round".split())
_MULTIPLIES: Final = (ast.Mult, ast.Pow, ast.LShift)
_ARITHMETIC: Final = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.LShift, ast.RShift, ast.BitAnd, ast.BitOr, ast.BitXor),
)
_DISPLAYS: Final = (
    *(ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp),
    ast.JoinedStr,
)


@dataclass(slots=True)
class Kinds:
    """What is known of the names of one source."""

    numbers: set[str]
    sized_names: set[str]
    growing: set[str]

    def is_number(self, node: ast.expr) -> bool:
        """Whether the value can only be a number."""
        match node:
            case ast.Constant(value):
                return isinstance(value, (int, float))
            case ast.Name(name):
                return name in self.numbers
            case ast.BinOp(left, op, right):
                known = isinstance(op, _ARITHMETIC)
                return known and self.is_number(left) and self.is_number(right)
            case ast.UnaryOp(op, operand):
                return isinstance(op, ast.Not) or self.is_number(operand)
            case ast.Compare(left, _, comparators):
                return all(map(self.is_number, [left, *comparators]))
            case ast.IfExp(_, body, orelse):
                return self.is_number(body) and self.is_number(orelse)
            case ast.NamedExpr(_, value):
                return self.is_number(value)
            case ast.Call(ast.Name(name), args, []) if args:
                same = name in _SAME_KIND_CALLS and all(map(self.is_number, args))
                return name in _NUMERIC_CALLS or same
            case _:
                return False

    def is_bounded(self, node: ast.expr) -> bool:
        """Whether it is a number that no loop can make ever larger by multiplying."""
        return self.is_number(node) and not any(
            isinstance(part, ast.Name) and part.id in self.growing
            for part in ast.walk(node)
        )

    def is_sized(self, node: ast.expr) -> bool:
        """Whether the value can only be a container or text, which knows its length."""
        match node:
            case ast.Constant(value):
                return isinstance(value, (str, bytes))
            case ast.Name(name):
                return name in self.sized_names
            case ast.BinOp(left, ast.Add(), right):
                return self.is_sized(left) and self.is_sized(right)
            case ast.IfExp(_, body, orelse):
                return self.is_sized(body) and self.is_sized(orelse)
            case ast.Call(ast.Name(name)):
                return name in _SIZED_CALLS
            case _:
                return isinstance(node, _DISPLAYS)


def kinds_of(tree: ast.AST, given: Collection[str]) -> Kinds:
    """What is known of the names of a tree; nothing is of those that are *given*."""
    bindings: dict[str, list[ast.expr | None]] = defaultdict(list)
    for name, value in _bindings(tree):
        bindings[name].append(value)
    for name in given:
        bindings[name].append(None)
    known = {name for name, values in bindings.items() if None not in values}
    # The largest sets that agree with themselves: a sum that starts at 0 stays a number.
    kinds = Kinds(numbers=set(known), sized_names=set(known), growing=set())
    _reduce(kinds.numbers, kinds.is_number, bindings)
    _reduce(kinds.sized_names, kinds.is_sized, bindings)
    kinds.growing |= _growing(bindings)
    return kinds


def _reduce(
    names: set[str],
    holds: Callable[[ast.expr], bool],
    bindings: dict[str, list[ast.expr | None]],
) -> None:
    while wrong := {
        name for name in names if not all(holds(value) for value in bindings[name] if value)
    }:
        names -= wrong


_INDEX: Final = ast.Constant(0)


def _bindings(tree: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
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
                yield from _bound(target, _item_of(iterable))
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


def _item_of(iterable: ast.expr) -> ast.expr | None:
    match iterable:
        case ast.Call(ast.Name("range"), _, []):
            return _INDEX
        case ast.Call(ast.Name("enumerate"), [_], []):
            return ast.Tuple([_INDEX, ast.Name("$unknown", ast.Load())], ast.Load())
        case _:
            return None


def _growing(bindings: dict[str, list[ast.expr | None]]) -> set[str]:
    """The names that a loop multiplies into themselves, directly or by way of others."""
    uses: dict[str, set[str]] = defaultdict(set)
    multiplied: set[tuple[str, str]] = set()
    for name, values in bindings.items():
        for value in values:
            for used, times in _used(value, times=False):
                uses[name].add(used)
                if times:
                    multiplied.add((name, used))
    reaches = {name: _reached(name, uses) for name in uses}
    return {
        name
        for start, used in multiplied
        if start in reaches.get(used, {used}) or start == used
        for name in {start, used} | (reaches[start] & _reaching(start, reaches))
    }


def _used(node: ast.AST | None, *, times: bool) -> Iterator[tuple[str, bool]]:
    match node:
        case None:
            return
        case ast.Name(name):
            yield name, times
        case ast.BinOp(_, ast.Mod(), ast.Constant(int())):
            return  # the remainder is bounded, however large what it is taken of
        case ast.BinOp(_, op, _) if isinstance(op, _MULTIPLIES):
            times = True
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _used(child, times=times)


def _reached(start: str, uses: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in uses.get(todo.pop(), ()):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


def _reaching(name: str, reaches: dict[str, set[str]]) -> set[str]:
    return {other for other, reached in reaches.items() if name in reached}
